//! Slash commands: from a user to a bot, and back.
//!
//! 1. `run_command` asks PostgreSQL whether the user may send here, and for the bot that has the command → the bot's
//!    shard keeps the invocation (`chat::invocations`).
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

use super::Shard;
use super::bot_commands::{Answerer, Due, WaitingInvocation};
use super::refusals::{full_lane, too_many_reads};
use super::requests::{Invoking, Origin, Pending, PendingCommand, SentBy};
use super::send::NewMessage;
use super::world::{Clock as _, World};
use crate::chat::invocations::{InvocationBound, Parties};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, MessageId, UserId};
use crate::limits::{COMMAND_ANSWER_MS, Feature, INVOCATIONS_MAX, INVOCATIONS_PER_BOT_MAX, INVOCATIONS_PER_USER_MAX};
use crate::mesh::frame::{Answer, Delivery, Query, Request};
use crate::mesh::invocation::{
    BotConnection, BotPost, GivenAnswer, Invocation, InvocationAnswer, InvocationId, NodeAnswer, NodeInvocation,
    NodeOutcome,
};
use crate::mesh::nodes::ToNodes;
use crate::mesh::port::Lanes as _;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

fn offline() -> Refusal {
    Refusal::new(ErrorCode::NotFound, "The bot is offline. Try again later.")
}

fn not_open() -> Refusal {
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

impl<W: World> Shard<W> {
    /// `run_command`.
    pub(super) fn run_command(
        &mut self,
        asked: PendingCommand,
        (user, conversation): (UserId, ConversationId),
        (command, text): (&str, &str),
        parent: Option<MessageId>,
    ) {
        let permitted = self
            .may_begin()
            .and_then(|()| self.may_use(parent.map(|_| Feature::MessageThreads)))
            .and_then(|()| self.may_send(&asked, user, text));
        if let Err(refusal) = permitted {
            return self.refuse(asked, &refusal);
        }
        let arguments =
            json!({ "conversation": conversation.number(), "command": command, "parent_message_id": parent });
        let query = Query::Lookup { name: "run_command", arguments };
        let invoking = Invoking { asked, user, conversation, parent, text: text.into() };
        if let Err(Pending::Invoke(back)) = self.read(user, query, Pending::Invoke(Box::new(invoking))) {
            self.refuse_later(back.asked, too_many_reads());
        }
    }

    /// PostgreSQL has found the bot, or not.
    pub(super) fn command_found(&mut self, invoking: Invoking, found: Result<Value, Box<Refusal>>) {
        let Invoking { asked, user, conversation, parent, text } = invoking;
        let mut found = match found {
            Ok(found) => found,
            Err(refusal) => return self.refuse(asked, &refusal),
        };
        let (Some(bot), Some(command)) = (found["bot_id"].as_i64().map(UserId), found["command"].as_str()) else {
            return self.refuse(asked, &Refusal::new(ErrorCode::Internal, "The server has a fault."));
        };
        let command = Box::from(command);
        let mut shown = serde_json::Map::new();
        shown.insert("conversation_id".to_owned(), json!(conversation));
        shown.insert("command".to_owned(), json!(command));
        shown.insert("text".to_owned(), json!(text));
        shown.insert("user".to_owned(), found["user"].take());
        if let Some(parent) = parent {
            shown.insert("parent_message_id".to_owned(), json!(parent));
        }
        let has_url = found["has_url"] == true;
        let token = self.requests.insert(Pending::Command(asked));
        let invocation = Invocation { token, user, bot, conversation, parent, command, has_url, shown };
        if self.request(self.placement.of_user(bot), Request::Invoke(Box::new(invocation))).is_err()
            && let Some(Pending::Command(asked)) = self.requests.take(token)
        {
            self.refuse(asked, &full_lane("the lane to the bot's shard"));
        }
    }

    /// At the bot's shard.
    pub(super) fn invoke(&mut self, invocation: Invocation) {
        let Invocation { token, user, bot, conversation, parent, command, has_url, mut shown } = invocation;
        let id = InvocationId { conversation, number: self.clock.random() };
        shown.insert("invocation_id".to_owned(), json!(id.to_string()));
        shown.insert("deadline_ms".to_owned(), json!(COMMAND_ANSWER_MS));
        let shown = Value::Object(shown);
        self.budgets_of(bot).set_is_bot(true);
        let parties = Parties { user, bot };
        let waiting =
            WaitingInvocation { token, parties, conversation, parent, command: command.clone(), answerer: None };
        if let Err(bound) = self.bots.invocations.begin(self.now_ms, id.number, parties, waiting) {
            return self.bots.outbox.push_back(Due::Answer(token, Answer::Refused(Box::new(too_many(bound)))));
        }
        let is_sent = if let Some(conn) = self.bots.receiver(bot, conversation) {
            self.deliver_to(conn.shard(), Delivery::Invoked(conn, Arc::new(shown)));
            true
        } else if let Some(to) = self.directory.users.node_of(bot, self.now_ms) {
            self.tell_nodes(|| ToNodes::Invoke(Box::new(NodeInvocation { to, bot, conversation, shown })));
            true
        } else {
            has_url && self.lanes.push_bot_post(Box::new(BotPost { bot, command, id, shown })).is_ok()
        };
        if !is_sent {
            self.bots.invocations.end(id.number);
            self.bots.outbox.push_back(Due::Answer(token, Answer::Refused(Box::new(offline()))));
        }
    }

    /// An invocation that another node keeps, for a bot that was connected here.
    pub(super) fn invoke_for_node(&mut self, invocation: NodeInvocation) {
        let NodeInvocation { bot, conversation, shown, .. } = invocation;
        if let Some(conn) = self.bots.receiver(bot, conversation) {
            self.deliver_to(conn.shard(), Delivery::Invoked(conn, Arc::new(shown)));
        }
    }

    /// `answer_command`.
    pub(super) fn answer_command(
        &mut self,
        asked: PendingCommand,
        bot: UserId,
        invocation: &str,
        is_public: bool,
        content: &str,
    ) {
        let Some(id) = InvocationId::parse(invocation) else { return self.refuse(asked, &not_open()) };
        let given = GivenAnswer { id, is_public, content: content.into() };
        let mut permitted = self.may_begin().and_then(|()| self.may_change(&asked, bot));
        // In public it is checked as a message.
        if permitted.is_ok() && !given.is_public {
            permitted = self.may_show(&asked, bot, ("answer_command", "content"), &given.content);
        }
        if let Err(refusal) = permitted {
            return self.refuse(asked, &refusal);
        }
        let token = self.requests.insert(Pending::Command(asked));
        let answer = Box::new(InvocationAnswer { token, bot, given });
        if self.request(self.placement.of_user(bot), Request::AnswerInvocation(answer)).is_err()
            && let Some(Pending::Command(asked)) = self.requests.take(token)
        {
            self.refuse(asked, &full_lane("the lane to the bot's shard"));
        }
    }

    /// At the bot's shard.
    pub(super) fn take_answer(&mut self, answer: InvocationAnswer) {
        let InvocationAnswer { token, bot, given } = answer;
        if self.settle_invocation(Answerer::Here(token), bot, &given) {
            return;
        }
        if !self.lanes.has_nodes() || self.bots.elsewhere.len() >= INVOCATIONS_MAX {
            return self.bots.outbox.push_back(Due::Answer(token, Answer::Refused(Box::new(not_open()))));
        }
        let number = self.clock.random();
        self.bots.elsewhere.insert(number, token);
        self.bots.elsewhere_due.push_back((self.now_ms + COMMAND_ANSWER_MS, number));
        self.tell_nodes(|| ToNodes::AnswerInvocation(Box::new(NodeAnswer { number, bot, given })));
    }

    /// The answer to an invocation that this node may keep.
    pub(super) fn take_node_answer(&mut self, answer: NodeAnswer) {
        let NodeAnswer { number, bot, given } = answer;
        self.settle_invocation(Answerer::Node(number), bot, &given); // if not here, another node has it, or none
    }

    /// Another node has decided about an answer.
    pub(super) fn take_node_outcome(&mut self, outcome: NodeOutcome) {
        let Some(token) = self.bots.elsewhere.remove(&outcome.number) else { return };
        self.bots.outbox.push_back(Due::Answer(token, answer_of(outcome.outcome)));
    }

    /// Returns whether the invocation is open here; then it is answered.
    fn settle_invocation(&mut self, answerer: Answerer, bot: UserId, given: &GivenAnswer) -> bool {
        let GivenAnswer { id, is_public, content } = given;
        let open = self.bots.invocations.open(self.now_ms, id.number, bot);
        let Some(waiting) = open.filter(|waiting| waiting.conversation == id.conversation) else { return false };
        if *is_public {
            let (conversation, parent) = (waiting.conversation, waiting.parent);
            self.bots.invocations.sending(id.number);
            self.note_answerer(id.number, answerer);
            let asked = PendingCommand {
                origin: Origin::Invocation(*id, bot),
                id: None,
                command: None,
                sent_by: SentBy::default(),
                at: self.now,
                kib: 1,
                holds_slot: false,
            };
            let message = NewMessage {
                conversation,
                content: Cow::Borrowed(content),
                parent,
                message_type: "text",
                client_message_id: Some(Cow::Owned(id.to_string())),
                files: Vec::new(),
            };
            self.send_message(asked, bot, message);
            return true;
        }
        let Some(waiting) = self.bots.invocations.end(id.number) else { return false };
        let mut data = json!({ "invocation_id": id.to_string(), "visibility": "private" });
        self.tell_answerer(answerer, bot, Ok(data.clone()));
        data["content"] = json!(content);
        self.bots.outbox.push_back(Due::Answer(waiting.token, Answer::Data(Box::new(data.clone()))));
        data["conversation_id"] = json!(waiting.conversation);
        data["command"] = json!(waiting.command);
        data["bot_id"] = json!(bot);
        self.notify(vec![waiting.parties.user], None, "command_answered", &data);
        true
    }

    fn note_answerer(&mut self, number: u64, answerer: Answerer) {
        self.bots.invocations.change(number, |waiting| waiting.answerer = Some(answerer));
    }

    /// The message that answers an invocation was committed or refused.
    pub(super) fn invocation_sent(&mut self, id: InvocationId, bot: UserId, sent: Result<Value, Refusal>) {
        let mut answerer = None;
        self.bots.invocations.change(id.number, |waiting| answerer = waiting.answerer.take());
        match sent {
            Ok(receipt) => {
                let data = json!({
                    "invocation_id": id.to_string(), "visibility": "public", "message_id": receipt["message_id"],
                    "seq": receipt["seq"],
                });
                if let Some(waiting) = self.bots.invocations.end(id.number) {
                    self.bots.outbox.push_back(Due::Answer(waiting.token, Answer::Data(Box::new(data.clone()))));
                }
                if let Some(answerer) = answerer {
                    self.tell_answerer(answerer, bot, Ok(data));
                }
            }
            Err(refusal) => {
                if let Some(waiting) = self.bots.invocations.refused(self.now_ms, id.number) {
                    let answer = Answer::Refused(Box::new(no_answer()));
                    self.bots.outbox.push_back(Due::Answer(waiting.token, answer));
                }
                if let Some(answerer) = answerer {
                    self.tell_answerer(answerer, bot, Err(refusal));
                }
            }
        }
    }

    fn tell_answerer(&mut self, answerer: Answerer, bot: UserId, outcome: Result<Value, Refusal>) {
        self.bots.outbox.push_back(match answerer {
            Answerer::Here(token) => Due::Answer(token, answer_of(outcome)),
            Answerer::Node(number) => Due::ToNode(NodeOutcome { number, bot, outcome }),
        });
    }

    /// Sends what is due, as far as the lanes have room.
    pub(super) fn deliver_outcomes(&mut self) {
        while self.deliveries_have_room()
            && let Some(due) = self.bots.outbox.pop_front()
        {
            match due {
                Due::Answer(token, answer) => self.deliver_to(token.shard, Delivery::Answer(token, answer)),
                Due::ToNode(outcome) => self.tell_nodes(|| ToNodes::Answered(Box::new(outcome))),
            }
        }
    }

    /// Ends what was not answered in time.
    pub(super) fn expire_invocations(&mut self) {
        while let Some(waiting) = self.bots.invocations.next_overdue(self.now_ms) {
            self.bots.outbox.push_back(Due::Answer(waiting.token, Answer::Refused(Box::new(no_answer()))));
        }
        while self.bots.elsewhere_due.front().is_some_and(|(due_ms, _)| *due_ms <= self.now_ms) {
            let given_up = self.bots.elsewhere_due.pop_front().and_then(|(_, n)| self.bots.elsewhere.remove(&n));
            if let Some(token) = given_up {
                self.bots.outbox.push_back(Due::Answer(token, Answer::Refused(Box::new(not_open()))));
            }
        }
    }

    /// A connection was opened with the token of a bot.
    pub(super) fn bot_arrived(&mut self, connection: BotConnection) {
        self.bots.arrivals.push_back(connection);
    }

    /// Reports new connections to the bots' shards. Returns whether all were reported: their departures come after.
    pub(super) fn report_bots(&mut self) -> bool {
        while let Some(connection) = self.bots.arrivals.pop_front() {
            let to = self.placement.of_user(connection.bot);
            if let Err(Request::BotConnected(back)) = self.request(to, Request::BotConnected(Box::new(connection))) {
                self.bots.arrivals.push_front(*back); // at the next turn
                return false;
            }
        }
        true
    }
}

fn answer_of(outcome: Result<Value, Refusal>) -> Answer {
    match outcome {
        Ok(data) => Answer::Data(Box::new(data)),
        Err(refusal) => Answer::Refused(Box::new(refusal)),
    }
}
