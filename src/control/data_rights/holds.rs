//! `/admin/holds`: legal holds, for the users of `security.admin_user_ids`. Each read and each change is a row of the
//! audit trail.

use super::super::audit::{ROWS_MAX, checked_limit};
use super::super::extract::{Json, PathId, QueryString};
use super::super::operators::{AdminReader, require_admin_change};
use super::super::problem::Problem;
use super::super::second_factor::FactorCaller;
use super::super::state::Control;
use crate::ids::{ConversationId, UserId};
use crate::storage::data_rights::holds::{HeldThing, HoldStore};
use crate::text::{Shape, check};
use axum::Json as Reply;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

/// Characters of a reason.
const REASON_CHARS_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GivenHold {
    user_id: Option<i64>,
    conversation_id: Option<ConversationId>,
    reason: String,
}

#[derive(Deserialize)]
pub(super) struct HoldsAsked {
    cursor: Option<i64>,
    limit: Option<i64>,
}

fn store(control: &Control) -> HoldStore {
    HoldStore::new(control.accounts().clone())
}

pub(super) async fn create(
    State(control): State<Control>,
    factor: FactorCaller,
    Json(given): Json<GivenHold>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    require_admin_change(&control, &factor).await?;
    let held = match (given.user_id, given.conversation_id) {
        (Some(user), None) => HeldThing::User(UserId(user)),
        (None, Some(conversation)) => HeldThing::Conversation(conversation),
        _ => return Err(Problem::bad_request("user_id: Send either user_id or conversation_id.")),
    };
    let reason = given.reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
        return Err(Problem::bad_request("reason: Must have 1 to 500 characters."));
    }
    check(reason, Shape::Lines).map_err(|fault| Problem::bad_request(format!("reason: {fault}")))?;
    let created = store(&control).create(held, reason, &factor.caller).await?;
    Ok((StatusCode::CREATED, Reply(created.ok_or_else(Problem::internal)?)))
}

pub(super) async fn list(
    State(control): State<Control>,
    reader: AdminReader,
    QueryString(page): QueryString<HoldsAsked>,
) -> Result<Reply<Value>, Problem> {
    let limit = checked_limit(page.limit.unwrap_or(ROWS_MAX))?;
    let holds = store(&control).page(page.cursor.unwrap_or(i64::MAX), limit, &reader.caller).await?;
    let next = holds.last().filter(|_| holds.len() as i64 == limit).map(|hold| hold["id"].clone());
    Ok(Reply(json!({"holds": holds, "next_cursor": next})))
}

pub(super) async fn release(
    State(control): State<Control>,
    factor: FactorCaller,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    require_admin_change(&control, &factor).await?;
    if !store(&control).release(id, &factor.caller).await? {
        return Err(Problem::not_found("There is no hold with this id, or it was released before."));
    }
    if let Some(rights) = control.data_rights() {
        rights.work_arrived();
    }
    Ok(StatusCode::NO_CONTENT)
}
