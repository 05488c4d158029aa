//! The audit rows of account changes, each in the transaction of its change. Statements that are a transaction of their
//! own append theirs themselves (`sql::accounts`).
//!
//! Each is the last statement before COMMIT: the next transaction with an audit row waits for this one from here on.

use super::outcome::settle;
use super::{Accounts, Opened, QUERY_TIMEOUT};
use crate::error::Refusal;
use crate::ids::{SessionId, UserId};
use crate::storage::sql::audit as sql;
use deadpool_postgres::Transaction;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_postgres::Error;

impl Accounts {
    /// A page of the audit trail, newest first, for an administrator (`read/read_audit.sql` describes the filter). The
    /// read is a row of the audit trail itself.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn read_audit(&self, user: UserId, session: SessionId, filter: Value) -> Result<Vec<Value>, Refusal> {
        let (mut connection, _permit) = self.read_connection("read_audit").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::READ).await?;
            let rows = transaction.query(&statement, &[&filter]).await?;
            let entries = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Value>, Error>>()?;
            let position = |entry: Option<&Value>| entry.map(|entry| entry["position"].clone());
            let shown = json!({ "newest": position(entries.first()), "oldest": position(entries.last()) });
            let row = json!({
                "user_id": user, "session_id": session, "action": "read_audit",
                "details": { "filter": filter, "shown": shown },
            });
            append(&transaction, json!([row])).await?;
            transaction.commit().await?;
            Ok(entries)
        })
        .await;
        settle(connection, "read_audit", false, outcome)
    }
}

/// A new account, which is signed in.
pub(super) async fn registration(transaction: &Transaction<'_>, opened: &Opened) -> Result<(), Error> {
    let profile = &opened.profile;
    let after = json!({ "username": profile.username, "display_name": profile.display_name });
    append(transaction, json!([of_user("register", profile.id, opened.session, &json!({ "after": after }))])).await
}

/// A sign-in.
pub(super) async fn sign_in(transaction: &Transaction<'_>, opened: &Opened) -> Result<(), Error> {
    let (user, session) = (opened.profile.id, opened.session);
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

fn of_user(action: &str, user: UserId, session: SessionId, details: &Value) -> Value {
    json!({
        "user_id": user, "session_id": session, "action": action, "target_type": "user", "target_id": user,
        "details": details,
    })
}

/// Appends rows.
pub(super) async fn append(transaction: &Transaction<'_>, rows: Value) -> Result<(), Error> {
    let statement = transaction.prepare_cached(sql::APPEND).await?;
    transaction.execute(&statement, &[&rows]).await.map(drop)
}
