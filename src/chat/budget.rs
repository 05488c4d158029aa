//! Rate limits: GCRA in one atomic, shared by a user's connections on whatever shard they live.
//!
//! The atomic is the theoretical arrival time (TAT) of the next request, in nanoseconds of the process's clock. A
//! request conforms while TAT − now ≤ burst; it moves TAT on by one emission interval (ITU-T I.371).

use std::sync::atomic::{AtomicU64, Ordering};

/// A rate: so many per minute, all of which may come at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    interval_ns: u64,
    burst_ns: u64,
}

impl Rate {
    /// `per_minute` requests a minute, at least one.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        let per_minute = u64::from(per_minute.max(1));
        let interval_ns = 60_000_000_000 / per_minute;
        Self { interval_ns, burst_ns: interval_ns * (per_minute - 1) }
    }

    /// Takes one from the budget `tat`.
    ///
    /// # Errors
    /// Milliseconds until one would conform.
    pub fn take(self, tat: &AtomicU64, now_ns: u64) -> Result<(), u64> {
        let mut current = tat.load(Ordering::Relaxed);
        loop {
            let ahead = current.saturating_sub(now_ns);
            if ahead > self.burst_ns {
                return Err((ahead - self.burst_ns).div_ceil(1_000_000));
            }
            let next = current.max(now_ns) + self.interval_ns;
            match tat.compare_exchange_weak(current, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => current = seen,
            }
        }
    }
}

/// Whether a budget is full again, so that forgetting it loses nothing.
#[must_use]
pub fn is_replenished(tat: &AtomicU64, now_ns: u64) -> bool {
    tat.load(Ordering::Relaxed) <= now_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let rate = Rate::per_minute(60);
        let tat = AtomicU64::new(0);
        let start = 5_000_000_000;
        assert_eq!((0..60).filter(|_| rate.take(&tat, start).is_ok()).count(), 60);
        assert_eq!(rate.take(&tat, start), Err(1_000));
        assert_eq!(rate.take(&tat, start + 1_000_000_000), Ok(()));
        assert!(rate.take(&tat, start + 1_000_000_000).is_err());
        assert!(!is_replenished(&tat, start + 59_000_000_000));
        assert!(is_replenished(&tat, start + 61_000_000_000));
    }

    #[test]
    fn one_per_minute() {
        let tat = AtomicU64::new(0);
        let rate = Rate::per_minute(1);
        assert_eq!((rate.take(&tat, 1), rate.take(&tat, 1)), (Ok(()), Err(60_000)));
    }
}
