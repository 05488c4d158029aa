//! Conversations with messages that are not in the search index yet: whose turn it is, how much of it to index at once,
//! and how old the oldest of these messages is.
//!
//! Pure: moments are milliseconds since the start of the indexer, negative for what is older.
//!
//! Invariants:
//! - each conversation is in the backlog once, and moves to the back after each attempt, whatever its outcome.
//!   Otherwise a conversation that fails, or a busy one, would keep the others from being found;
//! - a conversation that fails is tried with fewer messages, down to a single one. After [`FAILURES_MAX`] failures of
//!   that message it is passed over. Otherwise nothing of its conversation would ever be indexed after it.

use std::collections::{BTreeSet, HashMap, VecDeque};

/// Conversations that wait at most; a sweep finds the others later.
pub(super) const WAITING_MAX: usize = 65_536;
/// Messages in one transaction, of one conversation: an edit there waits for its end.
pub(super) const STRETCH_MAX: i64 = 256;
/// Failures of a single message before it is passed over.
const FAILURES_MAX: u32 = 3;

/// What to do next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// Index at most so many messages of the conversation.
    Index { conversation: i64, stretch: i64 },
    /// Pass the conversation's next message over, if it fails once more.
    PassOver { conversation: i64 },
}

#[derive(Clone, Copy)]
struct Entry {
    since_ms: i64,
    /// Halved when a transaction takes too long, doubled when one has succeeded.
    stretch: i64,
    /// Of the next message alone.
    failures: u32,
}

/// The backlog.
#[derive(Default)]
pub(super) struct IndexBacklog {
    order: VecDeque<i64>,
    entries: HashMap<i64, Entry>,
    /// Moment and conversation of each entry.
    ages: BTreeSet<(i64, i64)>,
}

impl IndexBacklog {
    /// A conversation has messages that are not indexed; the oldest is of this moment. False when the backlog is full.
    pub(super) fn add(&mut self, conversation: i64, since_ms: i64) -> bool {
        if let Some(entry) = self.entries.get(&conversation).copied() {
            self.put(conversation, Entry { since_ms: entry.since_ms.min(since_ms), ..entry });
        } else if self.is_full() {
            return false;
        } else {
            self.order.push_back(conversation);
            self.put(conversation, Entry { since_ms, stretch: STRETCH_MAX, failures: 0 });
        }
        true
    }

    fn put(&mut self, conversation: i64, entry: Entry) {
        if let Some(old) = self.entries.insert(conversation, entry) {
            self.ages.remove(&(old.since_ms, conversation));
        }
        self.ages.insert((entry.since_ms, conversation));
    }

    /// The step of the conversation in front. Report its outcome before the next call.
    pub(super) fn next(&self) -> Option<Step> {
        let conversation = *self.order.front()?;
        let Entry { stretch, failures, .. } = *self.entries.get(&conversation)?;
        Some(if failures >= FAILURES_MAX {
            Step::PassOver { conversation }
        } else {
            Step::Index { conversation, stretch }
        })
    }

    /// The conversation in front was indexed. `left_ms` is the moment of its oldest message that is still not.
    pub(super) fn indexed(&mut self, left_ms: Option<i64>) {
        let Some((conversation, entry)) = self.take() else { return };
        if let Some(since_ms) = left_ms {
            let stretch = (entry.stretch * 2).min(STRETCH_MAX);
            self.order.push_back(conversation);
            self.put(conversation, Entry { since_ms, stretch, failures: 0 });
        }
    }

    /// The step of the conversation in front has failed. Returns whether fewer messages will be tried next.
    pub(super) fn failed(&mut self, took_too_long: bool) -> bool {
        let Some((conversation, entry)) = self.take() else { return false };
        let Entry { since_ms, stretch, failures } = entry;
        let next = if failures >= FAILURES_MAX {
            // Not the message is at fault but the store: the message has all its attempts again.
            Entry { since_ms, stretch, failures: 0 }
        } else if stretch > 1 {
            Entry { since_ms, stretch: if took_too_long { stretch / 2 } else { 1 }, failures: 0 }
        } else {
            Entry { since_ms, stretch, failures: failures + 1 }
        };
        self.order.push_back(conversation);
        self.put(conversation, next);
        next.stretch < stretch
    }

    /// The next message of the conversation in front was passed over, or indexed after all.
    pub(super) fn passed_over(&mut self) {
        let Some((conversation, entry)) = self.take() else { return };
        self.order.push_back(conversation);
        self.put(conversation, Entry { failures: 0, ..entry });
    }

    fn take(&mut self) -> Option<(i64, Entry)> {
        let conversation = self.order.pop_front()?;
        let entry = self.entries.remove(&conversation)?;
        self.ages.remove(&(entry.since_ms, conversation));
        Some((conversation, entry))
    }

    /// The moment of the oldest message that is not indexed.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        self.ages.first().map(|(since_ms, _)| *since_ms)
    }

    /// Conversations.
    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.order.len() >= WAITING_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(conversation: i64, stretch: i64) -> Step {
        Step::Index { conversation, stretch }
    }

    #[test]
    fn takes_turns_and_knows_the_oldest_message() {
        let mut backlog = IndexBacklog::default();
        for (conversation, since_ms) in [(6, 10), (7, -3_600_000), (8, 30), (7, 40)] {
            assert!(backlog.add(conversation, since_ms));
        }
        assert_eq!((backlog.len(), backlog.oldest_ms()), (3, Some(-3_600_000)), "a name keeps the older moment");
        assert_eq!(backlog.next(), Some(index(6, STRETCH_MAX)));
        backlog.indexed(Some(20));
        assert_eq!(backlog.next(), Some(index(7, STRETCH_MAX)));
        backlog.indexed(None);
        assert_eq!(backlog.oldest_ms(), Some(20));
        assert_eq!(backlog.next(), Some(index(8, STRETCH_MAX)));
        backlog.indexed(None);
        assert_eq!(backlog.next(), Some(index(6, STRETCH_MAX)));
        backlog.indexed(None);
        assert_eq!((backlog.next(), backlog.oldest_ms(), backlog.is_empty()), (None, None, true));
    }

    #[test]
    fn a_failing_conversation_waits_behind_the_others_and_passes_one_message_over() {
        let mut backlog = IndexBacklog::default();
        backlog.add(6, 0);
        assert!(backlog.failed(false), "a single message is tried");
        for failures in 0..FAILURES_MAX {
            backlog.add(100 + i64::from(failures), 0);
            assert_eq!(backlog.next(), Some(index(6, 1)));
            assert!(!backlog.failed(failures % 2 == 0));
            let other = index(100 + i64::from(failures), STRETCH_MAX);
            assert_eq!(backlog.next(), Some(other), "the others have their turn");
            backlog.indexed(None);
        }
        assert_eq!(backlog.next(), Some(Step::PassOver { conversation: 6 }));
        backlog.passed_over();
        assert_eq!(backlog.next(), Some(index(6, 1)));
        backlog.indexed(Some(5));
        assert_eq!(backlog.next(), Some(index(6, 2)));
    }

    #[test]
    fn a_store_that_takes_no_writes_costs_no_message() {
        let mut backlog = IndexBacklog::default();
        backlog.add(6, 0);
        let mut steps = Vec::new();
        for _ in 0..9 {
            steps.push(backlog.next());
            backlog.failed(false);
        }
        let passes = steps.iter().filter(|step| matches!(step, Some(Step::PassOver { .. }))).count();
        assert_eq!(
            (passes, backlog.next()),
            (2, Some(index(6, 1))),
            "after two refusals, it is tried as before: {steps:?}"
        );
    }

    #[test]
    fn halves_what_takes_too_long() {
        let mut backlog = IndexBacklog::default();
        backlog.add(6, 0);
        let mut stretches = Vec::new();
        while let Some(Step::Index { stretch, .. }) = backlog.next() {
            stretches.push(stretch);
            backlog.failed(true);
        }
        assert_eq!(stretches, [256, 128, 64, 32, 16, 8, 4, 2, 1, 1, 1]);
    }

    #[test]
    fn is_bounded() {
        let mut backlog = IndexBacklog::default();
        assert!((0..WAITING_MAX as i64).all(|conversation| backlog.add(conversation, 0)));
        assert!(!backlog.add(-1, 0) && backlog.is_full());
        assert!(backlog.add(5, -9), "known ones can still become older");
        assert_eq!((backlog.len(), backlog.oldest_ms()), (WAITING_MAX, Some(-9)));
    }
}
