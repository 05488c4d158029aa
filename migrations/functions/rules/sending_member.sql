-- The membership of an actor who may send messages. Refuses in an archived conversation, with a read-only role, while
-- muted, and when one of the two users of a direct conversation has blocked the other.

CREATE FUNCTION sending_member(c conversations, p_actor bigint) RETURNS conversation_members LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members := acting_member(c, p_actor);
BEGIN
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'the conversation is archived; nothing in it can be changed');
    ELSIF m.role = 'read_only' THEN
        PERFORM refuse('read_only', 'your role in this conversation is read-only');
    ELSIF m.muted_until > now() THEN
        PERFORM refuse_until('muted', 'you are muted in this conversation for a while', m.muted_until);
    ELSIF c.kind = 'direct' AND is_blocked(c.direct_low, c.direct_high) THEN
        PERFORM refuse('blocked', 'one of you has blocked the other; nothing passes between you');
    END IF;
    RETURN m;
END $$;
