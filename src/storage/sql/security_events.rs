//! The statements of the security events. The account pool runs them as `chat_writer`.

/// $1 findings, $2 position in the audit trail → sessions that a response revoked; see
/// `commit/record_security_events.sql`.
pub const RECORD: &str = "SELECT record_security_events($1, $2)";
/// $1 event, $2 what the audit rows have → how many responses this ended.
pub const END_RESPONSES: &str = "SELECT end_event_responses($1, $2)";
/// $1 filter → a page, as `read/read_security_events.sql` describes both.
pub const READ: &str = "SELECT read_security_events($1)";
/// How far the detectors have read the audit trail.
pub const PROGRESS: &str = "SELECT position FROM security_progress";
/// $1 position, $2 most rows → what follows in the audit trail.
pub const AUDIT_TAIL: &str = "SELECT chain_position, user_id, action, target_id, conversation_id, details, hash, \
    previous_hash FROM audit_tail($1, $2)";
