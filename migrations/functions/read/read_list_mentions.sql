-- Messages that mention the user, the newest first.

CREATE FUNCTION read_list_mentions(p_arguments jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_limit bigint := (p_arguments -> 'limit')::bigint;
BEGIN
    IF p_arguments ->> 'conversation' IS NOT NULL THEN
        PERFORM require_access(p_arguments);
    END IF;
    RETURN page_json('messages', (
        SELECT jsonb_agg(jsonb_build_object('key', s.message_id, 'value', message_json(s)) ORDER BY s.message_id DESC)
          FROM (SELECT y.id FROM message_mentions x JOIN messages y ON y.id = x.message_id
                 WHERE x.user_id = app_user_id() AND y.deleted_at IS NULL
                   AND (p_arguments ->> 'conversation' IS NULL
                        OR x.conversation_id = (p_arguments -> 'conversation')::bigint)
                   AND x.message_id < coalesce((p_arguments ->> 'cursor')::bigint, 9007199254740991)
                 ORDER BY x.message_id DESC LIMIT v_limit + 1) found
          JOIN shown_messages s ON s.message_id = found.id), v_limit);
END $$;
