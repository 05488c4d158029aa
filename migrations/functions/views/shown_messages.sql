-- A message as the protocol shows it: the one text of its shape. Every column is a field of MessageRecord
-- (src/mesh/record.rs) and of Message in docs/asyncapi.yaml; conversation_id is the number here. Histories read its
-- rows as JSON (src/storage/sql.rs), look-ups read message_json.
-- A view becomes part of the calling statement and is planned once; a function would be executed for each message. It
-- runs with the caller's rights and row level security (security_invoker).
-- needs: message_reactions_json rfc3339 user_json

CREATE VIEW shown_messages WITH (security_invoker = true) AS
SELECT m.id AS message_id, m.conversation_id, m.seq, user_json(u) AS sender,
       CASE WHEN m.deleted_at IS NULL THEN m.content ELSE '' END AS content, m.message_type,
       CASE WHEN m.deleted_at IS NULL THEN m.system END AS system, m.parent_message_id,
       CASE WHEN t.reply_count IS NOT NULL THEN jsonb_build_object(
           'reply_count', t.reply_count, 'last_reply_at', rfc3339(t.last_reply_at)) END AS thread,
       coalesce((SELECT array_agg(x.user_id ORDER BY x.user_id) FROM message_mentions x
                  WHERE x.message_id = m.id), '{}') AS mentions,
       CASE WHEN (SELECT true FROM message_reactions x WHERE x.message_id = m.id LIMIT 1)
            THEN message_reactions_json(m.id) ELSE '[]' END AS reactions,
       coalesce((SELECT true FROM message_pins p
                  WHERE p.conversation_id = m.conversation_id AND p.message_id = m.id LIMIT 1), false) AS pinned,
       rfc3339(m.edited_at) AS edited_at, m.deleted_at IS NOT NULL AS deleted, '[]'::jsonb AS attachments,
       rfc3339(m.created_at) AS created_at,
       CASE WHEN m.sender_id = app_user_id() AND NOT starts_with(m.client_message_id, E'\x01')
            THEN m.client_message_id END AS client_message_id
  FROM messages m JOIN users u ON u.id = m.sender_id LEFT JOIN thread_statistics t ON t.root_message_id = m.id;

GRANT SELECT ON shown_messages TO chat_app;
