//! The changed profiles that are not yet announced in all of their conversations.

use super::{Accounts, QUERY_TIMEOUT, settle, sql};
use crate::error::Refusal;
use crate::ids::{ConversationId, UserId};
use tokio::time::timeout;

impl Accounts {
    /// Users whose changed profile is to be announced, with its version: at most `limit`, longest waiting first.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn unannounced(&self, limit: i64) -> Result<Vec<(UserId, i64)>, Refusal> {
        let connection = self.connection("unannounced").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::UNANNOUNCED).await?;
            let rows = connection.query(&statement, &[&limit]).await?;
            rows.iter().map(|row| Ok((UserId(row.try_get(0)?), row.try_get(1)?))).collect()
        })
        .await;
        settle(connection, "unannounced", false, outcome)
    }

    /// Conversations of `user` after `last` whose log does not have this version: at most `limit`, ascending.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn untold(
        &self,
        user: UserId,
        version: i64,
        last: Option<ConversationId>,
        limit: i64,
    ) -> Result<Vec<ConversationId>, Refusal> {
        let last = last.map_or(0, ConversationId::number);
        let connection = self.connection("untold").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::UNTOLD).await?;
            let rows = connection.query(&statement, &[&user.0, &version, &last, &limit]).await?;
            rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<i64>, _>>()
        })
        .await;
        let numbers = settle(connection, "untold", false, outcome)?;
        Ok(numbers.into_iter().filter_map(ConversationId::from_number).collect())
    }

    /// Records that this version is announced in all conversations of `user`.
    ///
    /// # Errors
    /// Failures of PostgreSQL; the profile is found again then.
    pub async fn announced(&self, user: UserId, version: i64) -> Result<(), Refusal> {
        let connection = self.connection("announced").await?;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(sql::ANNOUNCED).await?;
            connection.execute(&statement, &[&user.0, &version]).await
        })
        .await;
        settle(connection, "announced", false, outcome).map(drop)
    }
}
