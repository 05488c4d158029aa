//! What retention removes.

use super::{RightsTables, setup};
use crate::error::Refusal;
use crate::ids::{ConversationId, Seq, UserId};
use crate::storage::accounts::Accounts;
use crate::storage::rows;
use crate::storage::sql::data_rights as sql;
use std::time::Duration;
use tokio_postgres::Error;

/// A conversation that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LookedAt {
    /// Which one; the next look begins behind it.
    pub conversation: ConversationId,
    /// If it has messages that are too old: who acts, and where its history begins.
    pub due: Option<(UserId, Seq)>,
}

/// Plans the job of retention, if the server or a conversation has a limit and the job is not planned.
///
/// # Errors
/// Failures of PostgreSQL.
pub async fn plan_retention(accounts: &Accounts, has_limit: bool) -> Result<(), Refusal> {
    accounts.rows("plan_retention", false, (sql::PLAN_RETENTION, &[&has_limit]), |_| Ok(())).await.map(drop)
}

impl RightsTables {
    /// The next conversation with messages that are too old, looking at `most` of them. `limit` is that of the whole
    /// server. `None` at the end.
    ///
    /// # Errors
    /// PostgreSQL's, as for all functions here.
    pub async fn due_history(
        &self,
        after: Option<ConversationId>,
        limit: Option<Duration>,
        most: i64,
    ) -> Result<Option<LookedAt>, Refusal> {
        let failed = || setup("looking for old messages");
        let after = after.map_or(0, ConversationId::number);
        let days = limit.map(|limit| limit.as_secs_f64() / 86_400.0);
        let row = self.client.query_opt(sql::DUE_HISTORY, &[&after, &days, &most]).await.map_err(failed())?;
        let Some(row) = row else { return Ok(None) };
        let read = || Ok::<(i64, Option<i64>, Option<i64>), Error>((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let (conversation, actor, to_seq) = read().map_err(failed())?;
        let due = actor.zip(to_seq).map(|(actor, seq)| (UserId(actor), Seq(seq)));
        Ok(Some(LookedAt { conversation: rows::conversation(conversation)?, due }))
    }

    /// The next conversation with rows that are not behind the beginning of its history.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn next_cleared(&self, after: Option<ConversationId>) -> Result<Option<ConversationId>, Refusal> {
        let failed = || setup("looking for cleared histories");
        let after = after.map_or(0, ConversationId::number);
        let row = self.client.query_opt(sql::NEXT_CLEARED, &[&after]).await.map_err(failed())?;
        row.map(|row| rows::conversation(row.try_get(0).map_err(failed())?)).transpose()
    }

    /// Removes `most` entries of a cleared part. Returns the number of messages, and whether there is more.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn remove_cleared(&self, conversation: ConversationId, most: i64) -> Result<(i64, bool), Refusal> {
        let row = self.client.query_one(sql::REMOVE_CLEARED, &[&conversation.number(), &most]).await;
        row.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?))).map_err(setup("removing old messages"))
    }
}
