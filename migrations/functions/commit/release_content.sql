-- Forgets content that no file, no picture of a user and no copy of a person's data needs, and plans its removal from
-- the store under the name that only it had.
-- Locks: the content's row in blobs.

CREATE FUNCTION release_content(p_hash bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_number bigint;
BEGIN
    SELECT b.number INTO v_number FROM blobs b WHERE b.sha256 = p_hash FOR UPDATE;
    -- A file or a user that named it meanwhile did so under the same lock, and is seen by this statement.
    IF v_number IS NULL OR EXISTS (SELECT FROM files f WHERE f.sha256 = p_hash AND has_content(f))
        OR EXISTS (SELECT FROM file_variants v WHERE v.sha256 = p_hash)
        OR EXISTS (SELECT FROM user_avatars a WHERE a.sha256 = p_hash)
        OR EXISTS (SELECT FROM data_exports x WHERE x.sha256 = p_hash) THEN
        RETURN;
    END IF;
    DELETE FROM blobs b WHERE b.sha256 = p_hash;
    INSERT INTO jobs (kind, subject) VALUES ('remove_blob', encode(p_hash, 'hex') || '.' || v_number)
    ON CONFLICT DO NOTHING;
END $$;
