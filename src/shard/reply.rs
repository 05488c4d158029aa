//! Answers to commands: exactly one each, and with it the command slot of its connection.

use super::Shard;
use super::connections::Connections;
use super::rate_limits::Budget;
use super::requests::{Origin, PendingCommand};
use super::world::{Clock, Transport, World};
use crate::error::{ErrorCode, Refusal};
use crate::faults::error_limited;
use crate::ids::ConnId;
use crate::latency::LatencyStage;
use crate::limits::{FLOOD_RETRY_MS, LONG_FRAME_FACTOR, LONG_FRAME_KIB};
use crate::mesh::frame::Answer;
use crate::net::Chunk;
use crate::wire::command::RequestId;
use crate::wire::event;
use crate::wire::ws::close::CloseCode;
use serde::Serialize;

impl<W: World> Shard<W> {
    /// Queues one message for one connection.
    pub(super) fn send_event<T: Serialize>(&mut self, conn: ConnId, kind: &str, id: Option<&RequestId>, data: &T) {
        let Some(session) = self.connections.session(conn) else { return };
        if !session.peer.is_open() {
            return;
        }
        let format = session.format;
        // A client that asks for more than it reads is closed before its answers fill the memory.
        if !self.reads_its_queue(conn) {
            return self.close(conn, CloseCode::TooSlow);
        }
        match event::encode(format, kind, id, data) {
            // Replies are for one reader: compressing them would cost this core more than it saves the wire.
            Ok(frame) => self.send_frame(conn, frame),
            Err(message) => error_limited!("cannot serialise {kind}: {message}"),
        }
    }

    pub(super) fn send_frame(&mut self, conn: ConnId, frame: Vec<u8>) {
        self.counters.bytes_out.add(frame.len() as u64);
        self.sockets.send(conn, Chunk::from(frame));
    }

    /// Whether the connection's queue can hold another answer: its bound for answers is twice that for events.
    pub(super) fn reads_its_queue(&self, conn: ConnId) -> bool {
        self.sockets.queued_bytes(conn) <= 2 * self.live.limits.max_outbound_queue_bytes
    }

    /// Answers a command with the answer of an owner or of the store.
    pub(super) fn reply(&mut self, asked: PendingCommand, answer: Answer) {
        match answer {
            Answer::Sent(receipt) => {
                let took = self.clock.now().saturating_duration_since(asked.at);
                self.counters.stages.record(LatencyStage::Ack, took, 1);
                self.acknowledge(asked, &*receipt);
            }
            Answer::Data(data) => self.acknowledge(asked, &*data),
            Answer::Page(page) => self.acknowledge(asked, &*page),
            Answer::Refused(refusal) if matches!(refusal.code, ErrorCode::RateLimited | ErrorCode::Overloaded) => {
                self.refuse_later(asked, *refusal);
            }
            Answer::Refused(_)
            | Answer::Log(_)
            | Answer::Heads(_)
            | Answer::Session(_)
            | Answer::Located(_)
            | Answer::Presence(_) => self.refuse(asked, &answer.into_refusal()),
        }
    }

    /// Answers a command with success.
    pub(super) fn acknowledge<T: Serialize>(&mut self, asked: PendingCommand, data: &T) {
        self.count_command(&asked);
        release_slot(&mut self.connections, &asked);
        match asked.origin {
            Origin::Connection(conn) => self.send_event(conn, "ack", asked.id.as_ref(), data),
            Origin::Http(reply) => {
                let message = "The server has a fault: it cannot write the answer as JSON.";
                reply(serde_json::to_vec(data).map_err(|_| Refusal::new(ErrorCode::Internal, message)));
            }
            Origin::Invocation(id, bot) => {
                let message = "The server has a fault: it cannot write the answer as JSON.";
                let data = serde_json::to_value(data).map_err(|_| Refusal::new(ErrorCode::Internal, message));
                self.invocation_sent(id, bot, data);
            }
        }
    }

    /// Charges a control frame. Returns whether it may be answered; closes a connection that floods.
    pub(super) fn may_control(&mut self, conn: ConnId) -> bool {
        self.charge(conn, Budget::Signals, 1).is_ok() || {
            self.charge_excess(conn, 1);
            false
        }
    }

    /// Answers a command with a refusal. Over a WebSocket it is charged, unless the server is at fault.
    pub(super) fn refuse(&mut self, asked: PendingCommand, refusal: &Refusal) {
        match refusal.code {
            ErrorCode::StorageUnavailable
            | ErrorCode::Overloaded
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Internal => self.answer_refusal(asked, refusal),
            _ => self.refuse_and_charge(asked, refusal),
        }
    }

    /// The same for any refusal that its client has caused.
    pub(super) fn refuse_and_charge(&mut self, asked: PendingCommand, refusal: &Refusal) {
        let Origin::Connection(conn) = asked.origin else { return self.answer_refusal(asked, refusal) };
        let kib = asked.kib;
        let limited = match refusal.code {
            ErrorCode::RateLimited => None,
            _ => match self.charge(conn, Budget::Signals, kib) {
                Ok(()) => return self.answer_refusal(asked, refusal),
                Err(limited) => Some(limited),
            },
        };
        self.answer_refusal(asked, limited.as_ref().unwrap_or(refusal));
        self.charge_excess(conn, kib);
    }

    /// Charges a frame that no other budget pays for. A user whose connection was closed for it cannot open another
    /// before the time that the close frame gives.
    pub(super) fn charge_excess(&mut self, conn: ConnId, kib: u32) {
        let cost = if kib > LONG_FRAME_KIB { kib.saturating_mul(LONG_FRAME_FACTOR) } else { kib };
        if self.charge(conn, Budget::Excess, cost).is_ok() {
            return;
        }
        if let Some(session) = self.connections.session(conn) {
            session.budgets.keep_out_until(self.now_ns() + FLOOD_RETRY_MS * 1_000_000);
        }
        self.close_with(conn, CloseCode::RateLimited, FLOOD_RETRY_MS);
    }

    /// Answers a command with a refusal that costs its client nothing; see `charges`.
    pub(super) fn answer_refusal(&mut self, asked: PendingCommand, refusal: &Refusal) {
        self.counters.error(refusal.code);
        release_slot(&mut self.connections, &asked);
        match asked.origin {
            Origin::Connection(conn) => self.send_event(conn, "error", asked.id.as_ref(), refusal),
            Origin::Http(reply) => reply(Err(refusal.clone())),
            Origin::Invocation(id, bot) => self.invocation_sent(id, bot, Err(refusal.clone())),
        }
    }

    /// Ends a command that has no ack; over HTTP the answer is an empty object.
    pub(super) fn finish(&mut self, asked: PendingCommand) {
        self.count_command(&asked);
        release_slot(&mut self.connections, &asked);
        match asked.origin {
            Origin::Connection(_) | Origin::Invocation(..) => {} // an answer to a command is acknowledged
            Origin::Http(reply) => reply(Ok(b"{}".to_vec())),
        }
    }

    fn count_command(&self, asked: &PendingCommand) {
        if let Some(command) = asked.command {
            self.counters.command_done(command, self.now.saturating_duration_since(asked.at));
        }
    }

    /// Reserves a command slot of a connection.
    pub(super) fn reserve_slot(&mut self, conn: ConnId) -> Result<(), Refusal> {
        let most = crate::limits::COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX;
        let Some(session) = self.connections.session_mut(conn) else { return Ok(()) };
        if session.in_flight >= most {
            return Err(Refusal::overloaded(
                "commands of this connection",
                ("commands_in_flight", "connection", most as usize),
            ));
        }
        session.in_flight += 1;
        Ok(())
    }
}

fn release_slot(connections: &mut Connections, asked: &PendingCommand) {
    if asked.holds_slot
        && let Some(session) = asked.origin.connection().and_then(|conn| connections.session_mut(conn))
    {
        session.in_flight -= 1;
    }
}
