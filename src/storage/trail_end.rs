//! How long a change may wait for the end of the audit trail, which another transaction may hold for long.
//!
//! There is one trail, so whoever appends to it shares what one of them has seen: the committers and the accounts.
//! After a wait in vain, changes are refused without another one for [`PAUSE`]. Then short waits show whether the end
//! is free again. An append that succeeds ends that at once.
//!
//! Invariant: a lock of the trail costs its waiters one long wait together. Otherwise each wait would hold up a batch
//! with messages in it, or one of the few connections of the accounts, which sign-ins need too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a change waits usually. What comes after it in a batch waits too, messages among it.
pub(super) const WAIT_MS: i64 = 2_000;
/// A short wait, which shows whether the end is free again.
pub(super) const TRIAL_MS: i64 = 100;
/// For so long after a wait in vain, batches refuse changes with an audit row without another wait.
const PAUSE: Duration = Duration::from_secs(2);
/// Waits are short until none has been in vain for this time.
const TRIALS: Duration = Duration::from_secs(30);

/// When somebody last waited in vain.
static BUSY_AT: Mutex<Option<Instant>> = Mutex::new(None);

fn busy_at() -> MutexGuard<'static, Option<Instant>> {
    BUSY_AT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Somebody has waited in vain.
pub(super) fn note_busy() {
    *busy_at() = Some(Instant::now());
}

/// Somebody has appended a row.
pub(super) fn note_free() {
    *busy_at() = None;
}

/// How long a batch may wait, in milliseconds. 0: it refuses changes with an audit row.
pub(super) fn wait_ms() -> i64 {
    wait_after(busy_at().map(|at| at.elapsed()))
}

/// The same, after so long since a wait in vain.
fn wait_after(since: Option<Duration>) -> i64 {
    match since {
        Some(since) if since < PAUSE => 0,
        Some(since) if since < TRIALS => TRIAL_MS,
        Some(_) | None => WAIT_MS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_get_longer_again_after_one_in_vain() {
        for (since_ms, wait_ms) in [(0, 0), (1_999, 0), (2_000, 100), (29_999, 100), (30_000, 2_000)] {
            assert_eq!(wait_after(Some(Duration::from_millis(since_ms))), wait_ms, "{since_ms} ms");
        }
        assert_eq!(wait_after(None), 2_000);
    }

    #[test]
    fn what_one_has_seen_counts_for_everybody() {
        note_busy();
        let seen = std::thread::spawn(wait_ms).join().unwrap();
        note_free();
        assert_eq!((seen, wait_ms()), (0, WAIT_MS));
    }
}
