//! Counters of the other threads that the metrics page and the dashboard read.

use crate::latency::{QueueGauge, StorageLatencies};
use crate::mesh::counters::ShardCounters;
use crate::mesh::overload::Overload;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing_appender::non_blocking::ErrorCounter;

/// Counters with one writer each, which can be read at any time; cloning shares them.
#[derive(Clone, Debug)]
pub struct Observed {
    /// `shards[i]` holds the counters of shard `i`.
    pub shards: Vec<Arc<ShardCounters>>,
    /// The latencies that the I/O shard records.
    pub storage: Arc<StorageLatencies>,
    /// What part of the budgets the I/O shard can serve.
    pub overload: Arc<Overload>,
    /// Passwords that wait to be hashed.
    pub hashing: Arc<QueueGauge>,
    /// The start of the process, at which the clocks of the shards begin.
    pub started: Instant,
    /// Counts the lines that the log has lost; `None` without a log.
    pub log_drops: Option<ErrorCounter>,
}

impl Observed {
    /// Of these shards, with nothing else measured.
    #[cfg(test)]
    pub fn of_shards(shards: Vec<Arc<ShardCounters>>) -> Self {
        Self {
            shards,
            storage: Arc::default(),
            overload: Arc::default(),
            hashing: Arc::default(),
            started: Instant::now(),
            log_drops: None,
        }
    }

    /// How long ago each shard last read its clock.
    pub fn silences(&self) -> impl Iterator<Item = Duration> {
        let now = self.started.elapsed();
        self.shards.iter().map(move |shard| now.saturating_sub(Duration::from_millis(shard.last_turn_ms.get())))
    }
}
