//! What time does: heads that never end, heartbeats, expired tokens, slow consumers, forgetting.

use super::Shard;
use super::session::Client;
use super::wheel::RANGE_MS;
use crate::ids::ConnId;
use crate::limits::SLOW_CONSUMER_GRACE_MS;
use crate::wire::ws::close::CloseCode;
use crate::wire::ws::{Opcode, encoder};

/// How often changes of presence are told.
const PRESENCE_MS: u64 = 500;
/// How often memory of the past is swept.
const SWEEP_MS: u64 = 5_000;
/// A shard whose tick is late by this much was held up: stopped, swapped out, or its machine was suspended.
const HELD_UP_MS: u64 = 1_000;

impl Shard {
    /// A tenth of a second has passed.
    pub(super) fn on_tick(&mut self) {
        // What clients sent meanwhile may still be on its way through the ring: their silence was ours.
        if self.now_ms.saturating_sub(self.counters.last_turn_ms.get()) > HELD_UP_MS {
            self.deaf_until_ms = self.now_ms + HELD_UP_MS;
        }
        self.counters.last_turn_ms.set(self.now_ms);
        let mut due = Vec::new();
        self.wheel.due(self.now_ms, &mut due);
        for conn in due {
            match self.client(conn) {
                Client::Open(session) if session.conn == conn => self.look_at_session(conn),
                Client::Head(head) if head.conn == conn => self.head_timed_out(conn),
                Client::Ending { .. } => self.sockets.abort(conn),
                // The slot has been given to another connection since.
                Client::Open(_) | Client::Head(_) | Client::Vacant => {}
            }
        }
        self.send_late_refusals();
        self.show_admissions();
        if self.now_ms >= self.presence_due_ms {
            self.presence_due_ms = self.now_ms + PRESENCE_MS;
            self.settle_presence_doubts();
            self.tell_presence();
        }
        // Once a second: what keeps the store from answering lasts longer than a tick.
        if self.now_ms % 1_000 < 100 {
            for conn in std::mem::take(&mut self.replays_failed) {
                self.pump_replays(conn);
            }
        }
        if self.now_ms % SWEEP_MS < 100 {
            self.published.sweep(self.now_ms);
            self.registry.sweep(self.now_ns());
            self.inflater.release();
            let now_ms = self.now_ms;
            self.revoked.retain(|_, until| *until > now_ms);
        }
        self.drain_tick();
    }

    /// Looks at a session at `at_ms`, unless an earlier look is planned already.
    pub(super) fn schedule_session(&mut self, conn: ConnId, at_ms: u64) {
        let now_ms = self.now_ms;
        let Some(session) = self.session(conn) else { return };
        // Within the wheel's range, so that the entry comes exactly then and an earlier plan's can be told from it.
        let at_ms = at_ms.min(now_ms + RANGE_MS);
        session.look_at_ms = at_ms;
        self.wheel.schedule(conn, at_ms);
    }

    fn look_at_session(&mut self, conn: ConnId) {
        let (now, heartbeat, deaf_until) = (self.now_ms, self.settings.heartbeat_ms, self.deaf_until_ms);
        let Some(session) = self.session(conn) else { return };
        if now < session.look_at_ms {
            return; // an entry of an earlier plan; the present plan has its own
        }
        if now >= session.token_expires_ms {
            return self.close(conn, CloseCode::TokenExpired);
        }
        if session.lagging_since_ms.is_some_and(|since| now - since >= SLOW_CONSUMER_GRACE_MS) {
            return self.close_with(conn, CloseCode::TooSlow, 1_000);
        }
        let next = match session.pinged_at_ms {
            // Silent for two heartbeats, and asked in between: silence alone may be that of a server that was held up.
            Some(at) if now >= (at + heartbeat).max(deaf_until) => {
                return self.close(conn, CloseCode::HeartbeatTimeout);
            }
            Some(at) => (at + heartbeat).max(deaf_until),
            None if now >= session.last_seen_ms + heartbeat => {
                session.pinged_at_ms = Some(now);
                let ping = encoder::frame(Opcode::Ping, false, &[]);
                self.send_frame(conn, ping);
                now + heartbeat
            }
            None => session.last_seen_ms + heartbeat,
        };
        let Some(session) = self.session(conn) else { return };
        let lagging = session.lagging_since_ms.map_or(u64::MAX, |since| since + SLOW_CONSUMER_GRACE_MS);
        let at = next.min(session.token_expires_ms).min(lagging).max(now + 100);
        self.schedule_session(conn, at);
    }
}
