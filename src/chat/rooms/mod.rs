//! A shard's conversations: who subscribes, which events wait for them, and what this shard owns.
//!
//! 1. [`Rooms::subscribe`] and [`Rooms::unsubscribe`] change a room; when a room's interest changes, the owner must
//!    hear of it ([`Rooms::next_interest`]) and answers ([`Rooms::events_flow`]).
//! 2. [`Rooms::receive`] puts an event into the backlog of its room.
//! 3. [`Rooms::fan_out`], at the end of a turn, serves every small room whole, then large rooms by slices, in turn, until
//!    they have had as many subscribers served as the small ones, or one slice.
//! 4. A subscriber gets, as one piece of shared bytes, everything of the backlog that its cursor lacks.
//!
//! Pure: time is an argument, everything that leaves goes through [`Outbox`].
//!
//! Invariants:
//! - beside little else, one turn sends to [`SLICE`] subscribers of large rooms. Without it, a message in a room of two
//!   would be 70 ms late whenever a room of 10,000 speaks;
//! - a slice is named by the first connection that it has not served, and subscribers are kept in that order. So nobody
//!   who joins or leaves between two slices moves another one past the mark. A subscriber that was passed over all the
//!   same would notice at the next event, by its cursor, and read the log;
//! - a backlog is bounded, in events and in bytes: when it is full, the room is served whole at once;
//! - a member that leaves is served before it stops being a subscriber ([`Rooms::serve_one`]): the events of its time
//!   as a member, and the one that removes it, are its to see;
//! - a room has a backlog exactly as long as it is in one of the two queues. Otherwise its events would wait until the
//!   next one comes.

mod backlog;
mod fan_out;
mod outbox;
#[cfg(test)]
mod tests;

pub use outbox::{Behind, Chunk, Outbox};

use crate::chat::published::PublishedIndex;
use crate::chat::subscribers::{Mode, Progress, Room, Subscriber};
use crate::ids::{ConnId, ConversationId, Seq};
use crate::mesh::event::{EncodedEvent, Published};
use backlog::Backlog;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// Subscribers of large rooms that one turn serves, and the size from which a room is large. A send costs 6 to 8 µs of
/// CPU, so a slice holds a turn up for about a millisecond.
pub const SLICE: usize = 128;

/// The conversations of one shard.
pub struct Rooms<C> {
    rooms: HashMap<ConversationId, Room>,
    /// Events that have not reached all of this shard's subscribers.
    backlogs: HashMap<ConversationId, Backlog<C>>,
    /// Rooms with a backlog, each in one of these once.
    small: VecDeque<ConversationId>,
    large: VecDeque<ConversationId>,
    /// Rooms whose interest may differ from what their owner knows.
    interest_changed: BTreeSet<ConversationId>,
    /// What this shard knows as the owner of conversations.
    pub owned: PublishedIndex,
    /// Bytes that may wait in one connection's queue.
    queue_bytes_max: usize,
}

impl<C: Chunk> Rooms<C> {
    /// No rooms yet; a connection's queue takes events up to `queue_bytes_max` bytes.
    #[must_use]
    pub fn new(queue_bytes_max: usize) -> Self {
        Self {
            rooms: HashMap::new(),
            backlogs: HashMap::new(),
            small: VecDeque::new(),
            large: VecDeque::new(),
            interest_changed: BTreeSet::new(),
            owned: PublishedIndex::default(),
            queue_bytes_max,
        }
    }

    /// A connection's subscriber in a conversation.
    pub fn subscriber(&mut self, conn: ConnId, conversation: ConversationId) -> Option<&mut Subscriber> {
        self.rooms.get_mut(&conversation)?.subscriber(conn)
    }

    /// Adds a subscriber to a conversation, or moves an existing one to the new cursor.
    pub fn subscribe(&mut self, subscriber: Subscriber, conversation: ConversationId) {
        let room = self.rooms.entry(conversation).or_default();
        room.subscribe(subscriber);
        if room.unreported_interest().is_some() {
            self.interest_changed.insert(conversation);
        }
    }

    /// Removes a connection's subscriber.
    pub fn unsubscribe(&mut self, conn: ConnId, conversation: ConversationId) {
        if let Some(room) = self.rooms.get_mut(&conversation) {
            room.unsubscribe(conn);
            if room.unreported_interest().is_some() {
                self.interest_changed.insert(conversation);
            }
        }
    }

    /// The next conversation whose owner must hear of another interest, and the bits of the formats wanted; 0 for none.
    /// The interest counts as reported: where it cannot be sent, [`Self::interest_not_sent`] says so.
    pub fn next_interest(&mut self) -> Option<(ConversationId, u8)> {
        while let Some(conversation) = self.interest_changed.pop_first() {
            let Some(room) = self.rooms.get_mut(&conversation) else { continue };
            let Some(formats) = room.unreported_interest() else { continue };
            room.interest_reported(formats);
            if formats == 0 {
                self.rooms.remove(&conversation);
            }
            return Some((conversation, formats));
        }
        None
    }

    /// The report of [`Self::next_interest`] had no room on its lane; it comes again.
    pub fn interest_not_sent(&mut self, conversation: ConversationId) {
        self.rooms.entry(conversation).or_default().interest_not_reported();
        self.interest_changed.insert(conversation);
    }

    /// The owner answers that events in `formats` flow. Returns the connections whose subscribers may take a step now.
    pub fn events_flow(&mut self, conversation: ConversationId, formats: u8, published: Published) -> Vec<ConnId> {
        let Some(room) = self.rooms.get_mut(&conversation) else { return Vec::new() };
        let upto = match published {
            Published::Upto(seq) => Some(seq),
            Published::Nothing | Published::Unknown => None,
        };
        // Up to here everything is in the backlog or behind the cursors.
        let seen = room.head();
        room.events_flow(formats, upto);
        let mut waiting = Vec::new();
        for subscriber in room.subscribers() {
            if subscriber.mode == Mode::Live && upto.is_some_and(|seq| seq > seen && subscriber.cursor < seq) {
                subscriber.mode = Mode::CatchingUp;
            }
            if subscriber.mode == Mode::CatchingUp {
                subscriber.must_read |= published == Published::Unknown;
                waiting.push(subscriber.conn);
            }
        }
        waiting
    }

    /// What a subscriber that is catching up needs next; makes it live when it needs nothing. With the cursor.
    pub fn progress(
        &mut self,
        conn: ConnId,
        conversation: ConversationId,
        read_to_end: bool,
    ) -> Option<(Progress, Seq)> {
        let room = self.rooms.get_mut(&conversation)?;
        let progress = room.progress(conn, read_to_end)?;
        Some((progress, room.subscriber(conn)?.cursor))
    }

    /// An event for this shard's subscribers.
    pub fn receive(&mut self, event: Arc<EncodedEvent>, out: &mut impl Outbox<Chunk = C>) {
        let conversation = event.conversation;
        let Some(room) = self.rooms.get_mut(&conversation) else { return };
        if let Some(seq) = event.seq {
            room.observe(seq); // also without subscribers: the next one to subscribe must know that it exists
        }
        if room.is_empty() {
            return;
        }
        let is_large = room.len() > SLICE;
        let backlog = self.backlogs.entry(conversation).or_insert_with(|| {
            if is_large { &mut self.large } else { &mut self.small }.push_back(conversation);
            Backlog::default()
        });
        backlog.push(event);
        while self.backlogs.get(&conversation).is_some_and(Backlog::is_full) {
            self.serve_room(conversation, usize::MAX, out);
        }
    }

    /// Whether events wait for subscribers.
    #[must_use]
    pub fn have_backlog(&self) -> bool {
        !self.backlogs.is_empty()
    }

    /// Serves what has gathered in this turn; whether something is left for the next one.
    pub fn fan_out(&mut self, out: &mut impl Outbox<Chunk = C>) -> bool {
        let mut served_small = 0;
        while let Some(conversation) = self.small.pop_front() {
            served_small += self.serve_room(conversation, usize::MAX, out);
            self.backlogs.remove(&conversation);
        }
        // Large rooms get as much of a turn as small ones took, so that neither waits for the other.
        let mut served_large = 0;
        while let Some(conversation) = self.large.pop_front() {
            served_large += self.serve_room(conversation, SLICE, out);
            if self.backlogs.get(&conversation).is_some_and(|backlog| !backlog.events.is_empty()) {
                self.large.push_back(conversation);
            } else {
                self.backlogs.remove(&conversation);
            }
            if served_large >= served_small.max(SLICE) {
                break;
            }
        }
        !self.large.is_empty()
    }

    /// Serves one connection what waits for it in a room, before it stops being a subscriber.
    pub fn serve_one(&mut self, conn: ConnId, conversation: ConversationId, out: &mut impl Outbox<Chunk = C>) {
        if self.subscriber(conn, conversation).is_some() {
            self.serve_slice(conversation, conn, 1, out);
        }
    }

    /// Serves the next `most` subscribers of a room; how many there were.
    fn serve_room(&mut self, conversation: ConversationId, most: usize, out: &mut impl Outbox<Chunk = C>) -> usize {
        let Some(from) = self.backlogs.get(&conversation).map(|backlog| backlog.next) else { return 0 };
        let (served, next) = self.serve_slice(conversation, from, most, out);
        if let Some(backlog) = self.backlogs.get_mut(&conversation) {
            backlog.pass(next);
        }
        served
    }

    /// Offers a room's backlog to at most `most` subscribers from `from` on: how many there were, and who comes next.
    fn serve_slice(
        &mut self,
        conversation: ConversationId,
        from: ConnId,
        most: usize,
        out: &mut impl Outbox<Chunk = C>,
    ) -> (usize, Option<ConnId>) {
        let (Some(backlog), Some(room)) = (self.backlogs.get_mut(&conversation), self.rooms.get_mut(&conversation))
        else {
            return (0, None); // the last subscriber has left
        };
        let (subscribers, next) = room.slice(from, most);
        let count = subscribers.len();
        fan_out::serve(conversation, backlog, subscribers, self.queue_bytes_max, out);
        (count, next)
    }
}
