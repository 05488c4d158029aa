//! The recent frames of a room on one thread, as they came from the socket, under their sequence numbers.
//!
//! A server encodes an event once, so every subscriber of a format receives the same bytes. The first arrival on a
//! thread is decoded and checked in full. All others need only a comparison of memory.
//!
//! Invariants:
//! - only an event that the room's checker found sound has an entry, so equal bytes are sound, too;
//! - an event may have several forms (its sender's own connections receive one more field, and each format and
//!   compression differs). Each form is checked before it is stored, and all are the same event;
//! - memory is bounded: old entries go when a room's frames exceed its share. A connection that is further behind is
//!   checked in full again, which costs time and loses nothing.

use crate::payload::Token;
use std::collections::VecDeque;

/// Bytes of frames that all rooms of a thread may keep.
const LOG_BYTES: usize = 64 * 1024 * 1024;
/// Least and most of it for one room.
const ROOM_BYTES: (usize, usize) = (64 * 1024, 8 * 1024 * 1024);
/// Most forms of one event.
const FORMS_MAX: usize = 6;
/// Longest gap for which a log has empty slots.
const SKIP_MAX: u64 = 4096;
/// Most slots in one log.
const ENTRIES_MAX: usize = 1 << 17;

/// What an event means to its receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// A message of this run.
    Ours {
        /// The token of the send.
        token: Token,
        /// When it was planned, nanoseconds on the engine's clock.
        planned_ns: u64,
    },
    /// Anything else with a number.
    Other,
}

/// One event.
#[derive(Debug)]
pub struct Entry {
    /// Its meaning.
    pub meaning: Meaning,
    forms: Vec<Box<[u8]>>,
}

impl Entry {
    /// The length of the form of this event at the beginning of `bytes`, if there is one.
    #[inline]
    pub fn length_in(&self, bytes: &[u8]) -> Option<usize> {
        self.forms.iter().find(|form| bytes.starts_with(form)).map(|form| form.len())
    }
}

/// The recent events of one room.
#[derive(Debug)]
pub struct RoomLog {
    first: u64,
    entries: VecDeque<Option<Entry>>,
    bytes: usize,
    bytes_max: usize,
}

impl RoomLog {
    /// An empty log of one of `rooms` rooms.
    pub fn new(rooms: usize) -> Self {
        let bytes_max = (LOG_BYTES / rooms.max(1)).clamp(ROOM_BYTES.0, ROOM_BYTES.1);
        Self { first: 0, entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// The event of a number, if it is stored.
    #[inline]
    pub fn get(&self, seq: u64) -> Option<&Entry> {
        let at = seq.checked_sub(self.first)?;
        self.entries.get(at as usize)?.as_ref()
    }

    /// The newest number seen.
    pub fn newest(&self) -> u64 {
        (self.first + self.entries.len() as u64).saturating_sub(1)
    }

    /// Stores a form of a sound event.
    pub fn insert(&mut self, seq: u64, meaning: Meaning, frame: &[u8]) {
        let end = self.first + self.entries.len() as u64;
        if self.entries.is_empty() || seq > end + SKIP_MAX {
            self.entries.clear();
            self.bytes = 0;
            self.first = seq;
        } else if seq < self.first {
            return;
        }
        let at = (seq - self.first) as usize;
        while self.entries.len() <= at {
            self.entries.push_back(None);
        }
        let entry = self.entries[at].get_or_insert_with(|| Entry { meaning, forms: Vec::with_capacity(1) });
        if entry.meaning != meaning || entry.forms.len() >= FORMS_MAX {
            return;
        }
        entry.forms.push(frame.into());
        self.bytes += frame.len();
        while (self.bytes > self.bytes_max || self.entries.len() > ENTRIES_MAX)
            && let Some(old) = self.entries.pop_front()
        {
            self.first += 1;
            self.bytes -= old.map_or(0, |old| old.forms.iter().map(|form| form.len()).sum());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_an_event_are_found_at_the_beginning_of_bytes() {
        let mut log = RoomLog::new(1);
        log.insert(7, Meaning::Other, b"plain");
        log.insert(7, Meaning::Other, b"with more");
        let entry = log.get(7).expect("remembered");
        assert_eq!(entry.length_in(b"plain and what follows"), Some(5));
        assert_eq!(entry.length_in(b"with more"), Some(9));
        assert_eq!(entry.length_in(b"with mor"), None);
        assert_eq!(entry.length_in(b"pla1n and"), None);
        assert!(log.get(6).is_none() && log.get(8).is_none());
    }

    #[test]
    fn skipped_numbers_are_unknown_and_old_ones_go() {
        let mut log = RoomLog::new(100_000);
        log.insert(5, Meaning::Other, b"five");
        log.insert(8, Meaning::Other, b"eight");
        log.insert(6, Meaning::Other, b"six");
        log.insert(1, Meaning::Other, b"too old");
        assert_eq!([5, 6, 7, 8, 9].map(|seq| log.get(seq).is_some()), [true, true, false, true, false]);
        assert_eq!(log.newest(), 8);
        let big = vec![b'x'; ROOM_BYTES.0 / 2];
        (9..20).for_each(|seq| log.insert(seq, Meaning::Other, &big));
        assert!(log.get(9).is_none() && log.get(17).is_none() && log.get(19).is_some());
        assert!(log.bytes <= ROOM_BYTES.0);
        log.insert(1 << 50, Meaning::Other, b"far");
        assert!(log.get(1 << 50).is_some() && log.entries.len() == 1);
    }
}
