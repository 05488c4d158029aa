//! A timing wheel: deadlines by the tenth of a second, for any number of connections. Pure.
//!
//! An entry means "check this connection then"; the caller decides what is due. An entry that has become
//! pointless costs one check, so nothing is ever searched for or removed.

use crate::ids::ConnId;

/// Resolution.
const TICK_MS: u64 = 100;
/// Slots; a later deadline is checked after one round and inserted again.
const SLOTS: usize = 512;

/// The furthest that a look can be planned ahead.
pub(super) const RANGE_MS: u64 = (SLOTS as u64 - 2) * TICK_MS;

/// Connections by the time at which to check them.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<ConnId>>,
    /// The next tick to be collected.
    tick: u64,
}

impl Default for Wheel {
    fn default() -> Self {
        Self { slots: vec![Vec::new(); SLOTS], tick: 0 }
    }
}

impl Wheel {
    /// Plans a check of `conn` at `at_ms`, or earlier if that is more than a round away.
    pub fn schedule(&mut self, conn: ConnId, at_ms: u64) {
        let tick = at_ms.div_ceil(TICK_MS).clamp(self.tick, self.tick + SLOTS as u64 - 1);
        self.slots[tick as usize % SLOTS].push(conn);
    }

    /// Everything due by `now_ms`.
    pub fn due(&mut self, now_ms: u64, due: &mut Vec<ConnId>) {
        let now = now_ms / TICK_MS;
        // After a long pause every slot is due once.
        let until = now.min(self.tick + SLOTS as u64 - 1);
        while self.tick <= until {
            due.append(&mut self.slots[self.tick as usize % SLOTS]);
            self.tick += 1;
        }
        self.tick = self.tick.max(now + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nothing_is_early_by_more_than_a_round_or_lost(
            deadlines in proptest::collection::vec(0u64..60_000, 1..50),
            step in 1u64..5_000,
        ) {
            let mut wheel = Wheel::default();
            for (i, at) in deadlines.iter().enumerate() {
                wheel.schedule(ConnId::new(ShardId(0), 0, i as u32), *at);
            }
            let mut fired = vec![false; deadlines.len()];
            let mut now = 0;
            while now < 130_000 {
                let mut due = Vec::new();
                wheel.due(now, &mut due);
                for conn in due {
                    let at = deadlines[conn.slot() as usize];
                    if at > now {
                        wheel.schedule(conn, at); // early: put in again
                    } else {
                        fired[conn.slot() as usize] = true;
                    }
                }
                now += step;
            }
            prop_assert!(fired.iter().all(|f| *f));
        }
    }
}
