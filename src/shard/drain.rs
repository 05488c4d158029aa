//! The end, in order: stop accepting → `going_away`, spread over the clients → outcomes of what is in flight → close
//! 1001 → gone. Each step is taken at a tick, so that a shard with many clients stays responsive to the last.

use super::Shard;
use crate::ids::ConnId;
use crate::wire::ws::close::CloseCode;
use serde_json::json;
use std::sync::atomic::Ordering;

/// Clients told per tick and shard: 10,000 a second, so that they do not all come back at once.
const TOLD_PER_TICK: usize = 1_000;
/// Ticks that answers get to arrive: longer than a commit's deadline.
const FLUSHING_TICKS_MAX: u32 = 70;
/// Waiting time suggested to clients: at least, and the width over which it is spread.
const RETRY_MS_MIN: u64 = 500;
const RETRY_MS_SPREAD: u64 = 4_500;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Telling,
    Flushing,
    Closing,
}

/// How far the end has come.
pub(super) struct Drain {
    step: Step,
    to_tell: Vec<ConnId>,
    flushing_ticks: u32,
    counted: bool,
}

impl Shard {
    pub(super) fn begin_drain(&mut self) {
        if self.drain.is_none() {
            self.sockets.stop_listening();
            let to_tell = self.open_sessions();
            tracing::info!("shard {}: saying goodbye to {} connections", self.id.0, to_tell.len());
            self.drain = Some(Drain { step: Step::Telling, to_tell, flushing_ticks: 0, counted: false });
            self.drain_tick();
        }
    }

    fn open_sessions(&self) -> Vec<ConnId> {
        self.clients.iter().filter_map(super::session::Client::session).map(|s| s.conn).collect()
    }

    pub(super) fn drain_tick(&mut self) {
        let Some(mut drain) = self.drain.take() else { return };
        match drain.step {
            Step::Telling => {
                let rest = drain.to_tell.len().saturating_sub(TOLD_PER_TICK);
                for conn in drain.to_tell.split_off(rest) {
                    let retry_after_ms = RETRY_MS_MIN + rand::random_range(0..RETRY_MS_SPREAD);
                    self.say(conn, "going_away", None, &json!({ "retry_after_ms": retry_after_ms }));
                }
                if drain.to_tell.is_empty() {
                    drain.step = Step::Flushing;
                }
            }
            // New messages are refused since the drain began (`send`): this ends with what is on its way.
            Step::Flushing => {
                drain.flushing_ticks += 1;
                let unanswered =
                    self.clients.iter().filter_map(super::session::Client::session).any(|s| s.in_flight > 0);
                if (self.commits_in_flight == 0 && self.backlogs.is_empty() && !unanswered)
                    || drain.flushing_ticks > FLUSHING_TICKS_MAX
                {
                    drain.step = Step::Closing;
                }
            }
            // At every tick: a socket may have been on its way here from another shard.
            Step::Closing => {
                for conn in self.open_sessions() {
                    self.close_with(conn, CloseCode::GoingAway, RETRY_MS_MIN);
                }
            }
        }
        self.drain = Some(drain);
    }

    /// Whether every shard has nothing left to do. One that is done goes on carrying the others' answers until then.
    pub(super) fn has_drained(&mut self) -> bool {
        let Some(drain) = &mut self.drain else { return false };
        let done = drain.step == Step::Closing && self.sockets.open_connections() == 0 && self.commits_in_flight == 0;
        if done && !std::mem::replace(&mut drain.counted, true) {
            self.settings.drained.fetch_add(1, Ordering::AcqRel);
        }
        self.settings.drained.load(Ordering::Acquire) >= self.mesh.placement.shards()
    }
}
