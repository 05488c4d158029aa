//! What the tasks of the cluster thread share.

use super::followed::Followed;
use super::heard::Heard;
use super::to_shards::ToShards;
use crate::ids::{ConversationId, SessionId};
use crate::mesh::node_status::NodeStatus;
use crate::mesh::nodes::ToNodes;
use crate::storage::nodes::NodeStore;
use redis::aio::MultiplexedConnection;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Receives sessions that were revoked on another node.
pub type RevokedSessions = Arc<dyn Fn(Arc<[SessionId]>) + Send + Sync>;

/// What the tasks of the thread share.
pub(super) struct ClusterShared {
    pub(super) to_shards: ToShards,
    pub(super) store: NodeStore,
    pub(super) name: String,
    /// This process, so that it knows its own messages.
    pub(super) node: u64,
    pub(super) status: Arc<NodeStatus>,
    pub(super) followed: Mutex<Followed>,
    /// The followed conversations have changed.
    pub(super) follows: Notify,
    /// Heads are to be read.
    pub(super) unchecked: Notify,
    /// The connection that publishes, while it stands.
    pub(super) publisher: Mutex<Option<MultiplexedConnection>>,
    /// The connection that publishes has failed.
    pub(super) broken: Notify,
    pub(super) heard: Mutex<Heard>,
}

impl ClusterShared {
    pub(super) fn followed(&self) -> MutexGuard<'_, Followed> {
        locked(&self.followed)
    }

    pub(super) fn publisher(&self) -> MutexGuard<'_, Option<MultiplexedConnection>> {
        locked(&self.publisher)
    }

    pub(super) fn heard(&self) -> MutexGuard<'_, Heard> {
        locked(&self.heard)
    }

    /// Has the heads of all followed conversations read soon.
    pub(super) fn check_all(&self) {
        self.followed().check_all();
        self.unchecked.notify_one();
    }

    /// The channel for what the shards tell other nodes.
    pub(super) fn channel_for(&self, frame: &ToNodes) -> String {
        match frame {
            ToNodes::Event(event) => self.channel_of(event.conversation),
            ToNodes::Membership(_)
            | ToNodes::Notice(_)
            | ToNodes::Blocked(..)
            | ToNodes::Presence(_)
            | ToNodes::Follow { .. } => self.channel_of_all(),
        }
    }

    pub(super) fn channel_of(&self, conversation: ConversationId) -> String {
        format!("{}:conversation:{}", self.name, conversation.number())
    }

    pub(super) fn channel_of_all(&self) -> String {
        format!("{}:nodes", self.name)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
