//! What a user's shard knows of other nodes: which of them live, and how many connections a user has there. Pure.

use std::collections::HashMap;

/// Nodes that are counted; more are possible, and what happens on them is not.
pub(super) const NODES_MAX: usize = 64;
/// A node that has said nothing for so long does not count for the limit on connections: it may have died. Nodes say
/// something twice a second.
const HEARD_MS: u64 = 2_000;
/// A user's connections to another node.
pub(super) struct Elsewhere {
    pub(super) node: u64,
    pub(super) connections: usize,
    /// A node that says nothing until then has forgotten the user, or has died.
    pub(super) until_ms: u64,
}

/// When other nodes said something last.
#[derive(Default)]
pub(super) struct HeardNodes(HashMap<u64, u64>);

impl HeardNodes {
    pub(super) fn hear(&mut self, node: u64, now_ms: u64) {
        if self.0.len() < NODES_MAX || self.0.contains_key(&node) {
            self.0.insert(node, now_ms);
        }
    }

    pub(super) fn forget_silent(&mut self, now_ms: u64) {
        self.0.retain(|_, heard_ms| now_ms < *heard_ms + HEARD_MS);
    }

    /// The connections to nodes that were heard a moment ago.
    pub(super) fn connections(&self, elsewhere: &[Elsewhere], now_ms: u64) -> usize {
        let is_heard = |node| self.0.get(node).is_some_and(|heard_ms| now_ms < heard_ms + HEARD_MS);
        elsewhere.iter().filter(|known| is_heard(&known.node)).map(|known| known.connections).sum()
    }
}
