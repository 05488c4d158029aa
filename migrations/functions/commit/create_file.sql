-- Begins an upload. p: {user_id, conversation_id, name, size, media_type, sha256 (hex), lifetime_s, and the limits
-- unfinished_max, hour_max, user_bytes_max, total_bytes_max}. Returns the file's id, or why there is none: -1 if the
-- user's files would take too much, -2 if all files would, -3 for too many unfinished uploads of the user, -4 for too
-- many within an hour. The size counts from now on.
-- An upload gives no access to anything. A user who attaches it must be a member at that time.
-- Locks: the conversation's row (KEY SHARE, which its foreign key takes anyway; before file_usage, as changes of the
-- conversation do), then the rows of file_usage, in the order of their users.

CREATE FUNCTION create_file(p jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    c conversations;
    u file_usage;
    v_user bigint := (p -> 'user_id')::bigint;
    v_size bigint := (p -> 'size')::bigint;
    v_total bigint;
    v_id bigint;
BEGIN
    SELECT * INTO c FROM conversations x WHERE x.id = (p -> 'conversation_id')::bigint FOR KEY SHARE;
    PERFORM sending_member(c, v_user);
    INSERT INTO file_usage (user_id) VALUES (0), (v_user) ON CONFLICT DO NOTHING;
    SELECT x.bytes INTO STRICT v_total FROM file_usage x WHERE x.user_id = 0 FOR UPDATE;
    SELECT * INTO STRICT u FROM file_usage x WHERE x.user_id = v_user FOR UPDATE;
    IF u.hour_began < now() - interval '1 hour' THEN
        u.hour_began := now();
        u.hour_count := 0;
    END IF;
    IF (SELECT count(*) FROM files f WHERE f.uploader_id = v_user AND f.state = 'uploading')
        >= (p -> 'unfinished_max')::bigint THEN
        RETURN -3;
    ELSIF u.hour_count >= (p -> 'hour_max')::bigint THEN
        RETURN -4;
    ELSIF u.bytes + v_size > (p -> 'user_bytes_max')::bigint THEN
        RETURN -1;
    ELSIF v_total + v_size > (p -> 'total_bytes_max')::bigint THEN
        RETURN -2;
    END IF;
    UPDATE file_usage x SET hour_began = u.hour_began, hour_count = u.hour_count + 1 WHERE x.user_id = v_user;
    INSERT INTO files (conversation_id, uploader_id, name, size, declared_type, expected_sha256, expires_at)
    VALUES (c.id, v_user, p ->> 'name', v_size, p ->> 'media_type', decode(p ->> 'sha256', 'hex'),
            now() + make_interval(secs => (p -> 'lifetime_s')::bigint))
    RETURNING id INTO STRICT v_id;
    RETURN v_id;
END $$;
