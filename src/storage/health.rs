//! Whether PostgreSQL accepts writes, as the committers last saw it, for `/health/ready`.
//!
//! An open connection proves nothing: a permission may be missing, the disk full, or a table locked. So a committer
//! reports each statement's beginning and outcome here, and an idle one probes with an empty batch.
//!
//! One writer each, any number of readers; nothing here blocks.

use crate::latency::COMMITTERS;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A statement that has no answer after this long makes the store count as unavailable. The slowest batch takes far
/// less, so what takes longer waits: for a lock, for a disk.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What one committer last saw.
#[derive(Debug)]
pub struct WriterHealth {
    base: Instant,
    connected: AtomicBool,
    /// Milliseconds since `base` at which the running statement began; 0 if none is running.
    busy_since_ms: AtomicU64,
    /// Why the last write, or the last attempt at connecting, was refused.
    fault: Mutex<Option<String>>,
}

impl Default for WriterHealth {
    fn default() -> Self {
        Self {
            base: Instant::now(),
            connected: AtomicBool::new(false),
            busy_since_ms: AtomicU64::new(0),
            fault: Mutex::new(None),
        }
    }
}

impl WriterHealth {
    fn set_fault(&self, fault: Option<String>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// The connection is open.
    pub fn connected(&self) {
        self.set_fault(None);
        self.connected.store(true, Relaxed);
    }

    /// The connection was lost, or could not be opened.
    pub fn lost(&self, why: String) {
        self.connected.store(false, Relaxed);
        self.busy_since_ms.store(0, Relaxed);
        self.set_fault(Some(why));
    }

    /// A statement was sent.
    pub fn began(&self, now: Instant) {
        let since = now.saturating_duration_since(self.base).as_millis() as u64;
        self.busy_since_ms.store(since.max(1), Relaxed);
    }

    /// PostgreSQL executed the statement. `was_refused`: whether the previous statement failed.
    pub fn accepted(&self, was_refused: bool) {
        self.busy_since_ms.store(0, Relaxed);
        if was_refused {
            self.set_fault(None);
        }
    }

    /// PostgreSQL refused the statement; `why` when the store itself is the cause.
    pub fn refused(&self, why: Option<String>) {
        self.busy_since_ms.store(0, Relaxed);
        if why.is_some() {
            self.set_fault(why);
        }
    }

    /// Whether the connection is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Relaxed)
    }

    fn problem(&self, now: Instant) -> Option<String> {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if !self.is_connected() {
            let why = fault.map_or_else(String::new, |why| format!(": {why}"));
            return Some(format!("there is no connection to PostgreSQL for writing; connecting again{why}"));
        }
        if let Some(why) = fault {
            return Some(format!("PostgreSQL refuses writes: {why}"));
        }
        let since_ms = self.busy_since_ms.load(Relaxed);
        let waited = now.saturating_duration_since(self.base).saturating_sub(Duration::from_millis(since_ms));
        (since_ms > 0 && waited > ANSWER_MAX).then(|| {
            format!(
                "PostgreSQL has not answered a write for {} s; look for a lock in pg_stat_activity, or a slow disk",
                waited.as_secs()
            )
        })
    }
}

/// What the rest of the process may know of the I/O shard.
#[derive(Clone, Default, Debug)]
pub struct StorageHealth {
    /// Each committer's.
    pub writers: [Arc<WriterHealth>; COMMITTERS],
}

impl StorageHealth {
    /// Why PostgreSQL does not take writes, as far as is known.
    #[must_use]
    pub fn problem(&self, now: Instant) -> Option<String> {
        self.writers.iter().find_map(|writer| writer.problem(now))
    }

    /// Whether every committer has a connection.
    #[must_use]
    pub fn has_writers(&self) -> bool {
        self.writers.iter().all(|writer| writer.is_connected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_a_reason_for_each_failure() {
        let health = StorageHealth::default();
        let now = Instant::now();
        let problem = |after_ms| health.problem(now + Duration::from_millis(after_ms)).unwrap_or_default();
        assert!(problem(0).contains("no connection"), "before the first connection");
        for writer in &health.writers {
            writer.connected();
        }
        assert_eq!(problem(0), "");
        let writer = &health.writers[1];
        writer.refused(Some("permission denied".to_owned()));
        assert!(problem(0).contains("refuses writes: permission denied"), "{}", problem(0));
        writer.refused(None);
        assert!(problem(0).contains("permission denied"), "a refusal of one message does not make the store unhealthy");
        writer.accepted(true);
        assert_eq!(problem(0), "");
        writer.began(now);
        assert_eq!(problem(500), "", "a statement may take a moment");
        assert!(problem(4_500).contains("has not answered a write for 4 s"), "{}", problem(4_500));
        writer.accepted(false);
        assert_eq!(problem(9_000), "");
        writer.lost("refused".to_owned());
        assert!(problem(0).contains("connecting again: refused"), "{}", problem(0));
        assert!(!health.has_writers());
    }
}
