//! The owner's side of a conversation: which shards subscribe to its events, and which event was published last.
//!
//! Invariant: the owner remembers the last published event for at least [`REMEMBER_MS`], or reports that it had to
//! forget it. A shard first reads the log and then registers its interest. The owner's answer tells that shard whether
//! an event was published in between. Without it, the shard would deliver such an event only together with the next
//! one.

use crate::ids::{ConversationId, Seq, ShardId};
use crate::limits::PUBLISHED_REMEMBERED_MAX;
use crate::mesh::event::Published;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// How long the owner remembers a conversation without interested shards: longer than the deadline of any read.
pub const REMEMBER_MS: u64 = 30_000;

/// How long an event may be on its way from its commit to its publication, on whichever node, before its subscribers
/// read it from the log. Looked at once a tick.
pub const HEAD_GRACE_MS: u64 = 200;

/// An event that PostgreSQL has and that has not come in time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LateHead {
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its number.
    pub seq: Seq,
    /// The interested shards.
    pub interests: Vec<(ShardId, u8)>,
}

/// The owner's record of one conversation.
#[derive(Debug, Default)]
pub struct Owned {
    /// Interested shards, each with the bits of the formats that its subscribers read.
    pub interests: Vec<(ShardId, u8)>,
    last: Option<Seq>,
    touched_ms: u64,
    /// PostgreSQL has a newer event, which may still be on its way.
    has_late_head: bool,
}

/// The conversations of one owner shard.
#[derive(Debug, Default)]
pub struct PublishedIndex {
    conversations: HashMap<ConversationId, Owned>,
    forgot_at_ms: Option<u64>,
    /// Conversations whose first interested shard has come or whose last one has gone, which the cluster thread does
    /// not know yet; none without other nodes.
    untold_follows: Option<BTreeSet<ConversationId>>,
    /// Events that PostgreSQL has and that were not published yet, and from when on they are late.
    late_heads: VecDeque<(u64, ConversationId, Seq)>,
}

impl PublishedIndex {
    /// Registers the formats of a shard; 0 removes the shard.
    pub fn interest(&mut self, conversation: ConversationId, shard: ShardId, formats: u8, now_ms: u64) -> Published {
        let owned = self.conversations.entry(conversation).or_default();
        owned.touched_ms = now_ms;
        let was_followed = !owned.interests.is_empty();
        owned.interests.retain(|(s, _)| *s != shard);
        if formats != 0 {
            owned.interests.push((shard, formats));
        }
        if was_followed == owned.interests.is_empty() {
            note(&mut self.untold_follows, conversation);
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

    /// The newest published event, as far as it is remembered.
    #[must_use]
    pub fn last(&self, conversation: ConversationId) -> Option<Seq> {
        self.conversations.get(&conversation)?.last
    }

    /// PostgreSQL has an event `seq` in a conversation, or a newer one: the interested shards, if nothing is known of
    /// the conversation. Otherwise the event may still be on its way, and [`Self::next_late_head`] looks again.
    pub fn learn_head(&mut self, conversation: ConversationId, seq: Seq, now_ms: u64) -> &[(ShardId, u8)] {
        match self.conversations.get_mut(&conversation) {
            Some(owned) if owned.last.is_none() => {
                owned.last = Some(seq);
                &owned.interests
            }
            Some(owned) if owned.last < Some(seq) && !owned.has_late_head => {
                owned.has_late_head = true;
                self.late_heads.push_back((now_ms + HEAD_GRACE_MS, conversation, seq));
                &[]
            }
            _ => &[],
        }
    }

    /// The next conversation whose newest event has not come in time, with that and the interested shards.
    pub fn next_late_head(&mut self, now_ms: u64) -> Option<LateHead> {
        while let Some((_, conversation, seq)) = self.late_heads.pop_front_if(|(due_ms, ..)| *due_ms <= now_ms) {
            let Some(owned) = self.conversations.get_mut(&conversation) else { continue };
            owned.has_late_head = false;
            if owned.last < Some(seq) {
                owned.last = Some(seq);
                return Some(LateHead { conversation, seq, interests: owned.interests.clone() });
            }
        }
        None
    }

    /// For a node of a cluster: from now on, [`Self::next_follow`] returns changes.
    pub fn tell_nodes(&mut self) {
        self.untold_follows.get_or_insert_default();
    }

    /// The next conversation that the cluster thread must hear of, and whether shards are interested in it. It counts
    /// as told; if that fails, call [`Self::follow_not_told`].
    pub fn next_follow(&mut self) -> Option<(ConversationId, bool)> {
        let conversation = self.untold_follows.as_mut()?.pop_first()?;
        let owned = self.conversations.get(&conversation);
        Some((conversation, owned.is_some_and(|owned| !owned.interests.is_empty())))
    }

    /// Has [`Self::next_follow`] return this conversation again.
    pub fn follow_not_told(&mut self, conversation: ConversationId) {
        note(&mut self.untold_follows, conversation);
    }

    /// Drops conversations without interested shards that had no event within [`REMEMBER_MS`].
    pub fn sweep(&mut self, now_ms: u64) {
        self.conversations
            .retain(|_, owned| !owned.interests.is_empty() || now_ms.saturating_sub(owned.touched_ms) < REMEMBER_MS);
    }
}

fn note(untold: &mut Option<BTreeSet<ConversationId>>, conversation: ConversationId) {
    if let Some(untold) = untold {
        untold.insert(conversation);
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
    fn tells_once_of_the_first_interest_and_of_the_last() {
        let mut index = PublishedIndex::default();
        index.interest(room(2), ShardId(0), 1, 0);
        assert_eq!(index.next_follow(), None, "there are no other nodes");
        index.tell_nodes();
        index.interest(room(1), ShardId(0), 1, 0);
        index.interest(room(1), ShardId(1), 1, 0);
        assert_eq!(index.next_follow(), Some((room(1), true)));
        assert_eq!(index.next_follow(), None);
        index.interest(room(1), ShardId(0), 0, 0);
        assert_eq!(index.next_follow(), None, "another shard is interested");
        index.interest(room(1), ShardId(1), 0, 0);
        assert_eq!(index.next_follow(), Some((room(1), false)));
        index.follow_not_told(room(1));
        index.interest(room(1), ShardId(1), 3, 0);
        assert_eq!((index.next_follow(), index.next_follow()), (Some((room(1), true)), None), "the newest state only");
    }

    #[test]
    fn a_head_is_news_if_its_event_does_not_come() {
        let mut index = PublishedIndex::default();
        assert_eq!(index.learn_head(room(1), Seq(3), 0), &[], "nobody is interested");
        index.interest(room(1), ShardId(1), 2, 0);
        assert_eq!(index.learn_head(room(1), Seq(3), 0), &[(ShardId(1), 2)], "nothing is known of the conversation");
        assert_eq!(index.learn_head(room(1), Seq(3), 0), &[]);
        assert_eq!(index.learn_head(room(1), Seq(4), 10), &[], "it may be on its way");
        assert_eq!(index.learn_head(room(1), Seq(5), 20), &[]);
        assert_eq!(index.next_late_head(9 + HEAD_GRACE_MS), None);
        let late = LateHead { conversation: room(1), seq: Seq(4), interests: vec![(ShardId(1), 2)] };
        assert_eq!(index.next_late_head(10 + HEAD_GRACE_MS), Some(late));
        index.learn_head(room(1), Seq(5), 300);
        index.publish(room(1), Some(Seq(5)), 301);
        assert_eq!(index.next_late_head(1_000), None, "it has come");
        assert_eq!(index.interest(room(1), ShardId(0), 1, 0), Published::Upto(Seq(5)));
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
