-- Creates a bot, of which its owner may have p_most. Others can only invite it, and it cannot accept: its owner decides
-- where it is. p_row begins the audit row. Returns its user id.
-- Locks: the owner's row, so that the bots are counted; then the end of the audit trail.

CREATE FUNCTION create_bot(
    p_user bigint, p_username text, p_name text, p_avatar_url text, p_bio text, p_most bigint, p_row jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_bot bigint;
BEGIN
    PERFORM FROM users u WHERE u.id = p_user FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM bots b WHERE b.owner_id = p_user AND b.is_managed) >= p_most THEN
        PERFORM refuse('conflict', format('You can have %s bots. Delete one of them.', p_most));
    END IF;
    INSERT INTO users (username, display_name, avatar_url, bio, is_bot, group_invitations)
    VALUES (p_username, p_name, p_avatar_url, p_bio, true, 'nobody') RETURNING id INTO STRICT v_bot;
    INSERT INTO bots (user_id, owner_id, is_managed) VALUES (v_bot, p_user, true);
    PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
        'target_type', 'user', 'target_id', v_bot, 'details', jsonb_build_object('after', jsonb_build_object(
            'username', p_username, 'display_name', p_name)))));
    RETURN v_bot;
END $$;
