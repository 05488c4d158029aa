//! Notices which webhooks have something to send, and makes their jobs due.
//!
//! The committers note conversations with new events ([`LogWatch`]). A sweep finds what they could not note (the queue was
//! full, the process ended), and the webhooks that other servers have created. Sweeps take a twentieth of the time at
//! most, however many webhooks there are.

use super::deliver::Hooks;
use crate::error::Refusal;
use crate::faults::warn_limited;
use crate::mesh::log_watch::LogWatch;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Time between two looks at the notes, while there are webhooks: an event waits half as long on average.
const LOOK: Duration = Duration::from_millis(100);
/// Time between two sweeps, and between a change of a webhook and the sweep that it causes.
const SWEEP: Duration = Duration::from_secs(5);
const SWEEP_AFTER_CHANGE: Duration = Duration::from_millis(500);
/// A sweep that takes long is followed by a pause that is so many times as long.
const SWEEP_REST: u32 = 20;
/// Sweeps between two removals of old deliveries.
const SWEEPS_PER_REMOVAL: u32 = 60;

/// Wakes webhooks for as long as the server runs.
pub async fn run(hooks: Hooks, watch: Arc<LogWatch>) {
    let mut followed: HashSet<i64> = HashSet::new();
    let (mut sweep_at, mut sweeps) = (Instant::now(), 0_u32);
    let mut rested_at = sweep_at;
    loop {
        let began = Instant::now();
        if began >= sweep_at {
            match sweep(&hooks, sweeps.is_multiple_of(SWEEPS_PER_REMOVAL)).await {
                Ok(found) => followed = found,
                Err(refusal) => warn_limited!(%refusal, "webhooks could not be looked at; it is tried again"),
            }
            sweeps = sweeps.wrapping_add(1);
            let now = Instant::now();
            rested_at = now + (now - began) * SWEEP_REST;
            sweep_at = rested_at.max(now + SWEEP);
            watch.set_on(!followed.is_empty());
            hooks.work_arrived();
        }
        let mut noted = HashSet::new();
        if watch.take(&mut noted) {
            sweep_at = sweep_at.min(rested_at.max(Instant::now() + SWEEP_AFTER_CHANGE));
        }
        let of_webhooks: Vec<i64> = noted.into_iter().filter(|conversation| followed.contains(conversation)).collect();
        if !of_webhooks.is_empty() {
            match hooks.store().wake(&of_webhooks).await {
                Ok(()) => hooks.work_arrived(),
                // The sweep finds them again.
                Err(refusal) => warn_limited!(%refusal, "webhooks could not be woken; it is tried again"),
            }
        }
        let pause = if followed.is_empty() { SWEEP } else { LOOK };
        let pause = pause.min(sweep_at.saturating_duration_since(Instant::now()).max(LOOK / 10));
        if tokio::time::timeout(pause, hooks.changed()).await.is_ok() {
            sweep_at = sweep_at.min(rested_at.max(Instant::now() + SWEEP_AFTER_CHANGE));
        }
    }
}

/// Wakes webhooks that are behind. Returns the conversations that webhooks follow.
async fn sweep(hooks: &Hooks, removes: bool) -> Result<HashSet<i64>, Refusal> {
    let followed = hooks.store().wake_behind().await?;
    let (pending, oldest_s) = hooks.store().backlog().await?;
    hooks.counts().pending.store(pending as u64, Relaxed);
    hooks.counts().oldest_s.store(oldest_s.max(0.0) as u64, Relaxed);
    if removes {
        hooks.store().sweep().await?;
    }
    Ok(followed.into_iter().collect())
}
