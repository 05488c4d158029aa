//! Executes the steps of [`ShutdownSteps`].

use super::Shard;
use super::shutdown_steps::{ShutdownStep, ShutdownSteps};
use super::world::{Clock, Transport, World};
use crate::ids::ConnId;
use crate::wire::ws::close::CloseCode;
use serde_json::json;
use std::sync::atomic::Ordering;

/// Waiting time suggested to clients: at least, and the width over which it is spread.
const RETRY_MS_MIN: u64 = 500;
const RETRY_MS_SPREAD: u64 = 4_500;

impl<W: World> Shard<W> {
    pub(super) fn begin_drain(&mut self) {
        if self.shutdown.is_none() {
            self.sockets.stop_listening();
            let open = self.open_sessions();
            tracing::info!("shard {}: shutting down; closing {} connections", self.id.0, open.len());
            self.shutdown = Some(ShutdownSteps::new(open));
            self.drain_tick();
        }
    }

    fn open_sessions(&self) -> Vec<ConnId> {
        self.connections.sessions().map(|session| session.conn).collect()
    }

    pub(super) fn drain_tick(&mut self) {
        let Some(shutdown) = &mut self.shutdown else { return };
        // New messages have been refused since the drain began (`send`), so flushing ends with the pending work.
        let is_settled = self.requests.commits_in_flight() == 0
            && !self.rooms.have_backlog()
            && self.connections.sessions().all(|session| session.in_flight == 0);
        match shutdown.tick(is_settled) {
            ShutdownStep::Announce(connections) => {
                for conn in connections {
                    let retry_after_ms = RETRY_MS_MIN + self.clock.random() % RETRY_MS_SPREAD;
                    self.send_event(conn, "going_away", None, &json!({ "retry_after_ms": retry_after_ms }));
                }
            }
            ShutdownStep::Wait => {}
            ShutdownStep::Close => {
                for conn in self.open_sessions() {
                    self.close_with(conn, CloseCode::GoingAway, RETRY_MS_MIN);
                }
            }
        }
    }

    /// Whether every shard has nothing left to do. A shard that is done goes on carrying the others' answers until
    /// then.
    pub(super) fn has_drained(&mut self) -> bool {
        let Some(shutdown) = &mut self.shutdown else { return false };
        if shutdown.is_newly_done(self.sockets.open_connections() == 0, self.requests.commits_in_flight()) {
            self.settings.drained.fetch_add(1, Ordering::AcqRel);
        }
        self.settings.drained.load(Ordering::Acquire) >= self.placement.shards()
    }
}
