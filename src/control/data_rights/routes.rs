//! Routes of data rights. Those that cannot be undone, or show everything, need the password again.

use super::super::current_password;
use super::super::extract::{Json, PathId, PeerAddress};
use super::super::operators::require_admin;
use super::super::problem::Problem;
use super::super::second_factor::{FactorCaller, GivenCode};
use super::super::state::{Control, shielded};
use super::super::two_factor;
use super::{DataRights, downloads, holds};
use crate::audit::caller::Caller;
use crate::audit::erasure::is_erasure_id;
use crate::error::{ErrorCode, Refusal};
use crate::ids::UserId;
use crate::mesh::record::rfc3339;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json as Reply, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Instant;

pub(in super::super) fn router() -> Router<Control> {
    Router::new()
        .route("/users/me", delete(erase_me))
        .route("/admin/users/{id}", delete(erase_user))
        .route("/erasures/{id}", get(show))
        .route("/admin/holds", post(holds::create).get(holds::list))
        .route("/admin/holds/{id}", delete(holds::release))
        .route("/users/me/exports", post(downloads::request).get(downloads::list))
        .route("/users/me/exports/{id}", get(downloads::show))
        .route("/users/me/exports/{id}/archive", get(downloads::archive))
}

/// The password again, and a code if the account has a second factor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Proof {
    password: String,
    code: Option<String>,
    backup_code: Option<String>,
}

/// Checks that the person at the device is the owner of the account.
///
/// # Errors
/// `forbidden` for a wrong password, `step_up_required`, `two_factor_invalid`, and those of the limits.
pub(super) async fn reauthenticate(
    control: &Control,
    factor: FactorCaller,
    peer: PeerAddress,
    proof: Proof,
) -> Result<Caller, Problem> {
    let code = GivenCode::read("code", proof.code, proof.backup_code)?.filter(|_| factor.state.enabled);
    if code.is_none() {
        factor.require_fresh(control).await?;
    }
    let caller = factor.caller;
    let login = current_password::account(control, caller.user).await?;
    let client = control.sign_ins().sign_in(peer.network())?;
    let check = current_password::check(control, &login, client, peer, ("password", proof.password)).await?;
    check.succeeded();
    if let Some(code) = code {
        two_factor::give_again(control, &caller, peer, code).await?;
    }
    Ok(caller)
}

pub(super) fn rights(control: &Control) -> Result<DataRights, Problem> {
    control.data_rights().cloned().ok_or_else(|| {
        let detail = "This server has no key that signs receipts, so it cannot erase anybody. Its log says why.";
        Refusal::new(ErrorCode::StorageUnavailable, detail).into()
    })
}

async fn erase_me(
    State(control): State<Control>,
    factor: FactorCaller,
    peer: PeerAddress,
    Json(proof): Json<Proof>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let caller = reauthenticate(&control, factor, peer, proof).await?;
    let user = caller.user;
    request(control, caller, user).await
}

async fn erase_user(
    State(control): State<Control>,
    factor: FactorCaller,
    PathId(id): PathId,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    require_admin(factor.caller.user, &control.live().factor_policy.admins)?;
    factor.require_fresh(&control).await?;
    request(control, factor.caller, UserId(id)).await
}

async fn request(control: Control, caller: Caller, user: UserId) -> Result<(StatusCode, Reply<Value>), Problem> {
    let rights = rights(&control)?;
    shielded(async move {
        let id = format!("{:032x}", rand::random::<u128>());
        let requested = rights.requests().request(&id, user, &caller).await?;
        let requested = requested.ok_or_else(|| Problem::not_found("No user has this id."))?;
        control.notify_revoked(requested.revoked);
        if let Err(refusal) = rights.parts.ledger.add(&requested.record).await {
            // The job tries again, and removes nothing before it succeeds.
            tracing::error!("an erasure is not in the ledger yet: {refusal}");
        }
        rights.work_arrived();
        let id = requested.record.id;
        let body = json!({
            "erasure_id": id, "status_url": format!("/erasures/{id}"),
            "requested_at": rfc3339(requested.record.requested_at),
        });
        Ok((StatusCode::ACCEPTED, Reply(body)))
    })
    .await
}

/// Anybody who has the id: the person cannot sign in any longer.
async fn show(
    State(control): State<Control>,
    peer: PeerAddress,
    Path(id): Path<String>,
) -> Result<Reply<Value>, Problem> {
    control.erasure_reads().charge(peer.network(), Instant::now())?;
    let state = match is_erasure_id(&id) {
        true => rights(&control)?.requests().state(&id).await?,
        false => None,
    };
    let state = state.ok_or_else(|| Problem::not_found("There is no erasure with this id."))?;
    let (completed_at, receipt) = state.completed.unzip();
    Ok(Reply(json!({
        "state": if receipt.is_some() { "completed" } else { "running" },
        "requested_at": rfc3339(state.requested_at), "completed_at": completed_at.map(rfc3339),
        "removed": state.counts, "receipt": receipt,
    })))
}
