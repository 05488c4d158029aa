-- Whether a user has joined and left so often lately that no further system message reports it. Otherwise joining and
-- leaving would let a user put text into the history past mutes, slow mode and filters. Reads 200 messages at most.

CREATE FUNCTION is_restless(c conversations, p_user bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT count(*) >= 6
      FROM (SELECT x.sender_id, x.message_type, x.created_at FROM messages x
             WHERE x.conversation_id = c.id ORDER BY x.seq DESC LIMIT 200) m
     WHERE m.sender_id = p_user AND m.message_type = 'system' AND m.created_at > now() - interval '10 minutes'
$$;
