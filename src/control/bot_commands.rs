//! Slash commands over HTTP: owners register those of their bots, members list those of a conversation, and a command
//! whose bot is not connected is posted to its URL.
//!
//! Invariants:
//! - a post is signed, goes where webhooks may go, and takes [`COMMAND_ANSWER_MS`] at most with everything it does;
//! - its answer is an `answer_command` of the bot, so the same rules hold for both ways;
//! - the number of posts under way is bounded, and one bot has a part of it only.

use super::Control;
use super::bots::{no_such_bot, own, store};
use super::extract::{AccountReader, Caller, Granted, Json, PathId};
use super::incoming_webhooks::{as_bot, execute};
use super::problem::Problem;
use super::validate;
use crate::address::RequestSource;
use crate::auth::sealed::{SealedOwner, SealedSecret};
use crate::error::{ErrorCode, Refusal};
use crate::faults::warn_limited;
use crate::hooks::deliver::Hooks;
use crate::hooks::signature;
use crate::hooks::target::HookTarget;
use crate::ids::{ConversationId, UserId};
use crate::limits::COMMAND_ANSWER_MS;
use crate::mesh::bot_grant::Scope;
use crate::mesh::invocation::BotPost;
use crate::mesh::quota::QuotaPlace;
use crate::storage::bots::SealedBotSecret;
use axum::extract::{Path, State};
use axum::routing::{self, get, put};
use axum::{Json as Reply, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Commands of one bot.
const COMMANDS_MAX: usize = 50;
const NAME_CHARS_MAX: usize = 32;

pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/bots/{id}/commands", put(replace).get(list))
        .route("/bots/{id}/commands/rotate-secret", routing::post(rotate))
        .route("/conversations/{id}/commands", get(of_conversation))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenCommands {
    commands: Vec<GivenCommand>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct GivenCommand {
    name: String,
    description: String,
    usage: Option<String>,
    url: Option<String>,
}

fn hooks(control: &Control) -> Result<&Hooks, Problem> {
    let detail = "url: Requests to other servers are switched off on this server. Ask its operator for \
                  features.webhooks.";
    control.hooks().ok_or_else(|| Refusal::new(ErrorCode::Forbidden, detail).into())
}

impl GivenCommand {
    /// The same with checked fields; the URL is normalised.
    fn checked(mut self, control: &Control) -> Result<Self, Problem> {
        let is_name = |name: &str| {
            let allowed = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-');
            (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(allowed)
        };
        if !is_name(&self.name) {
            let detail = "commands: A name must be 1 to 32 characters, only lower-case letters a-z, digits, _ and -.";
            return Err(Problem::bad_request(detail));
        }
        self.description = validate::short_text("description", &self.description)?;
        self.usage = self.usage.as_deref().map(|usage| validate::short_text("usage", usage)).transpose()?;
        if let Some(url) = &self.url {
            let target = HookTarget::parse(url, hooks(control)?.sender().policy());
            let target = target.map_err(|error| Problem::bad_request(error.to_string()))?;
            self.url = Some(target.as_str().to_owned());
        }
        Ok(self)
    }
}

/// A new secret of a bot, and the same encrypted.
fn new_secret(control: &Control, bot: UserId) -> ([u8; signature::SECRET_BYTES], SealedSecret) {
    let secret = signature::new_secret();
    (secret, control.sealing().seal(SealedOwner::Bot(bot), &secret))
}

async fn replace(
    State(control): State<Control>,
    caller: Caller,
    PathId(bot): PathId,
    Json(given): Json<GivenCommands>,
) -> Result<Reply<Value>, Problem> {
    let bot = UserId(bot);
    if given.commands.len() > COMMANDS_MAX {
        return Err(Problem::bad_request(format!("commands: A bot can have {COMMANDS_MAX} commands.")));
    }
    let commands =
        given.commands.into_iter().map(|command| command.checked(&control)).collect::<Result<Vec<_>, _>>()?;
    let names: BTreeSet<&str> = commands.iter().map(|command| command.name.as_str()).collect();
    if names.len() < commands.len() {
        return Err(Problem::bad_request("commands: Every name must occur once."));
    }
    for command in &commands {
        for text in [Some(&command.name), Some(&command.description), command.usage.as_ref()].into_iter().flatten() {
            control.filter().check_profile(Some(caller.user), ("PUT /bots/{id}/commands", "commands"), text).await?;
        }
    }
    let (secret, sealed) = new_secret(&control, bot);
    let sealed = SealedBotSecret { key_id: &sealed.key_id, sealed: &sealed.bytes };
    let is_new = store(&control).replace_commands(&caller, bot, &json!(commands), sealed).await?;
    let is_new = is_new.ok_or_else(no_such_bot)?;
    let mut shown = json!({ "commands": commands });
    if is_new {
        shown["secret"] = signature::shown(&secret).into();
    }
    Ok(Reply(shown))
}

async fn list(
    State(control): State<Control>,
    reader: AccountReader,
    PathId(bot): PathId,
) -> Result<Reply<Value>, Problem> {
    own(&control, reader.caller.user, UserId(bot)).await?;
    Ok(Reply(json!({ "commands": store(&control).commands(UserId(bot)).await? })))
}

async fn rotate(State(control): State<Control>, caller: Caller, PathId(bot): PathId) -> Result<Reply<Value>, Problem> {
    let bot = UserId(bot);
    let (secret, sealed) = new_secret(&control, bot);
    let sealed = SealedBotSecret { key_id: &sealed.key_id, sealed: &sealed.bytes };
    if !store(&control).rotate_secret(&caller, bot, sealed).await? {
        return Err(no_such_bot());
    }
    Ok(Reply(json!({ "secret": signature::shown(&secret) })))
}

async fn of_conversation(
    State(control): State<Control>,
    reader: AccountReader,
    Granted(grant): Granted,
    Path(conversation): Path<String>,
) -> Result<Reply<Value>, Problem> {
    let conversation = ConversationId::parse(&conversation)
        .ok_or_else(|| Problem::bad_request("id: Must be the id of a conversation, like room_6."))?;
    if let Some(grant) = grant {
        grant.require_conversation(Scope::Read, conversation)?;
    }
    Ok(Reply(store(&control).commands_in(reader.caller.user, conversation).await?))
}

/// What the URL of a command answers.
#[derive(Deserialize)]
struct PostedAnswer {
    visibility: String,
    content: String,
}

/// Posts a command to its URL, in a task of its own, and passes the answer on. Without an answer, the shard that keeps
/// the invocation tells its user when the time is over.
pub fn post(control: Control, invoked: BotPost) {
    let Some(place) = control.bot_posts().admit(invoked.bot) else { return };
    tokio::spawn(async move {
        if let Err(reason) = answered(&control, &invoked, place).await {
            warn_limited!(bot = invoked.bot.0, reason, "the URL of a slash command gave no answer");
        }
    });
}

async fn answered(control: &Control, invoked: &BotPost, place: QuotaPlace<UserId>) -> Result<(), String> {
    let BotPost { bot, command, id, shown } = invoked;
    let hooks = control.hooks().ok_or("features.webhooks is off")?;
    let found = store(control).command_url(*bot, command).await.map_err(|refusal| refusal.to_string())?;
    let found = found.ok_or("the command has no URL any more")?;
    let sealed = SealedSecret { key_id: found.key_id, bytes: found.sealed };
    let secret = control.sealing().open(SealedOwner::Bot(*bot), &sealed).map_err(|error| error.to_string())?;
    let body = json!({ "type": "command_invoked", "data": shown }).to_string();
    let time = Duration::from_millis(COMMAND_ANSWER_MS);
    let answer = hooks.sender().ask(&found.url, &id.to_string(), &secret, body.into(), time).await?;
    drop(place);
    let answer: PostedAnswer = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
    let data = json!({
        "invocation_id": id.to_string(), "visibility": answer.visibility, "content": answer.content,
    });
    let source = Arc::new(RequestSource::new(None, None));
    let sent = execute(control, as_bot(*bot, source), "answer_command", data).await;
    sent.map(drop).map_err(|refusal| refusal.to_string())
}
