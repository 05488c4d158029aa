//! Who sees what only operators should: the metrics, the dashboard, and the reasons of failing health checks.
//!
//! These show how much a server is used and where it is weak. In development everybody sees them. Otherwise a request
//! must come through the listener of `server.internal_addr`, or carry `server.metrics_token` or the access token of a
//! user in `security.admin_user_ids`.

use super::access::{Access, MetricsToken};
use super::extract::{authenticate, bearer};
use super::problem::Problem;
use super::state::{Control, now_seconds};
use crate::auth::token::AccessClaims;
use crate::error::{ErrorCode, Refusal};
use crate::ids::UserId;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::convert::Infallible;

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

/// An operator, or a refusal.
pub struct Operator {
    /// The claims of an administrator; `None` if the request needs no user.
    pub claims: Option<AccessClaims>,
}

impl FromRequestParts<Control> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let access = control.access();
        let admins = match access {
            Access::Operators { admins, .. } if !needs_no_user(parts, access) => admins,
            Access::Operators { .. } | Access::Everyone => return Ok(Self { claims: None }),
        };
        let (claims, _) = authenticate(parts, control).await?;
        require_admin(claims.user, admins)?;
        Ok(Self { claims: Some(claims) })
    }
}

/// Whether an operator asks. It does not ask PostgreSQL about the session of an administrator, because health must be
/// answered without PostgreSQL.
pub(super) struct IsOperator(pub(super) bool);

impl FromRequestParts<Control> for IsOperator {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Infallible> {
        let access = control.access();
        let is_admin = |admins: &[UserId]| {
            let claims = bearer(&parts.headers).ok().map(|token| control.keys().verify_access(token, now_seconds()));
            matches!(claims, Some(Ok(claims)) if admins.contains(&claims.user))
        };
        Ok(Self(match access {
            Access::Everyone => true,
            Access::Operators { admins, .. } => needs_no_user(parts, access) || is_admin(admins),
        }))
    }
}
