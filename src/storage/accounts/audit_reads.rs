//! Reads of the audit trail by administrators, and the row of a backup, which reads everything.

use super::audited::{append, append_of};
use super::outcome::settle;
use super::{Accounts, QUERY_TIMEOUT};
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::storage::sql::audit as sql;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_postgres::Error;

impl Accounts {
    /// A page of the audit trail, newest first, for an administrator (`read/read_audit.sql` describes the filter). The
    /// read is a row of the audit trail itself.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn read_audit(&self, caller: &Caller, filter: Value) -> Result<Vec<Value>, Refusal> {
        let (mut connection, _permit) = self.read_connection("read_audit").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::READ).await?;
            let rows = transaction.query(&statement, &[&filter]).await?;
            let entries = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Value>, Error>>()?;
            let position = |entry: Option<&Value>| entry.map(|entry| entry["position"].clone());
            let shown = json!({ "newest": position(entries.first()), "oldest": position(entries.last()) });
            let row = json!({ "details": { "filter": filter, "shown": shown } });
            append_of(&transaction, caller, "read_audit", row).await?;
            transaction.commit().await?;
            Ok(entries)
        })
        .await;
        settle(connection, "read_audit", false, outcome)
    }

    /// Records that an administrator reads what the server keeps about others.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn note_read(&self, caller: &Caller, action: &str) -> Result<(), Refusal> {
        let mut connection = self.connection("note_read").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            append_of(&transaction, caller, action, json!({})).await?;
            transaction.commit().await
        })
        .await;
        settle(connection, "note_read", false, outcome)
    }

    /// Records that a backup begins: it reads everything. `to` is where it is written.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn record_backup(&self, to: &str, is_encrypted: bool) -> Result<(), Refusal> {
        self.record_whole_read("create_backup", &json!({ "to": to, "encrypted": is_encrypted })).await
    }

    /// Records that an export for another server begins: it reads everything too.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn record_export(&self, to: &str, format: &str, has_files: bool) -> Result<(), Refusal> {
        self.record_whole_read("export", &json!({ "to": to, "format": format, "files": has_files })).await
    }

    async fn record_whole_read(&self, action: &'static str, details: &Value) -> Result<(), Refusal> {
        let mut connection = self.connection(action).await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            append(&transaction, json!([{ "action": action, "details": details }])).await?;
            transaction.commit().await
        })
        .await;
        settle(connection, action, false, outcome)
    }
}
