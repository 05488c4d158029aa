//! Notices which webhooks have something to send, and makes their jobs due.
//!
//! The committers note conversations with new events ([`LogWatch`]). A sweep finds what they could not note (the queue
//! was full, the process ended), and the webhooks that other servers have created. It looks at some webhooks at a time
//! and rests in between, so that it takes a small part of the time, however many webhooks there are.

use super::deliver::Hooks;
use crate::error::Refusal;
use crate::faults::warn_limited;
use crate::mesh::log_watch::LogWatch;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Time between two looks at the notes, while there are webhooks: an event waits half as long on average.
const LOOK: Duration = Duration::from_millis(100);
/// Conversations that one statement looks for.
const WOKEN_MAX: usize = 2_000;
/// Time between the beginnings of two sweeps.
const SWEEP: Duration = Duration::from_secs(5);
/// Webhooks that one step of a sweep looks at. Each can follow thousands of conversations.
const SWEEP_STEP: i64 = 10;
/// After each step, the sweep rests for so many times as long as the step took.
const SWEEP_REST: u32 = 10;
/// Sweeps between two removals of old deliveries.
const SWEEPS_PER_REMOVAL: u32 = 60;

/// A sweep under way, or the pause between two.
struct Sweep {
    /// The last webhook that was looked at.
    after: i64,
    /// When the next step is due.
    next_at: Instant,
    /// When this sweep began.
    began: Instant,
    count: u32,
}

/// Wakes webhooks for as long as the server runs.
pub async fn run(hooks: Hooks, watch: Arc<LogWatch>) {
    let now = Instant::now();
    let mut sweep = Sweep { after: 0, next_at: now, began: now, count: 0 };
    let mut has_webhooks = false;
    loop {
        if Instant::now() >= sweep.next_at {
            match sweep.step(&hooks).await {
                Ok(found) => has_webhooks = found,
                Err(refusal) => {
                    warn_limited!(%refusal, "webhooks could not be looked at; it is tried again");
                    sweep.next_at = Instant::now() + SWEEP;
                }
            }
            watch.set_on(has_webhooks);
            hooks.work_arrived();
        }
        let noted: Vec<i64> = watch.take().into_iter().collect();
        for conversations in noted.chunks(WOKEN_MAX) {
            match hooks.store().wake(conversations).await {
                Ok(()) => hooks.work_arrived(),
                // The sweep finds them again.
                Err(refusal) => warn_limited!(%refusal, "webhooks could not be woken; it is tried again"),
            }
        }
        let pause = sweep.next_at.saturating_duration_since(Instant::now());
        let pause = if has_webhooks { pause.min(LOOK) } else { pause };
        if tokio::time::timeout(pause, hooks.changed()).await.is_ok() {
            has_webhooks = true;
            watch.set_on(true);
        }
    }
}

impl Sweep {
    /// Looks at the next webhooks. Returns whether there are any.
    async fn step(&mut self, hooks: &Hooks) -> Result<bool, Refusal> {
        let started = Instant::now();
        if self.after == 0 {
            self.began = started;
        }
        let last = hooks.store().wake_behind(self.after, SWEEP_STEP).await?;
        let ended = Instant::now();
        let rested = ended + (ended - started) * SWEEP_REST;
        self.after = last.unwrap_or(0);
        self.next_at = if last.is_some() { rested } else { rested.max(self.began + SWEEP) };
        if last.is_none() {
            let (pending, oldest_s) = hooks.store().backlog().await?;
            hooks.counts().pending.store(pending as u64, Relaxed);
            hooks.counts().oldest_s.store(oldest_s.max(0.0) as u64, Relaxed);
            if self.count.is_multiple_of(SWEEPS_PER_REMOVAL) {
                hooks.store().sweep().await?;
            }
            self.count = self.count.wrapping_add(1);
        }
        hooks.store().any().await
    }
}
