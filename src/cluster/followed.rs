//! The conversations with subscribers on this node, and what is still to be done for them. Pure.

use crate::ids::ConversationId;
use std::collections::BTreeSet;

/// Conversations whose channels one statement subscribes to, and whose heads one statement reads.
pub(super) const CHUNK: usize = 1_000;

/// What the node follows.
#[derive(Debug, Default)]
pub(super) struct Followed {
    conversations: BTreeSet<ConversationId>,
    /// Channels to subscribe to, or to leave, in the order of the conversations.
    changed: BTreeSet<ConversationId>,
    /// Conversations whose head is to be read.
    unchecked: BTreeSet<ConversationId>,
}

impl Followed {
    /// A conversation has its first subscriber here, or has lost the last one.
    pub(super) fn set(&mut self, conversation: ConversationId, has_subscribers: bool) {
        let followed = &mut self.conversations;
        let changed = if has_subscribers { followed.insert(conversation) } else { followed.remove(&conversation) };
        if changed {
            self.changed.insert(conversation);
        }
        if !has_subscribers {
            self.unchecked.remove(&conversation);
        }
    }

    /// The number of conversations.
    pub(super) fn len(&self) -> usize {
        self.conversations.len()
    }

    /// A new connection to Redis is subscribed to nothing: every channel is to be subscribed to.
    pub(super) fn begin_anew(&mut self) {
        self.changed = self.conversations.clone();
    }

    /// The next channels to subscribe to and to leave.
    pub(super) fn next_changes(&mut self) -> (Vec<ConversationId>, Vec<ConversationId>) {
        let some = take_chunk(&mut self.changed);
        some.into_iter().partition(|conversation| self.conversations.contains(conversation))
    }

    /// The head of this conversation is to be read.
    pub(super) fn check(&mut self, conversation: ConversationId) {
        if self.conversations.contains(&conversation) {
            self.unchecked.insert(conversation);
        }
    }

    /// All heads are to be read.
    pub(super) fn check_all(&mut self) {
        self.unchecked.clone_from(&self.conversations);
    }

    /// Whether no head is to be read.
    pub(super) fn has_checked_all(&self) -> bool {
        self.unchecked.is_empty()
    }

    /// The next conversations whose heads are to be read.
    pub(super) fn next_unchecked(&mut self) -> Vec<ConversationId> {
        take_chunk(&mut self.unchecked)
    }
}

fn take_chunk(from: &mut BTreeSet<ConversationId>) -> Vec<ConversationId> {
    std::iter::from_fn(|| from.pop_first()).take(CHUNK).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(n: i64) -> ConversationId {
        ConversationId::from_number(n * 4 + 2).unwrap()
    }

    #[test]
    fn a_channel_is_subscribed_once_and_left_once() {
        let mut followed = Followed::default();
        followed.set(room(1), true);
        followed.set(room(2), true);
        followed.set(room(2), false);
        assert_eq!(followed.next_changes(), (vec![room(1)], vec![room(2)]), "leaving what was not joined is harmless");
        followed.set(room(1), true);
        assert_eq!(followed.next_changes(), (vec![], vec![]));
        followed.begin_anew();
        assert_eq!(followed.next_changes(), (vec![room(1)], vec![]), "a new connection knows nothing");
    }

    #[test]
    fn heads_are_read_in_chunks_of_what_is_followed() {
        let mut followed = Followed::default();
        for n in 1..=CHUNK as i64 + 1 {
            followed.set(room(n), true);
        }
        followed.check_all();
        followed.set(room(1), false);
        followed.check(room(1));
        assert_eq!((followed.next_unchecked().len(), followed.next_unchecked().len()), (CHUNK, 0));
        followed.check(room(2));
        assert_eq!(followed.next_unchecked(), [room(2)]);
    }
}
