//! `/bots`: accounts that programs sign in as, and their tokens. `bot_commands` has their slash commands.
//!
//! Invariants:
//! - a bot belongs to its owner, who alone manages it. It has no password, so a token is the only way to sign in as it;
//! - a token is shown once, when it is made. It is a session of the bot: a revocation closes its connections on every
//!   node, and is noticed by every request;
//! - its owner adds a bot to a conversation with the rights that the owner has there;
//! - every change is a row of the audit trail, in the same transaction.

use super::Control;
use super::extract::{AccountReader, Caller, Json, PathId, QueryString};
use super::incoming_webhooks::{admit, as_bot, execute};
use super::operators::AdminReader;
use super::problem::Problem;
use super::state::shielded;
use super::users::given;
use super::validate;
use crate::auth::random_token;
use crate::faults::warn_limited;
use crate::ids::{ConversationId, MAX_SAFE_INTEGER, SessionId, UserId};
use crate::mesh::bot_grant::Scope;
use crate::mesh::record::rfc3339;
use crate::storage::accounts::FieldChange;
use crate::storage::bots::{BotChange, BotStore, NewBot, NewToken, TokenInfo};
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{delete, get, post};
use axum::{Json as Reply, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

const DAY_S: u32 = 86_400;
/// How long a token is valid if its owner does not say.
const TOKEN_SECONDS_DEFAULT: u32 = 90 * DAY_S;
const TOKEN_SECONDS_MAX: u32 = 366 * DAY_S;
/// Conversations that a token can be limited to.
const TOKEN_CONVERSATIONS_MAX: usize = 100;

pub(super) fn router() -> Router<Control> {
    Router::new()
        .route("/bots", post(create).get(list))
        .route("/bots/{id}", get(show).patch(change).delete(remove))
        .route("/bots/{id}/conversations", post(join))
        .route("/bots/{id}/conversations/{conversation_id}", delete(leave))
        .route("/bots/{id}/tokens", post(create_token).get(list_tokens))
        .route("/bots/{id}/tokens/{token_id}", delete(revoke_token))
}

pub(super) fn store(control: &Control) -> BotStore {
    BotStore::new(control.accounts().clone())
}

pub(super) fn no_such_bot() -> Problem {
    Problem::not_found("There is no such bot, or it is not yours.")
}

/// A bot of a user.
pub(super) async fn own(control: &Control, owner: UserId, bot: UserId) -> Result<Value, Problem> {
    store(control).get(owner, bot).await?.ok_or_else(no_such_bot)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenBot {
    username: String,
    display_name: String,
    avatar_url: Option<String>,
    bio: Option<String>,
}

async fn create(
    State(control): State<Control>,
    caller: Caller,
    Json(bot): Json<GivenBot>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let username = validate::username(&bot.username)?;
    let display_name = validate::display_name(&bot.display_name)?;
    let avatar_url = bot.avatar_url.as_deref().map(validate::avatar_url).transpose()?;
    let bio = bot.bio.as_deref().map(validate::bio).transpose()?;
    let texts = [
        ("username", Some(username)),
        ("display_name", Some(&*display_name)),
        ("avatar_url", avatar_url.as_deref()),
        ("bio", bio.as_deref()),
    ];
    for (field, text) in texts {
        if let Some(text) = text {
            control.filter().check_profile(Some(caller.user), ("POST /bots", field), text).await?;
        }
    }
    let new = NewBot { username, display_name: &display_name, avatar_url: avatar_url.as_deref(), bio: bio.as_deref() };
    let bot = store(&control).create(&caller, new, control.live().limits.max_bots_per_user).await?;
    Ok((StatusCode::CREATED, Reply(own(&control, caller.user, bot).await?)))
}

#[derive(Deserialize)]
struct BotListFilter {
    #[serde(default)]
    all: bool,
}

/// Who lists bots: their owner, or with `?all=true` an administrator.
enum BotReader {
    Owner(AccountReader),
    Administrator(AdminReader),
}

impl FromRequestParts<Control> for BotReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let QueryString(filter) = QueryString::<BotListFilter>::from_request_parts(parts, control).await?;
        Ok(if filter.all {
            Self::Administrator(AdminReader::from_request_parts(parts, control).await?)
        } else {
            Self::Owner(AccountReader::from_request_parts(parts, control).await?)
        })
    }
}

async fn list(State(control): State<Control>, reader: BotReader) -> Result<Reply<Value>, Problem> {
    let bots = match &reader {
        BotReader::Owner(reader) => store(&control).list(reader.caller.user).await?,
        BotReader::Administrator(reader) => store(&control).list_all(&reader.caller).await?,
    };
    Ok(Reply(json!({ "bots": bots })))
}

async fn show(
    State(control): State<Control>,
    reader: AccountReader,
    PathId(bot): PathId,
) -> Result<Reply<Value>, Problem> {
    Ok(Reply(own(&control, reader.caller.user, UserId(bot)).await?))
}

/// An absent `avatar_url` or `bio` is kept; `null` removes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenBotChange {
    display_name: Option<String>,
    #[serde(default, deserialize_with = "given")]
    avatar_url: FieldChange<String>,
    #[serde(default, deserialize_with = "given")]
    bio: FieldChange<String>,
}

async fn change(
    State(control): State<Control>,
    caller: Caller,
    PathId(bot): PathId,
    Json(given): Json<GivenBotChange>,
) -> Result<Reply<Value>, Problem> {
    let display_name = given.display_name.as_deref().map(validate::display_name).transpose()?;
    let set =
        |change: &FieldChange<String>| if let FieldChange::Set(text) = change { Some(text.clone()) } else { None };
    let (avatar_url, bio) = (set(&given.avatar_url), set(&given.bio));
    avatar_url.as_deref().map(validate::avatar_url).transpose()?;
    let bio = bio.as_deref().map(validate::bio).transpose()?;
    let texts =
        [("display_name", display_name.as_deref()), ("avatar_url", avatar_url.as_deref()), ("bio", bio.as_deref())];
    for (field, text) in texts {
        if let Some(text) = text {
            control.filter().check_profile(Some(caller.user), ("PATCH /bots/{id}", field), text).await?;
        }
    }
    control.profile_edits().charge(caller.user, std::time::Instant::now())?;
    let change = BotChange {
        display_name: display_name.as_deref(),
        avatar_url: given.avatar_url.as_deref(),
        bio: match (&given.bio, bio.as_deref()) {
            (_, Some(text)) => FieldChange::Set(text),
            (other, None) => other.as_deref(),
        },
    };
    if !store(&control).change(&caller, UserId(bot), change).await? {
        return Err(no_such_bot());
    }
    control.profile_changed();
    Ok(Reply(own(&control, caller.user, UserId(bot)).await?))
}

async fn remove(State(control): State<Control>, caller: Caller, PathId(bot): PathId) -> Result<StatusCode, Problem> {
    let bot = UserId(bot);
    shielded(async move {
        let conversations = store(&control).conversations(bot).await?;
        let sessions = store(&control).delete(&caller, bot).await?.ok_or_else(no_such_bot)?;
        control.notify_revoked(sessions);
        // Its tokens have ended. As a member it can do nothing more.
        for conversation in conversations {
            if let Err(problem) = let_leave(&control, &caller, bot, conversation).await {
                warn_limited!(code = problem.code, "a deleted bot is still listed as a member");
            }
        }
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

async fn let_leave(
    control: &Control,
    caller: &Caller,
    bot: UserId,
    conversation: ConversationId,
) -> Result<(), Problem> {
    let leaves = json!({ "conversation_id": conversation });
    execute(control, as_bot(bot, Arc::clone(&caller.source)), "leave_conversation", leaves).await?;
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenConversation {
    conversation_id: ConversationId,
}

async fn join(
    State(control): State<Control>,
    caller: Caller,
    PathId(bot): PathId,
    Json(given): Json<GivenConversation>,
) -> Result<StatusCode, Problem> {
    let bot = UserId(bot);
    own(&control, caller.user, bot).await?;
    shielded(async move {
        admit(&control, &caller, bot, given.conversation_id).await?;
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// `{id}` and a second number of the path.
struct TwoIds(UserId, String);

impl<S: Send + Sync> FromRequestParts<S> for TwoIds {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((bot, other)) = path.map_err(|_| no_such_bot())?;
        match bot.parse() {
            Ok(bot @ 1..=MAX_SAFE_INTEGER) => Ok(Self(UserId(bot), other)),
            _ => Err(Problem::bad_request("id: Must be a positive integer below 2^53.")),
        }
    }
}

async fn leave(
    State(control): State<Control>,
    caller: Caller,
    TwoIds(bot, conversation): TwoIds,
) -> Result<StatusCode, Problem> {
    let conversation = ConversationId::parse(&conversation)
        .ok_or_else(|| Problem::bad_request("conversation_id: Must be the id of a conversation, like room_6."))?;
    own(&control, caller.user, bot).await?;
    let_leave(&control, &caller, bot, conversation).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenToken {
    name: String,
    scopes: Vec<String>,
    #[serde(default)]
    conversation_ids: Vec<ConversationId>,
    expires_in_s: Option<u32>,
}

/// The scopes, each once.
fn checked_scopes(given: &[String]) -> Result<Vec<&'static str>, Problem> {
    let names = || Scope::ALL.map(Scope::as_str).join(", ");
    if given.is_empty() {
        return Err(Problem::bad_request(format!("scopes: Name at least one of {}.", names())));
    }
    let unknown = given.iter().find(|name| Scope::parse(name).is_none());
    if let Some(unknown) = unknown {
        let unknown: String = unknown.chars().take(50).collect();
        return Err(Problem::bad_request(format!("scopes: There is no scope {unknown:?}. Choose from {}.", names())));
    }
    let is_given = |scope: &Scope| given.iter().any(|name| name == scope.as_str());
    Ok(Scope::ALL.into_iter().filter(is_given).map(Scope::as_str).collect())
}

async fn create_token(
    State(control): State<Control>,
    caller: Caller,
    PathId(bot): PathId,
    Json(given): Json<GivenToken>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let name = validate::visible_name("name", &given.name)?;
    let scopes = checked_scopes(&given.scopes)?;
    let conversations: BTreeSet<ConversationId> = given.conversation_ids.into_iter().collect();
    if conversations.len() > TOKEN_CONVERSATIONS_MAX {
        let most = TOKEN_CONVERSATIONS_MAX;
        let detail = format!("conversation_ids: A token can be limited to {most} conversations at most.");
        return Err(Problem::bad_request(detail));
    }
    let conversations: Vec<ConversationId> = conversations.into_iter().collect();
    let seconds = given.expires_in_s.unwrap_or(TOKEN_SECONDS_DEFAULT);
    if !(1..=TOKEN_SECONDS_MAX).contains(&seconds) {
        let detail = format!("expires_in_s: Must be 1 to {TOKEN_SECONDS_MAX} seconds, which is a year.");
        return Err(Problem::bad_request(detail));
    }
    let bot = UserId(bot);
    let token = control.live().keys.issue_bot_token(bot);
    let new = NewToken {
        name: &name,
        hash: &random_token::hash(&token),
        scopes: &scopes,
        conversations: &conversations,
        seconds,
    };
    let added = store(&control).add_token(&caller, bot, new).await?;
    let (id, expires_at) = added.ok_or_else(no_such_bot)?;
    let shown = json!({
        "id": id, "token": token, "name": name, "scopes": scopes, "conversation_ids": conversations,
        "expires_at": rfc3339(expires_at),
    });
    Ok((StatusCode::CREATED, Reply(shown)))
}

fn shown_token(token: &TokenInfo) -> Value {
    json!({
        "id": token.id, "name": token.name, "scopes": token.scopes, "conversation_ids": token.conversations,
        "created_at": rfc3339(token.created_at), "expires_at": rfc3339(token.expires_at),
        "last_used_at": token.last_used_at.map(rfc3339),
    })
}

async fn list_tokens(
    State(control): State<Control>,
    reader: AccountReader,
    PathId(bot): PathId,
) -> Result<Reply<Value>, Problem> {
    let (owner, bot) = (reader.caller.user, UserId(bot));
    own(&control, owner, bot).await?;
    let tokens: Vec<Value> = store(&control).tokens(owner, bot).await?.iter().map(shown_token).collect();
    Ok(Reply(json!({ "tokens": tokens })))
}

async fn revoke_token(
    State(control): State<Control>,
    caller: Caller,
    TwoIds(bot, token): TwoIds,
) -> Result<StatusCode, Problem> {
    let no_such_token = || Problem::not_found("The bot has no such token, or the bot is not yours.");
    let token = token.parse().ok().filter(|id| (1..=MAX_SAFE_INTEGER).contains(id)).map(SessionId);
    let token = token.ok_or_else(no_such_token)?;
    shielded(async move {
        if !store(&control).revoke_token(&caller, bot, token).await? {
            return Err(no_such_token());
        }
        control.notify_revoked([token]);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_known_names_each_once() {
        let checked = |names: &[&str]| checked_scopes(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(checked(&["write", "read", "write"]).unwrap(), ["read", "write"]);
        let refused = checked(&["read", "admin"]).unwrap_err();
        assert!(refused.code == "bad_request" && refused.detail.contains("admin"));
        assert!(checked(&[]).is_err());
    }
}
