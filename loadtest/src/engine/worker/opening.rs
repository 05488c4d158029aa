//! Opens connections: a few at a time at the start, and again after a backoff when they are lost.

use super::state::{OPEN_NS, RETRY_NS, RETRY_NS_MAX, Slot, TOO_SLOW, Worker};
use crate::engine::connection::{ConnectionPhase, Lost};
use crate::engine::flow::Flight;
use crate::engine::timer::Wake;
use crate::engine::{Endpoint, WorkerReport};
use crate::payload::Token;
use crate::protocol::{Protocol, Publish};
use crate::violations::ViolationKind;
use mio::Interest;
use std::io::ErrorKind;

impl<P: Protocol> Worker<P> {
    pub(super) fn open_next(&mut self) {
        if let Some(slot) = self.to_open.pop_front() {
            self.open(slot as usize);
        }
    }

    pub(super) fn open(&mut self, slot: usize) {
        let now_ns = self.place.clock.now_ns();
        let Slot { connection, attempt, .. } = &mut self.slots[slot];
        *attempt += 1;
        self.agenda.add(now_ns + OPEN_NS, slot as u32, Wake::GiveUp(*attempt));
        let upgrade = self.protocol.upgrade(&connection.peer);
        let Endpoint { address, authority } = self.options.endpoint(connection.peer.client);
        let opened = connection.open(*address, self.options.sources, authority, &upgrade).and_then(|()| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            match &mut connection.socket {
                Some(socket) => self.poll.registry().register(socket, mio::Token(slot), interest),
                None => Ok(()),
            }
        });
        if let Err(error) = opened {
            self.lose(slot, &Lost::because(explain(&error)));
        }
    }

    /// Closes a connection and drops its unfinished work.
    pub(super) fn drop_connection(&mut self, slot: usize) {
        let Slot { connection, was_ready, .. } = &mut self.slots[slot];
        if connection.phase == ConnectionPhase::Ready {
            self.recorder.now.tally.lost += 1;
        }
        self.protocol.lost(&mut connection.peer);
        connection.peer.reopened |= *was_ready;
        connection.close();
    }

    pub(super) fn lose(&mut self, slot: usize, lost: &Lost) {
        let now_ns = self.place.clock.now_ns();
        let ready = self.slots[slot].connection.phase == ConnectionPhase::Ready;
        self.drop_connection(slot);
        let Slot { connection, was_ready, pause_ns, retry_after_ms, refused, cut, .. } = &mut self.slots[slot];
        let client = connection.peer.client;
        if lost.unauthorized {
            let _ = self.place.events.send(WorkerReport::Unauthorized(connection.peer.user));
        }
        if !*was_ready && !lost.unauthorized {
            let _ = self.place.events.send(WorkerReport::Failed(format!(
                "connection {} to ws://{}: {}",
                client.0,
                self.options.endpoint(client).authority,
                lost.reason
            )));
            return;
        }
        let allowed =
            self.options.survive_restarts || (connection.slow && lost.code == Some(TOO_SLOW)) || (*cut && !ready);
        if ready && !allowed {
            let note = || format!("client {}: {}", client.0, lost.reason);
            self.recorder.findings.violations.note(ViolationKind::ConnectionLost, note);
        }
        // Refused credentials are renewed immediately. Only if that does not help, the backoff grows.
        if ready || (lost.unauthorized && !*refused) {
            *pause_ns = RETRY_NS;
        }
        *refused = lost.unauthorized;
        // Jitter: all clients of a restarting server lose it at the same moment.
        let base_ns = retry_after_ms.take().map_or(*pause_ns, |ms| ms.saturating_mul(1_000_000));
        let spread_ns = (base_ns as f64 * (0.5 + rand::random::<f64>())) as u64;
        *pause_ns = (*pause_ns * 2).min(RETRY_NS_MAX);
        self.agenda.add(now_ns + spread_ns, slot as u32, Wake::Retry);
    }

    /// A connection can publish: for the first time, or again.
    pub(super) fn ready(&mut self, slot: usize) {
        let Slot { connection, was_ready, pause_ns, .. } = &mut self.slots[slot];
        *pause_ns = RETRY_NS;
        if std::mem::replace(was_ready, true) {
            self.recorder.now.tally.restored += 1;
            for (number, flight) in connection.flow.unanswered() {
                let token = Token { client: connection.peer.client, number };
                let Flight { room, planned_ns } = flight;
                self.protocol.publish(&mut connection.peer, Publish { token, room, planned_ns, repeated: true });
                self.recorder.now.tally.resent += 1;
            }
        } else {
            let _ = self.place.events.send(WorkerReport::Ready);
            self.open_next();
        }
        self.pump(slot);
    }
}

/// An error with a hint for the operator.
pub(super) fn explain(error: &std::io::Error) -> String {
    let hint = match error.kind() {
        ErrorKind::ConnectionRefused => ": nothing listens there. Is the server running?",
        ErrorKind::AddrNotAvailable => ": no free port for one more connection from this address",
        _ if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
            ": raise the limit with ulimit -n"
        }
        _ => "",
    };
    format!("{error}{hint}")
}
