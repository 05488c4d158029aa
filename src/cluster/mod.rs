//! Between the nodes of a cluster: a thread that exchanges events through Redis, and compares with PostgreSQL.
//!
//! ```text
//!   lanes of the shards ──► publish ──► Redis ──► link ──► lanes of the shards
//!                    │                                         ▲
//!                    └──► followed ──► heads ── PostgreSQL ─────┤
//!                                      trail ── PostgreSQL ─────┘
//! ```
//!
//! - [`publish`] drains what the shards have for other nodes, and sends it in batches;
//! - [`link`] is the life of the [`connection`] to Redis: subscribed to the [`channels`] of conversations with
//!   subscribers here;
//! - [`followed`] are these conversations; [`heads`] compares their newest events with PostgreSQL;
//! - [`heard`] are the nodes whose heartbeats come through Redis; if one is missing, heads are compared more often;
//! - [`trail`] reads changes of membership, blocks and revoked sessions from the audit trail.
//!
//! Invariants:
//! - Redis is a doorbell. Whatever it loses, repeats or reorders, subscribers receive each event of the log once and in
//!   order: by `seq` alone. Without Redis, an event arrives when its head was read, two seconds later at most;
//! - membership, blocks and revocations do not depend on Redis at all. Redis only tells them to a node that cannot
//!   reach PostgreSQL;
//! - this thread never waits for a shard: what does not fit into a lane is found by its head, or in the trail. So
//!   messages are taken from Redis as fast as they come.

mod channels;
mod connection;
mod envelope;
mod followed;
mod heads;
mod heard;
mod link;
mod publish;
mod shared;
mod to_shards;
mod trail;

use self::channels::Channels;
use self::shared::ClusterShared;
pub use self::shared::RevokedSessions;
use self::to_shards::ToShards;
use crate::mesh::lane::Mesh;
use crate::mesh::node_status::NodeStatus;
use crate::storage::nodes::NodeStore;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore};

/// Messages about revoked sessions that Redis has not taken yet. Others are dropped: they are in the audit trail.
const REVOCATIONS_MAX: usize = 16;

/// What the thread needs.
pub struct ClusterParts {
    /// The lanes of the shards.
    pub mesh: Arc<Mesh>,
    /// Reads PostgreSQL.
    pub store: NodeStore,
    /// Addresses of Redis: one server, or some of a Redis Cluster. None: everything is read from PostgreSQL.
    pub redis: Vec<redis::ConnectionInfo>,
    /// Begins the names of all channels. Nodes with the same name belong together.
    pub name: String,
    /// What `/health` and the metrics show.
    pub status: Arc<NodeStatus>,
    /// From where the audit trail is read.
    pub trail_start: i64,
    /// Receives revoked sessions.
    pub revoked: RevokedSessions,
}

/// Serves the lanes until `stop` is notified.
///
/// # Errors
/// The system's error when no descriptor is left.
pub async fn serve(parts: ClusterParts, stop: Arc<Notify>) -> std::io::Result<()> {
    let ClusterParts { mesh, store, redis, name, status, trail_start, revoked } = parts;
    let node = rand::random();
    let shared = Arc::new(ClusterShared {
        to_shards: ToShards::new(Arc::clone(&mesh)),
        store,
        channels: Channels::new(name, node),
        node,
        status,
        followed: Mutex::default(),
        follows: Notify::new(),
        unchecked: Notify::new(),
        connection: Mutex::default(),
        ended: Notify::new(),
        broken: Notify::new(),
        heard: Mutex::default(),
        revoked,
        revocations: Arc::new(Semaphore::new(REVOCATIONS_MAX)),
    });
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(heads::run(Arc::clone(&shared)));
    tasks.spawn(trail::run(Arc::clone(&shared), trail_start));
    if !redis.is_empty() {
        tasks.spawn(link::run(Arc::clone(&shared), redis));
    }
    let mut publisher = publish::Publisher::new(mesh, shared)?;
    tokio::select! {
        () = publisher.run() => {}
        () = stop.notified() => {}
        _ = tasks.join_next() => crate::faults::stop_process("a task of the cluster thread has ended"),
    }
    publisher.finish().await; // what the shards published while they drained
    Ok(())
}
