//! Users' limits: tells the shards whose are shrunk, and explains them at `GET /admin/users/{id}/limits`.
//!
//! PostgreSQL knows whose limits are shrunk. This task asks it once a second. So a change applies within about a
//! second, also one that another server on the same database has made.

use super::extract::PathId;
use super::operators::AdminReader;
use super::problem::Problem;
use super::state::Control;
use crate::faults::warn_limited;
use crate::ids::UserId;
use crate::mesh::record::rfc3339;
use crate::mesh::standing::MarkedUsers;
use crate::storage::accounts::Accounts;
use axum::Json as Reply;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub use super::ports::LimitsPort;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the shards informed, for as long as the server runs. If PostgreSQL does not answer, what was read last stays
/// in force.
pub async fn run(accounts: Accounts, admins: Vec<UserId>, port: Arc<dyn LimitsPort>) {
    let mut known = Arc::new(MarkedUsers::default());
    loop {
        match accounts.marked_users(&admins).await {
            Ok(marks) if marks != known.marks => {
                known = Arc::new(MarkedUsers { version: known.version + 1, marks });
                port.mark(Arc::clone(&known));
            }
            Ok(_) => {}
            Err(_) => warn_limited!("whose limits are shrunk could not be read; it is tried again every second"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

pub(super) async fn show(
    State(control): State<Control>,
    reader: AdminReader,
    PathId(user): PathId,
) -> Result<Reply<Value>, Problem> {
    let user = UserId(user);
    let account = control.accounts().read_limited_account(&reader.caller, user).await?;
    let live = control.limits().explain(user, account.created_at.unix_timestamp()).await?;
    let mut shown: Value = serde_json::from_slice(&live).map_err(|_| Problem::internal())?;
    shown["user"] = json!({
        "id": user, "username": account.username, "created_at": rfc3339(account.created_at),
        "deactivated": !account.is_active,
    });
    Ok(Reply(shown))
}
