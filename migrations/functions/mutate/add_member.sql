-- Adds a user to a conversation, whichever way they came. Refuses banned and blocked users, a full conversation and an
-- archived one. A mute or read-only role from before the user left applies again.
-- Returns the events: member_joined, and the system message unless the user joins and leaves all the time.
-- Locks: the conversation's row, which the caller holds; the member's profile FOR SHARE (note_profile_version).

CREATE FUNCTION add_member(c conversations, p_user bigint, p_actor bigint, p_mutation_id bigint)
RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    r conversation_restrictions;
    v_quiet boolean := p_user = p_actor AND is_restless(c, p_user);
BEGIN
    IF NOT EXISTS (SELECT FROM users x WHERE x.id = p_user AND x.is_active) THEN
        PERFORM refuse('not_found', 'data.user_id: no such user');
    END IF;
    IF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p_user) THEN
        PERFORM refuse('banned', 'this user is banned from the conversation; a moderator can lift it');
    END IF;
    IF p_user <> p_actor AND is_blocked(p_user, p_actor) THEN
        PERFORM refuse('blocked', 'one of you has blocked the other; an invitation is not possible');
    END IF;
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nobody can join it');
    END IF;
    IF c.member_limit <= (SELECT s.member_count FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
        PERFORM refuse('conflict', format('the conversation is full: it can have %s members', c.member_limit));
    END IF;
    DELETE FROM conversation_restrictions x WHERE x.conversation_id = c.id AND x.user_id = p_user RETURNING * INTO r;
    -- The read marker starts behind the events that are appended below: earlier messages are history, not unread.
    INSERT INTO conversation_members (conversation_id, user_id, joined_seq, read_seq, role, muted_until)
    VALUES (c.id, p_user, c.last_seq + 1, c.last_seq + CASE WHEN v_quiet THEN 1 ELSE 2 END,
            coalesce(r.role, 'member'), r.muted_until);
    RETURN jsonb_build_array(
        append_event(c.id, 'member_joined', p_actor, p_mutation_id, jsonb_build_object(
            'user', actor_json(p_user), 'role', coalesce(r.role, 'member'), 'muted_until', rfc3339(r.muted_until),
            'invited_by', CASE WHEN p_actor <> p_user THEN actor_json(p_actor) END)))
        || CASE WHEN v_quiet THEN '[]'::jsonb
                ELSE jsonb_build_array(system_message(
                    c, CASE WHEN p_actor = p_user THEN 'joined' ELSE 'added' END, p_user, p_actor)) END;
END $$;
