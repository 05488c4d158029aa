-- Whether a legal hold keeps a conversation: one of its own, or one of a user who is a member or has written in it.

CREATE FUNCTION is_on_hold(p_conversation bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM legal_holds h
         WHERE h.released_at IS NULL
           AND (h.conversation_id = p_conversation
                OR EXISTS (SELECT FROM conversation_members m
                            WHERE m.conversation_id = p_conversation AND m.user_id = h.user_id)
                OR EXISTS (SELECT FROM messages m
                            WHERE m.conversation_id = p_conversation AND m.sender_id = h.user_id
                              AND m.client_message_id IS NOT NULL)))
$$;
