-- Refuses a user who is not a member of a conversation. An outsider cannot learn whether a private conversation exists:
-- the answer is the one for a conversation that does not exist (c is then NULL).

CREATE FUNCTION refuse_outsider(c conversations) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF c.kind = 'public_room' THEN
        PERFORM refuse('not_member', 'You are not a member of this conversation. Join it first.');
    END IF;
    PERFORM refuse('not_found',
        'data.conversation_id: There is no such conversation, or you are not a member of it.');
END $$;
