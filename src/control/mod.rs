//! The control plane: everything over HTTP that is not a WebSocket. One thread, tokio, axum; one file per resource.
//!
//! Invariants:
//! - every refusal is a [`problem::Problem`], also those of the router, so that a client needs one parser;
//! - the store is asked on every authenticated request whether the session is revoked: this side is not the hot
//!   path, and a revocation here holds at once and on every node;
//! - the shards hear of revoked sessions after the revocation has committed, and whether or not the client still
//!   listens ([`shielded`]). Before the commit, a reconnect could slip in between; without it, sockets of a revoked
//!   session would live until their token expires;
//! - password hashing is bounded ([`hashing`]), bodies are bounded, requests end in time. A slow client or a flood
//!   of sign-ins costs memory here and never a shard's time.
//!
//! Deliberately absent: cookies (a bearer token cannot be sent by a foreign page), TLS (a reverse proxy's), trust in
//! `X-Forwarded-For`.

pub mod announcer;
mod auth;
pub mod commands;
pub mod dashboard;
pub mod extract;
pub mod hashing;
pub mod health;
pub mod http;
pub mod metrics;
pub mod observed;
pub mod problem;
mod sessions;
mod ticket;
mod users;
mod validate;
mod view;
mod web;

use crate::auth::token::TokenKeys;
use crate::ids::SessionId;
use crate::storage::accounts::Accounts;
use axum::{
    Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use commands::CommandPort;
use dashboard::Dashboard;
use hashing::Hashing;
use health::HealthPort;
use metrics::Metrics;
use problem::{Problem, ProblemCode};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// A request that has no answer by then gets 504.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Hears of sessions that were revoked, so that their sockets are closed with 4002. Called on the control thread; must
/// not block.
pub type Notices = Arc<dyn Fn(Arc<[SessionId]>) + Send + Sync>;

/// What [`Control`] is made of.
pub struct ControlParts {
    /// The account tables.
    pub accounts: Accounts,
    /// Signs and verifies tokens.
    pub keys: Arc<TokenKeys>,
    /// How long an access token is good for.
    pub access_lifetime_seconds: i64,
    /// How long a refresh token is good for.
    pub refresh_lifetime_seconds: i64,
    /// Passwords hashed at once, each on a thread of its own.
    pub hash_workers: usize,
    /// The way to the shards.
    pub commands: Arc<dyn CommandPort>,
    /// Woken when a profile has changed.
    pub profile_changes: Arc<Notify>,
    /// What `/health` reports.
    pub health: Arc<dyn HealthPort>,
    /// Told of revocations.
    pub notices: Notices,
    /// What `/metrics` shows.
    pub metrics: Metrics,
    /// What `/dashboard` shows.
    pub dashboard: Dashboard,
}

/// The state of every handler; cloning shares it.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    parts: ControlParts,
    hashing: Hashing,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Control {
    /// Puts the parts together.
    #[must_use]
    pub fn new(parts: ControlParts) -> Self {
        let hashing = Hashing::new(parts.hash_workers, hashing::WAITING_MAX);
        Self { inner: Arc::new(Inner { parts, hashing }) }
    }

    /// Every route, with its layers.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/auth/register", post(auth::register))
            .route("/auth/login", post(auth::login))
            .route("/auth/refresh", post(auth::refresh))
            .route("/auth/logout", post(sessions::logout))
            .route("/auth/logout-all", post(sessions::logout_all))
            .route("/auth/sessions", get(sessions::list))
            .route("/auth/sessions/{id}", delete(sessions::revoke))
            .route("/auth/password", post(sessions::change_password))
            .route("/ws-ticket", post(ticket::issue))
            .route("/users", get(users::search))
            .route("/users/me", get(users::me).patch(users::edit_me))
            .route("/users/{id}", get(users::by_id))
            .route("/api/commands", post(commands::execute))
            .route("/health", get(health::ready))
            .route("/health/ready", get(health::ready))
            .route("/health/live", get(health::live))
            .route("/metrics", get(metrics::page))
            .merge(dashboard::router())
            .merge(web::router())
            .route("/ws", get(upgrade_required))
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found)
            .layer(from_fn_with_state(self.clone(), guard))
            .with_state(self.clone())
    }

    fn accounts(&self) -> &Accounts {
        &self.inner.parts.accounts
    }

    fn keys(&self) -> &TokenKeys {
        &self.inner.parts.keys
    }

    fn access_lifetime_seconds(&self) -> i64 {
        self.inner.parts.access_lifetime_seconds
    }

    fn refresh_lifetime_seconds(&self) -> i64 {
        self.inner.parts.refresh_lifetime_seconds
    }

    fn hashing(&self) -> &Hashing {
        &self.inner.hashing
    }

    fn commands(&self) -> &dyn CommandPort {
        &*self.inner.parts.commands
    }

    /// There is something for the announcer to find.
    fn profile_changed(&self) {
        self.inner.parts.profile_changes.notify_one();
    }

    fn health(&self) -> &dyn HealthPort {
        &*self.inner.parts.health
    }

    fn metrics(&self) -> &Metrics {
        &self.inner.parts.metrics
    }

    fn dashboard(&self) -> &Dashboard {
        &self.inner.parts.dashboard
    }

    fn notify_revoked(&self, sessions: impl Into<Arc<[SessionId]>>) {
        (self.inner.parts.notices)(sessions.into());
    }
}

/// Seconds since 1970, by the system clock.
fn now_seconds() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() as i64)
}

/// Runs `work` to its end even if the request that asked for it is given up: hyper drops a handler whose client has
/// gone, at whatever `await` it stands.
async fn shielded<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request's task did not end");
        Err(Problem::internal())
    })
}

/// Around every request: its deadline, its metrics, the headers of every answer.
async fn guard(State(control): State<Control>, matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let operation = format!("{} {route}", method_label(request.method()));
    let mut response = if http::is_late_upgrade(&request) {
        Problem::bad_request(
            "a WebSocket needs a connection of its own: open a fresh one and upgrade with its first request",
        )
        .into_response()
    } else {
        match tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                crate::error::ErrorCode::DeadlineExceeded.as_str(),
                "no outcome in time: it may or may not have happened; look before you repeat it",
            )
            .into_response(),
        }
    };
    let problem = response.extensions().get::<ProblemCode>().map(|code| code.0);
    control.metrics().http_done(&operation, started.elapsed(), problem);
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Everything here is somebody's, or about this moment.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Pages bring their own.
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"));
    headers.insert(HeaderName::from_static("referrer-policy"), HeaderValue::from_static("no-referrer"));
    response
}

/// A method is any token; only the usual ones become labels.
fn method_label(method: &axum::http::Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

async fn not_found(request: Request) -> Problem {
    Problem::not_found(format!("there is nothing at {}", request.uri().path()))
}

async fn method_not_allowed(request: Request) -> Problem {
    let words = format!("{} is not possible at {}; see the Allow header", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", words)
}

async fn upgrade_required() -> Response {
    let problem = Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "upgrade_required",
        "this is the WebSocket endpoint: send `Connection: Upgrade` and `Upgrade: websocket`",
    );
    let mut response = problem.into_response();
    // RFC 9110 §15.5.22.
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

#[cfg(test)]
mod tests;
