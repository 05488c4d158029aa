-- How many replies of others follow the marker of a thread, 10,000 at most.

CREATE FUNCTION unread_replies(p_root bigint, p_user bigint, p_read_seq bigint) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT count(*) FROM (
        SELECT FROM messages x
         WHERE x.parent_message_id = p_root AND x.seq > p_read_seq AND x.sender_id <> p_user AND x.deleted_at IS NULL
         ORDER BY x.seq LIMIT 10000) y
$$;
