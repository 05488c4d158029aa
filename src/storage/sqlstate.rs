//! What an error code of PostgreSQL means for the statement that met it, decided in one place.
//!
//! Only an error that a text can cause is its sender's fault and final. Everything else is the store's: a missing
//! permission, a full disk, a table that another version renamed. It ends when an operator repairs the store, so the
//! same request succeeds later and is refused with `storage_unavailable` until then.

use tokio_postgres::error::SqlState;

/// Why PostgreSQL refused a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The session has ended; the outcome of the statement is not known.
    ConnectionEnded,
    /// It lost a race; the same statement may succeed at once.
    Race,
    /// The end of the audit trail was not free in time (`commit/append_audit.sql`): no other statement bounds its
    /// waits.
    AuditBusy,
    /// A value in it: too large, not text, against a constraint.
    Content,
    /// A fault inside PostgreSQL or our functions, which one row of many may have caused.
    Unclear,
    /// The store itself, whatever the rows are.
    Store,
}

impl Cause {
    /// The cause behind a code.
    #[must_use]
    pub fn of(state: &SqlState) -> Self {
        let races = [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::UNIQUE_VIOLATION,
            SqlState::QUERY_CANCELED,
        ];
        if races.contains(state) {
            return Self::Race;
        }
        match state.code().get(..2) {
            _ if *state == SqlState::LOCK_NOT_AVAILABLE => Self::AuditBusy,
            Some("08") => Self::ConnectionEnded,
            // 57P01 to 57P05: shut down, crashed, starting, dropped, idle for too long; 25P03: idle in a transaction.
            _ if state.code().starts_with("57P") || state.code() == "25P03" => Self::ConnectionEnded,
            Some("22" | "23" | "54") => Self::Content,
            Some("XX" | "P0") => Self::Unclear,
            _ => Self::Store,
        }
    }

    /// Whether a run of several rows is worth taking apart: one of them may be at fault alone.
    #[must_use]
    pub fn may_be_one_row(self) -> bool {
        matches!(self, Self::Content | Self::Race | Self::Unclear)
    }
}

/// More connections than PostgreSQL allows.
#[must_use]
pub fn is_too_many_connections(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS)
}

/// An error with the reasons behind it, which are clearer than "error connecting to server" and "db error".
#[must_use]
pub fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// PostgreSQL's message about a file, with the position in it.
pub(super) fn message(source: &tokio_postgres::Error) -> String {
    let Some(error) = source.as_db_error() else { return innermost(source) };
    let place = error.where_().and_then(|place| place.lines().next()).or(error.hint());
    place.map_or_else(|| error.message().to_owned(), |place| format!("{} ({place})", error.message()))
}

/// The last cause in an error's chain, which is PostgreSQL's own error.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blames_the_sender_only_for_errors_of_the_text() {
        let cases = [
            ("22021", Cause::Content),         // not UTF-8
            ("23514", Cause::Content),         // a check
            ("54000", Cause::Content),         // larger than an index allows
            ("42501", Cause::Store),           // a right is missing
            ("42703", Cause::Store),           // a column was renamed
            ("53100", Cause::Store),           // the disk is full
            ("58030", Cause::Store),           // the files cannot be read
            ("25006", Cause::Store),           // a replica
            ("XX000", Cause::Unclear),         // a fault of PostgreSQL's
            ("40P01", Cause::Race),            // a deadlock
            ("57014", Cause::Race),            // cancelled
            ("55P03", Cause::AuditBusy),       // lock_timeout
            ("57P01", Cause::ConnectionEnded), // terminated by an administrator
            ("57P03", Cause::ConnectionEnded), // starting
            ("08006", Cause::ConnectionEnded),
        ];
        for (code, cause) in cases {
            assert_eq!(Cause::of(&SqlState::from_code(code)), cause, "{code}");
        }
    }
}
