-- Begins an upload. p: {user_id, conversation_id, name, size, media_type, sha256 (hex), lifetime_s, and the limits
-- unfinished_max, hour_max, user_bytes_max, total_bytes_max; file_id, if it was reserved}. Returns
-- the file's id, -1 if the user's files would take too much, or -2 if all files would.
-- Locks: the conversation's row (SHARE), then the user's uploads.

CREATE FUNCTION create_file(p jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c conversations;
    v_user bigint := (p -> 'user_id')::bigint;
    v_size bigint := (p -> 'size')::bigint;
    v_id bigint;
BEGIN
    SELECT * INTO c FROM conversations x WHERE x.id = (p -> 'conversation_id')::bigint FOR SHARE;
    PERFORM sending_member(c, v_user);
    PERFORM pg_advisory_xact_lock(hashtextextended('uploads', v_user));
    IF (SELECT count(*) FROM files f WHERE f.uploader_id = v_user AND f.state = 'uploading')
        >= (p -> 'unfinished_max')::bigint THEN
        PERFORM refuse('rate_limited', 'You have too many unfinished uploads. Finish or delete some of them.');
    ELSIF (SELECT count(*) FROM files f WHERE f.uploader_id = v_user AND f.created_at > now() - interval '1 hour')
        >= (p -> 'hour_max')::bigint THEN
        PERFORM refuse('rate_limited', 'You have uploaded too many files within an hour. Wait a while.');
    ELSIF coalesce((SELECT u.bytes FROM file_usage u WHERE u.user_id = v_user), 0) + v_size
        > (p -> 'user_bytes_max')::bigint THEN
        RETURN -1;
    ELSIF coalesce((SELECT u.bytes FROM file_usage u WHERE u.user_id = 0), 0) + v_size
        > (p -> 'total_bytes_max')::bigint THEN
        RETURN -2;
    END IF;
    INSERT INTO files (id, conversation_id, uploader_id, name, size, declared_type, expected_sha256, expires_at)
    VALUES (coalesce((p ->> 'file_id')::bigint, nextval('file_ids')), c.id, v_user, p ->> 'name', v_size,
            p ->> 'media_type', decode(p ->> 'sha256', 'hex'), now() + make_interval(secs => (p -> 'lifetime_s')::bigint))
    RETURNING id INTO STRICT v_id;
    RETURN v_id;
END $$;
