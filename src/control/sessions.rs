//! `/auth/sessions` and `/auth/password`: what a signed-in user does about their sign-ins.
//!
//! A revocation and its notice to the shards are one task of their own ([`super::shielded`]): a client that hangs
//! up in between must not leave a revoked session's sockets open.

use super::{
    Control,
    extract::{Caller, Json, PathId},
    problem::Problem,
    shielded, view,
};
use crate::auth::password;
use crate::error::{ErrorCode, Refusal};
use crate::ids::SessionId;
use axum::{Json as Answer, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub(super) struct Sessions {
    sessions: Vec<view::Session>,
}

pub(super) async fn list(State(control): State<Control>, caller: Caller) -> Result<Answer<Sessions>, Problem> {
    let sessions = control.accounts().list_sessions(caller.user).await?;
    let sessions = sessions.into_iter().map(|info| view::Session::new(info, caller.session)).collect();
    Ok(Answer(Sessions { sessions }))
}

pub(super) async fn revoke(
    State(control): State<Control>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    if revoke_one(control, caller, SessionId(id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found("you have no active session with this id"))
    }
}

pub(super) async fn logout(State(control): State<Control>, caller: Caller) -> Result<StatusCode, Problem> {
    // Already revoked by somebody else a moment ago: what was asked for is the case.
    revoke_one(control, caller, caller.session).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke_one(control: Control, caller: Caller, session: SessionId) -> Result<bool, Problem> {
    shielded(async move {
        let revoked = control.accounts().revoke_session(caller.user, session).await?;
        if revoked {
            control.notify_revoked([session]);
        }
        Ok(revoked)
    })
    .await
}

pub(super) async fn logout_all(State(control): State<Control>, caller: Caller) -> Result<StatusCode, Problem> {
    shielded(async move {
        control.notify_revoked(control.accounts().revoke_all(caller.user).await?);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct NewPassword {
    current_password: String,
    new_password: String,
}

pub(super) async fn change_password(
    State(control): State<Control>,
    caller: Caller,
    Json(body): Json<NewPassword>,
) -> Result<StatusCode, Problem> {
    let login = control
        .accounts()
        .find_login_by_id(caller.user)
        .await?
        .ok_or_else(|| Problem::unauthenticated("the account is no longer active"))?;
    password::check_policy(&body.new_password, &login.username)
        .map_err(|refused| Problem::bad_request(refused.to_string().replacen("password", "new_password", 1)))?;
    let opens = control.hashing().verify(body.current_password, Some(login.password_hash.clone())).await?;
    control.metrics().auth_attempt("password", if opens { "success" } else { "failure" });
    if !opens {
        // 403 and not 401: the token is good, and a client must not throw it away over this.
        return Err(Refusal::new(ErrorCode::Forbidden, "current_password: is wrong").into());
    }
    let new_hash = control.hashing().hash(body.new_password).await?;
    shielded(async move {
        let Some(revoked) = control.accounts().change_password(&login, &new_hash, caller.session).await? else {
            return Err(
                Refusal::new(ErrorCode::Conflict, "the password was changed meanwhile; nothing was done").into()
            );
        };
        control.notify_revoked(revoked);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
