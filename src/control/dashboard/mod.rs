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
//! - outside development only administrators watch, until their token or session ends; both are checked every
//!   [`RECHECK`]. While PostgreSQL is unavailable, watchers stay, because that is when they need the dashboard.
//!
//! Deliberately absent: anything that changes the server. A page that only reads needs no protection from forged
//! requests.

mod sampler;

use super::extract::authenticate;
use super::health::{Check, HealthPort};
use super::http::Ending;
use super::observed::Observed;
use super::problem::Problem;
use super::{Control, now_seconds};
use crate::auth::token::AccessClaims;
use crate::error::{ErrorCode, Refusal};
use crate::ids::UserId;
use crate::latency::Stage;
use crate::mesh::counters::CloseGroup;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, routing::get};
use bytes::Bytes;
use sampler::{Sample, Sampler};
use serde::Serialize;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

/// Most pages that watch at the same time.
pub const WATCHERS_MAX: usize = 32;
/// Most seconds that wait for a watcher; a slower watcher misses the oldest.
const BACKLOG_SECONDS: usize = 4;
/// How often the permission of a watcher is checked again.
const RECHECK: Duration = Duration::from_secs(10);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// The users who may watch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everybody who can reach the port; for development.
    Everyone,
    /// These users, with an access token.
    Admins(Vec<UserId>),
}

/// The state of the dashboard; cloning shares it.
#[derive(Clone)]
pub struct Dashboard {
    inner: Arc<Inner>,
}

struct Inner {
    sampler: Mutex<Sampler>,
    health: Arc<dyn HealthPort>,
    access: Access,
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
    stages: [&'static str; Stage::ALL.len()],
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
    health: Vec<Item>,
    errors: &'a [u64],
    closed: &'a [u64],
}

#[derive(Serialize)]
struct Item {
    name: &'static str,
    ok: bool,
    reason: Option<String>,
}

impl From<Check> for Item {
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
    pub fn new(observed: Observed, health: Arc<dyn HealthPort>, access: Access) -> Self {
        let started_at_ms = now_ms().saturating_sub(observed.started.elapsed().as_millis() as u64);
        let inner = Inner {
            sampler: Mutex::new(Sampler::new(observed)),
            health,
            access,
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
            let _ = self.inner.events.send(event("second", &now)); // the last watcher has just gone
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
            health: self.inner.health.checks().into_iter().map(Item::from).collect(),
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
            stages: Stage::ALL.map(Stage::as_str),
            percentiles: sampler::PERCENTILES,
            shard_columns: sampler::SHARD_COLUMNS,
            heat_stages: sampler::HEAT_STAGES.map(Stage::as_str),
            row_bounds_ns: sampler::row_bounds_ns(),
            error_codes: ErrorCode::ALL.iter().map(|code| code.as_str()).collect(),
            close_reasons: CloseGroup::ALL.map(CloseGroup::as_str),
            history: sampler.samples(),
            now: self.now(&sampler),
        };
        (event("hello", &hello), self.inner.events.subscribe())
    }
}

/// The page, its parts and its events.
pub(super) fn router() -> Router<Control> {
    const JS: &str = "text/javascript; charset=utf-8";
    let asset = |kind, content| get(move || async move { ([(header::CONTENT_TYPE, kind)], content) });
    let page = ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], include_str!("assets/page.html"));
    Router::new()
        .route("/dashboard", get(move || async move { ([(header::CONTENT_SECURITY_POLICY, POLICY)], page) }))
        .route("/dashboard/page.css", asset("text/css; charset=utf-8", include_str!("assets/page.css")))
        .route("/dashboard/icon.svg", asset("image/svg+xml", include_str!("assets/icon.svg")))
        .route("/dashboard/page.js", asset(JS, include_str!("assets/page.js")))
        .route("/dashboard/stream.js", asset(JS, include_str!("assets/stream.js")))
        .route("/dashboard/format.js", asset(JS, include_str!("assets/format.js")))
        .route("/dashboard/series.js", asset(JS, include_str!("assets/series.js")))
        .route("/dashboard/curves.js", asset(JS, include_str!("assets/curves.js")))
        .route("/dashboard/heat.js", asset(JS, include_str!("assets/heat.js")))
        .route("/dashboard/events", get(events))
}

async fn events(
    State(control): State<Control>,
    ending: Option<Extension<Ending>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let dashboard = control.dashboard().clone();
    let claims = match &dashboard.inner.access {
        Access::Everyone => None,
        Access::Admins(admins) => {
            let claims = authenticate(&headers, &control).await?;
            if !admins.contains(&claims.user) {
                let detail = format!(
                    "The dashboard is for administrators. Add this account's id, {}, to security.admin_user_ids.",
                    claims.user.0
                );
                return Err(Refusal::new(ErrorCode::Forbidden, detail).into());
            }
            Some(claims)
        }
    };
    let Ok(place) = Arc::clone(&dashboard.inner.places).try_acquire_owned() else {
        let detail = format!("{WATCHERS_MAX} dashboards are open, which is the maximum. Close one and try again.");
        return Err(Refusal::new(ErrorCode::Overloaded, detail).retry_after(5_000).into());
    };
    let (hello, seconds) = dashboard.watch();
    let mut recheck = tokio::time::interval(RECHECK);
    recheck.reset();
    let ending = ending.map(|Extension(ending)| ending);
    recheck.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watcher =
        Watcher { control, claims, hello: Some(hello), seconds, ending, recheck, checking: None, _place: place };
    let body = Body::from_stream(futures_util::stream::unfold(watcher, Watcher::next));
    // Otherwise nginx would hold events back until its buffer is full.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    Ok(([(header::CONTENT_TYPE, "text/event-stream"), unbuffered], body).into_response())
}

/// One open stream.
struct Watcher {
    control: Control,
    /// The claims of an administrator; `None` where everybody may watch.
    claims: Option<AccessClaims>,
    hello: Option<Bytes>,
    seconds: broadcast::Receiver<Bytes>,
    ending: Option<Ending>,
    recheck: Interval,
    /// Asks PostgreSQL in a task of its own whether the session is active: the stream must continue while PostgreSQL
    /// hangs.
    checking: Option<JoinHandle<bool>>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        if let Some(hello) = self.hello.take() {
            return Some((Ok(hello), self));
        }
        loop {
            let ending = async {
                match &mut self.ending {
                    Some(ending) => ending.begun().await,
                    None => std::future::pending().await,
                }
            };
            let checked = async {
                match &mut self.checking {
                    Some(checking) => checking.await.unwrap_or(true),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                second = self.seconds.recv() => match second {
                    Ok(event) => return Some((Ok(event), self)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                },
                () = ending => return None,
                may_stay = checked => {
                    self.checking = None;
                    if !may_stay {
                        return None;
                    }
                }
                _ = self.recheck.tick() => {
                    let Some(claims) = self.claims else { continue };
                    if now_seconds() >= claims.expires_at_seconds {
                        return None;
                    }
                    if self.checking.is_none() {
                        let control = self.control.clone();
                        self.checking = Some(tokio::spawn(async move {
                            control.accounts().session_is_active(claims.user, claims.session).await.unwrap_or(true)
                        }));
                    }
                }
            }
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(checking) = &self.checking {
            checking.abort(); // nobody waits for its answer any more
        }
    }
}

#[cfg(test)]
mod tests;
