//! `POST /api/commands`: one WebSocket command as a request, for scripts and bots.
//!
//! The command goes through the owner shard like a command of a WebSocket. So order, idempotence, rate limits and
//! permissions are the same.

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

/// The reply to a command.
pub type CommandFuture = Pin<Box<dyn Future<Output = Result<Bytes, Refusal>> + Send>>;

/// The port to the shards.
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
