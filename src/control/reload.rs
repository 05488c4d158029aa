//! `POST /admin/reload`: reads the configuration of this server again.

use super::Control;
use super::operators::require_admin;
use super::problem::Problem;
use super::second_factor::FactorCaller;
use super::state::shielded;
use axum::{Json as Reply, extract::State};
use std::time::Instant;

pub use super::ports::{RejectedValue, ReloadFuture, ReloadPort, ReloadReport};

pub(super) async fn reload(
    State(control): State<Control>,
    factor: FactorCaller,
) -> Result<Reply<ReloadReport>, Problem> {
    require_admin(factor.caller.user, &control.live().factor_policy.admins)?;
    control.reloads().charge(factor.caller.user, Instant::now())?;
    let reloading = control.reload().reload(factor.caller);
    shielded(async { Ok(Reply(reloading.await?)) }).await
}
