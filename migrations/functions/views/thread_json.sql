-- The thread of an event thread_updated; NULL without a thread.

CREATE FUNCTION thread_json(p_conversation bigint, p_root bigint) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_root IS NOT NULL THEN (
        SELECT jsonb_build_object('message_id', p_root, 'reply_count', coalesce(t.reply_count, 0),
                                  'last_reply_at', rfc3339(t.last_reply_at))
          FROM (SELECT) AS one
          LEFT JOIN thread_statistics t ON t.root_message_id = p_root AND t.conversation_id = p_conversation) END
$$;
