-- Threads that the user follows and that have replies, the newest reply first.

CREATE FUNCTION read_list_threads(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_limit bigint := (p_arguments -> 'limit')::bigint;
BEGIN
    IF p_arguments ->> 'conversation' IS NOT NULL THEN
        PERFORM require_access(p_arguments);
    END IF;
    RETURN page_json('threads', (
        SELECT jsonb_agg(jsonb_build_object(
                   'key', ((extract(epoch FROM t.last_reply_at) * 1000000)::bigint)::text || '.' || s.message_id,
                   'value', jsonb_build_object('root', message_json(s), 'last_reply_at', rfc3339(t.last_reply_at),
                       'read_seq', t.read_seq, 'unread_count', unread_replies(s.message_id, app_user_id(), t.read_seq)))
                   ORDER BY t.last_reply_at DESC, s.message_id DESC)
          FROM (SELECT f.root_message_id, f.read_seq, s.last_reply_at
                  FROM thread_followers f JOIN thread_statistics s ON s.root_message_id = f.root_message_id
                 WHERE f.user_id = app_user_id()
                   AND (p_arguments ->> 'conversation' IS NULL
                        OR f.conversation_id = (p_arguments -> 'conversation')::bigint)
                   AND (s.last_reply_at, s.root_message_id) < (
                       coalesce(to_timestamp(0) + (p_arguments -> 'cursor_us')::bigint * interval '1 microsecond',
                                'infinity'),
                       coalesce((p_arguments -> 'cursor_id')::bigint, 9007199254740991))
                 ORDER BY s.last_reply_at DESC, s.root_message_id DESC LIMIT v_limit + 1) t
          JOIN shown_messages s ON s.message_id = t.root_message_id), v_limit);
END $$;
