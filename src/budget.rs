//! Rate limits: the generic cell rate algorithm (GCRA) in one atomic, which a user's connections on all shards share.
//!
//! The atomic is the theoretical arrival time (TAT) of the next request, in nanoseconds of the process's clock. A
//! request conforms while TAT − now ≤ burst, and moves the TAT forward by one emission interval (ITU-T I.371).

use std::sync::atomic::{AtomicU64, Ordering};

/// What was spent elsewhere can use a budget up for so many times the time that a burst takes to be refilled: as if all
/// of so many nodes had given a burst each.
const BURSTS_AHEAD_MAX: u64 = 10;

/// A number of requests per minute. A user may spend all of them in one burst.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    interval_ns: u64,
    burst_ns: u64,
}

impl Rate {
    /// Allows `per_minute` requests per minute; 0 counts as 1.
    #[must_use]
    pub fn per_minute(per_minute: u32) -> Self {
        let per_minute = u64::from(per_minute.max(1));
        let interval_ns = 60_000_000_000 / per_minute;
        Self { interval_ns, burst_ns: interval_ns * (per_minute - 1) }
    }

    /// The same rate, with a burst of one part in `part` of a minute's requests.
    #[must_use]
    pub fn with_burst_part(self, part: u32) -> Self {
        Self { burst_ns: self.burst_ns / u64::from(part.max(1)), ..self }
    }

    /// This percentage of the rate and of its burst; 0 counts as 1.
    #[must_use]
    pub fn scaled(self, percent: u32) -> Self {
        // The burst is a time. With a longer interval, fewer requests fit into it.
        Self { interval_ns: self.interval_ns * 100 / u64::from(percent.max(1)), ..self }
    }

    /// Requests that conform now, if no other one comes.
    #[must_use]
    pub fn remaining(self, tat: &AtomicU64, now_ns: u64) -> u64 {
        let ahead = tat.load(Ordering::Relaxed).saturating_sub(now_ns);
        match self.burst_ns.checked_sub(ahead) {
            Some(left) => left / self.interval_ns.max(1) + 1,
            None => 0,
        }
    }

    /// Spends one request of the budget `tat`.
    ///
    /// # Errors
    /// The budget is empty; the value is the milliseconds until the next request conforms.
    pub fn take(self, tat: &AtomicU64, now_ns: u64) -> Result<(), u64> {
        self.take_many(tat, now_ns, 1)
    }

    /// Whether one request conforms, without spending it.
    ///
    /// # Errors
    /// As [`Rate::take`].
    pub fn check(self, tat: &AtomicU64, now_ns: u64) -> Result<(), u64> {
        let ahead = tat.load(Ordering::Relaxed).saturating_sub(now_ns);
        if ahead > self.burst_ns { Err((ahead - self.burst_ns).div_ceil(1_000_000)) } else { Ok(()) }
    }

    /// Takes `count` at once, or none. A larger `count` than the burst counts as the burst.
    ///
    /// # Errors
    /// Milliseconds until this many would conform.
    pub fn take_many(self, tat: &AtomicU64, now_ns: u64, count: u32) -> Result<(), u64> {
        // The first of them is what `take` asks for; the others must fit into the burst behind it.
        let others_ns = (u64::from(count.max(1)) - 1).saturating_mul(self.interval_ns).min(self.burst_ns);
        let mut current = tat.load(Ordering::Relaxed);
        loop {
            let ahead = current.saturating_sub(now_ns) + others_ns;
            if ahead > self.burst_ns {
                return Err((ahead - self.burst_ns).div_ceil(1_000_000));
            }
            let next = current.max(now_ns) + self.interval_ns + others_ns;
            match tat.compare_exchange_weak(current, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(seen) => current = seen,
            }
        }
    }

    /// Spends `count` of the budget `tat`, also what it does not have, up to [`BURSTS_AHEAD_MAX`] bursts.
    pub fn charge(self, tat: &AtomicU64, now_ns: u64, count: u32) {
        let charged_ns = u64::from(count).saturating_mul(self.interval_ns);
        let most = now_ns.saturating_add(BURSTS_AHEAD_MAX * (self.burst_ns + self.interval_ns));
        let charged = |tat: u64| Some(tat.max(now_ns).saturating_add(charged_ns).min(tat.max(most)));
        let _ = tat.fetch_update(Ordering::Relaxed, Ordering::Relaxed, charged); // it cannot fail
    }
}

/// Whether the budget is full again. A full budget can be dropped: a new one has the same value.
#[must_use]
pub fn is_replenished(tat: &AtomicU64, now_ns: u64) -> bool {
    tat.load(Ordering::Relaxed) <= now_ns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_a_burst_and_then_the_rate() {
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
    fn charges_expensive_reads_more() {
        let rate = Rate::per_minute(1_200).with_burst_part(4);
        let tat = AtomicU64::new(0);
        assert_eq!((0..100).filter(|_| rate.take_many(&tat, 1, 10).is_ok()).count(), 30, "300 at once, ten each");
        assert_eq!(rate.take_many(&tat, 1, 10), Err(463), "20 a second");
        assert!(rate.take(&tat, 1).is_err());
        assert_eq!(rate.take_many(&tat, 500_000_001, 10), Ok(()));
        let full = AtomicU64::new(0);
        assert_eq!(rate.take_many(&full, 1, 1_000_000), Ok(()), "more than may ever come at once");
        assert!(rate.take(&full, 1).is_err());
    }

    #[test]
    fn a_percentage_scales_the_rate_and_the_burst() {
        let now = 1_000_000_000_000;
        for (percent, burst, wait_ms) in [(25, 15, 4_000), (50, 30, 2_000), (100, 60, 1_000), (200, 119, 500)] {
            let (rate, tat) = (Rate::per_minute(60).scaled(percent), AtomicU64::new(0));
            assert_eq!(rate.remaining(&tat, now), burst, "{percent} %");
            assert_eq!((0..200).filter(|_| rate.take(&tat, now).is_ok()).count() as u64, burst, "{percent} %");
            assert_eq!(rate.remaining(&tat, now), 0);
            let wait = rate.take(&tat, now).unwrap_err();
            assert!(wait <= wait_ms, "{percent} %: {wait} ms");
            assert_eq!(rate.take(&tat, now + wait * 1_000_000), Ok(()), "what the refusal says is true");
        }
    }

    #[test]
    fn charges_what_was_spent_elsewhere() {
        let (rate, tat, now) = (Rate::per_minute(60), AtomicU64::new(0), 1_000_000_000_000);
        rate.charge(&tat, now, 20);
        assert_eq!(rate.remaining(&tat, now), 40);
        rate.charge(&tat, now, u32::MAX);
        assert_eq!((rate.remaining(&tat, now), rate.remaining(&tat, now + 541_000_000_000)), (0, 1), "nine minutes");
    }

    #[test]
    fn allows_one_request_per_minute() {
        let tat = AtomicU64::new(0);
        let rate = Rate::per_minute(1);
        assert_eq!((rate.take(&tat, 1), rate.take(&tat, 1)), (Ok(()), Err(60_000)));
    }
}
