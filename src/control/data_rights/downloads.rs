//! Copies of the caller's data: asking for one, its state, and its archive.

use super::super::extract::{AccountReader, Caller, Json, PeerAddress};
use super::super::files::{ContentReader, ServedContent, serve};
use super::super::problem::Problem;
use super::super::second_factor::FactorCaller;
use super::super::state::{Control, shielded};
use super::proof::{OwnerProof, reauthenticate, rights};
use super::state::new_id;
use crate::ids::UserId;
use crate::mesh::record::rfc3339;
use crate::storage::data_rights::exports::ExportState;
use axum::Json as Reply;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

/// Caches must not keep it.
const NOT_STORED: &str = "private, no-store";

pub(super) async fn request(
    State(control): State<Control>,
    factor: FactorCaller,
    peer: PeerAddress,
    Json(proof): Json<OwnerProof>,
) -> Result<(StatusCode, Reply<Value>), Problem> {
    let caller = reauthenticate(&control, factor, peer, proof).await?;
    let rights = rights(&control)?;
    shielded(async move {
        let id = new_id();
        let requested = rights.exports().request(&id, &caller).await?;
        let id = requested.ok_or_else(Problem::internal)?;
        rights.work_arrived();
        Ok((StatusCode::ACCEPTED, Reply(json!({"export_id": id, "status_url": format!("/users/me/exports/{id}")}))))
    })
    .await
}

fn shown(export: &ExportState) -> Value {
    let id = &export.id;
    let mut shown = json!({
        "export_id": id, "state": "running", "requested_at": rfc3339(export.requested_at),
        "completed_at": null, "expires_at": null, "size": null, "sha256": null, "archive_url": null,
    });
    if let Some(archive) = &export.archive {
        shown["state"] = "ready".into();
        shown["completed_at"] = rfc3339(archive.completed_at).into();
        shown["expires_at"] = rfc3339(archive.expires_at).into();
        shown["size"] = archive.content.size.into();
        shown["sha256"] = archive.content.name.hash.to_string().into();
        shown["archive_url"] = format!("/users/me/exports/{id}/archive").into();
    }
    shown
}

async fn found(control: &Control, user: UserId, id: &str) -> Result<ExportState, Problem> {
    let exports = rights(control)?.exports().of_user(user).await?;
    let found = exports.into_iter().find(|export| export.id == id);
    found.ok_or_else(|| Problem::not_found("You have no copy with this id, or it has expired."))
}

pub(super) async fn list(State(control): State<Control>, reader: AccountReader) -> Result<Reply<Value>, Problem> {
    let exports = rights(&control)?.exports().of_user(reader.caller.user).await?;
    Ok(Reply(json!({"exports": exports.iter().map(shown).collect::<Vec<_>>()})))
}

pub(super) async fn show(
    State(control): State<Control>,
    reader: AccountReader,
    Path(id): Path<String>,
) -> Result<Reply<Value>, Problem> {
    Ok(Reply(shown(&found(&control, reader.caller.user, &id).await?)))
}

/// The archive. `Range` continues a download that was cut short.
pub(super) async fn archive(
    State(control): State<Control>,
    caller: Caller,
    Path(id): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = control.files().admit_download(caller.user)?;
    let export = found(&control, caller.user, &id).await?;
    let archive = export.archive.ok_or_else(|| Problem::not_found("The copy is still being made."))?;
    let served = ServedContent {
        content: archive.content,
        media_type: "application/zip",
        name: "your-data.zip",
        caching: NOT_STORED,
    };
    serve(control.files(), ContentReader::Owner { _place: place }, &served, &method, &headers).await
}
