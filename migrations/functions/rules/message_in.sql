-- The message that a mutation is about. Refuses a message that is not in this conversation.

CREATE FUNCTION message_in(c conversations, p mutation) RETURNS message_head LANGUAGE plpgsql AS $$
DECLARE
    h message_head;
BEGIN
    SELECT x.id, x.seq, x.sender_id, x.parent_message_id, x.created_at, x.edited_at, x.deleted_at, x.message_type INTO h
      FROM messages x WHERE x.id = (p.arguments -> 'message_id')::bigint AND x.conversation_id = c.id;
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.message_id: There is no such message in this conversation.');
    END IF;
    RETURN h;
END $$;
