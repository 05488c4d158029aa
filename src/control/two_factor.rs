//! `/auth/2fa`: users set up two-factor authentication, sign in with it, and give it again for dangerous actions.
//!
//! A password is checked before a code, so that nobody learns from a code whether a guessed password is right.

use super::current_password;
use super::extract::{AccountReader, Caller, Json, PeerAddress};
use super::problem::Problem;
use super::second_factor::{self, Checked, FactorCaller, GivenCode, dead_challenge, wrong_code};
use super::sign_in_limits::PasswordCheck;
use super::signed_in::{SignedIn, count};
use super::{Control, shielded};
use crate::auth::sealed::SealedOwner;
use crate::auth::{random_token, refresh, totp};
use crate::error::{ErrorCode, Refusal};
use crate::ids::UserId;
use crate::storage::accounts::two_factor::{CheckedFactor, FactorSignIn, StoredSecret};
use crate::storage::accounts::{Login, NewSession};
use axum::{Json as Reply, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub(super) struct FactorView {
    /// Whether signing in needs a code.
    enabled: bool,
    /// Whether the account must have it.
    required: bool,
    /// Unused backup codes.
    backup_codes_left: i64,
}

pub(super) async fn show(State(control): State<Control>, reader: AccountReader) -> Result<Reply<FactorView>, Problem> {
    let user = reader.caller.user;
    let summary = control.accounts().factor_summary(user).await?;
    Ok(Reply(FactorView {
        enabled: summary.enabled,
        required: control.live().factor_policy.requires(user),
        backup_codes_left: summary.backup_codes_left,
    }))
}

#[derive(Deserialize)]
pub(super) struct EnrolmentStart {
    password: String,
}

/// Shown once.
#[derive(Serialize)]
pub(super) struct EnrolmentView {
    secret: String,
    otpauth_url: String,
    qr_svg: String,
}

pub(super) async fn enable(
    State(control): State<Control>,
    caller: Caller,
    peer: PeerAddress,
    Json(body): Json<EnrolmentStart>,
) -> Result<Reply<EnrolmentView>, Problem> {
    if !control.allows_two_factor() {
        return Err(Refusal::new(
            ErrorCode::Forbidden,
            "Two-factor authentication is switched off on this server. Ask its administrator to set \
             security.enable_2fa.",
        )
        .into());
    }
    let login = verified(&control, caller.user, peer, body.password).await?;
    let secret = totp::new_secret();
    let sealed = control.sealing().seal(SealedOwner::User(login.user), &secret);
    let stored = StoredSecret { enrolment: rand::random(), key_id: sealed.key_id, sealed: sealed.bytes };
    if !control.accounts().begin_enrolment(login.user, &stored).await? {
        return Err(Refusal::new(
            ErrorCode::Conflict,
            "Two-factor authentication is on already. Switch it off first to use another app.",
        )
        .into());
    }
    let otpauth_url = totp::otpauth_url(&login.username, &secret);
    let qr_svg = totp::qr_svg(&otpauth_url).ok_or_else(Problem::internal)?;
    Ok(Reply(EnrolmentView { secret: totp::secret_text(&secret), otpauth_url, qr_svg }))
}

#[derive(Deserialize)]
pub(super) struct Confirmation {
    code: String,
}

/// Shown once.
#[derive(Serialize)]
pub(super) struct BackupCodes {
    backup_codes: Vec<String>,
}

pub(super) async fn confirm(
    State(control): State<Control>,
    caller: Caller,
    peer: PeerAddress,
    Json(body): Json<Confirmation>,
) -> Result<Reply<BackupCodes>, Problem> {
    control.sign_ins().sign_in(peer.network())?;
    let Some(stored) = control.accounts().pending_secret(caller.user).await? else {
        return Err(Refusal::new(
            ErrorCode::Conflict,
            "No set-up waits for a code. It may have expired after 10 minutes. Start again with POST /auth/2fa/enable.",
        )
        .into());
    };
    let check = control.sign_ins().check_code(caller.user, peer.network(), true)?;
    let matched = second_factor::matched(&control, caller.user, &stored, &body.code)?;
    let Some(CheckedFactor::Step { enrolment, step }) = matched else {
        second_factor::failed(&control, check, caller.user, peer);
        return Err(wrong_code(None));
    };
    let (codes, hashes) = new_backup_codes(caller.user);
    let step = (enrolment, step);
    if !control.accounts().confirm_enrolment(&caller, step, &hashes).await? {
        // Another request was faster, with this code or with another secret.
        second_factor::failed(&control, check, caller.user, peer);
        return Err(wrong_code(None));
    }
    check.succeeded();
    Ok(Reply(BackupCodes { backup_codes: codes }))
}

fn new_backup_codes(user: UserId) -> (Vec<String>, Vec<[u8; 32]>) {
    let codes = totp::new_backup_codes();
    let hashes = codes.iter().map(|code| totp::backup_code_hash(user, code)).collect();
    (codes, hashes)
}

/// The password and a code, for changes of the second factor itself.
#[derive(Deserialize)]
pub(super) struct FactorChange {
    password: String,
    code: Option<String>,
    backup_code: Option<String>,
}

pub(super) async fn renew_backup_codes(
    State(control): State<Control>,
    caller: Caller,
    peer: PeerAddress,
    Json(body): Json<FactorChange>,
) -> Result<Reply<BackupCodes>, Problem> {
    let Checked { factor, check } = begin_change(&control, caller.user, peer, body).await?;
    let (codes, hashes) = new_backup_codes(caller.user);
    let used = match factor {
        Some(factor) => control.accounts().replace_backup_codes(&caller, factor, &hashes).await?,
        None => false,
    };
    if !used {
        second_factor::failed(&control, check, caller.user, peer);
        return Err(wrong_code(None));
    }
    check.succeeded();
    Ok(Reply(BackupCodes { backup_codes: codes }))
}

pub(super) async fn disable(
    State(control): State<Control>,
    caller: Caller,
    peer: PeerAddress,
    Json(body): Json<FactorChange>,
) -> Result<StatusCode, Problem> {
    if control.live().factor_policy.requires(caller.user) {
        return Err(Refusal::new(
            ErrorCode::Forbidden,
            "This server requires two-factor authentication for your account. You can replace the backup codes, but \
             not switch it off.",
        )
        .into());
    }
    let Checked { factor, check } = begin_change(&control, caller.user, peer, body).await?;
    let used = match factor {
        Some(factor) => control.accounts().disable_two_factor(&caller, factor).await?,
        None => false,
    };
    if !used {
        second_factor::failed(&control, check, caller.user, peer);
        return Err(wrong_code(None));
    }
    check.succeeded();
    Ok(StatusCode::NO_CONTENT)
}

async fn begin_change(
    control: &Control,
    user: UserId,
    peer: PeerAddress,
    body: FactorChange,
) -> Result<Checked, Problem> {
    let given = GivenCode::require("code", body.code, body.backup_code)?;
    let login = verified(control, user, peer, body.password).await?;
    if !login.two_factor {
        return Err(is_off());
    }
    second_factor::check(control, user, peer, true, given).await
}

fn is_off() -> Problem {
    Refusal::new(ErrorCode::Conflict, "Two-factor authentication is off. There is nothing to change.").into()
}

/// The account of a signed-in user, if the password is right.
async fn verified(control: &Control, user: UserId, peer: PeerAddress, password: String) -> Result<Login, Problem> {
    let login = current_password::account(control, user).await?;
    let client = control.sign_ins().sign_in(peer.network())?;
    let check = current_password::check(control, &login, client, peer, ("password", password)).await?;
    check.right_but_incomplete();
    Ok(login)
}

#[derive(Deserialize)]
pub(super) struct StepUp {
    code: Option<String>,
    backup_code: Option<String>,
}

pub(super) async fn step_up(
    State(control): State<Control>,
    FactorCaller { caller, state }: FactorCaller,
    peer: PeerAddress,
    Json(body): Json<StepUp>,
) -> Result<StatusCode, Problem> {
    let given = GivenCode::require("code", body.code, body.backup_code)?;
    if !state.enabled {
        return Err(is_off());
    }
    give_again(&control, &caller, peer, given).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Uses a code up for a session that is open.
///
/// # Errors
/// `two_factor_invalid` and those of the limits.
pub(super) async fn give_again(
    control: &Control,
    caller: &Caller,
    peer: PeerAddress,
    given: GivenCode,
) -> Result<(), Problem> {
    let given = check_again(control, caller, peer, given).await?;
    let used = control.accounts().step_up(caller, given.code).await?;
    given.settle(control, used)
}

/// A right code for a session that is open. It is not used up yet.
pub(super) struct RightCode {
    pub(super) code: CheckedFactor,
    check: PasswordCheck,
    user: UserId,
    peer: PeerAddress,
}

impl RightCode {
    /// The code was used up by this request, or before it.
    ///
    /// # Errors
    /// `two_factor_invalid` if it was used before.
    pub(super) fn settle(self, control: &Control, used: bool) -> Result<(), Problem> {
        control.metrics().auth_attempt("two_factor", if used { "success" } else { "failure" });
        if !used {
            second_factor::failed(control, self.check, self.user, self.peer);
            return Err(wrong_code(None));
        }
        self.check.succeeded();
        Ok(())
    }
}

/// Checks a code for a session that is open.
///
/// # Errors
/// `two_factor_invalid` and those of the limits.
pub(super) async fn check_again(
    control: &Control,
    caller: &Caller,
    peer: PeerAddress,
    given: GivenCode,
) -> Result<RightCode, Problem> {
    control.sign_ins().sign_in(peer.network())?;
    let Checked { factor, check } = second_factor::check(control, caller.user, peer, true, given).await?;
    let Some(code) = factor else {
        control.metrics().auth_attempt("two_factor", "failure");
        second_factor::failed(control, check, caller.user, peer);
        return Err(wrong_code(None));
    };
    Ok(RightCode { code, check, user: caller.user, peer })
}

/// What [`complete`] needs beside the account.
pub(super) struct FactorAttempt<'a> {
    pub(super) peer: PeerAddress,
    pub(super) device_name: &'a str,
    /// The challenge that is answered, and the attempts that it has left.
    pub(super) challenge: Option<(&'a [u8; 32], i32)>,
}

/// Opens a session for a login whose password was verified, if the code is right.
///
/// # Errors
/// `two_factor_invalid` and those of the limits. `void` if the password was changed or the challenge is over.
pub(super) async fn complete(
    control: &Control,
    login: &Login,
    Checked { factor, check }: Checked,
    attempt: FactorAttempt<'_>,
    void: impl FnOnce() -> Problem,
) -> Result<SignedIn, Problem> {
    let left = attempt.challenge.map(|(_, left)| left);
    let Some(factor) = factor else {
        second_factor::failed(control, check, login.user, attempt.peer);
        return Err(wrong_code(left));
    };
    let refresh_token = random_token::new_token();
    let session = NewSession {
        device_name: attempt.device_name,
        ip: &attempt.peer.ip(),
        refresh_hash: &random_token::hash(&refresh_token),
        refresh_lifetime_seconds: control.live().refresh_lifetime_seconds,
    };
    let hash = attempt.challenge.map(|(hash, _)| hash);
    match control.accounts().open_session_with_factor(login, factor, hash, session).await? {
        FactorSignIn::Opened(opened) => {
            check.succeeded();
            Ok(SignedIn::new(control, attempt.peer, opened, refresh_token))
        }
        FactorSignIn::UsedCode => {
            second_factor::failed(control, check, login.user, attempt.peer);
            Err(wrong_code(left))
        }
        FactorSignIn::Void => Err(void()),
    }
}

/// 401 `two_factor_required`, with a challenge that waits for the code.
///
/// # Errors
/// Failures of PostgreSQL. `wrong` if the password was changed since it was verified.
pub(super) async fn challenge(
    control: &Control,
    login: &Login,
    device_name: &str,
    wrong: impl FnOnce() -> Problem,
) -> Result<Problem, Problem> {
    let challenge = random_token::new_token();
    if !control.accounts().open_challenge(login, &random_token::hash(&challenge), device_name).await? {
        return Err(wrong());
    }
    let left = control.accounts().factor_summary(login.user).await?.backup_codes_left;
    let detail = "The password is right. Send the code of your authenticator app, or a backup code, with the challenge \
                  to POST /auth/2fa/verify.";
    Ok(Problem::new(StatusCode::UNAUTHORIZED, "two_factor_required", detail)
        .with("challenge", challenge.into())
        .with("methods", second_factor::methods(left)))
}

#[derive(Deserialize)]
pub(super) struct Verification {
    challenge: String,
    totp_code: Option<String>,
    backup_code: Option<String>,
}

pub(super) async fn verify(
    State(control): State<Control>,
    peer: PeerAddress,
    Json(body): Json<Verification>,
) -> Result<Reply<SignedIn>, Problem> {
    let counted = control.clone();
    // Shielded: the limits must learn the outcome of a code that was checked.
    let answer = shielded(async move { try_verify(&control, peer, body).await }).await;
    count(&counted, "two_factor", &answer);
    answer.map(Reply)
}

async fn try_verify(control: &Control, peer: PeerAddress, body: Verification) -> Result<SignedIn, Problem> {
    let given = GivenCode::require("totp_code", body.totp_code, body.backup_code)?;
    control.sign_ins().sign_in(peer.network())?;
    if body.challenge.len() > refresh::REFRESH_TOKEN_BYTES_MAX {
        return Err(dead_challenge());
    }
    let hash = random_token::hash(&body.challenge);
    let found = control.accounts().find_challenge(&hash, &peer.network().to_string()).await?;
    let found = found.ok_or_else(dead_challenge)?;
    let login = found.login;
    // The limits come first: a refused attempt must not use up one of the challenge.
    let checked = second_factor::check(control, login.user, peer, login.familiar, given).await?;
    let left = control.accounts().charge_challenge(&hash).await?.ok_or_else(dead_challenge)?;
    let attempt = FactorAttempt { peer, device_name: &found.device_name, challenge: Some((&hash, left)) };
    complete(control, &login, checked, attempt, dead_challenge).await
}
