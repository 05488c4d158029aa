//! The rules of chat as pure state machines, `(now, input) → effects`. They do no I/O and read no clock; time is an
//! argument.
//!
//! - [`directory`]: users, their connections and presence, and what was revoked or changed lately.
//! - [`filter`]: which texts are refused, held for a moderator or flagged.
//! - [`in_order`]: events of other nodes that arrive before the ones they follow.
//! - [`published`]: the owner shard's record of the shards that subscribe to a conversation's events.
//! - [`rooms`]: a shard's conversations: subscribers, backlogs, the fan-out.
//! - [`subscribers`]: a shard's subscribers of a conversation, each with a cursor.
//! - [`typing`]: who may be seen typing, and who must not see it.
//!
//! Because nothing here waits or reads a clock, a test can run any interleaving of events, and replay it.

pub mod directory;
pub mod filter;
pub mod in_order;
pub mod invocations;
pub mod published;
pub mod rooms;
pub mod subscribers;
pub mod typing;
