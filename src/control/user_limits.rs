//! Users' limits: sends the shards and the budget of requests whose are shrunk, and explains them at
//! `GET /admin/users/{id}/limits`.
//!
//! PostgreSQL knows whose limits are shrunk. This task asks it once a second. So a change applies within about a
//! second, also one that another server on the same database has made.

use super::extract::PathId;
use super::operators::AdminReader;
use super::problem::Problem;
use super::request_budget::RequestKind;
use super::state::{Control, now_seconds};
use crate::faults::warn_limited;
use crate::ids::UserId;
use crate::mesh::record::rfc3339;
use crate::mesh::standing::MarkedUsers;
use axum::Json as Reply;
use axum::extract::State;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use super::ports::LimitsPort;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// Keeps them informed, for as long as the server runs. If PostgreSQL does not answer, what was read last stays in
/// force.
pub async fn run(control: Control) {
    let mut known = Arc::new(MarkedUsers::default());
    loop {
        match control.accounts().marked_users(&control.live().factor_policy.admins).await {
            Ok(marks) if marks != known.marks => {
                known = Arc::new(MarkedUsers { version: known.version + 1, marks });
                control.requests().mark(Arc::clone(&known));
                control.limits().mark(Arc::clone(&known));
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
    let age_s = now_seconds() - account.created_at.unix_timestamp();
    if let Some(limits) = shown["limits"].as_array_mut() {
        let explain = |kind| json!(control.requests().explain(kind, user, age_s, Instant::now()));
        limits.extend(RequestKind::ALL.map(explain));
    }
    shown["user"] = json!({
        "id": user, "username": account.username, "created_at": rfc3339(account.created_at),
        "deactivated": !account.is_active,
    });
    Ok(Reply(shown))
}
