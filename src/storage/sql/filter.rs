//! The statements for the content filter. They run as `chat_writer`, without an `app.user_id`, so each checks by itself
//! what its user may do.

/// What changes when any rule does.
pub const FILTER_VERSION: &str = "SELECT coalesce(max(version), 0), count(*) FROM filter_rules";

/// Every rule; those of the server first.
pub const ALL_FILTER_RULES: &str = "
SELECT conversation_id, id, kind, definition, action, dry_run, enabled, exempt_from::text, mute_s FROM filter_rules
 ORDER BY conversation_id NULLS FIRST, position";

/// $1 conversation or none → its rules.
pub const FILTER_RULES_OF: &str = "
SELECT conversation_id, id, kind, definition, action, dry_run, enabled, exempt_from::text, mute_s FROM filter_rules
 WHERE conversation_id IS NOT DISTINCT FROM $1 ORDER BY position";

/// Two changes of one scope follow each other. $1 conversation, or 0.
pub const LOCK_FILTER_SCOPE: &str = "SELECT pg_advisory_xact_lock(1179210836, ($1::bigint & 2147483647)::int)";

/// $1 conversation or none.
pub const DELETE_FILTER_RULES: &str = "DELETE FROM filter_rules WHERE conversation_id IS NOT DISTINCT FROM $1";

/// $1 conversation or none, $2 the rules as JSON.
pub const INSERT_FILTER_RULES: &str = "
INSERT INTO filter_rules
    (position, id, conversation_id, kind, definition, action, dry_run, enabled, exempt_from, mute_s)
SELECT n, r ->> 'id', $1, r ->> 'kind', r -> 'definition', r ->> 'action', (r -> 'dry_run')::boolean,
       (r -> 'enabled')::boolean, (r ->> 'exempt_from')::member_role, (r ->> 'mute_s')::bigint
  FROM jsonb_array_elements($2) WITH ORDINALITY x(r, n)";

/// The number of conversations with rules, other than $1.
pub const CONVERSATIONS_WITH_RULES: &str = "
SELECT count(DISTINCT conversation_id) FROM filter_rules WHERE conversation_id <> $1";

/// $1 conversation, $2 user → the role; no row for others.
pub const ROLE_IN_CONVERSATION: &str = "
SELECT role::text, role >= 'moderator' AS moderates, role >= 'admin' AS administers
  FROM conversation_members WHERE conversation_id = $1 AND user_id = $2";

/// $1 user, $2 whether the user is an administrator of the server, $3 conversation or none, $4 after this id, $5 limit.
pub const MODERATION_QUEUE: &str = "
SELECT h.id, h.conversation_id, h.content, h.rule, h.state, h.created_at, h.edited_message_id, h.parent_message_id,
       (SELECT jsonb_agg(file_json(f) ORDER BY f.id) FROM files f WHERE f.id = ANY (h.files)
           AND f.uploader_id = h.sender_id AND f.conversation_id = h.conversation_id) AS attachments,
       u.id AS sender_id, u.username, u.display_name, c.name AS conversation_name,
       coalesce(h.edited_message_id, x.id) AS message_id
  FROM held_messages h JOIN users u ON u.id = h.sender_id JOIN conversations c ON c.id = h.conversation_id
  LEFT JOIN messages x ON h.state = 'flagged' AND x.conversation_id = h.conversation_id
       AND x.sender_id = h.sender_id AND x.client_message_id = h.client_message_id
 WHERE (h.state IN ('held', 'flagged') OR (h.state = 'approved' AND NOT h.sent)) AND h.id > $4
   AND ($3::bigint IS NULL OR h.conversation_id = $3)
   AND (($2 AND h.is_server_rule) OR EXISTS (
        SELECT FROM conversation_members m
         WHERE m.conversation_id = h.conversation_id AND m.user_id = $1 AND m.role >= 'moderator'))
 ORDER BY h.id LIMIT $5";

/// $1 id, $2 user, $3 whether the user is an administrator of the server, $4 the new state, $5 the session and $6
/// the source for the audit trail. The first decision counts, and is a row of the audit trail. The row is returned to
/// the same decision again, and to nobody who may not decide. A flagged text has been sent, so it is only taken off the
/// list.
pub const DECIDE_HELD: &str = "
WITH h AS (
    SELECT h.id, h.state FROM held_messages h
     WHERE h.id = $1 AND (($3 AND h.is_server_rule) OR EXISTS (
           SELECT FROM conversation_members m
            WHERE m.conversation_id = h.conversation_id AND m.user_id = $2 AND m.role >= 'moderator'))
       FOR UPDATE
), d AS (
    UPDATE held_messages x SET state = $4, decided_by = $2, decided_at = now(), sent = h.state = 'flagged'
      FROM h WHERE x.id = h.id AND h.state IN ('held', 'flagged')
    RETURNING x.id, x.files, x.sender_id, x.conversation_id
), f AS (
    -- The files of a rejected text go, unless a message has them.
    UPDATE files f SET expires_at = now() FROM d
     WHERE $4 = 'rejected' AND f.id = ANY (d.files) AND f.uploader_id = d.sender_id AND f.expires_at < 'infinity'
)
SELECT h.state AS state_before, EXISTS (SELECT FROM d) AS decided, x.conversation_id, x.sender_id, x.client_message_id,
       x.content, x.message_type::text, x.parent_message_id, x.edited_message_id, x.sent, x.files,
       x.kept_files,
       CASE WHEN EXISTS (SELECT FROM d) THEN append_audit(jsonb_build_array($6::jsonb || jsonb_build_object(
                'user_id', $2::bigint, 'session_id', $5::bigint, 'action', 'decide_held_text',
                'conversation_id', x.conversation_id, 'target_type', 'user', 'target_id', x.sender_id,
                'details', jsonb_build_object('rule', x.rule, 'before', jsonb_build_object('state', h.state),
                                              'after', jsonb_build_object('state', $4::text))))) END
  FROM h JOIN held_messages x ON x.id = h.id";

/// $1 id: the text was sent.
pub const HELD_WAS_SENT: &str = "UPDATE held_messages SET sent = true WHERE id = $1";

/// $1 user or none, $2 rule, $3 action.
pub const INSERT_FILTER_HIT: &str = "INSERT INTO filter_hits (user_id, rule, action) VALUES ($1, $2, $3)";

/// Matches are kept for a day, and at most the newest million of them.
pub const SWEEP_FILTER_HITS: &str = "
DELETE FROM filter_hits
 WHERE id IN (SELECT id FROM filter_hits WHERE created_at < now() - interval '1 day' ORDER BY created_at LIMIT 10000)
    OR id IN (SELECT id FROM filter_hits
               WHERE id < (SELECT max(id) - 1000000 FROM filter_hits) ORDER BY id LIMIT 10000)";

/// Decided and flagged texts are kept for 30 days.
pub const SWEEP_HELD: &str = "
DELETE FROM held_messages
 WHERE id IN (SELECT id FROM held_messages WHERE created_at < now() - interval '30 days' AND state <> 'held'
               ORDER BY created_at LIMIT 5000)";
