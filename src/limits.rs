//! Every bound of the server in one place, with the relations between them asserted at compile time.
//!
//! Constants are what the design fixes; [`Limits`] is what the configuration may change and `welcome.limits` tells
//! clients. Units are in the names, last.

use serde::Serialize;

/// Request head: largest size in bytes (the wire contract: 8 KiB).
pub const REQUEST_HEAD_BYTES_MAX: usize = 8 * 1024;
/// Request head: most header fields.
pub const REQUEST_HEADERS_MAX: usize = 64;
/// Request head: time in which it must be complete.
pub const REQUEST_HEAD_TIMEOUT_MS: u64 = 5_000;
/// Nesting of a JSON or MessagePack command.
pub const NESTING_MAX: usize = 16;
/// Values (scalars, keys and containers together) in one command.
pub const COMMAND_VALUES_MAX: usize = 4_096;
/// A fragment of a WebSocket message is charged at least this many bytes, so that a flood of empty ones is finite.
pub const FRAGMENT_CHARGE_BYTES_MIN: usize = 64;
/// `client_message_id`: most bytes.
pub const CLIENT_MESSAGE_ID_BYTES_MAX: usize = 64;
/// Command `id` given as text: most bytes.
pub const COMMAND_ID_BYTES_MAX: usize = 128;
/// Conversation name: most characters.
pub const CONVERSATION_NAME_CHARS_MAX: usize = 100;
/// Conversation description: most characters.
pub const CONVERSATION_DESCRIPTION_CHARS_MAX: usize = 1_000;
/// `create_conversation.member_ids`: most entries.
pub const CREATE_MEMBERS_MAX: usize = 100;
/// `mute_member.duration_s`: a year.
pub const MUTE_SECONDS_MAX: i64 = 366 * 86_400;
/// `request_to_join.text`: most characters.
pub const JOIN_REQUEST_CHARS_MAX: usize = 500;
/// `ban_member.reason`: most characters.
pub const BAN_REASON_CHARS_MAX: usize = 500;
/// `update_conversation.slow_mode_s`: six hours.
pub const SLOW_MODE_SECONDS_MAX: i64 = 21_600;
/// `update_conversation.member_limit`: the largest that makes a difference.
pub const MEMBER_LIMIT_MAX: i64 = 1_000_000;
/// `create_invite.max_uses`.
pub const INVITE_USES_MAX: i64 = 100_000;
/// `create_invite.expires_in_s`: a year.
pub const INVITE_SECONDS_MAX: i64 = 366 * 86_400;
/// A user's budgets: of messages, of other changes, of reads.
pub const BUDGETS: usize = 3;
/// Reactions, pins, role changes, typing over HTTP and the like that a user has for each message of their budget.
pub const CHANGES_PER_MESSAGE: u32 = 5;
/// Reads that a user has for each message of their budget; a search counts as ten.
pub const READS_PER_MESSAGE: u32 = 20;
/// Reads in a minute that every user has, however few messages they may send.
pub const READS_PER_MINUTE_MIN: u32 = 1_200;
/// Of a minute's reads, one in so many may come at once.
pub const READS_BURST_PART: u32 = 4;
/// `get_history.limit`: most messages in a page.
pub const HISTORY_PAGE_MAX: i64 = 200;
/// `get_history.limit`: messages in a page when not given.
pub const HISTORY_PAGE_DEFAULT: i64 = 50;
/// Users whose presence one connection hears of, and most in one `get_presence`.
pub const WATCHED_MAX: usize = 200;
/// `set_presence.status_text`: most characters.
pub const STATUS_TEXT_CHARS_MAX: usize = 100;
/// `search_messages.query`: most characters.
pub const SEARCH_QUERY_CHARS_MAX: usize = 200;
/// `search_messages.limit`: most messages in a page.
pub const SEARCH_PAGE_MAX: i64 = 100;
/// `list_*`: most rows in a page.
pub const LIST_PAGE_MAX: i64 = 200;
/// `resume.cursors`: most entries.
pub const RESUME_CONVERSATIONS_MAX: usize = 1_000;
/// Conversations one connection can be subscribed to.
pub const SUBSCRIPTIONS_PER_CONNECTION_MAX: usize = 10_000;
/// `welcome.conversations`: most bytes of JSON. The frame alone must stay below twice `max_outbound_queue_bytes`: a
/// client with more in its queue is closed at its next command.
pub const WELCOME_HEADS_BYTES_MAX: usize = 1_500_000;
/// Commands of one connection that wait for an outcome.
pub const COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX: u32 = 256;
/// Events in one page of a replay.
pub const REPLAY_PAGE_EVENTS: i64 = 200;
/// A client more events behind than this gets `reset` and re-reads the history.
pub const REPLAY_EVENTS_MAX: i64 = 10_000;
/// A subscriber that is behind gets this long to drain its queue before it is closed with 4003.
pub const SLOW_CONSUMER_GRACE_MS: u64 = 10_000;
/// What a client that was closed for not reading should wait before it connects again.
pub const SLOW_CONSUMER_RETRY_MS: u64 = 1_000;
/// A client that was closed because it did not read gets this long to read the close code. Meanwhile it costs a
/// descriptor and the rest of one message.
pub const SLOW_CONSUMER_LINGER_MS: u64 = 30_000;
/// `typing` says that someone types; it is good for this long.
pub const TYPING_EXPIRES_MS: u64 = 6_000;
/// Shortest time between two `typing` events of one user in one conversation.
pub const TYPING_INTERVAL_MS: u64 = 2_000;

/// Most shards in one process; a shard's number is 8 bits of a `ConnId` and one bit of an interest mask.
pub const SHARDS_MAX: usize = 64;
/// Frames in a lane from one shard to another, each direction and kind.
pub const LANE_FRAMES: usize = 4_096;
/// Mutations of one shard that the I/O shard may hold; also the room reserved for their outcomes.
pub const COMMITS_IN_FLIGHT_PER_SHARD: usize = 8_192;
/// Reads of one shard that the I/O shard may hold; also the room reserved for their results.
pub const READS_IN_FLIGHT_PER_SHARD: usize = 4_096;
/// Reads of one user that may wait, at a shard and at the I/O shard: as many as one connection may have in flight.
pub const READS_PER_USER_MAX: usize = COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX as usize;
/// Reads of one shard in flight beyond which only admissions and catch-up are taken in.
pub const PAGES_IN_FLIGHT_PER_SHARD: usize = READS_IN_FLIGHT_PER_SHARD / 4 * 3;
/// A search that runs for longer is cancelled.
pub const SEARCH_RUN_MS_MAX: u64 = 2_000;
/// A read that is refused because its user asks too much is answered this much later, so that a client that asks again
/// at once does not keep a shard busy with refusals.
pub const READ_REFUSAL_PAUSE_MS: u64 = 1_000;
/// Mutations in one statement.
pub const BATCH_ROWS_MAX: usize = 2_048;
/// A mutation not begun within this time is refused with `storage_unavailable`.
pub const COMMIT_DEADLINE_MS: u64 = 5_000;
/// A read that has no result within this time is refused.
pub const READ_DEADLINE_MS: u64 = 5_000;
/// Conversations whose newest seq an owner shard remembers without subscribers.
pub const PUBLISHED_REMEMBERED_MAX: usize = 65_536;
/// HTTP connections that the control plane serves at once.
pub const HTTP_CONNECTIONS_MAX: usize = 4_096;
/// Connections beyond [`HTTP_CONNECTIONS_MAX`] on which the control plane answers health checks, and nothing else.
pub const HEALTH_CONNECTIONS_MAX: usize = 16;
/// Request heads beyond `limits.max_connections` that the shards read together, to find out whether they ask for
/// health.
pub const HEALTH_HEADS_MAX: usize = 64;
/// A head that is read beyond `limits.max_connections` must be complete within this time.
pub const HEALTH_HEAD_TIMEOUT_MS: u64 = 1_000;
/// Connections refused beyond `limits.max_connections` that still wait for their client's end. Beyond it they are
/// closed at once.
pub const REFUSALS_PER_SHARD_MAX: usize = 32;
/// HTTP request body, except for uploads.
pub const HTTP_BODY_BYTES_MAX: usize = 64 * 1024;

const _: () = {
    assert!(SHARDS_MAX <= 64, "interest masks are u64");
    assert!(BATCH_ROWS_MAX <= COMMITS_IN_FLIGHT_PER_SHARD);
    assert!(HISTORY_PAGE_DEFAULT <= HISTORY_PAGE_MAX);
    assert!(NESTING_MAX < 64, "the value reader recurses once per level");
    assert!(REPLAY_PAGE_EVENTS <= REPLAY_EVENTS_MAX);
    assert!(READS_PER_USER_MAX < PAGES_IN_FLIGHT_PER_SHARD, "one user cannot fill a shard's reads");
    assert!(SEARCH_RUN_MS_MAX <= READ_DEADLINE_MS);
};

/// Something that an installation can do without, and whose commands are refused then.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feature {
    /// Emoji under a message.
    MessageReactions,
    /// Messages that are shown first.
    PinnedMessages,
    /// Replies.
    MessageThreads,
}

impl Feature {
    /// The switch's name in the configuration.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::MessageReactions => "features.message_reactions",
            Self::PinnedMessages => "features.pinned_messages",
            Self::MessageThreads => "features.message_threads",
        }
    }
}

/// What is switched on; clients are told in `welcome.features`.
#[allow(clippy::struct_excessive_bools)] // the configuration's switches, as it has them
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Features {
    /// Emoji under a message.
    pub message_reactions: bool,
    /// Messages that are shown first.
    pub pinned_messages: bool,
    /// `@name` tells that user; switched off where mentions are recorded, in PostgreSQL.
    pub user_mentions: bool,
    /// Replies.
    pub message_threads: bool,
}

impl Features {
    /// Whether it is switched on.
    #[must_use]
    pub fn has(self, feature: Feature) -> bool {
        match feature {
            Feature::MessageReactions => self.message_reactions,
            Feature::PinnedMessages => self.pinned_messages,
            Feature::MessageThreads => self.message_threads,
        }
    }
}

/// The limits that configuration sets and clients are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Characters in a message.
    pub max_message_length: usize,
    /// Bytes in a WebSocket frame and in a reassembled message.
    pub max_frame_bytes: usize,
    /// Sockets one user may have open.
    pub max_connections_per_user: usize,
    /// Sockets in total; not told to clients.
    #[serde(skip)]
    pub max_connections: usize,
    /// Seconds for which a message can be edited after it was sent; 0 for ever.
    pub message_edit_window_s: u64,
    /// Messages one user may send in a minute, over all connections.
    pub max_messages_per_minute: u32,
    /// Bytes in an uploaded file.
    pub max_file_size: u64,
    /// Bytes queued for one connection before it counts as lagging; not told to clients.
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
            message_edit_window_s: 0,
            max_messages_per_minute: 60,
            max_file_size: 100 * 1024 * 1024,
            max_outbound_queue_bytes: 1024 * 1024,
        }
    }
}
