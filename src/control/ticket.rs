//! `POST /ws-ticket`: a token for `GET /ws?ticket=`, for browsers, which cannot set headers on a WebSocket.
//!
//! It is signed and not stored. The server that accepts it stores its id until it has expired.

use super::{Control, extract::Caller, now_seconds};
use axum::{Json, extract::State};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Ticket {
    ticket: String,
}

pub(super) async fn issue(State(control): State<Control>, caller: Caller) -> Json<Ticket> {
    Json(Ticket { ticket: control.live().keys.issue_ticket(caller.user, caller.session, now_seconds()) })
}
