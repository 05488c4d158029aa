//! The turn of a shard: collect from the ring, drain the lanes, answer, wake the others, sleep when there is nothing.
//!
//! Order within a turn: sockets, deliveries, outcomes, reads, requests, control, then the fan-out of what they brought. Deliveries come before the stages that
//! produce them for others, so a full lane empties first; outcomes and requests are taken only while every delivery
//! lane has room (`mesh` explains why that cannot deadlock).

use super::Shard;
use crate::ids::ShardId;
use crate::latency::Stage;
use crate::limits::CREATE_MEMBERS_MAX;
use crate::mesh::frame::{Delivery, Request};
use crate::net::SocketEvent;
use std::io;
use std::time::Instant;

/// Frames that one outcome or request may put on one delivery lane: an answer, events and what follows from them,
/// memberships gained or lost.
const DELIVERIES_PER_ITEM_MAX: usize = CREATE_MEMBERS_MAX + 8;
/// Items of one kind taken per turn, so that sockets are looked at in between.
const ITEMS_PER_TURN: usize = 1_024;

const _: () = assert!(DELIVERIES_PER_ITEM_MAX < crate::limits::LANE_FRAMES / 4);

/// Runs the shard until it has drained, on the thread of its executor.
///
/// It does not return to the executor in between: it is the only task of its core, and sleeps in its own ring. When the
/// task yields, glommio 0.9 may park for ever with the task runnable (docs/decisions/001).
///
/// # Errors
/// The system's error when the ring fails.
pub fn run(mut shard: Shard) -> io::Result<()> {
    let mesh = std::sync::Arc::clone(&shard.mesh);
    let bell = mesh.bell(shard.id);
    let mut events = Vec::new();
    shard.tick_clock();
    shard.counters.last_turn_ms.set(shard.now_ms);
    let mut idle = false;
    loop {
        // One system call either way: it submits what the turn before queued, and collects.
        if idle {
            shard.sockets.turn_or_wait(&mut events)?;
        } else {
            shard.sockets.turn(&mut events)?;
        }
        bell.awake();
        shard.tick_clock();
        let more = shard.turn(&mut events);
        if shard.has_drained() {
            return Ok(());
        }
        // Announced, then every lane looked at once more: whoever pushes after that look rings.
        bell.about_to_sleep();
        idle = !more && shard.lanes_are_empty();
        if !idle {
            bell.awake(); // nobody need ring for a shard that goes on at once
        }
    }
}

impl Shard {
    /// Handles what the ring and the lanes have; whether some of it is left for the next turn.
    fn turn(&mut self, events: &mut Vec<SocketEvent>) -> bool {
        for event in events.drain(..) {
            self.on_socket(event);
        }
        self.drain_deliveries();
        self.drain_storage();
        self.drain_requests();
        while let Some(frame) = self.mesh.control(self.id).pop() {
            self.on_control(frame);
        }
        let more = self.fan_out();
        self.tell_news();
        self.serve_waiting_admissions();
        self.serve_waiting_replays(); // after the fan-out, which finds those who fell behind
        self.ring_bells();
        more
    }

    /// Whether nothing waits for this shard. What could not be taken for want of room in others' lanes still waits, so
    /// the shard does not sleep while they drain: nobody would tell it that there is room again.
    fn lanes_are_empty(&self) -> bool {
        let storage = self.mesh.storage(self.id);
        storage.outcomes.is_empty()
            && storage.results.is_empty()
            && self.mesh.control(self.id).is_empty()
            && self.others().all(|from| {
                self.mesh.deliveries(from, self.id).is_empty() && self.mesh.requests(from, self.id).is_empty()
            })
    }

    fn on_socket(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::Accepted(conn) => self.accepted(conn),
            SocketEvent::Received(conn, mut bytes) => {
                self.counters.bytes_in.add(bytes.len() as u64);
                self.received(conn, &mut bytes);
            }
            SocketEvent::Drained(conn) => self.drained(conn),
            SocketEvent::PeerFinished(conn) => self.linger(conn),
            SocketEvent::Ended(conn) => self.ended(conn),
            SocketEvent::Tick => self.on_tick(),
            SocketEvent::AcceptPaused(code) => crate::faults::warn_limited!(
                "no new connections for a moment: {}; raise the limit on open files (ulimit -n) or lower \
                 limits.max_connections",
                io::Error::from_raw_os_error(code)
            ),
        }
    }

    fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let me = self.id;
        self.mesh.placement.all().filter(move |s| *s != me)
    }

    fn drain_deliveries(&mut self) {
        for from in self.others() {
            for _ in 0..ITEMS_PER_TURN {
                let Some(delivery) = self.mesh.deliveries(from, self.id).pop() else { break };
                self.on_delivery(delivery);
            }
        }
    }

    pub(super) fn deliveries_have_room(&self) -> bool {
        self.others().all(|to| self.mesh.deliveries(self.id, to).room() >= DELIVERIES_PER_ITEM_MAX)
    }

    fn drain_storage(&mut self) {
        for _ in 0..ITEMS_PER_TURN {
            if !self.deliveries_have_room() {
                break;
            }
            let Some(outcome) = self.mesh.storage(self.id).outcomes.pop() else { break };
            self.on_outcome(outcome);
        }
        for _ in 0..ITEMS_PER_TURN {
            let Some(result) = self.mesh.storage(self.id).results.pop() else { break };
            self.read_answered(result.user, result.commanded);
            self.on_answer(result.token, result.answer);
        }
    }

    fn drain_requests(&mut self) {
        for from in self.others() {
            for _ in 0..ITEMS_PER_TURN {
                if !self.deliveries_have_room() {
                    return;
                }
                let Some(request) = self.mesh.requests(from, self.id).pop() else { break };
                self.on_request(request);
            }
        }
    }

    /// Sends a request, or handles it here when it is for this shard. Gives it back when the lane is full.
    pub(super) fn request(&mut self, to: ShardId, request: Request) -> Result<(), Request> {
        if to == self.id {
            self.on_request(request);
            return Ok(());
        }
        self.mesh.requests(self.id, to).try_push(request)?;
        self.ring_shards |= 1 << to.0;
        Ok(())
    }

    /// Sends a delivery. Room was checked before the item that causes it was taken.
    pub(super) fn deliver_to(&mut self, to: ShardId, delivery: Delivery) {
        if to == self.id {
            match delivery {
                Delivery::Event(event) => self.on_event(event), // crosses nothing
                other => self.on_delivery(other),
            }
            return;
        }
        if self.mesh.deliveries(self.id, to).try_push(delivery).is_err() {
            crate::faults::stop_process("a delivery lane was full although it had room");
        }
        self.counters.deliveries_cross_core.add(1);
        self.ring_shards |= 1 << to.0;
    }

    fn on_delivery(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Answer(token, answer) => self.on_answer(token, answer),
            Delivery::Event(event) => {
                let waited = Instant::now().saturating_duration_since(event.published_at);
                self.counters.stages.record(Stage::CrossCore, waited, 1);
                self.on_event(event);
            }
            Delivery::Interested { conversation, formats, published } => {
                self.on_interested(conversation, formats, published);
            }
            Delivery::Membership(change) => self.on_membership(change),
            Delivery::Notice(notice) => self.on_notice(&notice),
            Delivery::Presence(shown) => self.on_presence(&shown),
            Delivery::Parted(one, other) => self.on_parted(one, other),
        }
    }

    /// Tells owners and user shards what they could not be told before.
    fn tell_news(&mut self) {
        for _ in 0..self.interest_news.len() {
            let Some(conversation) = self.interest_news.pop_front() else { break };
            if !self.tell_interest(conversation) {
                self.interest_news.push_back(conversation);
                break;
            }
        }
        while let Some(user) = self.departures.pop_front() {
            if self.request(self.mesh.placement.of_user(user), Request::Departed { user }).is_err() {
                self.departures.push_front(user);
                break;
            }
        }
    }

    fn ring_bells(&mut self) {
        let mut shards = std::mem::take(&mut self.ring_shards);
        while shards != 0 {
            self.mesh.bell(ShardId(shards.trailing_zeros() as u8)).ring();
            shards &= shards - 1;
        }
        if std::mem::take(&mut self.ring_storage) {
            self.mesh.storage_bell.ring();
        }
    }
}
