//! The steps of a shard's shutdown. Pure: the shard executes each step.
//!
//! ```text
//!   Announcing ──all are notified──► Flushing ──no pending work, or time is up──► Closing ──sockets closed──► done
//!   (going_away, spread)                (no new changes)                                  (1001)
//! ```
//!
//! A step is taken at a tick, so that a shard with many clients stays responsive to the last.

use crate::ids::ConnId;
use std::collections::HashMap;

/// Clients that get `going_away` per tick and shard.
const ANNOUNCED_PER_TICK: usize = 1_000;
/// When the first client may come back, in milliseconds after its connection was closed.
pub const RETURN_MS_MIN: u64 = 500;
/// The last one waits no longer than this, however many there are.
const RETURN_MS_MAX: u64 = 60_000;
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
    /// Send `going_away` to these, each with the time after which it comes back, in milliseconds.
    Announce(Vec<(ConnId, u64)>),
    /// Wait for pending work.
    Wait,
    /// Close every open session with 1001. At every tick: a socket may have been on its way here from another shard.
    Close,
}

/// When the clients of a shard come back: one after another, and between them those of the other shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReturnSlots {
    /// Clients that all shards together send back in a second.
    pub per_second: u64,
    /// The number of shards.
    pub shards: u64,
    /// This shard's number, from 0.
    pub shard: u64,
}

impl ReturnSlots {
    /// The times of so many clients, in milliseconds after their connections were closed.
    fn of(self, clients: usize) -> impl Iterator<Item = u64> {
        let last = (clients as u64).max(1) * self.shards;
        let interval_us = (1_000_000 / self.per_second.max(1)).min((RETURN_MS_MAX - RETURN_MS_MIN) * 1_000 / last);
        (0..clients as u64).map(move |turn| RETURN_MS_MIN + (turn * self.shards + self.shard) * interval_us / 1_000)
    }
}

/// The progress of a shutdown.
pub struct ShutdownSteps {
    stage: ShutdownPhase,
    to_announce: Vec<ConnId>,
    /// When each client comes back, in milliseconds after its connection was closed.
    returns: HashMap<ConnId, u64>,
    flushing_ticks: u32,
    counted: bool,
}

impl ShutdownSteps {
    /// Begins with the connections that are open.
    pub fn new(open: &[ConnId], slots: ReturnSlots) -> Self {
        let returns = open.iter().copied().zip(slots.of(open.len())).collect();
        Self {
            stage: ShutdownPhase::Announcing,
            to_announce: open.to_vec(),
            returns,
            flushing_ticks: 0,
            counted: false,
        }
    }

    /// When this client comes back. A connection that was on its way here when the shutdown began has no time of its
    /// own.
    pub fn returns_after_ms(&self, conn: ConnId) -> u64 {
        self.returns.get(&conn).copied().unwrap_or(RETURN_MS_MIN)
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
                let with_times = announced.into_iter().map(|conn| (conn, self.returns_after_ms(conn)));
                ShutdownStep::Announce(with_times.collect())
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
    use std::collections::BTreeSet;

    const SLOTS: ReturnSlots = ReturnSlots { per_second: 1_000, shards: 2, shard: 1 };

    #[test]
    fn every_client_has_a_slot_of_its_own_at_the_rate_of_all_shards() {
        let other = ReturnSlots { shard: 0, ..SLOTS };
        let times: BTreeSet<u64> = SLOTS.of(500).chain(other.of(500)).collect();
        assert_eq!(times, (500..1_500).collect(), "one each millisecond");
        let many: Vec<u64> = SLOTS.of(1_000_000).collect();
        assert!(many.last().is_some_and(|last| (50_000..=RETURN_MS_MAX).contains(last)), "{:?}", many.last());
        let conn = ConnId::new(ShardId(0), 0, 7);
        assert_eq!(ShutdownSteps::new(&[conn], SLOTS).returns_after_ms(conn), 501);
        assert_eq!(ShutdownSteps::new(&[], SLOTS).returns_after_ms(conn), 500);
    }

    #[test]
    fn announces_in_portions_then_flushes_then_closes() {
        let open: Vec<ConnId> = (0..1_500).map(|slot| ConnId::new(ShardId(0), 0, slot)).collect();
        let mut steps = ShutdownSteps::new(&open, SLOTS);
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
        let mut steps = ShutdownSteps::new(&[], SLOTS);
        let ticks = (0..1_000).find(|_| steps.tick(false) == ShutdownStep::Close);
        assert_eq!(ticks, Some(FLUSHING_TICKS_MAX as usize + 2));
    }
}
