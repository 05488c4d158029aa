-- An event as a replay of the log shows it. The log stores no texts, so an edit shows the present text, and a deletion
-- the present state of its thread.

CREATE FUNCTION event_payload(p_conversation bigint, p_kind text, p_payload jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT CASE p_kind
        WHEN 'message_edited' THEN p_payload || (
            SELECT jsonb_build_object('content', CASE WHEN m.deleted_at IS NULL THEN m.content ELSE '' END,
                       'mentions', (SELECT coalesce(jsonb_agg(x.user_id ORDER BY x.user_id), '[]')
                                      FROM message_mentions x WHERE x.message_id = m.id),
                       'edited_at', coalesce(rfc3339(m.edited_at), p_payload ->> 'edited_at'))
                   || CASE WHEN m.deleted_at IS NULL THEN '{}' ELSE '{"deleted": true}'::jsonb END
              FROM messages m
             WHERE m.id = (p_payload -> 'message_id')::bigint AND m.conversation_id = p_conversation)
        WHEN 'message_deleted' THEN p_payload || jsonb_build_object(
            'thread', thread_json(p_conversation, (p_payload ->> 'parent_message_id')::bigint))
        ELSE p_payload END
$$;
