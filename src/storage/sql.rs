//! Every statement of the running server; account statements in [`accounts`], those of the content filter in
//! [`filter`].

pub mod accounts;
pub mod audit;
pub mod avatars;
pub mod backup;
pub mod bots;
pub mod data_rights;
pub mod export;
pub mod file_check;
pub mod files;
pub mod filter;
pub mod import;
pub mod incoming_webhooks;
pub mod jobs;
pub mod logins;
pub mod nodes;
pub mod rule_sets;
pub mod security_events;
pub mod server_lock;
pub mod standing;
pub mod two_factor;
pub mod webhooks;

/// A batch of messages; see `migrations/functions/commit/commit_messages.sql`.
pub const COMMIT_MESSAGES: &str = "SELECT ord, verdict, message_id, seq, created_at, parent_message_id, username, \
    display_name, is_bot, retry_after_ms, ordinal, access_epoch, is_free \
    FROM commit_messages($1, $2, $3, $4, $5, $6, $7)";
/// A batch of messages whose verdicts are known; see `migrations/functions/commit/commit_known.sql`.
pub const COMMIT_KNOWN: &str = "SELECT rooms, seqs, message_ids, created_at \
    FROM commit_known($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// What the triggers recorded for these messages: who is mentioned, and the thread that a reply is in.
pub const MENTIONS_AND_THREADS: &str =
    "SELECT message_id, mentions, root_id, reply_count, last_reply_at, attachments FROM mentions_and_threads($1)";

/// A run of any other mutations; the outcome's columns are those of the type `mutation_outcome`.
pub const APPLY_MUTATIONS: &str = "SELECT ord, verdict, detail, retry_after_ms, details, (outcome).* \
    FROM apply_mutations($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// A read's transaction: one snapshot for all of its statements.
pub const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
/// Commits a read's transaction.
pub const COMMIT: &str = "COMMIT";
/// Who reads, and the milliseconds that each statement has; for this transaction only.
pub const SET_READER: &str = "SELECT set_config('app.user_id', $1, true), set_config('statement_timeout', $2, true)";

/// Whether the user may read a conversation.
pub const ACCESS: &str = "SELECT app_access($1)";

/// Messages after a seq, ascending, each with the state of the thread that it replies to.
pub const MESSAGES_AFTER: &str = "SELECT message, reply_count, last_reply_at FROM messages_after($1, $2, $3)";
/// Messages before a seq, descending.
pub const MESSAGES_BEFORE: &str = "SELECT message, reply_count, last_reply_at FROM messages_before($1, $2, $3)";
/// The seq of a message of this conversation.
pub const SEQ_OF_MESSAGE: &str = "SELECT seq FROM messages WHERE conversation_id = $1 AND id = $2";
/// Mutations that are not messages after a seq, ascending.
pub const EVENTS_AFTER: &str = "SELECT seq, kind, event_payload(conversation_id, kind, payload) AS payload, created_at \
    FROM conversation_events \
    WHERE conversation_id = $1 AND seq > $2 ORDER BY seq LIMIT $3";

/// Indexes the next messages of a conversation for the search: so many at most, and so many bytes. Whether it may have
/// more, how old the oldest message is in seconds that is still not indexed, and how many PostgreSQL could not index.
pub const INDEX_MESSAGES: &str = "SELECT has_more, lag_s, passed_over FROM index_messages($1, $2, $3)";
/// Indexes a conversation's next message, or passes it over. The id of a message that was passed over.
pub const PASS_MESSAGE_OVER: &str = "SELECT pass_message_over($1)";
/// Conversations with messages that are not indexed yet, and the age of the oldest in seconds.
pub const UNINDEXED_CONVERSATIONS: &str = "SELECT conversation_id, age_s FROM unindexed_conversations($1, $2)";

/// `read_<name>(arguments)`; the name is one of the server's own table.
pub const LOOK_UP: &str = "SELECT look_up($1, $2)";
/// The conversation of a message that the user may see.
pub const CONVERSATION_OF_MESSAGE: &str = "SELECT conversation_of_message($1)";
/// The conversation that an invitation leads to.
pub const CONVERSATION_OF_INVITE: &str = "SELECT conversation_of_invite($1)";

/// Up to where retention has removed the log, and its end.
pub const CLEARED: &str = "SELECT cleared_seq, last_seq FROM conversations WHERE id = $1";

/// The newest seq of those of the given conversations in which the user is a member.
pub const HEADS: &str = "SELECT c.id, c.last_seq FROM conversations c \
    WHERE c.id = ANY ($1) AND c.id IN (SELECT app_conversations())";

/// The user's conversations as `welcome` lists them, those with the newest message first.
pub const WELCOME_CONVERSATIONS: &str = "SELECT c.id, c.kind::text, coalesce(c.name, other.display_name), c.last_seq, \
        m.read_seq, m.role::text \
    FROM conversation_members m JOIN conversations c ON c.id = m.conversation_id \
    LEFT JOIN users other ON c.kind = 'direct' \
        AND other.id = CASE WHEN c.direct_low = app_user_id() THEN c.direct_high ELSE c.direct_low END \
    WHERE m.user_id = app_user_id() ORDER BY c.last_message_at DESC NULLS LAST, c.id LIMIT $1";

/// A page of the user's conversations.
pub const LIST_CONVERSATIONS: &str = "SELECT c.id, c.json FROM shown_conversations(app_user_id()) c \
    WHERE c.id IN (SELECT app_conversations()) AND c.id > $1 ORDER BY c.id LIMIT $2";
/// One conversation that the user may see.
pub const GET_CONVERSATION: &str = "SELECT c.json FROM shown_conversations(app_user_id()) c WHERE c.id = $1";
/// A page of a conversation's members. A block hides the read marker.
pub const LIST_MEMBERS: &str = "SELECT u.id, user_json(u) || jsonb_build_object('role', m.role, 'joined_at', \
        rfc3339(m.joined_at), 'avatar_url', u.avatar_url, 'muted_until', rfc3339(m.muted_until), 'read_seq', \
        CASE WHEN u.id = app_user_id() OR (NOT u.receipts_private AND app_may_see(u.id)) THEN m.read_seq END) \
        || CASE WHEN u.is_bot THEN '{\"bot\": true}' ELSE '{}' END::jsonb \
    FROM conversation_members m JOIN users u ON u.id = m.user_id \
    WHERE m.conversation_id = $1 AND u.id > $2 ORDER BY u.id LIMIT $3";

/// $1 session, $2 digest of a bot's token, instead → the user of a session that is not revoked, whether the user has
/// two-factor authentication, and what a bot's token permits until when. The owner of a bot must be active too.
pub const OPEN_SESSION: &str = "SELECT u.id, u.username, u.display_name, u.avatar_url, u.bio, u.created_at, \
        EXISTS (SELECT FROM two_factor f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL), s.id, u.is_bot, \
        t.scopes, t.conversation_ids, extract(epoch FROM t.expires_at)::bigint \
    FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN bot_tokens t ON t.session_id = s.id \
    WHERE s.id = coalesce((SELECT x.session_id FROM bot_tokens x WHERE x.token_hash = $2), $1) \
      AND s.revoked_at IS NULL AND u.is_active AND (NOT u.is_bot OR t.expires_at > now() AND EXISTS ( \
          SELECT FROM bots b JOIN users o ON o.id = b.owner_id WHERE b.user_id = u.id AND o.is_active))";
/// $1 digest of a bot's token: it is used now, to the minute.
pub const NOTE_BOT_TOKEN: &str = "UPDATE bot_tokens SET last_used_at = now() WHERE token_hash = $1 \
    AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')";
/// Uses a ticket up; no row when another connection was faster.
pub const SPEND_TICKET: &str = "INSERT INTO spent_tickets (ticket_id, user_id, expires_at) \
    VALUES ($1, app_user_id(), to_timestamp($2::bigint)) ON CONFLICT DO NOTHING RETURNING ticket_id";

/// The settings that durability depends on.
pub const SAFETY: &str = "SELECT current_setting('fsync'), current_setting('synchronous_commit'), \
    current_setting('full_page_writes'), current_setting('server_version_num')::int";
/// Does nothing: for measuring a round trip.
pub const ROUND_TRIP: &str = "SELECT 1";
/// PostgreSQL's clock, in seconds since 1970.
pub const CLOCK: &str = "SELECT extract(epoch FROM clock_timestamp())::float8";
/// Tables with users' data whose row level security is not forced.
pub const UNFORCED_TABLES: &str = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = \
    c.relnamespace WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> 'refinery_schema_history' \
      AND NOT (c.relrowsecurity AND c.relforcerowsecurity)";
