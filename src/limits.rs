//! Every limit of the server in one place, with compile-time assertions for the relations between them.
//!
//! The design fixes the constants. The configuration sets [`Limits`], which `welcome.limits` reports to clients. Names
//! end with their unit.

use serde::Serialize;

/// Request head: maximum size in bytes (8 KiB in the wire contract).
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Request head: maximum number of header fields.
pub const REQUEST_HEADERS_MAX: usize = 64;
/// Request head: time until it must be complete.
pub const REQUEST_HEAD_TIMEOUT_MS: u64 = 5_000;
/// Maximum nesting depth of a JSON or MessagePack command.
pub const NESTING_MAX: usize = 16;
/// Maximum number of values in one command: scalars, keys and containers together.
pub const COMMAND_VALUES_MAX: usize = 4_096;
/// Each fragment of a WebSocket message counts as at least this many bytes. So a flood of empty fragments reaches a
/// limit.
pub const FRAGMENT_CHARGE_BYTES_MIN: usize = 64;
/// `client_message_id`: maximum bytes.
pub const CLIENT_MESSAGE_ID_BYTES_MAX: usize = 64;
/// Command `id` as text: maximum bytes.
pub const COMMAND_ID_BYTES_MAX: usize = 128;
/// Conversation name: maximum characters.
pub const CONVERSATION_NAME_CHARS_MAX: usize = 100;
/// Conversation description: maximum characters.
pub const CONVERSATION_DESCRIPTION_CHARS_MAX: usize = 1_000;
/// `create_conversation.member_ids`: maximum entries.
pub const CREATE_MEMBERS_MAX: usize = 100;
/// `mute_member.duration_s`: maximum, a year.
pub const MUTE_SECONDS_MAX: i64 = 366 * 86_400;
/// `request_to_join.text`: maximum characters.
pub const JOIN_REQUEST_CHARS_MAX: usize = 500;
/// `ban_member.reason`: maximum characters.
pub const BAN_REASON_CHARS_MAX: usize = 500;
/// `update_conversation.slow_mode_s`: maximum, six hours.
pub const SLOW_MODE_SECONDS_MAX: i64 = 21_600;
/// `update_conversation.retention_days`: maximum, a century.
pub const RETENTION_DAYS_MAX: i64 = 36_500;
/// `update_conversation.member_limit`: maximum.
pub const MEMBER_LIMIT_MAX: i64 = 1_000_000;
/// `create_invite.max_uses`: maximum.
pub const INVITE_USES_MAX: i64 = 100_000;
/// `create_invite.expires_in_s`: maximum, a year.
pub const INVITE_SECONDS_MAX: i64 = 366 * 86_400;
/// Two-factor authentication: how long an enrolment waits for its first code.
pub const ENROLMENT_SECONDS: u32 = 600;
/// Two-factor authentication: how long a sign-in waits for its code.
pub const CHALLENGE_SECONDS: u32 = 300;
/// Two-factor authentication: codes that a sign-in may try.
pub const CHALLENGE_ATTEMPTS_MAX: i32 = 5;
/// Two-factor authentication: sign-ins of one user that may wait for a code. A new one ends the oldest.
pub const CHALLENGES_PER_USER_MAX: i64 = 20;
/// Two-factor authentication: how long after a code dangerous actions need no other one.
pub const FACTOR_FRESH_SECONDS: u32 = 300;
/// A user's budgets; `shard/rate_limits.rs` has what each is charged for.
pub const BUDGETS: usize = 7;
/// Other changes per message of the rate limit: reactions, pins, role changes, typing over HTTP and the like.
pub const CHANGES_PER_MESSAGE: u32 = 5;
/// Reads per message of the rate limit; a search counts as ten.
pub const READS_PER_MESSAGE: u32 = 20;
/// Reads per minute that every user has at least.
pub const READS_PER_MINUTE_MIN: u32 = 1_200;
/// The divisor of a minute's reads that gives the largest burst.
pub const READS_BURST_PART: u32 = 4;
/// Read markers per message of the rate limit.
pub const MARKS_PER_MESSAGE: u32 = 5;
/// Read markers per minute that every user has at least.
pub const MARKS_PER_MINUTE_MIN: u32 = 300;
/// The divisor of a minute's read markers that gives the largest burst.
pub const MARKS_BURST_PART: u32 = 5;
/// Pages of missed events per message of the rate limit.
pub const REPLAYS_PER_MESSAGE: u32 = 100;
/// Pages of missed events per minute that every user has at least.
pub const REPLAYS_PER_MINUTE_MIN: u32 = 6_000;
/// The divisor of a minute's pages of missed events that gives the largest burst: enough for one page of each
/// conversation in a `resume`.
pub const REPLAYS_BURST_PART: u32 = 4;
/// Signals per message of the rate limit: pings, typing, refused frames and the like.
pub const SIGNALS_PER_MESSAGE: u32 = 100;
/// Signals per minute that every user has at least.
pub const SIGNALS_PER_MINUTE_MIN: u32 = 6_000;
/// The divisor of a minute's signals that gives the largest burst.
pub const SIGNALS_BURST_PART: u32 = 15;
/// HTTP requests of a signed-in user per message of the rate limit. Each looks up its session in PostgreSQL.
pub const REQUESTS_PER_MESSAGE: u32 = 10;
/// HTTP requests per minute that every user has at least.
pub const REQUESTS_PER_MINUTE_MIN: u32 = 600;
/// The divisor of a minute's HTTP requests that gives the largest burst.
pub const REQUESTS_BURST_PART: u32 = 2;
/// The same for requests about files, of which an upload or a page with pictures needs many.
pub const FILE_REQUESTS_PER_MESSAGE: u32 = 100;
/// … and at least so many.
pub const FILE_REQUESTS_PER_MINUTE_MIN: u32 = 6_000;
/// Frames beyond the rate limits, per signal, before the server closes the connection with 4005.
pub const EXCESS_PER_SIGNAL: u32 = 3;
/// A longer frame, in KiB, …
pub const LONG_FRAME_KIB: u32 = 4;
/// … costs so many times its size when its client has no signals left and sends it nevertheless: to read such frames
/// delays everybody else on the shard.
pub const LONG_FRAME_FACTOR: u32 = 3;
/// What a client that was closed with 4005 should wait before it connects again.
pub const FLOOD_RETRY_MS: u64 = 5_000;
/// Changes of one user's profile per minute. Each is announced in all conversations of the user.
pub const PROFILE_EDITS_PER_MINUTE: u32 = 10;
/// Pictures of users that one network may load per minute. A browser asks for each picture once.
pub const AVATAR_READS_PER_MINUTE: u32 = 6_000;
/// Looks at the state of erasures that one network may have per minute.
pub const ERASURE_READS_PER_MINUTE: u32 = 120;
/// Messages that the programs of one network may post to incoming webhooks per minute. Those of each bot are limited
/// besides, as those of a user.
pub const HOOK_POSTS_PER_MINUTE: u32 = 1_200;
/// Times that one user may replace rules of the content filter, per minute. Each is kept in the audit trail.
pub const FILTER_EDITS_PER_MINUTE: u32 = 10;
/// Decisions of one user about held texts, per minute.
pub const DECISIONS_PER_MINUTE: u32 = 120;
/// `get_history.limit`: maximum messages in a page.
pub const HISTORY_PAGE_MAX: i64 = 200;
/// `get_history.limit`: default number of messages in a page.
pub const HISTORY_PAGE_DEFAULT: i64 = 50;
/// Maximum users whose presence one connection watches, and in one `get_presence`.
pub const WATCHED_MAX: usize = 200;
/// `set_presence.status_text`: maximum characters.
pub const STATUS_TEXT_CHARS_MAX: usize = 100;
/// `search_messages.query`: maximum characters.
pub const SEARCH_QUERY_CHARS_MAX: usize = 200;
/// `search_messages.limit`: maximum messages in a page.
pub const SEARCH_PAGE_MAX: i64 = 100;
/// `list_*`: maximum rows in a page.
pub const LIST_PAGE_MAX: i64 = 200;
/// `send_message.attachments`: maximum entries.
pub const ATTACHMENTS_MAX: usize = 10;
/// `resume.cursors`: maximum entries.
pub const RESUME_CONVERSATIONS_MAX: usize = 1_000;
/// Maximum subscriptions of one connection.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 10_000;
/// `welcome.conversations`: maximum bytes of JSON. The frame alone must stay below twice `max_outbound_queue_bytes`:
/// the server closes a client with more in its queue at its next command.
pub const WELCOME_HEADS_BYTES_MAX: usize = 1_500_000;
/// Maximum commands of one connection that wait for their answer.
pub const COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX: u32 = 256;
/// Events in one page of a replay.
pub const REPLAY_PAGE_EVENTS: i64 = 200;
/// A client that is further behind receives `reset`, and reads the history again.
pub const REPLAY_EVENTS_MAX: i64 = 10_000;
/// How long a subscriber that fell behind has to drain its queue, before the server closes it with 4003.
pub const SLOW_CONSUMER_GRACE_MS: u64 = 10_000;
/// What a client that was closed for not reading should wait before it connects again.
pub const SLOW_CONSUMER_RETRY_MS: u64 = 1_000;
/// A client that was closed because it did not read gets this long to read the close code. Meanwhile it costs a
/// descriptor and the rest of one message.
pub const SLOW_CONSUMER_LINGER_MS: u64 = 30_000;
/// How long a `typing` event is valid.
pub const TYPING_EXPIRES_MS: u64 = 6_000;
/// Minimum time between two `typing` events of one user in one conversation.
pub const TYPING_INTERVAL_MS: u64 = 2_000;
/// How long a connection keeps PostgreSQL's answer that its user may be seen typing in a conversation.
pub const TYPING_PERMISSION_MS: u64 = 8_000;

/// Maximum shards in one process. A shard's number has 8 bits in a `ConnId`, and one bit in an interest mask.
pub const SHARDS_MAX: usize = 64;
/// Nodes of a cluster that a node counts. There may be more: then connections to the rest of them do not count for the
/// limit of a user, and no alert says that they are not heard.
pub const NODES_MAX: usize = 64;
/// Capacity of a lane from one shard to another, per direction and kind.
pub const LANE_FRAMES: usize = 4_096;
/// Maximum mutations of one shard on the I/O shard, and the slots reserved for their outcomes.
pub const COMMITS_IN_FLIGHT_PER_SHARD: usize = 8_192;
/// The server refuses a change with `overloaded` if it would wait longer than this for its statement.
pub const COMMIT_WAIT_MAX_MS: u64 = 100;
/// What clients send is to be read within this time. While it is not, the server refuses a part of the changes with
/// `overloaded`.
pub const INPUT_WAIT_TARGET_MS: u64 = 150;
/// Maximum reads of one shard on the I/O shard, and the slots reserved for their results.
pub const READS_IN_FLIGHT_PER_SHARD: usize = 4_096;
/// Maximum waiting reads of one user, on a shard and on the I/O shard: as many as one connection can have in flight.
pub const READS_PER_USER_MAX: usize = COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX as usize;
/// The server cancels a search that runs for longer.
pub const SEARCH_RUN_MS_MAX: u64 = 2_000;
/// A search that uses the inverted indexes is cancelled after this time and then continues without them.
pub const SEARCH_BY_INDEX_MS_MAX: u64 = 40;
/// Delays before the server answers a read that exceeds its user's limits: of an ordinary connection, and of one with
/// more than [`FLOODING_COMMANDS`] in flight. So a client that repeats it immediately does not keep a shard busy.
pub const READ_REFUSAL_PAUSES_MS: [u64; 2] = [1_000, 4_000];
/// Commands in flight on one connection, above which it counts as flooding.
pub const FLOODING_COMMANDS: u32 = 32;
/// Maximum mutations in one statement.
pub const BATCH_ROWS_MAX: usize = 2_048;
/// The server refuses a mutation with `storage_unavailable` if it does not begin within this time.
pub const COMMIT_DEADLINE_MS: u64 = 5_000;
/// The server refuses a read that has no result within this time.
pub const READ_DEADLINE_MS: u64 = 5_000;
/// Maximum conversations whose last published seq an owner shard remembers.
pub const PUBLISHED_REMEMBERED_MAX: usize = 65_536;
/// Maximum HTTP connections of the control plane.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// One client network (an IPv4 address, an IPv6 /64) has at most this part of the HTTP connections…
pub const HTTP_CONNECTIONS_NETWORK_PART: usize = 4;
/// … and on a server with few of them at least this many.
pub const HTTP_CONNECTIONS_PER_NETWORK_MIN: usize = 64;
/// Maximum requests of one client network whose body has not arrived [`UNFINISHED_AFTER_MS`] after its head.
pub const UNFINISHED_REQUESTS_PER_NETWORK_MAX: usize = 64;
/// Maximum sockets of one client network on one shard whose request head is incomplete.
pub const HEADS_PER_NETWORK_MAX: usize = 4_096;
/// The same, counting only those that have been open for [`UNFINISHED_AFTER_MS`].
pub const UNFINISHED_HEADS_PER_NETWORK_MAX: usize = 256;
/// A head or a body counts as unfinished after this time. So a crowd behind one address that connects at once, as
/// after a restart, is not mistaken for a flood.
pub const UNFINISHED_AFTER_MS: u64 = 1_000;
/// Additional connections above [`HTTP_CONNECTIONS_MAX`], on which the control plane answers only health checks.
pub const HEALTH_CONNECTIONS_MAX: usize = 16;
/// Maximum connections of `server.internal_addr`.
pub const INTERNAL_CONNECTIONS_MAX: usize = 64;
/// Reloads of the configuration that an administrator may ask for per minute.
pub const RELOADS_PER_MINUTE: u32 = 30;
/// Most keys that sign or have signed tokens, at the same time.
pub const SIGNING_KEYS_MAX: usize = 8;
/// Request heads beyond `limits.max_connections` that the shards read together, to find out whether they ask for
/// health.
pub const HEALTH_HEADS_MAX: usize = 64;
/// Time until a request head above `limits.max_connections` must be complete.
pub const HEALTH_HEAD_TIMEOUT_MS: u64 = 1_000;
/// Connections refused beyond `limits.max_connections` that still wait for their client's end. Beyond it they are
/// closed at once.
pub const REFUSALS_PER_SHARD_MAX: usize = 32;
/// Maximum HTTP request body, except for uploads.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;
/// A body has this long before its rate counts.
pub const HTTP_BODY_GRACE_MS: u64 = 5_000;
/// Minimum bytes of a body in each second after [`HTTP_BODY_GRACE_MS`].
pub const HTTP_BODY_BYTES_PER_SECOND_MIN: u64 = 1_024;
/// Maximum time for a whole body.
pub const HTTP_BODY_TIMEOUT_MS: u64 = 10_000;
/// Content filter: maximum rules of the server.
pub const FILTER_SERVER_RULES_MAX: usize = 200;
/// Content filter: maximum rules of one conversation.
pub const FILTER_CONVERSATION_RULES_MAX: usize = 20;
/// Content filter: maximum conversations with rules of their own.
pub const FILTER_CONVERSATIONS_MAX: usize = 5_000;
/// Content filter: maximum length of a rule's id.
pub const FILTER_ID_BYTES_MAX: usize = 64;
/// Content filter: maximum words in all rules of the server; a conversation may have a tenth.
pub const FILTER_KEYWORDS_MAX: usize = 5_000;
/// Content filter: maximum characters of a word.
pub const FILTER_KEYWORD_CHARS_MAX: usize = 64;
/// Content filter: matches of words that one check looks at.
pub const FILTER_KEYWORD_MATCHES_MAX: usize = 16_384;
/// Content filter: maximum domains in all rules of the server; a conversation may have a tenth.
pub const FILTER_DOMAINS_MAX: usize = 5_000;
/// Content filter: maximum regular expressions of the server; a conversation may have a tenth.
pub const FILTER_REGEXES_MAX: usize = 20;
/// Content filter: maximum bytes of a regular expression as it is written.
pub const FILTER_PATTERN_BYTES_MAX: usize = 500;
/// Content filter: maximum bytes of a regular expression of the server as it is compiled. With the bytes that it sees,
/// this bounds the time of a search.
pub const FILTER_REGEX_SIZE_BYTES_MAX: usize = 64 * 1024;
/// Content filter: the same for a conversation, whose administrators the server does not know.
pub const FILTER_CONVERSATION_REGEX_SIZE_BYTES_MAX: usize = 16 * 1024;
/// Content filter: maximum bytes of what a search with a regular expression remembers.
pub const FILTER_REGEX_CACHE_BYTES_MAX: usize = 256 * 1024;
/// Content filter: bytes of a text that regular expressions see.
pub const FILTER_REGEX_TEXT_BYTES_MAX: usize = 2 * 1024;
/// Content filter: bytes of a text that all other rules see.
pub const FILTER_TEXT_BYTES_MAX: usize = 16 * 1024;

const _: () = {
    assert!(FILTER_REGEX_TEXT_BYTES_MAX <= FILTER_TEXT_BYTES_MAX);
    assert!(SHARDS_MAX <= 64, "interest masks are u64");
    assert!(BATCH_ROWS_MAX <= COMMITS_IN_FLIGHT_PER_SHARD);
    assert!(COMMIT_WAIT_MAX_MS < COMMIT_DEADLINE_MS);
    assert!(HISTORY_PAGE_DEFAULT <= HISTORY_PAGE_MAX);
    assert!(NESTING_MAX < 64, "the value reader recurses once per level");
    assert!(REPLAY_PAGE_EVENTS <= REPLAY_EVENTS_MAX);
    assert!(RESUME_CONVERSATIONS_MAX <= (REPLAYS_PER_MINUTE_MIN / REPLAYS_BURST_PART) as usize);
    assert!(SEARCH_RUN_MS_MAX <= READ_DEADLINE_MS);
    assert!(SEARCH_BY_INDEX_MS_MAX * 4 <= SEARCH_RUN_MS_MAX, "the search without indexes needs time as well");
    // Recent blocks are remembered for two deadlines (chat/directory/recent.rs), and cover what such an answer lacks.
    assert!(TYPING_PERMISSION_MS < 2 * READ_DEADLINE_MS);
    assert!(UNFINISHED_HEADS_PER_NETWORK_MAX <= HEADS_PER_NETWORK_MAX);
    assert!(UNFINISHED_AFTER_MS < REQUEST_HEAD_TIMEOUT_MS);
    assert!(UNFINISHED_AFTER_MS < HTTP_BODY_GRACE_MS && HTTP_BODY_GRACE_MS < HTTP_BODY_TIMEOUT_MS);
};

/// An optional feature. The server refuses its commands when it is disabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Emoji reactions.
    MessageReactions,
    /// Pinned messages.
    PinnedMessages,
    /// Replies in threads.
    MessageThreads,
    /// Files.
    FileUploads,
}

impl Feature {
    /// The key in the configuration.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::MessageReactions => "features.message_reactions",
            Self::PinnedMessages => "features.pinned_messages",
            Self::MessageThreads => "features.message_threads",
            Self::FileUploads => "features.file_uploads",
        }
    }
}

/// The enabled features, which `welcome.features` reports to clients.
#[allow(clippy::struct_excessive_bools)] // the switches of the configuration
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Emoji reactions.
    pub message_reactions: bool,
    /// Pinned messages.
    pub pinned_messages: bool,
    /// `@name` notifies that user. PostgreSQL checks this switch when it records mentions.
    pub user_mentions: bool,
    /// Replies in threads.
    pub message_threads: bool,
    /// Files.
    pub file_uploads: bool,
    /// No file is released without a virus scan. No switch: the scanner's state decides when `welcome` is sent.
    pub files_scanned: bool,
}

impl Features {
    /// Whether the feature is enabled.
    #[must_use]
    pub fn has(self, feature: Feature) -> bool {
        match feature {
            Feature::MessageReactions => self.message_reactions,
            Feature::PinnedMessages => self.pinned_messages,
            Feature::MessageThreads => self.message_threads,
            Feature::FileUploads => self.file_uploads,
        }
    }
}

/// How long a bot may take to answer a slash command, in milliseconds.
pub const COMMAND_ANSWER_MS: u64 = 3_000;
/// Slash commands of one bot that wait for its answer.
pub const INVOCATIONS_PER_BOT_MAX: usize = 100;
/// Slash commands of one user, to the bots of one shard, that wait for an answer.
pub const INVOCATIONS_PER_USER_MAX: usize = 10;
/// The same of all users, to the bots of one shard.
pub const INVOCATIONS_MAX: usize = 10_000;
/// Posts to URLs of slash commands that wait for the control plane.
pub const BOT_POSTS_MAX: usize = 1_024;
/// Posts of one bot under way.
pub const BOT_POSTS_PER_BOT_MAX: usize = 16;
/// Characters of the name of a slash command, with the name of its bot.
pub const COMMAND_NAME_CHARS_MAX: usize = 32 + 1 + 50;

const _: () = assert!(INVOCATIONS_PER_USER_MAX < INVOCATIONS_PER_BOT_MAX, "one user does not use a bot up");
const _: () = assert!(INVOCATIONS_PER_BOT_MAX < INVOCATIONS_MAX, "one bot does not use a shard up");

/// The limits that the configuration sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Characters in a message.
    pub max_message_length: usize,
    /// Bytes in a WebSocket frame and in a reassembled message.
    pub max_frame_bytes: usize,
    /// Open WebSockets per user.
    pub max_connections_per_user: usize,
    /// Open WebSockets in total; not reported to clients.
    #[serde(skip)]
    pub max_connections: usize,
    /// Open WebSockets of one client network; not reported to clients.
    #[serde(skip)]
    pub max_connections_per_network: usize,
    /// Seconds in which a message can be edited; 0 means no limit.
    pub message_edit_window_s: u64,
    /// Messages per user and minute, over all connections.
    pub max_messages_per_minute: u32,
    /// The same for bots that sign in; not reported to clients.
    #[serde(skip)]
    pub bot_messages_per_minute: u32,
    /// Bots that a user may have; not reported to clients.
    #[serde(skip)]
    pub max_bots_per_user: u32,
    /// Whether a user's limits depend on the user's standing and on the load; not reported to clients.
    #[serde(skip)]
    pub adaptive: bool,
    /// The age of an account, in seconds, from which it has twice the limits; not reported to clients.
    #[serde(skip)]
    pub trusted_after_s: i64,
    /// Bytes in an uploaded file.
    pub max_file_size: u64,
    /// Bytes queued for one connection before it counts as lagging; not reported to clients.
    #[serde(skip)]
    pub max_outbound_queue_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_length: 4_000,
            max_frame_bytes: 64 * 1024,
            max_connections_per_user: 5,
            max_connections: 100_000,
            max_connections_per_network: 20_000,
            message_edit_window_s: 0,
            max_messages_per_minute: 60,
            bot_messages_per_minute: 300,
            max_bots_per_user: 20,
            adaptive: true,
            trusted_after_s: 7 * 86_400,
            max_file_size: 100 * 1024 * 1024,
            max_outbound_queue_bytes: 1024 * 1024,
        }
    }
}
