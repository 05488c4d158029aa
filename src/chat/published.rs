//! The owner's side of a conversation: which shards subscribe to its events, and which event was published last.
//!
//! Invariant: the owner remembers the last published event for at least [`REMEMBER_MS`], or reports that it had to
//! forget it. A shard first reads the log and then registers its interest. The owner's answer tells that shard whether
//! an event was published in between. Without it, the shard would deliver such an event only together with the next
//! one.

use crate::ids::{ConversationId, Seq, ShardId};
use crate::limits::PUBLISHED_REMEMBERED_MAX;
use crate::mesh::event::Published;
use std::collections::HashMap;

/// How long the owner remembers a conversation without interested shards: longer than the deadline of any read.
pub const REMEMBER_MS: u64 = 30_000;

/// The owner's record of one conversation.
#[derive(Debug, Default)]
pub struct Owned {
    /// Interested shards, each with the bits of the formats that its subscribers read.
    pub interests: Vec<(ShardId, u8)>,
    last: Option<Seq>,
    touched_ms: u64,
}

/// The conversations of one owner shard.
#[derive(Debug, Default)]
pub struct PublishedIndex {
    conversations: HashMap<ConversationId, Owned>,
    forgot_at_ms: Option<u64>,
}

impl PublishedIndex {
    /// Registers the formats of a shard; 0 removes the shard.
    pub fn interest(&mut self, conversation: ConversationId, shard: ShardId, formats: u8, now_ms: u64) -> Published {
        let owned = self.conversations.entry(conversation).or_default();
        owned.touched_ms = now_ms;
        owned.interests.retain(|(s, _)| *s != shard);
        if formats != 0 {
            owned.interests.push((shard, formats));
        }
        match (owned.last, self.forgot_at_ms) {
            (Some(seq), _) => Published::Upto(seq),
            (None, Some(at)) if now_ms.saturating_sub(at) < REMEMBER_MS => Published::Unknown,
            (None, _) => Published::Nothing,
        }
    }

    /// Records that `seq` is being published, and returns the interested shards.
    pub fn publish(&mut self, conversation: ConversationId, seq: Option<Seq>, now_ms: u64) -> &[(ShardId, u8)] {
        if seq.is_none() {
            return self.conversations.get(&conversation).map_or(&[], |owned| &owned.interests);
        }
        if self.conversations.len() >= PUBLISHED_REMEMBERED_MAX && !self.conversations.contains_key(&conversation) {
            self.sweep(now_ms);
            if self.conversations.len() >= PUBLISHED_REMEMBERED_MAX {
                // All records are recent. Drop those without interested shards, and remember that we did.
                self.conversations.retain(|_, owned| !owned.interests.is_empty());
                self.forgot_at_ms = Some(now_ms);
            }
        }
        let owned = self.conversations.entry(conversation).or_default();
        owned.last = owned.last.max(seq);
        owned.touched_ms = now_ms;
        &owned.interests
    }

    /// Drops conversations without interested shards that had no event within [`REMEMBER_MS`].
    pub fn sweep(&mut self, now_ms: u64) {
        self.conversations
            .retain(|_, owned| !owned.interests.is_empty() || now_ms.saturating_sub(owned.touched_ms) < REMEMBER_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(n: i64) -> ConversationId {
        ConversationId::from_number(n * 4 + 2).unwrap()
    }

    #[test]
    fn answers_interest_with_the_last_published_event() {
        let mut index = PublishedIndex::default();
        assert_eq!(index.interest(room(1), ShardId(0), 1, 0), Published::Nothing);
        assert_eq!(index.publish(room(2), Some(Seq(7)), 0), &[]);
        assert_eq!(index.interest(room(2), ShardId(1), 3, 10), Published::Upto(Seq(7)));
        assert_eq!(index.publish(room(2), Some(Seq(8)), 20), &[(ShardId(1), 3)]);
        index.interest(room(2), ShardId(1), 0, 30);
        index.sweep(30 + REMEMBER_MS);
        assert_eq!(index.interest(room(2), ShardId(1), 1, 40 + REMEMBER_MS), Published::Nothing);
    }

    #[test]
    fn reports_what_a_full_index_had_to_forget() {
        let mut index = PublishedIndex::default();
        index.interest(room(0), ShardId(0), 1, 0);
        for n in 1..=PUBLISHED_REMEMBERED_MAX as i64 {
            index.publish(room(n), Some(Seq(1)), 5);
        }
        assert!(index.conversations.len() <= PUBLISHED_REMEMBERED_MAX);
        assert_eq!(index.interest(room(1), ShardId(0), 1, 6), Published::Unknown);
        assert_eq!(index.publish(room(0), Some(Seq(1)), 7), &[(ShardId(0), 1)], "interest is never forgotten");
        assert_eq!(index.interest(room(3), ShardId(0), 1, 6 + REMEMBER_MS), Published::Nothing);
    }
}
