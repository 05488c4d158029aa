//! `/incoming-webhooks`, and `POST /hooks/in/{token}`: programs post messages of a bot without signing in.
//!
//! Invariants:
//! - the token alone permits to post, in one conversation, as one bot. It has 256 random bits, and the database stores
//!   only its hash;
//! - a post is a `send_message` of the bot and takes the ordinary path: the bot's role, mutes, slow mode, the content
//!   filter and the limits of a user apply. A key of the program makes it idempotent;
//! - posts of one network are charged before the token is looked up, so that guesses cost no queries.

use super::Control;
use super::extract::{AccountReader, Caller, Json, PathId, PeerAddress, QueryString, RawBody};
use super::problem::Problem;
use super::validate;
use super::webhooks::{conversation_filter, no_such_webhook, require_webhooks};
use crate::address::RequestSource;
use crate::auth::random_token;
use crate::error::{ErrorCode, Refusal};
use crate::faults::warn_limited;
use crate::hooks::slack::Posted;
use crate::ids::{ConversationId, SessionId, UserId};
use crate::mesh::record::rfc3339;
use crate::storage::incoming_webhooks::IncomingStore;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{delete, post};
use axum::{Json as Reply, Router};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Bytes of a program's key for a message, which becomes its `client_message_id`.
const KEY_BYTES_MAX: usize = 64;
/// No sign-in: a bot has none.
const NO_SESSION: SessionId = SessionId(0);

pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/incoming-webhooks", post(create).get(list))
        .route("/incoming-webhooks/{id}", delete(remove))
        .route("/incoming-webhooks/{id}/rotate", post(rotate))
        .route("/hooks/in/{token}", post(receive))
}

fn store(control: &Control) -> Result<IncomingStore, Problem> {
    require_webhooks(control)?;
    Ok(IncomingStore::new(control.accounts().clone()))
}

/// An address with a new token, and the hash of that.
fn new_address() -> (String, [u8; 32]) {
    let token = random_token::new_token();
    (format!("/hooks/in/{token}"), random_token::hash(&token))
}

/// A command of a bot or of the caller.
pub(super) async fn execute(control: &Control, caller: Caller, kind: &str, data: Value) -> Result<Value, Refusal> {
    let body = json!({ "type": kind, "data": data }).to_string();
    let ack = control.commands().execute(caller, None, body.into()).await?;
    Ok(serde_json::from_slice(&ack).unwrap_or_default())
}

pub(super) fn as_bot(bot: UserId, source: Arc<RequestSource>) -> Caller {
    Caller { user: bot, session: NO_SESSION, source }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewIncoming {
    conversation_id: ConversationId,
    name: String,
}

async fn create(
    State(control): State<Control>,
    caller: Caller,
    Json(given): Json<NewIncoming>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let store = store(&control)?;
    let name = validate::visible_name("name", &given.name)?;
    control.filter().check_profile(Some(caller.user), ("POST /incoming-webhooks", "name"), &name).await?;
    let conversation = given.conversation_id;
    let username = format!("bot-{:016x}", rand::random::<u64>());
    let (url, hash) = new_address();
    let (id, bot) = store.create(&caller, conversation, &name, &username, &hash).await?;
    if let Err(refusal) = admit(&control, &caller, bot, conversation).await {
        if let Err(failed) = store.delete(&caller, id).await {
            warn_limited!(%failed, "an incoming webhook whose bot could not join stays until somebody deletes it");
        }
        return Err(refusal.into());
    }
    let shown = json!({
        "id": id, "conversation_id": conversation, "name": name, "bot": {"id": bot, "username": username}, "url": url,
    });
    Ok((StatusCode::CREATED, Reply(shown)))
}

/// Adds a bot to a conversation. Where it may only be invited, it accepts.
pub(super) async fn admit(
    control: &Control,
    caller: &Caller,
    bot: UserId,
    conversation: ConversationId,
) -> Result<(), Refusal> {
    let added = json!({ "conversation_id": conversation, "user_id": bot });
    let added = execute(control, caller.clone(), "invite_member", added).await?;
    if added["pending"] == true {
        let accepted = json!({ "conversation_id": conversation });
        let bot = as_bot(bot, Arc::clone(&caller.source));
        execute(control, bot, "accept_invitation", accepted).await?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct IncomingFilter {
    conversation_id: Option<String>,
}

async fn list(
    State(control): State<Control>,
    reader: AccountReader,
    QueryString(filter): QueryString<IncomingFilter>,
) -> Result<Reply<Value>, Problem> {
    let conversation = conversation_filter(filter.conversation_id.as_deref())?;
    let found = store(&control)?.list(reader.caller.user, conversation).await?;
    let shown = found.into_iter().map(|webhook| {
        json!({
            "id": webhook.id, "conversation_id": webhook.conversation, "name": webhook.name, "bot_id": webhook.bot,
            "owner_id": webhook.owner, "created_at": rfc3339(webhook.created_at),
            "last_used_at": webhook.last_used_at.map(rfc3339),
        })
    });
    Ok(Reply(json!({ "webhooks": shown.collect::<Vec<_>>() })))
}

async fn rotate(State(control): State<Control>, caller: Caller, PathId(id): PathId) -> Result<Reply<Value>, Problem> {
    let (url, hash) = new_address();
    if !store(&control)?.rotate(&caller, id, &hash).await? {
        return Err(no_such_webhook());
    }
    Ok(Reply(json!({ "id": id, "url": url })))
}

async fn remove(State(control): State<Control>, caller: Caller, PathId(id): PathId) -> Result<StatusCode, Problem> {
    let deleted = store(&control)?.delete(&caller, id).await?;
    let (bot, conversation) = deleted.ok_or_else(no_such_webhook)?;
    let leaves = json!({ "conversation_id": conversation });
    let bot = as_bot(bot, Arc::clone(&caller.source));
    // Its token has ended. As a member it can do nothing more.
    if let Err(refusal) = execute(&control, bot, "leave_conversation", leaves).await {
        warn_limited!(%refusal, "the bot of a deleted webhook is still listed as a member");
    }
    Ok(StatusCode::NO_CONTENT)
}

async fn receive(
    State(control): State<Control>,
    Path(token): Path<String>,
    peer: PeerAddress,
    source: RequestSource,
    headers: HeaderMap,
    RawBody(body): RawBody,
) -> Result<Reply<Value>, Problem> {
    control.hook_posts().charge(peer.network(), Instant::now())?;
    let store = store(&control)?;
    let unknown = || Problem::not_found("There is no such webhook. It may have been deleted, or its address replaced.");
    if !random_token::is_token(&token) {
        return Err(unknown());
    }
    let (conversation, bot) = store.find(&random_token::hash(&token)).await?.ok_or_else(unknown)?;
    let posted = read(&headers, &body)?;
    let bad = |error: crate::hooks::slack::PostError| Problem::bad_request(error.to_string());
    let mut data = json!({ "conversation_id": conversation, "content": posted.message().map_err(bad)? });
    if let Some(thread) = posted.thread().map_err(bad)? {
        data["parent_message_id"] = thread.into();
    }
    if let Some(key) = key_of(&headers)? {
        data["client_message_id"] = key.into();
    }
    let sent = execute(&control, as_bot(bot, Arc::new(source)), "send_message", data).await?;
    Ok(Reply(json!({ "message_id": sent["message_id"], "seq": sent["seq"] })))
}

/// The body: JSON, or a form whose field `payload` is JSON, as Slack takes both.
fn read(headers: &HeaderMap, body: &Bytes) -> Result<Posted, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_form = kind.split(';').next().is_some_and(|kind| kind.trim() == "application/x-www-form-urlencoded");
    let mut fields = form_urlencoded::parse(body);
    let payload = is_form.then(|| fields.find(|(name, _)| name == "payload")).flatten();
    let json = payload.as_ref().map_or(&body[..], |(_, value)| value.as_bytes());
    // A structure would also be read from an array.
    let object = serde_json::from_slice::<serde_json::Map<String, Value>>(json);
    object.and_then(|object| serde_json::from_value(Value::Object(object))).map_err(|error| {
        Problem::bad_request(format!("The body must be a JSON object, or a form with it as `payload`: {error}."))
    })
}

/// `Idempotency-Key`: a repeat with the same key returns the first message.
fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    let wrong = || {
        let detail = format!("Idempotency-Key: Must have 1 to {KEY_BYTES_MAX} visible ASCII characters.");
        Refusal::new(ErrorCode::BadRequest, detail)
    };
    Ok(Some(key.ok_or_else(wrong)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_json_and_the_form_of_slack() {
        let form = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap())]);
        let read_text = |headers: &HeaderMap, body: &'static str| {
            read(headers, &Bytes::from_static(body.as_bytes())).map(|posted| posted.message().unwrap())
        };
        assert_eq!(read_text(&HeaderMap::new(), r#"{"text": "hi & ho"}"#).unwrap(), "hi & ho");
        assert_eq!(read_text(&form, "x=1&payload=%7B%22text%22%3A+%22hi%22%7D").unwrap(), "hi");
        // curl sends this type with any -d.
        assert_eq!(read_text(&form, r#"{"text": "hi"}"#).unwrap(), "hi");
        for bad in ["", "hi", "[]", "7", r#"{"text": 7}"#, r#"{"attachments": {}}"#] {
            assert_eq!(read_text(&HeaderMap::new(), bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
