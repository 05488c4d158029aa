//! Everything that crosses between cores: closed enums, one per lane, each variant with its loss policy.

use super::event::{EncodedEvent, EncodedNotice, MembershipChange, Published};
use super::record::{LogEntry, MessagePage, MessageRecord, OpenedSession, PresenceRecord, ThreadState};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, MessageId, Seq, SessionId, ShardId, UserId};
use crate::limits::BUDGETS;
use serde_json::Value;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// Names a waiting request at the shard that made it; that shard's table says who waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    /// The shard that waits.
    pub shard: ShardId,
    /// Index into its table.
    pub index: u32,
}

/// Shard to shard, lane of requests. Full: the sender refuses the command with `overloaded`, or keeps the item and
/// tries again at its next turn where a variant says so.
pub enum Request<S = OwnedFd> {
    /// To a conversation's owner. Full: `overloaded`.
    Mutate(Box<Mutation>),
    /// To a conversation's owner: somebody types. Full: dropped; the next one comes in two seconds.
    Typing {
        /// Where.
        conversation: ConversationId,
        /// Who.
        user: UserId,
    },
    /// To a conversation's owner: this shard wants its events in these formats; 0 for no more. Kept and tried again.
    Interest {
        /// Of what.
        conversation: ConversationId,
        /// The shard that wants them.
        shard: ShardId,
        /// Bits of the formats that its subscribers read.
        formats: u8,
    },
    /// To a user's shard: a socket whose token is valid. Full: the socket is answered 503.
    Admit(Box<Admission<S>>),
    /// To the home shard of a conversation hint: an admitted socket. Full: the user's shard keeps the socket itself.
    Settle(Box<Settlement<S>>),
    /// To a user's shard: what they want to show. Full: `overloaded`.
    SetPresence(Box<PresenceChoice>),
    /// To a user's shard: what do they show? Full: left out of the answer.
    Presence {
        /// Who.
        user: UserId,
        /// Who waits.
        token: Token,
        /// The shard that wants to hear of changes from now on.
        watcher: Option<ShardId>,
    },
    /// To a user's shard: nobody here wants to hear of them any more. Full: dropped; the next change asks again.
    PresenceUnwatched {
        /// Of whom.
        user: UserId,
        /// Where.
        shard: ShardId,
    },
    /// To a user's shard: one of its connections has ended. Kept and tried again.
    Departed {
        /// Whose.
        user: UserId,
    },
}

/// What a user wants to show of being there.
pub struct PresenceChoice {
    /// Who.
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
        /// Of what.
        conversation: ConversationId,
        /// The formats that are encoded for this shard.
        formats: u8,
        /// What the owner last published.
        published: Published,
    },
    /// A user's membership changed; sent to every shard, after the event that says so.
    Membership(MembershipChange),
    /// Something for the connections of some users; sent to every shard.
    Notice(Arc<EncodedNotice>),
    /// A user shows something else; sent to the shards that want to hear of it.
    Presence(Arc<PresenceRecord>),
    /// One of two users wants nothing of the other any more; sent to every shard.
    Parted(UserId, UserId),
}

/// A change somebody wants to make. Travels to the owner, to the I/O shard and back with its outcome.
#[derive(Debug)]
pub struct Mutation {
    /// Where; none while it is being created.
    pub conversation: Option<ConversationId>,
    /// Who.
    pub actor: UserId,
    /// The connection that asked, which does not need to be told by an event what the answer says.
    pub origin: Option<ConnId>,
    /// Who waits for the answer.
    pub token: Token,
    /// The shard that sequences the conversation: where the outcome goes.
    pub owner: ShardId,
    /// When its bytes were received.
    pub received_at: Instant,
    /// When it was handed to the thread that has it now.
    pub handed_over_at: Instant,
    /// When it is too late to begin.
    pub deadline: Instant,
    /// Its asker was told already that the outcome is not known; the outcome is only published.
    pub answered: bool,
    /// What.
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
        /// A message of the thread it belongs to.
        parent: Option<MessageId>,
        /// The key under which it is stored once: the client's, or one that the server made.
        key: String,
        /// Whether the client gave it.
        key_is_clients: bool,
    },
    /// Anything else: a row in the table of kinds. `mutate_<kind>` in PostgreSQL does it.
    Other {
        /// The kind's name.
        kind: &'static str,
        /// The server's idempotency key, below 2^63.
        mutation_id: i64,
        /// What the kind's function reads.
        arguments: Value,
    },
}

/// I/O shard to a conversation's owner. Each mutation has places for both reserved, so neither is ever lost.
pub enum CommitOutcome {
    /// The deadline passed while it was in PostgreSQL's hands: its asker is told that this is not known. The final
    /// outcome follows.
    Unresolved(Token),
    /// What became of it, with the mutation given back.
    Final(Box<Mutation>, Verdict),
}

/// What became of a mutation.
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
    /// It had been sent before: `record` has only id, seq and time right.
    pub duplicate: bool,
    /// Whether subscribers may not have seen it yet.
    pub publish: bool,
    /// Of a reply, the thread that it is in now.
    pub thread: Option<ThreadState>,
}

/// Another durable mutation.
pub struct CommittedOther {
    /// Where; known for created conversations too. None for what belongs to no conversation.
    pub conversation: Option<ConversationId>,
    /// Events to publish, ascending.
    pub events: Vec<super::record::EventRecord>,
    /// The ack's data.
    pub result: Value,
    /// Users who became members.
    pub gained: Vec<UserId>,
    /// Users who are members no more.
    pub lost: Vec<UserId>,
    /// An event without seq: name and data.
    pub signal: Option<(String, serde_json::Map<String, Value>)>,
    /// Events without seq for some users only.
    pub notices: Vec<Notice>,
    /// Whom the actor has parted with: neither hears of the other's presence any more.
    pub parted: Option<UserId>,
}

/// What a mutation tells some users beside the log.
#[derive(Clone, PartialEq, Debug)]
pub struct Notice {
    /// Whom.
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
    /// A stretch of the change log, ascending, and whether it is all there is.
    Log(Box<LogPage>),
    /// What a user shows.
    Presence(Arc<PresenceRecord>),
    /// Where a message, or an invitation, belongs; none where there is nothing that the user may know of.
    Located(Option<ConversationId>),
    /// The newest seq of the conversations asked for, as far as the user is a member.
    Heads(Vec<(ConversationId, Seq)>),
    /// A session may be opened.
    Session(Box<OpenedSession>),
    /// No.
    Refused(Box<Refusal>),
}

impl Answer {
    /// The data of an ack.
    ///
    /// # Errors
    /// The refusal; so for the others below.
    pub fn into_data(self) -> Result<Value, Box<Refusal>> {
        if let Self::Data(data) = self { Ok(*data) } else { Err(self.into_refusal()) }
    }

    /// A stretch of the log.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_log(self) -> Result<Box<LogPage>, Box<Refusal>> {
        if let Self::Log(page) = self { Ok(page) } else { Err(self.into_refusal()) }
    }

    /// What a user shows.
    ///
    /// # Errors
    /// The refusal.
    pub fn into_presence(self) -> Result<Arc<PresenceRecord>, Box<Refusal>> {
        if let Self::Presence(shown) = self { Ok(shown) } else { Err(self.into_refusal()) }
    }

    /// A conversation, if there is one that the user may know of.
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

    /// The refusal. An answer to another question is a fault of the server's own, and refuses too: otherwise the
    /// asker would wait for good.
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
                    "a request got the answer to another question: this is a fault of the server"
                );
                let message = "the server mixed up two answers; this is a fault of its own";
                Box::new(Refusal::new(ErrorCode::Internal, message))
            }
        }
    }
}

/// A stretch of a conversation's change log.
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
    /// Where.
    pub conversation_id: ConversationId,
    /// Its place in the log.
    pub seq: Seq,
    /// When it was committed, RFC 3339.
    pub created_at: String,
    /// Whether it had been sent before.
    pub duplicate: bool,
}

/// A read for one user, made under that user's row level security. The place for its answer is reserved.
pub struct ReadRequest {
    /// Who waits.
    pub token: Token,
    /// Whose eyes.
    pub user: UserId,
    /// When nobody waits any more.
    pub deadline: Instant,
    /// What.
    pub query: Query,
}

/// What can be read.
#[derive(Clone, PartialEq, Debug)]
pub enum Query {
    /// May this session be opened? Spends the ticket, if one was used.
    OpenSession {
        /// The sign-in.
        session: SessionId,
        /// The ticket's id and its expiry in seconds of Unix time.
        ticket: Option<(String, i64)>,
        /// Whether to list the user's conversations.
        with_conversations: bool,
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
    /// The newest seq of each of these, as far as the user is a member.
    Heads(Vec<ConversationId>),
    /// As [`Self::Head`]; also refuses when others in the conversation must not see that the user types.
    HeadForTyping(ConversationId),
    /// The change log after a seq.
    Log {
        /// Which.
        conversation: ConversationId,
        /// After this one.
        after: Seq,
        /// Most entries.
        limit: i64,
    },
    /// Messages before a seq (newest when none).
    HistoryBefore {
        /// Which.
        conversation: ConversationId,
        /// Before this one.
        before: Seq,
        /// Most messages.
        limit: i64,
    },
    /// Messages after a seq.
    HistoryAfter {
        /// Which.
        conversation: ConversationId,
        /// After this one.
        after: Seq,
        /// Most messages.
        limit: i64,
    },
    /// Messages around one.
    HistoryAround {
        /// Which.
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
        /// Which.
        conversation: ConversationId,
        /// After this user's number.
        cursor: i64,
        /// Most rows.
        limit: i64,
    },
}

/// What became of a read.
pub struct ReadResult {
    /// Who waits.
    pub token: Token,
    /// The answer.
    pub answer: Answer,
}

/// What an upgrade request asked for.
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
    /// Who.
    pub user: UserId,
    /// The sign-in.
    pub session: SessionId,
    /// When the access token expires, seconds of Unix time.
    pub token_expires_seconds: i64,
    /// The ticket's id and expiry, when one was used.
    pub ticket: Option<(String, i64)>,
    /// When its session is looked up, in milliseconds of the process's clock.
    pub looked_up_ms: u64,
}

/// An admitted socket on its way home.
pub struct Settlement<S = OwnedFd> {
    /// As it was admitted.
    pub admission: Admission<S>,
    /// Who and which conversations.
    pub opened: OpenedSession,
    /// The user's budgets, shared by their connections; see `chat::budget`.
    pub budgets: Arc<[AtomicU64; BUDGETS]>,
    /// The user has too many connections: this one is closed with 4004.
    pub too_many: bool,
}

/// From the control plane to a shard. Full: the control plane waits and tries again.
pub enum ControlFrame {
    /// A command that came over HTTP; to the user's shard.
    Command(Box<HttpCommand>),
    /// A user's profile is to be told in the log of a conversation of theirs; to the user's shard.
    Announce(Box<Announcement>),
    /// Sessions were revoked; to every shard.
    SessionsRevoked(Arc<[SessionId]>),
    /// Stop accepting and say goodbye.
    Drain,
}

/// Where the answer to the control plane goes.
pub type HttpReply = Box<dyn FnOnce(Result<Vec<u8>, Refusal>) + Send>;

/// A command that came over HTTP.
pub struct HttpCommand {
    /// Who.
    pub user: UserId,
    /// The command's JSON.
    pub body: Vec<u8>,
    /// Called once with the ack's data as JSON, or the refusal.
    pub reply: HttpReply,
}

/// A profile to be told in a conversation's log.
pub struct Announcement {
    /// Whose.
    pub user: UserId,
    /// Where.
    pub conversation: ConversationId,
    /// Called once with what became of it.
    pub reply: HttpReply,
}

/// From a shard to the control plane: a connection that is no WebSocket. Full: the socket is answered 503.
pub struct HttpHandover<S = OwnedFd> {
    /// The socket.
    pub socket: S,
    /// What was received so far.
    pub received: Vec<u8>,
}

const _: () = {
    assert!(size_of::<Request>() <= 32);
    assert!(size_of::<Delivery>() <= 48);
    assert!(size_of::<Answer>() <= 32);
    assert!(size_of::<ControlFrame>() <= 32);
};
