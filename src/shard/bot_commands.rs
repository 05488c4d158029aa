//! Slash commands: from a user to a bot, and back. The part that does no I/O: what is to be done is in an outbox, which
//! `pump` empties.
//!
//! 1. `run_command` asks PostgreSQL whether the user may send here, and for the bot that has the command (`commands`) →
//!    the bot's shard keeps the invocation here.
//! 2. That shard sends `command_invoked` to one connection of the bot: the one that was opened last on this node, among
//!    those whose token may answer in the conversation. If there is none here, another node with connections of the
//!    bot does the same. If there is none at all, the control plane posts it to the URL of the command.
//! 3. `answer_command` goes to the bot's shard. If that does not keep the invocation, the nodes are asked. In public,
//!    the answer is an ordinary message of the bot, whose key is the id of the invocation; in private, it is an event
//!    for the user's connections. Both commands are acknowledged with the outcome.
//!
//! Invariants:
//! - the shard that keeps an invocation decides alone when it ends. A bot whose answer came too late learns of it;
//! - what a node does not tell another one in time is refused: nothing waits forever for Redis.

use crate::chat::invocations::{InvocationBound, Invocations, Parties};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, MessageId, UserId};
use crate::limits::{COMMAND_ANSWER_MS, INVOCATIONS_MAX, INVOCATIONS_PER_BOT_MAX, INVOCATIONS_PER_USER_MAX};
use crate::mesh::bot_grant::{BotGrant, Scope};
use crate::mesh::frame::{Answer, Token};
use crate::mesh::invocation::{
    BotConnection, BotPost, GivenAnswer, Invocation, InvocationAnswer, InvocationId, NodeAnswer, NodeInvocation,
    NodeOutcome,
};
use crate::mesh::nodes::ToNodes;
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Who waits for the outcome of an answer.
#[derive(Clone, Copy, Debug)]
enum Answerer {
    /// A command of this node.
    Here(Token),
    /// That of another node, under this number.
    Node(u64),
}

/// What belongs to an invocation that waits.
struct WaitingInvocation {
    token: Token,
    parties: Parties,
    conversation: ConversationId,
    parent: Option<MessageId>,
    command: Box<str>,
    /// While its answer is being committed.
    answerer: Option<Answerer>,
}

/// A public answer, as the message that it becomes.
pub(super) struct PublicAnswer {
    pub(super) id: InvocationId,
    pub(super) bot: UserId,
    pub(super) parent: Option<MessageId>,
    pub(super) content: Box<str>,
}

/// What is to be done once the lanes have room.
pub(super) enum Due {
    /// Answer a command.
    Answer(Token, Answer),
    /// Send `command_invoked` to a connection of a bot.
    Invoke(ConnId, Arc<Value>),
    /// Tell the other nodes.
    ToNodes(ToNodes),
    /// Have it posted to a URL.
    Post(Box<BotPost>),
    /// Send `command_answered` to a user.
    Notify(UserId, Value),
    /// Send a message of the bot.
    Send(Box<PublicAnswer>),
}

/// The slash commands of the bots of one shard.
#[derive(Default)]
pub(super) struct BotCommands {
    invocations: Invocations<WaitingInvocation>,
    /// The connections of each bot to this node, in the order in which they were opened.
    connections: HashMap<UserId, Vec<(ConnId, Arc<BotGrant>)>>,
    /// Connections that the bot's shard does not know yet.
    pub(super) arrivals: VecDeque<BotConnection>,
    /// Answers that another node decides about, by number, and those numbers by the time at which they are given up.
    elsewhere: HashMap<u64, Token>,
    elsewhere_due: VecDeque<(u64, u64)>,
    outbox: VecDeque<Due>,
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
    fn receiver(&self, bot: UserId, conversation: ConversationId) -> Option<ConnId> {
        let may_answer = |grant: &BotGrant| grant.has(Scope::Write) && grant.covers(conversation);
        let connections = self.connections.get(&bot)?.iter().rev();
        connections.clone().find(|(_, grant)| may_answer(grant)).map(|(conn, _)| *conn)
    }

    pub(super) fn waiting(&self) -> usize {
        self.invocations.len() + self.elsewhere.len() + self.outbox.len()
    }

    /// What is to be done next.
    pub(super) fn next_due(&mut self) -> Option<Due> {
        self.outbox.pop_front()
    }

    fn answer(&mut self, token: Token, outcome: Result<Value, Refusal>) {
        let answer = match outcome {
            Ok(data) => Answer::Data(Box::new(data)),
            Err(refusal) => Answer::Refused(Box::new(refusal)),
        };
        self.outbox.push_back(Due::Answer(token, answer));
    }

    fn tell(&mut self, answerer: Answerer, bot: UserId, outcome: Result<Value, Refusal>) {
        match answerer {
            Answerer::Here(token) => self.answer(token, outcome),
            Answerer::Node(number) => {
                let outcome = NodeOutcome { number, bot, outcome };
                self.outbox.push_back(Due::ToNodes(ToNodes::Answered(Box::new(outcome))));
            }
        }
    }

    /// Begins an invocation with this number, which is random. `node`: another node with connections of the bot.
    pub(super) fn invoke(&mut self, now_ms: u64, number: u64, node: Option<u64>, invocation: Invocation) {
        let Invocation { token, user, bot, conversation, parent, command, has_url, mut shown } = invocation;
        let id = InvocationId { conversation, number };
        shown.insert("invocation_id".to_owned(), json!(id.to_string()));
        shown.insert("deadline_ms".to_owned(), json!(COMMAND_ANSWER_MS));
        let shown = Value::Object(shown);
        let parties = Parties { user, bot };
        let waiting =
            WaitingInvocation { token, parties, conversation, parent, command: command.clone(), answerer: None };
        if let Err(bound) = self.invocations.begin(now_ms, number, parties, waiting) {
            return self.answer(token, Err(too_many(bound)));
        }
        self.outbox.push_back(if let Some(conn) = self.receiver(bot, conversation) {
            Due::Invoke(conn, Arc::new(shown))
        } else if let Some(to) = node {
            Due::ToNodes(ToNodes::Invoke(Box::new(NodeInvocation { to, bot, conversation, shown })))
        } else if has_url {
            Due::Post(Box::new(BotPost { bot, command, id, shown }))
        } else {
            return self.offline(number);
        });
    }

    /// Nothing can receive an invocation.
    pub(super) fn offline(&mut self, number: u64) {
        if let Some(waiting) = self.invocations.end(number) {
            let refusal = Refusal::new(ErrorCode::NotFound, "The bot is offline. Try again later.");
            self.answer(waiting.token, Err(refusal));
        }
    }

    /// An invocation that another node keeps, for a bot that was connected here.
    pub(super) fn invoke_for_node(&mut self, invocation: NodeInvocation) {
        let NodeInvocation { bot, conversation, shown, .. } = invocation;
        if let Some(conn) = self.receiver(bot, conversation) {
            self.outbox.push_back(Due::Invoke(conn, Arc::new(shown)));
        }
    }

    /// A bot answers. `number`, which is random, names the answer to the other nodes, if there are any.
    pub(super) fn take_answer(&mut self, now_ms: u64, number: Option<u64>, answer: InvocationAnswer) {
        let InvocationAnswer { token, bot, given } = answer;
        if self.settle(now_ms, Answerer::Here(token), bot, &given) {
            return;
        }
        let Some(number) = number.filter(|_| self.elsewhere.len() < INVOCATIONS_MAX) else {
            return self.answer(token, Err(not_open()));
        };
        self.elsewhere.insert(number, token);
        self.elsewhere_due.push_back((now_ms + COMMAND_ANSWER_MS, number));
        let answer = NodeAnswer { number, bot, given };
        self.outbox.push_back(Due::ToNodes(ToNodes::AnswerInvocation(Box::new(answer))));
    }

    /// The answer to an invocation that this node may keep. If it does not, another node has it, or none.
    pub(super) fn take_node_answer(&mut self, now_ms: u64, answer: &NodeAnswer) {
        self.settle(now_ms, Answerer::Node(answer.number), answer.bot, &answer.given);
    }

    /// Another node has decided about an answer.
    pub(super) fn take_node_outcome(&mut self, outcome: NodeOutcome) {
        if let Some(token) = self.elsewhere.remove(&outcome.number) {
            self.answer(token, outcome.outcome);
        }
    }

    /// Returns whether the invocation is open here; then it is answered.
    fn settle(&mut self, now_ms: u64, answerer: Answerer, bot: UserId, given: &GivenAnswer) -> bool {
        let GivenAnswer { id, is_public, content } = given;
        let open = self.invocations.open(now_ms, id.number, bot);
        let Some(waiting) = open.filter(|waiting| waiting.conversation == id.conversation) else { return false };
        if *is_public {
            let message = PublicAnswer { id: *id, bot, parent: waiting.parent, content: content.clone() };
            self.invocations.sending(id.number);
            self.invocations.change(id.number, |waiting| waiting.answerer = Some(answerer));
            self.outbox.push_back(Due::Send(Box::new(message)));
            return true;
        }
        let Some(waiting) = self.invocations.end(id.number) else { return false };
        let mut data = json!({ "invocation_id": id.to_string(), "visibility": "private" });
        self.tell(answerer, bot, Ok(data.clone()));
        data["content"] = json!(content);
        self.answer(waiting.token, Ok(data.clone()));
        data["conversation_id"] = json!(waiting.conversation);
        data["command"] = json!(waiting.command);
        data["bot_id"] = json!(bot);
        self.outbox.push_back(Due::Notify(waiting.parties.user, data));
        true
    }

    /// The message that answers an invocation was committed or refused.
    pub(super) fn sent(&mut self, now_ms: u64, id: InvocationId, bot: UserId, sent: Result<Value, Refusal>) {
        let mut answerer = None;
        self.invocations.change(id.number, |waiting| answerer = waiting.answerer.take());
        let outcome = match sent {
            Ok(receipt) => {
                let data = json!({
                    "invocation_id": id.to_string(), "visibility": "public", "message_id": receipt["message_id"],
                    "seq": receipt["seq"],
                });
                if let Some(waiting) = self.invocations.end(id.number) {
                    self.answer(waiting.token, Ok(data.clone()));
                }
                Ok(data)
            }
            Err(refusal) => {
                if let Some(waiting) = self.invocations.refused(now_ms, id.number) {
                    self.answer(waiting.token, Err(no_answer()));
                }
                Err(refusal)
            }
        };
        if let Some(answerer) = answerer {
            self.tell(answerer, bot, outcome);
        }
    }

    /// Ends what was not answered in time.
    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some(waiting) = self.invocations.next_overdue(now_ms) {
            self.answer(waiting.token, Err(no_answer()));
        }
        while self.elsewhere_due.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let given_up = self.elsewhere_due.pop_front().and_then(|(_, number)| self.elsewhere.remove(&number));
            if let Some(token) = given_up {
                self.answer(token, Err(not_open()));
            }
        }
    }
}

/// The refusal of an answer that nothing waits for.
pub(super) fn not_open() -> Refusal {
    let message = "data.invocation_id: There is no such invocation, it was answered, or its time is over.";
    Refusal::new(ErrorCode::NotFound, message)
}

fn no_answer() -> Refusal {
    let message = "The bot did not answer within 3 seconds. Try again later.";
    Refusal::new(ErrorCode::DeadlineExceeded, message)
}

fn too_many(bound: InvocationBound) -> Refusal {
    let (what, scope, limit) = match bound {
        InvocationBound::OfBot => ("commands of this bot", "recipient", INVOCATIONS_PER_BOT_MAX),
        InvocationBound::OfUser => ("commands that you run", "user", INVOCATIONS_PER_USER_MAX),
        InvocationBound::InAll => ("commands of bots", "server", INVOCATIONS_MAX),
    };
    Refusal::overloaded(what, ("invocations", scope, limit))
}
