//! `/admin/filter-rules`, `/conversations/{id}/filter-rules`, `/moderation/queue`: the rules of the content filter, and
//! the texts that they hold.
//!
//! A held text that is approved is sent in two steps: PostgreSQL records the decision, then the text takes the ordinary
//! path as a message of its author, under the key of its first attempt. If the second step fails, the text stays in the
//! queue and approving it again sends it. The key makes it one message, however often that happens.

use super::Control;
use super::extract::{AccountReader, Caller, Json, PathId, QueryString};
use super::filter::validate;
use super::operators::{AdminReader, require_admin_change};
use super::patience::patiently;
use super::problem::Problem;
use super::second_factor::FactorCaller;
use super::state::shielded;
use crate::chat::filter::rule::FilterRule;
use crate::error::{ErrorCode, Refusal};
use crate::faults::warn_limited;
use crate::ids::{ConversationId, MessageId, UserId};
use crate::limits::FILTER_CONVERSATIONS_MAX;
use crate::mesh::asked::ApprovedText;
use crate::mesh::record::rfc3339;
use crate::storage::filter::{Decision, QueuedText};
use axum::extract::{Path, State};
use axum::routing::{get, post};
use axum::{Json as Reply, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Instant;

/// Texts on one page of the queue.
const PAGE_MAX: i64 = 100;

pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/admin/filter-rules", get(server_rules).put(replace_server_rules))
        .route("/conversations/{id}/filter-rules", get(conversation_rules).put(replace_conversation_rules))
        .route("/moderation/queue", get(queue))
        .route("/moderation/queue/{id}/approve", post(approve))
        .route("/moderation/queue/{id}/reject", post(reject))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewRules {
    rules: Vec<FilterRule>,
}

fn conversation_of(text: &str) -> Result<ConversationId, Problem> {
    ConversationId::parse(text)
        .ok_or_else(|| Problem::bad_request("id: Must be the id of a conversation, like room_6."))
}

/// Refuses all but administrators of a group or room.
async fn require_administrator(control: &Control, user: UserId, conversation: ConversationId) -> Result<(), Problem> {
    let rights = control.filter().store().rights(conversation, user).await?;
    match rights {
        None => Err(Problem::not_found("There is no such conversation, or you may not see it.")),
        Some(rights) if rights.administers => Ok(()),
        Some(_) => Err(Refusal::new(ErrorCode::Forbidden, "This needs the role admin or higher.").into()),
    }
}

async fn shown(control: &Control, scope: Option<ConversationId>) -> Result<Reply<Value>, Problem> {
    let rules = control.filter().store().of(scope).await?;
    Ok(Reply(json!({"rules": rules.into_iter().map(|(_, rule)| rule).collect::<Vec<_>>()})))
}

/// Checks and stores the rules of a scope, and gives them to the shards.
async fn replace(
    control: &Control,
    caller: &Caller,
    scope: Option<ConversationId>,
    rules: &[FilterRule],
) -> Result<Reply<Value>, Problem> {
    control.filter_edits().charge(caller.user, Instant::now())?;
    validate(rules, scope)?;
    if let Some(conversation) = scope
        && control.filter().store().conversations_with_rules(conversation).await? >= FILTER_CONVERSATIONS_MAX as i64
    {
        let message = "Too many conversations of this server have rules of their own. Ask an administrator for rules \
                       of the server.";
        return Err(Refusal::new(ErrorCode::Conflict, message).into());
    }
    let stored = serde_json::to_value(rules).map_err(|_| Problem::internal())?;
    control.filter().store().replace(caller, scope, stored).await?;
    control.filter().rules_changed();
    shown(control, scope).await
}

async fn server_rules(State(control): State<Control>, _reader: AdminReader) -> Result<Reply<Value>, Problem> {
    shown(&control, None).await
}

async fn replace_server_rules(
    State(control): State<Control>,
    factor: FactorCaller,
    Json(new): Json<NewRules>,
) -> Result<Reply<Value>, Problem> {
    require_admin_change(&control, &factor).await?;
    replace(&control, &factor.caller, None, &new.rules).await
}

async fn conversation_rules(
    State(control): State<Control>,
    reader: AccountReader,
    Path(id): Path<String>,
) -> Result<Reply<Value>, Problem> {
    let conversation = conversation_of(&id)?;
    require_administrator(&control, reader.caller.user, conversation).await?;
    shown(&control, Some(conversation)).await
}

async fn replace_conversation_rules(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    Json(new): Json<NewRules>,
) -> Result<Reply<Value>, Problem> {
    let conversation = conversation_of(&id)?;
    require_administrator(&control, caller.user, conversation).await?;
    replace(&control, &caller, Some(conversation), &new.rules).await
}

#[derive(Deserialize)]
struct QueuePage {
    conversation_id: Option<String>,
    cursor: Option<i64>,
    limit: Option<i64>,
}

#[derive(Serialize)]
struct QueueAnswer {
    items: Vec<Value>,
    next_cursor: Option<i64>,
}

async fn queue(
    State(control): State<Control>,
    reader: AccountReader,
    QueryString(page): QueryString<QueuePage>,
) -> Result<Reply<QueueAnswer>, Problem> {
    let caller = &reader.caller;
    let limit = page.limit.unwrap_or(50);
    if !(1..=PAGE_MAX).contains(&limit) {
        return Err(Problem::bad_request(format!("limit: Must be 1 to {PAGE_MAX}.")));
    }
    let conversation = page.conversation_id.as_deref().map(conversation_of).transpose()?;
    let is_admin = control.live().factor_policy.admins.contains(&caller.user);
    if let Some(conversation) = conversation
        && !is_admin
    {
        match control.filter().store().rights(conversation, caller.user).await? {
            None => return Err(Problem::not_found("There is no such conversation, or you may not see it.")),
            Some(rights) if rights.moderates => {}
            Some(_) => {
                return Err(Refusal::new(ErrorCode::Forbidden, "This needs the role moderator or higher.").into());
            }
        }
    }
    let after = page.cursor.unwrap_or(0);
    let found = control.filter().store().queue(caller.user, is_admin, conversation, after, limit).await?;
    let next_cursor = found.last().filter(|_| found.len() as i64 == limit).map(|text| text.id);
    Ok(Reply(QueueAnswer { items: found.into_iter().map(item).collect(), next_cursor }))
}

fn item(text: QueuedText) -> Value {
    let (sender, username, display_name) = text.sender;
    json!({
        "id": text.id,
        "conversation_id": text.conversation,
        "conversation_name": text.conversation_name,
        "sender": {"id": sender, "username": username, "display_name": display_name},
        "content": text.content,
        "rule": text.rule,
        "state": if text.is_flagged { "flagged" } else { "held" },
        "edit": text.is_edit,
        "message_id": text.message,
        "attachments": text.attachments.unwrap_or_else(|| json!([])),
        "created_at": rfc3339(text.created_at),
    })
}

async fn approve(State(control): State<Control>, caller: Caller, PathId(id): PathId) -> Result<Reply<Value>, Problem> {
    // Shielded: a decision that is recorded is carried out, even if the moderator disconnects.
    shielded(async move {
        let decision = decide(&control, &caller, id, true).await?;
        if decision.sent || decision.state_before == "flagged" {
            return Ok(Reply(json!({"id": id, "state": "approved"})));
        }
        let text = approved_text(&decision);
        let Some(conversation) = decision.conversation else { return Err(Problem::internal()) };
        let sent = control.filter().port().send_approved(decision.author, conversation, text).await?;
        control.filter().store().was_sent(id).await?;
        let sent: Value = serde_json::from_slice(&sent).unwrap_or_default();
        Ok(Reply(json!({"id": id, "state": "approved", "message_id": sent["message_id"]})))
    })
    .await
}

async fn reject(State(control): State<Control>, caller: Caller, PathId(id): PathId) -> Result<Reply<Value>, Problem> {
    // Shielded: the author is informed of a recorded decision, even if the moderator disconnects.
    shielded(async move {
        let decision = decide(&control, &caller, id, false).await?;
        if let Some(conversation) = decision.conversation
            && decision.decided
            && decision.state_before == "held"
            && let Err(refusal) =
                patiently(|| control.filter().port().announce_rejection(decision.author, conversation, id)).await
        {
            // The decision stands. Who sends the text again receives `filtered`.
            warn_limited!(%refusal, held = id, "the author was not informed of a rejected text");
        }
        Ok(Reply(json!({"id": id, "state": "rejected"})))
    })
    .await
}

async fn decide(control: &Control, caller: &Caller, id: i64, approved: bool) -> Result<Decision, Problem> {
    control.decisions().charge(caller.user, Instant::now())?;
    let is_admin = control.live().factor_policy.admins.contains(&caller.user);
    let decision = control.filter().store().decide(id, caller, is_admin, approved).await?;
    let decision =
        decision.ok_or_else(|| Problem::not_found("There is no such text, or you may not decide about it."))?;
    let is_the_same = decision.state_before == if approved { "approved" } else { "rejected" };
    if decision.decided || is_the_same {
        return Ok(decision);
    }
    let detail = format!("Somebody else was faster: the text is {}.", decision.state_before);
    Err(Refusal::new(ErrorCode::Conflict, detail).into())
}

fn approved_text(decision: &Decision) -> ApprovedText {
    let content = decision.content.clone();
    match decision.edited {
        Some(message) => {
            ApprovedText::Edit { message: MessageId(message), content, kept_files: decision.kept_files.clone() }
        }
        None => ApprovedText::Message {
            content,
            message_type: match decision.message_type.as_str() {
                "image" => "image",
                "file" => "file",
                _ => "text",
            },
            parent: decision.parent.map(MessageId),
            key: decision.key.clone(),
            files: decision.files.clone(),
        },
    }
}
