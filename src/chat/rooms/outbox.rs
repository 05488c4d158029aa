//! The output of the rooms: what they require from the shard.

use crate::ids::{ConnId, ConversationId};
use crate::wire::Format;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Immutable bytes that the queues of several connections share.
pub trait SharedBytes: Clone + AsRef<[u8]> + From<Vec<u8>> + From<Arc<[u8]>> {}

impl<T: Clone + AsRef<[u8]> + From<Vec<u8>> + From<Arc<[u8]>>> SharedBytes for T {}

/// Why a subscriber reads the log from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// Its queue is full. It reads the log when the queue is empty.
    QueueFull,
    /// It missed an event that is not in the backlog.
    Gap,
}

/// Where a room's events go.
pub trait Outbox {
    /// The bytes that it queues.
    type Chunk: SharedBytes;

    /// Bytes in the connection's queue.
    fn queued_bytes(&self, conn: ConnId) -> usize;

    /// How long a send takes now.
    fn send_time(&self) -> Duration;

    /// Appends to the connection's queue.
    fn send(&mut self, conn: ConnId, chunk: Self::Chunk);

    /// The frame with its payload compressed for a window of `bits`; `None` if that makes it no smaller.
    fn compress(&mut self, frame: &[u8], format: Format, bits: u8) -> Option<Vec<u8>>;

    /// Reports that the connection fell behind in this conversation, and that its subscriber is catching up now.
    fn fell_behind(&mut self, conn: ConnId, conversation: ConversationId, why: Behind);

    /// Reports a served slice. For each event of the log: the time it was received, and the number of its receivers.
    /// Also the number of all events sent.
    fn slice_served(&mut self, receipts: impl Iterator<Item = (Instant, u64)>, deliveries: u64);
}
