//! The search index, written behind the messages: analysing a text costs more than committing it, and no sender waits
//! for that.
//!
//! 1. A committer names the conversations in which it has committed messages.
//! 2. `index_messages` in PostgreSQL indexes the next messages of the one that has waited longest, in a transaction of
//!    its own, and returns whether it has more.
//! 3. The indexer then rests for as long as the commits need: not at all beside an idle store, nine times as long as it
//!    worked beside a busy one, longer while commits wait ([`rest_factor`]). So under load messages come first and are
//!    found a little later.
//!
//! Invariants:
//! - PostgreSQL stores how far a conversation is indexed, in the same transaction. Conversations that are lost here
//!   (a full queue, the end of the process) are found again by a sweep over all conversations that are behind.
//! - A batch is bounded in messages and in bytes, and so is the memory that indexing it takes.
//! - A message that PostgreSQL cannot index is passed over, logged and counted. Otherwise nothing would be indexed
//!   after it. `index_messages` does so if the content is at fault. After any other error the conversation waits behind
//!   the others, and a message that fails several times is passed over while the index takes writes ([`IndexBacklog`]).

use super::connect::{self, Role, Target};
use super::index_backlog::{IndexBacklog, Step, WAITING_MAX};
use super::sql;
use super::sqlstate;
use crate::faults::warn_limited;
use crate::latency::{QueueGauge, StorageLatencies};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// Bytes of text in one transaction, but for a single larger message.
const STRETCH_BYTES_MAX: i64 = 1024 * 1024;
/// Conversations that one look of a sweep finds.
const SWEEP: i64 = 1_000;
/// How long the indexer waits for a batch to fill.
const GATHER: Duration = Duration::from_millis(150);
/// Beside a busy store the indexer rests this many times as long as it has worked.
const REST_BUSY: f64 = 9.0;
/// The same while mutations wait for their statement.
const REST_BACKLOG: f64 = 19.0;
/// A store whose statements take this part of the time has nothing to spare: one more backend would slow them down.
const BUSY: f64 = 0.5;
/// A backlog: the oldest mutation has waited for this long.
const BACKLOG: Duration = Duration::from_millis(50);
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
    latencies: Arc<StorageLatencies>,
    backlog: IndexBacklog,
    started: Instant,
    /// The last conversation of a running sweep.
    swept: Option<i64>,
    /// Seconds that statements of committers had taken at this moment.
    looked_at: (Instant, f64),
}

/// How many times as long as it worked the indexer rests. `busy` is the part of the time in which committers were
/// inside a statement; `oldest` is how long the oldest mutation has waited for one.
fn rest_factor(busy: f64, oldest: Duration) -> f64 {
    if oldest >= BACKLOG { REST_BACKLOG } else { REST_BUSY * (busy / BUSY).clamp(0.0, 1.0) }
}

struct Connection {
    client: Client,
    index: Statement,
    pass_over: Statement,
    sweep: Statement,
}

/// What became of one transaction.
enum Outcome {
    Done,
    /// It was cancelled; fewer messages are tried next.
    TookTooLong,
}

impl Indexer {
    /// An indexer and the committers' end of it.
    #[must_use]
    pub fn new(target: Target, latencies: Arc<StorageLatencies>) -> (Self, Touched) {
        let (sender, names) = mpsc::channel(WAITING_MAX);
        // What an earlier process left behind is found by the first sweep.
        let missed = Arc::new(AtomicBool::new(true));
        let touched = Touched { names: sender, missed: Arc::clone(&missed) };
        let (backlog, started) = (IndexBacklog::default(), Instant::now());
        let (swept, looked_at) = (None, (started, 0.0));
        (Self { target, names, missed, latencies, backlog, started, swept, looked_at }, touched)
    }

    /// Runs until every [`Touched`] is dropped; what is not indexed by then is found at the next start.
    pub async fn run(mut self) {
        let mut connection = None;
        loop {
            self.show_lag();
            if self.backlog.is_empty() && self.swept.is_none() && !self.missed.load(Ordering::Relaxed) {
                let Some(name) = self.names.recv().await else { return };
                self.add(name, Duration::ZERO);
                tokio::time::sleep(GATHER).await;
            }
            loop {
                match self.names.try_recv() {
                    Ok(name) => self.add(name, Duration::ZERO),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            let began = Instant::now();
            match self.work(&mut connection).await {
                Ok(Outcome::Done) => {
                    let rest = began.elapsed().mul_f64(self.rest_factor());
                    tokio::time::sleep(rest).await; // at least a yield: commits and reads share this thread
                }
                Ok(Outcome::TookTooLong) => warn_limited!("indexing messages took too long; trying fewer"),
                Err(error) => {
                    let why = sqlstate::describe(&error);
                    warn_limited!("cannot write the search index; retrying: {why}");
                    connection = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// One transaction's worth.
    async fn work(&mut self, connection: &mut Option<Connection>) -> Result<Outcome, tokio_postgres::Error> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(self.connect().await?),
        };
        if self.swept.is_none() && self.missed.swap(false, Ordering::Relaxed) {
            self.swept = Some(0);
        }
        if let Some(after) = self.swept
            && !self.backlog.is_full()
        {
            self.swept = self.sweep(connection, after).await?;
            self.show_lag();
            if self.swept.is_some() && !self.backlog.is_full() {
                return Ok(Outcome::Done); // first all that is behind, so that the age of the oldest message is known
            }
        }
        let Some(step) = self.backlog.next() else { return Ok(Outcome::Done) };
        let Err(error) = self.perform(connection, step).await else { return Ok(Outcome::Done) };
        let took_too_long = error.code() == Some(&SqlState::QUERY_CANCELED);
        let tries_fewer = self.backlog.failed(took_too_long);
        if took_too_long && tries_fewer { Ok(Outcome::TookTooLong) } else { Err(error) }
    }

    async fn perform(&mut self, connection: &Connection, step: Step) -> Result<(), tokio_postgres::Error> {
        match step {
            Step::Index { conversation, stretch } => {
                let parameters: [&(dyn ToSql + Sync); 3] = [&conversation, &stretch, &STRETCH_BYTES_MAX];
                let row = connection.client.query_one(&connection.index, &parameters).await?;
                let (has_more, lag_s, lost): (bool, f64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                if lost > 0 {
                    self.latencies.search.passed_over.add(lost as u64);
                    warn_limited!(
                        "{lost} messages of conversation {conversation} cannot be indexed and will not be found"
                    );
                }
                let left_ms = has_more.then(|| self.moment_ms(seconds(lag_s)));
                self.backlog.indexed(left_ms);
            }
            Step::PassOver { conversation } => {
                let row = connection.client.query_one(&connection.pass_over, &[&conversation]).await?;
                if let Some(message) = row.try_get::<_, Option<i64>>(0)? {
                    self.latencies.search.passed_over.add(1);
                    warn_limited!(
                        "message {message} of conversation {conversation} cannot be indexed and will not be found"
                    );
                }
                self.backlog.passed_over();
            }
        }
        Ok(())
    }

    /// A conversation has messages that are not indexed; the oldest is of this age.
    fn add(&mut self, conversation: i64, age: Duration) {
        if !self.backlog.add(conversation, self.moment_ms(age)) {
            self.missed.store(true, Ordering::Relaxed);
        }
    }

    /// When something of this age happened, in milliseconds since the start.
    fn moment_ms(&self, age: Duration) -> i64 {
        self.started.elapsed().as_millis() as i64 - age.as_millis() as i64
    }

    /// What the committers leave to spare since the last look.
    fn rest_factor(&mut self) -> f64 {
        let (now, taken) = (Instant::now(), self.latencies.commits.sum_seconds());
        let (before, taken_before) = std::mem::replace(&mut self.looked_at, (now, taken));
        let busy = (taken - taken_before) / (now - before).as_secs_f64().max(0.001);
        let oldest = self.latencies.queues.commits.iter().map(QueueGauge::oldest).max();
        rest_factor(busy, oldest.unwrap_or_default())
    }

    fn show_lag(&self) {
        let now_ms = self.moment_ms(Duration::ZERO);
        let oldest_ms = self.backlog.oldest_ms().map_or(0, |since_ms| (now_ms - since_ms).max(0));
        self.latencies.search.behind.set(self.backlog.len(), Duration::from_millis(oldest_ms as u64));
    }

    /// Looks for conversations that are behind; where to go on, if there may be more.
    async fn sweep(&mut self, connection: &Connection, after: i64) -> Result<Option<i64>, tokio_postgres::Error> {
        let rows = connection.client.query(&connection.sweep, &[&after, &SWEEP]).await?;
        let mut last = None;
        for row in &rows {
            let conversation = row.try_get(0)?;
            self.add(conversation, seconds(row.try_get(1)?));
            last = Some(conversation);
        }
        Ok(last.filter(|_| rows.len() as i64 == SWEEP))
    }

    async fn connect(&self) -> Result<Connection, tokio_postgres::Error> {
        let client = connect::connect(&self.target.config(Role::Writer)).await?;
        let index = client.prepare(sql::INDEX_MESSAGES).await?;
        let pass_over = client.prepare(sql::PASS_MESSAGE_OVER).await?;
        let sweep = client.prepare(sql::UNINDEXED_CONVERSATIONS).await?;
        Ok(Connection { client, index, pass_over, sweep })
    }
}

/// Zero for a time that PostgreSQL's clock has not reached.
fn seconds(age_s: f64) -> Duration {
    Duration::try_from_secs_f64(age_s).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_indexer_rests_longer_while_commits_are_busy() {
        let factor = |busy, oldest_ms| rest_factor(busy, Duration::from_millis(oldest_ms));
        assert!(factor(0.0, 0) < f64::EPSILON, "an idle store has everything to spare");
        assert!((factor(0.25, 0) - 4.5).abs() < 1e-9);
        assert!((factor(1.9, 0) - 9.0).abs() < 1e-9, "a tenth of the time beside a busy one");
        assert!((factor(0.1, 80) - 19.0).abs() < 1e-9, "less while commits wait");
        assert!(factor(-0.1, 0).abs() < f64::EPSILON);
    }
}
