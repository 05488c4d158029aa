//! Which conversations have new entries in their logs, for work that follows commits, such as webhooks.
//!
//! The committers note conversations and the control plane takes them. While nobody follows any, a note is one load of
//! a flag.
//!
//! When the queue is full, notes are lost. Whoever follows logs must also look for what was missed, because the end of
//! a process loses notes too.

use crossbeam_queue::ArrayQueue;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Notes that may wait.
const NOTES_MAX: usize = 16_384;

/// The notes of all committers.
pub struct LogWatch {
    is_on: AtomicBool,
    notes: ArrayQueue<i64>,
    missed: AtomicBool,
}

impl Default for LogWatch {
    fn default() -> Self {
        Self { is_on: AtomicBool::new(false), notes: ArrayQueue::new(NOTES_MAX), missed: AtomicBool::new(false) }
    }
}

impl LogWatch {
    /// A conversation, by its number, has new entries.
    pub fn note(&self, conversation: i64) {
        if self.is_on.load(Relaxed) && self.notes.push(conversation).is_err() {
            self.missed.store(true, Relaxed);
        }
    }

    /// Whether anybody follows a log.
    pub fn set_on(&self, is_on: bool) {
        self.is_on.store(is_on, Relaxed);
    }

    /// Adds the noted conversations to `into`. Returns whether notes were lost since the last time.
    pub fn take(&self, into: &mut HashSet<i64>) -> bool {
        // Not more than a full queue, so that a flood of notes does not keep the caller here.
        for _ in 0..NOTES_MAX {
            let Some(conversation) = self.notes.pop() else { break };
            into.insert(conversation);
        }
        self.missed.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_notes_only_while_somebody_follows_and_reports_lost_ones() {
        let watch = LogWatch::default();
        let mut taken = HashSet::new();
        watch.note(6);
        assert!(!watch.take(&mut taken) && taken.is_empty());
        watch.set_on(true);
        for conversation in [6, 10, 6] {
            watch.note(conversation);
        }
        assert!(!watch.take(&mut taken));
        assert_eq!(taken, HashSet::from([6, 10]));
        for conversation in 0..=NOTES_MAX as i64 {
            watch.note(conversation);
        }
        assert!(watch.take(&mut taken), "one note too many");
        assert!(!watch.take(&mut taken));
    }
}
