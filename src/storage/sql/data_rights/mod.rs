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
        e.conversation_id, e.seq, EXISTS (SELECT FROM legal_holds h WHERE h.released_at IS NULL AND h.user_id IN ( \
            e.user_id, (SELECT w.user_id FROM erasures w WHERE w.id = e.part_of))), e.part_of IS NOT NULL, \
        EXISTS (SELECT FROM erasures p WHERE p.part_of = e.id AND p.completed_at IS NULL) \
    FROM erasures e WHERE e.id = $1 AND e.completed_at IS NULL";
/// $1 user → counts of the rows that went.
pub const ERASE_ACCOUNT: &str = "SELECT erase_account($1)";
/// $1 user, $2 limit → removes files that no message has; returns how many.
pub const ERASE_FILES: &str = "SELECT count(*) FILTER (WHERE remove_file($1, f.id)) FROM ( \
    SELECT x.id FROM files x WHERE x.uploader_id = $1 AND NOT EXISTS ( \
        SELECT FROM message_files m WHERE m.file_id = x.id) AND NOT is_on_hold(x.conversation_id) \
    ORDER BY x.id LIMIT $2) f";
/// $1 the least number, $2 user → the next conversation: its last seq, whether a message of the user is in it that must
/// go, whether the user is a member who can leave, whether a hold keeps it, whether the user owns it. Waits
/// for the mutation that is under way, so that no later entry has a name that was read before.
pub const NEXT_CONVERSATION: &str = "SELECT c.id, c.last_seq, EXISTS ( \
        SELECT FROM messages m WHERE m.conversation_id = c.id AND m.sender_id = $2 AND m.client_message_id IS NOT NULL \
           AND NOT starts_with(m.client_message_id, E'\\x01erased-')), \
        c.kind <> 'direct' AND EXISTS ( \
        SELECT FROM conversation_members m WHERE m.conversation_id = c.id AND m.user_id = $2), \
        is_on_hold(c.id), coalesce(c.owner_id = $2, false) \
    FROM conversations c WHERE c.id >= $1 ORDER BY c.id LIMIT 1 FOR UPDATE OF c";
/// $1 user, $2 conversation, $3 after, $4 to.
pub const ERASE_LOG: &str = "SELECT mentions, reactions, changed FROM erase_log($1, $2, $3, $4)";
/// $1 user, $2 conversation → whether something of the user is in it.
pub const NAMES_PERSON: &str = "SELECT names_person($1, $2)";
/// $1 conversation → whether nobody was left in it, and its name was removed.
pub const ERASE_EMPTY_ROOM: &str = "SELECT erase_empty_room($1)";
/// $1 erasure, $2 conversation, $3 seq, $4 counts that are added.
pub const SAVE_PROGRESS: &str = "UPDATE erasures e SET conversation_id = $2, seq = $3, \
        counts = added_counts(e.counts, $4) \
    WHERE e.id = $1";
/// $1 user, $2 actor → how many rows of the audit trail were cleared.
pub const ERASE_AUDIT: &str = "SELECT erase_audit_person($1, $2)";
/// The chain's name and its end, which a receipt states.
pub const AUDIT_HEAD: &str = "SELECT log_id::text, position FROM audit_head";
/// $1 erasure → its counts.
pub const ERASURE_COUNTS: &str = "SELECT counts FROM erasures WHERE id = $1";
/// $1 erasure, $2 receipt, $3 time.
pub const COMPLETE_ERASURE: &str = "UPDATE erasures SET completed_at = $3, receipt = $2, username = NULL WHERE id = $1";

/// $1 conversation after which, $2 days, $3 limit.
pub const DUE_HISTORY: &str = "SELECT conversation_id, actor_id, to_seq FROM due_history($1, $2, $3)";
/// $1 conversation after which.
pub const NEXT_CLEARED: &str = "SELECT c.id FROM conversations c WHERE c.id > $1 AND c.cleared_seq > 0 AND ( \
        EXISTS (SELECT FROM messages m WHERE m.conversation_id = c.id AND m.seq <= c.cleared_seq) \
        OR EXISTS (SELECT FROM conversation_events e WHERE e.conversation_id = c.id AND e.seq <= c.cleared_seq)) \
        AND NOT is_on_hold(c.id) \
    ORDER BY c.id LIMIT 1";
/// $1 conversation, $2 limit.
pub const REMOVE_CLEARED: &str = "SELECT removed, more FROM remove_cleared($1, $2)";
/// $1 days → the first ids of the present range of message ids and of the next one, if it is due, and the partitions of
/// the present one. The next one is null if there can be no more.
pub const DUE_RANGE: &str = "SELECT present_id, next_id, partition_name('message_search', present_id), \
    partition_name('messages', present_id) FROM due_message_partition($1)";
/// $1 the first id of a range.
pub const MAKE_RANGE: &str = "SELECT make_message_partition($1)";
/// $1 and $2 the first ids of the present range and of the next one.
pub const DIVIDE_SEARCH: &str = "SELECT divide_partition('message_search', $1, $2)";
/// $1 and $2 the first ids of the present range and of the next one.
pub const OPEN_RANGE: &str = "SELECT open_message_partition($1, $2)";
/// The sequence of message ids goes to the present range, if it is behind it.
pub const MOVE_MESSAGE_IDS: &str = "SELECT move_message_ids()";
/// $1 range after which, $2 days, or null → the range that goes: its first id, that of the next one, and the states of
/// its partitions with their names.
pub const DROP_RANGE: &str = "SELECT first_id, next_id, messages_state, partition_name('messages', first_id), \
    search_state, partition_name('message_search', first_id) FROM drop_message_partition($1, $2)";
/// $1 a partition → its bytes, with its indexes.
pub const SIZE_OF_PARTITION: &str = "SELECT pg_total_relation_size(($1::text)::regclass)";
/// $1 and $2 the first ids of a dropped range and of the next one, $3 limit → whether there is more.
pub const FORGET_MESSAGES: &str = "SELECT forget_messages($1, $2, $3)";
/// $1 conversation after which, $2 limit → the last one, or null.
pub const RECOUNT_MESSAGES: &str = "SELECT recount_messages($1, $2)";
/// $1 whether the server has a limit. The job of retention, if there is any limit, unless the job is there.
pub const PLAN_RETENTION: &str = "INSERT INTO jobs (kind, subject) SELECT 'apply_retention', 'all' \
    WHERE $1 OR EXISTS (SELECT FROM conversations c WHERE c.retention_days IS NOT NULL) \
          OR EXISTS (SELECT FROM message_partitions p WHERE p.dropped_at IS NOT NULL) ON CONFLICT DO NOTHING";

/// $1 user, $2 conversation, $3 reason, $4 audit row → the hold.
pub const CREATE_HOLD: &str = "SELECT create_hold($1, $2, $3, $4)";
/// $1 hold, $2 administrator, $3 audit row → whether it was in force.
pub const RELEASE_HOLD: &str = "SELECT release_hold($1, $2, $3)";
/// $1 hold before which, $2 limit, $3 audit row, which this read appends. The newest first.
pub const HOLDS: &str = "SELECT hold FROM read_holds($1, $2, $3) hold";

/// $1 id, $2 user, $3 the audit row → the id of the copy that is being made.
pub const REQUEST_EXPORT: &str = "SELECT request_export($1, $2, $3)";
/// $1 user → the copies of a user, the newest first.
pub const EXPORTS: &str = "SELECT x.id, x.requested_at, x.completed_at, x.size, x.expires_at, x.sha256, b.number \
    FROM data_exports x LEFT JOIN blobs b ON b.sha256 = x.sha256 WHERE x.user_id = $1 \
      AND (x.completed_at IS NULL OR x.sha256 IS NOT NULL) ORDER BY x.requested_at DESC LIMIT 20";
/// $1 export → the user whose data it has, if it is still to be made.
pub const OPEN_EXPORT: &str = "SELECT user_id FROM data_exports WHERE id = $1 AND completed_at IS NULL";
/// $1 export, $2 SHA-256, $3 number, $4 size, $5 seconds that it is kept.
pub const COMPLETE_EXPORT: &str = "SELECT complete_export($1, $2, $3, $4, make_interval(secs => $5))";
/// $1 limit.
pub const EXPIRE_EXPORTS: &str = "SELECT expire_exports($1)";

/// One snapshot for a whole copy, however long it takes.
pub const BEGIN_EXPORT: &str = "SET statement_timeout = 0; BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// $1 user → the content of files that the user has uploaded, and of the picture.
pub const EXPORTED_FILES: &str = "SELECT 'files/' || f.id || '-' || f.name, f.sha256, b.number, b.size \
    FROM files f JOIN blobs b ON b.sha256 = f.sha256 WHERE f.uploader_id = $1 AND f.state = 'ready' \
    UNION ALL SELECT 'picture.webp', a.sha256, b.number, b.size \
    FROM user_avatars a JOIN blobs b ON b.sha256 = a.sha256 WHERE a.user_id = $1 ORDER BY 1";

/// Copies the rows that a query has as JSON, a line each. JSON has no control characters, so nothing is quoted.
fn copy_lines(query: &str) -> String {
    format!(
        "COPY (SELECT row_to_json(x)::text FROM ({query}) x) TO STDOUT \
         WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')"
    )
}

/// The rows of a table that are about a user.
#[must_use]
pub fn copy_of_table(table: &catalogue::CataloguedTable, user: i64) -> String {
    let (rows, columns) = (table.rows.replace("$1", &user.to_string()), table.exported.join(", "));
    // Requests that no room has received look like the others, here too: `mutate_request_to_join`.
    let from = match table.name {
        "conversation_join_requests" => {
            format!(
                "(SELECT {columns} FROM conversation_join_requests UNION ALL SELECT {columns} FROM unheard_requests)"
            )
        }
        name => name.to_owned(),
    };
    copy_lines(&format!("SELECT {columns} FROM {from} t WHERE {rows} ORDER BY 1"))
}

/// What a user has written, to be read: conversation after conversation.
#[must_use]
pub fn copy_of_texts(user: i64) -> String {
    copy_lines(&format!(
        "SELECT conversation_text_id(m.conversation_id) AS conversation, coalesce(c.name, o.display_name) AS name, \
                rfc3339(m.created_at) AS at, m.content, m.edited_at IS NOT NULL AS edited, \
                (SELECT json_agg(json_build_object('id', f.id, 'name', f.name) ORDER BY y.position) \
                   FROM message_files y JOIN files f ON f.id = y.file_id WHERE y.message_id = m.id) AS files \
           FROM messages m JOIN conversations c ON c.id = m.conversation_id \
           LEFT JOIN users o ON c.kind = 'direct' AND o.id = CASE WHEN c.direct_low = {user} THEN c.direct_high \
                ELSE c.direct_low END \
          WHERE m.sender_id = {user} AND m.deleted_at IS NULL AND m.message_type <> 'system' \
          ORDER BY m.conversation_id, m.seq"
    ))
}
