-- The membership of an actor with at least the role p_least, in a conversation that has roles. In an archived
-- conversation only the owner may act, who can open it again.

CREATE FUNCTION moderating_member(c conversations, p_actor bigint, p_least member_role) RETURNS conversation_members
LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members := acting_member(c, p_actor);
BEGIN
    IF c.kind = 'direct' THEN
        PERFORM refuse('forbidden', 'a direct conversation has no roles; block the other user instead');
    ELSIF m.role < p_least THEN
        PERFORM refuse('forbidden', format('this is for the role %s and up; yours is %s', p_least, m.role));
    ELSIF c.archived_at IS NOT NULL AND m.role < 'owner' THEN
        PERFORM refuse('read_only', 'the conversation is archived; only its owner can open it again');
    END IF;
    RETURN m;
END $$;
