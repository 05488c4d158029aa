//! The statements of the audit trail. The account pool runs [`APPEND`] and [`READ`] as `chat_writer`; the others run as
//! the owner.

/// $1 milliseconds that this transaction waits for the end of the trail at most, as text.
pub const SET_WAIT_MS: &str = "SELECT set_config('app.audit_wait_ms', $1, true)";
/// $1 rows, as `commit/append_audit.sql` describes them.
pub const APPEND: &str = "SELECT append_audit($1)";
/// $1 filter → a page, as `read/read_audit.sql` describes both.
pub const READ: &str = "SELECT read_audit($1)";

/// Before the owner's statements: its connections do not choose a rule set. $1 is the set's search path.
pub const CHOOSE_RULES: &str = "SELECT set_config('search_path', $1, false)";
/// A change of the partitions waits for a lock this long, in milliseconds. Appends wait behind it.
pub const BOUND_LOCK_WAITS: &str = "SET LOCAL lock_timeout = 500";
/// One snapshot for a whole verification, however long it takes.
pub const BEGIN_VERIFICATION: &str =
    "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL enable_sort = off";

/// The end of the chain.
pub const HEAD: &str = "SELECT log_id::text, position, hash FROM audit_head";
/// $1 position → the hash of its row.
pub const ROOT_AT: &str = "SELECT hash FROM audit_logs WHERE position = $1";
/// The size of the newest checkpoint.
pub const NEWEST_CHECKPOINT: &str = "SELECT size, note FROM audit_checkpoints ORDER BY size DESC, closing LIMIT 1";
/// Every checkpoint, ascending.
pub const CHECKPOINTS: &str = "SELECT size, closing, note FROM audit_checkpoints ORDER BY size, closing";
/// $1 size, $2 note. Another process may have signed the same head.
pub const INSERT_CHECKPOINT: &str =
    "INSERT INTO audit_checkpoints (size, closing, note) VALUES ($1, false, $2) ON CONFLICT DO NOTHING";
/// Every row, in the order of the chain.
pub const ROWS: &str = "SELECT position, created_at, user_id, action, \
    target_type, target_id, conversation_id, session_id, ip_address, device, reason, details::text, salt, commitment, \
    previous_hash, hash FROM audit_logs ORDER BY position, created_at";

/// $1 months ahead → the names of the new partitions.
pub const MAKE_PARTITIONS: &str = "SELECT make_audit_partitions($1)";
/// $1 age in seconds → partitions that ended before.
pub const EXPIRED_PARTITIONS: &str = "SELECT names, ended_at, size, root \
    FROM expired_audit_partitions(now() - make_interval(secs => $1)) WHERE names IS NOT NULL";
/// $1 names, $2 size, $3 the closing checkpoint.
pub const DROP_PARTITIONS: &str = "SELECT drop_audit_partitions($1, $2, $3)";
