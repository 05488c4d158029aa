-- Makes a public link to a file that a user may read, for p_lifetime_s seconds. p_row begins its audit row.
-- Returns the link's number; null if there is no such file. A file has ten of them at most.
-- Locks: the file's row, so that the links are counted; then the end of the audit trail.

CREATE FUNCTION share_file(p_user bigint, p_file bigint, p_token_hash bytea, p_lifetime_s bigint, p_row jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    f files;
    v_id bigint;
BEGIN
    SELECT x.* INTO f FROM readable_file(p_user, p_file) x WHERE x.state = 'ready';
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    PERFORM FROM files x WHERE x.id = f.id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    DELETE FROM file_shares s WHERE s.file_id = f.id AND s.expires_at < now();
    IF (SELECT count(*) FROM file_shares s WHERE s.file_id = f.id) >= 10 THEN
        PERFORM refuse('conflict', 'A file can have ten public links. Revoke one of them.');
    END IF;
    INSERT INTO file_shares (file_id, user_id, token_hash, expires_at)
    VALUES (f.id, p_user, p_token_hash, now() + make_interval(secs => p_lifetime_s))
    RETURNING id INTO STRICT v_id;
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'conversation_id', f.conversation_id, 'target_type', 'file', 'target_id', f.id,
        'details', jsonb_build_object('after', jsonb_build_object('share', v_id, 'lifetime_s', p_lifetime_s)))));
    RETURN v_id;
END $$;
