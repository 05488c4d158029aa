//! The search index, written behind the messages: analysing a text costs more than committing it, and no sender waits
//! for that.
//!
//! 1. A committer names the conversations in which it has committed messages.
//! 2. `index_messages` in PostgreSQL indexes the next stretch of the one that has waited longest, in a transaction of its own,
//!    and says whether it has more.
//! 3. After working for a while the indexer rests for a multiple of it, so that under load the messages come first and
//!    what they say is found a little later.
//!
//! Invariant: how far a conversation is indexed stands in PostgreSQL, in the transaction that indexes. Names that are lost
//! here (a full queue, the end of the process) are found again by a sweep over all conversations that are behind.

use super::connect::{self, Role, Target};
use super::sql;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

/// Conversations whose names may wait; beyond, a sweep finds them.
const WAITING_MAX: usize = 65_536;
/// Messages in one transaction, of one conversation: an edit there waits for its end.
const STRETCH_MAX: i64 = 256;
/// Conversations that one look of a sweep finds.
const SWEEP: i64 = 1_000;
/// Messages are given so long to gather.
const GATHER: Duration = Duration::from_millis(150);
/// The indexer rests so many times as long as it has worked.
const REST: u32 = 9;
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
    /// Conversations that are behind, those that were named first in front; each once.
    behind: VecDeque<i64>,
    waiting: HashSet<i64>,
    /// Halved when a transaction takes too long, doubled when one has succeeded.
    stretch: i64,
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
        let (behind, waiting) = (VecDeque::new(), HashSet::new());
        (Self { target, names, missed, behind, waiting, stretch: STRETCH_MAX, swept: None }, touched)
    }

    /// Runs until every [`Touched`] is gone; what is not indexed by then is found at the next start.
    pub async fn run(mut self) {
        let mut connection = None;
        loop {
            if self.behind.is_empty() && self.swept.is_none() && !self.missed.load(Ordering::Relaxed) {
                let Some(name) = self.names.recv().await else { return };
                self.add(name);
                tokio::time::sleep(GATHER).await;
            }
            loop {
                match self.names.try_recv() {
                    Ok(name) => self.add(name),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            let began = Instant::now();
            match self.work(&mut connection).await {
                Ok(()) => tokio::time::sleep(began.elapsed() * REST).await,
                Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) && self.stretch > 1 => {
                    tracing::warn!("indexing {} messages took too long, trying half of them", self.stretch);
                    self.stretch /= 2;
                }
                Err(error) => {
                    tracing::warn!("the search index cannot be written, trying again: {error}");
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
        let Some(conversation) = self.behind.front().copied() else { return Ok(()) };
        let row = connection.client.query_one(&connection.index, &[&conversation, &self.stretch]).await?;
        let has_more: bool = row.try_get(0)?;
        self.behind.pop_front();
        self.waiting.remove(&conversation);
        if has_more {
            self.add(conversation); // behind the others: a busy conversation does not keep them from being found
        }
        self.stretch = (self.stretch * 2).min(STRETCH_MAX);
        Ok(())
    }

    fn add(&mut self, conversation: i64) {
        if self.waiting.insert(conversation) {
            self.behind.push_back(conversation);
        }
    }

    /// Looks for conversations that are behind; where to go on, if there may be more.
    async fn sweep(&mut self, connection: &Connection, after: i64) -> Result<Option<i64>, tokio_postgres::Error> {
        let row = connection.client.query_one(&connection.sweep, &[&after, &SWEEP]).await?;
        let found: Vec<i64> = row.try_get::<_, Option<Vec<i64>>>(0)?.unwrap_or_default();
        let next = found.last().copied().filter(|_| found.len() as i64 == SWEEP);
        for conversation in found {
            self.add(conversation);
        }
        Ok(next)
    }

    async fn connect(&self) -> Result<Connection, tokio_postgres::Error> {
        let client = connect::connect(&self.target.config(Role::Writer)).await?;
        let index = client.prepare(sql::INDEX_MESSAGES).await?;
        let sweep = client.prepare(sql::UNINDEXED_CONVERSATIONS).await?;
        Ok(Connection { client, index, sweep })
    }
}
