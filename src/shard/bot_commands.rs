//! What a shard keeps of slash commands: those that wait for an answer, and the connections of its bots. `invocations`
//! has the steps.

use crate::chat::invocations::{Invocations, Parties};
use crate::ids::{ConnId, ConversationId, MessageId, UserId};
use crate::mesh::bot_grant::{BotGrant, Scope};
use crate::mesh::frame::{Answer, Token};
use crate::mesh::invocation::{BotConnection, NodeOutcome};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Who waits for the outcome of an answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answerer {
    /// A command of this node.
    Here(Token),
    /// That of another node, under this number.
    Node(u64),
}

/// What belongs to an invocation that waits.
pub(super) struct WaitingInvocation {
    pub(super) token: Token,
    pub(super) parties: Parties,
    pub(super) conversation: ConversationId,
    pub(super) parent: Option<MessageId>,
    pub(super) command: Box<str>,
    /// While its answer is being committed.
    pub(super) answerer: Option<Answerer>,
}

/// What is to be delivered once the lanes have room.
pub(super) enum Due {
    Answer(Token, Answer),
    ToNode(NodeOutcome),
}

/// The slash commands of the bots of one shard.
#[derive(Default)]
pub(super) struct BotCommands {
    pub(super) invocations: Invocations<WaitingInvocation>,
    /// The connections of each bot to this node, in the order in which they were opened.
    connections: HashMap<UserId, Vec<(ConnId, Arc<BotGrant>)>>,
    /// Connections that the bot's shard does not know yet.
    pub(super) arrivals: VecDeque<BotConnection>,
    /// Answers that another node decides about, by number, and those numbers by the time at which they are given up.
    pub(super) elsewhere: HashMap<u64, Token>,
    pub(super) elsewhere_due: VecDeque<(u64, u64)>,
    pub(super) outbox: VecDeque<Due>,
}

impl BotCommands {
    pub(super) fn connected(&mut self, connection: BotConnection) {
        let BotConnection { bot, conn, grant } = connection;
        self.connections.entry(bot).or_default().push((conn, grant));
    }

    pub(super) fn departed(&mut self, user: UserId, conn: ConnId) {
        if let Some(connections) = self.connections.get_mut(&user) {
            connections.retain(|(known, _)| *known != conn);
            if connections.is_empty() {
                self.connections.remove(&user);
            }
        }
    }

    /// The connection that receives an invocation.
    pub(super) fn receiver(&self, bot: UserId, conversation: ConversationId) -> Option<ConnId> {
        let may_answer = |grant: &BotGrant| grant.has(Scope::Write) && grant.covers(conversation);
        let connections = self.connections.get(&bot)?.iter().rev();
        connections.clone().find(|(_, grant)| may_answer(grant)).map(|(conn, _)| *conn)
    }

    pub(super) fn waiting(&self) -> usize {
        self.invocations.len() + self.elsewhere.len() + self.outbox.len()
    }
}
