-- An event as a replay of the log shows it. The log stores no texts, so an edit shows the present text, a deletion the
-- present state of its thread, and a file's event the file if it is still there.
-- In PL/pgSQL, whose plans are kept: planning a read of all partitions takes longer than the read.

CREATE FUNCTION event_payload(p_conversation bigint, p_kind text, p_payload jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE p_kind
        WHEN 'message_edited' THEN p_payload || (
            SELECT jsonb_build_object('content', s.content, 'mentions', s.mentions, 'attachments', s.attachments,
                                      'edited_at', coalesce(s.edited_at, p_payload ->> 'edited_at'))
                   || CASE WHEN s.deleted THEN '{"deleted": true}'::jsonb ELSE '{}' END
              FROM shown_messages s
             WHERE s.message_id = (p_payload -> 'message_id')::bigint AND s.conversation_id = p_conversation)
        WHEN 'message_deleted' THEN p_payload || jsonb_build_object(
            'thread', thread_json(p_conversation, (p_payload ->> 'parent_message_id')::bigint))
        WHEN 'file_updated' THEN p_payload || coalesce((
            SELECT jsonb_build_object('file', file_json(f)) FROM files f
             WHERE f.id = (p_payload -> 'file_id')::bigint), '{}')
        ELSE p_payload END;
END $$;
