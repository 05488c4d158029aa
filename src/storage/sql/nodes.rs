//! The statements of the cluster thread. Its own pool runs them as `chat_writer`.

/// $1 conversations → their newest events.
pub const HEADS: &str = "SELECT id, last_seq FROM conversations WHERE id = ANY ($1)";
/// $1 conversations, $2 users, in pairs → whether each user is a member now: the event that made it one, or else the
/// newest event.
pub const MEMBERSHIPS: &str = "SELECT u.user_id, c.id, m.joined_seq, c.last_seq \
    FROM unnest($1::bigint[], $2::bigint[]) AS u(conversation_id, user_id) \
    JOIN conversations c ON c.id = u.conversation_id \
    LEFT JOIN conversation_members m ON m.conversation_id = c.id AND m.user_id = u.user_id";
/// The servers that use this database: see [`super::server_lock`].
pub const SERVERS: &str = "SELECT count(DISTINCT l.pid) FROM pg_locks l \
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 1986361953 AND l.objid = 1 AND l.objsubid = 2 \
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())";
/// $1 users → their sessions that were revoked lately: longer ago than any node reads behind.
pub const REVOKED_SESSIONS: &str =
    "SELECT id FROM sessions WHERE user_id = ANY ($1) AND revoked_at > now() - interval '1 hour'";
