//! How many clients the server can admit in a second, measured by what it costs to look a session up.
//!
//! If many clients come back at once, they wait for each other and for PostgreSQL. Therefore a server that stops gives
//! each client its own time to come back, at this rate ([`AdmissionPace::per_second`]). And a server lets only as many
//! clients wait as it can serve in time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A look-up that is alone waits for other work too, and leaves room for another: two at a time cost hardly more.
const AT_ONCE: u64 = 2;
/// The cost before anything was measured.
const COST_US_FIRST: u64 = 2_000;
/// A look-up counts for this part of the average.
const WEIGHT: u64 = 16;
/// Never less, and never more than this per second.
const PER_SECOND_MIN: u64 = 100;
const PER_SECOND_MAX: u64 = 20_000;

/// The average cost of a look-up. One thread writes it: the I/O shard.
#[derive(Debug)]
pub struct AdmissionPace {
    /// In microseconds. Look-ups at the same time share it: while fifteen take 15 ms each, one costs 1 ms.
    cost_us: AtomicU64,
    /// Look-ups under way.
    running: AtomicU64,
}

impl Default for AdmissionPace {
    fn default() -> Self {
        Self { cost_us: AtomicU64::new(COST_US_FIRST), running: AtomicU64::new(0) }
    }
}

impl AdmissionPace {
    /// A look-up begins.
    pub fn begin(&self) {
        self.running.fetch_add(1, Relaxed);
    }

    /// A look-up has ended. `took`: how long it took without its time in a queue; none if it was not answered.
    pub fn end(&self, took: Option<Duration>) {
        let at_once = self.running.fetch_sub(1, Relaxed).max(1);
        let Some(took) = took else { return };
        let (before, took) = (self.cost_us.load(Relaxed), took.as_micros().min(10_000_000) as u64 / at_once);
        self.cost_us.store((before * (WEIGHT - 1) + took).div_ceil(WEIGHT), Relaxed);
    }

    /// Clients that can be admitted in a second.
    #[must_use]
    pub fn per_second(&self) -> u64 {
        (AT_ONCE * 1_000_000 / self.cost_us.load(Relaxed).max(1)).clamp(PER_SECOND_MIN, PER_SECOND_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_cost_of_look_ups_within_its_bounds() {
        let pace = AdmissionPace::default();
        assert_eq!(pace.per_second(), 1_000);
        let after = |at_once: u64, took_ms: u64| {
            for _ in 0..at_once {
                pace.begin();
            }
            // One is always under way when the next one ends, as in a storm.
            for _ in 0..400 {
                pace.end(Some(Duration::from_millis(took_ms)));
                pace.begin();
            }
            for _ in 0..at_once {
                pace.end(None);
            }
            pace.per_second()
        };
        assert!((190..=200).contains(&after(1, 10)), "{}", pace.per_second());
        assert!((1_900..=2_000).contains(&after(10, 10)), "{}", pace.per_second());
        assert_eq!((after(1, 1_000), after(1, 0)), (PER_SECOND_MIN, PER_SECOND_MAX));
    }
}
