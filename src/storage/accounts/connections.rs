//! Connections of the account pool, and single statements on them.

use super::super::rows::Statement;
use super::outcome::settle;
use crate::error::Refusal;
use crate::faults::warn_limited;
use deadpool_postgres::{Object, Pool, PoolError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{error::Elapsed, timeout};
use tokio_postgres::{Error, Row};

/// Longest wait for a connection, and again for the statements of one call.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Handle to the account tables; cloning it is cheap.
#[derive(Clone)]
pub struct Accounts {
    pool: Pool,
    reads: Arc<Semaphore>,
}

impl std::fmt::Debug for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accounts").finish_non_exhaustive()
    }
}

impl Accounts {
    /// `pool`'s connections must run as `chat_writer`.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        let reads = Arc::new(Semaphore::new((pool.status().max_size / 2).max(1)));
        Self { pool, reads }
    }

    pub(in crate::storage) async fn connection(&self, what: &'static str) -> Result<Object, Refusal> {
        Self::in_time(what, self.pool.get()).await
    }

    /// A connection for a read, which the permit belongs to.
    pub(super) async fn read_connection(
        &self,
        what: &'static str,
    ) -> Result<(Object, Option<SemaphorePermit<'_>>), Refusal> {
        Self::in_time(what, async {
            let permit = self.reads.acquire().await.ok(); // the semaphore is never closed
            self.pool.get().await.map(|connection| (connection, permit))
        })
        .await
    }

    /// The rows of one statement. `writes`: an error after it was sent leaves open whether it happened.
    pub(in crate::storage) async fn rows<T>(
        &self,
        what: &'static str,
        writes: bool,
        statement: Statement<'_>,
        read: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Refusal> {
        let connection = self.connection(what).await?;
        Self::rows_of(connection, what, writes, statement, read).await
    }

    /// Whether one statement gives true. No row counts as false. `writes` is that of [`Self::rows`].
    pub(in crate::storage) async fn is_true(
        &self,
        what: &'static str,
        writes: bool,
        statement: Statement<'_>,
    ) -> Result<bool, Refusal> {
        let rows = self.rows(what, writes, statement, |row| row.try_get(0)).await?;
        Ok(rows.first().copied().unwrap_or(false))
    }

    /// The rows of one statement that reads.
    pub(in crate::storage) async fn read_rows<T>(
        &self,
        what: &'static str,
        statement: Statement<'_>,
        read: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Refusal> {
        let (connection, _permit) = self.read_connection(what).await?;
        Self::rows_of(connection, what, false, statement, read).await
    }

    async fn rows_of<T>(
        connection: Object,
        what: &'static str,
        writes: bool,
        (statement, parameters): Statement<'_>,
        read: impl Fn(&Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Refusal> {
        let mut in_doubt = false;
        let outcome = timeout(QUERY_TIMEOUT, async {
            let statement = connection.prepare_cached(statement).await?;
            in_doubt = writes;
            connection.query(&statement, parameters).await?.iter().map(read).collect()
        })
        .await;
        settle(connection, what, in_doubt, outcome)
    }

    async fn in_time<T>(
        what: &'static str,
        connecting: impl Future<Output = Result<T, PoolError>>,
    ) -> Result<T, Refusal> {
        match timeout(QUERY_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => {
                warn_limited!(what, %error, "no connection to PostgreSQL");
                Err(Refusal::storage_unavailable())
            }
            Err(Elapsed { .. }) => {
                warn_limited!(what, "no connection to PostgreSQL became free in time");
                Err(Refusal::storage_unavailable())
            }
        }
    }
}
