-- Whether the log of a conversation that is on hold still has something of a person who is being erased: messages, a
-- membership, a mention, or a name. It changes nothing, and reads the whole log.
-- It needs the rights of the owner, in a transaction with app.data_rights.

CREATE FUNCTION names_person(p_user bigint, p_conversation bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_old text;
BEGIN
    SELECT e.username INTO v_old FROM erasures e WHERE e.user_id = p_user;
    RETURN EXISTS (SELECT FROM conversation_members m WHERE m.conversation_id = p_conversation AND m.user_id = p_user)
        OR EXISTS (SELECT FROM conversation_events e
                    WHERE e.conversation_id = p_conversation AND strpos(e.payload::text, '"id": ' || p_user) > 0
                      AND e.payload <> without_person(e.payload, p_user))
        OR EXISTS (SELECT FROM messages m
                    WHERE m.conversation_id = p_conversation
                      AND ((m.sender_id = p_user AND m.deleted_at IS NULL AND m.message_type <> 'system')
                           OR m.system <> without_person(m.system, p_user)
                           OR m.content <> without_name(m.content, v_old, p_user)));
END $$;
