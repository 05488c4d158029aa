-- The conversation that a mutation changes, locked until the transaction ends. Everything else is read after this lock,
-- so that nobody changes roles, mutes or bans between the check and the commit.
-- Locks: the conversation's row, FOR UPDATE.

CREATE FUNCTION locked_conversation(p_conversation bigint) RETURNS conversations LANGUAGE plpgsql AS $$
DECLARE
    c conversations;
BEGIN
    SELECT * INTO c FROM conversations x WHERE x.id = p_conversation FOR UPDATE;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.conversation_id: no such conversation');
    END IF;
    RETURN c;
END $$;
