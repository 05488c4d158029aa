//! Files in PostgreSQL: which there are, who may read them, and what is to be done about them.
//!
//! Invariants:
//! - bytes of an upload count as received only after they are on the disk for good. So what a client was told is there;
//! - the row in `blobs` is locked while content is put into the store or removed from it. So content that a file needs
//!   is never removed, however the two coincide.

use super::accounts::{Accounts, QUERY_TIMEOUT, settle};
use super::sql::files as sql;
use crate::blobs::{ContentHash, hexadecimal};
use crate::error::Refusal;
use crate::files::state::FileState;
use crate::ids::{ConversationId, FileId, UserId};
use serde_json::{Value, json};
use std::future::Future;
use time::OffsetDateTime;
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

/// How many files a user may have, and how much they and all files may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileQuotas {
    /// Unfinished uploads of a user.
    pub unfinished_max: i64,
    /// Files that a user uploads within an hour.
    pub hour_max: i64,
    /// Bytes of all files of a user.
    pub user_bytes_max: i64,
    /// Bytes of all files.
    pub total_bytes_max: i64,
    /// Seconds in which an upload must be complete.
    pub lifetime_s: i64,
    /// Seconds that a file is kept without a message.
    pub kept_s: i64,
}

/// A new upload.
#[derive(Clone, Debug)]
pub struct NewFile<'a> {
    /// Its uploader.
    pub user: UserId,
    /// Its conversation.
    pub conversation: ConversationId,
    /// Its name, cleaned.
    pub name: &'a str,
    /// Its bytes.
    pub size: i64,
    /// The type that its uploader gives.
    pub declared_type: Option<&'a str>,
    /// The SHA-256 that its uploader gives.
    pub expected: Option<ContentHash>,
    /// Its number, if its bytes are there already.
    pub reserved: Option<FileId>,
}

/// Whether an upload began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Created {
    /// It did.
    File(FileId),
    /// The files of the user would take too much.
    OverQuotaOfUser,
    /// All files would.
    OverQuotaOfServer,
}

/// An upload, for its uploader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UploadState {
    /// Its bytes.
    pub size: i64,
    /// Those that are on the disk for good.
    pub received: i64,
    /// Its state.
    pub state: FileState,
    /// When it ends unless it is complete.
    pub expires_at: OffsetDateTime,
}

/// A file that a user may read.
#[derive(Clone, PartialEq, Debug)]
pub struct ReadableFile {
    /// As the protocol shows it.
    pub shown: Value,
    /// Its content; none before it was checked.
    pub content: Option<ContentHash>,
    /// Its state.
    pub state: FileState,
    /// Why it was refused.
    pub reason: Option<String>,
}

/// A file whose content is to be checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UncheckedFile {
    /// Its conversation.
    pub conversation: Option<ConversationId>,
    /// Its uploader.
    pub uploader: UserId,
    /// Its name.
    pub name: String,
    /// The type that its uploader gave.
    pub declared_type: Option<String>,
    /// The hash that its uploader gave.
    pub expected: Option<ContentHash>,
    /// Its content, if an earlier check came so far.
    pub content: Option<ContentHash>,
}

/// A job that this process has taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// What is to be done.
    pub kind: String,
    /// About what.
    pub subject: String,
    /// How often it was begun, this time included.
    pub attempts: i32,
}

/// Handle to the tables of files and jobs; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct FileStore(Accounts);

type Statement<'a> = (&'static str, &'a [&'a (dyn ToSql + Sync)]);

impl FileStore {
    /// With the connections of the accounts.
    #[must_use]
    pub fn new(accounts: Accounts) -> Self {
        Self(accounts)
    }

    async fn rows<T>(
        &self,
        what: &'static str,
        writes: bool,
        (statement, parameters): Statement<'_>,
        read: fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Refusal> {
        let connection = self.0.connection(what).await?;
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(statement).await?;
            in_doubt = writes;
            connection.query(&statement, parameters).await?.iter().map(read).collect()
        })
        .await;
        settle(connection, what, in_doubt, outcome)
    }

    /// A number for a file whose bytes come before its row.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn reserve(&self) -> Result<FileId, Refusal> {
        let rows = self.rows("reserve_file", false, (sql::RESERVE, &[]), |row| row.try_get(0)).await?;
        rows.first().copied().map(FileId).ok_or_else(Refusal::storage_unavailable)
    }

    /// Begins an upload.
    ///
    /// # Errors
    /// What the uploader may not do in the conversation, `rate_limited`; failures of PostgreSQL, as
    /// for all functions here.
    pub async fn create(&self, new: &NewFile<'_>, quotas: &FileQuotas) -> Result<Created, Refusal> {
        let given = json!({
            "user_id": new.user, "conversation_id": new.conversation.number(), "name": new.name, "size": new.size,
            "media_type": new.declared_type, "sha256": new.expected.as_ref().map(hexadecimal),
            "file_id": new.reserved, "lifetime_s": quotas.lifetime_s, "unfinished_max": quotas.unfinished_max, "hour_max": quotas.hour_max,
            "user_bytes_max": quotas.user_bytes_max, "total_bytes_max": quotas.total_bytes_max,
        });
        let rows = self.rows("create_file", true, (sql::CREATE, &[&given]), |row| row.try_get(0)).await?;
        match rows.first() {
            Some(-1) => Ok(Created::OverQuotaOfUser),
            Some(-2) => Ok(Created::OverQuotaOfServer),
            Some(file) => Ok(Created::File(FileId(*file))),
            None => Err(Refusal::storage_unavailable()),
        }
    }

    /// An upload of a user.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn upload(&self, user: UserId, file: FileId) -> Result<Option<UploadState>, Refusal> {
        let read = |row: &Row| {
            Ok(UploadState {
                size: row.try_get("size")?,
                received: row.try_get("received")?,
                state: state(row, "state")?,
                expires_at: row.try_get("expires_at")?,
            })
        };
        Ok(self.rows("upload", false, (sql::UPLOAD, &[&user.0, &file.0]), read).await?.pop())
    }

    /// So many bytes of an upload are on the disk for good.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn progress(&self, file: FileId, received: i64) -> Result<(), Refusal> {
        self.rows("upload_progress", false, (sql::PROGRESS, &[&file.0, &received]), |_| Ok(())).await.map(drop)
    }

    /// All bytes of an upload are on the disk for good, which it records too. A job to check them begins to exist.
    ///
    /// # Errors
    /// Failures of PostgreSQL. It can be called again.
    pub async fn finish(&self, file: FileId, quotas: &FileQuotas) -> Result<(), Refusal> {
        let statement: Statement<'_> = (sql::FINISH, &[&file.0, &quotas.kept_s]);
        self.rows("finish_upload", false, statement, |_| Ok(())).await.map(drop)
    }

    /// Removes a file that no message has. Returns whether there was one.
    ///
    /// # Errors
    /// `conflict` if a message has it; failures of PostgreSQL.
    pub async fn remove(&self, user: UserId, file: FileId) -> Result<bool, Refusal> {
        let rows = self.rows("remove_file", true, (sql::REMOVE, &[&user.0, &file.0]), |row| row.try_get(0)).await?;
        Ok(rows.first().copied().unwrap_or(false))
    }

    /// A file, if the user may read it now.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn readable(&self, user: UserId, file: FileId) -> Result<Option<ReadableFile>, Refusal> {
        let read = |row: &Row| {
            Ok(ReadableFile {
                shown: row.try_get(0)?,
                content: content(row, 1)?,
                state: state(row, 2)?,
                reason: row.try_get(3)?,
            })
        };
        Ok(self.rows("readable_file", false, (sql::READABLE, &[&user.0, &file.0]), read).await?.pop())
    }

    /// A file, if it is to be checked.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn to_check(&self, file: FileId) -> Result<Option<UncheckedFile>, Refusal> {
        let read = |row: &Row| {
            Ok(UncheckedFile {
                conversation: ConversationId::from_number(row.try_get(0)?),
                uploader: UserId(row.try_get(1)?),
                name: row.try_get(2)?,
                declared_type: row.try_get(3)?,
                expected: content(row, 4)?,
                content: content(row, 5)?,
            })
        };
        Ok(self.rows("file_to_check", false, (sql::TO_CHECK, &[&file.0]), read).await?.pop())
    }

    /// Runs `place`, which puts content into the store, while nobody can remove that content; then the file has it.
    ///
    /// # Errors
    /// Those of `place`; failures of PostgreSQL.
    pub async fn place_content(
        &self,
        file: FileId,
        (hash, size): (&ContentHash, i64),
        place: impl Future<Output = Result<(), Refusal>>,
    ) -> Result<(), Refusal> {
        let mut connection = self.0.connection("place_content").await?;
        let mut placed = Ok(());
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            transaction.execute(sql::LOCK_NEW_BLOB, &[&hash.as_slice(), &size]).await?;
            placed = place.await;
            if placed.is_ok() {
                transaction.execute(sql::NAME_CONTENT, &[&file.0, &hash.as_slice()]).await?;
                transaction.commit().await?;
            }
            Ok(())
        })
        .await;
        settle(connection, "place_content", false, outcome)?;
        placed
    }

    /// Runs `remove` if no file has this content, while none can get it; then it is forgotten.
    ///
    /// # Errors
    /// Those of `remove`; failures of PostgreSQL.
    pub async fn remove_content(
        &self,
        hash: &ContentHash,
        remove: impl Future<Output = Result<(), Refusal>>,
    ) -> Result<(), Refusal> {
        let mut connection = self.0.connection("remove_content").await?;
        let mut removed = Ok(());
        let outcome = timeout(QUERY_TIMEOUT, async {
            let transaction = connection.transaction().await?;
            transaction.execute(sql::LOCK_BLOB, &[&hash.as_slice()]).await?;
            if transaction.query_one(sql::IS_NEEDED, &[&hash.as_slice()]).await?.try_get(0)? {
                return Ok(());
            }
            removed = remove.await;
            if removed.is_ok() {
                transaction.execute(sql::FORGET_BLOB, &[&hash.as_slice()]).await?;
                transaction.commit().await?;
            }
            Ok(())
        })
        .await;
        settle(connection, "remove_content", false, outcome)?;
        removed
    }

    /// Those of these files that have a row.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn known(&self, files: &[FileId]) -> Result<Vec<FileId>, Refusal> {
        let numbers: Vec<i64> = files.iter().map(|file| file.0).collect();
        self.rows("known_files", false, (sql::KNOWN, &[&numbers]), |row| row.try_get(0).map(FileId)).await
    }

    /// Ends and removes files that nobody needs. Returns how many.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn expire(&self, most: i64) -> Result<i64, Refusal> {
        let rows = self.rows("expire_files", false, (sql::EXPIRE, &[&most]), |row| row.try_get(0)).await?;
        Ok(rows.first().copied().unwrap_or(0))
    }

    /// Takes jobs of these kinds that are due, for so many seconds.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn claim_jobs(&self, kinds: &[&str], most: i64, lease_s: i64) -> Result<Vec<Job>, Refusal> {
        let read = |row: &Row| {
            Ok(Job { id: row.try_get(0)?, kind: row.try_get(1)?, subject: row.try_get(2)?, attempts: row.try_get(3)? })
        };
        self.rows("claim_jobs", false, (sql::CLAIM, &[&kinds, &most, &lease_s]), read).await
    }

    /// A job is done.
    ///
    /// # Errors
    /// Failures of PostgreSQL; then it is done again later.
    pub async fn job_done(&self, job: &Job) -> Result<(), Refusal> {
        self.rows("job_done", false, (sql::JOB_DONE, &[&job.id]), |_| Ok(())).await.map(drop)
    }

    /// A job failed, and is tried again.
    ///
    /// # Errors
    /// Failures of PostgreSQL; then it is tried again when its lease has ended.
    pub async fn job_failed(&self, job: &Job, pause_s: f64, why: &str) -> Result<(), Refusal> {
        let statement: Statement<'_> = (sql::JOB_FAILED, &[&job.id, &pause_s, &why]);
        self.rows("job_failed", false, statement, |_| Ok(())).await.map(drop)
    }
}

fn state(row: &Row, column: impl tokio_postgres::row::RowIndex + std::fmt::Display) -> Result<FileState, Error> {
    let name: &str = row.try_get(column)?;
    Ok(FileState::parse(name).unwrap_or(FileState::Failed))
}

fn content(row: &Row, column: usize) -> Result<Option<ContentHash>, Error> {
    let bytes: Option<&[u8]> = row.try_get(column)?;
    Ok(bytes.and_then(|bytes| bytes.try_into().ok()))
}
