//! What the checker found: a count for each kind, and descriptions of the first few.
//!
//! Invariant: memory is bounded by the number of kinds, no matter how broken the server is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many of each kind are kept in words; the rest are only counted.
const SAMPLES_MAX: usize = 5;

/// A promise of the protocol that was broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// A subscriber's events skipped sequence numbers.
    Gap,
    /// An event arrived after one with a higher sequence number.
    Disorder,
    /// A subscriber received an event twice, or one from before it subscribed.
    Duplicate,
    /// Two different events were seen under one sequence number.
    SeqReused,
    /// One message identifier was seen under two sequence numbers.
    MessageIdReused,
    /// One client message identifier was committed as two messages.
    CommittedTwice,
    /// A second acknowledgement of the same send differs from the first.
    AckChanged,
    /// The acknowledgement names another message than the one delivered under its sequence number.
    AckMismatch,
    /// A message sent once was acknowledged as a duplicate.
    FalseDuplicate,
    /// The sender's connection received its own message before the acknowledgement.
    EventBeforeAck,
    /// A message was delivered although its send had been finally refused.
    RefusedButDelivered,
    /// A message of this run was delivered in a room it was not sent to, or was never sent.
    Phantom,
    /// An event of a room reached a connection that is not in it.
    Leak,
    /// The content that arrived is not the content that was sent.
    Corrupted,
    /// A committed message never reached a subscriber of its room.
    Undelivered,
    /// A command had no reply when the run ended.
    Unanswered,
    /// A reply to nothing that was asked.
    UnexpectedReply,
    /// A frame that the protocol does not allow.
    Protocol,
    /// A connection was lost, and `--survive-restarts` was not given.
    ConnectionLost,
    /// A lost connection could not be restored, or not to where it had been.
    NotRestored,
    /// A log-in failed, with a name and a password that are right.
    LoginFailed,
    /// The server refused to resume from a client's cursors.
    ResumeRefused,
}

impl ViolationKind {
    /// What the kind means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Gap => "sequence numbers skipped",
            Self::Disorder => "events out of order",
            Self::Duplicate => "events delivered twice",
            Self::SeqReused => "different events under one sequence number",
            Self::MessageIdReused => "one message id under two sequence numbers",
            Self::CommittedTwice => "one send stored as two messages",
            Self::AckChanged => "two acks of one send disagree",
            Self::AckMismatch => "ack disagrees with what was delivered",
            Self::FalseDuplicate => "first send acknowledged as a duplicate",
            Self::EventBeforeAck => "own message delivered before its ack",
            Self::RefusedButDelivered => "refused messages that were delivered",
            Self::Phantom => "messages delivered that were not sent there",
            Self::Leak => "events delivered outside their room",
            Self::Corrupted => "content changed on the way",
            Self::Undelivered => "stored messages that a subscriber never received",
            Self::Unanswered => "commands without a reply",
            Self::UnexpectedReply => "replies to nothing that was asked",
            Self::Protocol => "frames against the protocol",
            Self::ConnectionLost => "connections lost",
            Self::NotRestored => "connections lost and not restored",
            Self::LoginFailed => "log-ins that failed",
            Self::ResumeRefused => "resume refused",
        }
    }
}

/// The violations of one kind.
#[derive(Default, Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// How many there were.
    pub count: u64,
    /// The first few in words.
    pub samples: Vec<String>,
}

/// All violations found so far, by kind.
#[derive(Default, Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Violations {
    by_kind: BTreeMap<ViolationKind, Found>,
}

impl Violations {
    /// Notes one; `describe` runs only when its words will be kept.
    pub fn note(&mut self, kind: ViolationKind, describe: impl FnOnce() -> String) {
        self.note_many(kind, 1, describe);
    }

    /// Notes `count` of a kind, described together.
    pub fn note_many(&mut self, kind: ViolationKind, count: u64, describe: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        let found = self.by_kind.entry(kind).or_default();
        found.count += count;
        if found.samples.len() < SAMPLES_MAX {
            found.samples.push(describe());
        }
    }

    /// Adds another's findings to these.
    pub fn merge(&mut self, other: Self) {
        for (kind, theirs) in other.by_kind {
            let ours = self.by_kind.entry(kind).or_default();
            ours.count += theirs.count;
            let room = SAMPLES_MAX.saturating_sub(ours.samples.len());
            ours.samples.extend(theirs.samples.into_iter().take(room));
        }
    }

    /// How many there are of one kind.
    #[cfg(test)]
    pub fn count(&self, kind: ViolationKind) -> u64 {
        self.by_kind.get(&kind).map_or(0, |found| found.count)
    }

    /// How many there are in all.
    pub fn total(&self) -> u64 {
        self.by_kind.values().map(|found| found.count).sum()
    }

    /// Every kind found, with its count and samples.
    pub fn iter(&self) -> impl Iterator<Item = (ViolationKind, &Found)> {
        self.by_kind.iter().map(|(kind, found)| (*kind, found))
    }
}
