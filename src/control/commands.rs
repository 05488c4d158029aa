//! `POST /api/commands`: one WebSocket command as a request, for scripts and bots.
//!
//! The command takes the same road as one from a socket, through the shard that owns its conversation, so order,
//! idempotence, budgets and permissions are the same. Only the port knows that road.

use super::{
    Control,
    extract::{Caller, RawBody},
    problem::Problem,
};
use crate::error::Refusal;
use axum::{extract::State, http::header, response::IntoResponse};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;

/// What a command becomes.
pub type CommandFuture = Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

/// The way to the shards.
pub trait CommandPort: Send + Sync {
    /// Executes one command, `{"type", "id"?, "data"}`, and returns its ack's `data` as JSON.
    fn execute(&self, caller: Caller, body: Bytes) -> CommandFuture;
}

pub(super) async fn execute(
    State(control): State<Control>,
    caller: Caller,
    RawBody(body): RawBody,
) -> Result<impl IntoResponse, Problem> {
    let data = control.commands().execute(caller, body).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], data))
}
