//! One writer: commits each run of mutations in one statement, and finds its outcome after a lost connection.
//!
//! 1. Take a run of the waiting mutations (natural batching, `batcher`).
//! 2. One statement per run; it is its own transaction. Messages whose verdicts are known (`known`) go first, in a
//!    statement of their own that checks less. What it leaves out or refuses goes on in the general form.
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

use super::backlog::CommitBacklog;
use super::batcher::{NextRun, RunKind};
use super::connect::Target;
use super::health::WriterHealth;
use super::indexer::Touched;
use super::known::{DividedRun, KnownRun, KnownSenders};
use super::observe;
use super::sqlstate::{self, Cause};
use super::trail_end;
use super::verdicts::{self, BatchRows, KnownRows};
use super::writer::{Columns, KnownColumns, Writer};
use crate::error::Refusal;
use crate::faults::{error_limited, stop_process, warn_limited};
use crate::latency::{CommitForm, LatencyStage, StorageLatencies};
use crate::mesh::frame::{CommitOutcome, Mutation, Verdict};
use crate::mesh::lane::Mesh;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// The outcome of one statement.
enum Attempt<T> {
    Done(T),
    /// PostgreSQL answered that nothing was committed, and why.
    Refused(Cause, String),
    /// The connection was lost: the run may have been committed.
    Lost(String),
}

/// Where a committer takes its work from.
pub(super) struct Place {
    /// What waits for it.
    pub backlog: Arc<CommitBacklog>,
    /// Its number among the committers of that.
    pub at_backlog: usize,
}

/// One of the I/O shard's committers.
pub(super) struct Committer {
    target: Target,
    mesh: Arc<Mesh>,
    place: Place,
    writer: Option<Writer>,
    health: Arc<WriterHealth>,
    /// The last statement was refused for a reason of the store's.
    store_refuses: bool,
    last_statement: Instant,
    /// When it looks at its connection, if it is idle then.
    next_look: Instant,
    latencies: Arc<StorageLatencies>,
    touched: Touched,
    backoff_ms: u64,
}

impl Committer {
    /// A committer at this place. What it sees of PostgreSQL is reported to `health`; what it does is recorded in
    /// `latencies`, which only committers of one thread may share; where it has committed messages is named to
    /// `touched`.
    #[must_use]
    pub fn new(
        place: Place,
        target: Target,
        mesh: Arc<Mesh>,
        health: Arc<WriterHealth>,
        latencies: Arc<StorageLatencies>,
        touched: Touched,
    ) -> Self {
        Self {
            target,
            mesh,
            place,
            writer: None,
            health,
            store_refuses: false,
            last_statement: Instant::now(),
            next_look: Instant::now() + IDLE_LOOK,
            latencies,
            touched,
            backoff_ms: BACKOFF_MS_MIN,
        }
    }

    /// Runs until nothing more comes and everything is committed or refused.
    pub async fn run(mut self) {
        while !self.place.backlog.is_done() {
            // Another committer of the same queue takes what waits meanwhile.
            if self.place.backlog.is_waiting() && self.writer.is_none() && !self.reconnect().await {
                continue;
            }
            match self.place.backlog.next() {
                NextRun::Run(run) => {
                    self.commit(run.claim.kind, run.mutations).await;
                    self.place.backlog.ended(&run.claim);
                }
                NextRun::At(at) => self.wait_until(at.min(self.next_look)).await,
                NextRun::Nothing => self.wait_until(self.next_look).await,
            }
            if self.next_look <= Instant::now() {
                self.check_connection().await;
                self.next_look = Instant::now() + IDLE_LOOK;
            }
        }
    }

    /// Waits until this time, or until the queue has changed.
    async fn wait_until(&self, at: Instant) {
        tokio::select! {
            () = self.place.backlog.rung(self.place.at_backlog) => {}
            () = tokio::time::sleep_until(at.into()) => {}
        }
    }

    /// With nothing to do, a lost connection is noticed here, and a store that refuses writes: readiness must not wait
    /// for the next message.
    async fn check_connection(&mut self) {
        self.place.backlog.idle(Instant::now());
        if self.writer.as_ref().is_none_or(Writer::is_closed) {
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
                // It may be another server, to which not every commit was replicated.
                self.place.backlog.with_known(|known| *known = KnownSenders::default());
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
                self.refuse_expired();
                false
            }
        }
    }

    /// Refuses what has waited too long without being begun.
    fn refuse_expired(&self) {
        for mutation in self.place.backlog.expired() {
            self.answer(mutation, Verdict::Refused(Box::new(Refusal::storage_unavailable())));
        }
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
            self.latencies.stages.record(LatencyStage::CommitQueue, waited(mutation), 1);
        }
        let left = run.iter().map(|mutation| (mutation.actor, of_all.unwrap_or_else(|| waited(mutation))));
        self.place.backlog.observe(left, now);
        // Whether an earlier submission may have been committed.
        let (run, mut maybe_committed) = if kind == RunKind::Messages {
            let Some(left) = self.commit_known(run).await else { return };
            left
        } else {
            (run, false)
        };
        let mut parts = VecDeque::from([run]);
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
                        self.publish(kind, run, verdicts);
                        break;
                    }
                    Attempt::Lost(reason) => {
                        self.lose(run.len(), reason);
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

    /// Commits those messages of a run whose verdicts are known. Returns what is left for the general form, and whether
    /// that may have been committed; none if nothing is left.
    async fn commit_known(&mut self, mut run: Vec<Box<Mutation>>) -> Option<(Vec<Box<Mutation>>, bool)> {
        let Some(plan) = self.place.backlog.with_known(|known| known.plan(&run)) else { return Some((run, false)) };
        let mut rows = match self.attempt_known(&plan, &mut run).await {
            Attempt::Done(rows) => rows,
            // The general form finds the cause. A repeated key is the usual one.
            Attempt::Refused(_, reason) => {
                tracing::debug!("a run is submitted in the general form: {reason}");
                self.latencies.forms.add(CommitForm::Repeated, plan.rows.len());
                return Some((run, false));
            }
            Attempt::Lost(reason) => {
                self.lose(run.len(), reason);
                return Some((run, true));
            }
        };
        rows.rooms.sort_unstable();
        self.place.backlog.with_known(|known| known.settled(&plan, &rows.rooms));
        let DividedRun { done, rows: committed, left } = plan.divide(run, &rows.rooms);
        let verdicts = verdicts::of_known(&done, &committed, &rows);
        // Submitted again, the messages would be repeats.
        let verdicts = verdicts.unwrap_or_else(|reason| stop_process(&reason));
        self.latencies.forms.add(CommitForm::Known, done.len());
        self.latencies.forms.add(CommitForm::Repeated, plan.rows.len() - done.len());
        self.publish(RunKind::Messages, done, verdicts);
        (!left.is_empty()).then_some((left, false))
    }

    async fn attempt_known(&mut self, plan: &KnownRun, run: &mut [Box<Mutation>]) -> Attempt<KnownRows> {
        let Some(writer) = self.writer.take() else { return Attempt::Lost("no connection".to_owned()) };
        let columns = KnownColumns::new(plan, run);
        let answered = self.watch(run, writer.commit_known(&columns)).await;
        self.concluded(writer, answered, (RunKind::Messages, plan.rows.len()))
    }

    /// Submits a run once, in the general form.
    async fn attempt(
        &mut self,
        kind: RunKind,
        run: &mut [Box<Mutation>],
        repeated: bool,
        audit_wait_ms: i64,
    ) -> Attempt<Vec<Verdict>> {
        let Some(writer) = self.writer.take() else { return Attempt::Lost("no connection".to_owned()) };
        let columns = match kind {
            RunKind::Messages => Columns::of_messages(run),
            RunKind::Others => Columns::of_others(run),
        };
        let answered = self.watch(run, writer.commit(&columns, audit_wait_ms)).await;
        match self.concluded(writer, answered, (kind, run.len())) {
            // A probe: there is nothing to commit.
            Attempt::Done(_) if run.is_empty() => Attempt::Done(Vec::new()),
            Attempt::Done(answer) => Attempt::Done(self.judge(kind, run, &answer, repeated)),
            Attempt::Refused(cause, reason) => Attempt::Refused(cause, reason),
            Attempt::Lost(reason) => Attempt::Lost(reason),
        }
    }

    /// The verdicts of a committed run. What they show of its conversations is known from now on.
    fn judge(&mut self, kind: RunKind, run: &[Box<Mutation>], answer: &BatchRows, repeated: bool) -> Vec<Verdict> {
        let verdicts = match kind {
            RunKind::Messages => verdicts::of_messages(run, answer, repeated),
            RunKind::Others => verdicts::of_others(run, &answer.rows),
        };
        // Submitted again, the run would give the same rows, and its senders would never receive an answer.
        let verdicts = verdicts.unwrap_or_else(|reason| stop_process(&reason));
        if kind == RunKind::Messages {
            self.latencies.forms.add(CommitForm::General, run.len());
        }
        let numbers = |at: usize| answer.rows.get(at).and_then(verdicts::numbers);
        self.place.backlog.with_known(|known| known.learn(run, &verdicts, numbers));
        verdicts
    }

    /// Waits for a statement. Deadlines of what waits, and of the run itself, are watched meanwhile. `None`: no answer
    /// in time.
    async fn watch<T>(
        &mut self,
        run: &mut [Box<Mutation>],
        statement: impl Future<Output = T>,
    ) -> Option<(T, Duration)> {
        let started = Instant::now();
        self.last_statement = started;
        self.health.began(started);
        tokio::pin!(statement);
        // Not `interval`, whose first tick is not immediate: the timer counts in milliseconds, and waiting for it held
        // every commit up by one.
        let mut expiry = tokio::time::interval_at((started + EXPIRY_INTERVAL).into(), EXPIRY_INTERVAL);
        loop {
            tokio::select! {
                biased;
                outcome = &mut statement => return Some((outcome, started.elapsed())),
                _ = expiry.tick() => {
                    self.refuse_expired();
                    self.report_unresolved(run, true);
                    if started.elapsed() > STATEMENT_TIMEOUT {
                        return None;
                    }
                }
            }
        }
    }

    /// What became of a statement with so many rows.
    fn concluded<T>(
        &mut self,
        writer: Writer,
        answered: Option<(Result<T, tokio_postgres::Error>, Duration)>,
        (kind, rows): (RunKind, usize),
    ) -> Attempt<T> {
        match answered {
            None => Attempt::Lost(format!("no answer for {} s", STATEMENT_TIMEOUT.as_secs())),
            Some((Ok(answer), took)) => {
                self.writer = Some(writer);
                self.health.accepted(std::mem::take(&mut self.store_refuses));
                if rows > 0 {
                    self.latencies.commits.record(took, 1);
                    self.latencies.batch_sizes.record(rows as u64);
                    self.place.backlog.took(kind, rows, took);
                    self.latencies.stages.record(LatencyStage::Commit, took, rows as u64);
                }
                Attempt::Done(answer)
            }
            Some((Err(error), _)) => {
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

    fn lose(&mut self, mutations: usize, reason: String) {
        warn_limited!("connection to PostgreSQL lost while {mutations} mutations were in it: {reason}");
        self.health.lost(reason);
        self.writer = None;
    }

    /// Answers a committed run, and notes it for what follows the logs.
    fn publish(&self, kind: RunKind, run: Vec<Box<Mutation>>, verdicts: Vec<Verdict>) {
        self.note_new_entries(kind, &run);
        observe::of_run(&self.mesh.activity, &run, &verdicts);
        for (mutation, verdict) in run.into_iter().zip(verdicts) {
            self.answer(mutation, verdict);
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

fn refusal_of(cause: Cause) -> Refusal {
    match cause {
        Cause::Content => Refusal::bad_request("The content of this change cannot be stored."),
        Cause::AuditBusy => Refusal::audit_trail_busy(),
        Cause::ConnectionEnded | Cause::Race | Cause::Unclear | Cause::Store => Refusal::storage_unavailable(),
    }
}
