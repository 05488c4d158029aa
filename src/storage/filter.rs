//! The rules of the content filter and the moderators' queue in PostgreSQL.
//!
//! A change replaces the rules of one scope in one transaction. [`FilterStore::version`] shows every change, also one
//! of another server on the same database.

use super::accounts::{Accounts, QUERY_TIMEOUT, append_of, settle};
use super::sql::filter as sql;
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::ids::{ConversationId, FileId, UserId};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::types::{Json as JsonColumn, ToSql};
use tokio_postgres::{Error, Row};

/// A rule as it is stored: its conversation, and the rest as JSON.
pub type StoredRule = (Option<ConversationId>, Value);

/// What a user may do in a conversation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// Whether the user is a moderator or more.
    pub moderates: bool,
    /// Whether the user is an administrator or more.
    pub administers: bool,
}

/// A text that waits for a moderator, or that was sent and flagged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueuedText {
    /// Its id.
    pub id: i64,
    /// Its conversation.
    pub conversation: Option<ConversationId>,
    /// The name of the conversation.
    pub conversation_name: Option<String>,
    /// Id, user name and display name of its author.
    pub sender: (UserId, String, String),
    /// The text.
    pub content: String,
    /// The rule.
    pub rule: String,
    /// Whether it was sent and is only listed.
    pub is_flagged: bool,
    /// For an edit, the edited message; for a flagged text, its message.
    pub message: Option<i64>,
    /// Whether it is an edit.
    pub is_edit: bool,
    /// Its files, as the protocol shows them; null without any.
    pub attachments: Option<Value>,
    /// When it was held.
    pub created_at: OffsetDateTime,
}

/// A decision, and the text that it was about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// The state before.
    pub state_before: String,
    /// Whether this decision counts.
    pub decided: bool,
    /// An approved text was sent.
    pub sent: bool,
    /// Its conversation.
    pub conversation: Option<ConversationId>,
    /// Its author.
    pub author: UserId,
    /// The key under which it is sent.
    pub key: String,
    /// The text.
    pub content: String,
    /// `text`, `image` or `file`.
    pub message_type: String,
    /// For a reply, a message of its thread.
    pub parent: Option<i64>,
    /// For an edit, the message.
    pub edited: Option<i64>,
    /// The files of a message.
    pub files: Vec<FileId>,
    /// The files that stay after an edit; all of them with `None`.
    pub kept_files: Option<Vec<FileId>>,
}

/// Handle to the tables of the filter; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct FilterStore(Accounts);

impl FilterStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// A value that differs after every change of any rule.
    ///
    /// # Errors
    /// Failures of PostgreSQL, as for all functions here.
    pub async fn version(&self) -> Result<(i64, i64), Refusal> {
        let read = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
        let rows = self.0.rows("filter_version", false, (sql::FILTER_VERSION, &[]), read).await?;
        rows.first().copied().ok_or_else(Refusal::storage_unavailable)
    }

    /// Every rule.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn all(&self) -> Result<Vec<StoredRule>, Refusal> {
        self.0.rows("filter_rules", false, (sql::ALL_FILTER_RULES, &[]), stored_rule).await
    }

    /// The rules of the server or of a conversation.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn of(&self, conversation: Option<ConversationId>) -> Result<Vec<StoredRule>, Refusal> {
        let number = conversation.map(ConversationId::number);
        self.0.rows("filter_rules_of", false, (sql::FILTER_RULES_OF, &[&number]), stored_rule).await
    }

    /// The number of other conversations with rules of their own.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn conversations_with_rules(&self, other_than: ConversationId) -> Result<i64, Refusal> {
        let number = other_than.number();
        let statement: (&str, &[&(dyn ToSql + Sync)]) = (sql::CONVERSATIONS_WITH_RULES, &[&number]);
        let rows = self.0.rows("filter_conversations", false, statement, |row| row.try_get(0)).await?;
        Ok(rows.first().copied().unwrap_or(0))
    }

    /// Replaces the rules of the server or of a conversation, which is a row of the audit trail with both.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn replace(
        &self,
        caller: &Caller,
        conversation: Option<ConversationId>,
        rules: Value,
    ) -> Result<(), Refusal> {
        let number = conversation.map(ConversationId::number);
        let mut connection = self.0.connection("replace_filter_rules").await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            let lock = transaction.prepare_cached(sql::LOCK_FILTER_SCOPE).await?;
            transaction.execute(&lock, &[&number.unwrap_or(0)]).await?;
            let before = transaction.prepare_cached(sql::FILTER_RULES_OF).await?;
            let before = transaction.query(&before, &[&number]).await?;
            let before = before.iter().map(|row| Ok(stored_rule(row)?.1)).collect::<Result<Vec<Value>, Error>>()?;
            let delete = transaction.prepare_cached(sql::DELETE_FILTER_RULES).await?;
            transaction.execute(&delete, &[&number]).await?;
            let insert = transaction.prepare_cached(sql::INSERT_FILTER_RULES).await?;
            transaction.execute(&insert, &[&number, &rules]).await?;
            let row = json!({
                "conversation_id": number, "target_type": number.map(|_| "conversation"), "target_id": number,
                "details": { "before": { "rules": before }, "after": { "rules": rules } },
            });
            append_of(&transaction, caller, "replace_filter_rules", row).await?;
            in_doubt = true;
            transaction.commit().await
        })
        .await;
        settle(connection, "replace_filter_rules", in_doubt, outcome)
    }

    /// What a user may do in a conversation; `None` for users who are not members.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn rights(&self, conversation: ConversationId, user: UserId) -> Result<Option<Rights>, Refusal> {
        let number = conversation.number();
        let statement: (&str, &[&(dyn ToSql + Sync)]) = (sql::ROLE_IN_CONVERSATION, &[&number, &user.0]);
        let read =
            |row: &Row| Ok(Rights { moderates: row.try_get("moderates")?, administers: row.try_get("administers")? });
        Ok(self.0.rows("filter_rights", false, statement, read).await?.first().copied())
    }

    /// A page of what this user may decide about, oldest first.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn queue(
        &self,
        user: UserId,
        is_admin: bool,
        conversation: Option<ConversationId>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<QueuedText>, Refusal> {
        let number = conversation.map(ConversationId::number);
        let parameters: [&(dyn ToSql + Sync); 5] = [&user.0, &is_admin, &number, &after, &limit];
        self.0.rows("moderation_queue", false, (sql::MODERATION_QUEUE, &parameters), queued_text).await
    }

    /// Decides about a text; `None` if there is none that this user may decide about.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn decide(
        &self,
        id: i64,
        caller: &Caller,
        is_admin: bool,
        approved: bool,
    ) -> Result<Option<Decision>, Refusal> {
        let state = if approved { "approved" } else { "rejected" };
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&id, &caller.user.0, &is_admin, &state, &caller.session.0, &JsonColumn(&*caller.source)];
        Ok(self.0.rows("decide_held", true, (sql::DECIDE_HELD, &parameters), decision).await?.pop())
    }

    /// Records that an approved text was sent.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn was_sent(&self, id: i64) -> Result<(), Refusal> {
        self.0.rows("held_was_sent", true, (sql::HELD_WAS_SENT, &[&id]), |_| Ok(())).await.map(drop)
    }

    /// Records a match in a name.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn record_hit(&self, user: Option<UserId>, rule: &str, action: &str) -> Result<(), Refusal> {
        let user = user.map(|user| user.0);
        let parameters: [&(dyn ToSql + Sync); 3] = [&user, &rule, &action];
        self.0.rows("filter_hit", true, (sql::INSERT_FILTER_HIT, &parameters), |_| Ok(())).await.map(drop)
    }

    /// Removes old matches and old decided texts, a bounded number per call.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn sweep(&self) -> Result<(), Refusal> {
        self.0.rows("sweep_filter_hits", false, (sql::SWEEP_FILTER_HITS, &[]), |_| Ok(())).await?;
        self.0.rows("sweep_held", false, (sql::SWEEP_HELD, &[]), |_| Ok(())).await.map(drop)
    }
}

fn stored_rule(row: &Row) -> Result<StoredRule, Error> {
    let conversation = row.try_get::<_, Option<i64>>("conversation_id")?.and_then(ConversationId::from_number);
    let rule = json!({
        "id": row.try_get::<_, String>("id")?, "kind": row.try_get::<_, String>("kind")?,
        "definition": row.try_get::<_, Value>("definition")?, "action": row.try_get::<_, String>("action")?,
        "dry_run": row.try_get::<_, bool>("dry_run")?, "enabled": row.try_get::<_, bool>("enabled")?,
        "exempt_from": row.try_get::<_, Option<String>>("exempt_from")?,
        "mute_s": row.try_get::<_, Option<i64>>("mute_s")?,
    });
    Ok((conversation, rule))
}

fn queued_text(row: &Row) -> Result<QueuedText, Error> {
    Ok(QueuedText {
        id: row.try_get("id")?,
        conversation: ConversationId::from_number(row.try_get("conversation_id")?),
        conversation_name: row.try_get("conversation_name")?,
        sender: (UserId(row.try_get("sender_id")?), row.try_get("username")?, row.try_get("display_name")?),
        content: row.try_get("content")?,
        rule: row.try_get("rule")?,
        is_flagged: row.try_get::<_, &str>("state")? == "flagged",
        message: row.try_get("message_id")?,
        is_edit: row.try_get::<_, Option<i64>>("edited_message_id")?.is_some(),
        attachments: row.try_get("attachments")?,
        created_at: row.try_get("created_at")?,
    })
}

fn decision(row: &Row) -> Result<Decision, Error> {
    Ok(Decision {
        state_before: row.try_get("state_before")?,
        decided: row.try_get("decided")?,
        sent: row.try_get("sent")?,
        conversation: ConversationId::from_number(row.try_get("conversation_id")?),
        author: UserId(row.try_get("sender_id")?),
        key: row.try_get("client_message_id")?,
        content: row.try_get("content")?,
        message_type: row.try_get("message_type")?,
        parent: row.try_get("parent_message_id")?,
        edited: row.try_get("edited_message_id")?,
        files: row.try_get::<_, Vec<i64>>("files")?.into_iter().map(FileId).collect(),
        kept_files: row
            .try_get::<_, Option<Vec<i64>>>("kept_files")?
            .map(|kept| kept.into_iter().map(FileId).collect()),
    })
}
