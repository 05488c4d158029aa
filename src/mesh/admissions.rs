//! How many clients the server can admit in a second, measured by what it costs to look a session up.
//!
//! Clients that all come back at once wait for each other, and for PostgreSQL. So those of a server that stops are told
//! to come back one after another ([`AdmissionPace::per_second`]), and a server lets only as many wait as it can serve
//! in time.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Look-ups that may be under way all the time without delaying other work: nodes share PostgreSQL, and its cores.
const AT_ONCE: u64 = 2;
/// The cost before anything was measured.
const COST_US_FIRST: u64 = 2_000;
/// A look-up counts for this part of the average.
const WEIGHT: u64 = 16;
/// Never less, and never more than this per second.
const PER_SECOND_MIN: u64 = 100;
const PER_SECOND_MAX: u64 = 20_000;

/// The average cost of a look-up.
#[derive(Debug)]
pub struct AdmissionPace {
    /// In microseconds. One thread writes it: the I/O shard.
    cost_us: AtomicU64,
}

impl Default for AdmissionPace {
    fn default() -> Self {
        Self { cost_us: AtomicU64::new(COST_US_FIRST) }
    }
}

impl AdmissionPace {
    /// A look-up took this long, without its time in a queue.
    pub fn note(&self, took: Duration) {
        let (before, took) = (self.cost_us.load(Relaxed), took.as_micros().min(10_000_000) as u64);
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
        let after = |took_ms: u64| {
            for _ in 0..200 {
                pace.note(Duration::from_millis(took_ms));
            }
            pace.per_second()
        };
        assert!((190..=200).contains(&after(10)), "{}", pace.per_second());
        assert_eq!((after(1_000), after(0)), (PER_SECOND_MIN, PER_SECOND_MAX));
    }
}
