//! Ranges of message ids, each of which is a partition of `messages` and of the search index. Retention begins the next
//! one, and drops those that it has cleared, so that their disk is free at once.
//!
//! Invariants:
//! - there is a partition for every id: the last one has no end. It gets one when the next range begins;
//! - the decision to drop a range is committed before anything of it is detached. A server that dies in between goes on
//!   from the decision, and a legal hold that comes later no longer counts;
//! - no reader or writer waits for a scan or a drop. A partition gets its end under an exclusive lock of milliseconds,
//!   for which the job waits half a second.

use super::{RightsTables, setup};
use crate::error::{ErrorCode, Refusal};
use crate::storage::sql::data_rights as sql;
use std::time::Duration;
use tokio_postgres::error::SqlState;

/// Rows that one statement removes of what belonged to dropped messages.
const ROWS: i64 = 5_000;
/// Conversations that are counted again at a time; they wait meanwhile.
const CONVERSATIONS: i64 = 100;
/// For a lock that readers and writers wait behind meanwhile.
const SHORT: &str = "SET lock_timeout = '500ms'";
/// For a detachment, which a long transaction delays and nobody waits behind.
const LONG: &str = "SET lock_timeout = '5s'; SET statement_timeout = '60s'";
/// Why no range begins.
const FULL: &str = "there are 64 ranges of message ids, which is the most, so the present one grows. Release the legal \
    holds that keep old messages";
const NO_TIMEOUT: &str = "RESET lock_timeout; RESET statement_timeout";

/// A range that was dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DroppedRange {
    /// Its first id; the next look begins behind it.
    pub first_id: i64,
    /// Bytes of disk that are free now.
    pub freed: i64,
}

impl RightsTables {
    /// Begins the next range of ids, if the present one is as old as `period` and has messages. Returns whether it did.
    ///
    /// # Errors
    /// `storage_unavailable`: PostgreSQL's, such as a lock timeout, after which the next call goes on; or there are as
    /// many ranges as there can be.
    pub async fn begin_range(&self, period: Duration) -> Result<bool, Refusal> {
        let failed = || setup("beginning a range of message ids");
        // An earlier call may have been cut short before this.
        self.client.execute(sql::MOVE_MESSAGE_IDS, &[]).await.map_err(failed())?;
        let due = self.client.query_opt(sql::DUE_RANGE, &[&days(period)]).await.map_err(failed())?;
        let Some(due) = due else { return Ok(false) };
        let (present, next): (i64, Option<i64>) =
            (due.try_get(0).map_err(failed())?, due.try_get(1).map_err(failed())?);
        let next = next.ok_or_else(|| Refusal::new(ErrorCode::StorageUnavailable, FULL))?;
        self.client.execute(sql::MAKE_RANGE, &[&next]).await.map_err(failed())?;
        let divided = [(2, "message_id", sql::DIVIDE_SEARCH), (3, "id", sql::OPEN_RANGE)];
        for (column, key, divide) in divided {
            // Stated without reading the table, then proved beside readers and writers.
            let partition: String = due.try_get(column).map_err(failed())?;
            let state = format!(
                "ALTER TABLE public.{partition} DROP CONSTRAINT IF EXISTS messages_end; \
                 ALTER TABLE public.{partition} ADD CONSTRAINT messages_end CHECK ({key} < {next}) NOT VALID"
            );
            let stated = self.within(SHORT, async || self.client.batch_execute(&state).await).await;
            stated.map_err(failed())?;
            let prove = format!("ALTER TABLE public.{partition} VALIDATE CONSTRAINT messages_end");
            self.client.batch_execute(&prove).await.map_err(failed())?;
            let divided = self.within(SHORT, async || self.client.execute(divide, &[&present, &next]).await).await;
            divided.map_err(failed())?;
        }
        self.client.execute(sql::MOVE_MESSAGE_IDS, &[]).await.map_err(failed())?;
        Ok(true)
    }

    /// Drops the next range behind `after` that is older than `limit`, if retention has cleared it. Without a limit,
    /// one that an earlier call has begun to drop. `None` if there is none.
    ///
    /// # Errors
    /// PostgreSQL's. The next call goes on.
    pub async fn drop_range(&self, after: i64, limit: Option<Duration>) -> Result<Option<DroppedRange>, Refusal> {
        let failed = || setup("dropping old messages");
        let found = self.client.query_opt(sql::DROP_RANGE, &[&after, &limit.map(days)]).await.map_err(failed())?;
        let Some(found) = found else { return Ok(None) };
        let (first_id, next_id): (i64, i64) =
            (found.try_get(0).map_err(failed())?, found.try_get(1).map_err(failed())?);
        let (mut freed, mut is_gone) = (0, true);
        for (column, table) in [(2, "messages"), (4, "message_search")] {
            let state: Option<String> = found.try_get(column).map_err(failed())?;
            let Some(state) = state else { continue };
            let name = format!("public.{}", found.try_get::<_, String>(column + 1).map_err(failed())?);
            let dropped = self.within(LONG, async || self.drop_partition(table, &name, &state).await).await;
            let (bytes, is_dropped) = dropped.map_err(failed())?;
            freed += bytes;
            is_gone &= is_dropped;
        }
        if is_gone {
            // Before the range is forgotten, so that a server that dies here does it again.
            self.recount_messages().await?;
        }
        while is_gone {
            let more = self.client.query_one(sql::FORGET_MESSAGES, &[&first_id, &next_id, &ROWS]).await;
            is_gone = more.and_then(|row| row.try_get(0)).map_err(failed())?;
        }
        Ok(Some(DroppedRange { first_id, freed }))
    }

    /// Detaches and drops a partition. Returns its size, and whether it is gone: while rule sets of earlier versions
    /// name the type of its rows, it is emptied only.
    async fn drop_partition(&self, table: &str, name: &str, state: &str) -> Result<(i64, bool), tokio_postgres::Error> {
        match state {
            "attached" => {
                let detach = format!("ALTER TABLE public.{table} DETACH PARTITION {name} CONCURRENTLY");
                self.client.batch_execute(&detach).await?;
            }
            "pending" => {
                let finish = format!("ALTER TABLE public.{table} DETACH PARTITION {name} FINALIZE");
                self.client.batch_execute(&finish).await?;
            }
            _ => {}
        }
        let size: i64 = self.client.query_one(sql::SIZE_OF_PARTITION, &[&name]).await?.try_get(0)?;
        match self.client.batch_execute(&format!("DROP TABLE {name}")).await {
            Ok(()) => Ok((size, true)),
            Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
                self.client.batch_execute(&format!("TRUNCATE {name}")).await?;
                Ok((size, false))
            }
            Err(error) => Err(error),
        }
    }

    /// Counts the messages of conversations that have lost some with a partition.
    async fn recount_messages(&self) -> Result<(), Refusal> {
        let mut after = Some(0_i64);
        while let Some(last) = after {
            let row = self.client.query_one(sql::RECOUNT_MESSAGES, &[&last, &CONVERSATIONS]).await;
            after = row.and_then(|row| row.try_get(0)).map_err(setup("counting messages"))?;
        }
        Ok(())
    }

    async fn within<T>(
        &self,
        timeouts: &str,
        step: impl AsyncFnOnce() -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, tokio_postgres::Error> {
        self.client.batch_execute(timeouts).await?;
        let done = step().await;
        let reset = self.client.batch_execute(NO_TIMEOUT).await;
        done.and_then(|done| reset.map(|()| done))
    }
}

fn days(time: Duration) -> f64 {
    time.as_secs_f64() / 86_400.0
}
