//! The steps of a shard's shutdown. Pure: the shard executes each step.
//!
//! ```text
//!   Announcing ──all are notified──► Flushing ──no pending work, or time is up──► Closing ──sockets closed──► done
//!   (going_away, spread)                (no new changes)                                  (1001)
//! ```
//!
//! A step is taken at a tick, so that a shard with many clients stays responsive to the last.

use crate::ids::ConnId;

/// Clients that get `going_away` per tick and shard: 10,000 a second, so that they do not all reconnect at once.
const ANNOUNCED_PER_TICK: usize = 1_000;
/// Most ticks to wait for pending answers: longer than a commit's deadline.
const FLUSHING_TICKS_MAX: u32 = 70;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ShutdownPhase {
    Announcing,
    Flushing,
    Closing,
}

/// What the shard does at this tick.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ShutdownStep {
    /// Send `going_away` to these.
    Announce(Vec<ConnId>),
    /// Wait for pending work.
    Wait,
    /// Close every open session with 1001. At every tick: a socket may have been on its way here from another shard.
    Close,
}

/// The progress of a shutdown.
pub struct ShutdownSteps {
    stage: ShutdownPhase,
    to_announce: Vec<ConnId>,
    flushing_ticks: u32,
    counted: bool,
}

impl ShutdownSteps {
    /// Begins with the connections that are open.
    pub fn new(open: Vec<ConnId>) -> Self {
        Self { stage: ShutdownPhase::Announcing, to_announce: open, flushing_ticks: 0, counted: false }
    }

    /// A tick; `is_settled` if no answer and no event is pending.
    pub fn tick(&mut self, is_settled: bool) -> ShutdownStep {
        match self.stage {
            ShutdownPhase::Announcing => {
                let rest = self.to_announce.len().saturating_sub(ANNOUNCED_PER_TICK);
                let announced = self.to_announce.split_off(rest);
                if self.to_announce.is_empty() {
                    self.stage = ShutdownPhase::Flushing;
                }
                ShutdownStep::Announce(announced)
            }
            ShutdownPhase::Flushing => {
                self.flushing_ticks += 1;
                if is_settled || self.flushing_ticks > FLUSHING_TICKS_MAX {
                    self.stage = ShutdownPhase::Closing;
                }
                ShutdownStep::Wait
            }
            ShutdownPhase::Closing => ShutdownStep::Close,
        }
    }

    /// Whether this shard is done for the first time: its sockets are closed, and its mutations have their outcomes.
    pub fn is_newly_done(&mut self, sockets_gone: bool, commits_in_flight: usize) -> bool {
        let done = self.stage == ShutdownPhase::Closing && sockets_gone && commits_in_flight == 0;
        done && !std::mem::replace(&mut self.counted, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    #[test]
    fn announces_in_portions_then_flushes_then_closes() {
        let open: Vec<ConnId> = (0..1_500).map(|slot| ConnId::new(ShardId(0), 0, slot)).collect();
        let mut steps = ShutdownSteps::new(open);
        let ShutdownStep::Announce(first) = steps.tick(false) else { panic!() };
        let ShutdownStep::Announce(second) = steps.tick(false) else { panic!() };
        assert_eq!((first.len(), second.len()), (1_000, 500));
        assert_eq!(steps.tick(false), ShutdownStep::Wait);
        assert!(!steps.is_newly_done(true, 0), "answers are pending");
        assert_eq!((steps.tick(true), steps.tick(true)), (ShutdownStep::Wait, ShutdownStep::Close));
        assert!(!steps.is_newly_done(true, 1) && !steps.is_newly_done(false, 0));
        assert!(steps.is_newly_done(true, 0) && !steps.is_newly_done(true, 0), "counted once");
    }

    #[test]
    fn closes_although_some_work_never_ends() {
        let mut steps = ShutdownSteps::new(Vec::new());
        let ticks = (0..1_000).find(|_| steps.tick(false) == ShutdownStep::Close);
        assert_eq!(ticks, Some(FLUSHING_TICKS_MAX as usize + 2));
    }
}
