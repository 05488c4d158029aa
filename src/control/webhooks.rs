//! `/webhooks`: users send the events of their conversations to other services. [`crate::hooks`] has the rest.
//!
//! Invariants:
//! - a webhook belongs to its owner. The administrators of its conversation can list, disable and delete it. Only its
//!   owner can change, enable, test, rotate or replay it, and see its full address, which can hold a token;
//! - a secret is shown once, when it is made;
//! - creating, changing, rotating, replaying and deleting are rows of the audit trail.

use super::Control;
use super::audit::time_of;
use super::extract::{AccountReader, Caller, Json, PathId, QueryString};
use super::jobs::{JobEnd, JobWorker};
use super::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::hooks::EVENTS;
use crate::hooks::deliver::Hooks;
use crate::hooks::signature;
use crate::hooks::target::HookTarget;
use crate::ids::{ConversationId, Seq, UserId};
use crate::mesh::record::rfc3339;
use crate::storage::jobs::Job;
use crate::storage::webhooks::{
    DELIVERIES_MAX, DeliveryState, LoggedDelivery, NewWebhook, ReplayRange, Webhook, WebhookChange, WebhookStore,
};
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json as Reply, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

/// How long the old secret signs too after a rotation.
const OLD_SECRET_SECONDS: i64 = 86_400;
/// How long a request for a test waits for the receiver.
pub(super) const TEST_TIME_MAX: Duration = Duration::from_secs(12);
/// Entries of a log that one replay can name.
const REPLAY_EVENTS_MAX: i64 = 10_000;

pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/webhooks", post(create).get(list))
        .route("/webhooks/{id}", get(show).patch(change).delete(remove))
        .route("/webhooks/{id}/rotate", post(rotate))
        .route("/webhooks/{id}/test", post(test))
        .route("/webhooks/{id}/replay", post(replay))
        .route("/webhooks/{id}/deliveries", get(deliveries))
}

impl JobWorker for Hooks {
    fn work(&self) -> watch::Receiver<u64> {
        self.work_signs()
    }

    async fn work_on(&self, job: &Job) -> Result<JobEnd, Refusal> {
        let id = job.subject.parse().map_err(|_| Refusal::bad_request("subject: Must be a number."))?;
        Ok(self.run(id).await?.map_or(JobEnd::Done, JobEnd::RunAgainAfter))
    }

    async fn sweep(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Refuses everything while webhooks are switched off.
pub(super) fn require_webhooks(control: &Control) -> Result<(), Problem> {
    hooks(control).map(drop)
}

/// The conversation that a list is asked for.
pub(super) fn conversation_filter(text: Option<&str>) -> Result<Option<ConversationId>, Problem> {
    let parsed = text.map(|text| {
        ConversationId::parse(text)
            .ok_or_else(|| Problem::bad_request("conversation_id: Must be the id of a conversation, like room_6."))
    });
    parsed.transpose()
}

fn hooks(control: &Control) -> Result<&Hooks, Problem> {
    let detail = "Webhooks are switched off on this server. Ask its operator.";
    control.hooks().ok_or_else(|| Refusal::new(ErrorCode::Forbidden, detail).into())
}

/// The rows, over the connections of the accounts: those of the jobs must not wait for requests.
fn store(control: &Control) -> Result<WebhookStore, Problem> {
    require_webhooks(control)?;
    Ok(WebhookStore::new(control.accounts().clone()))
}

pub(super) fn no_such_webhook() -> Problem {
    Problem::not_found("There is no such webhook, or you may not manage it.")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenWebhook {
    url: String,
    conversation_id: Option<ConversationId>,
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    ordered: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenChange {
    url: Option<String>,
    events: Option<Vec<String>>,
    ordered: Option<bool>,
    active: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenRange {
    from: Option<String>,
    to: Option<String>,
    conversation_id: Option<ConversationId>,
    from_seq: Option<i64>,
    to_seq: Option<i64>,
}

#[derive(Deserialize)]
struct ListFilter {
    conversation_id: Option<String>,
}

#[derive(Deserialize)]
struct DeliveryFilter {
    state: Option<String>,
    cursor: Option<i64>,
    limit: Option<i64>,
}

/// The address, normalised.
fn checked_url(hooks: &Hooks, url: &str) -> Result<String, Problem> {
    let target = HookTarget::parse(url, hooks.sender().policy());
    target.map(|target| target.as_str().to_owned()).map_err(|error| Problem::bad_request(error.to_string()))
}

/// The names of events, each once. `*` and no name at all mean all of them.
fn checked_events(given: &[String]) -> Result<Vec<String>, Problem> {
    let names: BTreeSet<&String> = given.iter().collect();
    if names.iter().any(|name| *name == "*") {
        return Ok(Vec::new());
    }
    match names.iter().find(|name| !EVENTS.contains(&name.as_str())) {
        None => Ok(names.into_iter().cloned().collect()),
        Some(name) => {
            let name: String = name.chars().take(50).collect();
            Err(Problem::bad_request(format!("events: There is no event {name:?}. Choose from {}.", EVENTS.join(", "))))
        }
    }
}

/// A webhook as a user sees it.
fn shown(webhook: &Webhook, user: UserId) -> Value {
    let disabled = webhook.disabled.as_ref();
    let is_owner = webhook.owner == user;
    json!({
        "id": webhook.id,
        "owner_id": webhook.owner,
        "conversation_id": webhook.conversation,
        "url": if is_owner { Cow::from(&webhook.url) } else { HookTarget::origin(&webhook.url).into() },
        "events": webhook.events,
        "ordered": webhook.is_ordered,
        "active": disabled.is_none(),
        "disabled_at": disabled.map(|(at, _)| rfc3339(*at)),
        "disabled_reason": disabled.map(|(_, reason)| reason),
        "failures": webhook.failures,
        "paused_until": webhook.paused_until.filter(|_| webhook.paused_s > 0.0).map(rfc3339),
        "last_success_at": webhook.last_success_at.map(rfc3339),
        "last_failure_at": webhook.last_failure_at.map(rfc3339),
        "old_secret_until": webhook.previous.as_ref().map(|(_, until)| rfc3339(*until)),
        "created_at": rfc3339(webhook.created_at),
    })
}

fn shown_delivery(delivery: &LoggedDelivery) -> Value {
    json!({
        "id": delivery.id,
        "conversation_id": delivery.conversation,
        "seq": delivery.seq,
        "type": delivery.kind,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": rfc3339(delivery.created_at),
        "settled_at": delivery.settled_at.map(rfc3339),
        "next_at": delivery.next_at.map(rfc3339),
        "log": delivery.log,
    })
}

/// The webhook with a field that has its secret.
fn with_secret(webhook: &Webhook, secret: &[u8]) -> Reply<Value> {
    let mut shown = shown(webhook, webhook.owner);
    shown["secret"] = signature::shown(secret).into();
    Reply(shown)
}

async fn create(
    State(control): State<Control>,
    caller: Caller,
    Json(given): Json<GivenWebhook>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let hooks = hooks(&control)?;
    let url = checked_url(hooks, &given.url)?;
    let events = checked_events(&given.events)?;
    let id = store(&control)?.next_id().await?;
    let secret = signature::new_secret();
    let new = NewWebhook {
        id,
        conversation: given.conversation_id,
        url: &url,
        events: &events,
        is_ordered: given.ordered,
        secret: hooks.seal(id, &secret),
    };
    store(&control)?.create(&caller, new).await?;
    hooks.note_change(id).await;
    Ok((StatusCode::CREATED, with_secret(&managed(&control, &caller, id).await?, &secret)))
}

async fn list(
    State(control): State<Control>,
    reader: AccountReader,
    QueryString(filter): QueryString<ListFilter>,
) -> Result<Reply<Value>, Problem> {
    let conversation = conversation_filter(filter.conversation_id.as_deref())?;
    let found = store(&control)?.list(reader.caller.user, conversation).await?;
    let shown: Vec<Value> = found.iter().map(|webhook| shown(webhook, reader.caller.user)).collect();
    Ok(Reply(json!({ "webhooks": shown })))
}

async fn managed(control: &Control, caller: &Caller, id: i64) -> Result<Webhook, Problem> {
    store(control)?.managed(caller.user, id).await?.ok_or_else(no_such_webhook)
}

async fn show(State(control): State<Control>, caller: Caller, PathId(id): PathId) -> Result<Reply<Value>, Problem> {
    Ok(Reply(shown(&managed(&control, &caller, id).await?, caller.user)))
}

async fn change(
    State(control): State<Control>,
    caller: Caller,
    PathId(id): PathId,
    Json(given): Json<GivenChange>,
) -> Result<Reply<Value>, Problem> {
    let hooks = hooks(&control)?;
    let url = given.url.map(|url| checked_url(hooks, &url)).transpose()?;
    let events = given.events.as_deref().map(checked_events).transpose()?;
    let change = WebhookChange {
        url: url.as_deref(),
        events: events.as_deref(),
        is_ordered: given.ordered,
        is_active: given.active,
    };
    if !store(&control)?.change(&caller, id, change).await? {
        return Err(no_such_webhook());
    }
    hooks.note_change(id).await;
    Ok(Reply(shown(&managed(&control, &caller, id).await?, caller.user)))
}

async fn remove(State(control): State<Control>, caller: Caller, PathId(id): PathId) -> Result<StatusCode, Problem> {
    if !store(&control)?.delete(&caller, id).await? {
        return Err(no_such_webhook());
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn rotate(State(control): State<Control>, caller: Caller, PathId(id): PathId) -> Result<Reply<Value>, Problem> {
    let hooks = hooks(&control)?;
    let secret = signature::new_secret();
    if !store(&control)?.rotate(&caller, id, &hooks.seal(id, &secret), OLD_SECRET_SECONDS).await? {
        return Err(no_such_webhook());
    }
    Ok(with_secret(&managed(&control, &caller, id).await?, &secret))
}

async fn test(State(control): State<Control>, caller: Caller, PathId(id): PathId) -> Result<Reply<Value>, Problem> {
    let hooks = hooks(&control)?;
    let _place = hooks.admit_test(caller.user)?;
    let webhook = managed(&control, &caller, id).await?;
    if webhook.owner != caller.user {
        return Err(Refusal::new(ErrorCode::Forbidden, "Only the owner of a webhook can test it.").into());
    }
    let attempt = tokio::time::timeout(TEST_TIME_MAX, hooks.test(&webhook)).await;
    let Ok(attempt) = attempt else {
        let error = format!("no response within {} s", TEST_TIME_MAX.as_secs());
        return Ok(Reply(json!({ "delivered": false, "status": null, "ms": null, "error": error })));
    };
    let attempt = attempt?;
    Ok(Reply(json!({
        "delivered": attempt.is_success(), "status": attempt.status, "ms": attempt.ms, "error": attempt.error,
    })))
}

async fn replay(
    State(control): State<Control>,
    caller: Caller,
    PathId(id): PathId,
    Json(given): Json<GivenRange>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let hooks = hooks(&control)?;
    let queued = store(&control)?.replay(&caller, id, given.checked()?).await?.ok_or_else(no_such_webhook)?;
    hooks.note_change(id).await;
    Ok((StatusCode::ACCEPTED, Reply(json!({ "queued": queued }))))
}

impl GivenRange {
    fn checked(self) -> Result<ReplayRange, Problem> {
        match self {
            Self { from: Some(from), to, conversation_id: None, from_seq: None, to_seq: None } => {
                let time = |name, text| {
                    let text = time_of(name, text)?;
                    Ok::<_, Problem>(text.and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok()))
                };
                let to = time("to", to)?.unwrap_or_else(OffsetDateTime::now_utc);
                let from = time("from", Some(from))?.unwrap_or(to);
                if from > to {
                    return Err(Problem::bad_request("from: Must not be after `to`."));
                }
                Ok(ReplayRange::Times(from, to))
            }
            Self {
                from: None,
                to: None,
                conversation_id: Some(conversation),
                from_seq: Some(from),
                to_seq: Some(to),
            } => {
                if from < 1 || to < from || to - from >= REPLAY_EVENTS_MAX {
                    let most = REPLAY_EVENTS_MAX;
                    let detail = format!("from_seq, to_seq: Must be a range of at most {most} seqs, from 1 on.");
                    return Err(Problem::bad_request(detail));
                }
                Ok(ReplayRange::Log(conversation, Seq(from), Seq(to)))
            }
            _ => Err(Problem::bad_request(
                "Name a range: `from` and optionally `to` as times, or `conversation_id`, `from_seq` and `to_seq`.",
            )),
        }
    }
}

async fn deliveries(
    State(control): State<Control>,
    caller: Caller,
    PathId(id): PathId,
    QueryString(filter): QueryString<DeliveryFilter>,
) -> Result<Reply<Value>, Problem> {
    let limit = filter.limit.unwrap_or(50);
    if !(1..=DELIVERIES_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: Must be 1 to {DELIVERIES_MAX}.")));
    }
    let states = DeliveryState::ALL.map(DeliveryState::as_str);
    if filter.state.as_ref().is_some_and(|state| !states.contains(&state.as_str())) {
        return Err(Problem::bad_request(format!("state: Must be one of {}.", states.join(", "))));
    }
    managed(&control, &caller, id).await?;
    let before = filter.cursor.unwrap_or(i64::MAX);
    let found = store(&control)?.deliveries(caller.user, id, filter.state.as_deref(), before, limit).await?;
    let next = found.last().filter(|_| found.len() as i64 == limit).map(|last| last.id);
    let shown: Vec<Value> = found.iter().map(shown_delivery).collect();
    Ok(Reply(json!({ "deliveries": shown, "next_cursor": next })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_names_of_the_log_and_a_star_means_all() {
        let checked = |names: &[&str]| checked_events(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(checked(&[]).unwrap(), Vec::<String>::new());
        assert_eq!(checked(&["message_created", "*"]).unwrap(), Vec::<String>::new());
        let twice = checked(&["reaction_added", "message_created", "reaction_added"]).unwrap();
        assert_eq!(twice, ["message_created", "reaction_added"]);
        let refused = checked(&["message_created", "typing"]).unwrap_err();
        assert!(refused.detail.contains("typing") && refused.detail.contains("member_left"), "{}", refused.detail);
    }

    #[test]
    fn a_range_is_one_of_times_or_one_of_a_log() {
        let range = |value: Value| serde_json::from_value::<GivenRange>(value).unwrap().checked();
        let times = range(json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00+01:00"})).unwrap();
        assert!(matches!(times, ReplayRange::Times(from, to) if to - from == time::Duration::hours(23)));
        assert!(matches!(range(json!({"from": "2026-01-01T00:00:00Z"})).unwrap(), ReplayRange::Times(..)));
        let log = range(json!({"conversation_id": "room_6", "from_seq": 1, "to_seq": 10_000})).unwrap();
        assert!(matches!(log, ReplayRange::Log(_, Seq(1), Seq(10_000))));
        for bad in [
            json!({}),
            json!({"to": "2026-01-01T00:00:00Z"}),
            json!({"from": "yesterday"}),
            json!({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}),
            json!({"conversation_id": "room_6"}),
            json!({"conversation_id": "room_6", "from_seq": 0, "to_seq": 1}),
            json!({"conversation_id": "room_6", "from_seq": 2, "to_seq": 1}),
            json!({"conversation_id": "room_6", "from_seq": 1, "to_seq": 10_001}),
            json!({"conversation_id": "room_6", "from_seq": 1, "to_seq": i64::MAX}),
            json!({"from": "2026-01-01T00:00:00Z", "conversation_id": "room_6", "from_seq": 1, "to_seq": 2}),
        ] {
            assert!(range(bad.clone()).is_err(), "{bad}");
        }
    }
}
