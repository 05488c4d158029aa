//! Timers: incomplete request heads, heartbeats, expired tokens, slow consumers, forgetting.

use super::Shard;
use super::connections::Client;
use super::session::Look;
use super::world::World;
use crate::ids::ConnId;
use crate::limits::SLOW_CONSUMER_RETRY_MS;
use crate::wire::ws::close::CloseCode;
use crate::wire::ws::{Opcode, encoder};
use std::time::Duration;

/// A shard whose tick is late by this much was delayed: stopped, swapped out, or its machine was suspended.
const HELD_UP_MS: u64 = 1_000;

impl<W: World> Shard<W> {
    /// Runs every 100 ms, and so much `late`.
    pub(super) fn on_tick(&mut self, late: Duration) {
        // What clients sent meanwhile may still be in the ring: the delay was this shard's.
        if self.now_ms.saturating_sub(self.counters.last_turn_ms.get()) > HELD_UP_MS {
            self.paused_until_ms = self.now_ms + HELD_UP_MS;
        }
        self.counters.last_turn_ms.set(self.now_ms);
        self.input_wait.tick(late, self.now_ms);
        self.counters.accepted_percent.set(self.input_wait.percent().into());
        for conn in self.connections.due(self.now_ms) {
            self.check(conn);
        }
        self.tell_late_heads();
        self.send_late_refusals();
        self.bots.expire(self.now_ms);
        self.show_queues();
        if self.presence_rounds.is_due(self.now_ms) {
            self.recheck_watches();
            self.publish_presence();
            self.publish_users();
        }
        if self.replay_retries.is_due(self.now_ms) {
            for (_, conn) in std::mem::take(&mut self.requests.replays_failed) {
                self.pump_replays(conn);
            }
        }
        if self.sweeps.is_due(self.now_ms) {
            self.sweep();
        }
        self.drain_tick();
    }

    fn sweep(&mut self) {
        let now_ns = self.now_ns();
        self.rooms.owned.sweep(self.now_ms);
        self.directory.users.expire_elsewhere(self.now_ms);
        self.directory.users.sweep(now_ns);
        self.directory.revocations.sweep(self.now_ms);
        self.inflater.release();
    }

    fn check(&mut self, conn: ConnId) {
        match self.connections.client(conn) {
            Client::Open(session, _) if session.conn == conn => self.check_session(conn),
            Client::Head(head) if head.conn == conn => self.head_timed_out(conn),
            Client::Closing { conn: closing, until_ms, .. } if *closing == conn => {
                let until_ms = *until_ms;
                self.end_linger(conn, until_ms);
            }
            // The slot belongs to another connection by now.
            Client::Open(..) | Client::Head(_) | Client::Closing { .. } | Client::Vacant => {}
        }
    }

    fn check_session(&mut self, conn: ConnId) {
        let (now_ms, heartbeat_ms, paused_until_ms) = (self.now_ms, self.settings.heartbeat_ms, self.paused_until_ms);
        let Some(session) = self.connections.session_mut(conn) else { return };
        if now_ms < session.check_at_ms {
            return; // an entry of an earlier plan; the present plan has its own
        }
        match session.look(now_ms, heartbeat_ms, paused_until_ms) {
            Look::Close(CloseCode::TooSlow) => self.close_with(conn, CloseCode::TooSlow, SLOW_CONSUMER_RETRY_MS),
            Look::Close(code) => self.close(conn, code),
            Look::Ping(at_ms) => {
                self.send_frame(conn, encoder::frame(Opcode::Ping, false, &[]));
                self.connections.schedule_session(conn, at_ms, now_ms);
            }
            Look::Again(at_ms) => self.connections.schedule_session(conn, at_ms, now_ms),
        }
    }
}
