//! When a delivery is tried again, and when its webhook is paused; pure rules.
//!
//! ```text
//!            5 failures in a row             the pause ends
//!  closed ─────────────────────────► open ─────────────────► half open: one delivery is tried
//!    ▲                                ▲                            │            │
//!    │                                └────── it fails ────────────┘            │
//!    └────────────────────────────────────── it succeeds ◄──────────────────────┘
//! ```
//!
//! Invariants:
//! - a delivery is tried ten times over some three days, and is then given up. While the circuit breaker is open, a
//!   delivery that has waited for four days is given up (`settle_webhook_deliveries`);
//! - a receiver that fails gets one request per pause, whatever waits for it.

use std::time::Duration;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Pauses before the second attempt, the third, and so on, in seconds: 5 s, 5 min, 30 min, 2, 5, 10, 14, 20 and 24 h.
const PAUSES_S: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(24);
/// Pauses are this part longer at most, so that receivers do not get everything at the same moment.
const JITTER: f64 = 0.2;
/// Failures in a row after which the circuit breaker opens.
pub const FAILURES_MAX: u32 = 5;
/// The first pause of the circuit breaker, and the longest; each doubles the one before.
const BREAKER_PAUSE_S: (f64, f64) = (30.0, 3_600.0);

/// IMF-fixdate (RFC 9110 §5.6.7).
const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

/// A `Retry-After` that is honoured.
#[must_use]
pub fn bounded(retry_after: Duration) -> Duration {
    retry_after.min(RETRY_AFTER_MAX)
}

/// The pause after so many failed attempts; `None` when the delivery is given up. `random` is between 0 and 1. A later
/// time in `Retry-After` is honoured.
#[must_use]
pub fn pause(attempts: u32, retry_after: Option<Duration>, random: f64) -> Option<Duration> {
    let seconds = *PAUSES_S.get(attempts.saturating_sub(1) as usize)?;
    let pause = Duration::from_secs_f64(seconds as f64 * (1.0 + JITTER * random.clamp(0.0, 1.0)));
    Some(pause.max(bounded(retry_after.unwrap_or_default())))
}

/// How long nothing is sent to a receiver after so many failures in a row.
#[must_use]
pub fn breaker_pause(failures: u32) -> Duration {
    let Some(above) = failures.checked_sub(FAILURES_MAX) else { return Duration::ZERO };
    let (first, longest) = BREAKER_PAUSE_S;
    Duration::from_secs_f64((first * 2_f64.powi(above.min(20) as i32)).min(longest))
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or a date in the form that servers must send. The two obsolete
/// forms of dates are ignored. `now_s` is Unix time.
#[must_use]
pub fn retry_after(value: &str, now_s: i64) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = time::PrimitiveDateTime::parse(value, HTTP_DATE).ok()?.assume_utc().unix_timestamp();
    Some(Duration::from_secs(u64::try_from(at - now_s).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_ten_times_with_growing_pauses() {
        let pauses: Vec<_> = (1..=10).map(|attempts| pause(attempts, None, 0.0).map(|pause| pause.as_secs())).collect();
        let hours = |hours: u64| Some(hours * 3_600);
        assert_eq!(
            pauses,
            [Some(5), Some(300), Some(1_800), hours(2), hours(5), hours(10), hours(14), hours(20), hours(24), None]
        );
        assert_eq!(pause(1, None, 1.0), Some(Duration::from_secs(6)), "a fifth longer at most");
        assert_eq!(pause(u32::MAX, None, 0.5), None);
    }

    #[test]
    fn honours_a_later_time_of_the_receiver_for_a_day_at_most() {
        let after = |attempts, seconds| pause(attempts, Some(Duration::from_secs(seconds)), 0.0).unwrap().as_secs();
        assert_eq!((after(1, 60), after(1, 1), after(2, 60)), (60, 5, 300));
        assert_eq!(after(1, u64::MAX), 86_400);
    }

    #[test]
    fn reads_both_forms_of_retry_after() {
        let read = |value| retry_after(value, 784_111_700).map(|after| after.as_secs());
        assert_eq!((read("120"), read(" 0 ")), (Some(120), Some(0)));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT"), Some(77));
        assert_eq!(read("Sat, 05 Nov 1994 08:49:37 GMT"), Some(0), "a time that is over");
        for bad in ["", "-1", "soon", "1.5", "Sun, 06 Nov 1994", "99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_breaker_opens_after_five_failures_and_its_pauses_double() {
        let pauses: Vec<_> = [0, 4, 5, 6, 11, 12, u32::MAX].map(|failures| breaker_pause(failures).as_secs()).into();
        assert_eq!(pauses, [0, 0, 30, 60, 1_920, 3_600, 3_600]);
    }
}
