//! The routes of the dashboard: the page, its assets and its stream of events.

use super::WATCHERS_MAX;
use crate::control::extract::TokenClaims;
use crate::control::http::StopSignal;
use crate::control::operators::Operator;
use crate::control::problem::Problem;
use crate::control::state::{Control, now_seconds};
use crate::error::{ErrorCode, Refusal};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router, routing::get};
use bytes::Bytes;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior};

/// How often the permission of a watcher is checked again.
const RECHECK: Duration = Duration::from_secs(10);

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'none'; frame-ancestors 'none'; base-uri 'none'";

/// The page, its parts and its events.
pub(in crate::control) fn router() -> Router<Control> {
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
    ending: Option<Extension<StopSignal>>,
    Operator { claims }: Operator,
) -> Result<Response, Problem> {
    let dashboard = control.dashboard().clone();
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
    /// The claims of an administrator; `None` if no user is needed.
    claims: Option<TokenClaims>,
    hello: Option<Bytes>,
    seconds: broadcast::Receiver<Bytes>,
    ending: Option<StopSignal>,
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
            checking.abort(); // no response waits for its result
        }
    }
}
