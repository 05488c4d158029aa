-- How many messages of others follow the marker, exactly. A user without a marker is not a member and has nothing
-- unread. The marker's ordinal is the number of messages up to it, so a large room costs as much as a small one.
-- Without sorts, the planner looks the marker up by its seq, and does not read a partition by its ids.
-- SECURITY DEFINER: a policy would look up the user's conversations for each count.

CREATE FUNCTION unread_messages(c conversations, p_user bigint, p_read_seq bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT SET enable_sort = off AS $$
DECLARE
    s record;
    v_before bigint;
BEGIN
    IF p_read_seq IS NULL OR p_read_seq >= c.last_seq THEN
        RETURN 0;
    END IF;
    -- The last message up to the marker is in the range of the marker, or in none that is left.
    s := message_span(c.id, p_read_seq, p_read_seq);
    IF c.last_seq - p_read_seq <= 100 THEN
        RETURN (SELECT count(*) FROM messages x
                 WHERE x.conversation_id = c.id AND x.seq > p_read_seq AND x.id >= s.p_floor AND x.sender_id <> p_user
                   AND x.deleted_at IS NULL AND x.message_type <> 'system');
    END IF;
    SELECT x.ordinal INTO v_before FROM messages x
     WHERE x.conversation_id = c.id AND x.seq <= p_read_seq AND x.id >= s.p_floor AND x.id < s.p_ceiling
     ORDER BY x.seq DESC LIMIT 1;
    -- Retention has removed everything up to the marker, or there never was a message.
    IF NOT FOUND THEN
        SELECT x.ordinal - (x.message_type <> 'system')::integer INTO v_before FROM messages x
         WHERE x.conversation_id = c.id AND x.seq > p_read_seq AND x.id >= s.p_floor ORDER BY x.seq LIMIT 1;
    END IF;
    RETURN c.last_ordinal - coalesce(v_before, 0) - excluded_messages(c.id, p_user, p_read_seq, s.p_floor);
END $$;

REVOKE ALL ON FUNCTION unread_messages(conversations, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION unread_messages(conversations, bigint, bigint) TO chat_app;
GRANT EXECUTE ON FUNCTION unread_messages(conversations, bigint, bigint) TO chat_writer;
