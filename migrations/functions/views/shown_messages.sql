-- A message as the protocol shows it: the one text of its shape. Every column is a field of MessageRecord
-- (src/mesh/record.rs) and of Message in docs/asyncapi.yaml; conversation_id is the number here. Histories read its
-- rows as JSON (src/storage/sql.rs), look-ups read message_json.
-- A view becomes part of the calling statement and is planned once; a function would be executed for each message. It
-- runs with the caller's rights and row level security (security_invoker).
-- needs: rfc3339 user_json attachments_json

CREATE VIEW shown_messages WITH (security_invoker = true) AS
SELECT m.id AS message_id, m.conversation_id, m.seq, u.sender,
       CASE WHEN m.deleted_at IS NULL THEN m.content ELSE '' END AS content, m.message_type,
       CASE WHEN m.deleted_at IS NULL THEN m.system END AS system, m.parent_message_id,
       CASE WHEN t.reply_count IS NOT NULL THEN jsonb_build_object(
           'reply_count', t.reply_count, 'last_reply_at', rfc3339(t.last_reply_at)) END AS thread,
       -- Without an @ there is no mention (record_mentions), and most messages need no look-up.
       CASE WHEN strpos(m.content, '@') > 0
            THEN coalesce((SELECT array_agg(x.user_id ORDER BY x.user_id) FROM message_mentions x
                            WHERE x.message_id = m.id), '{}')
            ELSE '{}' END AS mentions,
       CASE WHEN (SELECT true FROM message_reactions x WHERE x.message_id = m.id LIMIT 1)
            THEN (SELECT jsonb_agg(jsonb_build_object('emoji', r.emoji, 'count', r.n, 'me', r.mine)
                                   ORDER BY r.first_at, r.emoji)
                    FROM (SELECT x.emoji, count(*) AS n, bool_or(x.user_id = app_user_id()) AS mine,
                                 min(x.created_at) AS first_at
                            FROM message_reactions x WHERE x.message_id = m.id GROUP BY x.emoji) r)
            ELSE '[]' END AS reactions, -- the oldest emoji first
       coalesce((SELECT true FROM message_pins p
                  WHERE p.conversation_id = m.conversation_id AND p.message_id = m.id LIMIT 1), false) AS pinned,
       rfc3339(m.edited_at) AS edited_at, m.deleted_at IS NOT NULL AS deleted,
       CASE WHEN (SELECT true FROM message_files x WHERE x.message_id = m.id LIMIT 1)
            THEN attachments_json(m.id) ELSE '[]' END AS attachments,
       rfc3339(m.created_at) AS created_at,
       CASE WHEN m.sender_id = app_user_id() AND NOT starts_with(m.client_message_id, E'\x01')
            THEN m.client_message_id END AS client_message_id
  FROM messages m
 -- OFFSET 0 keeps this apart, so that PostgreSQL memoizes the JSON of each sender.
 CROSS JOIN LATERAL (SELECT user_json(x) AS sender FROM users x WHERE x.id = m.sender_id OFFSET 0) u
  LEFT JOIN thread_statistics t ON t.root_message_id = m.id;

GRANT SELECT ON shown_messages TO chat_app;
