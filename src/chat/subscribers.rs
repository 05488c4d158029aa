//! The subscribers of one conversation on one shard, each with a cursor.
//!
//! ```text
//!                    ┌──────── gap, queue full, fell behind the head ────────┐
//!                    ▼                                                       │
//!   subscribe ──► CatchingUp ──── log read up to the head, events flow ───► Live
//! ```
//!
//! Invariant: a subscriber receives event `seq` only if its cursor is `seq − 1`. This comparison alone rules out gaps,
//! duplicates and disorder. A fault elsewhere (a lost wake-up, a restart of the owner, a full queue) can only delay an
//! event.

use crate::ids::{ConnId, Seq, UserId};
use crate::wire::Format;

/// Where a subscriber's next event comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The backlog, as soon as the owner publishes it.
    Live,
    /// A replay of the log. The subscriber skips live events.
    CatchingUp,
}

/// One connection's subscription to a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriber {
    /// The connection that receives the events.
    pub conn: ConnId,
    /// The connection's user.
    pub user: UserId,
    /// The last event that was queued for it.
    pub cursor: Seq,
    /// The end of the log when its user was last known to be a member. Lanes and reads race: the shard may receive an
    /// older departure afterwards, which was undone by then.
    pub member_at: Seq,
    /// Live or catching up.
    pub mode: Mode,
    /// Whether it receives `caught_up` when it becomes live.
    pub announce: bool,
    /// Whether it must read the log before it may become live, because its cursor does not come from such a read.
    pub must_read: bool,
    /// The format of its connection.
    pub format: Format,
    /// Window bits of permessage-deflate; 0 means no compression.
    pub deflate_bits: u8,
}

/// What to do with an event for one subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// Send it, then call [`Subscriber::advance`].
    Next,
    /// The subscriber has received it already, or receives it from the replay.
    Known,
    /// The subscriber missed an event: start a replay.
    Gap,
}

impl Subscriber {
    /// Decides what to do with event `seq`.
    #[must_use]
    pub fn fit(&self, seq: Seq) -> Fit {
        match self.mode {
            Mode::CatchingUp => Fit::Known,
            Mode::Live if seq == self.cursor.next() => Fit::Next,
            Mode::Live if seq <= self.cursor => Fit::Known,
            Mode::Live => Fit::Gap,
        }
    }

    /// Records that event `seq` was queued for it.
    pub fn advance(&mut self, seq: Seq) {
        self.cursor = self.cursor.max(seq);
    }
}

/// The next step of a subscriber that is catching up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// It is live now.
    Live {
        /// Whether to send it `caught_up`.
        announce: bool,
    },
    /// Read the log after its cursor.
    Read,
    /// Wait until the owner confirms that it sends events to this shard.
    Wait,
}

/// A conversation's subscribers on one shard, and what the shard knows of the conversation.
#[derive(Debug, Default)]
pub struct Room {
    /// Ascending by connection, so that look-ups are binary searches. A slice is named by the connection it begins
    /// with, so subscribing and unsubscribing between two slices never skips or repeats a subscriber.
    subscribers: Vec<Subscriber>,
    /// The number of subscribers per format, by [`Format::index`].
    readers: [u32; Format::ALL.len()],
    /// The newest event known to exist.
    head: Seq,
    /// Formats in which the owner sends events to this shard, as it has confirmed.
    flowing: u8,
    /// The interest registered with the owner; `None` before the first time.
    reported: Option<u8>,
}

impl Room {
    /// Bits of the formats that this shard's subscribers read.
    #[must_use]
    pub fn wanted(&self) -> u8 {
        Format::ALL.iter().filter(|format| self.readers[format.index()] > 0).fold(0, |bits, format| bits | format.bit())
    }

    /// The interest to register with the owner, unless it has it already.
    #[must_use]
    pub fn unreported_interest(&self) -> Option<u8> {
        let wanted = self.wanted();
        (self.reported != Some(wanted)).then_some(wanted)
    }

    /// Records that the interest was registered with the owner.
    pub fn interest_reported(&mut self, formats: u8) {
        self.reported = Some(formats);
        self.flowing &= formats;
    }

    /// Records that the registration could not be sent.
    pub fn interest_not_reported(&mut self) {
        self.reported = None;
    }

    /// Records the owner's answer: it sends events in `formats`, and published `published` last.
    pub fn events_flow(&mut self, formats: u8, published: Option<Seq>) {
        self.flowing = formats;
        self.head = self.head.max(published.unwrap_or_default());
    }

    /// The newest event known to exist.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.head
    }

    /// Records that event `seq` exists.
    pub fn observe(&mut self, seq: Seq) {
        self.head = self.head.max(seq);
    }

    /// The number of subscribers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether the room has no subscribers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// The subscriber of a connection.
    pub fn subscriber(&mut self, conn: ConnId) -> Option<&mut Subscriber> {
        let at = self.subscribers.binary_search_by_key(&conn, |s| s.conn).ok()?;
        Some(&mut self.subscribers[at])
    }

    /// All subscribers, ascending by connection.
    pub fn subscribers(&mut self) -> &mut [Subscriber] {
        &mut self.subscribers
    }

    /// Returns at most `most` subscribers, ascending by connection, from the first one at or after `from`. Also returns
    /// the connection that begins the next slice, or `None` after the last slice.
    pub fn slice(&mut self, from: ConnId, most: usize) -> (&mut [Subscriber], Option<ConnId>) {
        let start = self.subscribers.partition_point(|s| s.conn < from);
        let end = self.subscribers.len().min(start.saturating_add(most));
        let next = self.subscribers.get(end).map(|s| s.conn);
        (&mut self.subscribers[start..end], next)
    }

    /// Adds a subscriber, or replaces the one of the same connection.
    pub fn subscribe(&mut self, subscriber: Subscriber) {
        let found = self.subscribers.binary_search_by_key(&subscriber.conn, |s| s.conn);
        self.readers[subscriber.format.index()] += 1;
        match found {
            Ok(at) => {
                let before = std::mem::replace(&mut self.subscribers[at], subscriber);
                self.readers[before.format.index()] -= 1;
            }
            Err(at) => self.subscribers.insert(at, subscriber),
        }
    }

    /// Removes the subscriber of a connection.
    pub fn unsubscribe(&mut self, conn: ConnId) {
        if let Ok(at) = self.subscribers.binary_search_by_key(&conn, |s| s.conn) {
            let gone = self.subscribers.remove(at);
            self.readers[gone.format.index()] -= 1;
        }
    }

    /// Returns the next step of a subscriber that is catching up, and makes it live when it needs nothing more.
    ///
    /// `read_to_end`: the log was just read from its cursor to its end, while the owner was sending events.
    pub fn progress(&mut self, conn: ConnId, read_to_end: bool) -> Option<Progress> {
        let (head, flowing) = (self.head, self.flowing);
        let subscriber = self.subscriber(conn)?;
        if subscriber.mode == Mode::Live {
            return None;
        }
        if flowing & subscriber.format.bit() == 0 {
            return Some(Progress::Wait);
        }
        if subscriber.cursor < head || ((subscriber.announce || subscriber.must_read) && !read_to_end) {
            return Some(Progress::Read);
        }
        subscriber.mode = Mode::Live;
        subscriber.must_read = false;
        Some(Progress::Live { announce: std::mem::take(&mut subscriber.announce) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use proptest::prelude::*;

    fn conn(n: u32) -> ConnId {
        ConnId::new(ShardId(0), 0, n)
    }

    fn subscriber(cursor: i64) -> Subscriber {
        Subscriber {
            conn: conn(1),
            user: UserId(1),
            cursor: Seq(cursor),
            member_at: Seq(0),
            mode: Mode::CatchingUp,
            announce: false,
            must_read: false,
            format: Format::Json,
            deflate_bits: 0,
        }
    }

    #[test]
    fn makes_a_subscriber_live_only_when_events_flow_and_nothing_is_missing() {
        let mut room = Room::default();
        room.subscribe(subscriber(5));
        assert_eq!(room.unreported_interest(), Some(1));
        room.interest_reported(1);
        assert_eq!(room.progress(conn(1), false), Some(Progress::Wait));
        room.events_flow(1, Some(Seq(6)));
        assert_eq!(room.progress(conn(1), false), Some(Progress::Read));
        room.subscriber(conn(1)).unwrap().advance(Seq(6));
        assert_eq!(room.progress(conn(1), true), Some(Progress::Live { announce: false }));
        assert_eq!(room.subscribers()[0].fit(Seq(6)), Fit::Known);
        assert_eq!(room.subscribers()[0].fit(Seq(7)), Fit::Next);
        assert_eq!(room.subscribers()[0].fit(Seq(8)), Fit::Gap);
    }

    proptest! {
        #[test]
        fn puts_every_subscriber_in_exactly_one_slice(
            conns in proptest::collection::btree_set(0u32..1_000, 0..60),
            most in 1usize..20,
            gone in proptest::collection::vec(0u32..1_000, 0..20),
        ) {
            let mut room = Room::default();
            for n in conns.iter().rev() {
                room.subscribe(Subscriber { conn: conn(*n), ..subscriber(0) });
            }
            for n in &gone {
                room.unsubscribe(conn(*n));
            }
            let left: Vec<_> = conns.iter().filter(|n| !gone.contains(n)).map(|n| conn(*n)).collect();
            let (mut seen, mut from) = (Vec::new(), Some(conn(0)));
            while let Some(start) = from {
                let (slice, next) = room.slice(start, most);
                prop_assert!(slice.len() <= most);
                seen.extend(slice.iter().map(|s| s.conn));
                from = next;
            }
            prop_assert_eq!(seen, left.clone());
            prop_assert_eq!((room.len(), room.wanted()), (left.len(), u8::from(!left.is_empty())));
        }

        /// Commits, deliveries (some of them lost) and replay pages interleave in any way; the client sees 1, 2, 3 …
        #[test]
        fn gives_no_gap_and_no_duplicate_under_any_interleaving(actions in proptest::collection::vec(0u8..6, 1..200)) {
            let mut room = Room::default();
            let (mut committed, mut delivered_upto) = (0i64, 0i64);
            let mut seen: Vec<i64> = Vec::new();
            room.subscribe(subscriber(0));
            for action in actions {
                match action {
                    0 | 1 => committed += 1,
                    // The owner delivers the next event. Action 4 loses it on the way.
                    2..=4 if delivered_upto < committed && room.flowing != 0 => {
                        delivered_upto += 1;
                        if action == 4 { continue; }
                        let seq = Seq(delivered_upto);
                        room.observe(seq);
                        let subscriber = room.subscriber(conn(1)).unwrap();
                        match subscriber.fit(seq) {
                            Fit::Next => { subscriber.advance(seq); seen.push(seq.0); }
                            Fit::Known => {}
                            Fit::Gap => subscriber.mode = Mode::CatchingUp,
                        }
                    }
                    _ => {
                        if room.flowing == 0 {
                            room.events_flow(1, (delivered_upto > 0).then_some(Seq(delivered_upto)));
                        }
                        if room.progress(conn(1), false) == Some(Progress::Read) {
                            let subscriber = room.subscriber(conn(1)).unwrap();
                            let to = committed.min(subscriber.cursor.0 + 3);
                            for seq in subscriber.cursor.0 + 1..=to { seen.push(seq); }
                            subscriber.advance(Seq(to));
                            room.progress(conn(1), to == committed);
                        }
                    }
                }
            }
            prop_assert_eq!(&seen, &(1..=seen.len() as i64).collect::<Vec<_>>());
        }
    }
}
