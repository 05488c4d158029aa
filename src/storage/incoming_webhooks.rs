//! Incoming webhooks in PostgreSQL, and the bots that post through them. There are hashes of their tokens only.

use super::accounts::{Accounts, row_of};
use super::rows::{self, Statement};
use super::sql::incoming_webhooks as sql;
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::{ConversationId, UserId};
use serde_json::json;
use time::OffsetDateTime;
use tokio_postgres::Row;

/// A webhook, as those see it who may manage it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IncomingWebhook {
    /// Its number.
    pub id: i64,
    /// Where it posts.
    pub conversation: Option<ConversationId>,
    /// Who posts.
    pub bot: UserId,
    /// The name of the bot.
    pub name: String,
    /// Who made it.
    pub owner: UserId,
    /// When.
    pub created_at: OffsetDateTime,
    /// When it was used last, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
}

/// Handle to the tables of incoming webhooks; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct IncomingStore(Accounts);

impl IncomingStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// Creates a webhook and its bot, which is not a member yet. Returns the numbers of both.
    ///
    /// # Errors
    /// `not_found`, `not_member`, `forbidden`, `conflict` when there are too many; failures of PostgreSQL, as for all
    /// functions here.
    pub async fn create(
        &self,
        caller: &Caller,
        conversation: ConversationId,
        name: &str,
        username: &str,
        token_hash: &[u8; 32],
    ) -> Result<(i64, UserId), Refusal> {
        let row = row_of(caller, "create_incoming_webhook", json!({}));
        let statement: Statement<'_> =
            (sql::CREATE, &[&caller.user.0, &conversation.number(), &name, &username, &token_hash.as_slice(), &row]);
        let read = |row: &Row| Ok((row.try_get(0)?, UserId(row.try_get(1)?)));
        let created = self.0.rows("create_incoming_webhook", true, statement, read).await?;
        created.first().copied().ok_or_else(Refusal::storage_unavailable)
    }

    /// Deletes a webhook that the caller may manage. Returns its bot and the conversation that the bot must leave.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn delete(&self, caller: &Caller, id: i64) -> Result<Option<(UserId, ConversationId)>, Refusal> {
        let row = row_of(caller, "delete_incoming_webhook", json!({}));
        let statement: Statement<'_> = (sql::DELETE, &[&caller.user.0, &id, &row]);
        let read = |row: &Row| Ok((UserId(row.try_get(0)?), row.try_get(1)?));
        let deleted = self.0.rows("delete_incoming_webhook", true, statement, read).await?;
        deleted.first().map(|(bot, number)| Ok((*bot, rows::conversation(*number)?))).transpose()
    }

    /// Replaces the token of a webhook that the caller may manage. Returns whether there is one.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn rotate(&self, caller: &Caller, id: i64, token_hash: &[u8; 32]) -> Result<bool, Refusal> {
        let row = row_of(caller, "rotate_incoming_webhook", json!({}));
        let statement: Statement<'_> = (sql::ROTATE, &[&caller.user.0, &id, &token_hash.as_slice(), &row]);
        self.0.is_true("rotate_incoming_webhook", true, statement).await
    }

    /// The webhooks that a user has made; with a conversation, those that the user may manage in it.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn list(
        &self,
        user: UserId,
        conversation: Option<ConversationId>,
    ) -> Result<Vec<IncomingWebhook>, Refusal> {
        let statement: Statement<'_> = (sql::LIST, &[&user.0, &conversation.map(ConversationId::number)]);
        let read = |row: &Row| {
            Ok(IncomingWebhook {
                id: row.try_get(0)?,
                conversation: ConversationId::from_number(row.try_get(1)?),
                bot: UserId(row.try_get(2)?),
                name: row.try_get(3)?,
                owner: UserId(row.try_get(4)?),
                created_at: row.try_get(5)?,
                last_used_at: row.try_get(6)?,
            })
        };
        self.0.read_rows("incoming_webhooks", statement, read).await
    }

    /// The conversation and the bot of a token.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn find(&self, token_hash: &[u8; 32]) -> Result<Option<(ConversationId, UserId)>, Refusal> {
        let statement: Statement<'_> = (sql::USE, &[&token_hash.as_slice()]);
        let read = |row: &Row| Ok((row.try_get(0)?, UserId(row.try_get(1)?)));
        let found = self.0.rows("use_incoming_webhook", false, statement, read).await?;
        found.first().map(|(number, bot)| Ok((rows::conversation(*number)?, *bot))).transpose()
    }
}
