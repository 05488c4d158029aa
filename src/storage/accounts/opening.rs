//! Sessions begin with a row, a refresh token and a row of the audit trail.

use super::{Login, NewSession, Opened, audited, opened};
use crate::storage::sql::accounts as sql;
use deadpool_postgres::Transaction;
use tokio_postgres::Error;

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
