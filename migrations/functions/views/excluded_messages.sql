-- How many messages after the marker are never unread: the user's own ones, and the deleted ones of others. p_floor is
-- where the marker's range of ids begins (message_span).
-- Indexes have all that both counts need, so no message is read. Those of messages_0 have no id, but a count from
-- there on needs none. Pages cost the same in any order here: otherwise the planner prefers to read the messages
-- themselves, by seq, in a table that was never vacuumed.

CREATE FUNCTION excluded_messages(p_conversation bigint, p_user bigint, p_read_seq bigint, p_floor bigint)
RETURNS bigint LANGUAGE plpgsql STABLE
SET random_page_cost = 1 SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    IF p_floor = 0 THEN
        RETURN (SELECT count(*) FROM messages x
                 WHERE x.conversation_id = p_conversation AND x.sender_id = p_user AND x.client_message_id IS NOT NULL
                   AND x.seq > p_read_seq)
            + (SELECT count(*) FROM messages x
                WHERE x.conversation_id = p_conversation AND x.seq > p_read_seq
                  AND x.deleted_at IS NOT NULL AND x.message_type <> 'system' AND x.sender_id <> p_user);
    END IF;
    RETURN (SELECT count(*) FROM messages x
             WHERE x.conversation_id = p_conversation AND x.sender_id = p_user AND x.client_message_id IS NOT NULL
               AND x.seq > p_read_seq AND x.id >= p_floor)
        + (SELECT count(*) FROM messages x
            WHERE x.conversation_id = p_conversation AND x.seq > p_read_seq AND x.id >= p_floor
              AND x.deleted_at IS NOT NULL AND x.message_type <> 'system' AND x.sender_id <> p_user);
END $$;
