-- The conversation of a message that the user may see. The server asks the owner shard of that conversation.

CREATE FUNCTION conversation_of_message(p_message bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (SELECT m.conversation_id FROM messages m WHERE m.id = p_message);
END $$;
