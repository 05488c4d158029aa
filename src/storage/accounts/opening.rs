//! Sessions begin with a row, a refresh token and a row of the audit trail.

use super::outcome::settle;
use super::{Accounts, Login, NewAccount, NewSession, Opened, QUERY_TIMEOUT, audited, opened};
use crate::error::Refusal;
use crate::storage::sql::accounts as sql;
use deadpool_postgres::Transaction;
use tokio::time::timeout;
use tokio_postgres::Error;

impl Accounts {
    /// Creates a user and opens the first session.
    ///
    /// # Errors
    /// `conflict` when the username or the email is taken; or a failure of PostgreSQL.
    pub async fn register(&self, account: NewAccount<'_>, session: NewSession<'_>) -> Result<Opened, Refusal> {
        let mut connection = self.connection("register").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::REGISTER).await?;
            let row = transaction
                .query_one(
                    &statement,
                    &[
                        &account.username,
                        &account.display_name,
                        &account.email,
                        &account.password_hash,
                        &session.device_name,
                        &session.ip,
                    ],
                )
                .await?;
            let opened = opened(&row)?;
            insert_refresh_token(&transaction, &opened, session.refresh_hash, session.refresh_lifetime_seconds).await?;
            let names = [account.username, account.display_name];
            audited::registration(&transaction, opened.profile.id, opened.session, names).await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(opened)
        })
        .await;
        settle(connection, "register", in_doubt, outcome)
    }

    /// Opens a session for a login whose password was verified; `None` when the password was changed since, or the
    /// user needs a second factor.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn open_session(&self, login: &Login, session: NewSession<'_>) -> Result<Option<Opened>, Refusal> {
        let mut connection = self.connection("open_session").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let Some(opened) = open_session_with(&transaction, login, session, false).await? else { return Ok(None) };
            in_doubt = true;
            transaction.commit().await?;
            Ok(Some(opened))
        })
        .await;
        settle(connection, "open_session", in_doubt, outcome)
    }
}

/// Opens a session in a transaction, and audits it; `None` as for [`super::Accounts::open_session`]. Call it last.
pub(super) async fn open_session_with(
    transaction: &Transaction<'_>,
    login: &Login,
    session: NewSession<'_>,
    with_factor: bool,
) -> Result<Option<Opened>, Error> {
    let statement = transaction.prepare_cached(sql::OPEN_SESSION).await?;
    let Login { user, password_hash, .. } = login;
    let row = transaction
        .query_opt(&statement, &[&user.0, password_hash, &session.device_name, &session.ip, &with_factor])
        .await?;
    let Some(row) = row else { return Ok(None) };
    let opened = opened(&row)?;
    insert_refresh_token(transaction, &opened, session.refresh_hash, session.refresh_lifetime_seconds).await?;
    audited::sign_in(transaction, *user, opened.session).await?;
    Ok(Some(opened))
}

pub(super) async fn insert_refresh_token(
    transaction: &Transaction<'_>,
    opened: &Opened,
    hash: &[u8; 32],
    lifetime_seconds: i64,
) -> Result<(), Error> {
    let statement = transaction.prepare_cached(sql::INSERT_REFRESH_TOKEN).await?;
    let seconds = lifetime_seconds as f64;
    transaction
        .execute(&statement, &[&hash.as_slice(), &opened.session.0, &opened.profile.id.0, &seconds])
        .await
        .map(|_| ())
}
