//! A shard's conversations: who subscribes, which events wait for them, and what this shard owns.
//!
//! 1. [`Rooms::subscribe`] and [`Rooms::unsubscribe`] change a room. When its interest changes, the shard registers it
//!    with the owner ([`Rooms::next_interest`]), and the owner answers ([`Rooms::events_flow`]).
//! 2. [`Rooms::receive`] puts an event into the backlog of its room.
//! 3. [`Rooms::fan_out`] runs at the end of a turn. It serves every small room completely, and then large rooms in
//!    turn, slice by slice. It stops when it has served as many subscribers of large rooms as of small ones, or one
//!    slice.
//! 4. A subscriber receives all backlog events after its cursor as one piece of shared bytes.
//!
//! Pure: time is an argument, and all output goes through [`Outbox`].
//!
//! Invariants:
//! - with few small rooms, one turn serves large rooms for a bounded time, by what a send takes now. Without this
//!   bound, each message in a room of 10,000 would delay a message in a room of two by 70 ms;
//! - a slice is named by the first connection that it has not served, and subscribers are in that order. So joining and
//!   leaving between two slices moves no other subscriber past the mark. If a subscriber were skipped anyway, its
//!   cursor would show it at the next event, and it would read the log;
//! - a backlog is bounded in events and in bytes. When it is full, the room is served completely at once;
//! - a member who leaves is served before the subscription ends ([`Rooms::serve_one`]). The member may see the events
//!   up to and including the one that removes them;
//! - a room has a backlog exactly as long as it is in one of the two queues. Otherwise its events would wait for the
//!   next one.

mod backlog;
mod fan_out;
mod outbox;
#[cfg(test)]
mod tests;

pub use outbox::{Behind, Outbox, SharedBytes};

use crate::chat::published::PublishedIndex;
use crate::chat::subscribers::{Mode, Progress, Room, Subscriber};
use crate::ids::{ConnId, ConversationId, Seq, UserId};
use crate::mesh::event::{EncodedEvent, Published};
use backlog::Backlog;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a slice of a large room may hold a turn up.
const SLICE_TIME: Duration = Duration::from_micros(300);
/// The fewest subscribers of a slice: with less, a turn costs much beside its sends. A larger room is large.
const SLICE_MIN: usize = 32;
/// The most subscribers of a slice.
const SLICE_MAX: usize = 128;

/// How many subscribers of large rooms one turn serves, when a send takes so long.
fn slice(send_time: Duration) -> usize {
    let sends = SLICE_TIME.as_nanos() / send_time.as_nanos().max(1);
    (sends as usize).clamp(SLICE_MIN, SLICE_MAX)
}

/// The conversations of one shard.
pub struct Rooms<C> {
    by_conversation: HashMap<ConversationId, Room>,
    /// Events that have not reached all of this shard's subscribers.
    backlogs: HashMap<ConversationId, Backlog<C>>,
    /// Rooms with a backlog. Each is once in one of these two queues.
    small: VecDeque<ConversationId>,
    large: VecDeque<ConversationId>,
    /// Rooms whose interest may differ from the one registered with their owner.
    interest_changed: BTreeSet<ConversationId>,
    /// The conversations that this shard owns.
    pub owned: PublishedIndex,
    /// The most bytes in one connection's queue.
    queue_bytes_max: usize,
}

impl<C: SharedBytes> Rooms<C> {
    /// Without rooms. A connection's queue holds at most `queue_bytes_max` bytes of events.
    #[must_use]
    pub fn new(queue_bytes_max: usize) -> Self {
        Self {
            by_conversation: HashMap::new(),
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
        self.by_conversation.get_mut(&conversation)?.subscriber(conn)
    }

    /// Adds a subscriber to a conversation, or moves an existing one to the new cursor.
    pub fn subscribe(&mut self, subscriber: Subscriber, conversation: ConversationId) {
        let room = self.by_conversation.entry(conversation).or_default();
        room.subscribe(subscriber);
        if room.unreported_interest().is_some() {
            self.interest_changed.insert(conversation);
        }
    }

    /// Removes a connection's subscriber.
    pub fn unsubscribe(&mut self, conn: ConnId, conversation: ConversationId) {
        if let Some(room) = self.by_conversation.get_mut(&conversation) {
            room.unsubscribe(conn);
            if room.unreported_interest().is_some() {
                self.interest_changed.insert(conversation);
            }
        }
    }

    /// The next interest to register with an owner: the conversation and the bits of its formats; 0 for none. It counts
    /// as registered. If it cannot be sent, call [`Self::interest_not_sent`].
    pub fn next_interest(&mut self) -> Option<(ConversationId, u8)> {
        while let Some(conversation) = self.interest_changed.pop_first() {
            let Some(room) = self.by_conversation.get_mut(&conversation) else { continue };
            let Some(formats) = room.unreported_interest() else { continue };
            room.interest_reported(formats);
            if formats == 0 {
                self.by_conversation.remove(&conversation);
            }
            return Some((conversation, formats));
        }
        None
    }

    /// Records that the lane was full for the interest of [`Self::next_interest`], which then returns it again.
    pub fn interest_not_sent(&mut self, conversation: ConversationId) {
        self.by_conversation.entry(conversation).or_default().interest_not_reported();
        self.interest_changed.insert(conversation);
    }

    /// Records the owner's answer that it sends events in `formats`. Returns the connections that can continue now.
    pub fn events_flow(&mut self, conversation: ConversationId, formats: u8, published: Published) -> Vec<ConnId> {
        let Some(room) = self.by_conversation.get_mut(&conversation) else { return Vec::new() };
        let upto = match published {
            Published::Upto(seq) => Some(seq),
            Published::Nothing | Published::Unknown => None,
        };
        // Every event so far is in the backlog, or not after the cursors.
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

    /// The next step of a subscriber that is catching up, and its cursor. Makes it live when it needs nothing more.
    pub fn progress(
        &mut self,
        conn: ConnId,
        conversation: ConversationId,
        read_to_end: bool,
    ) -> Option<(Progress, Seq)> {
        let room = self.by_conversation.get_mut(&conversation)?;
        let progress = room.progress(conn, read_to_end)?;
        Some((progress, room.subscriber(conn)?.cursor))
    }

    /// Receives an event for this shard's subscribers, except `hidden_from`.
    pub fn receive(&mut self, event: Arc<EncodedEvent>, hidden_from: Vec<UserId>, out: &mut impl Outbox<Chunk = C>) {
        let conversation = event.conversation;
        let Some(room) = self.by_conversation.get_mut(&conversation) else { return };
        if let Some(seq) = event.seq {
            room.observe(seq); // also without subscribers, because the next subscriber must know that it exists
        }
        if room.is_empty() {
            return;
        }
        let is_large = room.len() > SLICE_MIN;
        let backlog = self.backlogs.entry(conversation).or_insert_with(|| {
            if is_large { &mut self.large } else { &mut self.small }.push_back(conversation);
            Backlog::default()
        });
        backlog.push(event, hidden_from);
        while self.backlogs.get(&conversation).is_some_and(Backlog::is_full) {
            self.serve_room(conversation, usize::MAX, out);
        }
    }

    /// The number of events that wait for subscribers, over all rooms, and when the oldest was published.
    #[must_use]
    pub fn backlog(&self) -> (usize, Option<Instant>) {
        let events = self.backlogs.values().map(|backlog| backlog.events.len()).sum();
        let oldest = self.backlogs.values().filter_map(|backlog| Some(backlog.events.front()?.event.published_at));
        (events, oldest.min())
    }

    /// Whether events wait for subscribers.
    #[must_use]
    pub fn have_backlog(&self) -> bool {
        !self.backlogs.is_empty()
    }

    /// Serves the events of this turn. Returns whether some are left for the next turn.
    pub fn fan_out(&mut self, out: &mut impl Outbox<Chunk = C>) -> bool {
        let mut served_small = 0;
        while let Some(conversation) = self.small.pop_front() {
            served_small += self.serve_room(conversation, usize::MAX, out);
            self.backlogs.remove(&conversation);
        }
        // Large rooms get the same share of a turn as small ones, so that neither waits for the other.
        let slice = slice(out.send_time());
        let mut served_large = 0;
        while let Some(conversation) = self.large.pop_front() {
            served_large += self.serve_room(conversation, slice, out);
            if self.backlogs.get(&conversation).is_some_and(|backlog| !backlog.events.is_empty()) {
                self.large.push_back(conversation);
            } else {
                self.backlogs.remove(&conversation);
            }
            if served_large >= served_small.max(slice) {
                break;
            }
        }
        !self.large.is_empty()
    }

    /// Serves the backlog of a room to one connection, before its subscription ends.
    pub fn serve_one(&mut self, conn: ConnId, conversation: ConversationId, out: &mut impl Outbox<Chunk = C>) {
        if self.subscriber(conn, conversation).is_some() {
            self.serve_slice(conversation, conn, 1, out);
        }
    }

    /// Serves the next `most` subscribers of a room. Returns their number.
    fn serve_room(&mut self, conversation: ConversationId, most: usize, out: &mut impl Outbox<Chunk = C>) -> usize {
        let Some(from) = self.backlogs.get(&conversation).map(|backlog| backlog.next) else { return 0 };
        let (served, next) = self.serve_slice(conversation, from, most, out);
        if let Some(backlog) = self.backlogs.get_mut(&conversation) {
            backlog.pass(next);
        }
        served
    }

    /// Serves a room's backlog to at most `most` subscribers from `from` on. Returns their number, and the next
    /// connection.
    fn serve_slice(
        &mut self,
        conversation: ConversationId,
        from: ConnId,
        most: usize,
        out: &mut impl Outbox<Chunk = C>,
    ) -> (usize, Option<ConnId>) {
        let (Some(backlog), Some(room)) =
            (self.backlogs.get_mut(&conversation), self.by_conversation.get_mut(&conversation))
        else {
            return (0, None); // the last subscriber has left
        };
        let (subscribers, next) = room.slice(from, most);
        let count = subscribers.len();
        fan_out::serve(conversation, backlog, subscribers, self.queue_bytes_max, out);
        (count, next)
    }
}
