//! The content filter on the way of a text to its conversation; `send` takes the steps.
//!
//! 1. A text that matches no rule goes on at once. That is every ordinary text.
//! 2. Otherwise the shard submits `filter_text` to the conversation's owner. PostgreSQL knows the author's role, picks
//!    the first rule that does not exempt it, records the match, and keeps the text or mutes the author.
//! 3. Its answer says how to go on: the text is sent, or refused with `filtered`. A text that is only flagged is sent
//!    without waiting.
//!
//! A text that matches a rule from which its author is exempt waits for step 2. If its author does not wait for the
//! ack, a later text can be committed before it.
//!
//! So a crash between the steps sends no text that a rule refuses, and loses none that was acknowledged.

use crate::chat::filter::action::FilterAction;
use crate::chat::filter::compiled::Field;
use crate::chat::filter::rule::RuleHead;
use crate::chat::filter::written::{Reach, checked_texts};
use crate::error::{ErrorCode, Refusal};
use crate::ids::ConversationId;
use crate::mesh::frame::Change;
use crate::wire::command::Arguments;
use serde_json::{Value, json};
use std::sync::Arc;

/// The command that a change belongs to.
fn source(change: &Change) -> &'static str {
    match change {
        Change::Message { .. } => "send_message",
        Change::Other { kind, .. } => kind,
    }
}

/// Texts of one change that rules check, each with its place.
pub(super) fn texts(change: &Change) -> impl Iterator<Item = (Field, &str)> {
    checked_texts(source(change)).filter_map(move |(field, place, _)| {
        let text = match change {
            Change::Message { content, .. } => Some(content.as_str()),
            Change::Other { arguments, .. } => arguments.get(field).and_then(Value::as_str),
        };
        // An emoji is no text.
        text.filter(|text| field != "emoji" || text.starts_with(':')).map(|text| (place, text))
    })
}

/// The conversation whose rules apply to a change, and whose members' roles may be exempt.
pub(super) fn scope(change: &Change, conversation: Option<ConversationId>) -> Option<ConversationId> {
    let is_of_server = checked_texts(source(change)).any(|(_, _, reach)| reach == Reach::Server);
    conversation.filter(|_| !is_of_server)
}

/// PostgreSQL has recorded what follows from a match, or nothing because its author's role is exempt.
pub(super) fn recorded(hits: &[Arc<RuleHead>], decided: &Value) {
    let action = FilterAction::ALL.into_iter().find(|action| decided["action"] == action.as_str());
    if let Some(action) = action
        && let Some(hit) = hits.iter().find(|hit| decided["rule"] == *hit.id)
    {
        hit.tally.acted(action);
    }
}

/// What `mutate_filter_text` needs.
pub(super) fn record_of(hits: &[Arc<RuleHead>], change: &Change, unique: i64) -> Arguments {
    let mut record = record(hits);
    let of_message = match change {
        Change::Message { content, message_type, parent, key, files, .. } => Some(json!({
            "text": content, "key": key, "message_type": message_type, "parent_message_id": parent, "files": files,
        })),
        Change::Other { arguments, .. } => arguments.get("content").map(|content| {
            // U+0001 keeps it apart from every key that a client may give.
            json!({"text": content, "key": format!("\u{1}edit {unique:016x}"), "message_type": "text",
                   "edited_message_id": arguments.get("message_id"), "kept_files": arguments.get("attachments")})
        }),
    };
    if let Some(Value::Object(fields)) = of_message {
        record.extend(fields);
    }
    record
}

/// The same for a text that is no message.
pub(super) fn record(hits: &[Arc<RuleHead>]) -> Arguments {
    let hits: Vec<Value> = hits
        .iter()
        .map(|hit| {
            json!({"rule": hit.id, "is_server_rule": hit.conversation.is_none(), "action": hit.action,
                   "exempt_from": hit.exempt_from, "mute_s": hit.mute_s})
        })
        .collect();
    let mut record = Arguments::new();
    record.insert("hits".to_owned(), hits.into());
    record
}

/// What the author of a refused text reads.
pub(super) fn refusal(action: FilterAction, rule: &str, mute_ms: u64) -> Refusal {
    let (message, held) = match action {
        FilterAction::Hold => (
            format!("The rule {rule} holds this text. A moderator decides whether it is sent. Do not send it again."),
            true,
        ),
        FilterAction::Slow | FilterAction::Mute => (
            format!(
                "The rule {rule} does not allow this text, and you are muted for a while. Wait until the mute ends."
            ),
            false,
        ),
        FilterAction::Flag | FilterAction::Refuse => {
            (format!("The rule {rule} does not allow this text. Change it, or ask a moderator."), false)
        }
    };
    let details = if held { json!({"rule": rule, "held": true}) } else { json!({"rule": rule}) };
    let refusal = Refusal::new(ErrorCode::Filtered, message).with_details(details);
    match action {
        FilterAction::Slow | FilterAction::Mute if mute_ms > 0 => refusal.retry_after(mute_ms),
        _ => refusal,
    }
}
