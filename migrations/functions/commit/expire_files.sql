-- Removes files that nobody needs: uploads that were not continued, and files that no message refers to. At most p_max.
-- Locks: the files' rows, without waiting.

CREATE FUNCTION expire_files(p_max bigint) RETURNS bigint LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM files f WHERE f.id IN (
            SELECT x.id FROM files x
             WHERE x.expires_at < now() AND x.state <> 'scanning'
               AND NOT EXISTS (SELECT FROM message_files m WHERE m.file_id = x.id)
             ORDER BY x.expires_at LIMIT p_max FOR UPDATE SKIP LOCKED)
        RETURNING 1)
    SELECT count(*) FROM gone
$$;
