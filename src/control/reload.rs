//! `POST /admin/reload`: reads the configuration of this server again.

use super::Control;
use super::operators::require_admin;
use super::problem::Problem;
use super::second_factor::FactorCaller;
use super::state::shielded;
use crate::audit::caller::Caller;
use crate::error::Refusal;
use axum::{Json as Reply, extract::State};
use serde::Serialize;
use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

/// The outcome of a reload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReloadReport {
    /// Keys whose new values are in force.
    pub applied: Vec<String>,
    /// Keys that have changed, and need a restart.
    pub restart_required: Vec<String>,
    /// Why the configuration was not applied; then nothing was.
    pub rejected: Vec<RejectedValue>,
}

/// A problem of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RejectedValue {
    /// The key; empty if the problem is a whole file.
    pub key: String,
    /// What is wrong, and what is valid.
    pub reason: String,
    /// The file or the variable that has it.
    pub origin: String,
}

/// The outcome, once it is known.
pub type ReloadFuture = Pin<Box<dyn Future<Output = Result<ReloadReport, Refusal>> + Send>>;

/// What can load the configuration.
pub trait ReloadPort: Send + Sync {
    /// Loads it for this administrator.
    fn reload(&self, caller: Caller) -> ReloadFuture;
}

pub(super) async fn reload(
    State(control): State<Control>,
    factor: FactorCaller,
) -> Result<Reply<ReloadReport>, Problem> {
    require_admin(factor.caller.user, &control.live().factor_policy.admins)?;
    control.reloads().charge(factor.caller.user, Instant::now())?;
    let reloading = control.reload().reload(factor.caller);
    shielded(async { Ok(Reply(reloading.await?)) }).await
}
