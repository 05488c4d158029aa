//! What a user's shard knows of other nodes: which of them live, and how many connections a user has there. Pure.

use crate::limits::NODES_MAX;
use std::collections::HashMap;

/// A node without a message for so long does not count for the limit on connections: it may have died. Nodes send a
/// message to every shard twice a second.
const HEARD_MS: u64 = 2_000;
/// Connections count for so long after their node reported them. It repeats its reports every ten seconds; the report
/// of their end may have been lost.
const COUNTED_MS: u64 = 12_000;
/// How long this node shows what another one reported of a user: two repetitions may be lost, or be late. After that
/// time, that node has forgotten the user, or has died; the next sweep of the shard forgets its report.
const LEASE_MS: u64 = 35_000;

/// A user's connections to another node.
pub(super) struct Elsewhere {
    pub(super) node: u64,
    pub(super) connections: usize,
    /// When the node reported them.
    pub(super) reported_ms: u64,
}

impl Elsewhere {
    /// Whether the report still holds for what the user shows.
    pub(super) fn is_shown(&self, now_ms: u64) -> bool {
        now_ms < self.reported_ms + LEASE_MS
    }
}

/// When the last message of each other node came.
#[derive(Default)]
pub(super) struct HeardNodes(HashMap<u64, u64>);

impl HeardNodes {
    /// A message of the node has come. True if it is the first one, or the first after a silence.
    pub(super) fn hear(&mut self, node: u64, now_ms: u64) -> bool {
        if self.0.len() >= NODES_MAX && !self.0.contains_key(&node) {
            return false;
        }
        self.0.insert(node, now_ms).is_none_or(|heard_ms| now_ms >= heard_ms + HEARD_MS)
    }

    pub(super) fn forget_silent(&mut self, now_ms: u64) {
        self.0.retain(|_, heard_ms| now_ms < *heard_ms + HEARD_MS);
    }

    /// The node that has reported connections last, of those that were not silent.
    pub(super) fn newest(&self, elsewhere: &[Elsewhere], now_ms: u64) -> Option<u64> {
        let is_heard = |node| self.0.get(node).is_some_and(|heard_ms| now_ms < heard_ms + HEARD_MS);
        let heard = elsewhere.iter().filter(|known| is_heard(&known.node));
        heard.max_by_key(|known| known.reported_ms).map(|known| known.node)
    }

    /// The connections to nodes that were not silent.
    pub(super) fn connections(&self, elsewhere: &[Elsewhere], now_ms: u64) -> usize {
        let is_heard = |node| self.0.get(node).is_some_and(|heard_ms| now_ms < heard_ms + HEARD_MS);
        let counted = elsewhere.iter().filter(|known| is_heard(&known.node) && now_ms < known.reported_ms + COUNTED_MS);
        counted.map(|known| known.connections).sum()
    }
}
