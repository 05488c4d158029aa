-- Plans a look whether content is still needed. A look that is running is followed by another one.
-- Locks: the job's row.

CREATE FUNCTION plan_release(p_hash bytea) RETURNS void LANGUAGE sql AS $$
    INSERT INTO jobs (kind, subject) VALUES ('release_content', encode(p_hash, 'hex'))
    ON CONFLICT (kind, subject) DO UPDATE SET next_at = clock_timestamp()
$$;
