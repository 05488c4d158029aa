//! `/health`, `/health/ready`, `/health/live`.
//!
//! Live means that this process answers, and nothing else: if it depended on PostgreSQL, an orchestrator would
//! restart every node when the database restarts. Ready means that clients should be sent here. Everybody learns
//! whether the server is ready; only operators learn why not.

use super::Control;
use super::files::antivirus::Antivirus;
use super::operators::IsOperator;
use crate::mesh::node_status::NodeStatus;
use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use serde::Serialize;
use std::collections::BTreeMap;

pub use super::ports::{Check, HealthPort};

#[derive(Serialize)]
struct CheckStatus {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Report {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<BTreeMap<&'static str, CheckStatus>>,
}

pub(super) async fn live() -> impl IntoResponse {
    Json(Report { status: "ok", checks: None })
}

/// Whether files are scanned. Without it the server still serves: files wait, or nobody asked for it.
fn antivirus(control: &Control) -> CheckStatus {
    match control.files().antivirus().map(Antivirus::problem) {
        None => CheckStatus { status: "off", reason: Some("files are not scanned: files.clamd is not set".to_owned()) },
        Some(None) => CheckStatus { status: "ok", reason: None },
        Some(reason) => CheckStatus { status: "failing", reason },
    }
}

/// Whether events are exchanged with other nodes through Redis. Without it they arrive a second later, so clients need
/// not be sent elsewhere.
fn nodes(status: &NodeStatus) -> CheckStatus {
    match status.problem() {
        None => CheckStatus { status: "ok", reason: None },
        Some((since, reason)) => {
            let reason = format!("Redis cannot be used for {since:.0?}: {reason}; events of other nodes come late");
            CheckStatus { status: "failing", reason: Some(reason) }
        }
    }
}

pub(super) async fn ready(State(control): State<Control>, is_operator: IsOperator) -> impl IntoResponse {
    let checks = control.health().checks();
    let well = checks.iter().all(|check| check.ok);
    let items = checks.into_iter().map(|check| {
        (check.name, CheckStatus { status: if check.ok { "ok" } else { "failing" }, reason: check.reason })
    });
    let mut items: BTreeMap<_, _> = items.collect();
    items.insert("antivirus", antivirus(&control));
    if let Some(status) = control.nodes() {
        items.insert("nodes", nodes(status));
    }
    let checks = is_operator.0.then_some(items);
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Report { status: if well { "ok" } else { "unavailable" }, checks }))
}
