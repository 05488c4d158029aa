//! One writer: commits each run of mutations in one statement, and finds its outcome after a lost connection.
//!
//! 1. Take the waiting mutations (natural batching), as runs (`batcher`).
//! 2. One statement per run; it is its own transaction.
//! 3. PostgreSQL answered: each row has its outcome.
//! 4. PostgreSQL refused the statement: nothing of it was committed. Retry if that can help. If a row may be at fault,
//!    split the run in halves until it is alone, and refuse that one. If the store is at fault, refuse the run with
//!    `storage_unavailable` (see `sqlstate`). If the end of the audit trail is locked, submit the run again and let it
//!    refuse what would need a row there.
//! 5. The connection was lost: the outcome is *unknown*. Reconnect (backoff with jitter) and submit the same run again.
//!    It waits for the old transaction's locks, then finds by its keys what that one did. A command past its deadline
//!    is refused with `deadline_exceeded` if its outcome is unknown, and with `storage_unavailable` if it had not
//!    begun.
//!
//! A run that may have been committed is never given up, so its events are published once PostgreSQL is back.
//!
//! An idle committer probes with an empty batch, so that readiness reflects a missing permission or a
//! locked table before the next message does.

use super::batcher::{self, RunKind};
use super::connect::{self, Role, Target};
use super::health::WriterHealth;
use super::indexer::Touched;
use super::observe;
use super::sql;
use super::sqlstate::{self, Cause};
use super::trail_end;
use super::verdicts::{self, BatchRows, Recorded};
use crate::error::Refusal;
use crate::faults::{error_limited, stop_process, warn_limited};
use crate::ids::FileId;
use crate::latency::{LatencyStage, StorageLatencies};
use crate::limits::BATCH_ROWS_MAX;
use crate::mesh::frame::{Change, CommitOutcome, Mutation, Verdict};
use crate::mesh::lane::Mesh;
use crate::mesh::overload::{Overload, WaitWindow, Work};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

/// A new connection must be ready by then.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const BACKOFF_MS_MIN: u64 = 50;
const BACKOFF_MS_MAX: u64 = 1_000;
/// A statement without an answer for this long counts as a lost connection.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an idle committer checks its connection.
const IDLE_LOOK: Duration = Duration::from_millis(250);
/// How often an idle committer probes with an empty batch.
const PROBE_INTERVAL: Duration = Duration::from_secs(2);
/// How often waiting mutations are compared with their deadlines.
const EXPIRY_INTERVAL: Duration = Duration::from_millis(200);
/// Serialisation failures and races for a key in a row, before the run is split.
const RETRIES_MAX: u32 = 5;
/// From so many mutations on, a statement takes as long as it has rows.
const LARGE_RUN: usize = 256;

/// A connection with its prepared statements.
struct Writer {
    client: Client,
    messages: Statement,
    recorded: Statement,
    others: Statement,
}

impl Writer {
    async fn connect(target: &Target) -> Result<Self, tokio_postgres::Error> {
        let client = connect::connect(&target.config(Role::Writer)).await?;
        let messages = client.prepare(sql::COMMIT_MESSAGES).await?;
        let recorded = client.prepare(sql::MENTIONS_AND_THREADS).await?;
        let others = client.prepare(sql::APPLY_MUTATIONS).await?;
        Ok(Self { client, messages, recorded, others })
    }
}

/// The outcome of one statement.
enum Attempt {
    Done(Vec<Verdict>),
    /// PostgreSQL answered that nothing was committed, and why.
    Refused(Cause, String),
    /// The connection was lost: the run may have been committed.
    Lost(String),
}

/// One of the I/O shard's committers.
pub struct Committer {
    target: Target,
    mesh: Arc<Mesh>,
    inlet: mpsc::Receiver<Box<Mutation>>,
    waiting: VecDeque<Box<Mutation>>,
    writer: Option<Writer>,
    health: Arc<WriterHealth>,
    /// The last statement was refused for a reason of the store's.
    store_refuses: bool,
    last_statement: Instant,
    number: usize,
    latencies: Arc<StorageLatencies>,
    touched: Touched,
    waits: WaitWindow,
    overload: Arc<Overload>,
    backoff_ms: u64,
}

impl Committer {
    /// Committer `number`, which reads `inlet`. What it sees of PostgreSQL is reported to `health`; what it does
    /// is recorded in `latencies` and `overload`, which only committers of one thread may share; where it has committed
    /// messages is named to `touched`.
    #[must_use]
    pub fn new(
        number: usize,
        target: Target,
        mesh: Arc<Mesh>,
        inlet: mpsc::Receiver<Box<Mutation>>,
        health: Arc<WriterHealth>,
        (latencies, overload): (Arc<StorageLatencies>, Arc<Overload>),
        touched: Touched,
    ) -> Self {
        Self {
            target,
            mesh,
            inlet,
            waiting: VecDeque::new(),
            writer: None,
            health,
            store_refuses: false,
            last_statement: Instant::now(),
            number,
            latencies,
            touched,
            waits: WaitWindow::new(Instant::now()),
            overload,
            backoff_ms: BACKOFF_MS_MIN,
        }
    }

    /// Runs until the inlet is closed and everything is committed or refused.
    pub async fn run(mut self) {
        let mut gathered = Vec::new();
        loop {
            if self.waiting.is_empty() {
                tokio::select! {
                    taken = self.inlet.recv_many(&mut gathered, BATCH_ROWS_MAX) => if taken == 0 { return },
                    () = tokio::time::sleep(IDLE_LOOK) => {
                        self.check_connection().await;
                        continue;
                    }
                }
            }
            self.waiting.extend(gathered.drain(..));
            while let Ok(mutation) = self.inlet.try_recv() {
                self.waiting.push_back(mutation);
            }
            if self.writer.is_none() && !self.reconnect().await {
                continue;
            }
            if let Some((kind, run)) = batcher::next_run(&mut self.waiting) {
                self.show_queue();
                self.commit(kind, run).await;
                self.show_queue();
            }
        }
    }

    fn show_queue(&self) {
        let oldest = self.waiting.front().map_or(Duration::ZERO, |mutation| mutation.handed_over_at.elapsed());
        self.latencies.queues.commits[self.number].set(self.waiting.len(), oldest);
    }

    /// With nothing to do, a lost connection is noticed here, and a store that refuses writes: readiness must not wait
    /// for the next message.
    async fn check_connection(&mut self) {
        if let Some(percent) = self.waits.idle(Instant::now()) {
            self.overload.set(Work::Commits(self.number), percent);
        }
        if self.writer.as_ref().is_none_or(|writer| writer.client.is_closed()) {
            self.writer = None;
            self.reconnect().await;
        } else if self.last_statement.elapsed() >= PROBE_INTERVAL
            && let Attempt::Lost(reason) = self.attempt(RunKind::Messages, &mut [], false, trail_end::wait_ms()).await
        {
            self.health.lost(reason);
        }
    }

    /// One attempt at connecting, then a pause if it failed. Mutations that no committer has begun expire meanwhile.
    pub async fn reconnect(&mut self) -> bool {
        // The driver's own timeout covers the socket, not a server that accepts and then sends nothing.
        let attempt = tokio::time::timeout(CONNECT_TIMEOUT, Writer::connect(&self.target)).await;
        let attempt =
            attempt.map_or_else(|_| Err("no answer".to_owned()), |done| done.map_err(|e| sqlstate::describe(&e)));
        match attempt {
            Ok(writer) => {
                self.writer = Some(writer);
                self.backoff_ms = BACKOFF_MS_MIN;
                self.store_refuses = false;
                self.health.connected();
                true
            }
            Err(error) => {
                warn_limited!("no connection to PostgreSQL for writing; retrying: {error}");
                self.health.lost(error);
                // Full jitter, so that the committers of many nodes do not reconnect in step.
                let pause = rand::random_range(BACKOFF_MS_MIN..=self.backoff_ms.max(BACKOFF_MS_MIN + 1));
                self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MS_MAX);
                tokio::time::sleep(Duration::from_millis(pause)).await;
                self.gather_and_expire();
                false
            }
        }
    }

    /// Receives mutations while the committer is busy, and refuses those that have waited too long without being begun.
    fn gather_and_expire(&mut self) {
        while let Ok(mutation) = self.inlet.try_recv() {
            self.waiting.push_back(mutation);
        }
        let now = Instant::now();
        for _ in 0..self.waiting.len() {
            let Some(mutation) = self.waiting.pop_front() else { break };
            if mutation.deadline <= now {
                self.answer(mutation, Verdict::Refused(Box::new(Refusal::storage_unavailable())));
            } else {
                self.waiting.push_back(mutation);
            }
        }
        self.show_queue();
    }

    /// Commits a run, however long it takes to find its outcome.
    async fn commit(&mut self, kind: RunKind, run: Vec<Box<Mutation>>) {
        let now = Instant::now();
        let waited = |mutation: &Mutation| now.saturating_duration_since(mutation.handed_over_at);
        // Natural batching takes what has just come as well. In a large run the rows are what takes time, so all of
        // them wait as long as they do on average; a small run that waits shows a slow disk.
        let of_all = (run.len() >= LARGE_RUN)
            .then(|| run.iter().map(|mutation| waited(mutation)).sum::<Duration>() / run.len() as u32);
        for mutation in &run {
            let waited = waited(mutation);
            self.latencies.stages.record(LatencyStage::CommitQueue, waited, 1);
            if let Some(percent) = self.waits.observe(mutation.actor, of_all.unwrap_or(waited), now) {
                self.overload.set(Work::Commits(self.number), percent);
            }
        }
        let mut parts = VecDeque::from([run]);
        // Whether an earlier submission may have been committed.
        let mut maybe_committed = false;
        let mut retries = 0;
        // Whether its changes with an audit row are refused.
        let mut is_trail_busy = false;
        while let Some(mut run) = parts.pop_front() {
            loop {
                if self.writer.is_none() {
                    self.report_unresolved(&mut run, maybe_committed);
                    if !maybe_committed && self.refuse_if_late(&mut run) {
                        break;
                    }
                    if !self.reconnect().await {
                        continue;
                    }
                }
                let audit_wait_ms = if is_trail_busy { 0 } else { trail_end::wait_ms() };
                match self.attempt(kind, &mut run, maybe_committed, audit_wait_ms).await {
                    Attempt::Done(verdicts) => {
                        for (mutation, verdict) in run.drain(..).zip(verdicts) {
                            self.answer(mutation, verdict);
                        }
                        break;
                    }
                    Attempt::Lost(reason) => {
                        warn_limited!(
                            "connection to PostgreSQL lost while {} mutations were in it: {reason}",
                            run.len()
                        );
                        self.health.lost(reason);
                        self.writer = None;
                        maybe_committed = true;
                    }
                    Attempt::Refused(Cause::AuditBusy, reason) if audit_wait_ms > 0 => {
                        warn_limited!(
                            "another transaction holds the row of audit_head; audited changes fail: {reason}"
                        );
                        trail_end::note_busy();
                        is_trail_busy = true;
                    }
                    Attempt::Refused(Cause::Race, reason) if retries < RETRIES_MAX => {
                        retries += 1;
                        tracing::debug!("submitting a run again: {reason}");
                    }
                    Attempt::Refused(cause, reason) if run.len() > 1 && cause.may_be_one_row() => {
                        warn_limited!(
                            "a run of {} mutations was refused; searching for the cause: {reason}",
                            run.len()
                        );
                        let tail = run.split_off(run.len() / 2);
                        parts.push_front(tail);
                        parts.push_front(run);
                        break;
                    }
                    Attempt::Refused(cause, reason) => {
                        error_limited!("PostgreSQL refused {} mutations: {reason}", run.len());
                        for mutation in run.drain(..) {
                            self.answer(mutation, Verdict::Refused(Box::new(refusal_of(cause))));
                        }
                        break;
                    }
                }
            }
        }
    }

    fn report_unresolved(&self, run: &mut [Box<Mutation>], maybe_committed: bool) {
        let now = Instant::now();
        for mutation in run {
            if maybe_committed && !mutation.answered && mutation.deadline <= now {
                mutation.answered = true;
                self.deliver(mutation.owner.index(), CommitOutcome::Unresolved(mutation.token));
            }
        }
    }

    /// Refuses the mutations of a run that was never submitted and is late; true when none is left.
    fn refuse_if_late(&self, run: &mut Vec<Box<Mutation>>) -> bool {
        let now = Instant::now();
        for mutation in std::mem::take(run) {
            if mutation.deadline <= now {
                self.answer(mutation, Verdict::Refused(Box::new(Refusal::storage_unavailable())));
            } else {
                run.push(mutation);
            }
        }
        run.is_empty()
    }

    /// Submits a run once. Deadlines of what waits, and of the run itself, are watched meanwhile.
    async fn attempt(
        &mut self,
        kind: RunKind,
        run: &mut [Box<Mutation>],
        repeated: bool,
        audit_wait_ms: i64,
    ) -> Attempt {
        let Some(writer) = self.writer.take() else { return Attempt::Lost("no connection".to_owned()) };
        let started = Instant::now();
        self.last_statement = started;
        self.health.began(started);
        let submitted = match kind {
            RunKind::Messages => Columns::of_messages(run),
            RunKind::Others => Columns::of_others(run),
        };
        let outcome = {
            let statement = submit(&writer, &submitted, run.len(), audit_wait_ms);
            tokio::pin!(statement);
            // Not `interval`, whose first tick is not immediate: the timer counts in milliseconds, and waiting
            // for it held every commit up by one.
            let mut expiry = tokio::time::interval_at((started + EXPIRY_INTERVAL).into(), EXPIRY_INTERVAL);
            loop {
                tokio::select! {
                    biased;
                    outcome = &mut statement => break Some(outcome),
                    _ = expiry.tick() => {
                        self.gather_and_expire();
                        self.report_unresolved(run, true);
                        if started.elapsed() > STATEMENT_TIMEOUT {
                            break None;
                        }
                    }
                }
            }
        };
        match outcome {
            None => Attempt::Lost(format!("no answer for {} s", STATEMENT_TIMEOUT.as_secs())),
            Some(Ok(answer)) => {
                self.writer = Some(writer);
                self.health.accepted(std::mem::take(&mut self.store_refuses));
                if run.is_empty() {
                    return Attempt::Done(Vec::new()); // a probe: there is nothing to commit
                }
                let took = started.elapsed();
                self.latencies.commits.record(took, 1);
                self.latencies.batch_sizes.record(run.len() as u64);
                self.latencies.stages.record(LatencyStage::Commit, took, run.len() as u64);
                let verdicts = match kind {
                    RunKind::Messages => verdicts::of_messages(run, &answer, repeated),
                    RunKind::Others => verdicts::of_others(run, &answer.rows),
                };
                self.note_new_entries(kind, run);
                // Submitted again, the run would give the same rows, and its senders would never receive an answer.
                let verdicts = verdicts.unwrap_or_else(|reason| stop_process(&reason));
                observe::of_run(&self.mesh.activity, run, &verdicts);
                Attempt::Done(verdicts)
            }
            Some(Err(error)) => {
                let cause = error.code().map_or(Cause::ConnectionEnded, Cause::of);
                let reason = sqlstate::describe(&error);
                if cause == Cause::ConnectionEnded {
                    return Attempt::Lost(reason);
                }
                self.writer = Some(writer);
                let is_stores = matches!(cause, Cause::Store | Cause::Unclear);
                self.store_refuses |= is_stores;
                self.health.refused(is_stores.then(|| reason.clone()));
                Attempt::Refused(cause, reason)
            }
        }
    }

    /// Notes the conversations of a run for what follows their logs: the indexer, if they have new messages, and the
    /// webhooks. Neighbours of the same conversation are noted once.
    fn note_new_entries(&self, kind: RunKind, run: &[Box<Mutation>]) {
        let mut last = None;
        for conversation in run.iter().filter_map(|mutation| mutation.conversation) {
            if last != Some(conversation) {
                if kind == RunKind::Messages {
                    self.touched.name(conversation.number());
                }
                self.mesh.log_watch.note(conversation.number());
                last = Some(conversation);
            }
        }
    }

    fn answer(&self, mutation: Box<Mutation>, verdict: Verdict) {
        let owner = mutation.owner.index();
        self.deliver(owner, CommitOutcome::Final(mutation, verdict));
    }

    fn deliver(&self, owner: usize, outcome: CommitOutcome) {
        let shard = crate::ids::ShardId(owner as u8);
        if self.mesh.storage(shard).outcomes.try_push(outcome).is_err() {
            // The owner reserves two slots for each mutation before it sends it here.
            stop_process("a reserved slot for an outcome was taken");
        }
        self.mesh.bell(shard).ring();
    }
}

/// A run as the columns of its statement.
enum Columns {
    Messages {
        conversations: Vec<i64>,
        senders: Vec<i64>,
        contents: Vec<String>,
        keys: Vec<String>,
        parents: Vec<Option<i64>>,
        types: Vec<&'static str>,
        /// The ids of each message's files as an array in PostgreSQL's notation.
        files: Vec<Option<String>>,
    },
    Others {
        kinds: Vec<&'static str>,
        conversations: Vec<Option<i64>>,
        actors: Vec<i64>,
        mutation_ids: Vec<i64>,
        arguments: Vec<Value>,
        sessions: Vec<Option<i64>>,
        /// Where they came from, as `append_audit` reads it.
        addresses: Vec<Option<String>>,
        agents: Vec<Option<String>>,
    },
}

impl Columns {
    fn of_messages(run: &[Box<Mutation>]) -> Self {
        let (mut conversations, mut senders, mut contents) = (Vec::new(), Vec::new(), Vec::new());
        let (mut keys, mut parents, mut types, mut files_column) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for mutation in run {
            if let Change::Message { content, message_type, parent, key, files, .. } = &mutation.change {
                conversations.push(mutation.conversation.map_or(0, crate::ids::ConversationId::number));
                senders.push(mutation.actor.0);
                contents.push(content.clone());
                keys.push(key.clone());
                parents.push(parent.map(|p| p.0));
                types.push(*message_type);
                files_column.push(array_of(files));
            }
        }
        Self::Messages { conversations, senders, contents, keys, parents, types, files: files_column }
    }

    fn of_others(run: &[Box<Mutation>]) -> Self {
        let (mut kinds, mut conversations, mut actors) = (Vec::new(), Vec::new(), Vec::new());
        let (mut mutation_ids, mut arguments_column, mut sessions) = (Vec::new(), Vec::new(), Vec::new());
        let (mut addresses, mut agents) = (Vec::new(), Vec::new());
        for mutation in run {
            if let Change::Other { kind, mutation_id, arguments } = &mutation.change {
                kinds.push(*kind);
                conversations.push(mutation.conversation.map(crate::ids::ConversationId::number));
                actors.push(mutation.actor.0);
                mutation_ids.push(*mutation_id);
                arguments_column.push(arguments.clone());
                sessions.push(mutation.session.map(|session| session.0));
                let source = mutation.source.as_deref();
                addresses.push(source.and_then(|source| source.address).map(|address| address.to_string()));
                agents.push(source.and_then(|source| source.agent.as_deref()).map(str::to_owned));
            }
        }
        let arguments = arguments_column;
        Self::Others { kinds, conversations, actors, mutation_ids, arguments, sessions, addresses, agents }
    }
}

async fn submit(
    writer: &Writer,
    columns: &Columns,
    rows_expected: usize,
    audit_wait_ms: i64,
) -> Result<BatchRows, tokio_postgres::Error> {
    match columns {
        Columns::Messages { conversations, senders, contents, keys, parents, types, files } => {
            let rows = writer
                .client
                .query(&writer.messages, &[conversations, senders, contents, keys, parents, types, files])
                .await?;
            let mut recorded = HashMap::new();
            if contents.iter().any(|content| content.contains('@'))
                || parents.iter().any(Option::is_some)
                || files.iter().any(Option::is_some)
            {
                let mut ids = Vec::with_capacity(rows_expected);
                for row in &rows {
                    ids.extend(row.try_get::<_, Option<i64>>("message_id")?);
                }
                match writer.client.query(&writer.recorded, &[&ids]).await {
                    Ok(found) => {
                        for row in found {
                            recorded.insert(row.try_get("message_id")?, Recorded::read(&row)?);
                        }
                    }
                    // The messages are committed: they are published without it, and found complete in the history.
                    Err(error) if error.as_db_error().is_some() => {
                        error_limited!("mentions, threads and files of committed messages could not be read: {error}");
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(BatchRows { rows, recorded })
        }
        Columns::Others { kinds, conversations, actors, mutation_ids, arguments, sessions, addresses, agents } => {
            let columns: [&(dyn ToSql + Sync); 9] =
                [kinds, conversations, actors, mutation_ids, arguments, sessions, addresses, agents, &audit_wait_ms];
            let rows = writer.client.query(&writer.others, &columns).await?;
            Ok(BatchRows { rows, recorded: HashMap::new() })
        }
    }
}

/// `{1,2,3}`; none without any.
fn array_of(files: &[FileId]) -> Option<String> {
    let numbers: Vec<String> = files.iter().map(|file| file.0.to_string()).collect();
    (!numbers.is_empty()).then(|| format!("{{{}}}", numbers.join(",")))
}

fn refusal_of(cause: Cause) -> Refusal {
    match cause {
        Cause::Content => Refusal::bad_request("The content of this change cannot be stored."),
        Cause::AuditBusy => Refusal::audit_trail_busy(),
        Cause::ConnectionEnded | Cause::Race | Cause::Unclear | Cause::Store => Refusal::storage_unavailable(),
    }
}
