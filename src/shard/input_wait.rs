//! How long bytes of clients wait before the shard reads them, and what part of the changes it accepts therefore. Pure.
//!
//! A shard that shares its core, or has more to read than it can, reads late. The wait of a change for its statement
//! (`mesh::overload`) does not include this. The ring's clock shows it: its tick stands in the same queue of the kernel
//! as the bytes do. If a tick is late by 200 ms, bytes have waited at least as long.
//!
//! One late tick is a pause of the process. Two in a row are an overload: the accepted part shrinks with the time that
//! passes. A tick that comes in time ends it, and the part grows back.

use crate::ids::ConnId;
use crate::limits::INPUT_WAIT_TARGET_MS;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

const TARGET: Duration = Duration::from_millis(INPUT_WAIT_TARGET_MS);
/// Late ticks in a row that show an overload.
const LATE_MIN: u32 = 2;
/// All changes, and the least part of them that is accepted.
const ALL: u32 = 1_000;
const PART_MIN: u32 = 300;
/// What a tenth of a second changes: the part shrinks by a fifth, or grows by so much.
const STEP_MS: u64 = 100;
const GROWTH: u32 = 200;
/// Steps that one tick makes at the most.
const STEPS_MAX: u64 = 20;

/// The accepted part of what clients ask to change.
#[derive(Debug)]
pub(super) struct InputWait {
    accepted: u32,
    late: u32,
    last_ms: u64,
}

impl Default for InputWait {
    fn default() -> Self {
        Self { accepted: ALL, late: 0, last_ms: 0 }
    }
}

impl InputWait {
    /// The clock's tick came so `late`, at `now_ms`.
    pub(super) fn tick(&mut self, late: Duration, now_ms: u64) {
        let steps = (now_ms.saturating_sub(self.last_ms) / STEP_MS).clamp(1, STEPS_MAX);
        self.last_ms = now_ms;
        if late <= TARGET {
            self.late = 0;
            self.accepted = (self.accepted + GROWTH * steps as u32).min(ALL);
            return;
        }
        self.late += 1;
        if self.late >= LATE_MIN {
            self.accepted = (0..steps).fold(self.accepted, |part, _| part * 4 / 5).max(PART_MIN);
        }
    }

    /// Whether the changes of a connection are accepted. The answer holds until the next tick, so that of changes that
    /// a client sends together not one is refused and the next accepted.
    pub(super) fn accepts(&self, conn: ConnId) -> bool {
        if self.accepted == ALL {
            return true;
        }
        let mut drawn = DefaultHasher::new();
        (conn, self.last_ms).hash(&mut drawn);
        drawn.finish() % u64::from(ALL) < u64::from(self.accepted)
    }

    /// The accepted part, percent.
    pub(super) fn percent(&self) -> u32 {
        self.accepted * 100 / ALL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    fn conn(slot: u32) -> ConnId {
        ConnId::new(ShardId(0), 1, slot)
    }

    /// Ticks that are all so late, for as long; the accepted percent afterwards.
    fn ticks(wait: &mut InputWait, now_ms: &mut u64, late_ms: u64, for_ms: u64) -> u32 {
        let end_ms = *now_ms + for_ms;
        while *now_ms < end_ms {
            *now_ms += STEP_MS + late_ms;
            wait.tick(Duration::from_millis(late_ms), *now_ms);
        }
        wait.percent()
    }

    #[test]
    fn a_pause_of_the_process_refuses_nothing() {
        let (mut wait, mut now_ms) = (InputWait::default(), 0);
        for _ in 0..50 {
            assert_eq!(ticks(&mut wait, &mut now_ms, 3_000, 3_000), 100, "one late tick");
            assert_eq!(ticks(&mut wait, &mut now_ms, 0, 100), 100);
        }
        assert!((0..1_000).all(|slot| wait.accepts(conn(slot))));
    }

    #[test]
    fn standing_input_shrinks_what_is_accepted_until_it_is_read_in_time() {
        let (mut wait, mut now_ms) = (InputWait::default(), 0);
        assert_eq!(ticks(&mut wait, &mut now_ms, 150, 10_000), 100, "the target itself");
        let little = ticks(&mut wait, &mut now_ms, 160, 500);
        assert_eq!(little, 64, "two late ticks in a row, each of which took two steps");
        assert_eq!(ticks(&mut wait, &mut now_ms, 1_000, 2_000), 30, "late ticks are rare, and count for their time");
        let mut accepted = |late_ms| -> Vec<u32> {
            ticks(&mut wait, &mut now_ms, late_ms, 100);
            (0..10_000).filter(|slot| wait.accepts(conn(*slot))).collect()
        };
        let (first, second) = (accepted(1_000), accepted(1_000));
        assert!((2_700..3_300).contains(&first.len()), "{}", first.len());
        assert_ne!(first, second, "others have their turn after the next tick");
        assert_eq!(ticks(&mut wait, &mut now_ms, 0, 200), 70);
        assert_eq!(ticks(&mut wait, &mut now_ms, 0, 200), 100);
    }
}
