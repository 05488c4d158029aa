//! Who writes to which upload.
//!
//! Invariants:
//! - one request at a time writes to an upload. A newer one ends the older one, whose client may be gone;
//! - a user has at most [`PER_USER_MAX`] requests that write or wait, and all users have [`TOTAL_MAX`];
//! - a place is freed when its request ends, however it ends. An upload without any has no entry.

use crate::control::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{FileId, UserId};
use crate::mesh::quota::{Quota, QuotaPlace, QuotaRefusal};
use axum::http::StatusCode;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, watch};

/// Requests of one user, and of everybody. Each can hold a megabyte.
const PER_USER_MAX: usize = 8;
const TOTAL_MAX: usize = 256;
/// How long a newer request waits until the older one has stopped.
const WAIT: Duration = Duration::from_secs(10);
/// What a refused client should wait.
const RETRY_MS: u64 = 1_000;
const OF_USER: QuotaRefusal = QuotaRefusal {
    limiter: "uploads_running",
    scope: "user",
    detail: "Too many of your uploads are running. Wait for one of them.",
    retry_ms: RETRY_MS,
};

/// The requests that write; cloning shares them.
#[derive(Clone)]
pub(super) struct WriteTurns {
    users: Quota<UserId>,
    all: Arc<Semaphore>,
    uploads: Arc<Mutex<HashMap<FileId, UploadQueue>>>,
}

impl Default for WriteTurns {
    fn default() -> Self {
        Self { users: Quota::new(PER_USER_MAX), all: Arc::new(Semaphore::new(TOTAL_MAX)), uploads: Arc::default() }
    }
}

/// The requests for one upload.
#[derive(Clone)]
struct UploadQueue {
    right: Arc<tokio::sync::Mutex<()>>,
    /// The number of the newest request.
    newest: watch::Sender<u64>,
    requests: usize,
}

/// A place among the requests that write.
struct WritePlace {
    turns: WriteTurns,
    file: FileId,
    _user: QuotaPlace<UserId>,
    _all: OwnedSemaphorePermit,
}

/// The right to write to an upload.
pub(super) struct WriteTurn {
    _right: OwnedMutexGuard<()>,
    newest: watch::Receiver<u64>,
    number: u64,
    _place: WritePlace,
}

impl WriteTurns {
    fn uploads(&self) -> MutexGuard<'_, HashMap<FileId, UploadQueue>> {
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to write to an upload. An older request that has it is stopped. The caller has checked that the upload
    /// is the user's.
    ///
    /// # Errors
    /// `rate_limited`, `overloaded`; `conflict` if a newer request came, or the older one does not stop.
    pub(super) async fn acquire(&self, user: UserId, file: FileId) -> Result<WriteTurn, Problem> {
        let Ok(all) = Arc::clone(&self.all).try_acquire_owned() else {
            let limit = ("uploads_running", "server", TOTAL_MAX);
            return Err(Refusal::overloaded("uploads", limit).retry_after(RETRY_MS).into());
        };
        let of_user = self.users.admit_or(user, &OF_USER)?;
        let (place, right, number, mut newest) = {
            let mut uploads = self.uploads();
            let queue = uploads.entry(file).or_insert_with(|| UploadQueue {
                right: Arc::default(),
                newest: watch::Sender::new(0),
                requests: 0,
            });
            queue.requests += 1;
            queue.newest.send_modify(|newest| *newest += 1);
            let (number, newest) = (*queue.newest.borrow(), queue.newest.subscribe());
            let right = Arc::clone(&queue.right).lock_owned();
            (WritePlace { turns: self.clone(), file, _user: of_user, _all: all }, right, number, newest)
        };
        tokio::select! {
            biased;
            right = tokio::time::timeout(WAIT, right) => match right {
                Ok(right) => Ok(WriteTurn { _right: right, newest, number, _place: place }),
                Err(_) => {
                    let detail = "Another request writes to this upload. Wait for it, then ask for the offset.";
                    Err(Problem::new(StatusCode::LOCKED, ErrorCode::Conflict.as_str(), detail))
                }
            },
            () = later(&mut newest, number) => Err(taken_over()),
        }
    }
}

/// Waits until a request after this one wants to write.
async fn later(newest: &mut watch::Receiver<u64>, number: u64) {
    if newest.wait_for(|newest| *newest > number).await.is_err() {
        // The sender lives as long as the place of any request.
        std::future::pending::<()>().await;
    }
}

/// The error that the older request of two receives.
pub(super) fn taken_over() -> Problem {
    Refusal::new(ErrorCode::Conflict, "A newer request continues this upload. Ask for the offset.").into()
}

impl WriteTurn {
    /// Notified when a newer request wants to write.
    pub(super) fn newer(&self) -> impl Future<Output = ()> + use<> {
        let (mut newest, number) = (self.newest.clone(), self.number);
        async move { later(&mut newest, number).await }
    }
}

impl Drop for WritePlace {
    fn drop(&mut self) {
        let mut uploads = self.turns.uploads();
        if let Some(queue) = uploads.get_mut(&self.file) {
            queue.requests -= 1;
            if queue.requests == 0 {
                uploads.remove(&self.file);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: UserId = UserId(1);

    #[tokio::test]
    async fn the_newest_of_three_requests_writes() {
        let turns = WriteTurns::default();
        let first = turns.acquire(ANN, FileId(1)).await.ok().unwrap();
        let newer = first.newer();
        let second = tokio::spawn({
            let turns = turns.clone();
            async move { turns.acquire(ANN, FileId(1)).await.err().map(|problem| problem.code) }
        });
        newer.await;
        let third = tokio::spawn({
            let turns = turns.clone();
            async move { turns.acquire(ANN, FileId(1)).await.is_ok() }
        });
        assert_eq!(second.await.unwrap(), Some("conflict"));
        drop(first);
        assert!(third.await.unwrap());
        assert!(turns.uploads().is_empty() && turns.users.is_empty());
    }

    #[tokio::test]
    async fn a_user_has_few_requests_that_write() {
        let turns = WriteTurns::default();
        let mut held = Vec::new();
        for file in 0..PER_USER_MAX as i64 {
            held.push(turns.acquire(ANN, FileId(file)).await.ok().unwrap());
        }
        let refused = turns.acquire(ANN, FileId(99)).await.err().unwrap();
        assert_eq!((refused.status.as_u16(), refused.code), (429, "rate_limited"));
        assert!(turns.acquire(UserId(2), FileId(99)).await.is_ok(), "others are not affected");
        held.pop();
        assert!(turns.acquire(ANN, FileId(99)).await.is_ok());
        drop(held);
        assert_eq!(turns.all.available_permits(), TOTAL_MAX);
    }
}
