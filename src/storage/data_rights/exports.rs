//! Copies of a person's data: requests, and what their job reads.

use super::{RightsTables, setup};
use crate::audit::caller::Caller;
use crate::error::Refusal;
use crate::files::content::{ContentHash, ContentName};
use crate::ids::UserId;
use crate::storage::accounts::{Accounts, row_of};
use crate::storage::files::StoredContent;
use crate::storage::rows::Statement;
use crate::storage::sql::data_rights as sql;
use crate::storage::sql::data_rights::catalogue::CataloguedTable;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _};
use serde_json::json;
use std::io;
use time::OffsetDateTime;
use tokio_postgres::types::Json as JsonColumn;
use tokio_postgres::{Error, Row};

/// A copy, as its person sees it.
#[derive(Clone, Debug)]
pub struct ExportState {
    /// 32 hexadecimal digits.
    pub id: String,
    /// When it was asked for.
    pub requested_at: OffsetDateTime,
    /// When it was complete, when it goes, and its archive.
    pub archive: Option<ExportArchive>,
}

/// A complete copy.
#[derive(Clone, Copy, Debug)]
pub struct ExportArchive {
    /// When it was complete.
    pub completed_at: OffsetDateTime,
    /// When it goes.
    pub expires_at: OffsetDateTime,
    /// The archive in the store.
    pub content: StoredContent,
}

/// Requests of copies, over the connections of the accounts.
#[derive(Clone, Debug)]
pub struct ExportRequests(Accounts);

impl ExportRequests {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    /// Asks for a copy. Returns the id of the one that is being made.
    ///
    /// # Errors
    /// `rate_limited`; failures of PostgreSQL, as for all functions here.
    pub async fn request(&self, id: &str, caller: &Caller) -> Result<Option<String>, Refusal> {
        let row = json!({ "target_type": "user", "target_id": caller.user });
        let audit = JsonColumn(row_of(caller, "request_export", row));
        let statement: Statement<'_> = (sql::REQUEST_EXPORT, &[&id, &caller.user.0, &audit]);
        Ok(self.0.rows("request_export", true, statement, |row| row.try_get(0)).await?.pop())
    }

    /// The copies of a user, the newest first.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn of_user(&self, user: UserId) -> Result<Vec<ExportState>, Refusal> {
        self.0.read_rows("exports", (sql::EXPORTS, &[&user.0]), state).await
    }

    /// Makes stored content the archive of a copy, for so many seconds. `false`: the content was released meanwhile.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn complete(&self, id: &str, archive: StoredContent, kept_s: f64) -> Result<bool, Refusal> {
        let (hash, size) = (archive.name.hash.0.as_slice(), archive.size as i64);
        let statement: Statement<'_> = (sql::COMPLETE_EXPORT, &[&id, &hash, &archive.name.number, &size, &kept_s]);
        self.0.is_true("complete_export", true, statement).await
    }

    /// Removes copies that have expired, `most` of them. Returns how many.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn expire(&self, most: i64) -> Result<i64, Refusal> {
        let expired =
            self.0.rows("expire_exports", false, (sql::EXPIRE_EXPORTS, &[&most]), |row| row.try_get(0)).await?;
        Ok(expired.first().copied().unwrap_or(0))
    }
}

fn state(row: &Row) -> Result<ExportState, Error> {
    let (completed_at, size): (Option<OffsetDateTime>, Option<i64>) = (row.try_get(2)?, row.try_get(3)?);
    let (expires_at, hash): (Option<OffsetDateTime>, Option<Vec<u8>>) = (row.try_get(4)?, row.try_get(5)?);
    let number: Option<i64> = row.try_get(6)?;
    let hash = hash.and_then(|hash| hash.try_into().ok()).map(ContentHash);
    let archive = (|| {
        let name = ContentName { hash: hash?, number: number? };
        let content = StoredContent { name, size: u64::try_from(size?).ok()? };
        Some(ExportArchive { completed_at: completed_at?, expires_at: expires_at?, content })
    })();
    Ok(ExportState { id: row.try_get(0)?, requested_at: row.try_get(1)?, archive })
}

/// A file of a copy.
#[derive(Clone, Debug)]
pub struct CopiedFile {
    /// Its name in the archive.
    pub path: String,
    /// Its content.
    pub content: StoredContent,
}

impl RightsTables {
    /// The user whose data a copy has, if it is still to be made. Everything that is read from now on is one snapshot.
    ///
    /// # Errors
    /// PostgreSQL's, as for all functions here.
    pub async fn begin_export(&self, id: &str) -> Result<Option<UserId>, Refusal> {
        let begin = async {
            self.client.batch_execute(sql::BEGIN_EXPORT).await?;
            let row = self.client.query_opt(sql::OPEN_EXPORT, &[&id]).await?;
            row.map(|row| row.try_get(0).map(UserId)).transpose()
        };
        begin.await.map_err(setup("beginning a copy of a person's data"))
    }

    /// The rows of a table about a user, as JSON Lines.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn export_table(
        &self,
        table: &CataloguedTable,
        user: UserId,
    ) -> Result<impl Stream<Item = io::Result<Bytes>> + use<>, Refusal> {
        self.lines(&sql::copy_of_table(table, user.0)).await
    }

    /// What a user has written, as JSON Lines, conversation after conversation.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn export_texts(&self, user: UserId) -> Result<impl Stream<Item = io::Result<Bytes>> + use<>, Refusal> {
        self.lines(&sql::copy_of_texts(user.0)).await
    }

    async fn lines(&self, copy: &str) -> Result<impl Stream<Item = io::Result<Bytes>> + use<>, Refusal> {
        let rows = self.client.copy_out(copy).await.map_err(setup("copying a person's data"))?;
        Ok(rows.map_err(io::Error::other))
    }

    /// The content of a user's files.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn exported_files(&self, user: UserId) -> Result<Vec<CopiedFile>, Refusal> {
        let read = async {
            let rows = self.client.query(sql::EXPORTED_FILES, &[&user.0]).await?;
            let file = |row: &Row| {
                let (hash, size): (&[u8], i64) = (row.try_get(1)?, row.try_get(3)?);
                let hash = ContentHash(hash.try_into().unwrap_or_default()); // 32 bytes by the table's CHECK
                let name = ContentName { hash, number: row.try_get(2)? };
                let content = StoredContent { name, size: size.unsigned_abs() };
                Ok(CopiedFile { path: row.try_get(0)?, content })
            };
            rows.iter().map(file).collect::<Result<Vec<_>, Error>>()
        };
        read.await.map_err(setup("listing a person's files"))
    }
}
