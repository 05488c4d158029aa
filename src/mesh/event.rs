//! What owners send to the shards with subscribers: plain data, serialised once, shared by reference.

use crate::ids::{ConnId, ConversationId, Seq, UserId};
use crate::limits::TYPING_PERMISSION_MS;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// An event, serialised at most once per format.
#[derive(Clone)]
pub struct EncodedEvent {
    /// The conversation it belongs to.
    pub conversation: ConversationId,
    /// Its position in the log; none for signals (typing, read markers).
    pub seq: Option<Seq>,
    /// Its name on the wire.
    pub kind: Cow<'static, str>,
    /// Whole WebSocket frames, in the order of `wire::Format`; none where no subscriber reads that format.
    pub frames: [Option<Arc<[u8]>>; 2],
    /// The sender of a message and the sender's own key for it, which only the sender's copies carry.
    pub sender_key: Option<(UserId, Box<str>)>,
    /// A user who does not need it.
    pub except_user: Option<UserId>,
    /// Whom a signal is about, and who must not receive it.
    pub about: Option<Hiding>,
    /// A connection that does not need it.
    pub except_connection: Option<ConnId>,
    /// Who left by it. In a cluster, the owner passes this on right behind the event, so that nobody receives what
    /// comes after their departure, whichever node commits it.
    pub departure: Option<MembershipChange>,
    /// When the bytes that caused it were received.
    pub received_at: Instant,
    /// When its owner published it.
    pub published_at: Instant,
}

impl EncodedEvent {
    /// Bytes of its frames, all formats together.
    #[must_use]
    pub fn frame_bytes(&self) -> usize {
        self.frames.iter().flatten().map(|frame| frame.len()).sum()
    }
}

/// Who must not receive a signal about a user.
#[derive(Clone, Debug)]
pub struct Hiding {
    /// The user.
    pub user: UserId,
    /// Users between whom and that user there was a block when PostgreSQL was asked.
    pub from: Arc<[UserId]>,
    /// When it was asked, in milliseconds of the process's clock. Later blocks are in `directory::recent`.
    pub asked_ms: u64,
}

/// PostgreSQL's answer that a user may be seen typing in a conversation.
#[derive(Clone, Debug)]
pub struct TypingPermission {
    /// The conversation.
    pub conversation: ConversationId,
    /// When PostgreSQL was asked, in milliseconds of the process's clock.
    pub asked_ms: u64,
    /// Members who have blocked the user, or whom the user has blocked.
    pub hidden_from: Arc<[UserId]>,
}

impl TypingPermission {
    /// Whether it is still valid for this conversation.
    #[must_use]
    pub fn is_valid(&self, conversation: ConversationId, now_ms: u64) -> bool {
        self.conversation == conversation && now_ms < self.asked_ms + TYPING_PERMISSION_MS
    }
}

/// An event outside the log that concerns some users only, serialised once per format.
pub struct EncodedNotice {
    /// The users it concerns.
    pub users: Vec<UserId>,
    /// The connection that caused it. It receives the answer instead.
    pub except: Option<ConnId>,
    /// Whole WebSocket frames, in the order of `wire::Format`.
    pub frames: [Arc<[u8]>; 2],
}

/// What an owner knows of a conversation's newest published event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Published {
    /// This event was published last.
    Upto(Seq),
    /// Nothing was published within the owner's memory: a recent read of the log is complete.
    Nothing,
    /// The owner had to forget: only a read that is made after this answer is complete.
    Unknown,
}

/// A user joined or left a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MembershipChange {
    /// The user.
    pub user: UserId,
    /// The conversation.
    pub conversation: ConversationId,
    /// The position of the change in the conversation's log.
    pub seq: Seq,
    /// True: the user is a member now.
    pub gained: bool,
}
