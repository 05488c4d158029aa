//! The owner's side of a conversation: sequences its mutations, publishes their events.
//!
//! 1. `Mutate` arrives → a slot for the outcome is reserved → the I/O shard.
//! 2. The outcome arrives: first the answer, then the event to every shard with subscribers, then who joined or left.
//!    Answer and event travel on the same lane, so the sender's ack comes before its event.
//!
//! A conversation has an owner on each node of a cluster. The one whose node committed an event tells the other nodes,
//! whose owners publish what arrives. Subscribers compare `seq`, so an event that comes early, late or twice changes
//! nothing for them but a read of the log.

use super::Shard;
use super::publish::Audience;
use super::refusals::{commits_wait, too_many_commits};
use super::world::{Clock, World};
use crate::chat::directory::recent::RECENT_MS;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, Seq, ShardId, UserId};
use crate::latency::{CommitQueue, LatencyStage};
use crate::limits::TYPING_EXPIRES_MS;
use crate::mesh::counters::MessageOutcome;
use crate::mesh::event::{EncodedEvent, Hiding, MembershipChange, Published, TypingPermission};
use crate::mesh::frame::{
    Answer, Change, CommitOutcome, CommittedMessage, CommittedOther, Delivery, Mutation, Receipt, Signal, Token,
    TypingSignal, Verdict,
};
use crate::mesh::nodes::{FromNodes, ToNodes};
use crate::mesh::port::Lanes;
use crate::mesh::record::{ShownEvent, shown_event};
use crate::planted::{Fault, is_planted};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;

impl<W: World> Shard<W> {
    /// A shard's interest in a conversation of this shard; 0 formats for none.
    pub(super) fn on_interest(&mut self, conversation: ConversationId, shard: ShardId, formats: u8) {
        let published = self.rooms.owned.interest(conversation, shard, formats, self.now_ms);
        if formats != 0 {
            self.deliver_to(shard, Delivery::Interested { conversation, formats, published });
        }
    }

    /// Sends a conversation's subscribers that a user is typing.
    pub(super) fn publish_typing(&mut self, signal: TypingSignal) {
        let TypingSignal { user, conn, permission } = signal;
        let TypingPermission { conversation, asked_ms, hidden_from } = permission;
        if !self.restrictions.may_type(conversation, user, asked_ms) {
            if let Some(conn) = conn {
                self.deliver_to(conn.shard(), Delivery::TypingVoid(conn));
            }
            return;
        }
        let data = json!({ "conversation_id": conversation, "user_id": user, "expires_in_ms": TYPING_EXPIRES_MS });
        let about = Some(Hiding { user, from: hidden_from, asked_ms });
        let audience = Audience { except_user: Some(user), about, ..Audience::all(self.now) };
        self.publish(conversation, None, Cow::Borrowed("typing"), &data, audience);
    }

    pub(super) fn accept_mutation(&mut self, mut mutation: Box<Mutation>) {
        let now = self.clock.now();
        if mutation.token.shard != self.id {
            self.counters.stages.record(
                LatencyStage::CrossCore,
                now.saturating_duration_since(mutation.handed_over_at),
                1,
            );
        }
        mutation.handed_over_at = now;
        let queue = CommitQueue::of(mutation.conversation.is_some());
        // An early refusal is cheap. Accepted changes commit soon, so clients do not time out.
        if self.settings.overload.is_commit_wait_too_long(queue) && !is_planted(Fault::AcceptBeyondMeans) {
            return self.refuse_commit(mutation.token, commits_wait());
        }
        if !self.requests.may_commit() {
            return self.refuse_commit(mutation.token, too_many_commits());
        }
        match self.lanes.push_commit(mutation) {
            Ok(()) => {
                self.pressure.accepted(self.now_ms);
                self.requests.commit_sent();
            }
            Err(mutation) => self.refuse_commit(mutation.token, too_many_commits()),
        }
    }

    fn refuse_commit(&mut self, token: Token, refusal: Refusal) {
        let retry_ms = self.pressure.refused(self.now_ms, self.clock.random());
        self.answer(token, Answer::Refused(Box::new(refusal.retry_after(retry_ms))));
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        self.deliver_to(token.shard, Delivery::Answer(token, answer));
    }

    /// An outcome of the I/O shard.
    pub(super) fn on_outcome(&mut self, outcome: CommitOutcome) {
        match outcome {
            CommitOutcome::Unresolved(token) => {
                let message = "the connection to the store was lost in the middle of this change, and it is not known \
                             whether it was saved; send it again with the same client_message_id to find out";
                let refusal = Refusal::new(ErrorCode::DeadlineExceeded, message).retry_after(2_000);
                self.answer(token, Answer::Refused(Box::new(refusal)));
            }
            CommitOutcome::Final(mutation, verdict) => {
                self.requests.commit_answered();
                match verdict {
                    Verdict::Message(message) => self.message_committed(*mutation, *message),
                    Verdict::Other(other) => self.other_committed(&mutation, *other),
                    Verdict::Refused(refusal) => {
                        if matches!(mutation.change, Change::Message { .. }) {
                            self.counters.message(MessageOutcome::Refused);
                        }
                        if !mutation.answered {
                            self.answer(mutation.token, Answer::Refused(refusal));
                        }
                    }
                }
            }
        }
    }

    fn message_committed(&mut self, mutation: Mutation, message: CommittedMessage) {
        let record = message.record;
        self.counters.message(if message.duplicate { MessageOutcome::Duplicate } else { MessageOutcome::Committed });
        if !mutation.answered {
            let receipt = Receipt {
                message_id: record.message_id,
                conversation_id: record.conversation_id,
                seq: record.seq,
                created_at: record.created_at.clone(),
                duplicate: message.duplicate,
            };
            self.answer(mutation.token, Answer::Sent(Box::new(receipt)));
        }
        if message.publish {
            let sender_key = match mutation.change {
                Change::Message { key, key_is_clients: true, .. } => Some((mutation.actor, key.into_boxed_str())),
                _ => None,
            };
            let audience = Audience { sender_key, ..Audience::all(mutation.received_at) };
            let (conversation, seq) = (record.conversation_id, record.seq);
            self.publish(conversation, Some(seq), Cow::Borrowed("message_created"), &record, audience);
            if let Some(thread) = message.thread {
                self.publish_thread(conversation, &thread, mutation.received_at);
            }
            if !record.mentions.is_empty() {
                let data = json!({ "conversation_id": conversation, "message_id": record.message_id, "seq": seq,
                                   "sender": record.sender });
                let users = record.mentions.into_iter().filter(|user| *user != mutation.actor).collect();
                self.notify(users, None, "mention", &data);
            }
        }
    }

    /// Remembers who may have lost the right to send: what shards know of their typing is void.
    fn note_restrictions(&mut self, mutation: &Mutation) {
        let (Some(conversation), Change::Other { kind, arguments, .. }) = (mutation.conversation, &mutation.change)
        else {
            return;
        };
        match *kind {
            "mute_member" | "set_role" => {
                let user = arguments["user_id"].as_i64().map(UserId);
                self.restrictions.restrict(conversation, user, self.now_ms);
            }
            "archive_conversation" => self.restrictions.restrict(conversation, None, self.now_ms),
            _ => {}
        }
    }

    fn other_committed(&mut self, mutation: &Mutation, other: CommittedOther) {
        // Before the answer: once the actor's shard has sent it, the actor receives nothing of the blocked user.
        if let Some(blocked) = other.blocked {
            self.tell_nodes(|| ToNodes::Blocked(mutation.actor, blocked));
            for shard in self.placement.all() {
                self.deliver_to(shard, Delivery::Blocked(mutation.actor, blocked));
            }
        }
        self.note_restrictions(mutation);
        if !mutation.answered {
            self.answer(mutation.token, Answer::Data(Box::new(other.result)));
        }
        // Between two users: no other user receives an event.
        let Some(conversation) = other.conversation else { return };
        let seq = other.events.first().map_or(Seq(1), |event| event.seq);
        let change = |user: &UserId, gained| MembershipChange { user: *user, conversation, seq, gained };
        let gained = other.gained.iter().map(|user| change(user, true));
        let mut memberships: Vec<_> = gained.chain(other.lost.iter().map(|user| change(user, false))).collect();
        // A conversation that was just created here is owned elsewhere. No connection can be subscribed to it yet, and
        // its members, who subscribe below, read its log from the beginning.
        if mutation.conversation.is_some() {
            let (has_nodes, last) = (self.lanes.has_nodes(), other.events.len());
            for (at, event) in other.events.into_iter().enumerate() {
                let ShownEvent { seq, kind, data, thread } = shown_event(conversation, event);
                // It travels with the event, which may have to wait for one of another node.
                let departure = memberships.pop_if(|change| has_nodes && at + 1 == last && !change.gained);
                let audience = Audience { departure, ..Audience::all(mutation.received_at) };
                self.publish(conversation, Some(seq), Cow::Owned(kind), &data, audience);
                if let Some(thread) = thread {
                    self.publish_thread(conversation, &thread, mutation.received_at);
                }
            }
        }
        if let Some(Signal { kind, mut payload, hidden_from }) = other.signal {
            payload.insert("conversation_id".to_owned(), json!(conversation));
            // The transaction began after the owner had passed the mutation on.
            let asked_ms = self.process_ms(mutation.handed_over_at);
            let audience = Audience {
                except_connection: mutation.origin,
                about: Some(Hiding { user: mutation.actor, from: Arc::from(hidden_from), asked_ms }),
                ..Audience::all(mutation.received_at)
            };
            self.publish(conversation, None, Cow::Owned(kind), &Value::Object(payload), audience);
        }
        for mut notice in other.notices {
            notice.payload.insert("conversation_id".to_owned(), json!(conversation));
            self.notify(notice.users, mutation.origin, &notice.kind, &notice.payload);
        }
        for membership in memberships {
            // Nodes without subscribers of the conversation do not receive its events.
            self.tell_nodes(|| ToNodes::Membership(membership));
            self.deliver_membership(membership);
        }
    }

    /// Something that other nodes did, or that PostgreSQL knows of them.
    pub(super) fn on_node(&mut self, frame: FromNodes) {
        match frame {
            FromNodes::Event(event) => self.publish_of_node(event),
            FromNodes::Head(..) if is_planted(Fault::IgnoreHeads) => {}
            FromNodes::Head(conversation, seq) => {
                let interests = self.rooms.owned.learn_head(conversation, seq, self.now_ms).to_vec();
                self.tell_head(conversation, seq, interests);
            }
            // While events wait for one of another node, every subscriber receives the departure with its event, or
            // finds a gap and reads the log as its user.
            FromNodes::Membership(change) if !change.gained && self.in_order.holds(change.conversation) => {}
            FromNodes::Membership(change) => self.deliver_membership(change),
            FromNodes::Notice(notice) => self.deliver_to(self.id, Delivery::Notice(notice)),
            FromNodes::Presence(node, users) => {
                self.directory.users.heard_node(node, self.now_ms);
                for shown in users {
                    self.directory.users.shown_elsewhere(node, shown, self.now_ms);
                }
            }
            FromNodes::Spent(_) if is_planted(Fault::IgnoreSpent) => {}
            FromNodes::Spent(spent) => self.spent_elsewhere(spent),
            FromNodes::Invoke(invocation) => self.bots.invoke_for_node(*invocation),
            FromNodes::AnswerInvocation(answer) => self.bots.take_node_answer(self.now_ms, &answer),
            FromNodes::Answered(outcome) => self.bots.take_node_outcome(*outcome),
            FromNodes::Blocked(one, other) => self.deliver_to(self.id, Delivery::Blocked(one, other)),
        }
    }

    /// Tells the interested shards of an event that PostgreSQL has and that was not published here.
    fn tell_head(&mut self, conversation: ConversationId, seq: Seq, interests: Vec<(ShardId, u8)>) {
        if interests.is_empty() {
            return;
        }
        for (shard, formats) in interests {
            self.deliver_to(shard, Delivery::Interested { conversation, formats, published: Published::Upto(seq) });
        }
        let ready = self.in_order.follow(conversation, Some(seq));
        self.publish_ready(ready);
    }

    /// Tells the shards of events that did not come in time.
    pub(super) fn tell_late_heads(&mut self) {
        while self.deliveries_have_room()
            && let Some(late) = self.rooms.owned.next_late_head(self.now_ms)
        {
            self.tell_head(late.conversation, late.seq, late.interests);
        }
    }

    /// An event that another node committed.
    fn publish_of_node(&mut self, event: Arc<EncodedEvent>) {
        let mut event = Arc::unwrap_or_clone(event);
        event.published_at = self.clock.now();
        if let Some(hiding) = &mut event.about {
            // The other node's clock is not comparable. Blocks count as long as they are remembered.
            *hiding = Hiding { asked_ms: self.now_ms.saturating_sub(RECENT_MS), ..hiding.clone() };
        }
        self.counters.events_of_nodes.add(1);
        self.publish_in_order(Arc::new(event));
    }
}
