//! Which conversations have new entries in their logs, for work that follows commits, such as webhooks.
//!
//! The committers note conversations and the control plane takes them. While nobody follows any, a note is one load of
//! a flag.
//!
//! Notes are lost when the queue is full and when the process ends. So work that follows logs must also look for what
//! was not noted.

use crossbeam_queue::ArrayQueue;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Notes that may wait.
const NOTES_MAX: usize = 16_384;

/// The notes of all committers.
pub struct LogWatch {
    is_on: AtomicBool,
    notes: ArrayQueue<i64>,
}

impl Default for LogWatch {
    fn default() -> Self {
        Self { is_on: AtomicBool::new(false), notes: ArrayQueue::new(NOTES_MAX) }
    }
}

impl LogWatch {
    /// A conversation, by its number, has new entries.
    pub fn note(&self, conversation: i64) {
        if self.is_on.load(Relaxed) {
            // A full queue loses the note.
            let _ = self.notes.push(conversation);
        }
    }

    /// Whether anybody follows a log.
    pub fn set_on(&self, is_on: bool) {
        self.is_on.store(is_on, Relaxed);
    }

    /// The noted conversations, each once.
    #[must_use]
    pub fn take(&self) -> HashSet<i64> {
        // Not more than a full queue, so that a flood of notes does not keep the caller here.
        (0..NOTES_MAX).map_while(|_| self.notes.pop()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_notes_only_while_somebody_follows_and_as_many_as_have_room() {
        let watch = LogWatch::default();
        watch.note(6);
        assert_eq!(watch.take(), HashSet::new());
        watch.set_on(true);
        for conversation in [6, 10, 6] {
            watch.note(conversation);
        }
        assert_eq!(watch.take(), HashSet::from([6, 10]));
        let all = NOTES_MAX as i64;
        for conversation in 0..=all {
            watch.note(conversation);
        }
        assert_eq!(watch.take(), (0..all).collect(), "one note too many");
        assert_eq!(watch.take(), HashSet::new());
    }
}
