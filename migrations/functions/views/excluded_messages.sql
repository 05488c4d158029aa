-- How many messages after the marker are never unread: the user's own ones, and the deleted ones of others.
-- Both counts read an index and no messages. The planner would often rather read the messages themselves, which are
-- sorted by seq: it does not know that a user reads this for fifty rooms at once. Hence the settings.

CREATE FUNCTION excluded_messages(c conversations, p_user bigint, p_read_seq bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET enable_indexscan = off SET enable_seqscan = off SET enable_bitmapscan = off AS $$
BEGIN
    RETURN (SELECT count(*) FROM messages x
             WHERE x.conversation_id = c.id AND x.sender_id = p_user AND x.client_message_id IS NOT NULL
               AND x.seq > p_read_seq AND x.seq <= c.last_seq)
        + (SELECT count(*) FROM messages x
            WHERE x.conversation_id = c.id AND x.seq > p_read_seq AND x.seq <= c.last_seq
              AND x.deleted_at IS NOT NULL AND x.message_type <> 'system' AND x.sender_id <> p_user);
END $$;
