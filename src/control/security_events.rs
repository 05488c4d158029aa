//! `/admin/security-events`: what the detectors found, and the end of the automatic responses to it, for the users of
//! `security.admin_user_ids`. Each read and each end is a row of the audit trail.

use super::{
    Control,
    audit::{ROWS_MAX, checked_limit, given, time_of},
    extract::{PathId, QueryString},
    operators::{AdminReader, require_admin_change},
    problem::Problem,
    second_factor::FactorCaller,
};
use crate::audit::suspicion::Suspicion;
use axum::{Json as Reply, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Deserialize)]
pub(super) struct EventFilter {
    severity: Option<String>,
    event_type: Option<String>,
    user: Option<i64>,
    from: Option<String>,
    to: Option<String>,
    cursor: Option<i64>,
    limit: Option<i64>,
}

#[derive(Serialize)]
pub(super) struct EventPage {
    events: Vec<Value>,
    /// The `cursor` of the next page; null after the last one.
    next_cursor: Option<i64>,
}

pub(super) async fn read(
    State(control): State<Control>,
    reader: AdminReader,
    QueryString(filter): QueryString<EventFilter>,
) -> Result<Reply<EventPage>, Problem> {
    let limit = checked_limit(filter.limit.unwrap_or(ROWS_MAX))?;
    let filter = filter.checked(limit)?;
    let events = control.accounts().read_security_events(&reader.caller, filter).await?;
    let oldest = events.last().filter(|_| events.len() as i64 == limit).and_then(|event| event["id"].as_i64());
    Ok(Reply(EventPage { next_cursor: oldest, events }))
}

pub(super) async fn end_responses(
    State(control): State<Control>,
    factor: FactorCaller,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    require_admin_change(&control, &factor).await?;
    match control.accounts().end_event_responses(id, &factor.caller).await? {
        0 => Err(Problem::not_found(
            "No response to this event is in force. GET /admin/security-events lists the events and their responses.",
        )),
        _ => Ok(StatusCode::NO_CONTENT),
    }
}

impl EventFilter {
    /// The filter in the form that PostgreSQL reads.
    fn checked(self, limit: i64) -> Result<Value, Problem> {
        let Self { severity, event_type, user, from, to, cursor, .. } = self;
        if severity.as_ref().is_some_and(|severity| !["info", "warning", "critical"].contains(&severity.as_str())) {
            return Err(Problem::bad_request("severity: Must be info, warning or critical."));
        }
        let known = |name: &String| Suspicion::ALL.iter().any(|suspicion| suspicion.as_str() == name);
        if event_type.as_ref().is_some_and(|name| !known(name)) {
            let names: Vec<&str> = Suspicion::ALL.iter().map(|suspicion| suspicion.as_str()).collect();
            return Err(Problem::bad_request(format!("event_type: Must be one of {}.", names.join(", "))));
        }
        let (from, to) = (time_of("from", from)?, time_of("to", to)?);
        Ok(given(json!({
            "severity": severity, "event_type": event_type, "user_id": user, "from": from, "to": to, "before": cursor,
            "limit": limit,
        })))
    }
}
