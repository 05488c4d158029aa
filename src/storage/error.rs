//! Why PostgreSQL could not do what it was asked.

use super::rules::RuleSetError;

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
        "another server uses this database: {0}; stop that one, or set database.shared = true in both for the time of a \
         rolling upgrade"
    )]
    InUse(String),
    /// A statement of the set-up failed.
    #[error("{what}: {}", reason(.source))]
    Setup {
        /// What was being done.
        what: &'static str,
        /// What PostgreSQL said.
        source: tokio_postgres::Error,
    },
    /// The migrations failed.
    #[error("migrating the database: {source}: {}", innermost(.source))]
    Migrate {
        /// Which migration, and what PostgreSQL said.
        #[from]
        source: refinery::Error,
    },
    /// The rule set's files are not in order.
    #[error("migrations/functions/{0}")]
    RuleSet(#[from] RuleSetError),
    /// PostgreSQL refuses a file of the rule set.
    #[error("migrations/functions/{path}: {}", message(.source))]
    Rule {
        /// Which.
        path: String,
        /// What PostgreSQL said.
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
pub(super) fn reason(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// The last cause in an error's chain, which is what PostgreSQL said.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// PostgreSQL's message about a file, with the place in it.
fn message(source: &tokio_postgres::Error) -> String {
    let Some(error) = source.as_db_error() else { return innermost(source) };
    let place = error.where_().and_then(|place| place.lines().next()).or(error.hint());
    place.map_or_else(|| error.message().to_owned(), |place| format!("{} ({place})", error.message()))
}
