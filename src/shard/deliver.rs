//! From the rooms' fan-out into the sockets' queues.

use super::Shard;
use super::world::{Clock, Transport, World};
use crate::chat::rooms::{Behind, Outbox, Rooms};
use crate::ids::{ConnId, ConversationId};
use crate::latency::LatencyStage;
use crate::limits::SLOW_CONSUMER_GRACE_MS;
use crate::mesh::counters::ShardCounters;
use crate::mesh::event::EncodedEvent;
use crate::net::Chunk;
use crate::planted::{Fault, is_planted};
use crate::wire::Format;
use crate::wire::ws::deflate::Deflater;
use crate::wire::ws::encoder;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the rooms send to, in terms of sockets.
struct SocketOutbox<'a, W: World> {
    sockets: &'a mut W::Sockets,
    clock: &'a W::Clock,
    deflater: &'a mut Deflater,
    counters: &'a ShardCounters,
    behind: &'a mut Vec<(ConnId, ConversationId, Behind)>,
    /// When the present slice began.
    began: Instant,
    bytes: u64,
}

impl<W: World> Outbox for SocketOutbox<'_, W> {
    type Chunk = Chunk;

    #[inline]
    fn queued_bytes(&self, conn: ConnId) -> usize {
        self.sockets.queued_bytes(conn)
    }

    fn send_time(&self) -> Duration {
        self.sockets.send_time()
    }

    #[inline]
    fn send(&mut self, conn: ConnId, chunk: Chunk) {
        self.bytes += chunk.bytes().len() as u64;
        self.sockets.send(conn, chunk);
    }

    fn compress(&mut self, frame: &[u8], format: Format, bits: u8) -> Option<Vec<u8>> {
        let compressed = self.deflater.deflate(encoder::payload_of(frame), bits)?;
        Some(encoder::frame(format.message_kind().opcode(), true, &compressed))
    }

    fn fell_behind(&mut self, conn: ConnId, conversation: ConversationId, why: Behind) {
        self.behind.push((conn, conversation, why));
    }

    fn slice_served(&mut self, receipts: impl Iterator<Item = (Instant, u64)>, deliveries: u64) {
        let now = self.clock.now();
        for (received_at, receivers) in receipts {
            self.counters.stages.record(LatencyStage::Delivery, now.saturating_duration_since(received_at), receivers);
        }
        self.counters.stages.record(LatencyStage::FanOut, now.saturating_duration_since(self.began), 1);
        self.counters.events_delivered.add(deliveries);
        self.counters.bytes_out.add(std::mem::take(&mut self.bytes));
        self.began = now;
    }
}

impl<W: World> Shard<W> {
    /// Lets the rooms send to the sockets, then cares for the subscribers that fell behind.
    fn with_rooms<R>(&mut self, send: impl FnOnce(&mut Rooms<Chunk>, &mut SocketOutbox<'_, W>) -> R) -> R {
        let mut outbox = SocketOutbox {
            sockets: &mut self.sockets,
            began: self.clock.now(),
            clock: &self.clock,
            deflater: &mut self.deflater,
            counters: &self.counters,
            behind: &mut self.behind,
            bytes: 0,
        };
        let result = send(&mut self.rooms, &mut outbox);
        if !self.behind.is_empty() {
            self.plan_catch_up();
        }
        result
    }

    /// An event for this shard's subscribers.
    pub(super) fn on_event(&mut self, event: Arc<EncodedEvent>) {
        // Its owner may not know of a block that this shard has received.
        let hidden_from = match &event.about {
            Some(hiding) if !is_planted(Fault::TypeAfterABlock) => {
                match self.directory.recent.blocked_with(hiding.user, hiding.asked_ms) {
                    Some(users) => users,
                    None => return, // a signal is in no log, so it can be dropped
                }
            }
            _ => Vec::new(),
        };
        self.with_rooms(|rooms, outbox| rooms.receive(event, hidden_from, outbox));
    }

    /// Delivers the events of this turn. Returns whether some are left for the next one.
    pub(super) fn fan_out(&mut self) -> bool {
        self.with_rooms(|rooms, outbox| rooms.fan_out(outbox))
    }

    /// Sends a connection what waits for it in a room, before it stops being a subscriber.
    pub(super) fn serve_before_leaving(&mut self, conn: ConnId, conversation: ConversationId) {
        self.with_rooms(|rooms, outbox| rooms.serve_one(conn, conversation, outbox));
    }

    /// Subscribers that fell behind read the log: at once, or when their queue has drained.
    fn plan_catch_up(&mut self) {
        let mut behind = std::mem::take(&mut self.behind);
        for (conn, conversation, why) in behind.drain(..) {
            let Some(session) = self.connections.session_mut(conn) else { continue };
            match why {
                Behind::QueueFull => {
                    let state = session.catch_up_mut();
                    state.behind.push(conversation);
                    if state.lagging_since_ms.is_none() {
                        state.lagging_since_ms = Some(self.now_ms);
                        let until_ms = self.now_ms + SLOW_CONSUMER_GRACE_MS;
                        session.check_at_ms = session.check_at_ms.min(until_ms);
                        self.connections.schedule(conn, until_ms);
                    }
                }
                Behind::Gap => {
                    session.catch_up_mut().replays.push_back(conversation);
                    if !session.replay_waits {
                        session.replay_waits = true;
                        self.requests.replays_waiting.push_back((self.now_ms, conn));
                    }
                }
            }
        }
        self.behind = behind;
    }
}
