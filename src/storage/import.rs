//! The database of an import: staging tables, the plan, and what is written.
//!
//! ```text
//!   rows of the dump ──COPY──► staging ──plan──► what each row becomes ──transactions──► the server's tables
//! ```
//!
//! Invariants:
//! - nothing outside of the staging schema changes before the whole dump was read and planned. So a dump that cannot be
//!   read leaves nothing behind;
//! - a transaction writes what belongs together, and its rows say where they come from. So an import that was cut short
//!   goes on where it was, and a second one finds everything done;
//! - row level security is suspended within transactions of this session only, and restored by the same transactions.

use super::StorageError;
use super::connect::{Role, Target};
use super::logins::connect_as;
use super::sql::import::{self as sql, apply, files, report, staging};
use crate::files::content::ContentHash;
use crate::ids::FileId;
use bytes::Bytes;
use futures_util::SinkExt as _;
use serde_json::Value;
use tokio_postgres::{Client, Error, Transaction};

/// A session of the owner that imports.
pub struct ImportSession {
    client: Client,
}

/// Rows of one table of the dump, as the plan counts them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedCount {
    /// The staged table.
    pub staged: String,
    /// Its generation.
    pub generation: u8,
    /// Rows that are written now.
    pub imported: u64,
    /// Rows that an earlier import has written.
    pub present: u64,
    /// Rows that became part of another one.
    pub united: u64,
}

/// A row of the dump with a remark: why it was rejected, or what was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemarkedRow {
    /// The staged table.
    pub staged: String,
    /// Its generation.
    pub generation: u8,
    /// The line of the dump.
    pub line: u64,
    /// The id in the dump, if there is one.
    pub id: Option<String>,
    /// The remark.
    pub remark: String,
}

/// A file of the dump whose content is to be found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AwaitedFile {
    /// Its number in the plan.
    pub no: i64,
    /// Its generation.
    pub generation: u8,
    /// Its names and its path, as the old server had them.
    pub names: [Option<String>; 3],
    /// Its size, if the dump says it.
    pub size: Option<u64>,
    /// Its type.
    pub media_type: Option<String>,
    /// Its SHA-256 in hexadecimal, if the dump says it.
    pub checksum: Option<String>,
    /// Where its content is, of an export that says it. Empty if it is nowhere.
    pub place: Option<String>,
    /// Whether an earlier import took it.
    pub is_known: bool,
}

/// A file whose content is in the folder of uploads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenFile {
    /// Its number here.
    pub file: FileId,
    /// The name that people see.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// The hash of them.
    pub hash: ContentHash,
}

/// What one table should have, and has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TableSums {
    /// The table of the server.
    pub table: String,
    /// Rows of the plan and their checksum.
    pub planned: (i64, String),
    /// The same of the table.
    pub written: (i64, String),
}

fn failed(what: &'static str) -> impl FnOnce(Error) -> StorageError {
    move |source| StorageError::Setup { what, source }
}

impl ImportSession {
    /// Connects as the owner, and makes empty staging tables.
    ///
    /// # Errors
    /// PostgreSQL's, as for all functions here.
    pub async fn open(target: &Target, source: &str) -> Result<Self, StorageError> {
        let client = connect_as(target, Role::Owner).await?;
        let path = target.rule_path();
        let rules = path.split(',').next().unwrap_or_default();
        let prepare = async {
            client.query_one(staging::SESSION, &[&rules]).await?;
            client.batch_execute(staging::CREATE).await?;
            client.execute(staging::BEGIN_RUN, &[&source]).await.map(drop)
        };
        prepare.await.map_err(failed("preparing the import"))?;
        Ok(Self { client })
    }

    /// Writes lines of COPY's text format to a staging table.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn stage(&self, table: &str, columns: &[&str], lines: Bytes) -> Result<(), StorageError> {
        let copy = async {
            let sink = self.client.copy_in(&staging::copy_into(table, columns)).await?;
            let mut sink = std::pin::pin!(sink);
            sink.send(lines).await?;
            sink.finish().await.map(drop)
        };
        copy.await.map_err(failed("reading the dump into staging tables"))
    }

    /// The number of steps of [`Self::plan`].
    #[must_use]
    pub fn steps() -> usize {
        sql::plan().len()
    }

    /// Plans what becomes of every row. `shown` learns of each step before it begins.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn plan(&mut self, mut shown: impl FnMut(&'static str)) -> Result<(), StorageError> {
        self.client.batch_execute(staging::ANALYZE).await.map_err(failed("reading the dump into staging tables"))?;
        let change = self.begin().await?;
        for (about, statements) in sql::plan() {
            shown(about);
            change.batch_execute(&statements).await.map_err(failed("planning the import"))?;
        }
        commit(change).await
    }

    async fn begin(&mut self) -> Result<Transaction<'_>, StorageError> {
        let begin = async {
            let change = self.client.transaction().await?;
            change.batch_execute(&staging::suspend_row_security()).await?;
            Ok(change)
        };
        begin.await.map_err(failed("beginning a transaction of the import"))
    }

    /// How many users of an earlier import the dump has, and how many of them are other people now.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn known_users(&mut self) -> Result<(i64, i64), StorageError> {
        let change = self.begin().await?;
        let read = async {
            let row = change.query_one(apply::STRANGERS, &[]).await?;
            Ok((row.try_get(0)?, row.try_get(1)?))
        };
        let known = read.await.map_err(failed("comparing the dump with an earlier import"))?;
        commit(change).await?;
        Ok(known)
    }

    /// Writes users and what belongs to them. `no_password` is the hash of accounts without one.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn write_users(&mut self, no_password: &str) -> Result<(), StorageError> {
        let change = self.begin().await?;
        let write = async {
            change.batch_execute(apply::USERS).await?;
            change.execute(apply::CREDENTIALS, &[&no_password]).await?;
            change.batch_execute(apply::USER_IDS).await
        };
        write.await.map_err(failed("writing users"))?;
        commit(change).await
    }

    /// Writes conversations and their members. Returns the number of batches of messages, and of the messages.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn write_conversations(&mut self) -> Result<(i64, i64), StorageError> {
        let change = self.begin().await?;
        let write = async {
            change.batch_execute(apply::CONVERSATIONS).await?;
            change.batch_execute(apply::MESSAGE_IDS).await?;
            let row = change.query_one(apply::BATCHES, &[]).await?;
            Ok((row.try_get(0)?, row.try_get(1)?))
        };
        let batches = write.await.map_err(failed("writing conversations"))?;
        commit(change).await?;
        Ok(batches)
    }

    /// Writes a batch of messages and what belongs to them. Returns the number of messages.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn write_messages(&mut self, batch: i64) -> Result<u64, StorageError> {
        let change = self.begin().await?;
        let write = async {
            let written = change.execute(apply::MESSAGES, &[&batch]).await?;
            for statement in apply::OF_MESSAGES {
                change.execute(*statement, &[&batch]).await?;
            }
            Ok(written)
        };
        let written = write.await.map_err(failed("writing messages"))?;
        commit(change).await?;
        Ok(written)
    }

    /// Rows of each table of the dump.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn counts(&mut self) -> Result<Vec<PlannedCount>, StorageError> {
        let read = async {
            let rows = self.client.query(report::COUNTS, &[]).await?;
            let count = |row: &tokio_postgres::Row| {
                Ok(PlannedCount {
                    staged: row.try_get(0)?,
                    generation: row.try_get::<_, i16>(1)? as u8,
                    imported: row.try_get::<_, i64>(2)? as u64,
                    present: row.try_get::<_, i64>(3)? as u64,
                    united: row.try_get::<_, i64>(4)? as u64,
                })
            };
            rows.iter().map(count).collect::<Result<Vec<_>, Error>>()
        };
        read.await.map_err(failed("counting rows"))
    }

    /// Rows that were rejected, and rows that were changed.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn remarks(&mut self) -> Result<[Vec<RemarkedRow>; 2], StorageError> {
        let read = async {
            let mut both = [Vec::new(), Vec::new()];
            for (rows, statement) in both.iter_mut().zip([report::QUARANTINE, report::MENDED]) {
                for row in self.client.query(statement, &[]).await? {
                    rows.push(RemarkedRow {
                        staged: row.try_get(0)?,
                        generation: row.try_get::<_, i16>(1)? as u8,
                        line: row.try_get::<_, i64>(2)? as u64,
                        id: row.try_get(3)?,
                        remark: row.try_get(4)?,
                    });
                }
            }
            Ok(both)
        };
        read.await.map_err(failed("reading the rejected rows"))
    }

    /// The files whose content is to be found.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn awaited_files(&mut self) -> Result<Vec<AwaitedFile>, StorageError> {
        let read = async {
            let file = |row: &tokio_postgres::Row| {
                Ok(AwaitedFile {
                    no: row.try_get(0)?,
                    generation: row.try_get::<_, i16>(1)? as u8,
                    names: [row.try_get(6)?, row.try_get(4)?, row.try_get(5)?],
                    size: row.try_get::<_, Option<i64>>(7)?.map(|size| size as u64),
                    media_type: row.try_get(8)?,
                    checksum: row.try_get(9)?,
                    is_known: row.try_get::<_, Option<i64>>(10)?.is_some(),
                    place: row.try_get(11)?,
                })
            };
            let rows = self.client.query(files::AWAITED, &[]).await?;
            rows.iter().map(file).collect::<Result<Vec<_>, Error>>()
        };
        read.await.map_err(failed("reading the files of the dump"))
    }

    /// Rejects a file.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn reject_file(&mut self, no: i64, why: &str) -> Result<(), StorageError> {
        self.client.execute(files::REJECT, &[&no, &why]).await.map(drop).map_err(failed("rejecting a file"))
    }

    /// A number that no file has.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn next_file(&mut self) -> Result<FileId, StorageError> {
        let number = async { self.client.query_one(files::NEXT_ID, &[]).await?.try_get(0) };
        number.await.map(FileId).map_err(failed("numbering a file"))
    }

    /// Writes a file whose bytes are durable. A server checks it when it starts, like an upload.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn write_file(&mut self, awaited: &AwaitedFile, taken: &TakenFile) -> Result<(), StorageError> {
        let change = self.begin().await?;
        let write = async {
            let (no, file, size) = (awaited.no, taken.file.0, taken.size as i64);
            let media_type = awaited.media_type.as_ref().filter(|given| given.len() <= 100);
            let hash = taken.hash.0.as_slice();
            change.execute(files::INSERT, &[&no, &file, &taken.name, &size, &hash, &media_type]).await?;
            for statement in files::INSERT_REST {
                change.execute(*statement, &[&no, &file]).await?;
            }
            Ok(())
        };
        write.await.map_err(failed("writing a file"))?;
        commit(change).await
    }

    /// What the tables should have and have, and conversations with a gap, of which there must be none.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn verify(&mut self) -> Result<(Vec<TableSums>, Vec<i64>), StorageError> {
        let change = self.begin().await?;
        let read = async {
            let sums = |row: &tokio_postgres::Row| {
                Ok(TableSums {
                    table: row.try_get(0)?,
                    planned: (row.try_get(1)?, row.try_get(2)?),
                    written: (row.try_get(3)?, row.try_get(4)?),
                })
            };
            let tables = change.query(report::CHECKSUMS, &[]).await?;
            let tables = tables.iter().map(sums).collect::<Result<Vec<_>, Error>>()?;
            let gaps = change.query(report::GAPS, &[]).await?;
            let gaps = gaps.iter().map(|row| row.try_get(0)).collect::<Result<Vec<_>, Error>>()?;
            Ok((tables, gaps))
        };
        let found = read.await.map_err(failed("verifying the import"))?;
        commit(change).await?;
        Ok(found)
    }

    /// Records the import, in the audit trail too, unless nothing was written and it is recorded already.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn finish(&mut self, started_at: &str, summary: &Value, has_rows: bool) -> Result<(), StorageError> {
        let change = self.begin().await?;
        let write = async {
            if change.execute(apply::FINISH, &[summary, &started_at, &has_rows]).await? == 0 {
                return Ok(());
            }
            let row = serde_json::json!([{ "action": "import", "details": summary }]);
            change.execute(super::sql::audit::APPEND, &[&row]).await.map(drop)
        };
        write.await.map_err(failed("recording the import"))?;
        commit(change).await?;
        self.client.batch_execute(apply::ANALYZE).await.map_err(failed("counting the new rows"))
    }

    /// Removes the staging tables.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn close(self) -> Result<(), StorageError> {
        self.client.batch_execute(staging::DROP).await.map_err(failed("removing the staging tables"))
    }
}

/// Restores row level security, and commits.
async fn commit(change: Transaction<'_>) -> Result<(), StorageError> {
    let commit = async {
        change.batch_execute(&staging::resume_row_security()).await?;
        change.commit().await
    };
    commit.await.map_err(failed("committing a transaction of the import"))
}
