//! The owner's side of a conversation: sequences its mutations, publishes its events.
//!
//! 1. `Mutate` arrives → a place for the outcome is reserved → the I/O shard.
//! 2. The outcome arrives: first the answer, then the event to every shard with subscribers, then who joined or left.
//!    Answer and event travel on the same lane, so the sender's ack comes before its event.

use super::Shard;
use super::session::Client;
use crate::chat::published::Memory;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConnId, ConversationId, Seq, ShardId, UserId};
use crate::latency::Stage;
use crate::limits::{COMMITS_IN_FLIGHT_PER_SHARD, TYPING_EXPIRES_MS};
use crate::mesh::counters::MessageOutcome;
use crate::mesh::frame::{
    Answer, Change, CommitOutcome, CommittedMessage, CommittedOther, Delivery, EncodedEvent, EncodedNotice,
    MembershipChange, Mutation, Published, Receipt, Request, Token, Verdict,
};
use crate::mesh::record::EventRecord;
use crate::net::Chunk;
use crate::wire::{Format, event};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// Who need not see an event, and whose copy has more.
struct Audience {
    sender_key: Option<(UserId, Box<str>)>,
    except_user: Option<UserId>,
    except_connection: Option<ConnId>,
    /// When the bytes that caused the event were received.
    received_at: Instant,
}

impl Audience {
    /// Everybody who is subscribed.
    fn all(received_at: Instant) -> Self {
        Self { sender_key: None, except_user: None, except_connection: None, received_at }
    }
}

impl Shard {
    /// A request of another shard's, or of this one.
    pub(super) fn on_request(&mut self, request: Request) {
        match request {
            Request::Mutate(mutation) => self.accept_mutation(mutation),
            Request::Typing { conversation, user } => {
                let data =
                    json!({ "conversation_id": conversation, "user_id": user, "expires_in_ms": TYPING_EXPIRES_MS });
                let audience = Audience { except_user: Some(user), ..Audience::all(self.now) };
                self.publish(conversation, None, Cow::Borrowed("typing"), &data, audience);
            }
            Request::Interest { conversation, shard, formats } => {
                let published = match self.published.interest(conversation, shard, formats, self.now_ms) {
                    Memory::Upto(seq) => Published::Upto(seq),
                    Memory::Nothing => Published::Nothing,
                    Memory::Unknown => Published::Unknown,
                };
                if formats != 0 {
                    self.deliver_to(shard, Delivery::Interested { conversation, formats, published });
                }
            }
            Request::Admit(admission) => self.admit(admission),
            Request::Settle(settlement) => self.settle(*settlement),
            Request::Departed { user } => {
                if self.registry.departed(user) {
                    self.presence_changed(user);
                }
            }
            Request::SetPresence(choice) => self.presence_chosen(*choice),
            Request::Presence { user, token, watcher } => self.presence_asked(user, token, watcher),
            Request::PresenceUnwatched { user, shard } => self.presence_unwatched(user, shard),
        }
    }

    fn accept_mutation(&mut self, mut mutation: Box<Mutation>) {
        let now = Instant::now();
        if mutation.token.shard != self.id {
            self.counters.stages.record(Stage::CrossCore, now.saturating_duration_since(mutation.handed_over_at), 1);
        }
        mutation.handed_over_at = now;
        if self.commits_in_flight >= COMMITS_IN_FLIGHT_PER_SHARD {
            let refusal = Refusal::overloaded("changes to commit");
            return self.answer(mutation.token, Answer::Refused(Box::new(refusal)));
        }
        match self.mesh.storage(self.id).commits.try_push(mutation) {
            Ok(()) => {
                self.commits_in_flight += 1;
                self.ring_storage = true;
            }
            Err(mutation) => {
                let refusal = Refusal::overloaded("changes to commit");
                self.answer(mutation.token, Answer::Refused(Box::new(refusal)));
            }
        }
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        self.deliver_to(token.shard, Delivery::Answer(token, answer));
    }

    /// An outcome of the I/O shard's.
    pub(super) fn on_outcome(&mut self, outcome: CommitOutcome) {
        match outcome {
            CommitOutcome::Unresolved(token) => {
                let words = "the connection to the store was lost in the middle of this change, and it is not known \
                             whether it was saved; send it again with the same client_message_id to find out";
                let refusal = Refusal::new(ErrorCode::DeadlineExceeded, words).retry_after(2_000);
                self.answer(token, Answer::Refused(Box::new(refusal)));
            }
            CommitOutcome::Final(mutation, verdict) => {
                self.commits_in_flight -= 1;
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

    /// What a change of its replies means for a thread; no place in the log, since the change has one.
    fn publish_thread<T: Serialize>(&mut self, conversation: ConversationId, thread: &T, received_at: Instant) {
        let data = thread_data(conversation, thread);
        self.publish(conversation, None, Cow::Borrowed("thread_updated"), &data, Audience::all(received_at));
    }

    /// Tells some users' connections but one, wherever they are.
    fn notify<T: Serialize>(&mut self, users: Vec<UserId>, except: Option<ConnId>, kind: &str, data: &T) {
        if users.is_empty() {
            return;
        }
        let frames = Format::ALL.map(|format| {
            self.counters.encodings[format.index()].add(1);
            event::encode(format, kind, None, data).map(Arc::from)
        });
        let [Ok(json), Ok(msgpack)] = frames else {
            crate::faults::error_limited!("cannot serialise {kind}");
            return; // its readers find it when they look
        };
        self.counters.events_published.add(1);
        let notice = Arc::new(EncodedNotice { users, except, frames: [json, msgpack] });
        for shard in self.mesh.placement.all() {
            self.deliver_to(shard, Delivery::Notice(Arc::clone(&notice)));
        }
    }

    /// A notice for users some of whom may be connected here.
    pub(super) fn on_notice(&mut self, notice: &EncodedNotice) {
        let mut chunks: [Option<Chunk>; 2] = [None, None];
        for user in &notice.users {
            let Some(connections) = self.local_users.get(user) else { continue };
            for conn in connections.iter().filter(|conn| notice.except != Some(**conn)) {
                let Some(session) = self.clients.get(conn.slot() as usize).and_then(Client::session) else { continue };
                let index = session.format.index();
                let frame = &notice.frames[index];
                // Who does not read finds it in a list later; the log is what must not have gaps.
                if self.sockets.queued_bytes(*conn) + frame.len() > self.settings.limits.max_outbound_queue_bytes {
                    continue;
                }
                let chunk = chunks[index].get_or_insert_with(|| Chunk::new(Arc::clone(frame)));
                self.counters.bytes_out.add(frame.len() as u64);
                self.sockets.send(*conn, chunk.clone());
            }
        }
    }

    fn other_committed(&mut self, mutation: &Mutation, other: CommittedOther) {
        if !mutation.answered {
            self.answer(mutation.token, Answer::Data(Box::new(other.result)));
        }
        if let Some(parted) = other.parted {
            for shard in self.mesh.placement.all() {
                self.deliver_to(shard, Delivery::Parted(mutation.actor, parted));
            }
        }
        let Some(conversation) = other.conversation else { return }; // between users: nobody else is told
        let first = other.events.first().map_or(Seq(1), |event| event.seq);
        // A conversation that was just created here is owned elsewhere; nobody can be subscribed to it yet, and
        // whoever subscribes below reads its log from the beginning.
        if mutation.conversation.is_some() {
            for event in other.events {
                let (seq, kind, data, thread) = event_data(conversation, event);
                self.publish(conversation, Some(seq), Cow::Owned(kind), &data, Audience::all(mutation.received_at));
                if let Some(thread) = thread {
                    self.publish_thread(conversation, &thread, mutation.received_at);
                }
            }
        }
        if let Some((kind, mut data)) = other.signal {
            data.insert("conversation_id".to_owned(), json!(conversation));
            let audience = Audience { except_connection: mutation.origin, ..Audience::all(mutation.received_at) };
            self.publish(conversation, None, Cow::Owned(kind), &Value::Object(data), audience);
        }
        for mut notice in other.notices {
            notice.payload.insert("conversation_id".to_owned(), json!(conversation));
            self.notify(notice.users, mutation.origin, &notice.kind, &notice.payload);
        }
        let gained = other.gained.iter().map(|user| (*user, true));
        for (user, gained) in gained.chain(other.lost.iter().map(|user| (*user, false))) {
            for shard in self.mesh.placement.all() {
                let change = MembershipChange { user, conversation, seq: first, gained };
                self.deliver_to(shard, Delivery::Membership(change));
            }
        }
    }

    /// Serialises an event once per format that anybody reads, and sends it once to each shard with subscribers.
    fn publish<T: Serialize>(
        &mut self,
        conversation: ConversationId,
        seq: Option<Seq>,
        kind: Cow<'static, str>,
        data: &T,
        audience: Audience,
    ) {
        let interests: Vec<(ShardId, u8)> = self.published.publish(conversation, seq, self.now_ms).to_vec();
        let formats = interests.iter().fold(0, |formats, (_, f)| formats | f);
        if formats == 0 {
            return;
        }
        let frames = Format::ALL.map(|format| {
            if formats & format.bit() == 0 {
                return None;
            }
            self.counters.encodings[format.index()].add(1);
            match event::encode(format, &kind, None, data) {
                Ok(frame) => Some(Arc::from(frame)),
                Err(words) => {
                    crate::faults::error_limited!("cannot serialise {kind}: {words}");
                    None // its readers see a gap and read the log
                }
            }
        });
        self.counters.events_published.add(1);
        let Audience { sender_key, except_user, except_connection, received_at } = audience;
        let event = Arc::new(EncodedEvent {
            conversation,
            seq,
            kind,
            frames,
            sender_key,
            except_user,
            except_connection,
            received_at,
            published_at: Instant::now(),
        });
        for (shard, _) in interests {
            self.deliver_to(shard, Delivery::Event(Arc::clone(&event)));
        }
    }
}

/// An event's seq, name and data as clients see it; and the thread that it changed, which is an event of its own.
pub(super) fn event_data(conversation: ConversationId, event: EventRecord) -> (Seq, String, Value, Option<Value>) {
    let mut data: Map<String, Value> = Map::new();
    data.insert("conversation_id".to_owned(), json!(conversation));
    data.insert("seq".to_owned(), json!(event.seq));
    data.insert("created_at".to_owned(), json!(event.created_at));
    data.extend(event.payload);
    let thread = data.remove("thread").filter(|thread| !thread.is_null());
    (event.seq, event.kind, Value::Object(data), thread)
}

/// The data of `thread_updated`.
pub(super) fn thread_data<T: Serialize>(conversation: ConversationId, thread: &T) -> Value {
    let mut data = json!(thread);
    if let Value::Object(data) = &mut data {
        data.insert("conversation_id".to_owned(), json!(conversation));
    }
    data
}
