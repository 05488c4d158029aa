//! The search index, written behind the messages: analysing a text costs more than committing it, and no sender waits
//! for that.
//!
//! 1. A committer names the conversations in which it has committed messages.
//! 2. `index_messages` in PostgreSQL indexes the next stretch of each and says which of them have more.
//! 3. After working for a while the indexer rests for a multiple of it, so that under load the messages come first and
//!    what they say is found a little later.
//!
//! Invariant: how far a conversation is indexed stands in PostgreSQL, in the transaction that indexes. Names that are lost
//! here (a full queue, the end of the process) are found again by a sweep over all conversations that are behind.

use super::connect::{self, Role, Target};
use super::sql;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_postgres::{Client, Statement};

/// Conversations whose names may wait; beyond, a sweep finds them.
const WAITING_MAX: usize = 65_536;
/// Messages of one conversation in one transaction.
const STRETCH: i64 = 200;
/// Conversations in one transaction.
const AT_ONCE: usize = 8;
/// Conversations that one look of a sweep finds.
const SWEEP: i64 = 1_000;
/// Messages are given so long to gather.
const GATHER: Duration = Duration::from_millis(150);
/// The indexer rests so many times as long as it has worked.
const REST: u32 = 4;
/// Between two attempts at a PostgreSQL that does not answer.
const RETRY: Duration = Duration::from_secs(2);

/// The committers' end: names conversations that have new messages.
#[derive(Clone)]
pub struct Touched {
    names: mpsc::Sender<i64>,
    missed: Arc<AtomicBool>,
}

impl Touched {
    /// There are new messages in this conversation.
    pub fn name(&self, conversation: i64) {
        if self.names.try_send(conversation).is_err() {
            self.missed.store(true, Ordering::Relaxed);
        }
    }
}

/// The indexer.
pub struct Indexer {
    target: Target,
    names: mpsc::Receiver<i64>,
    missed: Arc<AtomicBool>,
    behind: BTreeSet<i64>,
    /// A sweep is under way; the last conversation that it has seen.
    swept: Option<i64>,
}

struct Connection {
    client: Client,
    index: Statement,
    sweep: Statement,
}

impl Indexer {
    /// An indexer and the committers' end of it.
    #[must_use]
    pub fn new(target: Target) -> (Self, Touched) {
        let (sender, names) = mpsc::channel(WAITING_MAX);
        // What an earlier process left behind is found by the first sweep.
        let missed = Arc::new(AtomicBool::new(true));
        let touched = Touched { names: sender, missed: Arc::clone(&missed) };
        (Self { target, names, missed, behind: BTreeSet::new(), swept: None }, touched)
    }

    /// Runs until every [`Touched`] is gone; what is not indexed by then is found at the next start.
    pub async fn run(mut self) {
        let mut connection = None;
        loop {
            if self.behind.is_empty() && self.swept.is_none() && !self.missed.load(Ordering::Relaxed) {
                let Some(name) = self.names.recv().await else { return };
                self.behind.insert(name);
                tokio::time::sleep(GATHER).await;
            }
            loop {
                match self.names.try_recv() {
                    Ok(name) => drop(self.behind.insert(name)),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            let began = Instant::now();
            match self.work(&mut connection).await {
                Ok(()) => tokio::time::sleep(began.elapsed() * REST).await,
                Err(error) => {
                    tracing::debug!("the search index waits for PostgreSQL: {error}");
                    connection = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// One transaction's worth.
    async fn work(&mut self, connection: &mut Option<Connection>) -> Result<(), tokio_postgres::Error> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.connect().await?),
        };
        if self.missed.swap(false, Ordering::Relaxed) {
            self.swept = Some(0);
        }
        if let Some(after) = self.swept
            && self.behind.len() < WAITING_MAX
        {
            self.swept = self.sweep(connection, after).await?;
        }
        let now: Vec<i64> = self.behind.iter().copied().take(AT_ONCE).collect();
        if now.is_empty() {
            return Ok(());
        }
        let row = connection.client.query_one(&connection.index, &[&now, &STRETCH]).await?;
        let more: Vec<i64> = row.try_get(0)?;
        for conversation in now {
            if !more.contains(&conversation) {
                self.behind.remove(&conversation);
            }
        }
        Ok(())
    }

    /// Looks for conversations that are behind; where to go on, if there may be more.
    async fn sweep(&mut self, connection: &Connection, after: i64) -> Result<Option<i64>, tokio_postgres::Error> {
        let row = connection.client.query_one(&connection.sweep, &[&after, &SWEEP]).await?;
        let found: Vec<i64> = row.try_get::<_, Option<Vec<i64>>>(0)?.unwrap_or_default();
        let next = found.last().copied().filter(|_| found.len() as i64 == SWEEP);
        self.behind.extend(found);
        Ok(next)
    }

    async fn connect(&self) -> Result<Connection, tokio_postgres::Error> {
        let client = connect::connect(&self.target.config(Role::Writer)).await?;
        let index = client.prepare(sql::INDEX_MESSAGES).await?;
        let sweep = client.prepare(sql::UNINDEXED_CONVERSATIONS).await?;
        Ok(Connection { client, index, sweep })
    }
}
