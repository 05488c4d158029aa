//! The I/O shard: everything that touches PostgreSQL.
//!
//! ```text
//!   shards ──commits──► inlet ──► 2 × committer (batcher: runs; one statement per run) ──outcomes──► shards
//!                         │                                  └──touched──► indexer (the search, a little later)
//!   shards ──reads────►   │  ───► reads (read_queue: whose turn; one user's row level security per read) ──results──► shards
//! ```
//!
//! Invariants:
//! - a conversation's mutations go through one committer, in the order its owner sent them, so their order holds;
//! - nothing is answered as committed before PostgreSQL has said so, and nothing as refused that may have been
//!   committed: after a connection is lost during a statement the same statement is submitted again, with the same
//!   keys, and finds what the first one did (see `migrations/functions/commit/commit_messages.sql`);
//! - every request has a reserved place for its outcome; an outcome is never dropped.
//!
//! Deliberately absent: an ORM, write-behind, timers that hold a batch back. SQL is in [`sql`] and `migrations/` only.

pub mod accounts;
pub mod batcher;
pub mod bell;
pub mod committer;
pub mod connect;
pub mod embedded;
mod error;
pub mod health;
pub mod indexer;
pub mod inlet;
pub mod installer;
pub mod migrate;
pub mod read_connection;
pub mod read_queue;
pub mod readers;
pub mod reads;
pub mod rows;
pub mod rules;
pub mod server_lock;
pub mod sql;
pub mod sqlstate;
mod verdicts;

pub use error::StorageError;
