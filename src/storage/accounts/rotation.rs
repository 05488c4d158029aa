//! The rotation of refresh tokens; `auth::refresh` explains the rules.

use super::opening::insert_refresh_token;
use super::outcome::settle;
use super::{Accounts, Opened, QUERY_TIMEOUT, opened};
use crate::address::RequestSource;
use crate::error::Refusal;
use crate::ids::{SessionId, UserId};
use crate::storage::sql::accounts as sql;
use tokio::time::timeout;
use tokio_postgres::types::{Json as JsonColumn, ToSql};

/// A refresh token that is to be exchanged.
#[derive(Clone, Copy, Debug)]
pub struct RefreshExchange<'a> {
    /// Digest of the token.
    pub hash: &'a [u8; 32],
    /// Digest of its successor.
    pub new_hash: &'a [u8; 32],
    /// How long the successor is valid.
    pub lifetime_seconds: i64,
    /// For how long the successor of a spent token is returned again.
    pub grace_seconds: i64,
    /// Where the request comes from.
    pub source: &'a RequestSource,
}

/// The result of an exchange.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rotation {
    /// The successor is stored; the old token is spent.
    Rotated(Opened),
    /// The token was spent a moment ago and its successor is unused: an answer was lost, or two requests were sent at
    /// once.
    Repeated(Opened),
    /// The token had been spent before: another client has it. The session is revoked now.
    Reused {
        /// The user of the session.
        user: UserId,
        /// The session, revoked by this call or before.
        session: SessionId,
    },
    /// The token has expired.
    Expired,
    /// The token is unknown, or its session is revoked.
    Invalid,
}

impl Accounts {
    /// Exchanges a refresh token for its successor.
    ///
    /// # Errors
    /// Failures of PostgreSQL. A token that is not good is an [`Ok`] other than [`Rotation::Rotated`].
    pub async fn rotate_refresh(&self, refresh: RefreshExchange<'_>) -> Result<Rotation, Refusal> {
        let RefreshExchange { hash, new_hash, lifetime_seconds, grace_seconds, source } = refresh;
        let ip = source.address.map(|address| address.to_string());
        let mut connection = self.connection("rotate_refresh").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let statement = transaction.prepare_cached(sql::LOCK_REFRESH_TOKEN).await?;
            let grace = grace_seconds as f64;
            let Some(row) = transaction.query_opt(&statement, &[&hash.as_slice(), &grace]).await? else {
                return Ok(Rotation::Invalid);
            };
            let opened = opened(&row)?;
            let (user, session) = (opened.profile.id, opened.session);
            let revoked: bool = row.try_get("revoked")?;
            // Reuse comes first: a spent token is a sign of a thief even when it has also expired.
            if row.try_get("spent")? {
                if row.try_get("in_grace")? {
                    let statement = transaction.prepare_cached(sql::SUCCESSOR_IS_SPENT).await?;
                    let successor = transaction.query_opt(&statement, &[&new_hash.as_slice(), &session.0]).await?;
                    match successor.map(|row| row.try_get(0)).transpose()? {
                        Some(false) if !revoked => return Ok(Rotation::Repeated(opened)),
                        // Its successor was made with another key, or the session is over: no sign of a thief.
                        None | Some(false) => return Ok(Rotation::Invalid),
                        Some(true) => {}
                    }
                }
                let statement = transaction.prepare_cached(sql::REVOKE_SESSION).await?;
                let (action, reason) = ("revoke_session", "A spent refresh token was used again.");
                let parameters: [&(dyn ToSql + Sync); 6] =
                    [&session.0, &user.0, &session.0, &action, &reason, &JsonColumn(source)];
                transaction.execute(&statement, &parameters).await?;
                in_doubt = true;
                transaction.commit().await?;
                return Ok(Rotation::Reused { user, session });
            }
            if revoked {
                return Ok(Rotation::Invalid);
            }
            if row.try_get("expired")? {
                return Ok(Rotation::Expired);
            }
            let statement = transaction.prepare_cached(sql::SPEND_REFRESH_TOKEN).await?;
            transaction.execute(&statement, &[&hash.as_slice()]).await?;
            insert_refresh_token(&transaction, &opened, new_hash, lifetime_seconds).await?;
            let statement = transaction.prepare_cached(sql::TOUCH_SESSION).await?;
            transaction.execute(&statement, &[&session.0, &ip]).await?;
            in_doubt = true;
            transaction.commit().await?;
            Ok(Rotation::Rotated(opened))
        })
        .await;
        settle(connection, "rotate_refresh", in_doubt, outcome)
    }
}
