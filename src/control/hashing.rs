//! Runs Argon2 outside of the event loop, a bounded number at a time.
//!
//! Invariants:
//! - at most `workers` hashes run at once, each on a thread of the blocking pool. More would take cores from the
//!   shards, and each costs 19 MiB;
//! - what waits is bounded and served fairly between networks ([`HashQueue`]). Otherwise a flood of sign-ins from one
//!   network would shut everybody else out;
//! - a hash keeps its worker until it ends, even if the client has disconnected: a thread cannot be cancelled. A
//!   waiting request whose client has disconnected is skipped.

use super::problem::Problem;
use crate::address::ClientNetwork;
use crate::auth::hash_queue::{HashQueue, HashQueueFull};
use crate::auth::legacy_hash::{self, LegacyMatch};
use crate::auth::password;
use crate::error::Refusal;
use crate::faults::error_limited;
use crate::latency::QueueGauge;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Most requests that wait for a worker.
pub const WAITING_MAX: usize = 256;
/// The cost of bcrypt for which a check of an old hash takes at most [`EVEN_STEP`].
const EVEN_STEP_COST: u32 = 12;
/// What a wrong password takes, counted from its worker: a check of Argon2id takes 30 ms, and one of bcrypt at cost 12
/// takes 250 ms for each form of the password. Twice as much for each further step of the cost.
const EVEN_STEP: Duration = Duration::from_secs(1);
/// Longest such time, below the deadline of a request.
const EVEN_STEP_MAX: Duration = Duration::from_secs(8);

/// How long a client should wait before it tries again.
const RETRY_AFTER_MS: u64 = 2_000;

/// Who asks for a hash.
#[derive(Clone, Copy, Debug)]
pub struct HashClient {
    /// The network that the request comes from.
    pub network: ClientNetwork,
    /// Whether an account signed in from it lately.
    pub in_good_standing: bool,
}

/// The bounded pool; cloning shares it.
#[derive(Clone)]
pub struct Hashing {
    pool: Arc<HashPool>,
    /// Greatest cost of a bcrypt hash that is computed.
    bcrypt_cost: u32,
}

struct HashPool {
    state: Mutex<HashState>,
    gauge: Arc<QueueGauge>,
}

struct HashState {
    free: usize,
    waiting: HashQueue<HashWaiter>,
}

struct HashWaiter {
    since: Instant,
    worker: oneshot::Sender<HashWorker>,
}

/// A worker in use. Dropped, it goes to the next request that waits.
struct HashWorker(Arc<HashPool>);

impl Drop for HashWorker {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl HashPool {
    fn state(&self) -> MutexGuard<'_, HashState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what waits.
    fn show(&self, state: &HashState) {
        let oldest = state.waiting.iter().map(|waiter| waiter.since).min();
        self.gauge.set(state.waiting.len(), oldest.as_ref().map(Instant::elapsed).unwrap_or_default());
    }

    /// A worker, or the promise of one.
    fn acquire(
        self: &Arc<Self>,
        client: HashClient,
    ) -> Result<Result<HashWorker, oneshot::Receiver<HashWorker>>, HashQueueFull> {
        let mut state = self.state();
        if state.free > 0 {
            state.free -= 1;
            return Ok(Ok(HashWorker(Arc::clone(self))));
        }
        let (worker, promise) = oneshot::channel();
        state.waiting.push(client.network, client.in_good_standing, HashWaiter { since: Instant::now(), worker })?;
        self.show(&state);
        Ok(Err(promise))
    }

    fn release(self: &Arc<Self>) {
        let next = {
            let mut state = self.state();
            let next = std::iter::from_fn(|| state.waiting.pop()).find(|waiter| !waiter.worker.is_closed());
            if next.is_none() {
                state.free += 1;
            }
            self.show(&state);
            next
        };
        // Outside of the lock: if the client disconnects at this moment, the worker comes back and is dropped here.
        if let Some(waiter) = next {
            drop(waiter.worker.send(HashWorker(Arc::clone(self))));
        }
    }
}

impl Hashing {
    /// `workers` (at least one) hashes at once and `waiting_max` requests that wait, which `gauge` shows.
    #[must_use]
    pub fn new(workers: usize, waiting_max: usize, gauge: Arc<QueueGauge>) -> Self {
        let state = HashState { free: workers.max(1), waiting: HashQueue::new(waiting_max) };
        Self { pool: Arc::new(HashPool { state: Mutex::new(state), gauge }), bcrypt_cost: 0 }
    }

    /// The same, accepting bcrypt hashes up to this cost.
    #[must_use]
    pub fn accepting_bcrypt(self, bcrypt_cost: u32) -> Self {
        Self { bcrypt_cost, ..self }
    }

    /// [`password::hash`] on a worker.
    ///
    /// # Errors
    /// `rate_limited` or `overloaded` when too many wait, or `internal` when Argon2 fails.
    pub async fn hash(&self, client: HashClient, password: String) -> Result<String, Problem> {
        self.run(client, move || password::hash(&password)).await
    }

    /// [`password::verify`] on a worker, or the check of an older hash.
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub async fn verify(&self, client: HashClient, password: String, stored: Option<String>) -> Result<bool, Problem> {
        self.verify_timed(client, password, stored).await.map(|(opens, _)| opens)
    }

    /// The same, and when it got its worker, for [`Self::even_out`].
    ///
    /// # Errors
    /// As [`Self::hash`].
    pub async fn verify_timed(
        &self,
        client: HashClient,
        password: String,
        stored: Option<String>,
    ) -> Result<(bool, tokio::time::Instant), Problem> {
        let bcrypt_cost = self.bcrypt_cost;
        self.run(client, move || {
            let began = tokio::time::Instant::now();
            let opens = match stored.as_deref() {
                Some(stored) if legacy_hash::is_bcrypt(stored) => verify_legacy(&password, stored, bcrypt_cost),
                stored => password::verify(&password, stored),
            };
            opens.map(|opens| (opens, began))
        })
        .await
    }

    /// Waits until a check that `began` then has taken as long as one of any other kind.
    pub async fn even_out(&self, began: tokio::time::Instant) {
        tokio::time::sleep_until(began + evened(began.elapsed(), even_step(self.bcrypt_cost))).await;
    }

    async fn run<T: Send + 'static>(
        &self,
        client: HashClient,
        work: impl FnOnce() -> Result<T, password::HashFailure> + Send + 'static,
    ) -> Result<T, Problem> {
        let worker = match self.pool.acquire(client).map_err(refusal)? {
            Ok(worker) => worker,
            Err(promise) => promise.await.map_err(|_| Problem::internal())?,
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

/// The time for which checks of old hashes up to this cost have room.
fn even_step(bcrypt_cost: u32) -> Duration {
    let doubled = bcrypt_cost.saturating_sub(EVEN_STEP_COST).min(10);
    EVEN_STEP.saturating_mul(1 << doubled).min(EVEN_STEP_MAX)
}

/// The next whole number of steps.
fn evened(elapsed: Duration, step: Duration) -> Duration {
    let steps = elapsed.as_nanos() / step.as_nanos().max(1) + 1;
    step.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// Whether the password matches a hash of an older version. One that costs too much matches nothing.
fn verify_legacy(password: &str, stored: &str, cost_max: u32) -> Result<bool, password::HashFailure> {
    match legacy_hash::verify_bcrypt(password, stored, cost_max)? {
        LegacyMatch::Right => Ok(true),
        LegacyMatch::Wrong => Ok(false),
        LegacyMatch::TooCostly { cost } => {
            error_limited!(
                "a stored bcrypt hash has cost {cost}, above security.bcrypt_cost = {cost_max}: its user cannot sign \
                 in. If the hash is from your old data, raise security.bcrypt_cost to {cost}; otherwise somebody else \
                 wrote it into the table credentials"
            );
            password::verify(password, None) // the usual work
        }
    }
}

fn refusal(full: HashQueueFull) -> Problem {
    match full {
        HashQueueFull::Network(most) => {
            let detail = "Too many sign-ins from your network are waiting. Wait a moment, then try again.";
            Refusal::rate_limited(detail, "password_hashes", "address", most as u64, 0)
        }
        HashQueueFull::Everybody(most) => Refusal::overloaded("sign-in", ("password_hashes", "server", most)),
    }
    .retry_after(RETRY_AFTER_MS)
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::limit_details;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn checks_of_every_kind_end_at_the_same_time() {
        let step = even_step(12);
        for ms in [0, 30, 60, 250, 500, 999] {
            assert_eq!(evened(Duration::from_millis(ms), step), Duration::from_secs(1), "{ms} ms");
        }
        assert_eq!(evened(Duration::from_secs(1), step), Duration::from_secs(2), "a busy machine");
        assert_eq!([4, 12, 13, 14, 31].map(|cost| even_step(cost).as_secs()), [1, 1, 2, 4, 8]);
    }

    #[tokio::test]
    async fn runs_one_queues_one_and_refuses_the_third() {
        let gauge: Arc<QueueGauge> = Arc::default();
        let hashing = Hashing::new(1, 1, Arc::clone(&gauge));
        let client = |n: u8| HashClient { network: ClientNetwork::of([192, 0, 2, n].into()), in_good_standing: true };
        let running = Arc::new(AtomicUsize::new(0));
        let (release, held) = std::sync::mpsc::channel::<()>();
        let spawn = |n: u8, work: Box<dyn FnOnce() + Send>| {
            let (hashing, running) = (hashing.clone(), Arc::clone(&running));
            tokio::spawn(async move {
                hashing
                    .run(client(n), move || {
                        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "never two at once");
                        work();
                        running.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    })
                    .await
            })
        };
        let first = spawn(
            1,
            Box::new(move || {
                let _ = held.recv_timeout(Duration::from_secs(5));
            }),
        );
        let second = spawn(2, Box::new(|| ()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let refused = hashing.run(client(3), || Ok(())).await.unwrap_err();
        assert_eq!(gauge.length(), 1, "the second waits");
        assert_eq!((refused.code, refused.retry_after_ms), ("overloaded", Some(2_000)));
        assert_eq!(refused.details.as_deref(), Some(&limit_details("password_hashes", "server", 1, 0)));
        let of_network = refusal(HashQueueFull::Network(8));
        assert_eq!((of_network.code, of_network.retry_after_ms), ("rate_limited", Some(2_000)));
        assert_eq!(of_network.details.as_deref(), Some(&limit_details("password_hashes", "address", 8, 0)));
        release.send(()).unwrap();
        assert!(first.await.unwrap().is_ok());
        assert!(second.await.unwrap().is_ok());
        assert!(hashing.run(client(3), || Ok(())).await.is_ok());
        assert_eq!(gauge.length(), 0);
    }
}
