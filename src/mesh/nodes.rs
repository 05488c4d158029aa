//! What crosses between the nodes of a cluster: each node is a whole server, and PostgreSQL orders them.
//!
//! ```text
//!   owner shard ──ToNodes──► cluster thread ──Redis──► cluster thread of another node ──FromNodes──► owner shard there
//!                                  ▲                               │
//!                                  └── heads and changes of membership, read from PostgreSQL
//! ```
//!
//! Nothing here is the only way of what must arrive. An event of the log that is lost on the way leaves a gap, or is
//! found by its head; a change of membership and a block are in the audit trail, which every node reads. What is not in
//! the log (typing, notices) may be lost, as when a client reads too slowly.

use super::event::{EncodedEvent, EncodedNotice, MembershipChange};
use super::invocation::{NodeAnswer, NodeInvocation, NodeOutcome};
use crate::ids::{ConversationId, Seq, UserId};
use crate::limits::BUDGETS;
use std::sync::Arc;

/// From a shard to the cluster thread. Full: [`ToNodes::Follow`] is kept and sent at the next turn, and
/// [`ToNodes::Presence`] at the next round; everything else is dropped and counted.
/// While Redis is away, everything but [`ToNodes::Follow`] is dropped before it reaches the lane.
pub enum ToNodes {
    /// An event that this shard published as the owner of its conversation, in every format.
    Event(Arc<EncodedEvent>),
    /// Something for the connections of some users.
    Notice(Arc<EncodedNotice>),
    /// A user joined or left a conversation; after the event that reports it.
    Membership(MembershipChange),
    /// One of two users has blocked the other.
    Blocked(UserId, UserId),
    /// What users of this shard show on this node: those for whom it has changed, and regularly all who are connected
    /// here. Full: kept and sent at the next round.
    Presence(Vec<NodePresence>),
    /// What users have spent on this shard: people, or bots.
    Spent(Vec<SpentBudgets>),
    /// A command for a bot that is connected to another node.
    Invoke(Box<NodeInvocation>),
    /// The answer of a bot to a command that another node keeps.
    AnswerInvocation(Box<NodeAnswer>),
    /// What became of such an answer.
    Answered(Box<NodeOutcome>),
    /// Whether this node has subscribers of a conversation.
    Follow {
        /// The conversation.
        conversation: ConversationId,
        /// Whether it has some now.
        has_subscribers: bool,
    },
}

impl ToNodes {
    /// Whether it is for other nodes; otherwise it is for the cluster thread itself.
    #[must_use]
    pub fn is_for_others(&self) -> bool {
        !matches!(self, Self::Follow { .. })
    }
}

/// From the cluster thread to a shard. Full: what came through Redis is dropped, and the head of its conversation is
/// compared with PostgreSQL; what the audit trail has is tried again.
pub enum FromNodes {
    /// To the owner of the conversation: an event that another node committed.
    Event(Arc<EncodedEvent>),
    /// To the owner of the conversation: its newest event, as PostgreSQL has it.
    Head(ConversationId, Seq),
    /// To the owner of the conversation: a user joined or left it. It passes this on behind the events before it.
    Membership(MembershipChange),
    /// To every shard: something for the connections of some users.
    Notice(Arc<EncodedNotice>),
    /// To every shard: one of two users has blocked the other.
    Blocked(UserId, UserId),
    /// To every shard: that node lives; and what the shard's users show there.
    Presence(u64, Vec<NodePresence>),
    /// To the users' shard: what they have spent on another node.
    Spent(Vec<SpentBudgets>),
    /// To the bot's shard: a command for a bot that is connected here.
    Invoke(Box<NodeInvocation>),
    /// To the bot's shard: an answer to a command that this node may keep.
    AnswerInvocation(Box<NodeAnswer>),
    /// To the bot's shard: what became of an answer.
    Answered(Box<NodeOutcome>),
}

/// What a user has spent on one node since that node published it last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SpentBudgets {
    /// The user.
    pub user: UserId,
    /// By the index of the budget.
    pub spent: [u32; BUDGETS],
    /// Whether the user is a bot, which has limits of its own.
    pub is_bot: bool,
}

/// What a user shows on one node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodePresence {
    /// The user.
    pub user: UserId,
    /// Connections to that node.
    pub connections: u32,
    /// `away`, `busy` or `invisible`; none for online.
    pub chosen: Option<&'static str>,
    /// In their own words.
    pub text: Option<Box<str>>,
    /// When the user chose that, in milliseconds of Unix time. The latest choice counts on every node.
    pub chosen_at_ms: i64,
    /// When that node last saw an offline user online, in milliseconds of Unix time.
    pub last_seen_ms: Option<i64>,
}
