//! What the committers of one queue share: what waits, what is known of its conversations, and what a row costs.
//!
//! The committers are tasks of one thread, so nobody ever waits for the lock. No guard is held while a task waits.

use super::batcher::{Batcher, BegunRun, NextRun, RunClaim, RunKind};
use super::known::KnownSenders;
use super::row_cost::RowCost;
use crate::ids::UserId;
use crate::latency::{CommitQueue, StorageLatencies};
use crate::mesh::frame::Mutation;
use crate::mesh::overload::{Overload, WaitWindow, Work};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// The state of one queue.
pub(super) struct CommitBacklog {
    queue: CommitQueue,
    state: Mutex<BacklogState>,
    /// One for each of its committers.
    bells: Vec<Notify>,
    latencies: Arc<StorageLatencies>,
    overload: Arc<Overload>,
}

struct BacklogState {
    batcher: Batcher,
    known: KnownSenders,
    /// In the order of [`RunKind`].
    costs: [RowCost; 2],
    /// How long mutations have waited.
    waits: WaitWindow,
    is_closed: bool,
}

impl CommitBacklog {
    /// An empty queue of so many committers. What waits is shown to `latencies` and `overload`, which only one thread
    /// may write.
    pub fn new(
        queue: CommitQueue,
        committers: usize,
        latencies: Arc<StorageLatencies>,
        overload: Arc<Overload>,
    ) -> Self {
        let bells = (0..committers).map(|_| Notify::new()).collect();
        let state = BacklogState {
            batcher: Batcher::default(),
            known: KnownSenders::default(),
            costs: Default::default(),
            waits: WaitWindow::new(Instant::now()),
            is_closed: false,
        };
        Self { queue, state: Mutex::new(state), bells, latencies, overload }
    }

    fn state(&self) -> MutexGuard<'_, BacklogState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends. The caller wakes the committers when it has appended everything.
    pub fn push(&self, mutation: Box<Mutation>) {
        self.state().batcher.push(mutation);
    }

    /// Wakes the committers: something waits, or nothing more will come.
    pub fn wake(&self) {
        self.show();
        for bell in &self.bells {
            bell.notify_one();
        }
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.state().is_closed = true;
        self.wake();
    }

    /// Whether nothing waits and nothing will come.
    pub fn is_done(&self) -> bool {
        let state = self.state();
        state.is_closed && state.batcher.is_empty()
    }

    /// Returns when committer `number` of this queue should look again.
    pub async fn rung(&self, number: usize) {
        self.bells[number].notified().await;
    }

    /// Whether something waits.
    pub fn is_waiting(&self) -> bool {
        !self.state().batcher.is_empty()
    }

    /// What its committer does now.
    pub fn next(&self) -> NextRun {
        let next = self.state().batcher.next(Instant::now());
        if let NextRun::Run(run) = &next {
            self.latencies.reasons.add(run.reason);
            self.show();
        }
        next
    }

    /// A run has ended.
    pub fn ended(&self, claim: &RunClaim) {
        self.state().batcher.ended(claim);
        self.wake();
    }

    /// Removes what has waited past its deadline.
    pub fn expired(&self) -> Vec<Box<Mutation>> {
        let late = self.state().batcher.expired(Instant::now());
        self.show();
        late
    }

    /// Mutations of these users leave the queue, each after it has waited for so long.
    pub fn observe(&self, left: impl Iterator<Item = (UserId, Duration)>, now: Instant) {
        let window = &mut self.state().waits;
        for (user, waited) in left {
            if let Some(percent) = window.observe(user, waited, now) {
                self.overload.set(Work::Commits(self.queue), percent);
            }
        }
    }

    /// A committer has nothing to do.
    pub fn idle(&self, now: Instant) {
        if let Some(percent) = self.state().waits.idle(now) {
            self.overload.set(Work::Commits(self.queue), percent);
        }
    }

    /// What a statement with so many rows has taken.
    pub fn took(&self, kind: RunKind, rows: usize, took: Duration) {
        self.state().costs[kind as usize].record(rows, took);
    }

    /// Reads or changes what is known of the conversations.
    pub fn with_known<T>(&self, change: impl FnOnce(&mut KnownSenders) -> T) -> T {
        change(&mut self.state().known)
    }

    /// Shows the length and the age of what waits, and how long a mutation would wait that comes now.
    fn show(&self) {
        let state = self.state();
        let [messages, others] = [RunKind::Messages, RunKind::Others].map(|kind| state.batcher.waiting(kind));
        let oldest = state.batcher.oldest().map_or(Duration::ZERO, |since| since.elapsed());
        self.latencies.queues.commits[self.queue as usize].set(messages + others, oldest);
        // What should be left of a run. One that takes longer waits for something, and nobody knows for how long.
        let left = |run: &BegunRun| state.costs[run.kind as usize].of(run.len).saturating_sub(run.began.elapsed());
        let running: Duration = state.batcher.runs().iter().map(left).sum();
        let work = state.costs[0].of(messages) + state.costs[1].of(others) + running;
        self.overload.set_commit_wait(self.queue, work / state.batcher.runs().len().max(1) as u32);
    }
}
