//! Changes of passwords.

use super::outcome::settle;
use super::two_factor::{CheckedFactor, mark_session, use_up};
use super::{Accounts, Login, QUERY_TIMEOUT, audited, session_ids};
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::SessionId;
use crate::storage::sql::{accounts as sql, two_factor as factor_sql};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;

/// The result of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PasswordOutcome {
    /// It is changed, and these other sessions are revoked.
    Changed(Vec<SessionId>),
    /// The code was used before, or there is no such backup code.
    UsedCode,
    /// The password was changed meanwhile.
    Outdated,
}

impl Accounts {
    /// Sets a new password, revokes every other session and uses the code up, if there is one, in one transaction: a
    /// change that fails leaves the code to its user. `verified` is the account whose current password was right.
    ///
    /// # Errors
    /// The store's failures.
    pub async fn change_password(
        &self,
        verified: &Login,
        new_hash: &str,
        factor: Option<CheckedFactor>,
        caller: &Caller,
    ) -> Result<PasswordOutcome, Refusal> {
        let user = verified.user;
        let mut connection = self.connection("change_password").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            if let Some(factor) = factor {
                if !use_up(&transaction, user, factor).await? {
                    return Ok(PasswordOutcome::UsedCode);
                }
                mark_session(&transaction, user, caller.session).await?;
            }
            let statement = transaction.prepare_cached(sql::CHANGE_PASSWORD).await?;
            if transaction.execute(&statement, &[&user.0, &verified.password_hash, &new_hash]).await? == 0 {
                return Ok(PasswordOutcome::Outdated);
            }
            let statement = transaction.prepare_cached(sql::REVOKE_ALL).await?;
            let revoked = session_ids(&transaction.query(&statement, &[&user.0, &Some(caller.session.0)]).await?)?;
            audited::new_password(&transaction, caller, &revoked, factor.is_some()).await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(PasswordOutcome::Changed(revoked))
        })
        .await;
        settle(connection, "change_password", in_doubt, outcome)
    }

    /// Replaces the hash of an older version; `false` if the hash has changed since `verified` was read.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn rehash_password(&self, verified: &Login, new_hash: &str) -> Result<bool, Refusal> {
        let connection = self.connection("rehash_password").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(factor_sql::REHASH_PASSWORD).await?;
            in_doubt = true;
            let parameters: [&(dyn ToSql + Sync); 3] = [&verified.user.0, &verified.password_hash, &new_hash];
            Ok(connection.execute(&statement, &parameters).await? > 0)
        })
        .await;
        settle(connection, "rehash_password", in_doubt, outcome)
    }
}
