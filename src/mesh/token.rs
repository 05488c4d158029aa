//! The name of a request that waits for its answer.

use crate::ids::ShardId;

/// Identifies a pending request in the table of the shard that sent it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Token {
    /// The shard that waits.
    pub shard: ShardId,
    /// Index into its table.
    pub index: u32,
}
