//! The audit rows of account changes, each in the transaction of its change. Statements that are a transaction of their
//! own append theirs themselves (`sql::accounts`).
//!
//! Each is the last statement before COMMIT: the next transaction with an audit row waits for this one from here on.

use crate::ids::{SessionId, UserId};
use crate::storage::sql::audit as sql;
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
    let after = json!({ "username": names[0], "display_name": names[1] });
    append(transaction, json!([of_user("register", user, session, &json!({ "after": after }))])).await
}

/// A sign-in.
pub(super) async fn sign_in(transaction: &Transaction<'_>, user: UserId, session: SessionId) -> Result<(), Error> {
    let mut row = of_user("sign_in", user, session, &Value::Null);
    (row["target_type"], row["target_id"]) = (json!("session"), json!(session));
    append(transaction, json!([row])).await
}

/// A new password, and the sessions that it revoked.
pub(super) async fn new_password(
    transaction: &Transaction<'_>,
    user: UserId,
    session: SessionId,
    revoked: &[SessionId],
) -> Result<(), Error> {
    append(transaction, json!([of_user("change_password", user, session, &json!({ "revoked": revoked }))])).await
}

/// Another change of a user's own account.
pub(super) async fn change_of_user(
    transaction: &Transaction<'_>,
    action: &str,
    user: UserId,
    session: SessionId,
) -> Result<(), Error> {
    append(transaction, json!([of_user(action, user, session, &Value::Null)])).await
}

fn of_user(action: &str, user: UserId, session: SessionId, details: &Value) -> Value {
    json!({
        "user_id": user, "session_id": session, "action": action, "target_type": "user", "target_id": user,
        "details": details,
    })
}

/// Appends rows.
pub(in crate::storage) async fn append(transaction: &Transaction<'_>, rows: Value) -> Result<(), Error> {
    let statement = transaction.prepare_cached(sql::APPEND).await?;
    transaction.execute(&statement, &[&rows]).await.map(drop)
}
