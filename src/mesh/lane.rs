//! Queues between cores and the bundle of them that each thread holds.

use super::activity::Activity;
use super::doorbell::Doorbell;
use super::frame::{CommitOutcome, ControlFrame, Delivery, HttpHandover, Mutation, ReadRequest, ReadResult, Request};
use super::invocation::BotPost;
use super::log_watch::LogWatch;
use super::node_status::NodeStatus;
use super::nodes::{FromNodes, ToNodes};
use super::placement::Placement;
use super::storage_room::StorageRoom;
use crate::ids::ShardId;
use crate::limits::{BOT_POSTS_MAX, HTTP_CONNECTIONS_MAX, LANE_FRAMES};
use crossbeam_queue::ArrayQueue;
use std::io;
use std::sync::Arc;

/// Control frames that may wait at one shard.
pub const CONTROL_FRAMES: usize = 1_024;

/// A bounded queue from one thread to another.
pub struct Lane<T>(ArrayQueue<T>);

impl<T> Lane<T> {
    fn new(capacity: usize) -> Self {
        Self(ArrayQueue::new(capacity))
    }

    /// Appends, or returns the item if the lane is full.
    ///
    /// # Errors
    /// The item.
    pub fn try_push(&self, item: T) -> Result<(), T> {
        self.0.push(item)
    }

    /// The oldest item.
    pub fn pop(&self) -> Option<T> {
        self.0.pop()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of items that wait. Exact only for a thread that is both producer and consumer.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many more items fit. Exact for the only producer: the consumer can only make it larger.
    #[must_use]
    pub fn room(&self) -> usize {
        self.0.capacity() - self.0.len()
    }
}

/// One shard's side of the I/O shard's queues.
pub struct StorageLanes {
    /// Mutations to commit; the shard counts what is in flight against the capacity of `outcomes`.
    pub commits: Lane<Box<Mutation>>,
    /// Their outcomes.
    pub outcomes: Lane<CommitOutcome>,
    /// Reads; counted the same way.
    pub reads: Lane<Box<ReadRequest>>,
    /// Their results.
    pub results: Lane<Box<ReadResult>>,
}

/// One shard's side of the queues to and from the other nodes.
pub struct NodeLanes {
    /// What the other nodes should know.
    pub out: Lane<ToNodes>,
    /// What the other nodes have told.
    pub inward: Lane<FromNodes>,
}

/// The queues to and from the other nodes of a cluster.
pub struct NodeMesh {
    lanes: Vec<NodeLanes>,
    /// The exchange with other nodes: whether frames of the shards reach them, and how many did.
    pub status: Arc<NodeStatus>,
    /// Wakes the cluster thread.
    pub bell: Doorbell,
}

impl NodeMesh {
    /// A shard's lanes.
    #[must_use]
    pub fn of(&self, shard: ShardId) -> &NodeLanes {
        &self.lanes[shard.index()]
    }
}

/// All lanes of the process.
pub struct Mesh {
    /// Which shard owns what.
    pub placement: Placement,
    requests: Vec<Lane<Request>>,
    deliveries: Vec<Lane<Delivery>>,
    storage: Vec<StorageLanes>,
    control: Vec<Lane<ControlFrame>>,
    nodes: Option<NodeMesh>,
    shard_bells: Vec<Doorbell>,
    /// Wakes the I/O shard.
    pub storage_bell: Doorbell,
    /// Connections for the control plane.
    pub http: Lane<HttpHandover>,
    /// Commands of bots for the control plane to post.
    pub bot_posts: Lane<Box<BotPost>>,
    /// Wakes the control plane's acceptor.
    pub control_bell: Doorbell,
    /// What the I/O shard shows to the detectors of suspicious activity.
    pub activity: Arc<Activity>,
    /// Which conversations have new entries in their logs.
    pub log_watch: Arc<LogWatch>,
}

impl Mesh {
    /// All lanes for `placement.shards()` shards; with `has_nodes`, also those to other nodes.
    ///
    /// # Errors
    /// The system's error when descriptors run out.
    pub fn new(placement: Placement, has_nodes: bool) -> io::Result<Arc<Self>> {
        let shards = placement.shards();
        let node_lanes = |_| NodeLanes { out: Lane::new(LANE_FRAMES), inward: Lane::new(LANE_FRAMES) };
        let nodes = if has_nodes {
            Some(NodeMesh {
                lanes: (0..shards).map(node_lanes).collect(),
                status: Arc::default(),
                bell: Doorbell::for_epoll()?,
            })
        } else {
            None
        };
        Ok(Arc::new(Self {
            placement,
            requests: (0..shards * shards).map(|_| Lane::new(LANE_FRAMES)).collect(),
            deliveries: (0..shards * shards).map(|_| Lane::new(LANE_FRAMES)).collect(),
            storage: (0..shards)
                .map(|_| StorageLanes {
                    commits: Lane::new(StorageRoom::REAL.commits),
                    outcomes: Lane::new(StorageRoom::REAL.outcomes()),
                    reads: Lane::new(StorageRoom::REAL.reads),
                    results: Lane::new(StorageRoom::REAL.reads),
                })
                .collect(),
            control: (0..shards).map(|_| Lane::new(CONTROL_FRAMES)).collect(),
            nodes,
            shard_bells: (0..shards).map(|_| Doorbell::for_ring()).collect::<io::Result<_>>()?,
            storage_bell: Doorbell::for_epoll()?,
            http: Lane::new(HTTP_CONNECTIONS_MAX),
            bot_posts: Lane::new(BOT_POSTS_MAX),
            control_bell: Doorbell::for_epoll()?,
            activity: Arc::default(),
            log_watch: Arc::default(),
        }))
    }

    fn pair(&self, from: ShardId, to: ShardId) -> usize {
        from.index() * self.placement.shards() + to.index()
    }

    /// The lane of requests from one shard to another.
    #[must_use]
    pub fn requests(&self, from: ShardId, to: ShardId) -> &Lane<Request> {
        &self.requests[self.pair(from, to)]
    }

    /// The lane of deliveries from one shard to another.
    #[must_use]
    pub fn deliveries(&self, from: ShardId, to: ShardId) -> &Lane<Delivery> {
        &self.deliveries[self.pair(from, to)]
    }

    /// A shard's queues to and from the I/O shard.
    #[must_use]
    pub fn storage(&self, shard: ShardId) -> &StorageLanes {
        &self.storage[shard.index()]
    }

    /// What the control plane has for a shard.
    #[must_use]
    pub fn control(&self, shard: ShardId) -> &Lane<ControlFrame> {
        &self.control[shard.index()]
    }

    /// The queues to and from the other nodes; none if this server is alone.
    #[must_use]
    pub fn nodes(&self) -> Option<&NodeMesh> {
        self.nodes.as_ref()
    }

    /// A shard's bell.
    #[must_use]
    pub fn bell(&self, shard: ShardId) -> &Doorbell {
        &self.shard_bells[shard.index()]
    }
}
