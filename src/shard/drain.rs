//! Executes the steps of [`ShutdownSteps`].

use super::Shard;
use super::shutdown_steps::{ReturnSlots, ShutdownStep, ShutdownSteps};
use super::world::{Transport, World};
use crate::ids::ConnId;
use crate::wire::ws::close::CloseCode;
use serde_json::json;
use std::sync::atomic::Ordering;

impl<W: World> Shard<W> {
    pub(super) fn begin_drain(&mut self) {
        if self.shutdown.is_none() {
            self.sockets.stop_listening();
            let open = self.open_sessions();
            tracing::info!("shard {}: shutting down; closing {} connections", self.id.0, open.len());
            let slots = ReturnSlots {
                per_second: self.settings.overload.admissions.per_second(),
                shards: self.placement.shards() as u64,
                shard: u64::from(self.id.0),
            };
            self.shutdown = Some(ShutdownSteps::new(&open, slots));
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
                for (conn, retry_after_ms) in connections {
                    self.send_event(conn, "going_away", None, &json!({ "retry_after_ms": retry_after_ms }));
                }
            }
            ShutdownStep::Wait => {}
            ShutdownStep::Close => {
                let returns = |conn| (conn, shutdown.returns_after_ms(conn));
                let open: Vec<_> = self.connections.sessions().map(|session| returns(session.conn)).collect();
                for (conn, retry_after_ms) in open {
                    self.close_with(conn, CloseCode::GoingAway, retry_after_ms);
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
