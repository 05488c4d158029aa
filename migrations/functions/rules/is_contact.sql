-- Whether a user knows another from a conversation: both are members of one that is not public, and the first owns it
-- or has written in it. Being added by somebody, or receiving their messages, makes them no contact.

CREATE FUNCTION is_contact(p_user bigint, p_other bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT FROM conversation_members m
          JOIN conversations c ON c.id = m.conversation_id AND c.kind <> 'public_room'
         WHERE m.user_id = p_user
           AND EXISTS (SELECT FROM conversation_members x
                        WHERE x.conversation_id = m.conversation_id AND x.user_id = p_other)
           AND (c.owner_id = p_user
                OR EXISTS (SELECT FROM messages x WHERE x.conversation_id = m.conversation_id
                              AND x.sender_id = p_user AND x.message_type <> 'system')))
$$;
