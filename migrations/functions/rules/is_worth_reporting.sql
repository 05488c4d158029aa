-- Whether a system message reports that a user joined or left. What others do to the user always is. A user who has
-- joined and left often lately adds no further message: otherwise joining and leaving would put text into the history
-- past mutes, slow mode and filters. Reads 200 messages at most.

CREATE FUNCTION is_worth_reporting(c conversations, p_user bigint, p_by bigint) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_user <> p_by THEN true ELSE (
        SELECT count(*) < 6
          FROM (SELECT x.sender_id, x.message_type, x.created_at FROM messages x
                 WHERE x.conversation_id = c.id ORDER BY x.seq DESC LIMIT 200) m
         WHERE m.sender_id = p_user AND m.message_type = 'system' AND m.created_at > now() - interval '10 minutes') END
$$;
