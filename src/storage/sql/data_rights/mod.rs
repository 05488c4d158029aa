//! The statements of data rights. Those of jobs run as the owner, in sessions that chose a rule set and said what they
//! are for ([`BEGIN_SESSION`]); requests run theirs as `chat_writer`.

pub mod catalogue;

/// $1 the search path, $2 the rule set.
pub const BEGIN_SESSION: &str = "SELECT set_config('search_path', $1, false), set_config('app.rules', $2, false), \
    set_config('app.data_rights', 'on', false)";

/// $1 id, $2 user, $3 when the account was made, or null, $4 who asks, $5 when, or null, $6 the audit row, or null.
pub const REQUEST_ERASURE: &str = "SELECT id, account_created_at, requested_at, is_new, sessions \
    FROM request_erasure($1, $2, $3, $4, $5, $6)";
/// $1 erasure → the state of a request.
pub const ERASURE_STATE: &str = "SELECT requested_at, completed_at, counts, receipt FROM erasures WHERE id = $1";
/// $1 id after which, $2 limit → erasures, for the ledger.
pub const ERASURES: &str = "SELECT id, user_id, account_created_at, requested_by, requested_at FROM erasures \
    WHERE id > $1 AND part_of IS NULL ORDER BY id LIMIT $2";
/// Of these ids those that the table has.
pub const KNOWN_ERASURES: &str = "SELECT id FROM erasures WHERE id = ANY ($1)";

/// $1 erasure → what is still to do.
pub const OPEN_ERASURE: &str = "SELECT e.id, e.user_id, e.account_created_at, e.requested_by, e.requested_at, \
        e.conversation_id, e.seq, EXISTS (SELECT FROM legal_holds h WHERE h.user_id = e.user_id \
            AND h.released_at IS NULL), e.part_of IS NOT NULL, \
        EXISTS (SELECT FROM erasures p WHERE p.part_of = e.id AND p.completed_at IS NULL) \
    FROM erasures e WHERE e.id = $1 AND e.completed_at IS NULL";
/// $1 user → counts of the rows that went.
pub const ERASE_ACCOUNT: &str = "SELECT erase_account($1)";
/// $1 user, $2 limit → removes files that no message has; returns how many.
pub const ERASE_FILES: &str = "SELECT count(*) FILTER (WHERE remove_file($1, f.id)) FROM ( \
    SELECT x.id FROM files x WHERE x.uploader_id = $1 AND NOT EXISTS ( \
        SELECT FROM message_files m WHERE m.file_id = x.id) ORDER BY x.id LIMIT $2) f";
/// $1 conversation after which, $2 user → the next one: its last seq, whether a message of the user is in it that must
/// go, whether the user is a member who can leave, whether a hold keeps it. Waits for the mutation that is under way, so
/// that no later entry has a name that was read before.
pub const NEXT_CONVERSATION: &str = "SELECT c.id, c.last_seq, EXISTS ( \
        SELECT FROM messages m WHERE m.conversation_id = c.id AND m.sender_id = $2 AND m.client_message_id IS NOT NULL \
           AND NOT starts_with(m.client_message_id, E'\\x01erased-')), \
        c.kind <> 'direct' AND EXISTS ( \
        SELECT FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = $2), \
        EXISTS (SELECT FROM legal_holds h WHERE h.conversation_id = c.id AND h.released_at IS NULL) \
    FROM conversations c WHERE c.id > $1 ORDER BY c.id LIMIT 1 FOR UPDATE OF c";
/// $1 user, $2 conversation, $3 after, $4 to.
pub const ERASE_LOG: &str = "SELECT mentions, reactions, changed FROM erase_log($1, $2, $3, $4)";
/// $1 erasure, $2 conversation, $3 seq, $4 counts that are added.
pub const SAVE_PROGRESS: &str = "UPDATE erasures e SET conversation_id = $2, seq = $3, counts = ( \
        SELECT coalesce(jsonb_object_agg(k, n), '{}') FROM ( \
            SELECT key AS k, sum(value::bigint) AS n FROM ( \
                SELECT * FROM jsonb_each_text(e.counts) UNION ALL SELECT * FROM jsonb_each_text($4)) x GROUP BY key) y) \
    WHERE e.id = $1";
/// $1 user, $2 actor → how many rows of the audit trail were cleared.
pub const ERASE_AUDIT: &str = "SELECT erase_audit_person($1, $2)";
/// The chain's name and its end, which a receipt states.
pub const AUDIT_HEAD: &str = "SELECT log_id::text, position FROM audit_head";
/// $1 erasure → its counts.
pub const ERASURE_COUNTS: &str = "SELECT counts FROM erasures WHERE id = $1";
/// $1 erasure, $2 receipt, $3 time.
pub const COMPLETE_ERASURE: &str = "UPDATE erasures SET completed_at = $3, receipt = $2, username = NULL WHERE id = $1";
