-- The message that a read is about. Refuses a message that the user may not see.

CREATE FUNCTION readable_message(p_arguments jsonb) RETURNS messages LANGUAGE plpgsql STABLE AS $$
DECLARE
    m messages;
BEGIN
    SELECT * INTO m FROM messages x WHERE x.id = (p_arguments -> 'message_id')::bigint
       AND (p_arguments ->> 'conversation' IS NULL OR x.conversation_id = (p_arguments -> 'conversation')::bigint);
    IF NOT FOUND THEN
        PERFORM refuse('not_found', 'data.message_id: There is no such message, or you may not see it.');
    END IF;
    RETURN m;
END $$;
