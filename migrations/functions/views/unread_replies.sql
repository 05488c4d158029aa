-- How many replies of others follow the marker of a thread, exactly. Both counts read an index and no messages. The
-- replies are in the range of ids of their thread's first message, or in later ones. The indexes of messages_0 have no
-- id, but a count from there on needs none.
-- SECURITY DEFINER: a policy would look up the user's conversations for each count.

CREATE FUNCTION unread_replies(p_root bigint, p_user bigint, p_read_seq bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    v_floor bigint := message_floor(p_root);
BEGIN
    IF v_floor = 0 THEN
        RETURN (SELECT count(*) FROM messages x
                 WHERE x.parent_message_id = p_root AND x.seq > p_read_seq AND x.sender_id <> p_user)
            - (SELECT count(*) FROM messages x
                WHERE x.parent_message_id = p_root AND x.seq > p_read_seq AND x.sender_id <> p_user
                  AND x.deleted_at IS NOT NULL);
    END IF;
    RETURN (SELECT count(*) FROM messages x
             WHERE x.parent_message_id = p_root AND x.seq > p_read_seq AND x.sender_id <> p_user AND x.id >= v_floor)
        - (SELECT count(*) FROM messages x
            WHERE x.parent_message_id = p_root AND x.seq > p_read_seq AND x.sender_id <> p_user AND x.id >= v_floor
              AND x.deleted_at IS NOT NULL);
END $$;

REVOKE ALL ON FUNCTION unread_replies(bigint, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION unread_replies(bigint, bigint, bigint) TO chat_app;
GRANT EXECUTE ON FUNCTION unread_replies(bigint, bigint, bigint) TO chat_writer;
