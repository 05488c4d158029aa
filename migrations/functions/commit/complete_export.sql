-- Content that is stored under this number is the archive of a copy. Returns whether the content still has that number:
-- otherwise it was released meanwhile.
-- Locks: the content's row in blobs, then the row of the copy.

CREATE FUNCTION complete_export(p_id text, p_hash bytea, p_number bigint, p_size bigint, p_kept interval)
RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM blobs b WHERE b.sha256 = p_hash AND b.number = p_number FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE data_exports x SET completed_at = now(), sha256 = p_hash, size = p_size, expires_at = now() + p_kept
     WHERE x.id = p_id AND x.completed_at IS NULL;
    RETURN true;
END $$;
