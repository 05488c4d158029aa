//! Checks of second factors, for every handler that needs one: what the client sent, the limits, the secret.
//!
//! 1. [`GivenCode`] is what the client sent.
//! 2. [`check`] compares it with the secret, after the limits of wrong codes. It does not use the code up.
//! 3. The handler uses it up in the transaction of its effect ([`crate::storage::accounts::two_factor`]), and reports
//!    to the limits whether that succeeded.

use super::extract::{Caller, PeerAddress, authenticate, caller};
use super::problem::Problem;
use super::sign_in_limits::PasswordCheck;
use super::state::{Control, now_seconds};
use crate::auth::sealed::{SealedOwner, SealedSecret};
use crate::auth::totp;
use crate::error::{ErrorCode, Refusal};
use crate::faults::error_limited;
use crate::ids::UserId;
use crate::storage::accounts::two_factor::{CheckedFactor, FactorState, StoredSecret};
use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde_json::{Value, json};

/// A code as the client sent it.
pub(super) enum GivenCode {
    /// Of the authenticator app.
    App(String),
    /// One of the backup codes.
    Backup(String),
}

impl GivenCode {
    /// The code that was sent, if any. `name` is the field of the app's code.
    ///
    /// # Errors
    /// `bad_request` for two codes.
    pub(super) fn read(name: &str, app: Option<String>, backup: Option<String>) -> Result<Option<Self>, Problem> {
        match (app, backup) {
            (None, None) => Ok(None),
            (Some(code), None) => Ok(Some(Self::App(code))),
            (None, Some(code)) => Ok(Some(Self::Backup(code))),
            (Some(_), Some(_)) => {
                Err(Problem::bad_request(format!("{name}: Send either {name} or backup_code, not both.")))
            }
        }
    }

    /// The same where a code is needed.
    ///
    /// # Errors
    /// `bad_request` for none, or for two.
    pub(super) fn require(name: &str, app: Option<String>, backup: Option<String>) -> Result<Self, Problem> {
        let missing = || Problem::bad_request(format!("{name}: Send {name} or backup_code."));
        Self::read(name, app, backup)?.ok_or_else(missing)
    }
}

/// A second factor that may be used up, or `None` for a wrong code. The check must be told the outcome.
pub(super) struct Checked {
    pub(super) factor: Option<CheckedFactor>,
    pub(super) check: PasswordCheck,
}

/// Counts a wrong code, for the limits and for the detectors.
pub(super) fn failed(control: &Control, check: PasswordCheck, user: UserId, peer: PeerAddress) {
    check.failed();
    control.watch().wrong_password(&format!("code of user {}", user.0), Some(user), peer.network());
}

/// Compares a code with the secret of `user`. `familiar` if the user signed in from this network before.
///
/// # Errors
/// `account_locked` after too many wrong codes; `internal` if the secret cannot be read.
pub(super) async fn check(
    control: &Control,
    user: UserId,
    peer: PeerAddress,
    familiar: bool,
    given: GivenCode,
) -> Result<Checked, Problem> {
    let check = control.sign_ins().check_code(user, peer.network(), familiar)?;
    let factor = match given {
        GivenCode::Backup(code) => Some(CheckedFactor::BackupCode(totp::backup_code_hash(user, &code))),
        GivenCode::App(code) => match control.accounts().confirmed_secret(user).await? {
            Some(stored) => matched(control, user, &stored, &code)?,
            None => None,
        },
    };
    Ok(Checked { factor, check })
}

/// The step of a code, if it is right.
///
/// # Errors
/// `internal` if the secret cannot be read.
pub(super) fn matched(
    control: &Control,
    user: UserId,
    stored: &StoredSecret,
    code: &str,
) -> Result<Option<CheckedFactor>, Problem> {
    let sealed = SealedSecret { key_id: stored.key_id.clone(), bytes: stored.sealed.clone() };
    let secret = control.sealing().open(SealedOwner::User(user), &sealed).map_err(|error| {
        error_limited!(user = user.0, "cannot read the two-factor secret of a user: {error}");
        Problem::from(Refusal::new(
            ErrorCode::Internal,
            "The server cannot read the secret of your authenticator app, so it cannot check codes. It has been \
             logged. Use a backup code, or ask an administrator.",
        ))
    })?;
    let step = totp::matched_step(&secret, code, now_seconds());
    Ok(step.map(|step| CheckedFactor::Step { enrolment: stored.enrolment, step }))
}

/// 401 `two_factor_invalid`. `attempts_left` if the code answers a challenge.
pub(super) fn wrong_code(attempts_left: Option<i32>) -> Problem {
    let detail = match attempts_left {
        Some(0) => "The code is wrong or was used before, and it was the last attempt. Sign in again.",
        _ => "The code is wrong or was used before. Wait for the next code of your app, or use a backup code.",
    };
    let mut problem = Problem::new(StatusCode::UNAUTHORIZED, "two_factor_invalid", detail);
    problem.details = attempts_left.map(|left| Box::new(json!({ "attempts_left": left })));
    problem
}

/// 401 `two_factor_invalid` for a challenge that is over.
pub(super) fn dead_challenge() -> Problem {
    let detail = "This sign-in has expired, or had too many wrong codes. Sign in again with your password.";
    let mut problem = Problem::new(StatusCode::UNAUTHORIZED, "two_factor_invalid", detail);
    problem.details = Some(Box::new(json!({ "attempts_left": 0 })));
    problem
}

/// What a user can answer with.
pub(super) fn methods(backup_codes_left: i64) -> Value {
    if backup_codes_left > 0 { json!(["totp", "backup_code"]) } else { json!(["totp"]) }
}

/// 403 `step_up_required`, with the methods. `window` is how recent a second factor must be.
pub(super) async fn step_up_required(control: &Control, user: UserId, window: &str) -> Problem {
    // Without PostgreSQL the list is that of most users.
    let left = control.accounts().factor_summary(user).await.map_or(1, |summary| summary.backup_codes_left);
    let detail = format!(
        "This needs a second factor of the last {window}. Send a code to POST /auth/2fa/step-up, then repeat the \
         request."
    );
    Problem::new(StatusCode::FORBIDDEN, "step_up_required", detail).with("methods", methods(left))
}

/// A caller, and the second factor of the session.
pub(super) struct FactorCaller {
    pub(super) caller: Caller,
    pub(super) state: FactorState,
}

impl FactorCaller {
    /// Passes if the user has no second factor, or gave it lately.
    ///
    /// # Errors
    /// `step_up_required`.
    pub(super) async fn require_fresh(&self, control: &Control) -> Result<(), Problem> {
        if self.state.enabled && !self.state.fresh {
            return Err(step_up_required(control, self.caller.user, "5 minutes").await);
        }
        Ok(())
    }
}

impl FromRequestParts<Control> for FactorCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, control: &Control) -> Result<Self, Problem> {
        let (claims, state) = authenticate(parts, control).await?;
        Ok(Self { caller: caller(claims, parts), state })
    }
}
