-- The membership of the user whom a moderator acts upon: another user, of a lower role than the moderator's.

CREATE FUNCTION member_below(c conversations, m conversation_members, p_user bigint) RETURNS conversation_members
LANGUAGE plpgsql AS $$
DECLARE
    t conversation_members;
BEGIN
    IF p_user = m.user_id THEN
        PERFORM refuse('forbidden', 'data.user_id: You cannot do this to yourself.');
    END IF;
    SELECT * INTO t FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_user;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.user_id: This user is not a member of the conversation.');
    ELSIF t.role >= m.role THEN
        PERFORM refuse('forbidden', 'data.user_id: This user''s role is not lower than yours.');
    END IF;
    RETURN t;
END $$;
