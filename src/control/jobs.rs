//! The one job runner: takes jobs from PostgreSQL, does them, and tries again those that fail.
//!
//! Invariants:
//! - a job is a row, so it outlives this process. It goes when it is done;
//! - a job has a lease that is renewed while it runs. When a process dies, others take its jobs [`LEASE_SECONDS`]
//!   later, and a server that is alone on its database as soon as it starts. A process that was only slow can still be
//!   working then. Every job can therefore be repeated;
//! - slow jobs do not delay quick ones: each [`JobLane`] has places of its own;
//! - a user's jobs take a part of the places of a lane only, so those of others never wait for all of them;
//! - a process that has lost the lease of a job stops working on it.

use crate::error::{ErrorCode, Refusal};
use crate::faults::warn_limited;
use crate::ids::UserId;
use crate::mesh::quota::{Quota, QuotaPlace};
use crate::storage::jobs::{Job, JobStore};
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Jobs that take about as long as each other.
#[derive(Clone, Copy, Debug)]
pub struct JobLane {
    /// The kinds.
    kinds: &'static [&'static str],
    /// How many run at the same time.
    pub at_once: usize,
    /// How many of these are of one user.
    of_user: usize,
    /// Whether it also sweeps.
    sweeps: bool,
}

/// How a job has ended.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum JobEnd {
    /// There is nothing left to do.
    Done,
    /// It runs again after this time, or when it is wanted again.
    RunAgainAfter(Duration),
}

/// Does the jobs of some kinds.
pub trait JobWorker: Clone + Send + Sync + 'static {
    /// Changes when there may be a job.
    fn work(&self) -> watch::Receiver<u64>;

    /// Does a job, which may have been done before.
    fn work_on(&self, job: &Job) -> impl Future<Output = Result<JobEnd, Refusal>> + Send;

    /// Does what time alone makes necessary, in a lane that sweeps.
    fn sweep(&self) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Checks of files, of which each reads all of a file and may wait for a virus scan.
pub const CHECKS: JobLane = JobLane { kinds: &["check_file"], at_once: 3, of_user: 2, sweeps: false };
/// Removals, which take a moment.
pub const REMOVALS: JobLane =
    JobLane { kinds: &["remove_upload", "release_content", "remove_blob"], at_once: 4, of_user: 3, sweeps: true };
/// Jobs of webhooks. Each holds its place while it waits for its receiver.
pub const HOOKS: JobLane = JobLane { kinds: &["send_webhooks"], at_once: 64, of_user: 8, sweeps: false };

/// Jobs for the rights of people over their data. Each takes a part of the work at a time.
pub const DATA_RIGHTS: JobLane =
    JobLane { kinds: &["erase_person", "export_person", "apply_retention"], at_once: 3, of_user: 1, sweeps: true };

/// Time between two looks, unless there is a sign of work.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long after its last sign of life a process has lost a job.
const LEASE_SECONDS: i64 = 20;
/// Time between two signs of life.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(5);
/// A job that takes longer has failed.
const JOB_TIME_MAX: Duration = Duration::from_mins(30);
/// Pauses between attempts, in seconds: doubling from the first to the last one.
const PAUSE_SECONDS: (f64, f64) = (1.0, 600.0);
/// Time between two sweeps.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// Does the jobs of one lane for as long as the server runs.
pub async fn run<W: JobWorker>(store: JobStore, worker: W, lane: JobLane) {
    let mut work = worker.work();
    let mut swept_at: Option<Instant> = None;
    let mut running = JoinSet::new();
    let places = UserPlaces::new(lane.of_user);
    loop {
        if lane.sweeps && swept_at.is_none_or(|at| at.elapsed() >= SWEEP_INTERVAL) {
            swept_at = Some(Instant::now());
            if let Err(refusal) = worker.sweep().await {
                warn_limited!(%refusal, "what is old could not be removed; it is tried again");
            }
        }
        work.mark_unchanged();
        while running.len() < lane.at_once {
            let Some(job) = claimed(&store, lane, &places.full()).await else { break };
            let place = job.owner.and_then(|owner| places.admit(owner));
            let (store, worker) = (store.clone(), worker.clone());
            running.spawn(async move {
                let _place = place;
                work_on(store, worker, job).await;
            });
        }
        let is_full = running.len() == lane.at_once;
        // When every place is taken, only the end of a job makes room.
        tokio::select! {
            _ = running.join_next(), if !running.is_empty() => {}
            _ = work.changed(), if !is_full => {}
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
    }
}

async fn claimed(store: &JobStore, lane: JobLane, passed_over: &[UserId]) -> Option<Job> {
    store.claim(lane.kinds, passed_over, LEASE_SECONDS).await.unwrap_or_else(|refusal| {
        warn_limited!(%refusal, "the jobs could not be read; it is tried again every second");
        None
    })
}

/// The places that the users' jobs of a lane take.
struct UserPlaces(Quota<UserId>);

impl UserPlaces {
    /// With so many for each user.
    fn new(of_user: usize) -> Self {
        Self(Quota::new(of_user))
    }

    /// A place for a job of this user; it is freed when it is dropped.
    fn admit(&self, owner: UserId) -> Option<QuotaPlace<UserId>> {
        self.0.admit(owner)
    }

    /// The users whose jobs get no other place now.
    fn full(&self) -> Vec<UserId> {
        self.0.full()
    }
}

async fn work_on<W: JobWorker>(store: JobStore, worker: W, job: Job) {
    let settled = match while_renewing(&store, &job, worker.work_on(&job)).await {
        Ok(JobEnd::Done) => store.finish(&job).await,
        Ok(JobEnd::RunAgainAfter(pause)) => store.go_on(&job, pause.as_secs_f64()).await,
        Err(refusal) => {
            let given = refusal.retry_after_ms.map_or(f64::MAX, |ms| ms as f64 / 1_000.0);
            let pause = pause_seconds(job.attempts).min(given);
            warn_limited!(kind = job.kind, subject = job.subject, %refusal, "a job failed; again in {pause} s");
            store.failed(&job, pause, &refusal.to_string()).await
        }
    };
    if settled.is_err() {
        warn_limited!(kind = job.kind, subject = job.subject, "the end of a job could not be recorded; it runs again");
    }
}

/// Runs `work`, and keeps the lease meanwhile.
async fn while_renewing(
    store: &JobStore,
    job: &Job,
    work: impl Future<Output = Result<JobEnd, Refusal>>,
) -> Result<JobEnd, Refusal> {
    let mut work = pin!(timeout(JOB_TIME_MAX, work));
    loop {
        match timeout(RENEWAL_INTERVAL, work.as_mut()).await {
            Ok(ended) => {
                let late = Refusal::new(ErrorCode::DeadlineExceeded, "The job took too long.");
                return ended.unwrap_or(Err(late));
            }
            Err(_) => match store.renew(job, LEASE_SECONDS).await {
                Ok(true) => {}
                Ok(false) => {
                    let lost = "The lease of the job has ended, and another server may have the job.";
                    return Err(Refusal::new(ErrorCode::Conflict, lost));
                }
                Err(refusal) => warn_limited!(%refusal, "the lease of a job could not be renewed"),
            },
        }
    }
}

/// The pause after so many attempts.
fn pause_seconds(attempts: i32) -> f64 {
    (PAUSE_SECONDS.0 * 2_f64.powi(attempts.clamp(1, 20) - 1)).min(PAUSE_SECONDS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next job as `claim_job` takes it: the first of the queue whose owner is not passed over.
    fn claimed_of(queue: &mut Vec<UserId>, places: &UserPlaces) -> Option<(UserId, QuotaPlace<UserId>)> {
        let full = places.full();
        let at = queue.iter().position(|owner| !full.contains(owner))?;
        let owner = queue.remove(at);
        Some((owner, places.admit(owner).unwrap()))
    }

    #[test]
    fn a_user_with_many_files_leaves_a_place_to_others() {
        let (ann, bob, carl) = (UserId(1), UserId(2), UserId(3));
        let places = UserPlaces::new(CHECKS.of_user);
        let mut queue = [vec![ann; 50], vec![bob, bob, carl]].concat();
        let mut running = Vec::new();
        while running.len() < CHECKS.at_once {
            running.push(claimed_of(&mut queue, &places).unwrap());
        }
        let owners =
            |running: &[(UserId, QuotaPlace<UserId>)]| running.iter().map(|(owner, _)| *owner).collect::<Vec<_>>();
        assert_eq!(owners(&running), [ann, ann, bob], "ann's files never end, and bob's begins");
        running.pop();
        running.push(claimed_of(&mut queue, &places).unwrap());
        running.pop();
        running.push(claimed_of(&mut queue, &places).unwrap());
        assert_eq!(owners(&running), [ann, ann, carl]);
        running.pop();
        assert!(claimed_of(&mut queue, &places).is_none(), "the last place waits for others");
        running.pop();
        running.push(claimed_of(&mut queue, &places).unwrap());
        assert_eq!(owners(&running), [ann, ann], "a place that ends can be taken again");
        for lane in [CHECKS, REMOVALS, HOOKS, DATA_RIGHTS] {
            assert!(lane.of_user < lane.at_once, "{lane:?}");
        }
    }

    #[test]
    fn pauses_double_and_are_bounded() {
        let pauses: Vec<f64> = [1, 2, 3, 10, 11, 99, i32::MAX, 0, -5].map(pause_seconds).into();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 512.0, 600.0, 600.0, 600.0, 1.0, 1.0]);
    }
}
