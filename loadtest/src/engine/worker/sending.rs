//! Sends what is due, as far as the windows allow.

use super::state::{RunStage, Slot, UNWRITTEN_MAX, Worker};
use crate::engine::connection::{Connection, ConnectionPhase};
use crate::engine::flow::Flight;
use crate::engine::recorder::microseconds;
use crate::engine::schedule::Due;
use crate::payload::Token;
use crate::protocol::{Protocol, Publish};

/// A connection that backs off does not send what the generator could not send within this time. A server that is
/// overloaded must not be blamed for what it was never sent.
const LATE_NS: u64 = 50_000_000;

impl<P: Protocol> Worker<P> {
    pub(super) fn send_planned(&mut self, slot: usize, due: Due, now_ns: u64) {
        let Slot { connection, held_until_ns, .. } = &mut self.slots[slot];
        let tally = &mut self.recorder.now.tally;
        tally.planned += 1;
        if self.options.back_off {
            if now_ns < *held_until_ns {
                tally.held_back += 1;
                return;
            }
            if now_ns > due.planned_ns + LATE_NS {
                tally.unsent += 1;
                return;
            }
        }
        let flight = Flight { room: due.room, planned_ns: due.planned_ns };
        let free = connection.phase == ConnectionPhase::Ready
            && !connection.flow.has_backlog()
            && connection.flow.in_flight() < self.options.window
            && connection.peer.out.unwritten().len() < UNWRITTEN_MAX;
        if !free {
            tally.unsent += u64::from(!connection.flow.wait(flight));
            return;
        }
        tally.sent += 1;
        let lag_us = microseconds(now_ns.saturating_sub(due.planned_ns));
        self.recorder.now.send_lag.saturating_record(lag_us);
        publish(&mut self.protocol, connection, flight);
    }

    /// Sends a connection's backlog as far as its window allows.
    pub(super) fn pump(&mut self, slot: usize) {
        let Slot { connection, closed, closed_next, held_until_ns, .. } = &mut self.slots[slot];
        if !connection.flow.has_backlog() && (closed.is_empty() || self.stage != RunStage::Sending) {
            return;
        }
        let now_ns = self.place.clock.now_ns();
        let begun = self.stage == RunStage::Sending && now_ns >= self.start_ns.max(*held_until_ns);
        while connection.phase == ConnectionPhase::Ready
            && connection.flow.in_flight() < self.options.window
            && connection.peer.out.unwritten().len() < UNWRITTEN_MAX
        {
            let flight = match connection.flow.next_waiting() {
                Some(flight) => flight,
                None if begun && !closed.is_empty() => {
                    let room = closed[*closed_next % closed.len()];
                    *closed_next += 1;
                    self.recorder.now.tally.planned += 1;
                    Flight { room, planned_ns: now_ns }
                }
                None => break,
            };
            self.recorder.now.tally.sent += 1;
            publish(&mut self.protocol, connection, flight);
        }
    }
}

fn publish<P: Protocol>(protocol: &mut P, connection: &mut Connection<P::State>, flight: Flight) {
    let number = connection.flow.begin(flight);
    let token = Token { client: connection.peer.client, number };
    let Flight { room, planned_ns } = flight;
    protocol.publish(&mut connection.peer, Publish { token, room, planned_ns, repeated: false });
}
