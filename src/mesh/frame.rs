//! Everything that crosses between cores: closed enums, one per lane, each variant with its loss policy.

use super::asked::{Announcement, Approval, HttpCommand, LimitsQuestion};
use super::event::{EncodedEvent, EncodedNotice, MembershipChange, Published, TypingPermission};
use super::invocation::{BotConnection, Invocation, InvocationAnswer};
use super::live::LiveSettings;
use super::quota::QuotaPlace;
use super::record::{LogEntry, MessagePage, MessageRecord, OpenedSession, PresenceRecord, ThreadState};
pub use super::token::Token;
use crate::address::{ClientNetwork, RequestSource};
use crate::auth::signing::KeyTag;
use crate::chat::filter::{FilterRuleSet, SharedRepeats};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, FileId, MessageId, Seq, SessionId, ShardId, UserId};
use crate::mesh::standing::{MarkedUsers, UserBudgets};
use serde_json::Value;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

/// Shard to shard, lane of requests. Full: the sender refuses the command with `overloaded`, or keeps the item and
/// tries again at its next turn where a variant says so.
pub enum Request<S = OwnedFd> {
    /// To a conversation's owner. Full: `overloaded`.
    Mutate(Box<Mutation>),
    /// To a conversation's owner: a user is typing. Full: dropped; the client sends the signal again after two seconds.
    Typing(Box<TypingSignal>),
    /// To a conversation's owner: subscribes this shard to its events in these formats; 0 unsubscribes. Full: kept and
    /// retried.
    Interest {
        /// The conversation.
        conversation: ConversationId,
        /// The shard that subscribes.
        shard: ShardId,
        /// Bits of the formats that its subscribers read.
        formats: u8,
    },
    /// To a user's shard: a socket whose token is valid. Full: the socket is answered 503.
    Admit(Box<Admission<S>>),
    /// To the home shard of a conversation hint: an admitted socket. Full: the user's shard keeps the socket itself.
    Settle(Box<Settlement<S>>),
    /// To a user's shard: the presence that the user chose. Full: `overloaded`.
    SetPresence(Box<PresenceChoice>),
    /// To a user's shard: requests the user's presence. Full: the answer omits the user.
    Presence {
        /// The user whose presence is requested.
        user: UserId,
        /// The request that this answers.
        token: Token,
        /// The shard to notify of later changes.
        watcher: Option<ShardId>,
    },
    /// To a user's shard: no connection here watches the user any longer. Full: dropped; sent again after the next
    /// change.
    PresenceUnwatched {
        /// The user no longer watched.
        user: UserId,
        /// The shard that stops watching.
        shard: ShardId,
    },
    /// To a user's shard: one of the user's connections has ended. Full: kept and retried.
    Departed {
        /// The user whose connection has ended.
        user: UserId,
        /// The connection; none if it was not opened yet.
        conn: Option<ConnId>,
    },
    /// To a bot's shard: a connection of the bot was opened. Full: kept and retried, before its departure.
    BotConnected(Box<BotConnection>),
    /// To a bot's shard: a user runs one of its commands. Full: `overloaded`.
    Invoke(Box<Invocation>),
    /// To a bot's shard: the bot answers a command. Full: `overloaded`.
    AnswerInvocation(Box<InvocationAnswer>),
}

/// A user who is typing.
pub struct TypingSignal {
    /// The user.
    pub user: UserId,
    /// The connection that keeps the permission; none over HTTP.
    pub conn: Option<ConnId>,
    /// Where, and who must not see it.
    pub permission: TypingPermission,
}

/// The presence that a user chose.
pub struct PresenceChoice {
    /// The user.
    pub user: UserId,
    /// `online`, `away`, `busy` or `invisible`.
    pub status: &'static str,
    /// In their own words.
    pub text: Option<Box<str>>,
}

/// Shard to shard, lane of deliveries. The owner of a conversation takes an outcome or a request only while every
/// delivery lane has room, so nothing here is ever dropped; the receiving shard always drains it.
pub enum Delivery {
    /// The answer to a request of this shard's.
    Answer(Token, Answer),
    /// An event for this shard's subscribers.
    Event(Arc<EncodedEvent>),
    /// The answer to [`Request::Interest`]: events from now on will arrive.
    Interested {
        /// The conversation.
        conversation: ConversationId,
        /// The formats that are encoded for this shard.
        formats: u8,
        /// What the owner last published.
        published: Published,
    },
    /// A user's membership changed; sent to every shard, after the event that reports it.
    Membership(MembershipChange),
    /// Something for the connections of some users; sent to every shard.
    Notice(Arc<EncodedNotice>),
    /// A user's presence changed; sent to the shards with watchers.
    Presence(Arc<PresenceRecord>),
    /// A connection's permission to type may be void, so it has to ask PostgreSQL again; sent to its home shard.
    TypingVoid(ConnId),
    /// One of two users has blocked the other; sent to every shard.
    Blocked(UserId, UserId),
    /// A command for a connection of a bot: the data of `command_invoked`.
    Invoked(ConnId, Arc<Value>),
}

/// A change that a user requests. It goes to the owner shard, to the I/O shard, and back with its outcome.
#[derive(Debug)]
pub struct Mutation {
    /// The conversation; none while it is being created.
    pub conversation: Option<ConversationId>,
    /// The user who makes the change.
    pub actor: UserId,
    /// The sign-in that it was sent with, for the audit trail; none if the server makes the change itself.
    pub session: Option<SessionId>,
    /// Where it came from, for the audit trail; none for messages, which are not audited.
    pub source: Option<Arc<RequestSource>>,
    /// The requesting connection. It receives the answer, so it does not receive the event.
    pub origin: Option<ConnId>,
    /// The request that this answers.
    pub token: Token,
    /// The shard that sequences the conversation: where the outcome goes.
    pub owner: ShardId,
    /// When its bytes were received.
    pub received_at: Instant,
    /// When it was passed to the thread that has it now.
    pub handed_over_at: Instant,
    /// After this time it is no longer started.
    pub deadline: Instant,
    /// The sender already received `deadline_exceeded`, so the outcome is only published.
    pub answered: bool,
    /// What to change.
    pub change: Change,
}

/// What a mutation changes.
#[derive(Debug)]
pub enum Change {
    /// A new message.
    Message {
        /// The text.
        content: String,
        /// `text`, `image`, `file`.
        message_type: &'static str,
        /// For a reply, a message of its thread.
        parent: Option<MessageId>,
        /// The key under which it is stored once: the client's, or one that the server made.
        key: String,
        /// Whether the client gave it.
        key_is_clients: bool,
        /// Its files, in their order.
        files: Vec<FileId>,
    },
    /// Any other change: a row in the table of kinds. `mutate_<kind>` in PostgreSQL executes it.
    Other {
        /// The kind's name.
        kind: &'static str,
        /// The server's idempotency key, below 2^63.
        mutation_id: i64,
        /// What the kind's function reads.
        arguments: Value,
    },
}

/// I/O shard to a conversation's owner. Slots for both are reserved for each mutation, so neither is lost.
pub enum CommitOutcome {
    /// The deadline passed during the commit. The sender receives `deadline_exceeded`; the final outcome follows.
    Unresolved(Token),
    /// The final outcome, with the mutation.
    Final(Box<Mutation>, Verdict),
}

/// The outcome of a mutation.
pub enum Verdict {
    /// A message is durable.
    Message(Box<CommittedMessage>),
    /// Another mutation is durable.
    Other(Box<CommittedOther>),
    /// It was refused; nothing was changed.
    Refused(Box<Refusal>),
}

/// A durable message.
pub struct CommittedMessage {
    /// As clients see it, without the sender's key.
    pub record: MessageRecord,
    /// It had been sent before; only the id, seq and time of `record` are right.
    pub duplicate: bool,
    /// Whether subscribers may not have seen it yet.
    pub publish: bool,
    /// For a reply, the new state of its thread.
    pub thread: Option<ThreadState>,
}

/// Another durable mutation.
pub struct CommittedOther {
    /// The conversation, also if it was just created. None if the mutation belongs to no conversation.
    pub conversation: Option<ConversationId>,
    /// Events to publish, ascending.
    pub events: Vec<super::record::EventRecord>,
    /// The ack's data.
    pub result: Value,
    /// Users who became members.
    pub gained: Vec<UserId>,
    /// Users who are no longer members.
    pub lost: Vec<UserId>,
    /// An event without seq for all members.
    pub signal: Option<Signal>,
    /// Events without seq for some users only.
    pub notices: Vec<Notice>,
    /// The user whom the actor has blocked. Neither receives the other's presence any longer.
    pub blocked: Option<UserId>,
}

/// An event for all members but some that is not in the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Signal {
    /// The event's name.
    pub kind: String,
    /// Its data, without the conversation's id.
    pub payload: serde_json::Map<String, Value>,
    /// Members between whom and the actor there is a block.
    pub hidden_from: Vec<UserId>,
}

/// An event for some users that is not in the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice {
    /// The users to notify.
    pub users: Vec<UserId>,
    /// The event's name.
    pub kind: String,
    /// Its data, without the conversation's id.
    pub payload: serde_json::Map<String, Value>,
}

/// The answer to a request.
pub enum Answer {
    /// A message was sent.
    Sent(Box<Receipt>),
    /// The data of an ack.
    Data(Box<Value>),
    /// A page of messages.
    Page(Box<MessagePage>),
    /// A part of the change log, ascending, and whether the log ends there.
    Log(Box<LogPage>),
    /// A user's presence.
    Presence(Arc<PresenceRecord>),
    /// The conversation of a message or an invitation; none if there is none that the user may see.
    Located(Option<ConversationId>),
    /// The newest seq of those requested conversations that the user is a member of.
    Heads(Vec<(ConversationId, Seq)>),
    /// A session may be opened.
    Session(Box<OpenedSession>),
    /// The request was refused.
    Refused(Box<Refusal>),
}

impl Answer {
    /// The data of an ack.
    ///
    /// # Errors
    /// The refusal, as for the others below.
    pub fn into_data(self) -> Result<Value, Box<Refusal>> {
        if let Self::Data(data) = self { Ok(*data) } else { Err(self.into_refusal()) }
    }

    /// A part of the log.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_log(self) -> Result<Box<LogPage>, Box<Refusal>> {
        if let Self::Log(page) = self { Ok(page) } else { Err(self.into_refusal()) }
    }

    /// A user's presence.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_presence(self) -> Result<Arc<PresenceRecord>, Box<Refusal>> {
        if let Self::Presence(shown) = self { Ok(shown) } else { Err(self.into_refusal()) }
    }

    /// A conversation, if there is one that the user may see.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_located(self) -> Result<Option<ConversationId>, Box<Refusal>> {
        if let Self::Located(conversation) = self { Ok(conversation) } else { Err(self.into_refusal()) }
    }

    /// The newest seq of conversations.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_heads(self) -> Result<Vec<(ConversationId, Seq)>, Box<Refusal>> {
        if let Self::Heads(heads) = self { Ok(heads) } else { Err(self.into_refusal()) }
    }

    /// A session that may be opened.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_session(self) -> Result<Box<OpenedSession>, Box<Refusal>> {
        if let Self::Session(opened) = self { Ok(opened) } else { Err(self.into_refusal()) }
    }

    /// The refusal. An answer of the wrong kind is a server fault and also becomes a refusal. Otherwise the client
    /// would wait forever.
    #[must_use]
    pub fn into_refusal(self) -> Box<Refusal> {
        match self {
            Self::Refused(refusal) => refusal,
            Self::Sent(_)
            | Self::Data(_)
            | Self::Page(_)
            | Self::Log(_)
            | Self::Presence(_)
            | Self::Located(_)
            | Self::Heads(_)
            | Self::Session(_) => {
                crate::faults::error_limited!(
                    "a request received an answer of the wrong kind; this is a fault of the server"
                );
                let message = "The server has a fault: it mixed up two answers.";
                Box::new(Refusal::new(ErrorCode::Internal, message))
            }
        }
    }
}

/// A part of a conversation's change log.
pub struct LogPage {
    /// Entries, ascending by seq without gaps.
    pub entries: Vec<LogEntry>,
    /// Whether the log ended here when it was read.
    pub complete: bool,
}

/// The ack of a message.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Receipt {
    /// The message.
    pub message_id: MessageId,
    /// The conversation.
    pub conversation_id: ConversationId,
    /// Its position in the log.
    pub seq: Seq,
    /// When it was committed, RFC 3339.
    pub created_at: String,
    /// Whether it had been sent before.
    pub duplicate: bool,
}

/// A read for one user, made under that user's row level security. A slot for its answer is reserved.
pub struct ReadRequest {
    /// The request that this answers.
    pub token: Token,
    /// The user whose row level security applies.
    pub user: UserId,
    /// The deadline of the request.
    pub deadline: Instant,
    /// What to read.
    pub query: Query,
}

/// What can be read.
#[derive(Clone, PartialEq, Debug)]
pub enum Query {
    /// Whether this session may be opened. Uses up the ticket, if there is one.
    OpenSession {
        /// The sign-in; that of a bot's token is looked up.
        session: SessionId,
        /// The digest of a bot's token.
        bot_token: Option<Box<[u8; 32]>>,
        /// The ticket's id and its expiry in seconds of Unix time.
        ticket: Option<(String, i64)>,
        /// Whether to list the user's conversations.
        with_conversations: bool,
        /// Whether the user must have two-factor authentication.
        needs_factor: bool,
    },
    /// The conversation of a message.
    ConversationOfMessage(MessageId),
    /// The conversation that a code invites to.
    ConversationOfInvite(String),
    /// `read_<name>` in PostgreSQL.
    Lookup {
        /// The name: a row of the table of look-ups.
        name: &'static str,
        /// What it reads.
        arguments: Value,
    },
    /// The newest seq of one conversation, or a refusal.
    Head(ConversationId),
    /// The newest seq of those that the user is a member of.
    Heads(Vec<ConversationId>),
    /// Whether others may see that the user types in a conversation, and which members must not (`read_typing`).
    Typing(ConversationId),
    /// The change log after a seq.
    Log {
        /// The conversation.
        conversation: ConversationId,
        /// After this one.
        after: Seq,
        /// Most entries.
        limit: i64,
    },
    /// Messages before a seq (newest when none).
    HistoryBefore {
        /// The conversation.
        conversation: ConversationId,
        /// Before this one.
        before: Seq,
        /// Most messages.
        limit: i64,
    },
    /// Messages after a seq.
    HistoryAfter {
        /// The conversation.
        conversation: ConversationId,
        /// After this one.
        after: Seq,
        /// Most messages.
        limit: i64,
    },
    /// Messages around one.
    HistoryAround {
        /// The conversation.
        conversation: ConversationId,
        /// Around this one.
        message: MessageId,
        /// Most messages.
        limit: i64,
    },
    /// The user's conversations.
    Conversations {
        /// After this number.
        cursor: i64,
        /// Most rows.
        limit: i64,
    },
    /// One conversation.
    Conversation(ConversationId),
    /// A conversation's members.
    Members {
        /// The conversation.
        conversation: ConversationId,
        /// After this user's number.
        cursor: i64,
        /// Most rows.
        limit: i64,
    },
}

/// The outcome of a read.
pub struct ReadResult {
    /// The request that this answers.
    pub token: Token,
    /// The answer.
    pub answer: Answer,
}

/// The parameters of an upgrade request.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The whole `101` response.
    pub response: String,
    /// Index into `wire::SUBPROTOCOLS`.
    pub format: u8,
    /// Window bits of permessage-deflate, when negotiated.
    pub deflate_window_bits: Option<u8>,
    /// `subscribe=all`.
    pub subscribe_all: bool,
    /// `conversation=ID`.
    pub hint: Option<ConversationId>,
    /// Bytes that came after the head.
    pub early_bytes: Vec<u8>,
}

/// A socket with a valid token on its way to the shard of its user.
pub struct Admission<S = OwnedFd> {
    /// The socket.
    pub socket: S,
    /// The upgrade.
    pub handshake: Handshake,
    /// The user.
    pub user: UserId,
    /// The sign-in; that of a bot's token is known once it was looked up.
    pub session: SessionId,
    /// The digest of a bot's token.
    pub bot_token: Option<Box<[u8; 32]>>,
    /// Where the request came from.
    pub source: Arc<RequestSource>,
    /// When the access token expires, seconds of Unix time.
    pub token_expires_seconds: i64,
    /// The key that signed the token or the ticket; none for a bot's token.
    pub key: Option<KeyTag>,
    /// The ticket's id and expiry, when one was used.
    pub ticket: Option<(String, i64)>,
    /// Its place among the WebSockets of its client's network; none for a trusted proxy.
    pub network_place: Option<QuotaPlace<ClientNetwork>>,
    /// When its session is looked up, in milliseconds of the process's clock.
    pub looked_up_ms: u64,
}

/// An admitted socket on its way to its home shard.
pub struct Settlement<S = OwnedFd> {
    /// As it was admitted.
    pub admission: Admission<S>,
    /// The user and the conversations.
    pub opened: OpenedSession,
    /// The user's budgets, shared by their connections.
    pub budgets: Arc<UserBudgets>,
    /// What the user wrote lately.
    pub repeats: SharedRepeats,
    /// The user has too many connections: this one is closed with 4004.
    pub too_many: bool,
}

/// From the control plane to a shard.
pub enum ControlFrame {
    /// A command received over HTTP; to the user's shard. Full: refused with `overloaded`.
    Command(Box<HttpCommand>),
    /// Announces a user's profile in the log of one of their conversations, or a rejection to its author; to the user's
    /// shard. Full: refused with `overloaded`; the announcer of profiles retries, a rejection is not announced.
    Announce(Box<Announcement>),
    /// Sends a held text that a moderator has approved; to its author's shard. Full: refused with `overloaded`; the
    /// moderator approves it again.
    SendApproved(Box<Approval>),
    /// The rules of the content filter were changed; to every shard. Full: retried until it fits.
    FilterRules(Arc<FilterRuleSet>),
    /// The users whose budgets are shrunk by what PostgreSQL knows of them; to every shard.
    MarkedUsers(Arc<MarkedUsers>),
    /// The configuration was loaded again; to every shard. Full: retried until it fits.
    Live(Arc<LiveSettings>),
    /// Asks for the limits of a user; to the user's shard. Full: refused with `overloaded`.
    ExplainLimits(Box<LimitsQuestion>),
    /// Sessions were revoked; to every shard. Full: retried until it fits.
    SessionsRevoked(Arc<[SessionId]>),
    /// Stop accepting and start the shutdown. Full: retried until it fits.
    Drain,
}

/// From a shard to the control plane: a connection that is not a WebSocket. Full: the socket is answered 503.
pub struct HttpHandover<S = OwnedFd> {
    /// The socket.
    pub socket: S,
    /// What was received so far.
    pub received: Vec<u8>,
    /// The client that a trusted proxy has named in front of the request (`wire::proxy`).
    pub client: Option<IpAddr>,
}

const _: () = {
    assert!(size_of::<Request>() <= 32);
    assert!(size_of::<Delivery>() <= 48);
    assert!(size_of::<Answer>() <= 32);
    assert!(size_of::<ControlFrame>() <= 32);
};
