//! Bots that programs sign in as, in PostgreSQL. There are digests of their tokens only.

use super::accounts::{Accounts, FieldChange, row_of};
use super::rows::{self, Statement};
use super::sql::bots as sql;
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::{ConversationId, SessionId, UserId};
use crate::mesh::bot_grant::BotGrant;
use serde_json::{Value, json};
use std::sync::Arc;
use time::OffsetDateTime;
use tokio_postgres::{Error, Row};

/// A new bot, whose fields were checked.
#[derive(Clone, Copy, Debug)]
pub struct NewBot<'a> {
    /// Its unique name.
    pub username: &'a str,
    /// The name that people see.
    pub display_name: &'a str,
    /// The address of its picture.
    pub avatar_url: Option<&'a str>,
    /// What it is for.
    pub bio: Option<&'a str>,
}

/// What changes of a bot's profile.
#[derive(Clone, Copy, Debug)]
pub struct BotChange<'a> {
    /// The name that people see; none keeps it.
    pub display_name: Option<&'a str>,
    /// The address of its picture.
    pub avatar_url: FieldChange<&'a str>,
    /// What it is for.
    pub bio: FieldChange<&'a str>,
}

/// A new token.
#[derive(Clone, Copy, Debug)]
pub struct NewToken<'a> {
    /// What its owner calls it.
    pub name: &'a str,
    /// The digest of the token.
    pub hash: &'a [u8; 32],
    /// The names of its scopes.
    pub scopes: &'a [&'a str],
    /// The conversations that it is limited to.
    pub conversations: &'a [ConversationId],
    /// For how many seconds it is valid.
    pub seconds: u32,
}

/// A token, as the owner of the bot sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenInfo {
    /// Its number, which is that of its session.
    pub id: SessionId,
    /// What its owner calls it.
    pub name: String,
    /// The names of its scopes.
    pub scopes: Vec<String>,
    /// The conversations that it is limited to; none means all of the bot's.
    pub conversations: Vec<ConversationId>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When it expires.
    pub expires_at: OffsetDateTime,
    /// When it was used last, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
}

/// A token that is valid now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UsedToken {
    /// Its session.
    pub session: SessionId,
    /// What it permits.
    pub grant: Arc<BotGrant>,
    /// The age of the bot's account in seconds.
    pub account_age_s: i64,
}

/// A secret, encrypted, and the key that it is encrypted with.
#[derive(Clone, Copy, Debug)]
pub struct SealedBotSecret<'a> {
    /// The key.
    pub key_id: &'a str,
    /// The bytes.
    pub sealed: &'a [u8],
}

/// Where a command is posted, and the secret that signs the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommandUrl {
    /// The URL.
    pub url: String,
    /// The key that the secret is encrypted with.
    pub key_id: String,
    /// The encrypted secret.
    pub sealed: Vec<u8>,
}

/// Handle to the tables of bots; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct BotStore(Accounts);

fn conversations(row: &Row, column: usize) -> Result<Vec<ConversationId>, Error> {
    let numbers: Vec<i64> = row.try_get(column)?;
    Ok(numbers.into_iter().filter_map(ConversationId::from_number).collect())
}

impl BotStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// Creates a bot of the caller, who may have `most` of them.
    ///
    /// # Errors
    /// `conflict` if the name is taken or the caller has too many; failures of PostgreSQL, as for all functions here.
    pub async fn create(&self, caller: &Caller, bot: NewBot<'_>, most: u32) -> Result<UserId, Refusal> {
        let row = row_of(caller, "create_bot", json!({}));
        let NewBot { username, display_name, avatar_url, bio } = bot;
        let statement: Statement<'_> =
            (sql::CREATE, &[&caller.user.0, &username, &display_name, &avatar_url, &bio, &i64::from(most), &row]);
        let created = self.0.rows("create_bot", true, statement, |row| Ok(UserId(row.try_get(0)?))).await?;
        created.first().copied().ok_or_else(Refusal::storage_unavailable)
    }

    /// Changes the profile of a bot of the caller. Returns whether there is one.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn change(&self, caller: &Caller, bot: UserId, change: BotChange<'_>) -> Result<bool, Refusal> {
        let row = row_of(caller, "change_bot", json!({}));
        let (set_avatar, avatar_url) = change.avatar_url.parameters();
        let (set_bio, bio) = change.bio.parameters();
        let name = change.display_name;
        let statement: Statement<'_> =
            (sql::CHANGE, &[&caller.user.0, &bot.0, &name, &set_avatar, &avatar_url, &set_bio, &bio, &row]);
        self.0.is_true("change_bot", true, statement).await
    }

    /// Deactivates a bot of the caller. Returns the sessions of its tokens; none if there is no such bot.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn delete(&self, caller: &Caller, bot: UserId) -> Result<Option<Vec<SessionId>>, Refusal> {
        let row = row_of(caller, "delete_bot", json!({}));
        let statement: Statement<'_> = (sql::DELETE, &[&caller.user.0, &bot.0, &row]);
        let read = |row: &Row| row.try_get::<_, Option<Vec<i64>>>(0);
        let deleted = self.0.rows("delete_bot", true, statement, read).await?;
        Ok(deleted.into_iter().next().flatten().map(|sessions| sessions.into_iter().map(SessionId).collect()))
    }

    /// The bots of a user.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn list(&self, owner: UserId) -> Result<Vec<Value>, Refusal> {
        self.0.read_rows("bots", (sql::LIST, &[&owner.0]), |row| row.try_get(0)).await
    }

    /// The bots of all users, for an administrator. The read is a row of the audit trail.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn list_all(&self, admin: &Caller) -> Result<Vec<Value>, Refusal> {
        self.0.note_read(admin, "read_bots").await?;
        self.0.read_rows("all_bots", (sql::LIST_ALL, &[]), |row| row.try_get(0)).await
    }

    /// A bot of a user.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn get(&self, owner: UserId, bot: UserId) -> Result<Option<Value>, Refusal> {
        let found = self.0.read_rows("bot", (sql::GET, &[&owner.0, &bot.0]), |row| row.try_get(0)).await?;
        Ok(found.into_iter().next())
    }

    /// The conversations of a bot.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn conversations(&self, bot: UserId) -> Result<Vec<ConversationId>, Refusal> {
        let statement: Statement<'_> = (sql::CONVERSATIONS, &[&bot.0]);
        let numbers = self.0.read_rows("bot_conversations", statement, |row| row.try_get(0)).await?;
        numbers.into_iter().map(rows::conversation).collect()
    }

    /// Adds a token to a bot of the caller. Returns its number and when it expires; none if there is no such bot.
    ///
    /// # Errors
    /// `conflict` if it has too many, `not_member` for a conversation of others; failures of PostgreSQL.
    pub async fn add_token(
        &self,
        caller: &Caller,
        bot: UserId,
        token: NewToken<'_>,
    ) -> Result<Option<(SessionId, OffsetDateTime)>, Refusal> {
        let row = row_of(caller, "create_bot_token", json!({}));
        let numbers: Vec<i64> = token.conversations.iter().map(|conversation| conversation.number()).collect();
        let ip = caller.source.address.map(|address| address.to_canonical().to_string()).unwrap_or_default();
        let (hash, seconds) = (token.hash.as_slice(), f64::from(token.seconds));
        let statement: Statement<'_> = (
            sql::ADD_TOKEN,
            &[&caller.user.0, &bot.0, &token.name, &hash, &token.scopes, &numbers, &seconds, &ip, &row],
        );
        let read = |row: &Row| Ok((SessionId(row.try_get(0)?), row.try_get(1)?));
        let added = self.0.rows("create_bot_token", true, statement, read).await?;
        Ok(added.first().copied())
    }

    /// Revokes a token of a bot of the caller. Returns whether there was one.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn revoke_token(&self, caller: &Caller, bot: UserId, token: SessionId) -> Result<bool, Refusal> {
        let row = row_of(caller, "revoke_bot_token", json!({}));
        let statement: Statement<'_> = (sql::REVOKE_TOKEN, &[&caller.user.0, &bot.0, &token.0, &row]);
        self.0.is_true("revoke_bot_token", true, statement).await
    }

    /// The tokens of a bot of a user that have not expired.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn tokens(&self, owner: UserId, bot: UserId) -> Result<Vec<TokenInfo>, Refusal> {
        let read = |row: &Row| {
            Ok(TokenInfo {
                id: SessionId(row.try_get(0)?),
                name: row.try_get(1)?,
                scopes: row.try_get(2)?,
                conversations: conversations(row, 3)?,
                created_at: row.try_get(4)?,
                expires_at: row.try_get(5)?,
                last_used_at: row.try_get(6)?,
            })
        };
        self.0.read_rows("bot_tokens", (sql::LIST_TOKENS, &[&owner.0, &bot.0]), read).await
    }

    /// The session of a token that is valid now, and what it permits.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn use_token(&self, bot: UserId, hash: &[u8; 32]) -> Result<Option<UsedToken>, Refusal> {
        let read = |row: &Row| {
            let scopes: Vec<String> = row.try_get(1)?;
            Ok(UsedToken {
                session: SessionId(row.try_get(0)?),
                grant: Arc::new(BotGrant::new(&scopes, conversations(row, 2)?)),
                account_age_s: row.try_get(3)?,
            })
        };
        let statement: Statement<'_> = (sql::USE_TOKEN, &[&bot.0, &hash.as_slice()]);
        let found = self.0.read_rows("use_bot_token", statement, read).await?;
        Ok(found.into_iter().next())
    }

    /// Replaces the slash commands of a bot of the caller. Returns whether the secret is in use from now on; none if
    /// there is no such bot.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn replace_commands(
        &self,
        caller: &Caller,
        bot: UserId,
        commands: &Value,
        secret: SealedBotSecret<'_>,
    ) -> Result<Option<bool>, Refusal> {
        let row = row_of(caller, "replace_bot_commands", json!({}));
        let SealedBotSecret { key_id, sealed } = secret;
        let statement: Statement<'_> =
            (sql::REPLACE_COMMANDS, &[&caller.user.0, &bot.0, &commands, &key_id, &sealed, &row]);
        let replaced = self.0.rows("replace_bot_commands", true, statement, |row| row.try_get(0)).await?;
        Ok(replaced.into_iter().next().flatten())
    }

    /// Gives a bot of the caller a new secret. Returns whether there is one.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn rotate_secret(
        &self,
        caller: &Caller,
        bot: UserId,
        secret: SealedBotSecret<'_>,
    ) -> Result<bool, Refusal> {
        let row = row_of(caller, "rotate_bot_secret", json!({}));
        let statement: Statement<'_> =
            (sql::ROTATE_SECRET, &[&caller.user.0, &bot.0, &secret.key_id, &secret.sealed, &row]);
        self.0.is_true("rotate_bot_secret", true, statement).await
    }

    /// The URL of a command, and the sealed secret of its bot.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn command_url(&self, bot: UserId, command: &str) -> Result<Option<CommandUrl>, Refusal> {
        let read =
            |row: &Row| Ok(CommandUrl { url: row.try_get(0)?, key_id: row.try_get(1)?, sealed: row.try_get(2)? });
        let found = self.0.read_rows("bot_command_url", (sql::COMMAND_URL, &[&bot.0, &command]), read).await?;
        Ok(found.into_iter().next())
    }

    /// The commands that a member can run in a conversation.
    ///
    /// # Errors
    /// `not_found`, `not_member`; failures of PostgreSQL.
    pub async fn commands_in(&self, user: UserId, conversation: ConversationId) -> Result<Value, Refusal> {
        let statement: Statement<'_> = (sql::COMMANDS_OF_CONVERSATION, &[&user.0, &conversation.number()]);
        let found = self.0.read_rows("conversation_commands", statement, |row| row.try_get(0)).await?;
        found.into_iter().next().ok_or_else(Refusal::storage_unavailable)
    }

    /// The keys that secrets are encrypted with, and how many bots have each.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn keys_in_use(&self) -> Result<Vec<(String, i64)>, Refusal> {
        self.0.read_rows("keys_of_bots", (sql::KEYS_IN_USE, &[]), |row| Ok((row.try_get(0)?, row.try_get(1)?))).await
    }

    /// Bots after this one whose secret has another key than `key`, at most `most`: key and encrypted secret.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn to_reseal(
        &self,
        key: &str,
        after: UserId,
        most: i64,
    ) -> Result<Vec<(UserId, String, Vec<u8>)>, Refusal> {
        let read = |row: &Row| Ok((UserId(row.try_get(0)?), row.try_get(1)?, row.try_get(2)?));
        self.0.read_rows("secrets_of_bots", (sql::TO_RESEAL, &[&key, &after.0, &most]), read).await
    }

    /// Replaces the encrypted secret of a bot, unless it was replaced meanwhile. Returns whether it was replaced.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn reseal(&self, bot: UserId, old: &[u8], new: SealedBotSecret<'_>) -> Result<bool, Refusal> {
        let statement: Statement<'_> = (sql::RESEAL, &[&bot.0, &old, &new.key_id, &new.sealed]);
        self.0.is_true("reseal_bot", true, statement).await
    }

    /// The slash commands of a bot.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn commands(&self, bot: UserId) -> Result<Vec<Value>, Refusal> {
        self.0.read_rows("bot_commands", (sql::LIST_COMMANDS, &[&bot.0]), |row| row.try_get(0)).await
    }
}
