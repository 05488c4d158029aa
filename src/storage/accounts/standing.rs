//! What PostgreSQL knows of a user's standing.

use super::audited::append_of;
use super::outcome::settle;
use super::{Accounts, QUERY_TIMEOUT};
use crate::audit::caller::Caller;
use crate::error::{ErrorCode, Refusal};
use crate::ids::UserId;
use crate::mesh::standing::{LimitReason, MARKED_MAX, Reasons};
use crate::storage::sql::standing as sql;
use serde_json::json;
use std::collections::HashMap;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::Error;

/// An account whose limits an administrator looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitedAccount {
    /// Its name.
    pub username: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Whether it may sign in.
    pub is_active: bool,
}

impl Accounts {
    /// The users whose limits are shrunk, and why; at most [`MARKED_MAX`].
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn marked_users(&self, admins: &[UserId]) -> Result<HashMap<UserId, Reasons>, Refusal> {
        let admins: Vec<i64> = admins.iter().map(|admin| admin.0).collect();
        let connection = self.connection("marked_users").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::MARKED_USERS).await?;
            let rows = connection.query(&statement, &[&admins, &(MARKED_MAX as i64)]).await?;
            let marked = rows.iter().map(|row| {
                let none = Reasons::default();
                let reported = none.with_if(LimitReason::Reported, row.try_get(1)?);
                Ok((UserId(row.try_get(0)?), reported.with_if(LimitReason::Slowed, row.try_get(2)?)))
            });
            marked.collect::<Result<HashMap<UserId, Reasons>, Error>>()
        })
        .await;
        settle(connection, "marked_users", false, outcome)
    }

    /// The account whose limits an administrator looks at. The read is a row of the audit trail.
    ///
    /// # Errors
    /// `not_found`, and failures of PostgreSQL.
    pub async fn read_limited_account(&self, admin: &Caller, user: UserId) -> Result<LimitedAccount, Refusal> {
        let (mut connection, _permit) = self.read_connection("read_user_limits").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::ACCOUNT).await?;
            let Some(row) = transaction.query_opt(&statement, &[&user.0]).await? else { return Ok(None) };
            let account =
                LimitedAccount { username: row.try_get(0)?, created_at: row.try_get(1)?, is_active: row.try_get(2)? };
            let row = json!({ "target_type": "user", "target_id": user });
            append_of(&transaction, admin, "read_user_limits", row).await?;
            transaction.commit().await?;
            Ok(Some(account))
        })
        .await;
        let found: Option<LimitedAccount> = settle(connection, "read_user_limits", false, outcome)?;
        found.ok_or_else(|| Refusal::new(ErrorCode::NotFound, "There is no such user."))
    }
}
