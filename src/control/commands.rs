//! `POST /api/commands`: one WebSocket command as a request, for scripts and bots.
//!
//! The command goes through the owner shard like a command of a WebSocket. So order, idempotence, rate limits and
//! permissions are the same.

use super::{
    Control,
    extract::{Caller, Granted, RawBody},
    problem::Problem,
};
use axum::{extract::State, http::header, response::IntoResponse};

pub use super::ports::{CommandFuture, CommandPort};

pub(super) async fn execute(
    State(control): State<Control>,
    caller: Caller,
    Granted(grant): Granted,
    RawBody(body): RawBody,
) -> Result<impl IntoResponse, Problem> {
    let data = control.commands().execute(caller, grant, body).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], data))
}
