//! Which nodes were heard through Redis lately. Pure.
//!
//! A node that cannot reach Redis, or reaches another Redis than this one, publishes nothing that this node receives.
//! Nothing here shows that, since the connection of this node stands. So each node sends its heartbeats to all of them,
//! and compares the number of those it hears with the number of servers that hold the lock of the database.

use crate::limits::NODES_MAX;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A node that was not heard for so long is silent. Heartbeats come every second. This node counts when its own have
/// come back from every server of Redis.
const SILENT_AFTER: Duration = Duration::from_millis(1_600);

/// When each node was last heard, this one included.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// When, and through which of its connections to Redis.
    last: BTreeMap<u64, (Instant, u64)>,
}

impl Heard {
    /// A heartbeat of that node has come, through its connection to Redis with this number. True if the node was not
    /// heard before, or has another connection now: it has published nothing of what it committed meanwhile.
    pub(super) fn record(&mut self, node: u64, life: u64, now: Instant) -> bool {
        if self.last.len() >= NODES_MAX && !self.last.contains_key(&node) {
            return false;
        }
        self.last.insert(node, (now, life)).is_none_or(|(_, before)| before != life)
    }

    /// How many of so many servers were not heard lately. Forgets the silent ones: a node that starts again has another
    /// number.
    pub(super) fn missing(&mut self, servers: usize, now: Instant) -> usize {
        self.last.retain(|_, (last, _)| now.saturating_duration_since(*last) < SILENT_AFTER);
        servers.min(NODES_MAX).saturating_sub(self.last.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_missing_when_its_heartbeats_end() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut heard = Heard::default();
        assert_eq!((heard.missing(0, start), heard.missing(1, start)), (0, 1));
        for beat in 0..5 {
            assert_eq!(heard.record(1, 1, start + beat * second), beat == 0, "it is new once");
            heard.record(2, 1, start + beat * second);
            assert_eq!(heard.missing(2, start + beat * second + second), 0);
        }
        assert!(heard.record(1, 2, start + 5 * second), "it has another connection");
        let now = start + 6 * second;
        assert_eq!((heard.missing(1, now), heard.missing(2, now)), (0, 1), "the second one is silent");
        heard.record(3, 1, now);
        assert_eq!(heard.missing(2, now), 0, "it is back under another number");
    }

    #[test]
    fn is_bounded() {
        let now = Instant::now();
        let mut heard = Heard::default();
        for node in 0..2 * NODES_MAX as u64 {
            heard.record(node, 1, now);
        }
        assert_eq!(heard.last.len(), NODES_MAX);
        assert_eq!(heard.missing(2 * NODES_MAX, now), 0);
    }
}
