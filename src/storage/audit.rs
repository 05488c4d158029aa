//! The audit trail as the owner of its tables reads and keeps it: heads, checkpoints, partitions, the whole chain.
//!
//! Rows are appended elsewhere, by `append_audit` in the transaction of their change. What is here runs rarely: a
//! connection is opened for it and closed afterwards.

use super::StorageError;
use super::connect::{Role, Target, connect};
use super::sql::audit as sql;
use crate::audit::Hash;
use crate::audit::chain::ChainHead;
use crate::audit::row::AuditRow;
use futures_util::TryStreamExt;
use std::pin::pin;
use std::time::Duration;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, Error, Row};

/// A connection as the owner.
pub struct AuditTables {
    client: Client,
}

/// A checkpoint that is stored beside the rows.
pub struct StoredCheckpoint {
    /// The position of its last row.
    pub size: i64,
    /// Retention dropped the rows up to there.
    pub closing: bool,
    /// The signed text.
    pub note: String,
}

/// Partitions whose rows are older than the retention.
pub struct ExpiredPartitions {
    /// Their tables.
    pub names: Vec<String>,
    /// The last row in them; `None` if they are empty.
    pub head: Option<ChainHead>,
}

fn failed(what: &'static str) -> impl FnOnce(Error) -> StorageError {
    move |source| StorageError::Setup { what, source }
}

fn hash(bytes: &[u8]) -> Hash {
    bytes.try_into().unwrap_or_default() // 32 bytes by the table's CHECK; anything else fits no row
}

impl AuditTables {
    /// Connects.
    ///
    /// # Errors
    /// [`StorageError::Connect`].
    pub async fn open(target: &Target) -> Result<Self, StorageError> {
        let client = connect(&target.config(Role::Owner)).await.map_err(StorageError::Connect)?;
        let path = target.rule_path();
        client.execute(sql::CHOOSE_RULES, &[&path]).await.map_err(failed("choosing the rule set"))?;
        Ok(Self { client })
    }

    /// Reads everything from now on in one snapshot, without a time limit.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn begin_verification(&self) -> Result<(), StorageError> {
        self.client.batch_execute(sql::BEGIN_VERIFICATION).await.map_err(failed("beginning the verification"))
    }

    /// The id of the chain, and its end.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn head(&self) -> Result<(String, ChainHead), StorageError> {
        let read = async {
            let row = self.client.query_one(sql::HEAD, &[]).await?;
            let head = ChainHead { size: row.try_get(1)?, root: hash(row.try_get(2)?) };
            Ok((row.try_get(0)?, head))
        };
        read.await.map_err(failed("reading the end of the audit trail"))
    }

    /// The hash of the row at a position, if it is there.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn root_at(&self, position: i64) -> Result<Option<Hash>, StorageError> {
        let read = async {
            let row = self.client.query_opt(sql::ROOT_AT, &[&position]).await?;
            row.map(|row| row.try_get(0).map(hash)).transpose()
        };
        read.await.map_err(failed("reading a row of the audit trail"))
    }

    /// Every checkpoint, ascending.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn checkpoints(&self) -> Result<Vec<StoredCheckpoint>, StorageError> {
        let read = async {
            let rows = self.client.query(sql::CHECKPOINTS, &[]).await?;
            let checkpoint = |row: &Row| {
                Ok(StoredCheckpoint { size: row.try_get(0)?, closing: row.try_get(1)?, note: row.try_get(2)? })
            };
            rows.iter().map(checkpoint).collect::<Result<Vec<_>, Error>>()
        };
        read.await.map_err(failed("reading the checkpoints of the audit trail"))
    }

    /// The size and the text of the newest one.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn newest_checkpoint(&self) -> Result<Option<(i64, String)>, StorageError> {
        let read = async {
            let row = self.client.query_opt(sql::NEWEST_CHECKPOINT, &[]).await?;
            row.map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).transpose()
        };
        read.await.map_err(failed("reading the newest checkpoint of the audit trail"))
    }

    /// Stores a checkpoint, unless there is one of this size.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn keep_checkpoint(&self, size: i64, note: &str) -> Result<(), StorageError> {
        let kept = self.client.execute(sql::INSERT_CHECKPOINT, &[&size, &note]).await;
        kept.map(drop).map_err(failed("storing a checkpoint of the audit trail"))
    }

    /// Makes the partitions of this month and of `ahead` more.
    ///
    /// # Errors
    /// PostgreSQL's, as when a reader holds the lock of a table for long.
    pub async fn make_partitions(&mut self, ahead: i32) -> Result<(), StorageError> {
        let make = async {
            let transaction = self.client.transaction().await?;
            transaction.batch_execute(sql::BOUND_LOCK_WAITS).await?;
            transaction.query(sql::MAKE_PARTITIONS, &[&ahead]).await?;
            transaction.commit().await
        };
        make.await.map_err(failed("making partitions of audit_logs"))
    }

    /// The partitions that ended longer ago than `age`, if there are any.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn expired(&self, age: Duration) -> Result<Option<ExpiredPartitions>, StorageError> {
        let read = async {
            let row = self.client.query_opt(sql::EXPIRED_PARTITIONS, &[&age.as_secs_f64()]).await?;
            let expired = |row: Row| {
                let (size, root): (Option<i64>, Option<&[u8]>) = (row.try_get("size")?, row.try_get("root")?);
                let head = size.zip(root).map(|(size, root)| ChainHead { size, root: hash(root) });
                Ok(ExpiredPartitions { names: row.try_get("names")?, head })
            };
            row.map(expired).transpose()
        };
        read.await.map_err(failed("searching for expired partitions of audit_logs"))
    }

    /// Drops partitions, and stores the closing checkpoint of their rows.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn drop_partitions(
        &mut self,
        expired: &ExpiredPartitions,
        note: Option<&str>,
    ) -> Result<(), StorageError> {
        let ending = async {
            let transaction = self.client.transaction().await?;
            transaction.batch_execute(sql::BOUND_LOCK_WAITS).await?;
            let size = expired.head.map(|head| head.size);
            transaction.query(sql::DROP_PARTITIONS, &[&expired.names, &size, &note]).await?;
            transaction.commit().await
        };
        ending.await.map_err(failed("dropping expired partitions of audit_logs"))
    }

    /// Passes every row to `each`, in the order of the chain. The driver reads ahead a bounded part only.
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn each_row(&self, mut each: impl FnMut(&AuditRow<'_>)) -> Result<(), StorageError> {
        let read = async {
            let mut rows = pin!(self.client.query_raw::<_, i64, _>(sql::ROWS, []).await?);
            while let Some(row) = rows.try_next().await? {
                each(&audit_row(&row)?);
            }
            Ok(())
        };
        read.await.map_err(failed("reading the audit trail"))
    }
}

/// A `timestamptz` as PostgreSQL sends it, in microseconds: a calendar would take longer than the hash of the row.
struct UnixMicros(i64);

impl UnixMicros {
    /// PostgreSQL counts from 2000-01-01.
    const POSTGRES_EPOCH: i64 = 946_684_800_000_000;
}

impl<'a> FromSql<'a> for UnixMicros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        // Infinity is no time of a row: it gives a number that no hash fits.
        Ok(Self(i64::from_be_bytes(raw.try_into()?).wrapping_add(Self::POSTGRES_EPOCH)))
    }

    fn accepts(sql_type: &Type) -> bool {
        *sql_type == Type::TIMESTAMPTZ
    }
}

fn audit_row(row: &Row) -> Result<AuditRow<'_>, Error> {
    Ok(AuditRow {
        position: row.try_get(0)?,
        created_at_us: row.try_get::<_, UnixMicros>(1)?.0,
        user_id: row.try_get(2)?,
        action: row.try_get(3)?,
        target_type: row.try_get(4)?,
        target_id: row.try_get(5)?,
        conversation_id: row.try_get(6)?,
        session_id: row.try_get(7)?,
        ip_address: row.try_get(8)?,
        device: row.try_get(9)?,
        reason: row.try_get(10)?,
        details: row.try_get(11)?,
        salt: row.try_get(12)?,
        commitment: row.try_get(13)?,
        previous_hash: row.try_get(14)?,
        hash: row.try_get(15)?,
    })
}
