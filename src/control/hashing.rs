//! Runs Argon2 outside of the event loop, a bounded number at a time.
//!
//! Invariants:
//! - at most `workers` hashes run at once, each on a thread of the blocking pool. More would take cores from the
//!   shards, and each costs 19 MiB;
//! - at most `waiting_max` requests wait; the next one is refused with `overloaded` at once. Without the bound, a
//!   reconnect storm would queue sign-ins for minutes, and their clients would have given up by then;
//! - a hash keeps its slot until it ends, even if the client has disconnected: a thread cannot be cancelled.

use super::problem::Problem;
use crate::auth::password;
use crate::error::Refusal;
use crate::faults::error_limited;
use crate::latency::QueueGauge;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// Most requests that wait for a worker.
pub const WAITING_MAX: usize = 256;

/// The bounded pool; cloning shares it.
#[derive(Clone, Debug)]
pub struct Hashing {
    admitted: Arc<Semaphore>,
    workers: Arc<Semaphore>,
    waiting: Arc<HashQueue>,
}

/// The requests that wait for a worker, for the metrics: at most as many as are admitted.
#[derive(Debug)]
struct HashQueue {
    since: Mutex<VecDeque<Instant>>,
    gauge: Arc<QueueGauge>,
}

impl HashQueue {
    /// Adds or removes an entry, and shows what waits then.
    fn change(&self, change: impl FnOnce(&mut VecDeque<Instant>)) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut since);
        self.gauge.set(since.len(), since.front().map(Instant::elapsed).unwrap_or_default());
    }

    /// A place in the queue until the value is dropped, also when the request is cancelled.
    fn wait(&self) -> HashPlace<'_> {
        let since = Instant::now();
        self.change(|queue| queue.push_back(since));
        HashPlace { queue: self, since }
    }
}

struct HashPlace<'a> {
    queue: &'a HashQueue,
    since: Instant,
}

impl Drop for HashPlace<'_> {
    fn drop(&mut self) {
        self.queue.change(|queue| {
            if let Some(at) = queue.iter().position(|since| *since == self.since) {
                queue.remove(at);
            }
        });
    }
}

impl Hashing {
    /// `workers` (at least one) hashes at once and `waiting_max` requests that wait, which `gauge` shows.
    #[must_use]
    pub fn new(workers: usize, waiting_max: usize, gauge: Arc<QueueGauge>) -> Self {
        let workers = workers.max(1);
        Self {
            admitted: Arc::new(Semaphore::new(workers + waiting_max)),
            workers: Arc::new(Semaphore::new(workers)),
            waiting: Arc::new(HashQueue { since: Mutex::default(), gauge }),
        }
    }

    /// [`password::hash`] on a worker.
    ///
    /// # Errors
    /// `overloaded`, or `internal` when Argon2 fails.
    pub async fn hash(&self, password: String) -> Result<String, Problem> {
        self.run(move || password::hash(&password)).await
    }

    /// [`password::verify`] on a worker.
    ///
    /// # Errors
    /// `overloaded`, or `internal` when Argon2 fails.
    pub async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, Problem> {
        self.run(move || password::verify(&password, stored.as_deref())).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, password::HashFailure> + Send + 'static,
    ) -> Result<T, Problem> {
        let Ok(_admitted) = Arc::clone(&self.admitted).try_acquire_owned() else {
            return Err(Refusal::overloaded("sign-in").retry_after(2_000).into());
        };
        let free = Arc::clone(&self.workers).try_acquire_owned();
        let worker = match free {
            Ok(worker) => worker,
            Err(_) => {
                let _place = self.waiting.wait();
                Arc::clone(&self.workers).acquire_owned().await.map_err(|_| Problem::internal())?
            }
        };
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(worker);
            result
        });
        match done.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                error_limited!(%error, "cannot hash a password");
                Err(Problem::internal())
            }
            Err(error) => {
                error_limited!(%error, "a hashing thread panicked");
                Err(Problem::internal())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    #[tokio::test]
    async fn runs_one_queues_one_and_refuses_the_third() {
        let gauge: Arc<QueueGauge> = Arc::default();
        let hashing = Hashing::new(1, 1, Arc::clone(&gauge));
        let running = Arc::new(AtomicUsize::new(0));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            let (hashing, running) = (hashing.clone(), Arc::clone(&running));
            tokio::spawn(async move {
                hashing
                    .run(move || {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "never two at once");
                        work();
                        running.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    })
                    .await
            })
        };
        let first = spawn(Box::new(move || {
            let _ = held.recv_timeout(Duration::from_secs(5));
        }));
        let second = spawn(Box::new(|| ()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let refused = hashing.run(|| Ok(())).await.unwrap_err();
        assert_eq!(gauge.length(), 1, "the second waits");
        assert_eq!((refused.code, refused.retry_after_ms), ("overloaded", Some(2_000)));
        release.send(()).unwrap();
        assert!(first.await.unwrap().is_ok());
        assert!(second.await.unwrap().is_ok());
        assert!(hashing.run(|| Ok(())).await.is_ok());
        assert_eq!(gauge.length(), 0);
    }
}
