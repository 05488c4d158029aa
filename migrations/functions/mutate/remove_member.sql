-- Removes a member and remembers the restrictions that apply again after a new join: a mute and a read-only role. Their
-- invitations end, since they may no longer invite.
-- The system message precedes member_left, because a user receives nothing after that.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION remove_member(o mutation_outcome, c conversations, p mutation, p_user bigint, p_reason text)
RETURNS mutation_outcome LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO conversation_restrictions (conversation_id, user_id, role, muted_until)
    SELECT x.conversation_id, x.user_id, least(x.role, 'member'), x.muted_until FROM conversation_members x
     WHERE x.conversation_id = c.id AND x.user_id = p_user AND (x.role = 'read_only' OR x.muted_until > now());
    DELETE FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    DELETE FROM conversation_invites x WHERE x.conversation_id = c.id AND x.created_by = p_user;
    DELETE FROM thread_followers x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    IF is_worth_reporting(c, p_user, p.actor_id) THEN
        o := append_system_message(o, c, p_reason, p_user, p.actor_id);
    END IF;
    o := append_event(o, c, p, 'member_left', jsonb_build_object(
        'user', actor_json(p_user), 'reason', p_reason, 'actor', actor_json(p.actor_id)));
    o.lost := ARRAY[p_user];
    RETURN o;
END $$;
