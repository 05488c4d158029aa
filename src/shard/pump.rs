//! The turn of a shard: collect from the ring, drain the lanes, answer, wake the others, sleep when there is nothing.
//!
//! Order within a turn: sockets, deliveries, outcomes, reads, requests, control, then the fan-out of what they brought.
//! Deliveries come before the stages that produce them for others, so a full lane empties first. Outcomes and requests
//! are taken only while every delivery lane has room (`mesh` explains why that cannot deadlock).

use super::Shard;
use super::bot_commands::Due;
use super::real::Real;
use super::world::{Clock, World, WorldEvent};
use crate::chat::in_order::HELD_MAX;
use crate::faults::{stop_process, warn_limited};
use crate::ids::ShardId;
use crate::latency::LatencyStage;
use crate::limits::CREATE_MEMBERS_MAX;
use crate::mesh::frame::{Delivery, Request};
use crate::mesh::port::Lanes;
use crate::net::SocketEvent;
use std::{io, thread};

/// Frames that one outcome or request may put on one delivery lane: an answer, events and what follows from them,
/// memberships gained or lost; and events of other nodes that waited for it.
pub const DELIVERIES_PER_ITEM_MAX: usize = CREATE_MEMBERS_MAX + 8 + 3 * HELD_MAX;
/// Items of one kind taken per turn, so that sockets are polled in between.
const ITEMS_PER_TURN: usize = 1_024;

// Everything that waits in a conversation may follow one event, each with a departure.
const _: () = assert!(4 * HELD_MAX + 8 < DELIVERIES_PER_ITEM_MAX);
const _: () = assert!(DELIVERIES_PER_ITEM_MAX < crate::limits::LANE_FRAMES / 4);

/// Runs the shard until it has drained, on the thread of its executor.
///
/// It does not return to the executor in between: it is the only task of its core, and sleeps in its own ring. When the
/// task yields, glommio 0.9 may park and never run it again (docs/decisions/001).
///
/// # Errors
/// The system's error when the ring fails.
pub fn run(mut shard: Shard<Real>) -> io::Result<()> {
    let mut events = Vec::new();
    shard.read_clock();
    shard.counters.last_turn_ms.set(shard.now_ms);
    let mut idle = false;
    loop {
        // One system call either way: it submits what the turn before queued, and collects.
        if idle {
            shard.sockets.turn_or_wait(&mut events)?;
        } else {
            shard.sockets.turn(&mut events)?;
        }
        shard.lanes.bell().awake();
        let more = shard.turn(&mut events);
        if shard.has_drained() {
            return Ok(());
        }
        if more && shard.requests.commits_in_flight() > 0 {
            // The fan-out of a large room needs this core for many turns. Meanwhile the I/O shard or PostgreSQL may
            // have been woken on it. Smaller rooms' commits would wait for the end of the kernel's time slice. Without
            // commits it keeps the core: a yield may cost it the rest of its own slice.
            thread::yield_now();
        }
        // The flag is set, then every lane is checked once more: a thread that pushes after that check rings.
        shard.lanes.bell().about_to_sleep();
        idle = !more && shard.lanes.is_idle();
        if !idle {
            shard.lanes.bell().awake(); // no need to ring for a shard that goes on at once
        }
    }
}

impl<W: World> Shard<W> {
    /// Handles `events` and what the lanes have; whether some of it is left for the next turn.
    pub fn turn(&mut self, events: &mut Vec<WorldEvent<W>>) -> bool {
        self.read_clock();
        for event in events.drain(..) {
            self.on_socket(event);
        }
        self.drain_deliveries();
        self.drain_storage();
        self.drain_requests();
        self.drain_nodes();
        self.publish_overdue();
        self.taken.control = self.now_ms;
        while let Some(frame) = self.lanes.pop_control() {
            self.on_control(frame);
        }
        self.serve_bots();
        let more = self.fan_out();
        self.report_interests();
        self.report_follows();
        self.report_departures();
        self.serve_waiting_admissions();
        self.serve_waiting_replays(); // after the fan-out, which finds the subscribers that fell behind
        self.lanes.ring_bells();
        more
    }

    fn on_socket(&mut self, event: WorldEvent<W>) {
        match event {
            SocketEvent::Accepted(conn) => self.accepted(conn),
            SocketEvent::Received(conn, mut bytes) => {
                self.counters.bytes_in.add(bytes.len() as u64);
                self.received(conn, &mut bytes);
            }
            SocketEvent::Drained(conn) => self.drained(conn),
            SocketEvent::PeerFinished(conn) => self.linger(conn),
            SocketEvent::Ended(conn) => self.ended(conn),
            SocketEvent::Tick(late) => self.on_tick(late),
            SocketEvent::AcceptPaused(code) => warn_limited!(
                "no new connections for a moment: {}; raise the limit on open files (ulimit -n) or lower \
                 limits.max_connections",
                io::Error::from_raw_os_error(code)
            ),
        }
    }

    fn others(&self) -> impl Iterator<Item = ShardId> + use<W> {
        let this = self.id;
        self.placement.all().filter(move |shard| *shard != this)
    }

    fn drain_deliveries(&mut self) {
        for from in self.others() {
            self.taken.deliveries[from.index()] = self.now_ms;
            for _ in 0..ITEMS_PER_TURN {
                let Some(delivery) = self.lanes.pop_delivery(from) else { break };
                self.on_delivery(delivery);
            }
        }
    }

    pub(super) fn deliveries_have_room(&self) -> bool {
        self.others().all(|to| self.lanes.delivery_room(to) >= DELIVERIES_PER_ITEM_MAX)
    }

    fn drain_storage(&mut self) {
        for _ in 0..ITEMS_PER_TURN {
            if !self.deliveries_have_room() {
                break;
            }
            self.taken.outcomes = self.now_ms;
            let Some(outcome) = self.lanes.pop_outcome() else { break };
            self.on_outcome(outcome);
        }
        self.taken.results = self.now_ms;
        for _ in 0..ITEMS_PER_TURN {
            let Some(result) = self.lanes.pop_result() else { break };
            self.requests.read_answered(result.token);
            self.on_answer(result.token, result.answer);
        }
    }

    fn drain_requests(&mut self) {
        for from in self.others() {
            for _ in 0..ITEMS_PER_TURN {
                if !self.deliveries_have_room() {
                    return;
                }
                self.taken.requests[from.index()] = self.now_ms;
                let Some(request) = self.lanes.pop_request(from) else { break };
                self.on_request(request);
            }
        }
    }

    fn drain_nodes(&mut self) {
        for _ in 0..ITEMS_PER_TURN {
            if !self.deliveries_have_room() {
                return;
            }
            self.taken.from_nodes = self.now_ms;
            let Some(frame) = self.lanes.pop_from_nodes() else { return };
            self.on_node(frame);
        }
    }

    /// Does what slash commands have left to do, as far as the lanes have room.
    fn serve_bots(&mut self) {
        while self.deliveries_have_room()
            && let Some(due) = self.bots.next_due()
        {
            match due {
                Due::Answer(token, answer) => self.deliver_to(token.shard, Delivery::Answer(token, answer)),
                Due::Invoke(conn, shown) => self.deliver_to(conn.shard(), Delivery::Invoked(conn, shown)),
                Due::ToNodes(frame) => self.tell_nodes(|| frame),
                Due::Notify(user, data) => self.notify(vec![user], None, "command_answered", &data),
                Due::Send(answer) => self.post_answer(*answer),
                Due::Post(post) => {
                    if let Err(back) = self.lanes.push_bot_post(post) {
                        self.bots.offline(back.id.number);
                    }
                }
            }
        }
    }

    /// A request of another shard, or of this one.
    fn on_request(&mut self, request: Request<W::Socket>) {
        match request {
            Request::Mutate(mutation) => self.accept_mutation(mutation),
            Request::Typing(signal) => self.publish_typing(*signal),
            Request::Interest { conversation, shard, formats } => self.on_interest(conversation, shard, formats),
            Request::Admit(admission) => self.admit(admission),
            Request::Settle(settlement) => self.settle(*settlement),
            Request::Departed { user, conn } => {
                if let Some(conn) = conn {
                    self.bots.departed(user, conn);
                }
                self.directory.users.disconnect(user, self.clock.utc());
            }
            Request::BotConnected(connection) => self.bots.connected(*connection),
            Request::Invoke(invocation) => {
                let bot = invocation.bot;
                self.directory.users.budgets(bot).set_is_bot(true);
                let node = self.directory.users.node_of(bot, self.now_ms);
                self.bots.invoke(self.now_ms, self.clock.random(), node, *invocation);
            }
            Request::AnswerInvocation(answer) => {
                let number = self.lanes.has_nodes().then(|| self.clock.random());
                self.bots.take_answer(self.now_ms, number, *answer);
            }
            Request::SetPresence(choice) => self.choose_presence(*choice),
            Request::Presence { user, token, watcher } => self.answer_presence(user, token, watcher),
            Request::PresenceUnwatched { user, shard } => self.directory.users.unwatch(user, shard),
        }
    }

    /// Sends a request, or handles it here when it is for this shard. Gives it back when the lane is full.
    pub(super) fn request(&mut self, to: ShardId, request: Request<W::Socket>) -> Result<(), Request<W::Socket>> {
        if to == self.id {
            self.on_request(request);
            return Ok(());
        }
        self.lanes.push_request(to, request)
    }

    /// Sends a delivery. Room was checked before the item that causes it was taken.
    pub(super) fn deliver_to(&mut self, to: ShardId, delivery: Delivery) {
        if to == self.id {
            return match delivery {
                Delivery::Event(event) => self.on_event(event), // crosses nothing, so there is no wait to record
                other => self.on_delivery(other),
            };
        }
        if self.lanes.push_delivery(to, delivery).is_err() {
            stop_process("a delivery lane was full although it had room");
        }
        self.counters.deliveries_cross_core.add(1);
    }

    fn on_delivery(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Answer(token, answer) => self.on_answer(token, answer),
            Delivery::Event(event) => {
                let waited = self.clock.now().saturating_duration_since(event.published_at);
                self.counters.stages.record(LatencyStage::CrossCore, waited, 1);
                self.on_event(event);
            }
            Delivery::Interested { conversation, formats, published } => {
                self.on_interested(conversation, formats, published);
            }
            Delivery::Membership(change) => self.on_membership(change),
            Delivery::Notice(notice) => self.on_notice(&notice),
            Delivery::Presence(shown) => self.on_presence(&shown),
            Delivery::TypingVoid(conn) => {
                if let Some(session) = self.connections.session_mut(conn) {
                    session.forget_typing_permission();
                }
            }
            Delivery::Blocked(one, other) => self.on_blocked(one, other),
            Delivery::Invoked(conn, shown) => self.on_invoked(conn, &shown),
        }
    }
}
