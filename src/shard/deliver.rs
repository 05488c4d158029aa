//! Events into the queues of this shard's subscribers.
//!
//! 1. An event arrives: it joins the backlog of its room.
//! 2. At the end of the turn every small room with a backlog is served whole; then large rooms by slices, in turn, until
//!    they have had as many subscribers served as the small ones, or one slice.
//! 3. A subscriber is given, as one piece of shared bytes, everything of the backlog that its cursor lacks.
//! 4. An event leaves the backlog when the room has been gone through once since it came.
//!
//! Invariants:
//! - beside little else, one turn sends to [`SLICE`] subscribers of large rooms, so nobody waits for the last member of a
//!   room of 10,000: without it, a message in a room of two would be 70 ms late whenever the large room speaks;
//! - a slice is named by the first connection that it has not served, and subscribers are kept in that order, so
//!   whoever comes or goes between two slices moves nobody past the mark. Were somebody passed over all the same, its
//!   cursor would say so at the next event, and it would read the log;
//! - a backlog is bounded, in events and in bytes: when it is full the room is served whole at once;
//! - who stops being a member is served before it stops being a subscriber ([`Shard::serve_before_leaving`]).

use super::Shard;
use super::session::{Client, Session};
use crate::chat::subscribers::{Phase, Step, Subscriber};
use crate::ids::{ConnId, ConversationId, Seq, UserId};
use crate::latency::Stage;
use crate::limits::SLOW_CONSUMER_GRACE_MS;
use crate::mesh::frame::EncodedEvent;
use crate::net::{Chunk, Sockets};
use crate::wire::ws::deflate::Deflater;
use crate::wire::ws::encoder;
use crate::wire::{Format, event};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// Subscribers of large rooms that one turn serves, and the size from which a room is large. A send costs 6 to 8 µs of
/// CPU, so a slice holds a turn up for about a millisecond.
const SLICE: usize = 128;
/// Events that wait in one room: more than one turn brings.
const BACKLOG_EVENTS_MAX: usize = 4_096;
/// Bytes of frames that wait in one room.
const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes joined into one piece: enough that the calls cost nothing beside the copying.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// What one room has to give its subscribers. Kept until `fan_out` finds it empty, so that its room is in one of the two
/// queues exactly as long as it has one.
pub(super) struct Backlog {
    events: VecDeque<Waiting>,
    /// Bytes of their frames.
    bytes: usize,
    /// The first subscriber that the current round has not served.
    next: ConnId,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { events: VecDeque::new(), bytes: 0, next: ConnId::FIRST }
    }
}

impl Backlog {
    fn push(&mut self, event: Arc<EncodedEvent>) {
        self.bytes += frame_bytes(&event);
        let (from, shared) = (self.next, Shared::default());
        self.events.push_back(Waiting { event, from, wrapped: false, done: false, shared });
    }

    fn is_full(&self) -> bool {
        self.events.len() >= BACKLOG_EVENTS_MAX || self.bytes >= BACKLOG_BYTES_MAX
    }

    /// Everybody up to `next` has been served, or up to the end: what has been offered to all is done with.
    fn pass(&mut self, next: Option<ConnId>) {
        self.next = next.unwrap_or(ConnId::FIRST);
        for waiting in &mut self.events {
            waiting.done = waiting.wrapped && next.is_none_or(|next| next >= waiting.from);
            waiting.wrapped |= next.is_none();
            waiting.done |= waiting.wrapped && waiting.from == ConnId::FIRST;
        }
        while self.events.front().is_some_and(|waiting| waiting.done) {
            if let Some(gone) = self.events.pop_front() {
                self.bytes -= frame_bytes(&gone.event);
            }
        }
    }
}

fn frame_bytes(event: &EncodedEvent) -> usize {
    event.frames.iter().flatten().map(|frame| frame.len()).sum()
}

struct Waiting {
    event: Arc<EncodedEvent>,
    /// Where the round stood when the event came.
    from: ConnId,
    /// The round has begun anew since.
    wrapped: bool,
    /// It has been offered to everybody who was there when it came.
    done: bool,
    shared: Shared,
}

/// An event's frames on this shard: what receivers share. Made when the first receiver needs them.
#[derive(Default)]
struct Shared {
    plain: [Option<Chunk>; 2],
    sender: [Option<Chunk>; 2],
    /// For windows of 2^15 bytes, which is what nearly all clients have.
    deflated: [Option<Chunk>; 2],
}

impl Waiting {
    fn plain(&mut self, format: Format) -> Option<Chunk> {
        let slot = &mut self.shared.plain[format.index()];
        if slot.is_none() {
            *slot = self.event.frames[format.index()].clone().map(Chunk::new);
        }
        slot.clone()
    }

    /// The copy for the sender's own connections.
    fn sender(&mut self, format: Format) -> Option<Chunk> {
        let slot = &mut self.shared.sender[format.index()];
        if slot.is_none() {
            let (_, key) = self.event.sender_key.as_ref()?;
            let frame = self.event.frames[format.index()].as_ref()?;
            *slot = event::with_data_field(frame, format, &self.event.kind, "client_message_id", key).map(Chunk::new);
        }
        slot.clone()
    }

    fn deflated(&mut self, deflater: &mut Deflater, format: Format, bits: u8) -> Option<Chunk> {
        let slot = &mut self.shared.deflated[format.index()];
        if bits == 15 && slot.is_some() {
            return slot.clone();
        }
        let frame = self.event.frames[format.index()].as_ref()?;
        let compressed = deflater.deflate(encoder::payload_of(frame), bits)?;
        let chunk = Chunk::new(encoder::frame(format.message_kind().opcode(), true, &compressed));
        if bits == 15 {
            *slot = Some(chunk.clone());
        }
        Some(chunk)
    }

    /// What this session is to be sent.
    fn chunk_for(&mut self, session: &Session, deflater: &mut Deflater) -> Option<Chunk> {
        match (&self.event.sender_key, session.deflate_window_bits) {
            (Some((user, _)), _) if *user == session.user => self.sender(session.format),
            (_, Some(bits)) => self.deflated(deflater, session.format, bits).or_else(|| self.plain(session.format)),
            (_, None) => self.plain(session.format),
        }
    }

    /// A user whose copy differs from everybody else's.
    fn special_user(&self) -> Option<UserId> {
        self.event.sender_key.as_ref().map(|(user, _)| *user)
    }
}

/// The same bytes for all subscribers that stand at the same place: several events joined into one piece.
struct Piece {
    format: Format,
    /// The first event in it, by its place in the backlog, and the first one after it.
    first: usize,
    end: usize,
    chunk: Chunk,
}

/// Where the bytes for a connection go.
trait Outbox {
    fn queued_bytes(&self, conn: ConnId) -> usize;
    fn send(&mut self, conn: ConnId, chunk: Chunk);
}

impl Outbox for Sockets {
    fn queued_bytes(&self, conn: ConnId) -> usize {
        Sockets::queued_bytes(self, conn)
    }

    fn send(&mut self, conn: ConnId, chunk: Chunk) {
        Sockets::send(self, conn, chunk);
    }
}

/// Serving one slice of a room: what it shares, and what it counts.
struct Serving<'a, O: Outbox> {
    events: &'a mut VecDeque<Waiting>,
    /// The seq of the first event when all of them are consecutive and for everybody: then a subscriber's cursor is its
    /// place among them.
    consecutive_from: Option<Seq>,
    /// Users who get something else than the others, ascending.
    special_users: Vec<UserId>,
    pieces: Vec<Piece>,
    sockets: &'a mut O,
    deflater: &'a mut Deflater,
    queue_max: usize,
    /// Differences of the number of deliveries from one event to the next.
    delivered: Vec<i64>,
    bytes: u64,
}

impl<'a, O: Outbox> Serving<'a, O> {
    fn new(
        events: &'a mut VecDeque<Waiting>,
        sockets: &'a mut O,
        deflater: &'a mut Deflater,
        queue_max: usize,
    ) -> Self {
        let first = events.front().and_then(|waiting| waiting.event.seq);
        let consecutive = |(at, waiting): (usize, &Waiting)| {
            let event = &waiting.event;
            event.except_user.is_none()
                && event.except_connection.is_none()
                && event.seq.is_some_and(|seq| first.is_some_and(|first| seq.0 == first.0 + at as i64))
        };
        let consecutive_from = first.filter(|_| events.iter().enumerate().all(consecutive));
        let mut special_users: Vec<UserId> = events.iter().filter_map(Waiting::special_user).collect();
        special_users.sort_unstable();
        special_users.dedup();
        let (delivered, pieces) = (vec![0; events.len() + 1], Vec::new());
        Self { events, consecutive_from, special_users, pieces, sockets, deflater, queue_max, delivered, bytes: 0 }
    }

    fn count(&mut self, first: usize, end: usize) {
        self.delivered[first] += 1;
        self.delivered[end] -= 1;
    }

    /// The piece that begins with event `first`.
    fn piece(&mut self, format: Format, first: usize) -> Option<(usize, Chunk)> {
        // Nearly everybody stands where the one before stood.
        if let Some(piece) = self.pieces.iter().rev().find(|piece| piece.first == first && piece.format == format) {
            return Some((piece.end, piece.chunk.clone()));
        }
        let mut end = first;
        let mut bytes = 0;
        while let Some(frame) = self.events.get(end).and_then(|w| w.event.frames[format.index()].as_ref()) {
            if end > first && bytes + frame.len() > PIECE_BYTES_MAX {
                break;
            }
            bytes += frame.len();
            end += 1;
        }
        let chunk = match end - first {
            0 => return None,
            1 => self.events[first].plain(format)?,
            _ => {
                let mut joined = Vec::with_capacity(bytes);
                for waiting in self.events.range(first..end) {
                    joined.extend_from_slice(waiting.event.frames[format.index()].as_ref()?);
                }
                Chunk::new(joined)
            }
        };
        self.pieces.push(Piece { format, first, end, chunk: chunk.clone() });
        Some((end, chunk))
    }

    /// Gives a subscriber what it lacks, as far as that is possible.
    fn serve(&mut self, subscriber: &mut Subscriber, session: &Session) -> Served {
        if subscriber.phase == Phase::CatchingUp || self.serve_together(subscriber, session) {
            return Served::Done;
        }
        for at in 0..self.events.len() {
            match self.serve_one(at, subscriber, session) {
                Served::Done => {}
                short => return short,
            }
        }
        Served::Done
    }

    /// Gives a subscriber that is up to date what it lacks, in pieces that others get too. False when that is not
    /// possible: then each event must be looked at by itself.
    fn serve_together(&mut self, subscriber: &mut Subscriber, session: &Session) -> bool {
        let Some(first_seq) = self.consecutive_from else { return false };
        if session.deflate_window_bits.is_some() || subscriber.cursor.0 + 1 < first_seq.0 {
            return false;
        }
        if self.special_users.binary_search(&session.user).is_ok() {
            return false;
        }
        let mut at = (subscriber.cursor.0 + 1 - first_seq.0) as usize;
        while at < self.events.len() {
            let Some((end, chunk)) = self.piece(session.format, at) else { return false };
            let bytes = chunk.bytes().len();
            if self.sockets.queued_bytes(session.conn) + bytes > self.queue_max {
                return false;
            }
            self.sockets.send(session.conn, chunk);
            self.bytes += bytes as u64;
            self.count(at, end);
            subscriber.advance(Seq(first_seq.0 + end as i64 - 1));
            at = end;
        }
        true
    }

    /// Gives one subscriber one event. What it cannot be given, it will read from the log.
    fn serve_one(&mut self, at: usize, subscriber: &mut Subscriber, session: &Session) -> Served {
        let waiting = &mut self.events[at];
        let step = match waiting.event.seq {
            Some(seq) => subscriber.on_event(seq),
            // What passes is for those who are up to date; nobody catches up on it.
            None if subscriber.phase == Phase::Live => Step::Deliver,
            None => Step::Skip,
        };
        // No cursor says that it has had this one: the round may have begun anew in the middle of a slice.
        let had_it = waiting.event.seq.is_none() && waiting.wrapped && subscriber.conn >= waiting.from;
        if step == Step::Skip
            || had_it
            || waiting.event.except_user == Some(session.user)
            || waiting.event.except_connection == Some(session.conn)
        {
            return Served::Done;
        }
        let seq = waiting.event.seq;
        let chunk = waiting.chunk_for(session, self.deflater);
        match chunk {
            Some(chunk) if step == Step::Deliver => {
                let bytes = chunk.bytes().len();
                if self.sockets.queued_bytes(session.conn) + bytes > self.queue_max {
                    return if seq.is_some() { Served::QueueFull } else { Served::Done };
                }
                self.sockets.send(session.conn, chunk);
                self.bytes += bytes as u64;
                self.count(at, at + 1);
                if let Some(seq) = seq {
                    subscriber.advance(seq);
                }
                Served::Done
            }
            _ if seq.is_none() => Served::Done,
            // A gap, or an event that could not be serialised: the log has it.
            _ => Served::FellBehind,
        }
    }
}

/// What became of offering a subscriber the backlog.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Served {
    /// It has all of it, or reads the log anyway.
    Done,
    /// Its queue has no room: from here on it is behind, and reads the log once its queue has drained.
    QueueFull,
    /// It lacks something that is not here: it must read the log.
    FellBehind,
}

impl Shard {
    /// An event for this shard's subscribers.
    pub(super) fn on_event(&mut self, event: Arc<EncodedEvent>) {
        let conversation = event.conversation;
        let Some(room) = self.rooms.get_mut(&conversation) else { return };
        if let Some(seq) = event.seq {
            room.saw(seq); // also when nobody is there: the next one to subscribe must know that it exists
        }
        if room.is_empty() {
            return;
        }
        let is_large = room.len() > SLICE;
        let backlog = self.backlogs.entry(conversation).or_insert_with(|| {
            if is_large { &mut self.large_rooms } else { &mut self.small_rooms }.push_back(conversation);
            Backlog::default()
        });
        backlog.push(event);
        while self.backlogs.get(&conversation).is_some_and(Backlog::is_full) {
            self.serve_room(conversation, usize::MAX);
        }
    }

    /// Serves what has gathered in this turn; says whether something is left for the next one.
    pub(super) fn fan_out(&mut self) -> bool {
        let mut served_small = 0;
        while let Some(conversation) = self.small_rooms.pop_front() {
            served_small += self.serve_room(conversation, usize::MAX);
            self.backlogs.remove(&conversation);
        }
        // Large rooms get as much of a turn as small ones took, so that neither waits for the other.
        let mut served_large = 0;
        while let Some(conversation) = self.large_rooms.pop_front() {
            served_large += self.serve_room(conversation, SLICE);
            if self.backlogs.get(&conversation).is_some_and(|backlog| !backlog.events.is_empty()) {
                self.large_rooms.push_back(conversation);
            } else {
                self.backlogs.remove(&conversation);
            }
            if served_large >= served_small.max(SLICE) {
                break;
            }
        }
        !self.large_rooms.is_empty()
    }

    /// Serves the next `most` subscribers of a room; how many there were.
    fn serve_room(&mut self, conversation: ConversationId, most: usize) -> usize {
        let Some(from) = self.backlogs.get(&conversation).map(|backlog| backlog.next) else { return 0 };
        let (served, next) = self.serve_slice(conversation, from, most);
        if let Some(backlog) = self.backlogs.get_mut(&conversation) {
            backlog.pass(next);
        }
        served
    }

    /// Gives one connection what waits for it in a room, before it stops being a subscriber: what was said while it was a
    /// member is its to see, and so is the event that says that it is none any more.
    pub(super) fn serve_before_leaving(&mut self, conn: ConnId, conversation: ConversationId) {
        let subscribes = self.rooms.get_mut(&conversation).is_some_and(|room| room.subscriber(conn).is_some());
        if subscribes {
            self.serve_slice(conversation, conn, 1);
        }
    }

    /// Offers a room's backlog to at most `most` subscribers from `from` on: how many there were, and who comes next.
    fn serve_slice(&mut self, conversation: ConversationId, from: ConnId, most: usize) -> (usize, Option<ConnId>) {
        let (Some(backlog), Some(room)) = (self.backlogs.get_mut(&conversation), self.rooms.get_mut(&conversation))
        else {
            return (0, None); // the last subscriber has left: nobody is owed anything
        };
        let began = Instant::now();
        let (subscribers, next) = room.slice(from, most);
        let count = subscribers.len();
        let queue_max = self.settings.limits.max_outbound_queue_bytes;
        let mut serving = Serving::new(&mut backlog.events, &mut self.sockets, &mut self.deflater, queue_max);
        for subscriber in subscribers {
            let slot = subscriber.conn.slot() as usize;
            let Some(session) = self.clients.get_mut(slot).and_then(Client::session_mut) else { continue };
            match serving.serve(subscriber, session) {
                Served::Done => {}
                Served::QueueFull => {
                    subscriber.phase = Phase::CatchingUp;
                    if session.lagging_since_ms.is_none() {
                        session.lagging_since_ms = Some(self.now_ms);
                        let until = self.now_ms + SLOW_CONSUMER_GRACE_MS;
                        session.look_at_ms = session.look_at_ms.min(until);
                        self.wheel.schedule(session.conn, until);
                    }
                    session.behind.push(conversation);
                }
                Served::FellBehind => {
                    subscriber.phase = Phase::CatchingUp;
                    session.replays.push_back(conversation);
                    if !session.replay_waits {
                        session.replay_waits = true;
                        self.replays_waiting.push_back(session.conn);
                    }
                }
            }
        }
        let now = Instant::now();
        let Serving { delivered, bytes, .. } = serving;
        let (mut of_this_event, mut total) = (0, 0);
        for (waiting, difference) in backlog.events.iter().zip(delivered) {
            of_this_event += difference;
            total += of_this_event as u64;
            if waiting.event.seq.is_some() && of_this_event > 0 {
                let latency = now.saturating_duration_since(waiting.event.received_at);
                self.counters.stages.record(Stage::Delivery, latency, of_this_event as u64);
            }
        }
        self.counters.stages.record(Stage::FanOut, now.duration_since(began), 1);
        self.counters.events_delivered.add(total);
        self.counters.bytes_out.add(bytes);
        (count, next)
    }
}

#[cfg(test)]
#[path = "deliver_tests.rs"]
mod tests;
