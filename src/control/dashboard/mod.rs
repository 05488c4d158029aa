//! `GET /dashboard`: shows in a browser what the server does right now.
//!
//! The page is compiled in and holds no secrets. Its data comes from `GET /dashboard/events`, a stream of server-sent
//! events: `hello` once with the last five minutes, then `second` once a second. The page reads the stream with
//! `fetch`, because `EventSource` cannot send an `Authorization` header.
//!
//! Invariants:
//! - an event is encoded once for all watchers, and not at all without watchers. Samples are always recorded, so that a
//!   page opened after an incident shows it;
//! - a watcher that does not read skips seconds ([`BACKLOG_SECONDS`]), and the write timeout of the HTTP server closes
//!   it. At most [`WATCHERS_MAX`] watch. None of this costs a shard anything: the counters are only read;
//! - outside development only operators watch ([`super::operators`]), administrators until their token or session ends.
//!   Both are checked every [`RECHECK`]. While PostgreSQL is unavailable, watchers stay, because that is when they need
//!   the dashboard.
//!
//! Deliberately absent: anything that changes the server. A page that only reads needs no protection from forged
//! requests.

pub(super) mod routes;
mod sampler;

use super::observed::Observed;
use super::ports::{Check, HealthPort};
use crate::error::ErrorCode;
use crate::latency::LatencyStage;
use crate::mesh::counters::CloseGroup;
use bytes::Bytes;
use sampler::{Sample, Sampler};
use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Semaphore;
use tokio::sync::broadcast;
use tokio::time::MissedTickBehavior;

/// Most pages that watch at the same time.
pub const WATCHERS_MAX: usize = 32;
/// Most seconds that wait for a watcher; a slower watcher misses the oldest.
const BACKLOG_SECONDS: usize = 4;

/// The state of the dashboard; cloning shares it.
#[derive(Clone)]
pub struct Dashboard {
    inner: Arc<DashboardInner>,
}

struct DashboardInner {
    sampler: Mutex<Sampler>,
    health: Arc<dyn HealthPort>,
    started_at_ms: u64,
    events: broadcast::Sender<Bytes>,
    places: Arc<Semaphore>,
}

impl std::fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dashboard").field("watchers", &self.inner.events.receiver_count()).finish_non_exhaustive()
    }
}

/// The first event of a stream.
#[derive(Serialize)]
struct Hello<'a> {
    version: &'static str,
    started_at: u64,
    seconds: usize,
    windows: [usize; sampler::WINDOWS.len()],
    stages: [&'static str; LatencyStage::ALL.len()],
    percentiles: [u32; sampler::PERCENTILES.len()],
    shard_columns: [&'static str; sampler::SHARD_COLUMNS.len()],
    heat_stages: [&'static str; sampler::HEAT_STAGES.len()],
    row_bounds_ns: Vec<u64>,
    error_codes: Vec<&'static str>,
    close_reasons: [&'static str; CloseGroup::ALL.len()],
    history: &'a VecDeque<Sample>,
    now: Now<'a>,
}

/// The event of one second.
#[derive(Serialize)]
struct Now<'a> {
    /// Absent in [`Hello`], whose history ends with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<&'a Sample>,
    uptime_ms: u64,
    /// Per window and stage: count, percentiles, largest.
    summaries: Vec<Vec<Vec<u64>>>,
    /// Milliseconds since the last turn of each shard.
    silences_ms: Vec<u64>,
    health: Vec<HealthItem>,
    errors: &'a [u64],
    closed: &'a [u64],
}

#[derive(Serialize)]
struct HealthItem {
    name: &'static str,
    ok: bool,
    reason: Option<String>,
}

impl From<Check> for HealthItem {
    fn from(Check { name, ok, reason }: Check) -> Self {
        Self { name, ok, reason }
    }
}

fn event(name: &str, data: &impl Serialize) -> Bytes {
    // PROOF: numbers, texts and lists of them always serialise. JSON has no line breaks, which would end the event.
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\ndata: {data}\n\n").into()
}

fn now_ms() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

impl Dashboard {
    /// A dashboard of what is `observed`. [`Self::run`] records its samples.
    #[must_use]
    pub fn new(observed: Observed, health: Arc<dyn HealthPort>) -> Self {
        let started_at_ms = now_ms().saturating_sub(observed.started.elapsed().as_millis() as u64);
        let inner = DashboardInner {
            sampler: Mutex::new(Sampler::new(observed)),
            health,
            started_at_ms,
            events: broadcast::Sender::new(BACKLOG_SECONDS),
            places: Arc::new(Semaphore::new(WATCHERS_MAX)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Records a sample every second until the runtime ends.
    pub async fn run(self) {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
        seconds.tick().await; // the first is at once
        let mut last = Instant::now();
        loop {
            seconds.tick().await;
            self.end_second(last.elapsed());
            last = Instant::now();
        }
    }

    fn end_second(&self, took: Duration) {
        let mut sampler = self.sampler();
        sampler.sample(now_ms(), took.as_millis() as u64);
        if self.inner.events.receiver_count() > 0 {
            let now = Now { sample: sampler.samples().back(), ..self.now(&sampler) };
            let _ = self.inner.events.send(event("second", &now)); // the last watcher has just left
        }
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.inner.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now<'a>(&self, sampler: &'a Sampler) -> Now<'a> {
        let observed = sampler.observed();
        Now {
            sample: None,
            uptime_ms: observed.started.elapsed().as_millis() as u64,
            summaries: sampler.summaries(),
            silences_ms: observed.silences().map(|silence| silence.as_millis() as u64).collect(),
            health: self.inner.health.checks().into_iter().map(HealthItem::from).collect(),
            errors: sampler.errors(),
            closed: sampler.closed(),
        }
    }

    /// The first event of a stream, and the receiver of all later ones.
    fn watch(&self) -> (Bytes, broadcast::Receiver<Bytes>) {
        let sampler = self.sampler();
        let hello = Hello {
            version: env!("CARGO_PKG_VERSION"),
            started_at: self.inner.started_at_ms,
            seconds: sampler::SECONDS,
            windows: sampler::WINDOWS,
            stages: LatencyStage::ALL.map(LatencyStage::as_str),
            percentiles: sampler::PERCENTILES,
            shard_columns: sampler::SHARD_COLUMNS,
            heat_stages: sampler::HEAT_STAGES.map(LatencyStage::as_str),
            row_bounds_ns: sampler::row_bounds_ns(),
            error_codes: ErrorCode::ALL.iter().map(|code| code.as_str()).collect(),
            close_reasons: CloseGroup::ALL.map(CloseGroup::as_str),
            history: sampler.samples(),
            now: self.now(&sampler),
        };
        (event("hello", &hello), self.inner.events.subscribe())
    }
}

#[cfg(test)]
mod tests;
