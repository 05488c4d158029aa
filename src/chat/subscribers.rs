//! One room on one shard: its subscribers, each with a cursor.
//!
//! ```text
//!                    ┌──────── gap, queue full, fell behind the head ────────┐
//!                    ▼                                                       │
//!   subscribe ──► CatchingUp ──── log read up to the head, events flow ───► Live
//! ```
//!
//! Invariant, by arithmetic: a subscriber receives event `seq` only if its cursor is `seq − 1`. Whatever happens
//! elsewhere (a lost wake-up, a restart of the owner, a full queue), the worst that can reach a client is delay.

use crate::ids::{ConnId, Seq, UserId};
use crate::wire::Format;

/// How a subscriber gets its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// From the backlog, as they come.
    Live,
    /// From a replay of the log; live events pass it by.
    CatchingUp,
}

/// One subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Subscriber {
    /// The connection.
    pub conn: ConnId,
    /// The connection's user.
    pub user: UserId,
    /// The last event that was queued for it.
    pub cursor: Seq,
    /// How it gets the next one.
    pub mode: Mode,
    /// Send it `caught_up` when it is live again.
    pub announce: bool,
    /// Its cursor does not come from a read of the log: it must read before it may be live.
    pub must_read: bool,
    /// The serialisation that it reads.
    pub format: Format,
    /// Window bits of permessage-deflate; 0 without compression.
    pub deflate_bits: u8,
}

/// What one event means for one subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fit {
    /// It is the next one: send it, then call [`Subscriber::advance`].
    Next,
    /// The subscriber has it already, or will get it from the replay.
    Known,
    /// The subscriber has missed something: start a replay.
    Gap,
}

impl Subscriber {
    /// What event `seq` means for this subscriber.
    #[must_use]
    pub fn fit(&self, seq: Seq) -> Fit {
        match self.mode {
            Mode::CatchingUp => Fit::Known,
            Mode::Live if seq == self.cursor.next() => Fit::Next,
            Mode::Live if seq <= self.cursor => Fit::Known,
            Mode::Live => Fit::Gap,
        }
    }

    /// Event `seq` was queued for it.
    pub fn advance(&mut self, seq: Seq) {
        self.cursor = self.cursor.max(seq);
    }
}

/// What a subscriber that is catching up needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Nothing: it is live now.
    Live {
        /// Send `caught_up`.
        announce: bool,
    },
    /// A read of the log after its cursor.
    Read,
    /// The owner's answer that events flow.
    Wait,
}

/// A conversation's subscribers on one shard, and what the shard knows of the conversation.
#[derive(Debug, Default)]
pub struct Room {
    /// Ascending by connection: looked up by halving, visited in slices that a change in between cannot confuse.
    subscribers: Vec<Subscriber>,
    /// How many read each format, by [`Format::index`].
    readers: [u32; Format::ALL.len()],
    /// The newest event known to exist.
    head: Seq,
    /// Formats in which events flow, as the owner has confirmed.
    flowing: u8,
    /// The interest that the owner knows of; `None` before the first report.
    reported: Option<u8>,
}

impl Room {
    /// Bits of the formats that this shard's subscribers read.
    #[must_use]
    pub fn wanted(&self) -> u8 {
        Format::ALL.iter().filter(|format| self.readers[format.index()] > 0).fold(0, |bits, format| bits | format.bit())
    }

    /// The interest to report to the owner, if the owner knows of another one.
    #[must_use]
    pub fn unreported_interest(&self) -> Option<u8> {
        let wanted = self.wanted();
        (self.reported != Some(wanted)).then_some(wanted)
    }

    /// The interest was reported to the owner.
    pub fn interest_reported(&mut self, formats: u8) {
        self.reported = Some(formats);
        self.flowing &= formats;
    }

    /// The report could not be sent after all.
    pub fn interest_not_reported(&mut self) {
        self.reported = None;
    }

    /// The owner answers that events in `formats` flow, and what it published last.
    pub fn events_flow(&mut self, formats: u8, published: Option<Seq>) {
        self.flowing = formats;
        self.head = self.head.max(published.unwrap_or_default());
    }

    /// The newest event known to exist.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.head
    }

    /// An event exists.
    pub fn observe(&mut self, seq: Seq) {
        self.head = self.head.max(seq);
    }

    /// The number of subscribers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.subscribers.len()
    }

    /// Whether nobody subscribes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.subscribers.is_empty()
    }

    /// The subscriber of a connection.
    pub fn subscriber(&mut self, conn: ConnId) -> Option<&mut Subscriber> {
        let at = self.subscribers.binary_search_by_key(&conn, |s| s.conn).ok()?;
        Some(&mut self.subscribers[at])
    }

    /// All of them, ascending by connection.
    pub fn subscribers(&mut self) -> &mut [Subscriber] {
        &mut self.subscribers
    }

    /// At most `most` subscribers, ascending by connection, beginning with the first one at or after `from`; and the
    /// connection to begin with next time, `None` when these were the last.
    pub fn slice(&mut self, from: ConnId, most: usize) -> (&mut [Subscriber], Option<ConnId>) {
        let start = self.subscribers.partition_point(|s| s.conn < from);
        let end = self.subscribers.len().min(start.saturating_add(most));
        let next = self.subscribers.get(end).map(|s| s.conn);
        (&mut self.subscribers[start..end], next)
    }

    /// Adds a subscriber, or moves an existing one to this cursor.
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

    /// Removes a connection's subscriber.
    pub fn unsubscribe(&mut self, conn: ConnId) {
        if let Ok(at) = self.subscribers.binary_search_by_key(&conn, |s| s.conn) {
            let gone = self.subscribers.remove(at);
            self.readers[gone.format.index()] -= 1;
        }
    }

    /// What a subscriber that is catching up needs next; makes it live when it needs nothing.
    ///
    /// `read_to_end`: the log was just read after its cursor, to its end, while events were flowing.
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

        /// Any interleaving of commits, deliveries (some lost), replay pages and full queues: the client sees 1, 2, 3 …
        #[test]
        fn gives_no_gap_and_no_duplicate_under_any_interleaving(actions in proptest::collection::vec(0u8..6, 1..200)) {
            let mut room = Room::default();
            let (mut committed, mut delivered_upto) = (0i64, 0i64);
            let mut seen: Vec<i64> = Vec::new();
            room.subscribe(subscriber(0));
            for action in actions {
                match action {
                    0 | 1 => committed += 1,
                    // The owner delivers the next event; it may be lost on the way (4).
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
