//! Names of channels. Pure.
//!
//! ```text
//!   veza:{17}:conversation:4711     events of a conversation
//!   veza:{0}:nodes                  what every node should know, heartbeats among it
//!   veza:{17}:node:00f3…            heartbeats of one node, in each partition but the first
//! ```
//!
//! The number in braces is the partition. On a Redis Cluster, it alone decides the slot (a hash tag of the Redis
//! Cluster specification). So one SSUBSCRIBE or pipeline takes all channels of a partition, and the partitions are
//! spread over the servers.

use crate::ids::ConversationId;

/// Partitions of the channels: enough that every server of a Redis Cluster has its share, few enough for a heartbeat
/// through each of them every second.
pub(super) const PARTITIONS: usize = 128;

/// The partition of what every node should know.
const ALL_NODES: usize = 0;

/// A channel and its partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Channel {
    /// Less than [`PARTITIONS`].
    pub(super) partition: usize,
    pub(super) name: String,
}

/// The channels of one cluster of nodes.
#[derive(Clone, Debug)]
pub(super) struct Channels {
    cluster: String,
    node: u64,
}

impl Channels {
    /// Of the cluster with this name, for one of its nodes.
    pub(super) fn new(cluster: String, node: u64) -> Self {
        Self { cluster, node }
    }

    fn named(&self, partition: usize, rest: std::fmt::Arguments<'_>) -> Channel {
        Channel { partition, name: format!("{}:{{{partition}}}:{rest}", self.cluster) }
    }

    /// The events of a conversation.
    pub(super) fn conversation(&self, conversation: ConversationId) -> Channel {
        let number = conversation.number();
        // Numbers of conversations have their kind in the last bits: multiplied, all bits decide (Knuth's hash).
        let hash = number.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        self.named(hash as usize % PARTITIONS, format_args!("conversation:{number}"))
    }

    /// What every node should know.
    pub(super) fn all(&self) -> Channel {
        self.named(ALL_NODES, format_args!("nodes"))
    }

    /// The heartbeats of this node through a partition. Those through the first one go to every node.
    pub(super) fn heartbeats(&self, partition: usize) -> Channel {
        if partition == ALL_NODES {
            return self.all();
        }
        self.named(partition, format_args!("node:{:016x}", self.node))
    }
}

/// The channels by partition, in the order of the partitions.
pub(super) fn by_partition(channels: impl Iterator<Item = Channel>) -> Vec<Vec<String>> {
    let mut partitions: Vec<Vec<String>> = vec![Vec::new(); PARTITIONS];
    for channel in channels {
        partitions[channel.partition].push(channel.name);
    }
    partitions.retain(|names| !names.is_empty());
    partitions
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn conversations_are_spread_over_the_partitions() {
        let channels = Channels::new("veza".to_owned(), 7);
        let mut counts = BTreeMap::<usize, usize>::new();
        for number in 1..=12_800 {
            let conversation = ConversationId::from_number(number * 4 + 2).unwrap();
            *counts.entry(channels.conversation(conversation).partition).or_default() += 1;
        }
        assert_eq!(counts.len(), PARTITIONS);
        assert!(counts.values().all(|count| (50..200).contains(count)), "{counts:?}");
    }

    /// CRC-16/XMODEM, bit by bit.
    fn crc16(bytes: &[u8]) -> u16 {
        bytes.iter().fold(0, |crc, byte| {
            (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 })
        })
    }

    /// The slot of a channel, as the Redis Cluster specification computes it from the hash tag.
    fn slot(channel: &str) -> usize {
        let (_, tagged) = channel.split_once('{').unwrap();
        let (tag, _) = tagged.split_once('}').unwrap();
        usize::from(crc16(tag.as_bytes())) % SLOTS
    }

    /// The slots of a Redis Cluster.
    const SLOTS: usize = 16_384;

    #[test]
    fn partitions_are_spread_over_the_masters_of_a_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3, "the known value of the Redis Cluster specification");
        let channels = Channels::new("veza".to_owned(), 7);
        let slots: Vec<usize> = (0..PARTITIONS).map(|partition| slot(&channels.heartbeats(partition).name)).collect();
        for masters in 1..=8 {
            // Each master has an equal range of slots, as `redis-cli --cluster create` gives it.
            let mut counts = vec![0; masters];
            for slot in &slots {
                counts[slot * masters / SLOTS] += 1;
            }
            let share = PARTITIONS.div_ceil(masters);
            assert!(counts.iter().all(|count| *count <= share * 13 / 10), "at most 1.3 times its share: {counts:?}");
            assert!(masters != 3 || counts.iter().all(|count| (40..=46).contains(count)), "43 ± 3: {counts:?}");
        }
    }

    #[test]
    fn the_channels_of_one_subscription_share_a_slot() {
        let channels = Channels::new("veza".to_owned(), 7);
        let conversations = (1..=1_280).map(|number| ConversationId::from_number(number * 4 + 2).unwrap());
        let followed = conversations.map(|conversation| channels.conversation(conversation));
        let heartbeats = (0..PARTITIONS).map(|partition| channels.heartbeats(partition));
        let subscriptions = by_partition(followed.chain(heartbeats).chain([channels.all()]));
        assert_eq!(subscriptions.len(), PARTITIONS);
        for names in subscriptions {
            assert!(names.len() > 1 && names.iter().all(|name| slot(name) == slot(&names[0])), "{names:?}");
        }
    }

    #[test]
    fn the_hash_tag_is_the_partition() {
        let channels = Channels::new("my.chat".to_owned(), 7);
        assert_eq!(channels.all().name, "my.chat:{0}:nodes");
        assert_eq!(
            channels.heartbeats(5),
            Channel { partition: 5, name: "my.chat:{5}:node:0000000000000007".to_owned() }
        );
        let channel = channels.conversation(ConversationId::from_number(6).unwrap());
        assert_eq!(channel.name, format!("my.chat:{{{}}}:conversation:6", channel.partition));
        let sorted = by_partition([channels.all(), channels.heartbeats(5), channels.heartbeats(0)].into_iter());
        assert_eq!(sorted.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    }
}
