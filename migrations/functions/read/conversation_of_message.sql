-- The conversation of a message that the user may see. The server asks the owner shard of that conversation.

CREATE FUNCTION conversation_of_message(p_message bigint) RETURNS bigint LANGUAGE sql STABLE AS
    $$ SELECT conversation_id FROM messages WHERE id = p_message $$;
