//! Events of a conversation that arrive before the ones they follow, as when two nodes commit in it at the same time.
//! Pure.
//!
//! The owner holds such an event for a moment, until the one before it has come from the other node. Without that, all
//! subscribers would miss an event, and each of them would read the log: in a busy room for every second message.
//!
//! Invariants:
//! - nothing is held for longer than [`HOLD_MS`] plus the time to the next look. What is missing then was lost, and
//!   subscribers read it from the log;
//! - what is held is bounded ([`HELD_MAX`]). When it is full, everything of that conversation is let go;
//! - a signal does not overtake the events before it.

use crate::ids::{ConversationId, Seq};
use crate::mesh::event::EncodedEvent;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// How long an event waits for those before it, in milliseconds.
pub const HOLD_MS: u64 = 20;
/// Events of the log that wait in one conversation, and signals as well.
pub const HELD_MAX: usize = 64;

/// Events of one conversation that wait.
#[derive(Default)]
struct Held {
    /// By seq; behind each, the signals that came after it.
    events: BTreeMap<Seq, Vec<Arc<EncodedEvent>>>,
    /// Events and signals.
    count: usize,
    /// When the oldest was held.
    since_ms: u64,
}

/// What an owner holds back.
#[derive(Default)]
pub struct InOrder {
    held: HashMap<ConversationId, Held>,
    /// In the order in which they began to wait.
    waiting: VecDeque<(u64, ConversationId)>,
}

impl InOrder {
    /// Whether events of this conversation wait.
    #[must_use]
    pub fn holds(&self, conversation: ConversationId) -> bool {
        self.held.contains_key(&conversation)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Takes an event, and returns those that can be published now, in order. `last` is the newest published one.
    pub fn take(&mut self, event: Arc<EncodedEvent>, last: Option<Seq>, now_ms: u64) -> Vec<Arc<EncodedEvent>> {
        let conversation = event.conversation;
        let is_next = match (event.seq, last) {
            (Some(seq), Some(last)) => seq <= last.next(),
            (Some(_), None) => true,
            (None, _) => !self.held.contains_key(&conversation),
        };
        if is_next {
            let published = event.seq.max(last);
            let mut ready = vec![event];
            ready.extend(self.follow(conversation, published));
            return ready;
        }
        let held = self.held.entry(conversation).or_insert_with(|| {
            self.waiting.push_back((now_ms, conversation));
            Held { since_ms: now_ms, ..Held::default() }
        });
        let at = event.seq.or_else(|| held.events.keys().next_back().copied()).unwrap_or_default();
        held.events.entry(at).or_default().push(event);
        held.count += 1;
        if held.events.len() >= HELD_MAX || held.count >= 2 * HELD_MAX { self.let_go(conversation) } else { Vec::new() }
    }

    /// Events that follow the newest published one.
    pub fn follow(&mut self, conversation: ConversationId, published: Option<Seq>) -> Vec<Arc<EncodedEvent>> {
        let Some(held) = self.held.get_mut(&conversation) else { return Vec::new() };
        let mut ready = Vec::new();
        let mut last = published.unwrap_or_default();
        while let Some(first) = held.events.first_entry().filter(|first| *first.key() <= last.next()) {
            last = last.max(*first.key());
            ready.extend(first.remove());
        }
        held.count -= ready.len();
        if held.events.is_empty() {
            self.held.remove(&conversation);
        }
        ready
    }

    /// Everything that waits in a conversation.
    fn let_go(&mut self, conversation: ConversationId) -> Vec<Arc<EncodedEvent>> {
        let held = self.held.remove(&conversation);
        held.into_iter().flat_map(|held| held.events.into_values().flatten()).collect()
    }

    /// The events of the next conversation where something has waited for long enough; none if there is none.
    pub fn next_overdue(&mut self, now_ms: u64) -> Option<Vec<Arc<EncodedEvent>>> {
        while let Some((_, conversation)) = self.waiting.pop_front_if(|(at, _)| now_ms.saturating_sub(*at) >= HOLD_MS) {
            // It may have been let go since, and another event may wait for less.
            let since_ms = self.held.get(&conversation).map(|held| held.since_ms);
            if since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= HOLD_MS) {
                return Some(self.let_go(conversation));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;
    use std::time::Instant;

    fn event(conversation: i64, seq: Option<i64>) -> Arc<EncodedEvent> {
        Arc::new(EncodedEvent {
            conversation: ConversationId::from_number(conversation * 4 + 2).unwrap(),
            seq: seq.map(Seq),
            kind: Cow::Borrowed("message_created"),
            frames: [None, None],
            sender_key: None,
            except_user: None,
            about: None,
            except_connection: None,
            departure: None,
            received_at: Instant::now(),
            published_at: Instant::now(),
        })
    }

    fn overdue(order: &mut InOrder, now_ms: u64) -> Vec<Arc<EncodedEvent>> {
        std::iter::from_fn(|| order.next_overdue(now_ms)).flatten().collect()
    }

    fn seqs(events: &[Arc<EncodedEvent>]) -> Vec<Option<i64>> {
        events.iter().map(|event| event.seq.map(|seq| seq.0)).collect()
    }

    #[test]
    fn an_early_event_waits_for_the_ones_before_it() {
        let mut order = InOrder::default();
        assert_eq!(seqs(&order.take(event(1, Some(7)), None, 0)), [Some(7)], "nothing is known of what came before");
        assert_eq!(seqs(&order.take(event(1, Some(10)), Some(Seq(7)), 0)), []);
        assert_eq!(seqs(&order.take(event(1, None), Some(Seq(7)), 0)), [], "a signal does not overtake it");
        assert_eq!(seqs(&order.take(event(2, None), None, 0)), [None], "in another conversation nothing waits");
        assert_eq!(seqs(&order.take(event(1, Some(9)), Some(Seq(7)), 1)), []);
        let ready = order.take(event(1, Some(8)), Some(Seq(7)), 2);
        assert_eq!(seqs(&ready), [Some(8), Some(9), Some(10), None]);
        assert_eq!(seqs(&overdue(&mut order, 1_000)), []);
    }

    #[test]
    fn nothing_waits_for_what_was_lost() {
        let mut order = InOrder::default();
        order.take(event(1, Some(9)), Some(Seq(7)), 100);
        assert_eq!(seqs(&overdue(&mut order, 99 + HOLD_MS)), []);
        assert_eq!(seqs(&overdue(&mut order, 100 + HOLD_MS)), [Some(9)]);
        order.take(event(1, Some(12)), Some(Seq(9)), 200);
        let room = ConversationId::from_number(6).unwrap();
        assert_eq!(seqs(&order.follow(room, Some(Seq(11)))), [Some(12)], "its head was read");
        for n in 0..HELD_MAX as i64 - 1 {
            assert_eq!(seqs(&order.take(event(1, Some(20 + n)), Some(Seq(12)), 300)), []);
        }
        assert_eq!(order.take(event(1, Some(19)), Some(Seq(12)), 300).len(), HELD_MAX, "full");
        assert_eq!(seqs(&overdue(&mut order, 1_000)), []);
    }

    proptest! {
        /// Whatever the order of arrival, everything comes out once, and in order unless it was overdue.
        #[test]
        fn loses_and_repeats_nothing(arrivals in Just((1i64..60).collect::<Vec<_>>()).prop_shuffle(), step in 0u64..5) {
            let (mut order, mut last, mut out, mut is_late) = (InOrder::default(), Some(Seq(0)), Vec::new(), false);
            let mut now_ms = 0;
            for seq in arrivals {
                now_ms += step;
                let late = overdue(&mut order, now_ms);
                is_late |= !late.is_empty();
                out.extend(late);
                last = out.iter().filter_map(|event: &Arc<EncodedEvent>| event.seq).max().max(last);
                out.extend(order.take(event(1, Some(seq)), last, now_ms));
                last = out.iter().filter_map(|event| event.seq).max().max(last);
            }
            out.extend(overdue(&mut order, u64::MAX));
            let mut all = seqs(&out);
            if !is_late {
                prop_assert!(all.is_sorted());
            }
            all.sort_unstable();
            prop_assert_eq!(all, (1..60).map(Some).collect::<Vec<_>>());
        }
    }
}
