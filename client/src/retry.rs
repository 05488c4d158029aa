//! Retries: a pure backoff schedule, and a bounded loop around it.
//!
//! Invariant: only requests that are safe to repeat are retried: messages with a `client_message_id`, and reads.

use crate::failure::Failure;
use std::time::Duration;
use tokio::time::Instant;

const FIRST_MS: u64 = 250;
const LONGEST_MS: u64 = 15_000;

/// An exponential backoff with a maximum and jitter, so that clients of a lost server do not reconnect all at once.
#[derive(Clone, Copy, Default, Debug)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait, at least `floor`; `random` is in 0 ≤ r < 1.
    pub fn next(&mut self, floor: Duration, random: f64) -> Duration {
        let whole_ms = FIRST_MS.saturating_mul(1 << self.attempts.min(16)).min(LONGEST_MS);
        self.attempts += 1;
        floor + Duration::from_millis(whole_ms).mul_f64(0.5 + random / 2.0)
    }
}

/// The shortest wait before a retry may succeed; `None` when it cannot succeed.
pub fn transient(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Unreachable(_) => Some(Duration::ZERO),
        Failure::Refused(refusal) if refusal.is_transient() => {
            Some(Duration::from_millis(refusal.retry_after_ms.unwrap_or(0)))
        }
        _ => None,
    }
}

/// The same, where an exceeded rate limit is worth the wait too: for read markers, which come in bursts.
pub fn transient_or_limited(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Refused(refusal) if refusal.code == "rate_limited" => {
            refusal.retry_after_ms.map(Duration::from_millis)
        }
        _ => transient(failure),
    }
}

/// The same for a transfer of bytes, which goes on where it was cut: another request may have been in its way.
pub fn transient_transfer(failure: &Failure) -> Option<Duration> {
    match failure {
        Failure::Refused(refusal) if refusal.code == "conflict" => Some(Duration::ZERO),
        _ => transient_or_limited(failure),
    }
}

/// Runs `attempt` until it succeeds, fails permanently, or the next retry would begin after `patience`. Calls `notice`
/// before each retry.
pub async fn insist<T>(
    patience: Duration,
    attempt: impl AsyncFn() -> Result<T, Failure>,
    notice: impl Fn(&Failure, Duration),
) -> Result<T, Failure> {
    insist_while(transient, patience, attempt, notice).await
}

/// The same while `retryable` returns the shortest wait before the next attempt.
pub async fn insist_while<T>(
    retryable: fn(&Failure) -> Option<Duration>,
    patience: Duration,
    attempt: impl AsyncFn() -> Result<T, Failure>,
    notice: impl Fn(&Failure, Duration),
) -> Result<T, Failure> {
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::default();
    loop {
        let failure = match attempt().await {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        let wait = retryable(&failure).map(|floor| backoff.next(floor, rand::random()));
        let Some(wait) = wait.filter(|wait| Instant::now() + *wait <= deadline) else { return Err(failure) };
        notice(&failure, wait);
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Refusal;
    use std::cell::Cell;

    fn refused(code: &str, retry_after_ms: Option<u64>) -> Failure {
        Failure::Refused(Refusal { code: code.into(), message: "words".into(), retry_after_ms, challenge: None })
    }

    #[test]
    fn waits_double_up_to_a_maximum_and_respect_the_server() {
        let waits = |random: f64| {
            let mut backoff = Backoff::default();
            (0..9).map(move |_| backoff.next(Duration::ZERO, random).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(waits(0.0), [125, 250, 500, 1_000, 2_000, 4_000, 7_500, 7_500, 7_500]);
        assert!(waits(0.999).iter().zip(waits(0.0)).all(|(long, short)| *long > short && *long <= 15_000));
        assert!(Backoff::default().next(Duration::from_secs(3), 0.0) > Duration::from_secs(3));
    }

    #[test]
    fn waits_for_a_rate_limit_only_where_it_is_asked_to() {
        let limited = refused("rate_limited", Some(200));
        assert_eq!((transient(&limited), transient_or_limited(&limited)), (None, Some(Duration::from_millis(200))));
        assert_eq!(transient_or_limited(&refused("forbidden", Some(200))), None);
        assert_eq!(transient_or_limited(&refused("overloaded", Some(7))), Some(Duration::from_millis(7)));
    }

    #[tokio::test]
    async fn retries_only_transient_failures_within_the_patience() {
        let tries = Cell::new(0);
        let outcome = insist(
            Duration::from_mins(1),
            async || {
                tries.set(tries.get() + 1);
                if tries.get() < 3 { Err(refused("overloaded", Some(1))) } else { Ok(tries.get()) }
            },
            |_, _| {},
        );
        assert_eq!(outcome.await, Ok(3));
        for (failure, patience) in [
            (refused("forbidden", Some(1)), Duration::from_mins(1)),
            (refused("rate_limited", Some(1)), Duration::from_mins(1)),
            (refused("overloaded", Some(3_600_000)), Duration::from_mins(1)),
            (Failure::Unreachable("gone".into()), Duration::ZERO),
            (Failure::NotSignedIn("gone".into()), Duration::from_mins(1)),
        ] {
            let tries = Cell::new(0);
            let attempt = async || {
                tries.set(tries.get() + 1);
                Err::<(), _>(failure.clone())
            };
            assert_eq!(insist(patience, attempt, |_, _| {}).await, Err(failure.clone()));
            assert_eq!(tries.get(), 1, "{failure}");
        }
    }
}
