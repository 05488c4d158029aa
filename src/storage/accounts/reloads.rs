//! The rows of the audit trail for reloads of the configuration.

use super::audited::{append, row_of};
use super::{Accounts, QUERY_TIMEOUT, settle};
use crate::audit::caller::Caller;
use crate::error::Refusal;
use serde_json::{Value, json};
use tokio::time::timeout;

impl Accounts {
    /// Records a reload: by an administrator, or by a signal.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn note_reload(&self, caller: Option<&Caller>, details: Value) -> Result<(), Refusal> {
        let mut connection = self.connection("note_reload").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let row = json!({ "details": details });
            let row = match caller {
                Some(caller) => row_of(caller, "reload_configuration", row),
                None => json!({ "action": "reload_configuration", "reason": "SIGHUP", "details": row["details"] }),
            };
            append(&transaction, json!([row])).await?;
            transaction.commit().await
        })
        .await;
        settle(connection, "note_reload", false, outcome)
    }
}
