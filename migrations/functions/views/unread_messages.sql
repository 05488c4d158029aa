-- How many messages of others follow the marker. A user without a marker is not a member and has nothing unread. Exact
-- up to 10,000 and never more: otherwise each list of conversations would count the whole of a large room.

CREATE FUNCTION unread_messages(p_conversation bigint, p_user bigint, p_read_seq bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM (
        SELECT FROM messages x
         WHERE x.conversation_id = p_conversation AND x.seq > p_read_seq AND x.sender_id <> p_user
           AND x.deleted_at IS NULL AND x.message_type <> 'system'
         ORDER BY x.seq LIMIT 10000) y
$$;
