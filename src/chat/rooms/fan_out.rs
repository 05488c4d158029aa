//! Serves one slice of a room. Each subscriber receives the events after its cursor, in few pieces of shared bytes.

use super::backlog::{Backlog, WaitingEvent};
use super::outbox::{Behind, Outbox};
use crate::chat::subscribers::{Fit, Mode, Subscriber};
use crate::ids::{ConversationId, Seq, UserId};
use crate::wire::Format;
use std::collections::VecDeque;

/// The most bytes in one piece: enough that the calls cost little beside the copying.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Offers the backlog to each of `subscribers`, which are consecutive in the room.
pub(super) fn serve<O: Outbox>(
    conversation: ConversationId,
    backlog: &mut Backlog<O::Chunk>,
    subscribers: &mut [Subscriber],
    queue_bytes_max: usize,
    out: &mut O,
) {
    let mut slice = Slice::new(&mut backlog.events, out, queue_bytes_max);
    for subscriber in subscribers {
        if let Err(why) = slice.serve(subscriber) {
            subscriber.mode = Mode::CatchingUp;
            slice.out.fell_behind(subscriber.conn, conversation, why);
        }
    }
    slice.report();
}

/// A piece: several events as one buffer, for all subscribers at the same position.
struct Piece<C> {
    format: Format,
    /// The range of its events in the backlog: the first one, and the first one after it.
    first: usize,
    end: usize,
    chunk: C,
}

struct Slice<'a, O: Outbox> {
    events: &'a mut VecDeque<WaitingEvent<O::Chunk>>,
    /// The seq of the first event, if all events are consecutive and go to every subscriber. Then a subscriber's cursor
    /// is its position among them.
    consecutive_from: Option<Seq>,
    /// Users who receive a different copy, ascending.
    special_users: Vec<UserId>,
    pieces: Vec<Piece<O::Chunk>>,
    out: &'a mut O,
    queue_bytes_max: usize,
    /// The change in the number of receivers from one event to the next.
    receivers: Vec<i64>,
}

impl<'a, O: Outbox> Slice<'a, O> {
    fn new(events: &'a mut VecDeque<WaitingEvent<O::Chunk>>, out: &'a mut O, queue_bytes_max: usize) -> Self {
        let first = events.front().and_then(|waiting| waiting.event.seq);
        let consecutive = |(at, waiting): (usize, &WaitingEvent<O::Chunk>)| {
            let event = &waiting.event;
            event.except_user.is_none()
                && event.about.is_none()
                && event.except_connection.is_none()
                && event.seq.is_some_and(|seq| first.is_some_and(|first| seq.0 == first.0 + at as i64))
        };
        let consecutive_from = first.filter(|_| events.iter().enumerate().all(consecutive));
        let mut special_users: Vec<UserId> = events.iter().filter_map(WaitingEvent::special_user).collect();
        special_users.sort_unstable();
        special_users.dedup();
        let receivers = vec![0; events.len() + 1];
        Self { events, consecutive_from, special_users, pieces: Vec::new(), out, queue_bytes_max, receivers }
    }

    fn count(&mut self, first: usize, end: usize) {
        self.receivers[first] += 1;
        self.receivers[end] -= 1;
    }

    fn report(self) {
        let (mut of_this_event, mut deliveries) = (0, 0);
        let mut receipts = Vec::new();
        for (waiting, difference) in self.events.iter().zip(&self.receivers) {
            of_this_event += difference;
            deliveries += of_this_event as u64;
            if waiting.event.seq.is_some() && of_this_event > 0 {
                receipts.push((waiting.event.received_at, of_this_event as u64));
            }
        }
        self.out.slice_served(receipts.into_iter(), deliveries);
    }

    /// The piece that begins with event `first`: the place after it, and its bytes.
    fn piece(&mut self, format: Format, first: usize) -> Option<(usize, O::Chunk)> {
        // Nearly every subscriber is at the same position as the one before it.
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
                O::Chunk::from(joined)
            }
        };
        self.pieces.push(Piece { format, first, end, chunk: chunk.clone() });
        Some((end, chunk))
    }

    /// Sends a subscriber the events after its cursor, as far as its queue allows.
    fn serve(&mut self, subscriber: &mut Subscriber) -> Result<(), Behind> {
        if subscriber.mode == Mode::CatchingUp || self.serve_together(subscriber) {
            return Ok(());
        }
        (0..self.events.len()).try_for_each(|at| self.serve_one(at, subscriber))
    }

    /// Sends a live subscriber the events after its cursor, in pieces that it shares with others. False if that is not
    /// possible; then each event is served on its own.
    fn serve_together(&mut self, subscriber: &mut Subscriber) -> bool {
        let Some(first_seq) = self.consecutive_from else { return false };
        if subscriber.deflate_bits != 0 || subscriber.cursor.0 + 1 < first_seq.0 {
            return false;
        }
        if self.special_users.binary_search(&subscriber.user).is_ok() {
            return false;
        }
        let format = subscriber.format;
        let mut at = (subscriber.cursor.0 + 1 - first_seq.0) as usize;
        while at < self.events.len() {
            let Some((end, chunk)) = self.piece(format, at) else { return false };
            if self.out.queued_bytes(subscriber.conn) + chunk.as_ref().len() > self.queue_bytes_max {
                return false;
            }
            self.out.send(subscriber.conn, chunk);
            self.count(at, end);
            subscriber.advance(Seq(first_seq.0 + end as i64 - 1));
            at = end;
        }
        true
    }

    /// Sends one event to one subscriber. If that is not possible, the subscriber reads it from the log.
    fn serve_one(&mut self, at: usize, subscriber: &mut Subscriber) -> Result<(), Behind> {
        let waiting = &mut self.events[at];
        let fit = match waiting.event.seq {
            Some(seq) => subscriber.fit(seq),
            // Only live subscribers receive signals. A replay does not contain them.
            None if subscriber.mode == Mode::Live => Fit::Next,
            None => Fit::Known,
        };
        // A signal has no seq to compare: a new round may have begun after this subscriber received it.
        let had_it = waiting.event.seq.is_none() && waiting.wrapped && subscriber.conn >= waiting.from;
        if fit == Fit::Known
            || had_it
            || waiting.is_hidden_from(subscriber.user)
            || waiting.event.except_connection == Some(subscriber.conn)
        {
            return Ok(());
        }
        let seq = waiting.event.seq;
        match chunk_for(waiting, subscriber, self.out) {
            Some(chunk) if fit == Fit::Next => {
                if self.out.queued_bytes(subscriber.conn) + chunk.as_ref().len() > self.queue_bytes_max {
                    return if seq.is_some() { Err(Behind::QueueFull) } else { Ok(()) };
                }
                self.out.send(subscriber.conn, chunk);
                self.count(at, at + 1);
                if let Some(seq) = seq {
                    subscriber.advance(seq);
                }
                Ok(())
            }
            _ if seq.is_none() => Ok(()),
            // A gap, or an event that could not be encoded: the subscriber reads the log.
            _ => Err(Behind::Gap),
        }
    }
}

/// The bytes of one event for one subscriber.
fn chunk_for<O: Outbox>(
    waiting: &mut WaitingEvent<O::Chunk>,
    subscriber: &Subscriber,
    out: &mut O,
) -> Option<O::Chunk> {
    let format = subscriber.format;
    if waiting.special_user() == Some(subscriber.user) {
        return waiting.for_sender(format);
    }
    match subscriber.deflate_bits {
        0 => waiting.plain(format),
        bits => {
            waiting.deflated(format, bits, |frame| out.compress(frame, format, bits)).or_else(|| waiting.plain(format))
        }
    }
}
