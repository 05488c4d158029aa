-- Content that is stored under this number is the archive of a copy, and replaces former copies of the person. Returns
-- whether the content still has that number: otherwise it was released meanwhile.
-- Locks: the content's row in blobs, then the rows of the copies, then rows of jobs.

CREATE FUNCTION complete_export(p_id text, p_hash bytea, p_number bigint, p_size bigint, p_kept interval)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_former bytea;
BEGIN
    PERFORM FROM blobs b WHERE b.sha256 = p_hash AND b.number = p_number FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE data_exports x SET completed_at = now(), sha256 = p_hash, size = p_size, expires_at = now() + p_kept
     WHERE x.id = p_id AND x.completed_at IS NULL;
    IF NOT FOUND THEN
        -- The person was erased meanwhile.
        PERFORM plan_release(p_hash);
        RETURN true;
    END IF;
    FOR v_former IN
        SELECT x.sha256 FROM data_exports x JOIN data_exports y ON y.id = p_id AND x.user_id = y.user_id
         WHERE x.id <> p_id AND x.sha256 IS NOT NULL
    LOOP
        PERFORM plan_release(v_former);
    END LOOP;
    -- The rows stay for a day, because they count the requests.
    UPDATE data_exports x SET sha256 = NULL, size = NULL, expires_at = x.requested_at + interval '1 day'
      FROM data_exports y WHERE y.id = p_id AND x.user_id = y.user_id AND x.id <> p_id AND x.sha256 IS NOT NULL;
    RETURN true;
END $$;
