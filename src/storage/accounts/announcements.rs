//! Which profiles have changed without all of their conversations having been told.

use super::{Accounts, QUERY_TIMEOUT, settle, sql};
use crate::error::Refusal;
use crate::ids::{ConversationId, UserId};
use tokio::time::timeout;

impl Accounts {
    /// Users whose changed profile is to be told, with its version: at most `limit`, those that have waited longest.
    ///
    /// # Errors
    /// The store's failures.
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
    /// The store's failures.
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

    /// All conversations of `user` have told this version.
    ///
    /// # Errors
    /// The store's failures; it is found again then.
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
