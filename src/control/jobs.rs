//! The one job runner: takes jobs from PostgreSQL, does them, and tries again those that fail.
//!
//! Invariants:
//! - a job is a row, so it outlives this process. It goes when it is done;
//! - a job that takes longer than its lease can be begun a second time. Every job can therefore be repeated;
//! - at most [`AT_ONCE`] run at the same time.

use super::files::Files;
use crate::error::Refusal;
use crate::faults::warn_limited;
use crate::storage::files::{FileStore, Job};
use futures_util::StreamExt;
use futures_util::stream;
use std::time::{Duration, Instant};

/// Jobs that run at the same time.
const AT_ONCE: usize = 4;
/// Time between two looks, unless there is a sign of work.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a job may take before somebody else takes it.
const LEASE_SECONDS: i64 = 300;
/// Pauses between attempts, in seconds: doubling from the first to the last one.
const PAUSE_SECONDS: (f64, f64) = (1.0, 600.0);
/// Time between two looks for files that nobody needs.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(30);
/// Files that one of those looks removes.
const EXPIRE_MAX: i64 = 1_000;

/// Does jobs for as long as the server runs.
pub async fn run(store: FileStore, files: Files) {
    let mut expired_at: Option<Instant> = None;
    loop {
        if expired_at.is_none_or(|at| at.elapsed() >= EXPIRE_INTERVAL) {
            expired_at = Some(Instant::now());
            if store.expire(EXPIRE_MAX).await.is_err() {
                warn_limited!("expired uploads could not be removed; it is tried again");
            }
        }
        let Ok(jobs) = store.claim_jobs(AT_ONCE as i64, LEASE_SECONDS).await else {
            warn_limited!("the jobs could not be read; it is tried again every second");
            tokio::time::sleep(LOOK_INTERVAL).await;
            continue;
        };
        if jobs.is_empty() {
            let _ = tokio::time::timeout(LOOK_INTERVAL, files.work()).await;
            continue;
        }
        stream::iter(&jobs).for_each_concurrent(AT_ONCE, |job| work_on(&store, &files, job)).await;
    }
}

async fn work_on(store: &FileStore, files: &Files, job: &Job) {
    let settled = match files.work_on(job).await {
        Ok(()) => store.job_done(job).await,
        Err(refusal) => {
            let pause =
                pause_seconds(job.attempts).min(refusal.retry_after_ms.map_or(f64::MAX, |ms| ms as f64 / 1_000.0));
            warn_limited!(kind = job.kind, subject = job.subject, %refusal, "a job failed; again in {pause} s");
            store.job_failed(job, pause, &refusal.to_string()).await
        }
    };
    if let Err(Refusal { .. }) = settled {
        warn_limited!(kind = job.kind, subject = job.subject, "the end of a job could not be recorded; it runs again");
    }
}

/// The pause after so many attempts.
fn pause_seconds(attempts: i32) -> f64 {
    (PAUSE_SECONDS.0 * 2_f64.powi(attempts.clamp(1, 20) - 1)).min(PAUSE_SECONDS.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_and_are_bounded() {
        let pauses: Vec<f64> = [1, 2, 3, 10, 11, 99, i32::MAX, 0, -5].map(pause_seconds).into();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 512.0, 600.0, 600.0, 600.0, 1.0, 1.0]);
    }
}
