//! What the I/O shard sees of users' reads and texts, for the detectors of the control plane.
//!
//! The I/O shard pushes, and `control/security_watch.rs` drains twice a second. Neither waits for the other: the lanes
//! are bounded, and what does not fit is counted and dropped. Reads have a lane of their own, so that a flood of reads
//! hides nothing else.
//!
//! Texts are sensitive, so they leave the I/O shard for two reasons only: a rule of the server refused them, or the
//! content filter has refused other texts of the same author a moment ago ([`Activity::is_suspect`]).

use crate::ids::UserId;
use crossbeam_queue::ArrayQueue;
use std::sync::atomic::{AtomicU64, Ordering};

/// Reads that wait for the detectors. Users' budgets allow fewer in the time between two drains.
pub const READS_WAITING: usize = 16_384;
/// Mentions and texts that wait for the detectors.
pub const TEXTS_WAITING: usize = 4_096;
/// Words of the filter of suspects; 4,096 bits.
const SUSPECT_WORDS: usize = 64;
/// Longest text that the detectors compare; the rest of a longer one is cut off.
const COMPARED_BYTES_MAX: usize = 1_024;

/// A read that was answered. Dropped when the lane is full.
#[derive(Clone, Copy, Debug)]
pub struct ReadActivity {
    /// Who read.
    pub user: UserId,
    /// What it cost the user's budget of reads.
    pub cost: u32,
}

const _: () = assert!(size_of::<ReadActivity>() <= 16, "every read pushes one");

/// What a committed text did. Dropped when the lane is full.
#[derive(Clone, PartialEq, Debug)]
pub enum TextActivity {
    /// It mentioned people by their names.
    Mentioned {
        /// Its author.
        author: UserId,
        /// Whom.
        people: Vec<UserId>,
    },
    /// It mentioned a whole conversation, as with `@room`.
    MentionedAll {
        /// Its author.
        author: UserId,
        /// A number that no other message has.
        message: u64,
    },
    /// A rule of the server did not let it pass.
    Refused {
        /// Its author.
        author: UserId,
        /// The text.
        text: String,
    },
    /// It was sent by somebody whose texts were refused a moment ago.
    Passed {
        /// Its author.
        author: UserId,
        /// The text.
        text: String,
    },
}

const _: () = assert!(size_of::<TextActivity>() <= 48);

/// The lanes from the I/O shard to the detectors.
pub struct Activity {
    reads: ArrayQueue<ReadActivity>,
    texts: ArrayQueue<TextActivity>,
    dropped: AtomicU64,
    /// A bit per group of users: the content filter has refused a text of one of them.
    suspects: [AtomicU64; SUSPECT_WORDS],
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            reads: ArrayQueue::new(READS_WAITING),
            texts: ArrayQueue::new(TEXTS_WAITING),
            dropped: AtomicU64::new(0),
            suspects: [const { AtomicU64::new(0) }; SUSPECT_WORDS],
        }
    }
}

impl Activity {
    /// A read was answered.
    pub fn read(&self, user: UserId, cost: u32) {
        if self.reads.push(ReadActivity { user, cost }).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A text did something worth knowing.
    pub fn text(&self, activity: TextActivity) {
        if let TextActivity::Refused { author, .. } = &activity {
            self.suspect(*author);
        }
        if self.texts.push(activity).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The next read.
    pub fn next_read(&self) -> Option<ReadActivity> {
        self.reads.pop()
    }

    /// The next text.
    pub fn next_text(&self) -> Option<TextActivity> {
        self.texts.pop()
    }

    /// How many did not fit, ever.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Marks a user whose text was refused.
    pub fn suspect(&self, user: UserId) {
        let (word, bit) = place(user);
        self.suspects[word].fetch_or(bit, Ordering::Relaxed);
    }

    /// Whether a text of the user was refused a moment ago. True for other users too, one in thousands.
    #[must_use]
    pub fn is_suspect(&self, user: UserId) -> bool {
        let (word, bit) = place(user);
        self.suspects[word].load(Ordering::Relaxed) & bit != 0
    }

    /// Nobody is suspect any longer.
    pub fn clear_suspects(&self) {
        for word in &self.suspects {
            word.store(0, Ordering::Relaxed);
        }
    }
}

fn place(user: UserId) -> (usize, u64) {
    let group = user.0 as u64 % (SUSPECT_WORDS as u64 * 64);
    ((group / 64) as usize, 1 << (group % 64))
}

/// The part of a text that the detectors compare.
#[must_use]
pub fn compared(text: &str) -> String {
    text[..text.floor_char_boundary(COMPARED_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_and_counts_what_does_not_fit() {
        let activity = Activity::default();
        for _ in 0..READS_WAITING + 3 {
            activity.read(UserId(1), 1);
        }
        assert_eq!(activity.dropped(), 3);
        activity.text(TextActivity::MentionedAll { author: UserId(2), message: 7 });
        assert_eq!(activity.next_text(), Some(TextActivity::MentionedAll { author: UserId(2), message: 7 }));
        assert_eq!(activity.next_text(), None, "a flood of reads hides no text");
    }

    #[test]
    fn remembers_authors_of_refused_texts_until_they_are_cleared() {
        let activity = Activity::default();
        activity.text(TextActivity::Refused { author: UserId(77), text: String::new() });
        assert!(activity.is_suspect(UserId(77)) && !activity.is_suspect(UserId(78)));
        activity.clear_suspects();
        assert!(!activity.is_suspect(UserId(77)));
    }

    #[test]
    fn cuts_long_texts_between_characters() {
        assert_eq!(compared(&"é".repeat(1_000)).len(), COMPARED_BYTES_MAX);
        assert_eq!(compared(&format!("a{}", "é".repeat(1_000))).len(), COMPARED_BYTES_MAX - 1);
    }
}
