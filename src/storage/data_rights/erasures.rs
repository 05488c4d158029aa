//! The erasure of a person, as its job reads and writes it. `control::data_rights::erasure` has the steps.

use super::{RightsTables, setup};
use crate::audit::caller::Caller;
use crate::audit::erasure::{ErasureFacts, ErasureRecord};
use crate::error::Refusal;
use crate::ids::{ConversationId, MessageId, Seq, SessionId, UserId};
use crate::storage::accounts::{Accounts, row_of};
use crate::storage::rows::{self, Statement};
use crate::storage::sql::data_rights as sql;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::types::Json as JsonColumn;
use tokio_postgres::{Error, Row};

/// An erasure that was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RequestedErasure {
    /// What the ledger keeps.
    pub record: ErasureRecord,
    /// Whether it was not asked for before.
    pub is_new: bool,
    /// Sessions that were revoked.
    pub revoked: Vec<SessionId>,
}

/// How far an erasure is, for the person who asked for it.
#[derive(Clone, PartialEq, Debug)]
pub struct ErasureState {
    /// When it was requested.
    pub requested_at: OffsetDateTime,
    /// When everything was done, and the signed receipt.
    pub completed: Option<(OffsetDateTime, String)>,
    /// What was removed so far.
    pub counts: Value,
}

/// What a job has to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenErasure {
    /// The request.
    pub record: ErasureRecord,
    /// The conversation that was searched last, and how far.
    pub place: Option<(ConversationId, Seq)>,
    /// Whether a legal hold keeps everything of the person.
    pub is_held: bool,
    /// Whether it is of a bot, whose messages stay.
    pub is_part: bool,
    /// Whether the names of bots of the person are still being erased.
    pub has_open_parts: bool,
}

/// A conversation, as an erasure sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ErasureConversation {
    /// Which one.
    pub id: ConversationId,
    /// The end of its log.
    pub last_seq: Seq,
    /// Whether messages of the person are in it.
    pub has_messages: bool,
    /// Whether the person is a member and can leave.
    pub can_leave: bool,
    /// Whether a legal hold keeps it.
    pub is_held: bool,
    /// Whether the person owns it, also after having left it as the last one.
    pub is_owned: bool,
}

/// What a part of a log still has of a person.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ErasedLog {
    /// Messages of others that mention the person.
    pub mentions: Vec<MessageId>,
    /// Reactions of the person: message and emoji.
    pub reactions: Vec<(i64, String)>,
    /// Rows that were changed.
    pub changed: i64,
}

fn record(row: &Row) -> Result<ErasureRecord, Error> {
    Ok(ErasureRecord {
        id: row.try_get("id")?,
        user: UserId(row.try_get("user_id")?),
        account_created_at: row.try_get("account_created_at")?,
        requested_by: UserId(row.try_get("requested_by")?),
        requested_at: row.try_get("requested_at")?,
    })
}

/// Requests of erasures, over the connections of the accounts.
#[derive(Clone, Debug)]
pub struct ErasureRequests(Accounts);

impl ErasureRequests {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// Begins an erasure; a second request finds the first one. `None` if there is no such account.
    ///
    /// # Errors
    /// Failures of PostgreSQL, as for all functions here.
    pub async fn request(&self, id: &str, user: UserId, caller: &Caller) -> Result<Option<RequestedErasure>, Refusal> {
        let actor = caller.user;
        let row = json!({ "target_type": "user", "target_id": user });
        let audit = JsonColumn(row_of(caller, "request_erasure", row));
        let nothing: Option<OffsetDateTime> = None;
        let statement: Statement<'_> =
            (sql::REQUEST_ERASURE, &[&id, &user.0, &nothing, &actor.0, &nothing, &Some(audit)]);
        Ok(self.0.rows("request_erasure", true, statement, |row| requested(row, user, actor)).await?.pop())
    }

    /// Begins an erasure again that a ledger has, if the database has the account of that time.
    ///
    /// # Errors
    /// As for [`Self::request`].
    pub async fn repeat(&self, given: &ErasureRecord) -> Result<Option<RequestedErasure>, Refusal> {
        let ErasureRecord { id, user, account_created_at, requested_by, requested_at } = given;
        let audit = JsonColumn(json!({
            "user_id": null, "action": "repeat_erasure", "target_type": "user", "target_id": user,
        }));
        let statement: Statement<'_> = (
            sql::REQUEST_ERASURE,
            &[id, &user.0, &Some(*account_created_at), &requested_by.0, &Some(*requested_at), &Some(audit)],
        );
        Ok(self.0.rows("repeat_erasure", true, statement, |row| requested(row, *user, *requested_by)).await?.pop())
    }

    /// How far an erasure is.
    ///
    /// # Errors
    /// As for [`Self::request`].
    pub async fn state(&self, id: &str) -> Result<Option<ErasureState>, Refusal> {
        let read = |row: &Row| {
            let (at, receipt): (Option<OffsetDateTime>, Option<String>) = (row.try_get(1)?, row.try_get(3)?);
            Ok(ErasureState { requested_at: row.try_get(0)?, completed: at.zip(receipt), counts: row.try_get(2)? })
        };
        Ok(self.0.read_rows("erasure_state", (sql::ERASURE_STATE, &[&id]), read).await?.pop())
    }

    /// The next erasures after an id, for the ledger.
    ///
    /// # Errors
    /// As for [`Self::request`].
    pub async fn after(&self, id: &str, limit: i64) -> Result<Vec<ErasureRecord>, Refusal> {
        self.0.read_rows("erasures", (sql::ERASURES, &[&id, &limit]), record).await
    }

    /// Those of these ids that the database knows.
    ///
    /// # Errors
    /// As for [`Self::request`].
    pub async fn known(&self, ids: &[String]) -> Result<Vec<String>, Refusal> {
        self.0.read_rows("known_erasures", (sql::KNOWN_ERASURES, &[&ids]), |row| row.try_get(0)).await
    }
}

fn requested(row: &Row, user: UserId, requested_by: UserId) -> Result<RequestedErasure, Error> {
    let sessions: Vec<i64> = row.try_get("sessions")?;
    Ok(RequestedErasure {
        record: ErasureRecord {
            id: row.try_get("id")?,
            user,
            account_created_at: row.try_get("account_created_at")?,
            requested_by,
            requested_at: row.try_get("requested_at")?,
        },
        is_new: row.try_get("is_new")?,
        revoked: sessions.into_iter().map(SessionId).collect(),
    })
}

impl RightsTables {
    /// What is to be done for an erasure; `None` if nothing is.
    ///
    /// # Errors
    /// PostgreSQL's, as for all functions here.
    pub async fn open_erasure(&self, id: &str) -> Result<Option<OpenErasure>, Refusal> {
        let read = async {
            let row = self.client.query_opt(sql::OPEN_ERASURE, &[&id]).await?;
            row.map(|row| {
                let seq = Seq(row.try_get(6)?);
                let place = ConversationId::from_number(row.try_get(5)?).map(|conversation| (conversation, seq));
                Ok(OpenErasure {
                    record: record(&row)?,
                    place,
                    is_held: row.try_get(7)?,
                    is_part: row.try_get(8)?,
                    has_open_parts: row.try_get(9)?,
                })
            })
            .transpose()
        };
        read.await.map_err(setup("reading an erasure"))
    }

    /// Removes everything of a person that is not in a log. Returns counts.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn erase_account(&self, user: UserId) -> Result<Value, Refusal> {
        let row = self.client.query_one(sql::ERASE_ACCOUNT, &[&user.0]).await;
        row.and_then(|row| row.try_get(0)).map_err(setup("erasing the rows of an account"))
    }

    /// Removes files of a person that no message has, `limit` at most. Returns how many.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn erase_files(&self, user: UserId, limit: i64) -> Result<i64, Refusal> {
        let row = self.client.query_one(sql::ERASE_FILES, &[&user.0, &limit]).await;
        row.and_then(|row| row.try_get(0)).map_err(setup("removing the files of a person"))
    }

    /// The next conversation, of any members, with this number or a greater one.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn next_conversation(&self, least: i64, user: UserId) -> Result<Option<ErasureConversation>, Refusal> {
        let failed = || setup("reading the next conversation");
        let row = self.client.query_opt(sql::NEXT_CONVERSATION, &[&least, &user.0]).await.map_err(failed())?;
        let Some(row) = row else { return Ok(None) };
        let id = rows::conversation(row.try_get(0).map_err(failed())?)?;
        let read = || {
            Ok(ErasureConversation {
                id,
                last_seq: Seq(row.try_get(1)?),
                has_messages: row.try_get(2)?,
                can_leave: row.try_get(3)?,
                is_held: row.try_get(4)?,
                is_owned: row.try_get(5)?,
            })
        };
        read().map(Some).map_err(failed())
    }

    /// Removes a person from the entries of a log after one seq and up to another one.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn erase_log(
        &self,
        user: UserId,
        conversation: ConversationId,
        after: Seq,
        to: Seq,
    ) -> Result<ErasedLog, Refusal> {
        let read = async {
            let row =
                self.client.query_one(sql::ERASE_LOG, &[&user.0, &conversation.number(), &after.0, &to.0]).await?;
            let reactions: Value = row.try_get(1)?;
            let reactions = reactions.as_array().into_iter().flatten().filter_map(|reaction| {
                Some((reaction["message_id"].as_i64()?, reaction["emoji"].as_str()?.to_owned()))
            });
            let mentions: Vec<i64> = row.try_get(0)?;
            Ok(ErasedLog {
                mentions: mentions.into_iter().map(MessageId).collect(),
                reactions: reactions.collect(),
                changed: row.try_get(2)?,
            })
        };
        read.await.map_err(setup("erasing a person from a log"))
    }

    /// Whether something of a person is in a conversation. Reads the whole log: it is for the few that are on hold.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn names_person(&self, user: UserId, conversation: ConversationId) -> Result<bool, Refusal> {
        let row = self.client.query_one(sql::NAMES_PERSON, &[&user.0, &conversation.number()]).await;
        row.and_then(|row| row.try_get(0)).map_err(setup("searching a conversation on hold"))
    }

    /// Removes the name of a conversation in which nobody is left. Returns whether it is one.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn erase_empty_room(&self, conversation: ConversationId) -> Result<bool, Refusal> {
        let row = self.client.query_one(sql::ERASE_EMPTY_ROOM, &[&conversation.number()]).await;
        row.and_then(|row| row.try_get(0)).map_err(setup("erasing an empty room"))
    }

    /// Records how far an erasure is, and what was removed since the last call.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn save_erasure(
        &self,
        id: &str,
        place: Option<(ConversationId, Seq)>,
        counts: &Value,
    ) -> Result<(), Refusal> {
        let (conversation, seq) = place.map_or((0, 0), |(conversation, seq)| (conversation.number(), seq.0));
        let saved = self.client.execute(sql::SAVE_PROGRESS, &[&id, &conversation, &seq, counts]).await;
        saved.map(drop).map_err(setup("saving the progress of an erasure"))
    }

    /// Clears the person in the audit trail and completes the erasure, in one transaction. `sign` makes the receipt.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn complete_erasure(
        &mut self,
        given: &ErasureRecord,
        sign: impl FnOnce(&ErasureFacts) -> String,
    ) -> Result<(), Refusal> {
        let complete = async {
            let transaction = self.client.transaction().await?;
            let row = transaction.query_one(sql::ERASE_AUDIT, &[&given.user.0, &given.requested_by.0]).await?;
            let cleared: i64 = row.try_get(0)?;
            let head = transaction.query_one(sql::AUDIT_HEAD, &[]).await?;
            let added = json!({ "audit_logs": cleared });
            transaction.execute(sql::SAVE_PROGRESS, &[&given.id, &0_i64, &0_i64, &added]).await?;
            let counts = transaction.query_one(sql::ERASURE_COUNTS, &[&given.id]).await?.try_get(0)?;
            let completed_at = OffsetDateTime::now_utc();
            let facts =
                ErasureFacts { counts, log_id: head.try_get(0)?, audit_position: head.try_get(1)?, completed_at };
            transaction.execute(sql::COMPLETE_ERASURE, &[&given.id, &sign(&facts), &completed_at]).await?;
            transaction.commit().await
        };
        complete.await.map_err(setup("completing an erasure"))
    }
}
