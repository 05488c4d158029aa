//! What is measured: counters that everybody adds to, and latency histograms.
//!
//! Invariants:
//! - a histogram of its own for each of 100,000 clients would take gigabytes, so clients share a few
//!   ([`SHARDS`], by index), merged at the end;
//! - latencies are in microseconds and saturate at [`LATENCY_MAX_US`]: a stall is recorded as at least that, never dropped.

use crate::checker::ClientIndex;
use crate::violations::{Kind, Violations};
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many sets of histograms there are.
const SHARDS: usize = 16;
/// Longest latency told apart, microseconds: an hour.
const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Locks a mutex; a panic elsewhere does not hide what was measured until then.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counters; relaxed, as they only feed the summary and the progress bar.
#[derive(Default, Debug)]
pub struct Counters {
    /// Messages written, repetitions not counted.
    pub sent: AtomicU64,
    /// Messages written again after a reconnection.
    pub resent: AtomicU64,
    /// Messages acknowledged.
    pub acked: AtomicU64,
    /// Sends refused.
    pub refused: AtomicU64,
    /// This run's messages that reached a subscriber.
    pub delivered: AtomicU64,
    /// Events that are not this run's messages.
    pub other_events: AtomicU64,
    /// Planned sends that were never written: the in-flight limit or a lost connection held them back to the end.
    pub unsent: AtomicU64,
    /// Connections lost.
    pub lost: AtomicU64,
    /// Connections restored.
    pub restored: AtomicU64,
    /// Times the server told a client that it lags.
    pub lagging: AtomicU64,
    /// Times the server told a client to read the history.
    pub resets: AtomicU64,
}

/// Adds one.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What a counter says.
pub fn count_of(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Latencies, microseconds.
#[derive(Debug)]
pub struct Latencies {
    /// Planned send → acknowledgement.
    pub ack: Histogram<u64>,
    /// Planned send → delivery to a subscriber.
    pub delivery: Histogram<u64>,
    /// Planned send → written, without what the in-flight limit or a lost connection held back: the harness's own share.
    pub send_lag: Histogram<u64>,
}

impl Latencies {
    fn new() -> Result<Self, String> {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)
                .map_err(|error| format!("cannot make a histogram: {error}"))
        };
        Ok(Self { ack: histogram()?, delivery: histogram()?, send_lag: histogram()? })
    }
}

/// Everything measured in a run.
#[derive(Debug)]
pub struct Stats {
    /// The counters.
    pub counters: Counters,
    shards: Vec<Mutex<Latencies>>,
    errors: Mutex<BTreeMap<String, u64>>,
    violations: Mutex<Violations>,
}

impl Stats {
    /// Nothing measured yet.
    pub fn new() -> Result<Self, String> {
        let shards = (0..SHARDS).map(|_| Latencies::new().map(Mutex::new)).collect::<Result<_, _>>()?;
        Ok(Self { counters: Counters::default(), shards, errors: Mutex::default(), violations: Mutex::default() })
    }

    /// The histograms a client records to.
    pub fn latencies(&self, client: ClientIndex) -> MutexGuard<'_, Latencies> {
        lock(&self.shards[client.0 as usize % SHARDS])
    }

    /// Counts an error reply by its code.
    pub fn error(&self, code: &str) {
        let mut errors = lock(&self.errors);
        // A server that invents codes must not fill the memory.
        let code = if errors.len() < 100 || errors.contains_key(code) { code } else { "(other)" };
        match errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(errors.insert(code.to_owned(), 1)),
        }
    }

    /// Notes a violation that is not about one room.
    pub fn violation(&self, kind: Kind, describe: impl FnOnce() -> String) {
        lock(&self.violations).note(kind, describe);
    }

    /// All histograms together.
    pub fn merged_latencies(&self) -> Result<Latencies, String> {
        let mut merged = Latencies::new()?;
        for shard in &self.shards {
            let shard = lock(shard);
            let pairs = [
                (&mut merged.ack, &shard.ack),
                (&mut merged.delivery, &shard.delivery),
                (&mut merged.send_lag, &shard.send_lag),
            ];
            for (into, from) in pairs {
                into.add(from).map_err(|error| format!("cannot merge histograms: {error}"))?;
            }
        }
        Ok(merged)
    }

    /// Error replies by code.
    pub fn errors(&self) -> BTreeMap<String, u64> {
        lock(&self.errors).clone()
    }

    /// Violations that are not about one room.
    pub fn violations(&self) -> Violations {
        lock(&self.violations).clone()
    }
}
