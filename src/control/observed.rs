//! What the other threads count and the control plane reads: for the metrics page and for the dashboard.

use crate::latency::StorageLatencies;
use crate::mesh::counters::ShardCounters;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Counters with one writer each, read here at any time; cloning shares them.
#[derive(Clone, Debug)]
pub struct Observed {
    /// `shards[i]` is what shard `i` counts.
    pub shards: Vec<Arc<ShardCounters>>,
    /// What the I/O shard records.
    pub storage: Arc<StorageLatencies>,
    /// The process's start, where the shards' clocks begin.
    pub started: Instant,
}

impl Observed {
    /// How long ago each shard last looked at its clock.
    pub fn silences(&self) -> impl Iterator<Item = Duration> {
        let now = self.started.elapsed();
        self.shards.iter().map(move |shard| now.saturating_sub(Duration::from_millis(shard.last_turn_ms.get())))
    }
}
