-- The membership of the actor. Refuses users who are not members, and reports a ban.
-- Locks: none of its own; the caller holds the conversation's row.

CREATE FUNCTION acting_member(c conversations, p_actor bigint) RETURNS conversation_members LANGUAGE plpgsql AS $$
DECLARE
    m conversation_members;
BEGIN
    SELECT * INTO m FROM conversation_members x WHERE x.conversation_id = c.id AND x.user_id = p_actor;
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM conversation_bans b WHERE b.conversation_id = c.id AND b.user_id = p_actor) THEN
            PERFORM refuse('banned', 'You are banned from this conversation. A moderator can lift the ban.');
        END IF;
        PERFORM refuse_outsider(c);
    END IF;
    RETURN m;
END $$;
