//! Computes `retry_after_ms` for changes that were refused because too many wait. Pure.
//!
//! Every refused client retries. The more refusals there are for each accepted change, the later and the more widely
//! spread the retries must be. [`Pressure`] counts both for a second at a time.

/// How long is counted, in milliseconds.
const WINDOW_MS: u64 = 1_000;
/// The earliest return, if few were refused.
const RETURN_MS_MIN: u64 = 500;
/// The earliest return, however many were refused.
const RETURN_MS_MAX: u64 = 8_000;

/// What a shard accepted and refused: as an owner, or as the reader of its clients.
#[derive(Default, Debug)]
pub(super) struct Pressure {
    since_ms: u64,
    accepted: u64,
    refused: u64,
    /// Refused for each accepted one, in the last window.
    ratio: u64,
}

impl Pressure {
    /// A change was accepted at `now_ms`.
    pub(super) fn accepted(&mut self, now_ms: u64) {
        self.turn_over(now_ms);
        self.accepted += 1;
    }

    /// A change was refused. Returns when its sender should try again, in milliseconds from now on; `random` spreads
    /// the returns over as long again.
    pub(super) fn refused(&mut self, now_ms: u64, random: u64) -> u64 {
        self.turn_over(now_ms);
        self.refused += 1;
        let earliest = RETURN_MS_MIN.saturating_mul(1 + self.ratio).min(RETURN_MS_MAX);
        earliest + random % earliest
    }

    fn turn_over(&mut self, now_ms: u64) {
        if now_ms < self.since_ms + WINDOW_MS {
            return;
        }
        let is_last = now_ms < self.since_ms + 2 * WINDOW_MS;
        self.ratio = if is_last { self.refused / self.accepted.max(1) } else { 0 };
        (self.since_ms, self.accepted, self.refused) = (now_ms, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a second with so many accepted and refused changes; the earliest and the latest return.
    fn second(pressure: &mut Pressure, now_ms: &mut u64, accepted: u64, refused: u64) -> (u64, u64) {
        *now_ms += WINDOW_MS;
        let mut returns = Vec::new();
        for n in 0..accepted.max(refused) {
            if n < accepted {
                pressure.accepted(*now_ms);
            }
            if n < refused {
                returns.push(pressure.refused(*now_ms, n));
            }
        }
        (returns.iter().copied().min().unwrap_or(0), returns.iter().copied().max().unwrap_or(0))
    }

    #[test]
    fn returns_are_later_and_wider_the_more_are_refused() {
        let (mut pressure, mut now_ms) = (Pressure::default(), 0);
        assert_eq!(second(&mut pressure, &mut now_ms, 1_000, 2_000), (500, 999), "the first ones");
        assert_eq!(second(&mut pressure, &mut now_ms, 1_000, 9_000), (1_500, 2_999), "two for each accepted one");
        assert_eq!(second(&mut pressure, &mut now_ms, 0, 50_000), (5_000, 9_999));
        assert_eq!(second(&mut pressure, &mut now_ms, 1_000, 50_000), (8_000, 15_999), "nothing was accepted");
        now_ms += 5 * WINDOW_MS;
        assert_eq!(second(&mut pressure, &mut now_ms, 1_000, 1_000).0, 500, "an old overload does not count");
    }
}
