//! Takes what the shards have for other nodes, and gives it to Redis in batches: while one is on its way, the next one
//! fills.

use super::envelope;
use super::shared::ClusterShared;
use crate::faults::warn_limited;
use crate::ids::ShardId;
use crate::mesh::lane::Mesh;
use crate::mesh::nodes::ToNodes;
use crate::storage::bell::BellWaiter;
use redis::Pipeline;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::timeout;

/// The most bytes of one batch; beyond it, the next one begins.
const BATCH_BYTES_MAX: usize = 256 * 1024;
/// Redis must have taken a batch within this time. Otherwise the connection is given up.
const PATIENCE: Duration = Duration::from_secs(2);

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
            if !self.publish_batch().await {
                self.sleep().await;
            }
        }
    }

    /// Publishes what is left.
    pub(super) async fn finish(&mut self) {
        while self.publish_batch().await {}
    }

    async fn sleep(&mut self) {
        let Some(nodes) = self.mesh.nodes() else { return };
        nodes.bell.about_to_sleep();
        if self.mesh.placement.all().all(|shard| nodes.of(shard).out.is_empty()) {
            self.bell.rung().await;
        }
        nodes.bell.awake();
    }

    /// Publishes one batch. False: there was nothing.
    async fn publish_batch(&mut self) -> bool {
        let Some(nodes) = self.mesh.nodes() else { return false };
        let shards: Vec<ShardId> = self.mesh.placement.all().collect();
        self.first = (self.first + 1) % shards.len().max(1);
        let (mut batch, mut bytes, mut frames, mut found) = (Pipeline::new(), 0, 0, false);
        let publisher = self.shared.publisher().clone();
        let mut follows = false;
        for shard in shards.iter().cycle().skip(self.first).take(shards.len()) {
            while bytes < BATCH_BYTES_MAX
                && let Some(frame) = nodes.of(*shard).out.pop()
            {
                found = true;
                if let ToNodes::Follow { conversation, has_subscribers } = frame {
                    follows = true;
                    self.shared.followed().set(conversation, has_subscribers);
                    if has_subscribers && publisher.is_none() {
                        self.shared.followed().check(conversation);
                    }
                } else if publisher.is_none() {
                    self.shared.status.unpublished.fetch_add(1, Relaxed);
                } else if let Some(message) = envelope::write(self.shared.node, &frame) {
                    bytes += message.len();
                    frames += 1;
                    batch.publish(self.shared.channel_for(&frame), message).ignore();
                }
            }
        }
        if follows {
            self.shared.follows.notify_one();
            self.shared.unchecked.notify_one();
        }
        if let Some(mut publisher) = publisher.filter(|_| frames > 0) {
            match timeout(PATIENCE, batch.query_async::<()>(&mut publisher)).await {
                Ok(Ok(())) => {
                    self.shared.status.published.fetch_add(frames, Relaxed);
                }
                Ok(Err(error)) => self.failed(frames, &error.to_string()),
                Err(_) => self.failed(frames, "it did not answer in time"),
            }
        }
        found
    }

    fn failed(&self, frames: u64, reason: &str) {
        warn_limited!(frames, "Redis did not take events for other nodes, which read them from PostgreSQL: {reason}");
        self.shared.status.unpublished.fetch_add(frames, Relaxed);
        *self.shared.publisher() = None;
        self.shared.broken.notify_one();
    }
}
