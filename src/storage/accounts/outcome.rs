//! Translates errors of PostgreSQL into refusals, and decides whether the connection can be used again.

use super::super::rows::{self, REFUSED};
use super::super::sqlstate::Cause;
use super::super::trail_end;
use crate::error::{ErrorCode, Refusal};
use crate::faults::{error_limited, warn_limited};
use deadpool_postgres::Object;
use tokio::time::error::Elapsed;
use tokio_postgres::{Error, error::SqlState};

/// Ends a call: returns the connection to the pool, or closes it when its query may still run, and translates an error.
/// `in_doubt`: the statement that makes the change durable was sent.
pub(in crate::storage) fn settle<T>(
    connection: Object,
    what: &'static str,
    in_doubt: bool,
    outcome: Result<Result<T, Error>, Elapsed>,
) -> Result<T, Refusal> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(refusal(what, in_doubt, &error)),
        Err(Elapsed { .. }) => {
            drop(Object::take(connection));
            warn_limited!(what, in_doubt, "PostgreSQL did not answer in time");
            Err(if in_doubt { outcome_unknown() } else { Refusal::storage_unavailable() })
        }
    }
}

fn outcome_unknown() -> Refusal {
    Refusal::new(
        ErrorCode::DeadlineExceeded,
        "No answer came in time. The change may have happened: check before you repeat it.",
    )
    .retry_after(1_000)
}

fn refusal(what: &'static str, in_doubt: bool, error: &Error) -> Refusal {
    let Some(db) = error.as_db_error() else {
        if error.is_closed() || is_io(error) {
            warn_limited!(what, in_doubt, %error, "the connection to PostgreSQL was lost");
            return if in_doubt { outcome_unknown() } else { Refusal::storage_unavailable() };
        }
        error_limited!(what, %error, "an account statement and its code disagree");
        return Refusal::new(ErrorCode::Internal, "The server has a fault. It has been logged.");
    };
    match (db.code(), db.constraint()) {
        (code, _) if code.code() == REFUSED => rows::refusal(db),
        (&SqlState::UNIQUE_VIOLATION, Some("users_username_key")) => {
            Refusal::new(ErrorCode::Conflict, "username: The name is taken. Choose another one.")
        }
        (&SqlState::UNIQUE_VIOLATION, Some("credentials_email_key")) => {
            Refusal::new(ErrorCode::Conflict, "email: The address already belongs to an account. Sign in instead.")
        }
        (code, _) if Cause::of(code) == Cause::AuditBusy => {
            warn_limited!(what, "another transaction holds the row of audit_head: the change was refused");
            trail_end::note_busy();
            Refusal::audit_trail_busy()
        }
        (code, _) if is_passing(code) => {
            warn_limited!(what, in_doubt, %error, "PostgreSQL cannot serve right now");
            // An error means that PostgreSQL did not commit. The exception is 57P…, which a stopping server sends: it
            // may follow a commit whose confirmation was lost.
            if in_doubt && code.code().starts_with("57P") { outcome_unknown() } else { Refusal::storage_unavailable() }
        }
        _ => {
            error_limited!(what, %error, detail = db.detail(), "an account statement was refused");
            Refusal::new(ErrorCode::Internal, "The server has a fault. It has been logged.")
        }
    }
}

fn is_io(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// Whether the same request can succeed later: the store is at fault, or the request lost a race. Account statements
/// handle the constraints that a value can break, so any other violation is a server fault.
fn is_passing(code: &SqlState) -> bool {
    *code != SqlState::UNIQUE_VIOLATION && Cause::of(code) != Cause::Content
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_temporary_errors_from_server_faults() {
        for code in ["08006", "40P01", "53300", "57P01", "57014", "58030", "25006", "42501", "42P01"] {
            assert!(is_passing(&SqlState::from_code(code)), "{code}");
        }
        for code in ["23505", "22021"] {
            assert!(!is_passing(&SqlState::from_code(code)), "{code}");
        }
    }
}
