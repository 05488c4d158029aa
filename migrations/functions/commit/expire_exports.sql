-- Removes copies of data that have expired, p_most at a time. Returns how many.
-- Locks: their rows, then rows of jobs.

CREATE FUNCTION expire_exports(p_most bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_hash  bytea;
    v_count bigint := 0;
BEGIN
    FOR v_hash IN
        DELETE FROM data_exports x WHERE x.id IN (
            SELECT y.id FROM data_exports y WHERE y.expires_at < now() ORDER BY y.expires_at LIMIT p_most
               FOR UPDATE SKIP LOCKED)
        RETURNING x.sha256
    LOOP
        IF v_hash IS NOT NULL THEN
            PERFORM plan_release(v_hash);
        END IF;
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;
