//! Types that the fields of commands are read into.

use crate::ids::{ConversationId, MessageId, Seq};

/// The part of a history to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryWindow {
    /// The newest messages.
    Newest,
    /// The nearest messages with a smaller seq.
    Before(Seq),
    /// The nearest messages with a larger seq.
    After(Seq),
    /// The nearest messages on both sides of a message.
    Around(MessageId),
}

/// The conversation of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConversationRef {
    /// None, or one that does not exist yet.
    None,
    /// This one.
    Conversation(ConversationId),
    /// The conversation of this message.
    OfMessage(MessageId),
    /// The conversation of this invitation code.
    OfInvite(String),
}

/// Arguments of `mutate_<name>` or `read_<name>` in PostgreSQL: the checked data of the command.
pub type Arguments = serde_json::Map<String, serde_json::Value>;
