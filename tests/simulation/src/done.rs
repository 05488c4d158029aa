//! What a change of the model store did, and the outcome that its owner receives.

use chat_server::ids::{ConversationId, UserId};
use chat_server::mesh::frame::{CommittedOther, Notice, Signal, Verdict};
use chat_server::mesh::record::EventRecord;
use serde_json::{Value, json};

/// Something in the audit trail that other nodes must know.
#[derive(Clone, Copy, Debug)]
pub enum TrailRow {
    /// This user joined or left this conversation.
    Membership(UserId, ConversationId),
    /// One of two users has blocked the other.
    Block(UserId, UserId),
}

/// What a change did, kept so that a repeated submission is answered and not done again.
#[derive(Clone, Default)]
pub(crate) struct Done {
    pub(crate) conversation: Option<ConversationId>,
    pub(crate) event: Option<EventRecord>,
    pub(crate) gained: Vec<UserId>,
    pub(crate) lost: Vec<UserId>,
    pub(crate) blocked: Option<UserId>,
    /// The read marker that moved, whether only its user's own connections receive it, and who does not.
    pub(crate) read: Option<(i64, bool, Vec<UserId>)>,
    pub(crate) result: Value,
}

/// The outcome of a change.
pub(crate) fn verdict(actor: UserId, done: Done) -> Verdict {
    let marker = done.read.as_ref().map(|(seq, ..)| {
        serde_json::Map::from_iter([("user_id".to_owned(), json!(actor)), ("read_seq".to_owned(), json!(seq))])
    });
    let (_, is_private, hidden_from) = done.read.unwrap_or_default();
    let kind = || "read_updated".to_owned();
    let (signal, notices) = match marker {
        Some(payload) if is_private => (None, vec![Notice { users: vec![actor], kind: kind(), payload }]),
        Some(payload) => (Some(Signal { kind: kind(), payload, hidden_from }), Vec::new()),
        None => (None, Vec::new()),
    };
    Verdict::Other(Box::new(CommittedOther {
        conversation: done.conversation,
        events: done.event.into_iter().collect(),
        result: if done.result.is_null() { json!({}) } else { done.result },
        gained: done.gained,
        lost: done.lost,
        signal,
        notices,
        blocked: done.blocked,
    }))
}
