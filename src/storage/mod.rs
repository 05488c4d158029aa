//! The I/O shard: everything that touches PostgreSQL.
//!
//! ```text
//!   shards ──commits──► inlet ──► backlog (batcher: runs; known: who may send) ──► committers ──outcomes──► shards
//!                         │                                                          └──touched──► indexer
//!   shards ──reads────►   │  ───► reads (read_queue: whose turn; row level security of one user) ──results──► shards
//! ```
//!
//! Invariants:
//! - a conversation's mutations are in one run at a time, in the order its owner sent them, so their order holds;
//! - nothing is acknowledged before PostgreSQL has confirmed the commit, and nothing is refused that may have been
//!   committed: after a connection is lost during a statement the same statement is submitted again, with the same
//!   keys, and finds what the first one did (see `migrations/functions/commit/commit_messages.sql`);
//! - a slot is reserved for the outcome of every request; an outcome is never dropped.
//!
//! Deliberately absent: an ORM, write-behind, timers that hold a batch back (docs/decisions/009). SQL is in [`sql`] and
//! `migrations/` only.

pub mod accounts;
pub mod audit;
mod backlog;
pub mod backup;
pub mod batcher;
pub mod bell;
pub mod bots;
pub mod committer;
pub mod connect;
pub mod data_rights;
pub mod embedded;
pub mod examine;
pub mod export;
pub mod file_check;
pub mod file_shares;
pub mod files;
pub mod filter;
pub mod health;
pub mod import;
pub mod incoming_webhooks;
mod index_backlog;
pub mod indexer;
pub mod inlet;
pub mod installer;
pub mod jobs;
pub mod known;
pub mod log_reader;
pub mod logins;
pub mod migrate;
pub mod nodes;
mod observe;
pub mod read_connection;
pub mod read_queue;
pub mod readers;
pub mod reads;
mod row_cost;
pub mod rows;
pub mod rules;
pub mod safety;
pub mod server_lock;
pub mod sql;
pub mod sqlstate;
mod trail_end;
pub mod verdicts;
pub mod webhooks;
mod writer;

/// PostgreSQL could not be used at all.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The address is not a valid PostgreSQL URL.
    #[error("database.url: {0}")]
    Url(tokio_postgres::Error),
    /// PostgreSQL does not answer.
    #[error("cannot connect to PostgreSQL: {}", reason(.0))]
    Connect(tokio_postgres::Error),
    /// Another server has reserved the database; the text names it.
    #[error(
        "another server uses this database ({0}); stop that one, or set database.shared = true in both for the time \
         of a rolling upgrade"
    )]
    InUse(String),
    /// A statement of the set-up failed.
    #[error("{what}: {}", reason(.source))]
    Setup {
        /// The step that failed.
        what: &'static str,
        /// PostgreSQL's error.
        source: tokio_postgres::Error,
    },
    /// The migrations failed.
    #[error("migrating the database: {source}: {}", sqlstate::innermost(.source))]
    Migrate {
        /// The migration and PostgreSQL's error.
        #[from]
        source: refinery::Error,
    },
    /// The rule set's files are not in order.
    #[error("migrations/functions/{0}")]
    RuleSet(#[from] rules::RuleSetError),
    /// PostgreSQL refuses a file of the rule set.
    #[error("migrations/functions/{path}: {}", sqlstate::message(.source))]
    Rule {
        /// The file.
        path: String,
        /// PostgreSQL's error.
        source: tokio_postgres::Error,
    },
    /// The database is not one that this version can use.
    #[error("{0}")]
    Schema(String),
    /// PostgreSQL is set up in a way that could lose acknowledged messages or leak others' data.
    #[error("{0}")]
    Unsafe(String),
    /// The embedded PostgreSQL could not be run.
    #[error("embedded PostgreSQL: {0}")]
    Embedded(String),
    /// The pool could not be made.
    #[error("connection pool: {0}")]
    Pool(String),
}

/// An error with its cause: the driver shows only what it was doing.
fn reason(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
