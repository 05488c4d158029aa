//! A connection for one read at a time: its transaction, its end when time is up, and what an error of it means.

use super::health::StorageHealth;
use super::sqlstate::{self, Cause};
use super::{rows, sql};
use crate::error::{ErrorCode, Refusal};
use crate::faults::{error_limited, warn_limited};
use crate::ids::UserId;
use deadpool_postgres::{Object, Pool, PoolError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{NoTls, Row};

/// Parameters of one statement.
pub type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A request to cancel is a connection of its own and ends by then.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a read has no answer.
#[derive(Debug)]
pub enum Failure {
    /// The read is refused, with this reason for its user.
    Refused(Refusal),
    /// The connection was lost, or none could be made. A read changes nothing, so it can be tried again.
    Lost,
    /// PostgreSQL allows no more connections than the readers have.
    TooManyConnections,
    /// PostgreSQL ended a statement at its time limit.
    OutOfTime,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A connection that returns to the pool only when its transaction is known to have ended.
pub struct Reader {
    connection: Option<Object>,
    user: String,
    deadline: Instant,
    statement_ms_max: u64,
}

impl Reader {
    /// A connection for `user`, whose statements are cancelled at `deadline`.
    ///
    /// # Errors
    /// [`Failure::Lost`] and [`Failure::TooManyConnections`] when there is none.
    pub async fn new(pool: &Pool, writers: &StorageHealth, user: UserId, deadline: Instant) -> Result<Self, Failure> {
        // The writers connect first: readers must not use the last connections that PostgreSQL allows.
        if pool.status().available == 0 && !writers.has_writers() {
            return Err(Failure::Lost);
        }
        match pool.get().await {
            Ok(connection) => Ok(Self {
                connection: Some(connection),
                user: user.0.to_string(),
                deadline,
                statement_ms_max: u64::MAX,
            }),
            Err(PoolError::Backend(error)) if sqlstate::is_too_many_connections(&error) => {
                Err(Failure::TooManyConnections)
            }
            Err(error) => {
                warn_limited!("no connection to PostgreSQL for reading: {error}");
                Err(Failure::Lost)
            }
        }
    }

    /// From here on no statement runs for longer, even if the deadline is later: then it fails with
    /// [`Failure::OutOfTime`].
    pub fn limit_statements(&mut self, ms: u64) {
        self.statement_ms_max = ms;
    }

    /// BEGIN, who reads and for how long, the statements, COMMIT: sent together, answered together.
    ///
    /// # Errors
    /// What became of the transaction otherwise.
    pub async fn transaction<const N: usize>(
        &mut self,
        statements: [(&'static str, Parameters<'_>); N],
    ) -> Result<[Vec<Row>; N], Failure> {
        // Out of `self` while statements are in flight: if this future is dropped, they are cancelled.
        let Some(connection) = self.connection.take() else { return Err(Failure::Lost) };
        let mut connection = Unfinished(Some(connection));
        let Some(client) = &connection.0 else { return Err(Failure::Lost) };
        let set_user = client.prepare_cached(sql::SET_READER).await.map_err(|e| failure(&e))?;
        let mut prepared = Vec::with_capacity(N);
        for (text, _) in &statements {
            prepared.push(client.prepare_cached(text).await.map_err(|e| failure(&e))?);
        }
        // PostgreSQL itself ends a statement that nobody waits for, also when no request to cancel reaches it.
        let left_ms = self.deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        let left_ms = left_ms.min(self.statement_ms_max.into()).to_string();
        let reader: [&(dyn ToSql + Sync); 2] = [&self.user, &left_ms];
        // `join_all` polls in order, and a statement is sent when it is first polled: they go out as written here.
        let reads =
            prepared.iter().zip(&statements).map(|(prepared, (_, parameters))| client.query(prepared, parameters));
        let (begun, set, rows, committed) = futures_util::join!(
            client.batch_execute(sql::BEGIN_READ),
            client.query(&set_user, &reader),
            futures_util::future::join_all(reads),
            client.batch_execute(sql::COMMIT),
        );
        // COMMIT was answered, so the transaction is over, also when a statement in it was refused.
        if committed.is_ok() {
            self.connection = connection.finished();
        }
        begun.map_err(|e| failure(&e))?;
        set.map_err(|e| failure(&e))?;
        let mut answers: [Vec<Row>; N] = std::array::from_fn(|_| Vec::new());
        for (answer, result) in answers.iter_mut().zip(rows) {
            *answer = result.map_err(|e| failure(&e))?;
        }
        committed.map_err(|e| failure(&e))?;
        Ok(answers)
    }
}

/// A connection in the middle of a transaction. Dropped there (time is up), its statement is cancelled and it is
/// closed: in the pool the next read would wait for the rest of this one.
struct Unfinished(Option<Object>);

impl Unfinished {
    fn finished(&mut self) -> Option<Object> {
        self.0.take()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(connection) = self.0.take() else { return };
        let client = Object::take(connection);
        if client.is_closed() {
            return;
        }
        let cancel = client.cancel_token();
        tokio::spawn(async move {
            // Without an answer PostgreSQL's own timeout of the statement remains.
            let _ = tokio::time::timeout(CANCEL_TIMEOUT, cancel.cancel_query(NoTls)).await;
            drop(client);
        });
    }
}

/// The refusal of a read that ran out of time.
#[must_use]
pub fn too_slow() -> Refusal {
    let message = "The store did not answer this read in time. Nothing was changed. Try again in a moment.";
    Refusal::new(ErrorCode::StorageUnavailable, message).retry_after(1_000)
}

fn failure(error: &tokio_postgres::Error) -> Failure {
    let Some(db) = error.as_db_error() else {
        warn_limited!("connection to PostgreSQL lost while reading: {}", sqlstate::describe(error));
        return Failure::Lost;
    };
    if db.code().code() == rows::REFUSED {
        return Failure::Refused(rows::refusal(db));
    }
    Failure::Refused(match Cause::of(db.code()) {
        Cause::ConnectionEnded => {
            warn_limited!("PostgreSQL ended a connection for reading: {}", sqlstate::describe(error));
            return Failure::Lost;
        }
        // The one statement here that writes is the spending of a ticket: another connection was faster.
        Cause::Race if *db.code() == SqlState::T_R_SERIALIZATION_FAILURE => {
            Refusal::new(ErrorCode::Conflict, "Another connection used this ticket at the same moment.")
        }
        Cause::Race if *db.code() == SqlState::QUERY_CANCELED => return Failure::OutOfTime,
        Cause::Race | Cause::AuditBusy => too_slow(),
        Cause::Content => {
            warn_limited!("a read was refused for what it asks: {}", sqlstate::describe(error));
            Refusal::bad_request("The store cannot answer this request. Ask for something shorter or simpler.")
        }
        Cause::Store | Cause::Unclear => {
            error_limited!("PostgreSQL refused a read: {error:?}");
            Refusal::storage_unavailable()
        }
    })
}
