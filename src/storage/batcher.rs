//! Which mutations go into the next statement. Pure.
//!
//! Natural batching: while a statement commits, the next mutations gather; when nothing commits, one goes at once. The
//! committers of one queue take their runs from one batcher. A run has one kind of mutations, since one statement does
//! all of it: messages, or all others.
//!
//! ```text
//!   inlet ──push──► waiting ──────next──────► run of a committer ────────┬──ended──► its conversations are free again
//!                      └──────(if it pays)──► run of a second committer ─┘
//! ```
//!
//! Invariants:
//! - a conversation is in one run at a time, and a run takes nothing of a conversation whose earlier mutation still
//!   waits. So the order in which each conversation's owner sent its mutations holds;
//! - a second run begins only if it pays: PostgreSQL needs 2.5 times as much for a row of a small batch, and two
//!   committers that share what waits halve each other's batches. It pays when enough waits for two large batches, and
//!   when something has waited for a while: the first run may wait for a lock or a slow disk.

use crate::ids::ConversationId;
use crate::latency::RunReason;
use crate::limits::BATCH_ROWS_MAX;
use crate::mesh::frame::{Change, Mutation};
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// Mutations that must wait for a second run to begin beside another one…
const SECOND_RUN_MIN: usize = 512;
/// … unless the oldest has waited for this long.
const SECOND_RUN_AFTER: Duration = Duration::from_millis(25);
/// Waiting mutations that one look examines: a run, and as many that have to wait for another one.
const EXAMINED_MAX: usize = 2 * BATCH_ROWS_MAX;
/// After a look in vain, the next one comes when a run has ended or after this time.
const EXAMINED_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// The mutations of one statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunKind {
    /// `commit_messages`.
    Messages,
    /// `apply_mutations`.
    Others,
}

/// The statement that a mutation needs.
#[must_use]
pub fn kind_of(mutation: &Mutation) -> RunKind {
    match mutation.change {
        Change::Message { .. } => RunKind::Messages,
        Change::Other { .. } => RunKind::Others,
    }
}

/// What a committer commits next.
#[derive(Debug)]
pub struct Run {
    /// Why it begins now.
    pub reason: RunReason,
    /// In the order of their arrival.
    pub mutations: Vec<Box<Mutation>>,
    /// What it keeps others from.
    pub claim: RunClaim,
}

/// What a run keeps others from, until it comes back to [`Batcher::ended`].
#[derive(Debug)]
pub struct RunClaim {
    /// The statement.
    pub kind: RunKind,
    number: u64,
    conversations: HashSet<ConversationId>,
}

/// A run that has not ended.
#[derive(Clone, Copy, Debug)]
pub struct BegunRun {
    number: u64,
    /// The statement.
    pub kind: RunKind,
    /// How many mutations it has.
    pub len: usize,
    /// When it began.
    pub began: Instant,
}

/// What a committer does next.
#[derive(Debug)]
pub enum NextRun {
    /// It commits this.
    Run(Run),
    /// It looks again at this time, or when more has come.
    At(Instant),
    /// It waits until something comes.
    Nothing,
}

/// What waits for the committers of one queue.
#[derive(Default, Debug)]
pub struct Batcher {
    waiting: VecDeque<Box<Mutation>>,
    waiting_messages: usize,
    /// The conversations of all runs.
    running: HashSet<ConversationId>,
    runs: Vec<BegunRun>,
    begun: u64,
    /// When everything that was examined had to wait for another run.
    in_vain: Option<Instant>,
    /// When the last run ended, something waited.
    gathered: bool,
}

impl Batcher {
    /// Appends.
    pub fn push(&mut self, mutation: Box<Mutation>) {
        self.waiting_messages += usize::from(kind_of(&mutation) == RunKind::Messages);
        self.waiting.push_back(mutation);
    }

    /// Takes the next run, if one should begin at `now`.
    pub fn next(&mut self, now: Instant) -> NextRun {
        let Some(oldest) = self.oldest() else { return NextRun::Nothing };
        if !self.runs.is_empty() {
            let second = oldest + SECOND_RUN_AFTER;
            if self.waiting.len() < SECOND_RUN_MIN && now < second {
                return NextRun::At(second);
            }
            if let Some(again) = self.in_vain.map(|at| at + EXAMINED_AGAIN_AFTER)
                && now < again
            {
                return NextRun::At(again);
            }
        }
        // What waits may belong to conversations of another run, whose end will ring.
        let run = self.run(now);
        self.in_vain = run.is_none().then_some(now);
        run.map_or(NextRun::Nothing, NextRun::Run)
    }

    fn run(&mut self, now: Instant) -> Option<Run> {
        let mut kind = None;
        let (mut mutations, mut conversations) = (Vec::new(), HashSet::new());
        let (mut passed, mut held) = (Vec::new(), HashSet::new());
        let examined = self.waiting.len().min(EXAMINED_MAX);
        for mutation in self.waiting.drain(..examined) {
            let must_wait = mutation
                .conversation
                .is_some_and(|conversation| self.running.contains(&conversation) || held.contains(&conversation));
            if !must_wait
                && mutations.len() < BATCH_ROWS_MAX
                && *kind.get_or_insert(kind_of(&mutation)) == kind_of(&mutation)
            {
                conversations.extend(mutation.conversation);
                mutations.push(mutation);
            } else {
                held.extend(mutation.conversation);
                passed.push(mutation);
            }
        }
        for mutation in passed.into_iter().rev() {
            self.waiting.push_front(mutation);
        }
        let kind = kind?;
        if kind == RunKind::Messages {
            self.waiting_messages -= mutations.len();
        }
        let reason = match () {
            () if mutations.len() == BATCH_ROWS_MAX => RunReason::Full,
            () if !self.runs.is_empty() => RunReason::Second,
            () if self.gathered => RunReason::Gathered,
            () => RunReason::Idle,
        };
        self.running.extend(&conversations);
        self.begun += 1;
        self.runs.push(BegunRun { number: self.begun, kind, len: mutations.len(), began: now });
        Some(Run { reason, claim: RunClaim { kind, number: self.begun, conversations }, mutations })
    }

    /// A run has ended.
    pub fn ended(&mut self, claim: &RunClaim) {
        self.running.retain(|conversation| !claim.conversations.contains(conversation));
        self.runs.retain(|run| run.number != claim.number);
        self.in_vain = None;
        self.gathered = !self.waiting.is_empty();
    }

    /// Removes what has waited past its deadline.
    pub fn expired(&mut self, now: Instant) -> Vec<Box<Mutation>> {
        let (late, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|mutation| mutation.deadline <= now);
        self.waiting = waiting.into();
        self.waiting_messages -= late.iter().filter(|mutation| kind_of(mutation) == RunKind::Messages).count();
        late
    }

    /// The number of waiting mutations of a kind.
    #[must_use]
    pub fn waiting(&self, kind: RunKind) -> usize {
        match kind {
            RunKind::Messages => self.waiting_messages,
            RunKind::Others => self.waiting.len() - self.waiting_messages,
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Since when the oldest waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Instant> {
        self.waiting.front().map(|mutation| mutation.handed_over_at)
    }

    /// The runs that have not ended.
    #[must_use]
    pub fn runs(&self) -> &[BegunRun] {
        &self.runs
    }
}

#[cfg(test)]
#[path = "batcher_tests.rs"]
pub(super) mod tests;
