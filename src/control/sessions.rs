//! `/auth/sessions` and `/auth/password`: users manage their sessions.
//!
//! A revocation and its notice to the shards run in a task of their own ([`super::shielded`]). Otherwise a client that
//! disconnects in between would leave the sockets of a revoked session open.

use super::{
    Control, current_password,
    extract::{AccountReader, Caller, Json, PathId, PeerAddress},
    problem::Problem,
    second_factor::{FactorCaller, GivenCode},
    shielded, two_factor, view,
};
use crate::auth::password;
use crate::error::{ErrorCode, Refusal};
use crate::ids::SessionId;
use crate::storage::accounts::passwords::PasswordOutcome;
use axum::{Json as Reply, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub(super) struct Sessions {
    sessions: Vec<view::SessionView>,
}

pub(super) async fn list(State(control): State<Control>, reader: AccountReader) -> Result<Reply<Sessions>, Problem> {
    let caller = reader.caller;
    let sessions = control.accounts().list_sessions(caller.user).await?;
    let sessions = sessions.into_iter().map(|info| view::SessionView::new(info, caller.session)).collect();
    Ok(Reply(Sessions { sessions }))
}

pub(super) async fn revoke(
    State(control): State<Control>,
    factor: FactorCaller,
    PathId(id): PathId,
) -> Result<StatusCode, Problem> {
    if SessionId(id) != factor.caller.session {
        factor.require_fresh(&control).await?;
    }
    if revoke_one(control, factor.caller, SessionId(id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(Problem::not_found("You have no active session with this id. GET /auth/sessions lists them."))
    }
}

pub(super) async fn logout(State(control): State<Control>, caller: Caller) -> Result<StatusCode, Problem> {
    // A session that was revoked a moment ago is logged out too.
    let session = caller.session;
    revoke_one(control, caller, session).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke_one(control: Control, caller: Caller, session: SessionId) -> Result<bool, Problem> {
    shielded(async move {
        let revoked = control.accounts().revoke_session(&caller, session).await?;
        if revoked {
            control.notify_revoked([session]);
        }
        Ok(revoked)
    })
    .await
}

pub(super) async fn logout_all(State(control): State<Control>, caller: Caller) -> Result<StatusCode, Problem> {
    shielded(async move {
        control.notify_revoked(control.accounts().revoke_all(&caller).await?);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

#[derive(Deserialize)]
pub(super) struct PasswordChange {
    current_password: String,
    new_password: String,
    code: Option<String>,
    backup_code: Option<String>,
}

pub(super) async fn change_password(
    State(control): State<Control>,
    factor: FactorCaller,
    peer: PeerAddress,
    Json(body): Json<PasswordChange>,
) -> Result<StatusCode, Problem> {
    let code = GivenCode::read("code", body.code, body.backup_code)?.filter(|_| factor.state.enabled);
    if code.is_none() {
        factor.require_fresh(&control).await?;
    }
    let caller = factor.caller;
    let login = current_password::account(&control, caller.user).await?;
    password::check_policy(&body.new_password, &login.username)
        .map_err(|refused| Problem::bad_request(refused.to_string().replacen("password", "new_password", 1)))?;
    let client = control.sign_ins().sign_in(peer.network())?;
    let names = control.accounts().own_names(caller.user).await?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    password::check_strength(&body.new_password, &names)
        .map_err(|refused| Problem::bad_request(refused.to_string().replacen("password", "new_password", 1)))?;
    let current = ("current_password", body.current_password);
    let check = current_password::check(&control, &login, client, peer, current).await?;
    check.succeeded();
    // Used up with the change only, so that a change that fails does not cost the user a code.
    let factor = match code {
        Some(code) => Some(two_factor::check_again(&control, &caller, peer, code).await?),
        None => None,
    };
    let new_hash = control.hashing().hash(client, body.new_password).await?;
    shielded(async move {
        let code = factor.as_ref().map(|given| given.code);
        let outcome = control.accounts().change_password(&login, &new_hash, code, &caller).await?;
        if let Some(given) = factor.filter(|_| outcome != PasswordOutcome::Outdated) {
            given.settle(&control, outcome != PasswordOutcome::UsedCode)?;
        }
        let PasswordOutcome::Changed(revoked) = outcome else {
            let detail = "The password was changed meanwhile. Nothing was changed. Sign in again.";
            return Err(Refusal::new(ErrorCode::Conflict, detail).into());
        };
        control.notify_revoked(revoked);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}
