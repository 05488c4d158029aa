//! Veza Chat Server: protocol `veza.v1` in JSON and `MessagePack`, with all its promises checked.
//!
//! One [`RoomChecker`] per room checks the promises, behind a lock that all threads share. To replace the lock and the
//! decoding by a comparison of memory, each thread stores the frames of recent events ([`log`]), and each connection
//! keeps its own cursors:
//!
//! ```text
//!  bytes ──▶ equal to the logged frame of cursor + 1 in the room that spoke last ──▶ counted, cursor + 1
//!    │ no
//!    ▼
//!  room and number by their keys (hint) ──▶ equal to what is logged there, and number = cursor + 1 ──▶ the same
//!    │ no
//!    ▼
//!  decoded; cursor told to the checker; event given to the checker; cursor taken back; logged when sound
//! ```
//!
//! The fast path relies on these rules. Each broken rule would hide a fault:
//! - only sound events are logged, so equal bytes are sound;
//! - it accepts nothing but `cursor + 1`: gaps, repetitions and disorder always reach the checker;
//! - it accepts a connection's own message only after its acknowledgement;
//! - code that reads a cursor from the checker must have reported it first: at every slow step, when a connection
//!   resumes, and in [`Protocol::sync`].

mod commands;
mod events;
mod hint;
mod log;
mod notices;
mod state;
pub mod wire;

pub use state::{Veza, VezaOptions, VezaProtocol, VezaState};

use crate::check::{ClientIndex, RoomChecker};
use crate::protocol::{Action, Message, Peer, Protocol, Publish, Sink, System, Upgrade};
use crate::violations::{ViolationKind, Violations};
use events::arrive;
use hint::Hints;
use log::RoomLog;
use state::lock;
use std::sync::Arc;
use wire::Format;

impl System for Veza {
    type Protocol = VezaProtocol;

    fn protocol(self: &Arc<Self>) -> VezaProtocol {
        let rooms = self.rooms.len();
        VezaProtocol {
            system: Arc::clone(self),
            logs: (0..rooms).map(|_| RoomLog::new(rooms)).collect(),
            hints: Hints::default(),
        }
    }

    fn settled(&self) -> bool {
        !self.options.checks || self.checkers.iter().all(|checker| lock(checker).settled())
    }

    fn finish(&self, complete: bool) -> Violations {
        let mut violations = Violations::default();
        if self.options.checks {
            for checker in &self.checkers {
                let checker = std::mem::replace(&mut *lock(checker), RoomChecker::new(""));
                violations.merge(checker.finish(complete));
            }
        }
        violations
    }
}

impl Protocol for VezaProtocol {
    type State = VezaState;

    fn state(&mut self, client: ClientIndex, _rooms: &[u32]) -> VezaState {
        let formats = &self.system.options.formats;
        let format = formats.get(client.0 as usize % formats.len().max(1)).copied().unwrap_or(Format::Json);
        VezaState { format, cursors: Vec::new(), recent: 0, welcomed: false, asked: 0 }
    }

    fn upgrade(&mut self, peer: &Peer<VezaState>) -> Upgrade {
        // A reopened connection resumes from its cursors and not from the server's present.
        let subscribe = if peer.reopened { "none" } else { "all" };
        let token = self.system.tokens.get(peer.user as usize).map(|token| lock(token).clone()).unwrap_or_default();
        Upgrade {
            path: format!("/ws?subscribe={subscribe}"),
            headers: vec![("Authorization", format!("Bearer {token}"))],
            subprotocol: Some(peer.state.format.subprotocol()),
            deflate: self.system.options.compression,
        }
    }

    fn opened<S: Sink>(&mut self, peer: &mut Peer<VezaState>, _sink: &mut S) {
        // It is ready after the welcome frame.
        peer.state.welcomed = false;
    }

    fn message<S: Sink>(&mut self, peer: &mut Peer<VezaState>, message: Message<'_>, sink: &mut S) {
        if self.logged(peer, message, sink) {
            return;
        }
        let frame = match peer.state.format.decode(message.text, message.payload) {
            Ok(frame) => frame,
            Err(reason) => {
                return sink.violation(ViolationKind::Protocol, || format!("client {}: {reason}", peer.client.0));
            }
        };
        match frame.kind.as_ref() {
            "ack" => self.acked(peer, frame, sink),
            "error" => self.refused(peer, frame, sink),
            "caught_up" | "reset" | "lagging" => self.stream_notice(peer, &frame, sink),
            "going_away" => sink.going_away(frame.data.retry_after_ms),
            "welcome" => self.welcome(peer, frame, sink),
            // These have no number of their own; a `seq` in them refers to another event.
            "mention" | "read_updated" | "typing" | "presence" => sink.other_event(),
            _ => self.event(peer, frame, message.frame, sink),
        }
    }

    #[inline]
    fn fast<S: Sink>(&mut self, peer: &mut Peer<VezaState>, bytes: &[u8], sink: &mut S) -> usize {
        let mut taken = 0;
        let Some(cursor) = peer.state.cursors.get_mut(peer.state.recent) else { return 0 };
        let log = &self.logs[cursor.room as usize];
        while let Some(entry) = log.get(cursor.last + 1) {
            let Some(length) = entry.length_in(&bytes[taken..]) else { break };
            if !arrive(entry.meaning, peer.client, cursor.room, sink) {
                break;
            }
            cursor.last += 1;
            taken += length;
        }
        taken
    }

    fn publish(&mut self, peer: &mut Peer<VezaState>, publish: Publish) {
        self.send_message(peer, publish);
    }

    fn act(&mut self, peer: &mut Peer<VezaState>, action: Action, room: u32, now_ns: u64) -> bool {
        self.send_action(peer, action, room, now_ns)
    }

    fn lost(&mut self, peer: &mut Peer<VezaState>) {
        // Their answers are lost with the connection, and the engine does not repeat them.
        peer.state.asked = 0;
    }

    fn unanswered(&self, peer: &Peer<VezaState>) -> u64 {
        peer.state.asked
    }

    fn fall_behind(&mut self, peer: &mut Peer<VezaState>) {
        for cursor in &mut peer.state.cursors {
            cursor.target = self.logs[cursor.room as usize].newest();
        }
    }

    fn caught_up(&self, peer: &Peer<VezaState>) -> bool {
        peer.state.cursors.iter().all(|cursor| !cursor.resuming && cursor.last >= cursor.target)
    }

    fn sync(&mut self, peer: &mut Peer<VezaState>) {
        self.share_cursors(peer);
    }
}
