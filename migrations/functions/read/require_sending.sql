-- The conversation that a user may write in now. Refuses everybody else, as sending_member does.

CREATE FUNCTION require_sending(p_arguments jsonb) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_conversation bigint := require_access(p_arguments);
    c conversations;
    m conversation_members;
BEGIN
    PERFORM refuse_muted_user(app_user_id());
    SELECT * INTO c FROM conversations x WHERE x.id = v_conversation;
    SELECT * INTO m FROM conversation_members x WHERE x.conversation_id = v_conversation AND x.user_id = app_user_id();
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'The conversation is archived. Nothing in it can be changed.');
    ELSIF m.role = 'read_only' THEN
        PERFORM refuse('read_only', 'Your role in this conversation is read-only.');
    ELSIF m.muted_until > now() THEN
        PERFORM refuse('muted', 'You are muted in this conversation. Wait until the mute ends.');
    ELSIF c.kind = 'direct'
          AND NOT app_may_see(CASE WHEN c.direct_low = app_user_id() THEN c.direct_high ELSE c.direct_low END) THEN
        PERFORM refuse('blocked', 'One of you has blocked the other. You cannot message each other.');
    END IF;
    RETURN v_conversation;
END $$;
