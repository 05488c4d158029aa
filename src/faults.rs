//! How faults reach the log: a fault that repeats is logged once a second with its count, and a broken invariant of
//! the server stops the process after its line is written.
//!
//! A client or a broken store can repeat a fault thousands of times a second. Each line costs more than the work it
//! reports, hides every other line, and fills the disk. So code that can log without a bound logs through
//! [`warn_limited!`] or [`error_limited!`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Time between two lines of the same call site.
const INTERVAL: Duration = Duration::from_secs(1);
/// The log's writer is a thread of its own; it gets this long to write the last line.
const LAST_LINE: Duration = Duration::from_millis(300);

/// A call site that may log repeatedly. It belongs to the whole process, not to a thread.
#[derive(Debug)]
pub struct Repeated {
    /// Nanoseconds of the process's clock; 0 before the first line.
    due_at_ns: AtomicU64,
    left_out: AtomicU64,
}

impl Default for Repeated {
    fn default() -> Self {
        Self::new()
    }
}

impl Repeated {
    /// A call site that has logged nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { due_at_ns: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether to log now, and how many lines were left out since the last one. `now_ns` is time since any fixed
    /// moment, in nanoseconds.
    pub fn admit(&self, now_ns: u64) -> Option<u64> {
        let due = self.due_at_ns.load(Relaxed);
        let next = now_ns + INTERVAL.as_nanos() as u64;
        // Of two threads at the same moment one logs and the other counts.
        if now_ns < due || self.due_at_ns.compare_exchange(due, next, Relaxed, Relaxed).is_err() {
            self.left_out.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.left_out.swap(0, Relaxed))
    }
}

/// Nanoseconds since the first call, by a clock that never goes back.
#[must_use]
pub fn clock_ns() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// `log_limited!(warn, …)`: what `tracing::warn!` takes, once a second. `repeated` counts the lines left out before.
macro_rules! log_limited {
    ($level:ident, $($arguments:tt)+) => {{
        static PLACE: $crate::faults::Repeated = $crate::faults::Repeated::new();
        if let Some(left_out) = PLACE.admit($crate::faults::clock_ns()) {
            // The field is absent from lines that nothing was left out before.
            tracing::$level!(repeated = (left_out > 0).then_some(left_out), $($arguments)+);
        }
    }};
}

/// [`tracing::warn!`], once a second.
macro_rules! warn_limited {
    ($($arguments:tt)+) => { $crate::faults::log_limited!(warn, $($arguments)+) };
}

/// [`tracing::error!`], once a second.
macro_rules! error_limited {
    ($($arguments:tt)+) => { $crate::faults::log_limited!(error, $($arguments)+) };
}

pub(crate) use {error_limited, log_limited, warn_limited};

/// The innermost reason of an error. It never quotes a request, which can have a secret.
#[must_use]
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Logs the broken invariant `what` and aborts the process. A supervisor restarts it, and every acknowledged change is
/// in PostgreSQL. Continuing would lose or reorder messages unnoticed.
pub fn stop_process(what: &str) -> ! {
    tracing::error!("{what}: this is a fault of the server's, stopping; nothing acknowledged is lost");
    std::thread::sleep(LAST_LINE);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_flood_logs_once_a_second_with_its_count() {
        let place = Repeated::new();
        let lines: Vec<u64> = (0..30_000).filter_map(|n| place.admit(n * SECOND_NS / 10_000)).collect();
        assert_eq!(lines, [0, 9_999, 9_999], "three seconds of 10,000 lines");
        assert_eq!(place.admit(100 * SECOND_NS), Some(9_999), "what was left out last is counted later");
        assert_eq!(place.admit(200 * SECOND_NS), Some(0));
    }

    #[test]
    fn logs_every_rare_fault() {
        let place = Repeated::new();
        assert!((1..100).all(|n| place.admit(n * 2 * SECOND_NS) == Some(0)));
    }

    #[test]
    fn two_threads_lose_no_count() {
        let place = Repeated::new();
        let logged: u64 = std::thread::scope(|scope| {
            let flood =
                || (0..10_000_u64).filter_map(|n| place.admit(n * SECOND_NS / 1_000)).map(|n| n + 1).sum::<u64>();
            let threads: Vec<_> = (0..2).map(|_| scope.spawn(flood)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u64>()
        });
        assert_eq!(logged + place.left_out.load(Relaxed), 20_000);
    }
}
