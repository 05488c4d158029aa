//! The control plane: all of HTTP except WebSockets. One thread with tokio and axum; one file per resource.
//!
//! Invariants:
//! - every refusal is a [`problem::Problem`], including those of the router, so that a client needs one parser;
//! - every authenticated request asks PostgreSQL whether the session is revoked. This is not the hot path, and so a
//!   revocation applies at once and on every node;
//! - the shards are notified of revoked sessions after the revocation has committed, even if the client has
//!   disconnected ([`state::shielded`]). Before the commit, a client could reconnect in between. If the notice were
//!   lost, sockets of a revoked session would stay open until their token expires;
//! - a user's requests are charged to a budget before their session is looked up ([`request_budget`]);
//! - reads of accounts are bounded per user ([`account_reads`]), so that a flood of them delays nobody else;
//! - hashing ([`hashing`]), bodies and the duration of requests are bounded. A slow client or a flood of sign-ins costs
//!   memory here, and never time of a shard;
//! - a session whose account must have two-factor authentication and has none can set it up, and nothing else
//!   ([`extract`]). A handler of a dangerous action takes a `FactorCaller` and requires a fresh second factor;
//! - one network has a part of the connections and of the unfinished requests only ([`clients`]), so that a flood from
//!   it shuts nobody else out.
//!
//! Deliberately absent: cookies (a page of another origin cannot send a bearer token), and TLS (a reverse proxy does
//! it).

pub mod access;
mod account_reads;
pub mod announcer;
mod audit;
mod auth;
pub mod bot_commands;
mod bots;
pub mod captcha;
mod clients;
pub mod commands;
mod current_password;
pub mod dashboard;
pub mod data_rights;
pub mod extract;
pub mod files;
pub mod filter;
pub mod hashing;
pub mod health;
pub mod http;
mod incoming_webhooks;
pub mod jobs;
mod key_budget;
pub mod media_worker;
pub mod metrics;
mod moderation;
pub mod observed;
mod operators;
mod patience;
pub mod places;
mod ports;
pub mod problem;
pub mod reload;
mod request_budget;
mod second_factor;
mod security_events;
pub mod security_watch;
mod sessions;
pub mod sign_in_limits;
mod signed_in;
mod state;
mod ticket;
mod two_factor;
pub mod user_limits;
mod users;
mod validate;
mod view;
mod web;
mod webhooks;

pub use state::{Control, ControlParts, ControlSettings, Notices};

use crate::error::{ErrorCode, Refusal};
use crate::limits::HTTP_BODY_TIMEOUT_MS;
use crate::wire::response_fields::RESPONSE_FIELDS;
use axum::{
    Extension, Router,
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use operators::Internal;
use problem::{Problem, ProblemCode};
use state::{now_seconds, shielded};
use std::time::{Duration, Instant};

/// A request without a response after this long is answered 504.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// The same for a request that brings a file; it has closer deadlines of its own.
const UPLOAD_TIMEOUT: Duration = Duration::from_hours(24);

const _: () = assert!(HTTP_BODY_TIMEOUT_MS < REQUEST_TIMEOUT.as_millis() as u64, "a slow sender receives the reason");
const _: () = assert!(webhooks::TEST_TIME_MAX.as_millis() < REQUEST_TIMEOUT.as_millis(), "the client gets the outcome");
const _: () = assert!(captcha::TIMEOUT.as_millis() < REQUEST_TIMEOUT.as_millis(), "the client receives the reason");

impl Control {
    /// Every route, with its layers.
    pub fn router(&self) -> Router {
        self.layered(routes().merge(health_routes()).merge(operator_routes()))
    }

    /// The routes for users, if operators have a listener of their own.
    pub fn public_router(&self) -> Router {
        self.layered(routes().merge(health_routes()))
    }

    /// The routes of that listener.
    pub fn internal_router(&self) -> Router {
        self.layered(health_routes().merge(operator_routes())).layer(Extension(Internal))
    }

    /// Health checks only, for connections beyond the maximum. Everything else is refused with 503.
    pub fn health_router(&self) -> Router {
        health_routes()
            .fallback(too_many_connections)
            .layer(from_fn_with_state(self.clone(), guard))
            .with_state(self.clone())
    }

    fn layered(&self, routes: Router<Self>) -> Router {
        routes
            .method_not_allowed_fallback(method_not_allowed)
            .fallback(not_found)
            .layer(from_fn_with_state(self.clone(), guard))
            .with_state(self.clone())
    }
}

fn routes() -> Router<Control> {
    Router::new()
        .route("/auth/register", post(auth::register))
        .route("/auth/register/challenge", get(auth::challenge))
        .route("/auth/login", post(auth::login))
        .route("/auth/refresh", post(auth::refresh))
        .route("/auth/logout", post(sessions::logout))
        .route("/auth/logout-all", post(sessions::logout_all))
        .route("/auth/sessions", get(sessions::list))
        .route("/auth/sessions/{id}", delete(sessions::revoke))
        .route("/auth/password", post(sessions::change_password))
        .route("/auth/2fa", get(two_factor::show))
        .route("/auth/2fa/enable", post(two_factor::enable))
        .route("/auth/2fa/confirm", post(two_factor::confirm))
        .route("/auth/2fa/backup-codes", post(two_factor::renew_backup_codes))
        .route("/auth/2fa/disable", post(two_factor::disable))
        .route("/auth/2fa/verify", post(two_factor::verify))
        .route("/auth/2fa/step-up", post(two_factor::step_up))
        .route("/ws-ticket", post(ticket::issue))
        .route("/users", get(users::search))
        .route("/users/me", get(users::me).patch(users::edit_me))
        .route("/users/{id}", get(users::by_id))
        .route("/admin/audit", get(audit::read))
        .route("/admin/security-events", get(security_events::read))
        .route("/admin/security-events/{id}/responses", delete(security_events::end_responses))
        .route("/admin/users/{id}/limits", get(user_limits::show))
        .route("/admin/reload", post(reload::reload))
        .route("/api/commands", post(commands::execute))
        .merge(files::router())
        .merge(moderation::router())
        .merge(web::router())
        .merge(webhooks::router())
        .merge(incoming_webhooks::router())
        .merge(data_rights::router())
        .merge(bots::router())
        .merge(bot_commands::router())
        .route("/ws", get(upgrade_required))
}

fn health_routes() -> Router<Control> {
    Router::new()
        .route("/health", get(health::ready))
        .route("/health/ready", get(health::ready))
        .route("/health/live", get(health::live))
}

fn operator_routes() -> Router<Control> {
    Router::new().route("/metrics", get(metrics::page::page)).merge(dashboard::routes::router())
}

/// Wraps every request: its deadline, its metrics, and the headers of its response.
async fn guard(State(control): State<Control>, matched: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let operation = format!("{} {route}", method_label(request.method()));
    let mut response = if !http::names_one_host(&request) {
        Problem::bad_request("An HTTP/1.1 request must have one Host header, with a host name and an optional port.")
            .into_response()
    } else if http::is_late_upgrade(&request) {
        Problem::bad_request(
            "A WebSocket needs its own connection. Open a fresh one and upgrade with its first request.",
        )
        .into_response()
    } else {
        let takes_long = files::takes_long(request.method(), route);
        match tokio::time::timeout(if takes_long { UPLOAD_TIMEOUT } else { REQUEST_TIMEOUT }, next.run(request)).await {
            Ok(response) => response,
            Err(_) => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                ErrorCode::DeadlineExceeded.as_str(),
                "No response was ready in time. The request may have been carried out: check before you repeat it.",
            )
            .into_response(),
        }
    };
    let problem = response.extensions().get::<ProblemCode>().map(|code| code.0);
    control.metrics().http_done(&operation, started.elapsed(), problem);
    for (name, value) in RESPONSE_FIELDS {
        // Pages set their own Content-Security-Policy.
        response.headers_mut().entry(HeaderName::from_static(name)).or_insert(HeaderValue::from_static(value));
    }
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
    Problem::not_found(format!("There is nothing at {}.", request.uri().path()))
}

async fn too_many_connections() -> Problem {
    Refusal::new(ErrorCode::Overloaded, "Too many HTTP connections are open. Try again in a moment.")
        .retry_after(1_000)
        .into()
}

async fn method_not_allowed(request: Request) -> Problem {
    let detail =
        format!("{} is not allowed at {}. Use a method of the Allow header.", request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

async fn upgrade_required() -> Response {
    let problem = Problem::new(
        StatusCode::UPGRADE_REQUIRED,
        "upgrade_required",
        "This is the WebSocket endpoint. Send `Connection: Upgrade` and `Upgrade: websocket`.",
    );
    let mut response = problem.into_response();
    // RFC 9110 §15.5.22.
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

#[cfg(test)]
mod tests;
