-- Refuses to add a user who is banned or blocked, or to a conversation that is full or archived. p_by is the user who
-- adds p_user, or the same user.
-- Locks: the conversation's row, which apply_mutations holds.

CREATE FUNCTION refuse_admission(c conversations, p mutation, p_user bigint, p_by bigint) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM users x WHERE x.id = p_user AND x.is_active) THEN
        PERFORM refuse('not_found', 'data.user_id: There is no such user.');
    ELSIF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p_user) THEN
        PERFORM refuse('banned', 'The user is banned from the conversation. A moderator can lift the ban.');
    ELSIF p_user <> p_by AND is_blocked(p_user, p_by) THEN
        PERFORM refuse('blocked', CASE WHEN p.actor_id = p_user
            THEN 'This invitation is not for you.' ELSE 'data.user_id: You cannot add this user.' END);
    ELSIF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'The conversation is archived. Nobody can join it.');
    ELSIF c.member_limit <= (SELECT s.member_count FROM conversation_statistics s WHERE s.conversation_id = c.id) THEN
        PERFORM refuse('conflict', format('The conversation is full. It can have %s members.', c.member_limit));
    END IF;
END $$;
