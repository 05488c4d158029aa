//! What each shard knows of removals: departures from conversations, and blocks.
//!
//! A frame without a `seq` (typing, a read marker, presence) is in no log, so the store cannot say from when it is.
//! What was on its way when the removal was committed may still arrive. But an owner publishes a removal on the same
//! lanes as everything else, so what it publishes afterwards travels behind. Hence the invariant, for each shard:
//!
//! - after it has received a departure, it sends the user's connections no signal of the conversation;
//! - after it has received a block, it sends neither user the other's presence, and no answer that contains it, nor
//!   that the other is typing;
//! - after it has received a departure, it re-checks the watches in the next round of presence. After the answers of
//!   these reads it sends only the presence that the store permits. Answers to `get_presence` contain none of the
//!   others from the departure on.
//!
//! "Has received" means: it has taken the removal from its lane, and then looked for the next item. While it acts on
//! the removal, it still serves what waited before it.

use chat_server::ids::{ConversationId, Seq, ShardId, UserId};
use std::collections::HashMap;

/// The time between two rounds of presence, in milliseconds.
const PRESENCE_ROUND_MS: u64 = 500;

/// Why a user may no longer see something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    /// A user has left a conversation, or was removed.
    Departure {
        /// The user.
        user: UserId,
        /// The conversation.
        conversation: ConversationId,
        /// The place of `member_left` in its log.
        seq: Seq,
    },
    /// One of two users has blocked the other, the lower one first.
    Block(UserId, UserId),
}

impl Removal {
    /// The block between two users; either of them may have blocked the other.
    #[must_use]
    pub fn block(one: UserId, other: UserId) -> Self {
        Self::Block(one.min(other), one.max(other))
    }
}

struct Departure {
    seq: Seq,
    received_ms: u64,
    /// The reads that the shard had sent by the end of the first round after it.
    checked_by: Option<u64>,
}

#[derive(Default)]
struct ShardRemovals {
    /// Taken from a lane; the shard acts on it.
    at_hand: Option<Removal>,
    /// The result of a read was taken; the shard acts on it.
    result_at_hand: bool,
    departures: HashMap<(UserId, ConversationId), Departure>,
    /// How often, by pair of users.
    blocks: HashMap<(UserId, UserId), u64>,
    reads_sent: u64,
    reads_answered: u64,
    /// The most reads in flight in this turn.
    most_in_flight: u64,
    /// The last tick at which reads could not be sent.
    disturbed_ms: u64,
}

/// The removals of a history, as far as the shards know of them.
pub struct Removals {
    shards: Vec<ShardRemovals>,
    /// Reads in flight from which a shard puts its re-checks off.
    background_reads: u64,
}

impl Removals {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(shards: usize, background_reads: usize) -> Self {
        let shards = (0..shards).map(|_| ShardRemovals::default()).collect();
        Self { shards, background_reads: background_reads as u64 }
    }

    fn of(&mut self, shard: ShardId) -> &mut ShardRemovals {
        &mut self.shards[shard.index()]
    }

    /// The shard looks for its next item: it has acted on the one before.
    pub fn next_item(&mut self, shard: ShardId, now_ms: u64) {
        let known = self.of(shard);
        known.reads_answered += u64::from(std::mem::take(&mut known.result_at_hand));
        match known.at_hand.take() {
            Some(Removal::Departure { user, conversation, seq }) => {
                let newer = Departure { seq, received_ms: now_ms, checked_by: None };
                let departure = known.departures.entry((user, conversation)).or_insert(newer);
                if departure.seq < seq {
                    *departure = Departure { seq, received_ms: now_ms, checked_by: None };
                }
            }
            Some(Removal::Block(one, other)) => *known.blocks.entry((one, other)).or_default() += 1,
            None => {}
        }
    }

    /// The shard takes a removal from a lane.
    pub fn received(&mut self, shard: ShardId, removal: Removal) {
        self.of(shard).at_hand = Some(removal);
    }

    /// The shard sends a read.
    pub fn read_sent(&mut self, shard: ShardId) {
        let known = self.of(shard);
        known.reads_sent += 1;
        known.most_in_flight = known.most_in_flight.max(known.reads_sent - known.reads_answered);
    }

    /// The shard takes the result of a read. Results come in the order of the reads.
    pub fn result_received(&mut self, shard: ShardId) {
        self.of(shard).result_at_hand = true;
    }

    /// The shard begins a turn.
    pub fn turn_begins(&mut self, shard: ShardId) {
        let known = self.of(shard);
        known.most_in_flight = known.reads_sent - known.reads_answered;
    }

    /// The shard has ended a turn with a tick. With `is_jammed`, it could not send any read in it.
    pub fn ticked(&mut self, shard: ShardId, now_ms: u64, is_jammed: bool) {
        let background_reads = self.background_reads;
        let known = self.of(shard);
        if is_jammed || known.most_in_flight >= background_reads {
            known.disturbed_ms = now_ms;
            return;
        }
        for departure in known.departures.values_mut().filter(|departure| departure.checked_by.is_none()) {
            if now_ms >= departure.received_ms.max(known.disturbed_ms) + PRESENCE_ROUND_MS {
                departure.checked_by = Some(known.reads_sent);
            }
        }
    }

    /// Whether the shard has received this departure, or a later one.
    #[must_use]
    pub fn knows_departure(&self, shard: ShardId, user: UserId, conversation: ConversationId, seq: Seq) -> bool {
        self.shards[shard.index()].departures.get(&(user, conversation)).is_some_and(|known| known.seq >= seq)
    }

    /// Whether the shard has also re-checked the watches since.
    #[must_use]
    pub fn has_checked_watches(&self, shard: ShardId, user: UserId, conversation: ConversationId, seq: Seq) -> bool {
        let known = &self.shards[shard.index()];
        let is_checked =
            |departure: &Departure| departure.checked_by.is_some_and(|reads| known.reads_answered >= reads);
        known
            .departures
            .get(&(user, conversation))
            .is_some_and(|departure| departure.seq >= seq && is_checked(departure))
    }

    /// How many blocks between two users the shard has received.
    #[must_use]
    pub fn blocks(&self, shard: ShardId, one: UserId, other: UserId) -> u64 {
        self.shards[shard.index()].blocks.get(&(one.min(other), one.max(other))).copied().unwrap_or(0)
    }
}
