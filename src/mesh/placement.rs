//! Who owns what: arithmetic, the same on every core.

use crate::ids::{ConversationId, ShardId, UserId};

/// The number of shards, and the functions that place things on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    shards: u8,
}

impl Placement {
    /// For `shards` shards; at least one.
    #[must_use]
    pub fn new(shards: u8) -> Self {
        Self { shards: shards.max(1) }
    }

    /// The number of shards.
    #[must_use]
    pub fn shards(self) -> usize {
        usize::from(self.shards)
    }

    /// Every shard.
    pub fn all(self) -> impl Iterator<Item = ShardId> {
        (0..self.shards).map(ShardId)
    }

    /// The shard that holds a conversation's state.
    #[must_use]
    pub fn owner(self, conversation: ConversationId) -> ShardId {
        self.place(conversation.number())
    }

    /// The shard that counts a user's connections and keeps its budget.
    #[must_use]
    pub fn of_user(self, user: UserId) -> ShardId {
        self.place(user.0)
    }

    fn place(self, number: i64) -> ShardId {
        // Finaliser of SplitMix64: the low bits of conversation ids are their kind and must not choose the shard.
        let mut hash = number as u64;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^= hash >> 31;
        ShardId((hash % u64::from(self.shards)) as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_spread_over_the_shards() {
        let placement = Placement::new(4);
        let mut counts = [0; 4];
        for n in 1..=4_000 {
            counts[placement.owner(ConversationId::from_number(n * 4 + 2).unwrap()).index()] += 1;
        }
        assert!(counts.iter().all(|c| (800..1_200).contains(c)), "{counts:?}");
    }
}
