//! The rules of chat as pure state machines, `(now, input) → effects`. They do no I/O and read no clock; time is an
//! argument.
//!
//! - [`budget`]: how often a user may send, change and read.
//! - [`filter`]: which texts the server accepts.
//! - [`directory`]: a shard's users, with their connections, presence and revoked sessions.
//! - [`rooms`]: a shard's conversations, with the backlog of each and the fan-out to its subscribers.
//! - [`subscribers`]: the subscribers of one conversation, each with a cursor.
//! - [`published`]: the owner shard's record of which shards want a conversation's events.
//!
//! Because nothing here waits or reads a clock, a test can run any interleaving of events, and replay it.

pub mod budget;
pub mod directory;
pub mod filter;
pub mod published;
pub mod rooms;
pub mod subscribers;
