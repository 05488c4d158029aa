//! One server for each database, until several can serve one.
//!
//! Two servers on one database lose nothing, because PostgreSQL orders every change. But neither sends its subscribers
//! the events that the other commits, so a room's members would talk past each other. Therefore a server holds a
//! session advisory lock for as long as it runs.
//!
//! ```text
//!   acquire ──locked──► keep: the session ends ──► connect again, with backoff ──► locked
//!      └──held by another server──► refuse to start                 └──held by another server──► report, try again
//! ```
//!
//! Invariants:
//! - a server that runs is never stopped by its lock: a lost connection is replaced, and a lock that another server
//!   took meanwhile is reported and tried for again. Stopping would turn a short interruption into an outage;
//! - the lock of a dead server does not outlive it for long: PostgreSQL probes the client's machine
//!   every few seconds, and ends the session after [`KEEPALIVE`] without one.
//!
//! With `database.shared = true` the lock is held together with others, and its absence is only a warning.

use super::StorageError;
use super::connect::Target;
use super::sql::server_lock as sql;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Error, NoTls};

/// PostgreSQL needs a moment to notice that the server of a killed session has ended.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two attempts at start.
const RETRY: Duration = Duration::from_millis(50);
/// First pause before a lost connection is replaced; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How often a lock that another server holds is reported.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// A session ends 10 + 3 × 5 seconds after its client's machine stops answering.
const KEEPALIVE: &str = "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 \
    -c idle_session_timeout=0 -c statement_timeout=5000";
/// PostgreSQL cuts an application name after 63 bytes.
const NAME_BYTES_MAX: usize = 63;

/// The reservation of a database.
pub struct ServerLock {
    target: Target,
    name: String,
    shared: bool,
    session: LockSession,
}

struct LockSession {
    client: Client,
    /// Ends when the connection does.
    connection: JoinHandle<Result<(), Error>>,
}

impl LockSession {
    async fn open(target: &Target, name: &str) -> Result<Self, Error> {
        let (client, connection) = target.reservation(name, KEEPALIVE).connect(NoTls).await?;
        Ok(Self { client, connection: tokio::spawn(connection) })
    }

    async fn try_lock(&self, shared: bool) -> Result<bool, Error> {
        let statement = if shared { sql::TRY_SHARED } else { sql::TRY_ALONE };
        self.client.query_one(statement, &[]).await?.try_get(0)
    }

    /// Who holds the lock, for people.
    async fn holders(&self) -> Result<String, Error> {
        let rows = self.client.query(sql::HOLDERS, &[]).await?;
        let names = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, Error>>()?;
        Ok(if names.is_empty() { "a server of another database user".to_owned() } else { names.join(", ") })
    }
}

/// What other servers read about this one: its machine, process and address, as far as they fit.
#[must_use]
pub fn name(address: std::net::SocketAddr) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.trim().chars().filter(char::is_ascii_graphic).take(24).collect();
    let mut name = format!("veza server {address} on {host}, process {}", std::process::id());
    name.truncate(NAME_BYTES_MAX); // ASCII only
    name
}

impl ServerLock {
    /// Reserves the database for this server, called `name`; with `shared`, together with others.
    ///
    /// # Errors
    /// [`StorageError::InUse`] when another server has it, and PostgreSQL's errors.
    pub async fn acquire(target: &Target, name: &str, shared: bool) -> Result<Self, StorageError> {
        let failed = |source| StorageError::Setup { what: "reserving the database for this server", source };
        let session = LockSession::open(target, name).await.map_err(StorageError::Connect)?;
        let began = Instant::now();
        while !session.try_lock(shared).await.map_err(failed)? {
            if began.elapsed() < PATIENCE {
                tokio::time::sleep(RETRY).await;
                continue;
            }
            let holders = session.holders().await.map_err(failed)?;
            if !shared {
                return Err(StorageError::InUse(holders));
            }
            tracing::warn!(
                "another server uses this database for itself alone ({holders}); set database.shared = true there too, \
                 or it will not start again while this server runs"
            );
            break;
        }
        Ok(Self { target: target.clone(), name: name.to_owned(), shared, session })
    }

    /// Replaces the session whenever it ends, for as long as the server runs.
    pub async fn keep(mut self) {
        loop {
            let ended = (&mut self.session.connection).await;
            tracing::warn!("the connection that reserves the database was lost ({}); reconnecting", cause(&ended));
            self.session = self.reserve_again().await;
            tracing::info!("the database is reserved for this server again");
        }
    }

    async fn reserve_again(&self) -> LockSession {
        let mut pause = BACKOFF_MIN;
        let mut reported: Option<Instant> = None;
        loop {
            // Up to half of it at random: servers that lost PostgreSQL together do not reconnect together.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
            pause = (pause * 2).min(BACKOFF_MAX);
            let Ok(session) = LockSession::open(&self.target, &self.name).await else { continue };
            match session.try_lock(self.shared).await {
                Ok(true) => return session,
                Ok(false) if reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) => {
                    reported = Some(Instant::now());
                    let holders = session.holders().await.unwrap_or_default();
                    tracing::error!(
                        "another server has reserved this database while PostgreSQL was away ({holders}); stop one of \
                         them: subscribers of one do not receive the other's events until they catch up"
                    );
                }
                Ok(false) | Err(_) => {}
            }
        }
    }
}

fn cause(ended: &Result<Result<(), Error>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "PostgreSQL closed it".to_owned(),
        Ok(Err(error)) => super::reason(error),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_has_the_address_and_fits() {
        let name = name("[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap());
        assert!(
            name.starts_with("veza server [2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535") && name.len() <= 63,
            "{name}"
        );
    }
}
