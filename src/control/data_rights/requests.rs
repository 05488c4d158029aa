//! Requests of erasures.

use super::super::extract::{Json, PathId, PeerAddress};
use super::super::operators::require_admin_change;
use super::super::problem::Problem;
use super::super::second_factor::FactorCaller;
use super::super::state::{Control, shielded};
use super::proof::{OwnerProof, reauthenticate, rights};
use super::state::new_id;
use crate::audit::caller::Caller;
use crate::audit::erasure::is_erasure_id;
use crate::ids::UserId;
use crate::mesh::record::rfc3339;
use axum::Json as Reply;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use std::time::Instant;

pub(super) async fn erase_me(
    State(control): State<Control>,
    factor: FactorCaller,
    peer: PeerAddress,
    Json(proof): Json<OwnerProof>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let caller = reauthenticate(&control, factor, peer, proof).await?;
    let user = caller.user;
    request(control, caller, user).await
}

pub(super) async fn erase_user(
    State(control): State<Control>,
    factor: FactorCaller,
    PathId(id): PathId,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    require_admin_change(&control, &factor).await?;
    request(control, factor.caller, UserId(id)).await
}

async fn request(control: Control, caller: Caller, user: UserId) -> Result<(StatusCode, Reply<Value>), Problem> {
    let rights = rights(&control)?;
    shielded(async move {
        let id = new_id();
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
pub(super) async fn show(
    State(control): State<Control>,
    peer: PeerAddress,
    Path(id): Path<String>,
) -> Result<Reply<Value>, Problem> {
    control.erasure_reads().charge(peer.network(), Instant::now())?;
    let state = if is_erasure_id(&id) { rights(&control)?.requests().state(&id).await? } else { None };
    let state = state.ok_or_else(|| Problem::not_found("There is no erasure with this id."))?;
    let (completed_at, receipt) = state.completed.unzip();
    Ok(Reply(json!({
        "state": if receipt.is_some() { "completed" } else { "running" },
        "requested_at": rfc3339(state.requested_at), "completed_at": completed_at.map(rfc3339),
        "removed": state.counts, "receipt": receipt,
    })))
}
