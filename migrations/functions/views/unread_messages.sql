-- How many messages of others follow the marker, exactly. A user without a marker is not a member and has nothing
-- unread. The marker's ordinal is the number of messages up to it, so a large room costs as much as a small one.
-- SECURITY DEFINER: a policy would look up the user's conversations for each count.

CREATE FUNCTION unread_messages(c conversations, p_user bigint, p_read_seq bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF p_read_seq IS NULL OR p_read_seq >= c.last_seq THEN
        RETURN 0;
    ELSIF c.last_seq - p_read_seq <= 100 THEN
        RETURN (SELECT count(*) FROM messages x
                 WHERE x.conversation_id = c.id AND x.seq > p_read_seq AND x.sender_id <> p_user
                   AND x.deleted_at IS NULL AND x.message_type <> 'system');
    END IF;
    RETURN c.last_ordinal - excluded_messages(c.id, p_user, p_read_seq) - coalesce(
        (SELECT x.ordinal FROM messages x
          WHERE x.conversation_id = c.id AND x.seq <= p_read_seq ORDER BY x.seq DESC LIMIT 1),
        -- Retention has removed everything up to the marker.
        (SELECT x.ordinal - (x.message_type <> 'system')::integer FROM messages x
          WHERE x.conversation_id = c.id AND x.seq > p_read_seq ORDER BY x.seq LIMIT 1), 0);
END $$;

REVOKE ALL ON FUNCTION unread_messages(conversations, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION unread_messages(conversations, bigint, bigint) TO chat_app;
GRANT EXECUTE ON FUNCTION unread_messages(conversations, bigint, bigint) TO chat_writer;
