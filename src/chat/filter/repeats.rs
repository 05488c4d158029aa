//! What a user wrote lately: hashes of texts, in a ring that the user's connections on all shards share.
//!
//! An entry is one word, so reading and writing it is atomic. Two shards that write at the same time may overwrite each
//! other's entry; then a repeat counts once less, and nothing else breaks.

use crate::ids::ConversationId;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

/// Texts that are remembered per user.
pub const REPEATS_REMEMBERED: usize = 32;

/// Letters that a text must have to count; shorter ones ("yes", "thanks") are repeated by everybody.
const LETTERS_MIN: usize = 12;
const TIME_BITS: u32 = 24;
const ROOM_BITS: u32 = 12;

/// The memory of one user; 264 bytes.
#[derive(Debug, Default)]
pub struct RepeatMemory {
    next: AtomicU64,
    entries: [AtomicU64; REPEATS_REMEMBERED],
}

/// What a text looks like when its digits, signs and blanks are left out; none for a short one.
#[must_use]
pub fn fingerprint(folded: &str) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let mut letters = 0;
    for c in folded.chars().filter(|c| c.is_alphabetic()) {
        c.hash(&mut hasher);
        letters += 1;
    }
    (letters >= LETTERS_MIN).then(|| hasher.finish())
}

fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

/// The hash, the conversation and the second in one word.
fn entry(fingerprint: u64, conversation: Option<ConversationId>, now_s: u64) -> u64 {
    let room = conversation.map_or(0, |conversation| {
        let mut hasher = DefaultHasher::new();
        conversation.number().hash(&mut hasher);
        hasher.finish() & mask(ROOM_BITS)
    });
    (fingerprint << (TIME_BITS + ROOM_BITS)) | (room << TIME_BITS) | ((now_s + 1) & mask(TIME_BITS))
}

impl RepeatMemory {
    /// Remembers a text.
    pub fn remember(&self, fingerprint: u64, conversation: Option<ConversationId>, now_s: u64) {
        let at = self.next.fetch_add(1, Ordering::Relaxed) as usize % REPEATS_REMEMBERED;
        self.entries[at].store(entry(fingerprint, conversation, now_s), Ordering::Relaxed);
    }

    /// How often this text is remembered within the time, and in how many conversations: this one included.
    #[must_use]
    pub fn count(
        &self,
        fingerprint: u64,
        conversation: Option<ConversationId>,
        now_s: u64,
        within_s: u64,
    ) -> (u32, u32) {
        let this = entry(fingerprint, conversation, now_s);
        let hash = this >> (TIME_BITS + ROOM_BITS);
        let mut rooms = [this >> TIME_BITS; REPEATS_REMEMBERED + 1];
        let (mut times, mut different) = (1, 1);
        for entry in self.entries.iter().map(|entry| entry.load(Ordering::Relaxed)).filter(|entry| *entry != 0) {
            let age = this.wrapping_sub(entry) & mask(TIME_BITS);
            if entry >> (TIME_BITS + ROOM_BITS) != hash || age > within_s {
                continue;
            }
            times += 1;
            if !rooms[..different].contains(&(entry >> TIME_BITS)) {
                rooms[different] = entry >> TIME_BITS;
                different += 1;
            }
        }
        (times, different as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(number: i64) -> Option<ConversationId> {
        ConversationId::from_number(number * 4 + 2)
    }

    #[test]
    fn counts_the_same_text_over_rooms_and_forgets_it_in_time() {
        let memory = RepeatMemory::default();
        let print = fingerprint("buy cheap watches now").unwrap();
        for (n, at) in [(1, 0), (2, 10), (2, 20)] {
            assert!(room(n).is_some());
            memory.remember(print, room(n), at);
        }
        assert_eq!(memory.count(print, room(3), 20, 60), (4, 3));
        assert_eq!(memory.count(print, room(1), 65, 60), (3, 2));
        assert_eq!(memory.count(print, room(1), 500, 60), (1, 1));
        assert_eq!(memory.count(print ^ 1, room(1), 20, 60), (1, 1));
    }

    #[test]
    fn nearly_equal_texts_are_the_same_and_short_ones_do_not_count() {
        assert_eq!(fingerprint("buy cheap watches 1!"), fingerprint("buy  cheap watches, 2?"));
        assert_eq!(fingerprint("thanks"), None);
    }

    #[test]
    fn remembers_a_bounded_number() {
        let memory = RepeatMemory::default();
        (0..1_000).for_each(|_| memory.remember(7, room(1), 5));
        assert_eq!(memory.count(7, room(1), 5, 60), (REPEATS_REMEMBERED as u32 + 1, 1));
    }
}
