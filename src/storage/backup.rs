//! The database of a backup: one snapshot that everything in the backup fits, and the counts that a restored database
//! is compared with.
//!
//! Invariants:
//! - content is held before the snapshot is taken, and until all of it was read. So the content that the rows of the
//!   snapshot need stays in the store, whatever users delete meanwhile;
//! - the login reads every row. PostgreSQL would leave out the rows that a policy hides, without an error.

use super::StorageError;
use super::accounts::Accounts;
use super::connect::{Role, Target, connect};
use super::file_check::{AwaitedUpload, NamedContent, bounds, named_content};
use super::sql::{backup as sql, file_check};
use crate::audit::chain::ChainHead;
use crate::error::Refusal;
use crate::ids::FileId;
use std::collections::BTreeMap;
use tokio_postgres::{Client, Error};

/// Table → its rows.
pub type RowCounts = BTreeMap<String, i64>;

/// What a snapshot is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotFacts {
    /// The version of PostgreSQL.
    pub postgres_version: String,
    /// The newest table migration.
    pub migration: i32,
    /// The id of the audit trail.
    pub log_id: String,
    /// The end of the audit trail.
    pub head: ChainHead,
    /// The newest signed checkpoint.
    pub checkpoint: Option<String>,
}

/// A session with a snapshot that others can read too.
pub struct BackupSession {
    client: Client,
}

fn failed(what: &'static str) -> impl FnOnce(Error) -> StorageError {
    move |source| StorageError::Setup { what, source }
}

impl BackupSession {
    /// Connects, and holds the content of files until [`Self::release`], or the end of the session.
    ///
    /// # Errors
    /// [`StorageError::Unsafe`] if the login does not read every row, and PostgreSQL's.
    pub async fn open(target: &Target) -> Result<Self, StorageError> {
        let client = target.connect_as_login().await?;
        let reads_all = async {
            client.batch_execute(sql::NO_TIME_LIMITS).await?;
            client.query_one(sql::READS_ALL, &[]).await?.try_get::<_, bool>(0)
        };
        if !reads_all.await.map_err(failed("asking for the rights of the database login"))? {
            return Err(StorageError::Unsafe(
                "this needs a database login that reads every row, and this one does not. As an administrator of \
                 PostgreSQL: CREATE ROLE chat_backup LOGIN BYPASSRLS IN ROLE pg_read_all_data PASSWORD '…'; then put \
                 its URL into a file and give that file with --database-url-file"
                    .to_owned(),
            ));
        }
        client.query_one(sql::HOLD_CONTENT, &[]).await.map_err(failed("holding the content of files"))?;
        Ok(Self { client })
    }

    /// Takes the snapshot. Returns its name for `pg_dump`.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn begin(&self) -> Result<String, StorageError> {
        let begin = async {
            self.client.batch_execute(sql::BEGIN_SNAPSHOT).await?;
            self.client.query_one(sql::EXPORT_SNAPSHOT, &[]).await?.try_get(0)
        };
        begin.await.map_err(failed("taking a snapshot of the database"))
    }

    /// The session, for the readers of [`super::export`].
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    /// What the snapshot is of.
    ///
    /// # Errors
    /// PostgreSQL's; a database without the server's tables is refused.
    pub async fn facts(&self) -> Result<SnapshotFacts, StorageError> {
        let read = async {
            let row = self.client.query_one(sql::FACTS, &[]).await?;
            let root: &[u8] = row.try_get(4)?;
            let head = ChainHead { size: row.try_get(3)?, root: root.try_into().unwrap_or_default() };
            Ok(SnapshotFacts {
                postgres_version: row.try_get(0)?,
                migration: row.try_get(1)?,
                log_id: row.try_get(2)?,
                head,
                checkpoint: row.try_get(5)?,
            })
        };
        read.await.map_err(failed("reading what the database holds"))
    }

    /// The rows of every table.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn counts(&self) -> Result<RowCounts, StorageError> {
        counts(&self.client).await
    }

    /// All content that the snapshot names, by its hash. Each takes 64 bytes of memory.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn contents(&self) -> Result<Vec<NamedContent>, StorageError> {
        let mut contents = Vec::new();
        for first in 0..=255 {
            contents.extend(self.contents_from(first).await?);
        }
        Ok(contents)
    }

    async fn contents_from(&self, first: u8) -> Result<Vec<NamedContent>, StorageError> {
        let (from, to) = bounds(first);
        let read = async {
            let rows = self.client.query(file_check::CONTENTS, &[&from, &to]).await?;
            let contents: Result<Vec<_>, Error> =
                rows.iter().filter_map(|row| named_content(row).transpose()).collect();
            contents
        };
        read.await.map_err(failed("reading which content the files need"))
    }

    /// The next uploads that are not checked yet: at most `most` of those after a file.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn uploads(&self, after: FileId, most: i64) -> Result<Vec<AwaitedUpload>, StorageError> {
        let read = async {
            let rows = self.client.query(sql::UPLOADS, &[&after.0, &most]).await?;
            let upload = |row: &tokio_postgres::Row| {
                let received = row.try_get::<_, i64>(1)?.try_into().unwrap_or(0);
                Ok(AwaitedUpload { file: FileId(row.try_get(0)?), received })
            };
            rows.iter().map(upload).collect::<Result<Vec<_>, Error>>()
        };
        read.await.map_err(failed("reading the unfinished uploads"))
    }

    /// Ends the snapshot, so that PostgreSQL need not keep old rows for longer. The content stays held.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn end_snapshot(&self) -> Result<(), StorageError> {
        self.client.batch_execute(sql::END_SNAPSHOT).await.map_err(failed("ending the snapshot of the database"))
    }

    /// Ends the hold on the content. Fails if the session was lost meanwhile, and the hold with it.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn release(&self) -> Result<(), StorageError> {
        let released = self.client.query_one(sql::RELEASE_CONTENT, &[]).await;
        let held: bool = released.and_then(|row| row.try_get(0)).map_err(failed("releasing the content of files"))?;
        if held { Ok(()) } else { Err(StorageError::Unsafe("the content of files was not held; try again".to_owned())) }
    }
}

async fn counts(client: &Client) -> Result<RowCounts, StorageError> {
    let count = async {
        let mut counts = RowCounts::new();
        for row in client.query(sql::TABLES, &[]).await? {
            let (table, statement): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            counts.insert(table, client.query_one(&statement, &[]).await?.try_get(0)?);
        }
        Ok(counts)
    };
    count.await.map_err(failed("counting the rows of the tables"))
}

/// A table of the server's database that an empty one does not have.
///
/// # Errors
/// PostgreSQL's.
pub async fn first_table(client: &Client) -> Result<Option<String>, StorageError> {
    let read = async { client.query_opt(sql::FIRST_TABLE, &[]).await?.map(|row| row.try_get(0)).transpose() };
    read.await.map_err(failed("looking for tables"))
}

/// The rows of every table, as the owner sees them. That is all of them only while no table has row level security: the
/// last part of a dump switches it on.
///
/// # Errors
/// PostgreSQL's.
pub async fn owned_rows(target: &Target) -> Result<RowCounts, StorageError> {
    let client = connect(&target.config(Role::Owner)).await.map_err(StorageError::Connect)?;
    client.batch_execute(sql::NO_TIME_LIMITS).await.map_err(failed("counting the rows of the tables"))?;
    counts(&client).await
}

/// Ends unfinished uploads whose bytes are lost.
///
/// # Errors
/// Failures of PostgreSQL.
pub async fn expire_uploads(accounts: &Accounts, files: &[FileId]) -> Result<(), Refusal> {
    let numbers: Vec<i64> = files.iter().map(|file| file.0).collect();
    accounts.rows("expire_uploads", false, (sql::EXPIRE_UPLOADS, &[&numbers]), |_| Ok(())).await.map(drop)
}
