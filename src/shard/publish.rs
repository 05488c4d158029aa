//! Publishes events and notices from the owner: serialised once per format, sent once per shard.

use super::Shard;
use super::world::{Clock, Transport, World};
use crate::faults::error_limited;
use crate::ids::{ConnId, ConversationId, Seq, ShardId, UserId};
use crate::mesh::event::{EncodedEvent, EncodedNotice, Hiding, MembershipChange};
use crate::mesh::frame::Delivery;
use crate::mesh::nodes::ToNodes;
use crate::mesh::port::Lanes as _;
use crate::net::Chunk;
use crate::planted::{Fault, is_planted};
use crate::wire::{Format, event};
use serde::Serialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// The users an event skips, and the sender whose copy has the key.
pub(super) struct Audience {
    /// The sender of a message and the sender's own key for it.
    pub(super) sender_key: Option<(UserId, Box<str>)>,
    pub(super) except_user: Option<UserId>,
    /// Whom a signal is about, and who must not receive it.
    pub(super) about: Option<Hiding>,
    pub(super) except_connection: Option<ConnId>,
    /// Who left by the event, in a cluster.
    pub(super) departure: Option<MembershipChange>,
    /// When the bytes that caused the event were received.
    pub(super) received_at: Instant,
}

impl Audience {
    /// Every subscriber.
    pub(super) fn all(received_at: Instant) -> Self {
        Self { sender_key: None, except_user: None, about: None, except_connection: None, departure: None, received_at }
    }
}

impl<W: World> Shard<W> {
    /// Serialises an event once per format that a subscriber reads, and sends it once to each shard with subscribers.
    pub(super) fn publish<T: Serialize>(
        &mut self,
        conversation: ConversationId,
        seq: Option<Seq>,
        kind: Cow<'static, str>,
        data: &T,
        audience: Audience,
    ) {
        let has_nodes = self.lanes.has_nodes();
        // With other nodes, an event may have to wait for one of them; and what they need is not known.
        let (interests, formats) = if has_nodes {
            (Vec::new(), Format::ALL_BITS)
        } else {
            let interests: Vec<(ShardId, u8)> = self.rooms.owned.publish(conversation, seq, self.now_ms).to_vec();
            let formats = interests.iter().fold(0, |formats, (_, f)| formats | f);
            (interests, formats)
        };
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
                Err(message) => {
                    error_limited!("cannot serialise {kind}: {message}");
                    None // its readers see a gap and read the log
                }
            }
        });
        self.counters.events_published.add(1);
        let Audience { sender_key, except_user, about, except_connection, departure, received_at } = audience;
        let event = Arc::new(EncodedEvent {
            conversation,
            seq,
            kind,
            frames,
            sender_key,
            except_user,
            about,
            except_connection,
            departure,
            received_at,
            published_at: self.clock.now(),
        });
        if has_nodes {
            self.tell_nodes(|| ToNodes::Event(Arc::clone(&event)));
            return self.publish_in_order(event);
        }
        for (shard, _) in interests {
            self.deliver_to(shard, Delivery::Event(Arc::clone(&event)));
        }
    }

    /// Publishes an event, of this node or another, after the one that it follows. That one may still be on its way
    /// from another node.
    pub(super) fn publish_in_order(&mut self, event: Arc<EncodedEvent>) {
        let last = self.rooms.owned.last(event.conversation);
        let ready = self.in_order.take(event, last, self.now_ms);
        self.publish_ready(ready);
    }

    /// Publishes events that need not wait any longer.
    pub(super) fn publish_ready(&mut self, ready: Vec<Arc<EncodedEvent>>) {
        for event in ready {
            for (shard, _) in self.rooms.owned.publish(event.conversation, event.seq, self.now_ms).to_vec() {
                self.deliver_to(shard, Delivery::Event(Arc::clone(&event)));
            }
            if let Some(departure) = event.departure.filter(|_| !is_planted(Fault::PartFromDepartures)) {
                self.deliver_membership(departure);
            }
        }
    }

    /// Tells every shard who joined or left.
    pub(super) fn deliver_membership(&mut self, change: MembershipChange) {
        if !change.gained {
            self.restrictions.restrict(change.conversation, Some(change.user), self.now_ms);
        }
        for shard in self.placement.all() {
            self.deliver_to(shard, Delivery::Membership(change));
        }
    }

    /// Publishes what has waited too long for events of other nodes: its subscribers read these from the log.
    pub(super) fn publish_overdue(&mut self) {
        while self.deliveries_have_room()
            && let Some(ready) = self.in_order.next_overdue(self.now_ms)
        {
            self.publish_ready(ready);
        }
    }

    /// What a changed reply means for its thread: an event outside the log, since the change is in the log.
    pub(super) fn publish_thread<T: Serialize>(
        &mut self,
        conversation: ConversationId,
        thread: &T,
        received_at: Instant,
    ) {
        let data = thread_data(conversation, thread);
        self.publish(conversation, None, Cow::Borrowed("thread_updated"), &data, Audience::all(received_at));
    }

    /// Sends an event to all connections of some users but one, wherever they are.
    pub(super) fn notify<T: Serialize>(&mut self, users: Vec<UserId>, except: Option<ConnId>, kind: &str, data: &T) {
        if users.is_empty() {
            return;
        }
        let frames = Format::ALL.map(|format| {
            self.counters.encodings[format.index()].add(1);
            event::encode(format, kind, None, data).map(Arc::from)
        });
        let [Ok(json), Ok(msgpack)] = frames else {
            error_limited!("cannot serialise {kind}");
            return; // its readers find it when they look
        };
        self.counters.events_published.add(1);
        let notice = Arc::new(EncodedNotice { users, except, frames: [json, msgpack] });
        self.tell_nodes(|| ToNodes::Notice(Arc::clone(&notice)));
        for shard in self.placement.all() {
            self.deliver_to(shard, Delivery::Notice(Arc::clone(&notice)));
        }
    }

    /// A notice for users some of whom may be connected here.
    pub(super) fn on_notice(&mut self, notice: &EncodedNotice) {
        let mut chunks: [Option<Chunk>; 2] = [None, None];
        for user in &notice.users {
            for conn in self.directory.local.of(*user).iter().filter(|conn| notice.except != Some(**conn)) {
                let Some(session) = self.connections.session(*conn) else { continue };
                if session.grant.as_ref().is_some_and(|grant| !grant.receives_notices()) {
                    continue;
                }
                let index = session.format.index();
                let frame = &notice.frames[index];
                // A client that does not read finds it in a list later; only the log must not have gaps.
                if self.sockets.queued_bytes(*conn) + frame.len() > self.live.limits.max_outbound_queue_bytes {
                    continue;
                }
                let chunk = chunks[index].get_or_insert_with(|| Chunk::new(Arc::clone(frame)));
                self.counters.bytes_out.add(frame.len() as u64);
                self.sockets.send(*conn, chunk.clone());
            }
        }
    }
}

/// The data of `thread_updated`.
pub(super) fn thread_data<T: Serialize>(conversation: ConversationId, thread: &T) -> Value {
    let mut data = json!(thread);
    if let Value::Object(data) = &mut data {
        data.insert("conversation_id".to_owned(), json!(conversation));
    }
    data
}
