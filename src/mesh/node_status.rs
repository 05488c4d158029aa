//! What the cluster thread shows to `/health` and the metrics.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The state of the exchange with other nodes.
#[derive(Debug, Default)]
pub struct NodeStatus {
    /// Why Redis cannot be used, and since when; none while it can, or if there is none.
    down: Mutex<Option<(Instant, String)>>,
    /// Whether Redis can be used.
    up: AtomicBool,
    /// Frames that were given to Redis.
    pub published: AtomicU64,
    /// Frames that were not, because Redis could not be used.
    pub unpublished: AtomicU64,
    /// Frames of other nodes.
    pub received: AtomicU64,
    /// Frames of other nodes that did not fit into the lane of their shard, or could not be read.
    pub unreceived: AtomicU64,
    /// Connections to Redis that were made.
    pub links: AtomicU64,
    /// Conversations with subscribers here.
    pub followed: AtomicU64,
    /// Servers of the database that are not heard through Redis, while it can be used here.
    pub unheard: AtomicU64,
}

impl NodeStatus {
    /// Redis cannot be used. The time of the first reason since it could is kept.
    pub fn went_down(&self, reason: &str) {
        self.up.store(false, Relaxed);
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let since = down.as_ref().map_or_else(Instant::now, |(since, _)| *since);
        *down = Some((since, reason.to_owned()));
    }

    /// Redis can be used.
    pub fn came_up(&self) {
        self.links.fetch_add(1, Relaxed);
        self.up.store(true, Relaxed);
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether Redis can be used.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Why Redis cannot be used, and for how long that has been so.
    #[must_use]
    pub fn problem(&self) -> Option<(Duration, String)> {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.as_ref().map(|(since, reason)| (since.elapsed(), reason.clone()))
    }
}
