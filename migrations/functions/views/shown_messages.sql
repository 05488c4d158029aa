-- A message as the protocol shows it. A view becomes part of the calling statement and is planned once; a function
-- would be executed for each message. It runs with the caller's rights and row level security (security_invoker).
-- needs: conversation_text_id message_reactions_json rfc3339 user_json

CREATE VIEW shown_messages WITH (security_invoker = true) AS
SELECT m.id, m.content, jsonb_build_object(
        'message_id', m.id, 'conversation_id', conversation_text_id(m.conversation_id), 'seq', m.seq,
        'sender', user_json(u), 'content', CASE WHEN m.deleted_at IS NULL THEN m.content ELSE '' END,
        'message_type', m.message_type, 'parent_message_id', m.parent_message_id,
        'mentions', coalesce((SELECT jsonb_agg(x.user_id ORDER BY x.user_id) FROM message_mentions x
                               WHERE x.message_id = m.id), '[]'),
        'reactions', CASE WHEN (SELECT true FROM message_reactions x WHERE x.message_id = m.id LIMIT 1)
                          THEN message_reactions_json(m.id) ELSE '[]' END,
        'pinned', coalesce((SELECT true FROM message_pins p
                             WHERE p.conversation_id = m.conversation_id AND p.message_id = m.id LIMIT 1), false),
        'edited_at', rfc3339(m.edited_at), 'deleted', m.deleted_at IS NOT NULL, 'attachments', '[]'::jsonb,
        'created_at', rfc3339(m.created_at))
        || CASE WHEN t.reply_count IS NOT NULL THEN jsonb_build_object('thread', jsonb_build_object(
               'reply_count', t.reply_count, 'last_reply_at', rfc3339(t.last_reply_at))) ELSE '{}' END
        || CASE WHEN m.sender_id = app_user_id() AND NOT starts_with(m.client_message_id, E'\x01')
                THEN jsonb_build_object('client_message_id', m.client_message_id) ELSE '{}' END
        || CASE WHEN m.system IS NOT NULL AND m.deleted_at IS NULL
                THEN jsonb_build_object('system', m.system) ELSE '{}' END AS json
  FROM messages m JOIN users u ON u.id = m.sender_id LEFT JOIN thread_statistics t ON t.root_message_id = m.id;

GRANT SELECT ON shown_messages TO chat_app;
