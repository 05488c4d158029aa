-- Removes a member and remembers what must outlast a new join: a mute and a read-only role.
-- Returns the events. The system message precedes member_left, because a user receives nothing after that.
-- Locks: the conversation's row, which the caller holds.

CREATE FUNCTION remove_member(c conversations, p_user bigint, p_actor bigint, p_mutation_id bigint, p_reason text)
RETURNS jsonb LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO conversation_restrictions (conversation_id, user_id, role, muted_until)
    SELECT x.conversation_id, x.user_id, least(x.role, 'member'), x.muted_until FROM conversation_members x
     WHERE x.conversation_id = c.id AND x.user_id = p_user AND (x.role = 'read_only' OR x.muted_until > now());
    DELETE FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    DELETE FROM thread_followers x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    RETURN CASE WHEN p_user = p_actor AND is_restless(c, p_user) THEN '[]'::jsonb
                ELSE jsonb_build_array(system_message(c, p_reason, p_user, p_actor)) END
        || append_event(c.id, 'member_left', p_actor, p_mutation_id, jsonb_build_object(
               'user', actor_json(p_user), 'reason', p_reason, 'actor', actor_json(p_actor)));
END $$;
