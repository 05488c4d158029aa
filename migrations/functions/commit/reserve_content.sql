-- Content that is about to be stored becomes a user's picture (adopt_avatar) or the copy of a person's data
-- (complete_export) soon. Returns the number that it has in the store. A look after ten minutes removes it if nothing
-- needs it, for example because the server died.
-- Locks: the content's row in blobs, then the job's row.

CREATE FUNCTION reserve_content(p_hash bytea, p_size bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_number bigint;
BEGIN
    -- Even without a conflict this locks the row, so that release_content waits.
    INSERT INTO blobs AS b (sha256, size) VALUES (p_hash, p_size)
    ON CONFLICT (sha256) DO UPDATE SET created_at = b.created_at RETURNING b.number INTO STRICT v_number;
    INSERT INTO jobs (kind, subject, next_at)
    VALUES ('release_content', encode(p_hash, 'hex'), clock_timestamp() + interval '10 minutes')
    ON CONFLICT (kind, subject) DO UPDATE SET next_at = excluded.next_at;
    RETURN v_number;
END $$;
