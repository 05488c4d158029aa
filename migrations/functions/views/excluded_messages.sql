-- How many messages after the marker are never unread: the user's own ones, and the deleted ones of others.
-- Indexes have all that both counts need, so no message is read. Pages cost the same in any order here: otherwise the
-- planner prefers to read the messages themselves, by seq, in a table that was never vacuumed.

CREATE FUNCTION excluded_messages(p_conversation bigint, p_user bigint, p_read_seq bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET random_page_cost = 1 SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN (SELECT count(*) FROM messages x
             WHERE x.conversation_id = p_conversation AND x.sender_id = p_user AND x.client_message_id IS NOT NULL
               AND x.seq > p_read_seq)
        + (SELECT count(*) FROM messages x
            WHERE x.conversation_id = p_conversation AND x.seq > p_read_seq
              AND x.deleted_at IS NOT NULL AND x.message_type <> 'system' AND x.sender_id <> p_user);
END $$;
