//! What an import writes. Each constant is the work of one transaction, and what it writes belongs together: a resumed
//! import finds a row only if everything that belongs to it is there too.

/// Blocks, bans and mutes, before the users are written.
pub const PLAN_SANCTIONS: &str = "
UPDATE s_blocks b SET reason = CASE
        WHEN x.user_id IS NULL OR y.user_id IS NULL THEN 'one of its users is unknown or was rejected'
        ELSE 'a user cannot block themselves' END
  FROM s_blocks s
  LEFT JOIN p_user_keys x ON x.src = s.src AND x.key = lower(s.blocker)
  LEFT JOIN p_user_keys y ON y.src = s.src AND y.key = lower(s.blocked)
 WHERE s.no = b.no AND (x.user_id IS NULL OR y.user_id IS NULL OR x.user_id = y.user_id);
CREATE UNLOGGED TABLE p_blocks AS
WITH everything AS (
    SELECT x.user_id AS blocker, y.user_id AS blocked, s.created_at
      FROM s_blocks s JOIN p_user_keys x ON x.src = s.src AND x.key = lower(s.blocker)
      JOIN p_user_keys y ON y.src = s.src AND y.key = lower(s.blocked) WHERE s.reason IS NULL
    UNION ALL
    SELECT b.user_id, CASE WHEN d.low = b.user_id THEN d.high ELSE d.low END, r.updated_at
      FROM s_rooms r JOIN p_direct d ON d.no = r.no JOIN p_user_keys b ON b.src = 1 AND b.key = r.blocked_by::text
     WHERE r.src = 5 AND r.is_blocked AND b.user_id IN (d.low, d.high)
)
SELECT blocker, blocked, min(created_at) AS created_at FROM everything GROUP BY blocker, blocked;
INSERT INTO mended SELECT 'rooms', src, line, id,
    'it is blocked, but not by one of its two users; the block was left out'
  FROM s_rooms r WHERE src = 5 AND is_blocked AND reason IS NULL AND NOT EXISTS (
       SELECT FROM p_direct d JOIN p_user_keys b ON b.src = 1 AND b.key = r.blocked_by::text
        WHERE d.no = r.no AND b.user_id IN (d.low, d.high));
CREATE UNLOGGED TABLE p_actions AS
SELECT a.no, a.src, a.line, a.id, u.user_id, m.user_id AS moderator, a.note, a.expires_at, a.created_at,
       coalesce(a.is_active, true) AND coalesce(a.expires_at > now(), true) AS is_active,
       CASE WHEN lower(a.action) IN ('ban', 'banned', 'suspend', 'permanent_ban', 'temporary_ban') THEN 'ban'
            WHEN lower(a.action) IN ('unban', 'unmute') THEN lower(a.action)
            WHEN lower(a.action) IN ('mute', 'muted') THEN 'mute' ELSE 'other' END AS action,
       nullif(btrim(a.room), '') IS NOT NULL AS has_room, g.conversation_id
  FROM s_actions a
  LEFT JOIN p_user_keys u ON u.src = 1 AND u.key = lower(a.target)
  LEFT JOIN p_user_keys m ON m.src = 1 AND m.key = lower(a.moderator)
  LEFT JOIN p_room_keys k ON k.src = CASE WHEN a.src = 2 THEN 1 ELSE 4 END AND k.key = lower(btrim(a.room))
  LEFT JOIN p_groups g ON g.grp = k.grp;
UPDATE s_actions s SET reason = CASE WHEN a.user_id IS NULL THEN 'its user is unknown or was rejected'
                                     ELSE 'its room is unknown or was rejected' END
  FROM p_actions a WHERE a.no = s.no AND (a.user_id IS NULL OR a.has_room AND a.conversation_id IS NULL);
DELETE FROM p_actions WHERE user_id IS NULL OR has_room AND conversation_id IS NULL;
INSERT INTO mended SELECT 'actions', src, line, id::text, 'it is over, or has no effect here; it was left out'
  FROM p_actions WHERE action = 'other' OR action IN ('ban', 'mute') AND NOT is_active;
-- The last word counts: what a later unban or unmute ended is over.
DELETE FROM p_actions a USING p_actions later
 WHERE later.action = 'un' || a.action AND later.user_id = a.user_id
   AND later.conversation_id IS NOT DISTINCT FROM a.conversation_id
   AND (later.created_at, later.no) > (a.created_at, a.no);
DELETE FROM p_actions WHERE NOT is_active OR action NOT IN ('ban', 'mute');
-- A ban that ends has no place here: the account stays active, and the report says so.
INSERT INTO mended SELECT 'actions', src, line, id::text,
       format('user %s is banned until %s; accounts are banned without end only, so it was left out', user_id,
           expires_at)
  FROM p_actions WHERE action = 'ban' AND conversation_id IS NULL AND expires_at IS NOT NULL;
UPDATE p_people p SET is_banned = true FROM p_actions a
 WHERE a.action = 'ban' AND a.conversation_id IS NULL AND a.expires_at IS NULL AND a.user_id = p.user_id;
UPDATE p_people p SET muted_until = a.until
  FROM (SELECT user_id, max(coalesce(least(expires_at, now() + interval '100 years'), now() + interval '100 years'))
               AS until FROM p_actions WHERE action = 'mute' AND conversation_id IS NULL GROUP BY user_id) a
 WHERE a.user_id = p.user_id;
UPDATE p_members p SET muted_until = a.until
  FROM (SELECT user_id, conversation_id,
               max(coalesce(least(expires_at, now() + interval '100 years'), now() + interval '100 years')) AS until
          FROM p_actions WHERE action = 'mute' AND conversation_id IS NOT NULL GROUP BY 1, 2) a
 WHERE a.user_id = p.user_id AND a.conversation_id = p.conversation_id;
INSERT INTO mended SELECT DISTINCT 'users', src, line, coalesce(label, wanted::text),
       'the account is banned, so it is not active'
  FROM p_people WHERE is_banned AND NOT existing;";

/// Everything that was rejected is in one table.
pub const PLAN_QUARANTINE: &str = "
INSERT INTO quarantine
SELECT 'users', src, line, coalesce(label, id::text), reason FROM s_users WHERE reason IS NOT NULL
UNION ALL SELECT 'rooms', src, line, id, reason FROM s_rooms WHERE reason IS NOT NULL
UNION ALL SELECT 'members', src, line, concat_ws('/', room, user_id), reason FROM s_members WHERE reason IS NOT NULL
UNION ALL SELECT 'messages', src, line, coalesce(label, id::text), reason FROM s_messages WHERE reason IS NOT NULL
UNION ALL SELECT 'reactions', src, line, coalesce(label, message_id::text), reason FROM s_reactions
     WHERE reason IS NOT NULL
UNION ALL SELECT 'mentions', src, line, message_id::text, reason FROM s_mentions WHERE reason IS NOT NULL
UNION ALL SELECT 'history', src, line, message_id::text, reason FROM s_history WHERE reason IS NOT NULL
UNION ALL SELECT 'blocks', src, line, concat_ws('/', blocker, blocked), reason FROM s_blocks WHERE reason IS NOT NULL
UNION ALL SELECT 'actions', src, line, id::text, reason FROM s_actions WHERE reason IS NOT NULL
UNION ALL SELECT 'files', src, line, coalesce(label, id::text), reason FROM s_files WHERE reason IS NOT NULL;";

/// $1 the hash of accounts without one.
pub const CREDENTIALS: &str = "INSERT INTO credentials (user_id, email, password_hash) \
    SELECT user_id, kept_email, coalesce(password_hash, $1) FROM p_people WHERE NOT existing ORDER BY user_id";
/// Before [`CREDENTIALS`].
pub const USERS: &str = "
INSERT INTO users (id, username, display_name, avatar_url, bio, is_active, created_at, muted_until)
SELECT user_id, name, display_name, avatar_url, left(bio, 500), is_active AND NOT is_banned, created_at, muted_until
  FROM p_people WHERE NOT existing ORDER BY user_id;";
/// After it.
pub const USER_IDS: &str = "
SELECT setval('user_ids', greatest((SELECT last_value FROM user_ids), (SELECT coalesce(max(id), 1) FROM users)));
INSERT INTO import_ids (source, kind, legacy_id, id)
SELECT (SELECT source FROM run), 'user:' || p.src, p.id::text, x.user_id
  FROM p_pool p JOIN p_people x USING (person) ON CONFLICT DO NOTHING;
INSERT INTO user_blocks (user_id, blocked_id, created_at)
SELECT b.blocker, b.blocked, coalesce(b.created_at, now()) FROM p_blocks b
 WHERE EXISTS (SELECT FROM p_people p WHERE p.user_id IN (b.blocker, b.blocked) AND NOT p.existing)
ON CONFLICT DO NOTHING;";

/// Conversations with their members.
pub const CONVERSATIONS: &str = "
INSERT INTO conversations (id, kind, name, description, owner_id, direct_low, direct_high, archived_at, created_at,
                           member_limit)
SELECT c.conversation_id, c.kind::conversation_kind, CASE WHEN c.kind <> 'direct' THEN left(c.name, 100) END,
       CASE WHEN c.kind <> 'direct' THEN left(c.description, 1000) END,
       CASE WHEN c.kind <> 'direct' THEN c.owner_id END, c.low, c.high,
       CASE WHEN c.is_archived THEN coalesce(c.updated_at, now()) END, coalesce(c.created_at, now()),
       CASE WHEN c.kind <> 'direct' AND c.max_members BETWEEN 1 AND 1000000 THEN c.max_members END
  FROM p_conversations c WHERE NOT c.existing ORDER BY c.conversation_id;
SELECT setval('conversation_numbers',
              greatest((SELECT last_value FROM conversation_numbers), (SELECT coalesce(max(id) >> 2, 1)
                  FROM conversations)));
INSERT INTO import_ids (source, kind, legacy_id, id)
SELECT (SELECT source FROM run), 'room:' || p.src, p.id, g.conversation_id
  FROM p_room_pool p JOIN p_groups g ON g.grp = p.grp ON CONFLICT DO NOTHING;
INSERT INTO conversation_bans (conversation_id, user_id, banned_by, reason, created_at)
SELECT DISTINCT ON (a.conversation_id, a.user_id) a.conversation_id, a.user_id, a.moderator, left(a.note, 500),
       coalesce(a.created_at, now())
  FROM p_actions a JOIN p_conversations c USING (conversation_id)
 WHERE a.action = 'ban' AND a.expires_at IS NULL AND NOT c.existing AND c.kind <> 'direct'
   AND a.user_id IS DISTINCT FROM c.owner_id
ON CONFLICT DO NOTHING;
INSERT INTO conversation_members (conversation_id, user_id, role, joined_at, read_seq, muted_until)
SELECT p.conversation_id, p.user_id, p.role::member_role, p.joined_at, p.read_seq, p.muted_until
  FROM p_members p
 WHERE NOT EXISTS (SELECT FROM conversation_bans b
                    WHERE b.conversation_id = p.conversation_id AND b.user_id = p.user_id)
 ORDER BY p.conversation_id, p.user_id;";

/// Before the first batch: nobody else may take an id of the messages.
pub const MESSAGE_IDS: &str = "
-- A job of retention that was cut short has left it. It would refuse large ids that are kept.
ALTER TABLE IF EXISTS messages_0 DROP CONSTRAINT IF EXISTS messages_end;
ALTER TABLE IF EXISTS message_search_0 DROP CONSTRAINT IF EXISTS messages_end;
SELECT setval('message_ids', greatest((SELECT last_value FROM message_ids),
                                      (SELECT coalesce(max(target_id), 1) FROM p_messages)));";
/// How many batches there are.
pub const BATCHES: &str = "SELECT coalesce(max(batch) + 1, 0), count(batch) FROM p_messages";
/// $1 a batch: its messages. The triggers count them and record mentions and threads.
pub const MESSAGES: &str = "
INSERT INTO messages (conversation_id, seq, id, sender_id, parent_message_id, ordinal, created_at, edited_at,
    deleted_at,
                      message_type, content, client_message_id)
SELECT p.conversation_id, p.seq, p.target_id, p.sender, r.target_id, p.ordinal, p.created_at, p.edited_at,
       CASE WHEN p.is_deleted THEN p.updated_at END,
       CASE lower(p.content_type) WHEN 'image' THEN 'image' WHEN 'file' THEN 'file' ELSE 'text' END::message_type,
       CASE WHEN p.is_deleted THEN '' ELSE s.content END, p.key
  FROM p_messages p JOIN s_messages s ON s.no = p.no LEFT JOIN p_messages r ON r.no = p.root
 WHERE p.batch = $1 ORDER BY p.conversation_id, p.seq";
/// $1 a batch: what belongs to its messages.
pub const OF_MESSAGES: &[&str] = &[
    "UPDATE conversations c SET last_seq = b.seq, last_ordinal = b.ordinal \
       FROM (SELECT conversation_id, max(seq) AS seq, max(ordinal) AS ordinal FROM p_messages \
              WHERE batch = $1 GROUP BY conversation_id) b WHERE c.id = b.conversation_id",
    // The trigger takes the present time for that of the last message.
    "UPDATE conversations c SET last_message_at = m.created_at \
       FROM p_messages m WHERE m.batch = $1 AND m.conversation_id = c.id AND m.seq = c.last_seq",
    "INSERT INTO message_edits (message_id, number, conversation_id, content, written_at) \
     SELECT p.target_id, e.number, p.conversation_id, e.content, e.written_at \
       FROM p_messages p JOIN p_edits e ON e.message = p.no WHERE p.batch = $1",
    "INSERT INTO message_reactions (message_id, emoji, user_id, conversation_id, created_at) \
     SELECT p.target_id, r.emoji, r.user_id, p.conversation_id, coalesce(r.created_at, p.created_at) \
       FROM p_messages p JOIN p_reactions r ON r.message = p.no WHERE p.batch = $1 ON CONFLICT DO NOTHING",
    "INSERT INTO message_mentions (message_id, user_id, conversation_id, seq, sender_id) \
     SELECT p.target_id, m.user_id, p.conversation_id, p.seq, p.sender \
       FROM p_messages p JOIN p_mentions m ON m.message = p.no WHERE p.batch = $1 ON CONFLICT DO NOTHING",
    "INSERT INTO message_pins (conversation_id, message_id, pinned_by, pinned_at, seq) \
     SELECT p.conversation_id, p.target_id, x.pinned_by, x.pinned_at, p.seq \
       FROM p_messages p JOIN p_pins x ON x.message = p.no WHERE p.batch = $1 ON CONFLICT DO NOTHING",
    // The triggers count every reply, and a deleted one does not count.
    "UPDATE thread_statistics t SET reply_count = t.reply_count - d.n, last_reply_at = coalesce(( \
            SELECT max(x.created_at) FROM messages x \
             WHERE x.parent_message_id = t.root_message_id AND x.deleted_at IS NULL), t.last_reply_at) \
       FROM (SELECT r.target_id AS root, count(*) AS n FROM p_messages p JOIN p_messages r ON r.no = p.root \
              WHERE p.batch = $1 AND p.is_deleted GROUP BY r.target_id) d WHERE t.root_message_id = d.root",
    "DELETE FROM thread_statistics t USING p_messages p, p_messages r \
      WHERE p.batch = $1 AND r.no = p.root AND t.root_message_id = r.target_id AND t.reply_count <= 0",
    "UPDATE thread_followers f SET read_seq = greatest(f.read_seq, m.read_seq) \
       FROM (SELECT DISTINCT r.target_id AS root FROM p_messages p JOIN p_messages r ON r.no = p.root \
              WHERE p.batch = $1) x, conversation_members m \
      WHERE f.root_message_id = x.root AND m.conversation_id = f.conversation_id AND m.user_id = f.user_id",
];
/// At the end, if something was written or nothing is recorded yet: $1 the summary, $2 the beginning, $3 whether
/// something was written.
pub const FINISH: &str = "INSERT INTO import_runs (source, started_at, summary) \
    SELECT source, $2::text::timestamptz, $1::jsonb FROM run \
     WHERE $3::boolean OR NOT EXISTS (SELECT FROM import_runs r WHERE r.source = run.source)";
/// What the planner of the server needs of the new rows.
pub const ANALYZE: &str = "ANALYZE users, credentials, conversations, conversation_members, messages, \
    message_mentions, \
    message_edits, message_reactions, thread_statistics, thread_followers";
/// Sources whose users are other people than those of the dump: it is of another database.
pub const STRANGERS: &str = "
SELECT count(*) FILTER (WHERE known), count(*) FILTER (WHERE known AND NOT same)
  FROM (SELECT p.existing AS known,
               lower(u.username) = lower(p.name) OR coalesce(lower(c.email) = lower(p.email), false) AS same
          FROM p_people p JOIN users u ON u.id = p.user_id JOIN credentials c ON c.user_id = u.id
         WHERE p.existing) x";
