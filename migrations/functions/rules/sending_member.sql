-- The membership of an actor who may send messages. Refuses in an archived conversation, with a read-only role, while
-- muted there or everywhere, and when one of the two users of a direct conversation has blocked the other.

CREATE FUNCTION sending_member(c conversations, p_actor bigint) RETURNS conversation_members LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members := acting_member(c, p_actor);
BEGIN
    PERFORM refuse_muted_user(p_actor);
    IF c.archived_at IS NOT NULL THEN
        PERFORM refuse('read_only', 'The conversation is archived. Nothing in it can be changed.');
    ELSIF m.role = 'read_only' THEN
        PERFORM refuse('read_only', 'Your role in this conversation is read-only.');
    ELSIF m.muted_until > now() THEN
        PERFORM refuse_until('muted', 'You are muted in this conversation. Wait until the mute ends.', m.muted_until);
    ELSIF c.kind = 'direct' AND is_blocked(c.direct_low, c.direct_high) THEN
        PERFORM refuse('blocked', 'One of you has blocked the other. You cannot message each other.');
    END IF;
    RETURN m;
END $$;
