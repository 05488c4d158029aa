-- Changes the profile of a bot that the user manages. A name that is null stays; the others stay unless their flag is
-- set. p_row begins the audit row. Returns whether there is such a bot.
-- Locks: the bot's row, its user's row, then the end of the audit trail.

CREATE FUNCTION change_bot(
    p_user bigint, p_bot bigint, p_name text, p_set_avatar boolean, p_avatar_url text, p_set_bio boolean, p_bio text,
    p_row jsonb)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    u users;
    w users;
    v_changed jsonb;
BEGIN
    PERFORM FROM managed_bot(p_user, p_bot);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT * INTO STRICT u FROM users x WHERE x.id = p_bot FOR NO KEY UPDATE;
    w := u;
    w.display_name := coalesce(p_name, u.display_name);
    w.avatar_url := CASE WHEN p_set_avatar THEN p_avatar_url ELSE u.avatar_url END;
    w.bio := CASE WHEN p_set_bio THEN p_bio ELSE u.bio END;
    v_changed := audit_difference(
        jsonb_build_object('display_name', u.display_name, 'avatar_url', u.avatar_url, 'bio', u.bio),
        jsonb_build_object('display_name', w.display_name, 'avatar_url', w.avatar_url, 'bio', w.bio));
    IF v_changed IS NOT NULL THEN
        UPDATE users x SET display_name = w.display_name, avatar_url = w.avatar_url, bio = w.bio,
                           profile_version = x.profile_version + 1
         WHERE x.id = p_bot;
        PERFORM append_audit(jsonb_build_array(p_row || jsonb_build_object(
            'target_type', 'user', 'target_id', p_bot, 'details', v_changed)));
    END IF;
    RETURN true;
END $$;
