-- The membership of an actor with at least the role p_least, in a conversation that has roles. In an archived
-- conversation only the owner may act, who can open it again.

CREATE FUNCTION moderating_member(c conversations, p_actor bigint, p_least member_role) RETURNS conversation_members
LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members := acting_member(c, p_actor);
BEGIN
    IF c.kind = 'direct' THEN
        PERFORM refuse('forbidden', 'A direct conversation has no roles. Block the other user instead.');
    ELSIF m.role < p_least THEN
        PERFORM refuse('forbidden', format('This needs the role %s or higher. Yours is %s.', p_least, m.role));
    ELSIF c.archived_at IS NOT NULL AND m.role < 'owner' THEN
        PERFORM refuse('read_only', 'The conversation is archived. Only its owner can reopen it.');
    END IF;
    RETURN m;
END $$;
