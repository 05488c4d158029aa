//! The end, in order: stop accepting → `going_away`, spread over the clients → outcomes of what is in flight → close
//! 1001 → gone. Each step is taken at a tick, so that a shard with many clients stays responsive to the last.

use super::Shard;
use crate::ids::ConnId;
use crate::wire::ws::close::CloseCode;
use serde_json::json;

/// Clients told per tick and shard: 10,000 a second, so that they do not all come back at once.
const TOLD_PER_TICK: usize = 1_000;
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
}

impl Shard {
    pub(super) fn begin_drain(&mut self) {
        if self.drain.is_none() {
            self.sockets.stop_listening();
            let to_tell = self.open_sessions();
            tracing::info!("shard {}: saying goodbye to {} connections", self.id.0, to_tell.len());
            self.drain = Some(Drain { step: Step::Telling, to_tell });
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
                if self.commits_in_flight == 0 {
                    for conn in self.open_sessions() {
                        self.close_with(conn, CloseCode::GoingAway, RETRY_MS_MIN);
                    }
                    drain.step = Step::Closing;
                }
            }
            Step::Closing => {}
        }
        self.drain = Some(drain);
    }

    /// Whether this shard has nothing left to do.
    pub(super) fn has_drained(&self) -> bool {
        matches!(&self.drain, Some(drain) if drain.step == Step::Closing)
            && self.sockets.open_connections() == 0
            && self.commits_in_flight == 0
    }
}
