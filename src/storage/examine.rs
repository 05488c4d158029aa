//! Measurements and questions of `chat-server doctor`. They change nothing.

use super::StorageError;
use super::sql;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_postgres::Client;

/// How long each of `count` round trips took, the shortest first.
///
/// # Errors
/// PostgreSQL's.
pub async fn round_trips(client: &Client, count: usize) -> Result<Vec<Duration>, StorageError> {
    let setup = |source| StorageError::Setup { what: "measuring round trips", source };
    let statement = client.prepare(sql::ROUND_TRIP).await.map_err(setup)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        client.query_one(&statement, &[]).await.map_err(setup)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// By how many seconds PostgreSQL's clock is ahead of this machine's; half a round trip may be wrong.
///
/// # Errors
/// PostgreSQL's.
pub async fn clock_ahead_s(client: &Client) -> Result<f64, StorageError> {
    let setup = |source| StorageError::Setup { what: "reading PostgreSQL's clock", source };
    let statement = client.prepare(sql::CLOCK).await.map_err(setup)?;
    let began = Instant::now();
    let row = client.query_one(&statement, &[]).await.map_err(setup)?;
    let theirs: f64 = row.try_get(0).map_err(setup)?;
    let mine = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(theirs + (began.elapsed() / 2).as_secs_f64() - mine.as_secs_f64())
}

/// What is there of the three roles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleState {
    /// Whether all three exist.
    pub exist: bool,
    /// Whether this session's login may create them and set their passwords.
    pub can_be_made: bool,
}

/// Asks for it.
///
/// # Errors
/// PostgreSQL's.
pub async fn role_state(client: &Client) -> Result<RoleState, StorageError> {
    let setup = |source| StorageError::Setup { what: "looking for the database logins", source };
    let read = async |statement| client.query_one(statement, &[]).await.and_then(|row| row.try_get(0)).map_err(setup);
    let exist = read(sql::rule_sets::ROLES_EXIST).await?;
    let can_be_made = read(sql::logins::MAY_CREATE_ROLES).await?;
    Ok(RoleState { exist, can_be_made })
}
