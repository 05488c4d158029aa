//! Who sees what only operators should: the metrics, the dashboard, and the reasons of failing health checks.
//!
//! These show how much a server is used and where it is weak. In development everybody sees them. Otherwise a request
//! must come through the listener of `server.internal_addr`, or carry `server.metrics_token` or the access token of a
//! user in `security.admin_user_ids`.

use super::access::{Access, MetricsToken};
use super::extract::{Caller, TokenClaims, authenticate, bearer, caller, signed, with_session};
use super::problem::Problem;
use super::request_budget::RequestKind;
use super::second_factor::{FactorCaller, step_up_required};
use super::state::{Control, now_seconds};
use crate::error::{ErrorCode, Refusal};
use crate::ids::UserId;
use crate::mesh::quota::QuotaPlace;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;
use std::time::{Duration, Instant};

/// Marks requests of the internal listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Internal;

/// Whether the request may see everything without a user: it came from inside, or has the token for programs.
fn needs_no_user(parts: &Parts, access: &Access) -> bool {
    let Access::Operators { metrics_token, .. } = access else { return true };
    let presented = || bearer(&parts.headers).ok().map(MetricsToken::new);
    parts.extensions.get::<Internal>().is_some() || (metrics_token.is_some() && presented() == *metrics_token)
}

/// Refuses users who are no administrators.
pub(super) fn require_admin(user: UserId, admins: &[UserId]) -> Result<(), Problem> {
    if admins.contains(&user) {
        return Ok(());
    }
    let detail =
        format!("This is for administrators. Add the id of this account, {}, to security.admin_user_ids.", user.0);
    Err(Refusal::new(ErrorCode::Forbidden, detail).into())
}

/// Passes administrators whose second factor is fresh, if they have one: what a change for others needs.
///
/// # Errors
/// `forbidden`, `step_up_required`.
pub(super) async fn require_admin_change(control: &Control, factor: &FactorCaller) -> Result<(), Problem> {
    require_admin(factor.caller.user, &control.live().factor_policy.admins)?;
    factor.require_fresh(control).await
}

/// An operator, or a refusal.
pub struct Operator {
    /// The claims of an administrator; `None` if the request needs no user.
    pub claims: Option<TokenClaims>,
}

impl FromRequestParts<Control> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let access = control.access();
        let admins = match access {
            Access::Operators { ref admins, .. } if !needs_no_user(parts, &access) => admins.clone(),
            Access::Operators { .. } | Access::Everyone => return Ok(Self { claims: None }),
        };
        let (claims, _) = authenticate(parts, control).await?;
        require_admin(claims.user, &admins)?;
        Ok(Self { claims: Some(claims) })
    }
}

/// An administrator who reads what the server keeps about others: `GET /admin/…`. With two-factor authentication, the
/// session needs a second factor of the last hour. The read has a place among those of its user until it ends.
pub(super) struct AdminReader {
    pub(super) caller: Caller,
    _place: QuotaPlace<UserId>,
}

impl FromRequestParts<Control> for AdminReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let mut claims = signed(parts, control)?;
        // Before the session is looked up, which takes a connection too.
        let place = control.account_reads().admit(claims.user)?;
        let state = with_session(&mut claims, parts, control).await?;
        require_admin(claims.user, &control.live().factor_policy.admins)?;
        if state.enabled && !state.may_read {
            return Err(step_up_required(control, claims.user, "hour").await);
        }
        Ok(Self { caller: caller(claims, parts), _place: place })
    }
}

/// Health is answered without PostgreSQL. An administrator whose session cannot be looked up in this time is answered
/// like everybody else, and so is one who has sent too many requests. The reasons then show with
/// `server.metrics_token`, or through `server.internal_addr`.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether an operator asks. The session of an administrator must be active, and have the second factor that its
/// account needs: a revoked token shows nothing.
pub(super) struct IsOperator(pub(super) bool);

impl FromRequestParts<Control> for IsOperator {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Infallible> {
        let access = control.access();
        Ok(Self(match &access {
            Access::Everyone => true,
            Access::Operators { admins, .. } => {
                needs_no_user(parts, &access) || is_active_admin(parts, control, admins).await
            }
        }))
    }
}

async fn is_active_admin(parts: &Parts, control: &Control, admins: &[UserId]) -> bool {
    let claims = bearer(&parts.headers).ok().map(|token| control.live().keys.verify_access(token, now_seconds()));
    let Some(Ok(claims)) = claims.filter(|claims| matches!(claims, Ok(claims) if admins.contains(&claims.user))) else {
        return false;
    };
    let (requests, now) = (control.requests(), Instant::now());
    if requests.has_ended(claims.session, now) || requests.charge(RequestKind::Other, claims.user, now).is_err() {
        return false;
    }
    let state = tokio::time::timeout(LOOK_UP_TIMEOUT, control.accounts().session_state(claims.user, claims.session));
    match state.await {
        Ok(Ok(Some(state))) => state.enabled || !control.live().factor_policy.requires(claims.user),
        Ok(Ok(None) | Err(_)) | Err(_) => false,
    }
}
