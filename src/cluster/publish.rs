//! Takes what the shards have for other nodes, and gives it to Redis in batches.
//!
//! While a batch is on its way, the next one fills. Besides, batches begin [`SPACING`] apart: an event after a quiet
//! time goes at once, and in a busy time each batch wakes this thread, Redis, and the threads of other nodes for
//! several events. Without that, these wake-ups cost more than the events
//! (docs/performance-details.md, "Several nodes").

use super::envelope;
use super::shared::ClusterShared;
use crate::faults::warn_limited;
use crate::ids::ShardId;
use crate::mesh::lane::Mesh;
use crate::mesh::nodes::ToNodes;
use crate::storage::bell::BellWaiter;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// The most bytes of one batch; beyond it, the next one begins.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// From the beginning of one batch to that of the next.
const SPACING: Duration = Duration::from_millis(5);

/// What the lanes had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Batch {
    /// Nothing.
    Empty,
    /// All that there was.
    Partial,
    /// As much as fits; there may be more.
    Full,
}

/// Serves the shards' lanes to other nodes.
pub(super) struct Publisher {
    mesh: Arc<Mesh>,
    shared: Arc<ClusterShared>,
    bell: BellWaiter,
    /// The shard whose lane the next batch begins with, so that a busy one does not fill every batch.
    first: usize,
}

impl Publisher {
    /// # Errors
    /// The system's error when no descriptor is left; and if the mesh has no lanes to nodes.
    pub(super) fn new(mesh: Arc<Mesh>, shared: Arc<ClusterShared>) -> io::Result<Self> {
        let nodes = mesh.nodes().ok_or_else(|| io::Error::other("the mesh has no lanes to other nodes"))?;
        let bell = BellWaiter::new(&nodes.bell)?;
        Ok(Self { mesh, shared, bell, first: 0 })
    }

    /// Publishes for as long as the server runs.
    pub(super) async fn run(&mut self) {
        loop {
            let began = Instant::now();
            match self.publish_batch().await {
                Batch::Empty => self.sleep().await,
                Batch::Full => {}
                Batch::Partial => sleep_until(began + SPACING).await, // nobody rings the bell meanwhile
            }
        }
    }

    /// Publishes what is left.
    pub(super) async fn finish(&mut self) {
        while self.publish_batch().await != Batch::Empty {}
    }

    async fn sleep(&mut self) {
        let Some(nodes) = self.mesh.nodes() else { return };
        nodes.bell.about_to_sleep();
        if self.mesh.placement.all().all(|shard| nodes.of(shard).out.is_empty()) {
            self.bell.rung().await;
        }
        nodes.bell.awake();
    }

    /// Publishes one batch.
    async fn publish_batch(&mut self) -> Batch {
        let Some(nodes) = self.mesh.nodes() else { return Batch::Empty };
        let shards: Vec<ShardId> = self.mesh.placement.all().collect();
        self.first = (self.first + 1) % shards.len().max(1);
        let (mut batch, mut bytes, mut found) = (Vec::new(), 0, Batch::Empty);
        // Before the connection is looked at: an end after that is not missed.
        let ended = self.shared.ended.notified();
        let connection = self.shared.connection();
        let mut follows = false;
        for shard in shards.iter().cycle().skip(self.first).take(shards.len()) {
            while bytes < BATCH_BYTES_MAX
                && let Some(frame) = nodes.of(*shard).out.pop()
            {
                found = Batch::Partial;
                if let ToNodes::Follow { conversation, has_subscribers } = frame {
                    follows = true;
                    self.shared.followed().set(conversation, has_subscribers);
                    if has_subscribers && connection.is_none() {
                        self.shared.followed().check(conversation);
                    }
                } else if connection.is_none() {
                    self.shared.status.unpublished.fetch_add(1, Relaxed);
                } else if let Some(message) = envelope::write(self.shared.node, &frame) {
                    bytes += message.len();
                    batch.push((self.shared.channel_for(&frame), message));
                }
            }
        }
        if follows {
            self.shared.follows.notify_one();
            self.shared.unchecked.notify_one();
        }
        if let Some((life, connection)) = connection.filter(|_| !batch.is_empty()) {
            let frames = batch.len() as u64;
            let published = tokio::select! {
                published = connection.publish(batch) => published,
                () = ended => Err("the connection has ended".to_owned()),
            };
            match published {
                Ok(()) => {
                    self.shared.status.published.fetch_add(frames, Relaxed);
                }
                Err(reason) => self.failed(life, frames, &reason),
            }
        }
        if bytes < BATCH_BYTES_MAX { found } else { Batch::Full }
    }

    fn failed(&self, life: u64, frames: u64, reason: &str) {
        warn_limited!(frames, "Redis did not take events for other nodes, which read them from PostgreSQL: {reason}");
        self.shared.status.unpublished.fetch_add(frames, Relaxed);
        self.shared.connection_failed(life);
    }
}
