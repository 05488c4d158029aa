//! Public links: `POST`, `GET /files/{id}/shares`, `DELETE /files/{id}/shares/{share}`, and `GET
//! /shared/{token}/{name}`.
//!
//! Invariants:
//! - without `files.public_links`, nothing is shared, and links that were made earlier end;
//! - the token alone permits to read the file. It has 256 random bits, and the database stores only its hash;
//! - a link ends when it expires, when it is revoked, when the file goes, and when its maker may not read the file any
//!   longer. Making and revoking it are rows of the audit trail.

use super::downloads::{ASKED_EACH_TIME, ContentReader, ServedContent, serve};
use super::refusals::no_such_file;
use crate::auth::random_token;
use crate::control::Control;
use crate::control::extract::{AccountReader, Caller, Json, PathId, PeerAddress};
use crate::control::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::files::{kind, name};
use crate::ids::FileId;
use crate::mesh::record::rfc3339;
use axum::Json as Reply;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

/// How long a link is valid unless its maker says otherwise, and at most.
const LIFE_SECONDS: i64 = 7 * 86_400;
const LIFE_SECONDS_MAX: i64 = 90 * 86_400;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewShare {
    expires_in_s: Option<i64>,
}

fn may_share(control: &Control) -> Result<(), Problem> {
    if control.files().parts().has_public_links {
        return Ok(());
    }
    let detail = "Public links are switched off on this server (files.public_links).";
    Err(Refusal::new(ErrorCode::Forbidden, detail).into())
}

pub(super) async fn share(
    State(control): State<Control>,
    caller: Caller,
    PathId(id): PathId,
    Json(given): Json<NewShare>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    may_share(&control)?;
    let life_s = given.expires_in_s.unwrap_or(LIFE_SECONDS);
    if !(60..=LIFE_SECONDS_MAX).contains(&life_s) {
        return Err(Problem::bad_request(format!("expires_in_s: Must be between 60 and {LIFE_SECONDS_MAX}.")));
    }
    let file = FileId(id);
    let found = control.files().rows().readable(caller.user, file).await?.ok_or_else(no_such_file)?;
    let token = random_token::new_token();
    let made = control.files().shares().share(&caller, file, &random_token::hash(&token), life_s).await?;
    let share = made.ok_or_else(no_such_file)?;
    let name = name::path_segment(found.shown["name"].as_str().unwrap_or("file"));
    let answer = json!({"id": share, "url": format!("/shared/{token}/{name}"), "expires_in_s": life_s});
    Ok((StatusCode::CREATED, Reply(answer)))
}

pub(super) async fn list(
    State(control): State<Control>,
    reader: AccountReader,
    PathId(id): PathId,
) -> Result<Reply<Value>, Problem> {
    let shares = control.files().shares().list(reader.caller.user, FileId(id)).await?;
    let items: Vec<Value> = shares
        .into_iter()
        .map(|share| {
            json!({"id": share.id, "user_id": share.user, "created_at": rfc3339(share.created_at),
                   "expires_at": rfc3339(share.expires_at)})
        })
        .collect();
    Ok(Reply(json!({"items": items})))
}

pub(super) async fn revoke(
    State(control): State<Control>,
    caller: Caller,
    Path((id, share)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (Ok(id), Ok(share)) = (id.parse(), share.parse()) else { return Err(no_such_share()) };
    if control.files().shares().revoke(&caller, FileId(id), share).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(no_such_share())
}

fn no_such_share() -> Problem {
    Problem::not_found("There is no such link, or you may not revoke it.")
}

pub(super) async fn read(
    State(control): State<Control>,
    Path((token, _)): Path<(String, String)>,
    peer: PeerAddress,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if may_share(&control).is_err() || !random_token::is_token(&token) {
        return Err(no_such_file());
    }
    let place = control.files().admit_public(peer.network())?;
    let found = control.files().shares().shared(&random_token::hash(&token)).await?.ok_or_else(no_such_file)?;
    let content = found.content.ok_or_else(no_such_file)?;
    let media_type = found.shown["media_type"].as_str().unwrap_or(kind::UNKNOWN);
    let name = found.shown["name"].as_str().unwrap_or("file");
    let reader = ContentReader::Public { token_hash: random_token::hash(&token), _place: place };
    let served = ServedContent { content, media_type, name, caching: ASKED_EACH_TIME };
    serve(control.files(), reader, &served, &method, &headers).await
}
