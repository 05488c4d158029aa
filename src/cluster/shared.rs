//! What the tasks of the cluster thread share.

use super::channels::{Channel, Channels};
use super::connection::RedisConnection;
use super::followed::Followed;
use super::heard::Heard;
use super::to_shards::ToShards;
use crate::ids::SessionId;
use crate::mesh::node_status::NodeStatus;
use crate::mesh::nodes::ToNodes;
use crate::storage::nodes::NodeStore;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore};

/// Receives sessions that were revoked on another node. It does not wait.
pub type RevokedSessions = Arc<dyn Fn(Arc<[SessionId]>) + Send + Sync>;

/// What the tasks of the thread share.
pub(super) struct ClusterShared {
    pub(super) to_shards: ToShards,
    pub(super) store: NodeStore,
    pub(super) channels: Channels,
    /// This process, so that it knows its own messages.
    pub(super) node: u64,
    pub(super) status: Arc<NodeStatus>,
    pub(super) followed: Mutex<Followed>,
    /// The followed conversations have changed.
    pub(super) follows: Notify,
    /// Heads are to be read.
    pub(super) unchecked: Notify,
    /// The connection to Redis and its number, while it stands.
    pub(super) connection: Mutex<Option<(u64, RedisConnection)>>,
    /// Wakes everybody who waits for an answer of a connection that has ended.
    pub(super) ended: Notify,
    /// It did not take what was published.
    pub(super) broken: Notify,
    pub(super) heard: Mutex<Heard>,
    pub(super) revoked: RevokedSessions,
    /// Room for what is being published about revoked sessions.
    pub(super) revocations: Arc<Semaphore>,
}

impl ClusterShared {
    pub(super) fn followed(&self) -> MutexGuard<'_, Followed> {
        locked(&self.followed)
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        locked(&self.heard)
    }

    /// The connection to Redis and its number, while it stands.
    pub(super) fn connection(&self) -> Option<(u64, RedisConnection)> {
        locked(&self.connection).clone()
    }

    /// This connection stands.
    pub(super) fn begin_life(&self, life: u64, connection: RedisConnection) {
        *locked(&self.connection) = Some((life, connection));
    }

    /// No connection stands.
    pub(super) fn end_life(&self) {
        *locked(&self.connection) = None;
        self.ended.notify_waiters();
    }

    /// The connection with this number did not take what was published. Nothing happens if there is a newer one.
    pub(super) fn connection_failed(&self, life: u64) {
        let mut connection = locked(&self.connection);
        if connection.as_ref().is_some_and(|(current, _)| *current == life) {
            *connection = None;
            self.broken.notify_one();
        }
    }

    /// Has the heads of all followed conversations read soon.
    pub(super) fn check_all(&self) {
        self.followed().check_all();
        self.unchecked.notify_one();
    }

    /// The channel for what the shards tell other nodes.
    pub(super) fn channel_for(&self, frame: &ToNodes) -> Channel {
        match frame {
            ToNodes::Event(event) => self.channels.conversation(event.conversation),
            ToNodes::Membership(_)
            | ToNodes::Notice(_)
            | ToNodes::Blocked(..)
            | ToNodes::Presence(_)
            | ToNodes::Spent(_)
            | ToNodes::Invoke(_)
            | ToNodes::AnswerInvocation(_)
            | ToNodes::Answered(_)
            | ToNodes::Follow { .. } => self.channels.all(),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
