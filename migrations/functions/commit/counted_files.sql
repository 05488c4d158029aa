-- The users whose files are counted wrongly, p_max at most, with what is counted and what is: for
-- `chat-server files check`. With p_repair the counts are corrected.
-- Locks: with p_repair, row 0 of file_usage, then the wrong rows.

CREATE FUNCTION counted_files(p_repair boolean, p_max bigint)
RETURNS TABLE (user_id bigint, counted_bytes bigint, counted_files bigint, bytes bigint, files bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    IF p_repair THEN
        -- Every upload and removal waits for this row, so the next statement sees all of them.
        PERFORM FROM file_usage u WHERE u.user_id = 0 FOR UPDATE;
    END IF;
    RETURN QUERY
    WITH actual AS (
        SELECT f.uploader_id AS user_id, sum(f.size + f.extra)::bigint AS bytes, count(*) AS files
          FROM files f WHERE has_content(f) GROUP BY f.uploader_id
    ), with_total AS (
        SELECT * FROM actual
        UNION ALL SELECT 0, coalesce(sum(a.bytes), 0)::bigint, coalesce(sum(a.files), 0)::bigint FROM actual a
    ), wrong AS (
        SELECT coalesce(u.user_id, a.user_id) AS user_id, coalesce(u.bytes, 0) AS counted_bytes,
               coalesce(u.files, 0) AS counted_files, coalesce(a.bytes, 0) AS bytes, coalesce(a.files, 0) AS files
          FROM file_usage u FULL JOIN with_total a ON a.user_id = u.user_id
         WHERE (coalesce(u.bytes, 0), coalesce(u.files, 0)) <> (coalesce(a.bytes, 0), coalesce(a.files, 0))
         ORDER BY 1 LIMIT p_max
    ), corrected AS (
        INSERT INTO file_usage AS u (user_id, bytes, files)
        SELECT w.user_id, w.bytes, w.files FROM wrong w WHERE p_repair
        ON CONFLICT (user_id) DO UPDATE SET bytes = excluded.bytes, files = excluded.files
    )
    SELECT * FROM wrong;
END $$;
