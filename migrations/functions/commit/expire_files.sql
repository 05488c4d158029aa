-- Ends uploads that were not continued in time, which removes their content, and removes files that no message refers
-- to. An expired upload is shown for a week. At most p_max of each. Returns how many.
-- Locks: the files' rows, without waiting; then those of file_usage.

CREATE FUNCTION expire_files(p_max bigint) RETURNS bigint LANGUAGE sql AS $$
    WITH ended AS (
        UPDATE files f SET state = 'expired', expires_at = now() + interval '7 days'
         WHERE f.id IN (SELECT x.id FROM files x WHERE x.expires_at < now() AND x.state = 'uploading'
                         ORDER BY x.expires_at LIMIT p_max FOR UPDATE SKIP LOCKED)
        RETURNING 1
    ), gone AS (
        DELETE FROM files f
         WHERE f.id IN (SELECT x.id FROM files x
                         WHERE x.expires_at < now() AND x.state NOT IN ('uploading', 'scanning')
                           AND NOT is_held_file(x)
                         ORDER BY x.expires_at LIMIT p_max FOR UPDATE SKIP LOCKED)
        RETURNING 1)
    SELECT (SELECT count(*) FROM ended) + (SELECT count(*) FROM gone)
$$;
