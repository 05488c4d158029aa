//! What the rooms ask of the shard: the only way out of this module.

use crate::ids::{ConnId, ConversationId};
use crate::wire::Format;
use std::sync::Arc;
use std::time::Instant;

/// Immutable bytes that several connections' queues share.
pub trait Chunk: Clone + AsRef<[u8]> + From<Vec<u8>> + From<Arc<[u8]>> {}

impl<T: Clone + AsRef<[u8]> + From<Vec<u8>> + From<Arc<[u8]>>> Chunk for T {}

/// Why a subscriber reads the log from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Behind {
    /// Its queue has no room: it reads the log once the queue has drained.
    QueueFull,
    /// It lacks an event that is not in the backlog.
    Gap,
}

/// Where a room's events go.
pub trait Outbox {
    /// The bytes that it queues.
    type Chunk: Chunk;

    /// Bytes in the connection's queue.
    fn queued_bytes(&self, conn: ConnId) -> usize;

    /// Appends to the connection's queue.
    fn send(&mut self, conn: ConnId, chunk: Self::Chunk);

    /// A whole frame like `frame`, its payload compressed for a window of `bits`; `None` when that does not pay.
    fn compress(&mut self, frame: &[u8], format: Format, bits: u8) -> Option<Vec<u8>>;

    /// The connection has fallen behind in this conversation; its subscriber is catching up now.
    fn fell_behind(&mut self, conn: ConnId, conversation: ConversationId, why: Behind);

    /// A slice of a room was served: for each event of the log, when it was received and how many subscribers got it,
    /// and the number of events sent in all.
    fn slice_served(&mut self, receipts: impl Iterator<Item = (Instant, u64)>, deliveries: u64);
}
