//! The connections of each user that live on this shard.

use crate::ids::{ConnId, UserId};
use std::collections::HashMap;

/// Connections by user.
#[derive(Debug, Default)]
pub struct LocalConnections {
    by_user: HashMap<UserId, Vec<ConnId>>,
}

impl LocalConnections {
    /// Records that a connection of `user` was opened here.
    pub fn add(&mut self, user: UserId, conn: ConnId) {
        self.by_user.entry(user).or_default().push(conn);
    }

    /// Records that a connection of `user` ended.
    pub fn remove(&mut self, user: UserId, conn: ConnId) {
        if let Some(connections) = self.by_user.get_mut(&user) {
            connections.retain(|c| *c != conn);
            if connections.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }

    /// The user's connections here.
    #[must_use]
    pub fn of(&self, user: UserId) -> &[ConnId] {
        self.by_user.get(&user).map_or(&[], Vec::as_slice)
    }
}
