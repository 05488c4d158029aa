//! The audit rows of account changes, each in the transaction of its change. Statements that are a transaction of their
//! own append theirs themselves (`sql::accounts`).
//!
//! Each is the last statement before COMMIT: the next transaction with an audit row waits for this one from here on.
//!
//! A row has the address and the `User-Agent` of the request that caused it. A row without one has those of its
//! session: at a sign-in they are the same.

use crate::audit::caller::Caller;
use crate::ids::{SessionId, UserId};
use crate::storage::sql::audit as sql;
use crate::storage::trail_end;
use deadpool_postgres::Transaction;
use serde_json::{Value, json};
use tokio_postgres::Error;

/// A new account, which is signed in, with its username and its display name.
pub(super) async fn registration(
    transaction: &Transaction<'_>,
    user: UserId,
    session: SessionId,
    names: [&str; 2],
) -> Result<(), Error> {
    let row = json!({
        "user_id": user, "session_id": session, "action": "register", "target_type": "user", "target_id": user,
        "details": { "after": { "username": names[0], "display_name": names[1] } },
    });
    append(transaction, json!([row])).await
}

/// A sign-in.
pub(super) async fn sign_in(transaction: &Transaction<'_>, user: UserId, session: SessionId) -> Result<(), Error> {
    let row = json!({
        "user_id": user, "session_id": session, "action": "sign_in", "target_type": "session", "target_id": session,
    });
    append(transaction, json!([row])).await
}

/// A new password, the sessions that it revoked, and whether a second factor came with it.
pub(super) async fn new_password(
    transaction: &Transaction<'_>,
    caller: &Caller,
    revoked: &[SessionId],
    with_factor: bool,
) -> Result<(), Error> {
    let mut row = json!({ "target_type": "user", "target_id": caller.user, "details": { "revoked": revoked } });
    if with_factor {
        row["details"]["second_factor"] = true.into();
    }
    append_of(transaction, caller, "change_password", row).await
}

/// Another change of a user's own account.
pub(super) async fn change_of_user(transaction: &Transaction<'_>, caller: &Caller, action: &str) -> Result<(), Error> {
    append_of(transaction, caller, action, json!({ "target_type": "user", "target_id": caller.user })).await
}

/// Appends a row of what a caller did. `row` has the other columns.
pub(in crate::storage) async fn append_of(
    transaction: &Transaction<'_>,
    caller: &Caller,
    action: &str,
    row: Value,
) -> Result<(), Error> {
    append(transaction, json!([row_of(caller, action, row)])).await
}

/// A row of what a caller did; `row` has the other columns.
pub(in crate::storage) fn row_of(caller: &Caller, action: &str, mut row: Value) -> Value {
    row["user_id"] = json!(caller.user);
    row["session_id"] = json!(caller.session);
    row["action"] = json!(action);
    if let (Value::Object(row), Value::Object(source)) = (&mut row, json!(*caller.source)) {
        row.extend(source);
    }
    row
}

/// Appends rows. While the end of the trail is busy, it waits for a moment only.
pub(in crate::storage) async fn append(transaction: &Transaction<'_>, rows: Value) -> Result<(), Error> {
    let wait_ms = trail_end::wait_ms().max(trail_end::TRIAL_MS);
    if wait_ms < trail_end::WAIT_MS {
        let statement = transaction.prepare_cached(sql::SET_WAIT_MS).await?;
        transaction.execute(&statement, &[&wait_ms.to_string()]).await?;
    }
    let statement = transaction.prepare_cached(sql::APPEND).await?;
    let appended = transaction.execute(&statement, &[&rows]).await;
    appended.map(|_| trail_end::note_free())
}
