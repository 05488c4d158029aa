//! Periodic work: due once per interval, however late or early the shard's ticks are. Pure.

/// How often changes of presence are published, in milliseconds.
pub(super) const PRESENCE_MS: u64 = 500;
/// How often a shard repeats the presence of a part of its connected users to other nodes. It has repeated all of them
/// after [`PRESENCE_REPEAT_PARTS`] times this.
pub(super) const PRESENCE_REPEAT_MS: u64 = 1_000;
/// Parts of the connected users.
pub(super) const PRESENCE_REPEAT_PARTS: u64 = 10;
/// How often failed replays are tried again: what keeps the store from answering lasts longer than a tick.
pub(super) const REPLAY_RETRY_MS: u64 = 1_000;
/// How often memory of the past is swept, in milliseconds.
pub(super) const SWEEP_MS: u64 = 5_000;

/// An interval and when it is over.
pub(super) struct Interval {
    every_ms: u64,
    due_ms: u64,
}

impl Interval {
    /// Due at once, then every `every_ms`.
    pub(super) fn new(every_ms: u64) -> Self {
        Self { every_ms, due_ms: 0 }
    }

    /// Whether the work is due; plans the next round when it is.
    pub(super) fn is_due(&mut self, now_ms: u64) -> bool {
        let is_due = now_ms >= self.due_ms;
        if is_due {
            self.due_ms = now_ms + self.every_ms;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skips_no_round_when_ticks_are_late() {
        let mut interval = Interval::new(1_000);
        // Ticks that a test of `now % 1_000 < 100` would miss, all of them.
        let rounds = (0..10).filter(|round| interval.is_due(round * 1_050 + 500)).count();
        assert_eq!(rounds, 10);
        assert!(!interval.is_due(9 * 1_050 + 600));
    }
}
