//! `/auth/register`, `/auth/login`, `/auth/refresh`: how a session begins and continues.
//!
//! A wrong password has the same response, whether or not the user exists. Its time does not tell either:
//! - an unknown name, a name that is no name, and an account with an Argon2id hash cost the same: one look-up for each
//!   form of the name, one place in the hashing queue, one check of Argon2id for each form of the password;
//! - an account with a bcrypt hash of older data costs ten times as much. While any account has one
//!   (`Accounts::has_old_hashes`), every wrong password is answered a fixed time after it got its worker, which covers
//!   that check ([`Hashing::even_out`](super::hashing::Hashing::even_out)). The failure counts before the wait, so that
//!   a client that does not wait gains nothing;
//! - the wait in the queue comes before that time. It depends on what others do, not on the account. A check of bcrypt
//!   does keep its worker longer, so that somebody who fills the queue at the same moment can see that some sign-in was
//!   slow, and not whose. The limits of sign-ins leave a handful of such attempts a minute;
//! - a look-up that finds a row takes some 50 µs more than one that does not. The scheduling of a single Argon2id check
//!   varies by more, and the account's limit of wrong passwords does not allow the thousands of samples that an average
//!   would need.

use super::{
    Control,
    captcha::{Captcha, WidgetView},
    extract::{Agent, Json, PeerAddress},
    hashing::HashClient,
    now_seconds,
    problem::Problem,
    second_factor::{self, GivenCode},
    shielded,
    signed_in::{SignedIn, count},
    two_factor::{self, FactorAttempt},
    validate, view,
};
use crate::address::RequestSource;
use crate::auth::proof::{Challenge, ProofRefused};
use crate::auth::{legacy_hash, password, random_token, refresh};
use crate::error::{ErrorCode, Refusal};
use crate::faults::warn_limited;
use crate::storage::accounts::rotation::{RefreshExchange, Rotation};
use crate::storage::accounts::{Login, NewAccount, NewSession};
use crate::text;
use axum::{Json as Reply, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

#[derive(Deserialize)]
pub(super) struct Register {
    username: String,
    email: String,
    password: String,
    display_name: Option<String>,
    device_name: Option<String>,
    proof: Option<Proof>,
    captcha: Option<String>,
}

/// A solved challenge.
#[derive(Deserialize)]
struct Proof {
    challenge: String,
    nonce: String,
}

/// A challenge for a registration.
#[derive(Serialize)]
pub(super) struct RegistrationChallenge {
    challenge: String,
    difficulty: u8,
    expires: String,
    captcha: Option<WidgetView>,
}

pub(super) async fn challenge(State(control): State<Control>) -> Reply<RegistrationChallenge> {
    let Challenge { challenge, difficulty, expires_seconds } =
        control.proofs().challenge(rand::random(), now_seconds());
    let expires = OffsetDateTime::from_unix_timestamp(expires_seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let captcha = control.captcha().map(Captcha::widget);
    Reply(RegistrationChallenge { challenge, difficulty, expires: view::rfc3339_ms(expires), captcha })
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    login: String,
    password: String,
    totp_code: Option<String>,
    backup_code: Option<String>,
    device_name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Refresh {
    refresh_token: String,
}

pub(super) async fn register(
    State(control): State<Control>,
    peer: PeerAddress,
    Agent(agent): Agent,
    Json(body): Json<Register>,
) -> Result<(StatusCode, Reply<SignedIn>), Problem> {
    let answer = try_register(&control, peer, agent, body).await;
    count(&control, "register", &answer);
    answer.map(|signed_in| (StatusCode::CREATED, Reply(signed_in)))
}

async fn try_register(
    control: &Control,
    peer: PeerAddress,
    agent: Option<String>,
    body: Register,
) -> Result<SignedIn, Problem> {
    let username = validate::username(&body.username)?;
    let email = validate::email(&body.email)?;
    let display_name = body.display_name.as_deref().map_or(Ok(username.into()), validate::display_name)?;
    let device_name = validate::device_name(body.device_name.as_deref(), agent.as_deref())?;
    password::check_policy(&body.password, username).map_err(|refused| Problem::bad_request(refused.to_string()))?;
    let client = control.sign_ins().register(peer.network())?;
    let proof = body.proof.as_ref().map(|proof| (proof.challenge.as_str(), proof.nonce.as_str()));
    let redeemed = control.proofs().redeem(proof, now_seconds());
    redeemed.map_err(|refused| match refused {
        ProofRefused::Full => Refusal::new(ErrorCode::Overloaded, refused.to_string()).retry_after(60_000).into(),
        _ => Problem::bad_request(refused.to_string()),
    })?;
    let (local, domain) = email.split_once('@').unwrap_or_default();
    password::check_strength(&body.password, &[username, &display_name, local, domain])
        .map_err(|refused| Problem::bad_request(refused.to_string()))?;
    control.filter().check_profile(None, ("POST /auth/register", "username"), username).await?;
    if body.display_name.is_some() {
        control.filter().check_profile(None, ("POST /auth/register", "display_name"), &display_name).await?;
    }
    // Last, because a solved captcha can be used once.
    if let Some(captcha) = control.captcha() {
        captcha.check(body.captcha.as_deref(), peer.address()).await?;
    }
    let password_hash = control.hashing().hash(client, body.password).await?;
    let refresh_token = random_token::new_token();
    let opened = control
        .accounts()
        .register(
            NewAccount { username, display_name: &display_name, email: &email, password_hash: &password_hash },
            NewSession {
                device_name: &device_name,
                ip: &peer.ip(),
                refresh_hash: &random_token::hash(&refresh_token),
                refresh_lifetime_seconds: control.live().refresh_lifetime_seconds,
            },
        )
        .await?;
    Ok(SignedIn::new(control, peer, opened, refresh_token))
}

pub(super) async fn login(
    State(control): State<Control>,
    peer: PeerAddress,
    Agent(agent): Agent,
    Json(body): Json<Credentials>,
) -> Result<Reply<SignedIn>, Problem> {
    let answer = try_login(&control, peer, agent, body).await;
    count(&control, "login", &answer);
    answer.map(Reply)
}

async fn try_login(
    control: &Control,
    peer: PeerAddress,
    agent: Option<String>,
    body: Credentials,
) -> Result<SignedIn, Problem> {
    let wrong = || Problem::unauthenticated("The username or email, or the password, is wrong.");
    let device_name = validate::device_name(body.device_name.as_deref(), agent.as_deref())?;
    let code = GivenCode::read("totp_code", body.totp_code, body.backup_code)?;
    let login = body.login.trim();
    let client = control.sign_ins().sign_in(peer.network())?;
    let found = find(control, login, peer).await?;
    let user = found.as_ref().map(|login| login.user);
    let familiar = found.as_ref().is_some_and(|login| login.familiar);
    let check = control.sign_ins().check(login, peer.network(), familiar)?;
    // Without such a user the same work is done against the dummy hash.
    let stored = found.as_ref().map(|login| login.password_hash.clone());
    let legacy = stored.as_deref().is_some_and(legacy_hash::is_bcrypt).then(|| body.password.clone());
    let (opens, began) = control.hashing().verify_timed(client, body.password, stored).await?;
    let Some(mut login) = found.filter(|_| opens) else {
        check.failed();
        control.watch().wrong_password(body.login.trim(), user, peer.network());
        // It is asked for every wrong password, so that this takes the same for all.
        if control.accounts().has_old_hashes().await.unwrap_or(true) {
            control.hashing().even_out(began).await;
        }
        return Err(wrong());
    };
    if let Some(password) = legacy {
        login = rehashed(control, client, login, password).await?.ok_or_else(wrong)?;
    }
    if login.two_factor {
        check.right_but_incomplete();
        let Some(code) = code else { return Err(two_factor::challenge(control, &login, &device_name, wrong).await?) };
        let checked = second_factor::check(control, login.user, peer, login.familiar, code).await?;
        let attempt = FactorAttempt { peer, device_name: &device_name, challenge: None };
        return two_factor::complete(control, &login, checked, attempt, wrong).await;
    }
    check.succeeded();
    let refresh_token = random_token::new_token();
    let session = NewSession {
        device_name: &device_name,
        ip: &peer.ip(),
        refresh_hash: &random_token::hash(&refresh_token),
        refresh_lifetime_seconds: control.live().refresh_lifetime_seconds,
    };
    // None: meanwhile the password was changed, or two-factor authentication was switched on.
    let opened = control.accounts().open_session(&login, session).await?.ok_or_else(wrong)?;
    Ok(SignedIn::new(control, peer, opened, refresh_token))
}

/// The login with a hash of today instead of the older one that its password matched. `None` if the password was
/// changed meanwhile.
async fn rehashed(
    control: &Control,
    client: HashClient,
    login: Login,
    password: String,
) -> Result<Option<Login>, Problem> {
    let password_hash = control.hashing().hash(client, password.clone()).await?;
    if control.accounts().rehash_password(&login, &password_hash).await? {
        return Ok(Some(Login { password_hash, ..login }));
    }
    // Another sign-in may have rehashed it at the same time.
    let Some(changed) = control.accounts().find_login_by_id(login.user).await? else { return Ok(None) };
    let opens = control.hashing().verify(client, password, Some(changed.password_hash.clone())).await?;
    Ok(opens.then_some(Login { familiar: login.familiar, ..changed }))
}

/// The account of a user name or an e-mail address. The typed form is tried too: older addresses are not normalised.
async fn find(control: &Control, login: &str, peer: PeerAddress) -> Result<Option<Login>, Problem> {
    if !validate::could_be_login(login) {
        return Ok(None);
    }
    let (normalised, network) = (text::nfc(login), peer.network().to_string());
    let found = control.accounts().find_login(&normalised, &network).await?;
    if *normalised == *login {
        return Ok(found);
    }
    // Also if the first look-up found it: the time must not tell.
    let typed = control.accounts().find_login(login, &network).await?;
    Ok(found.or(typed))
}

pub(super) async fn refresh(
    State(control): State<Control>,
    peer: PeerAddress,
    source: RequestSource,
    Json(body): Json<Refresh>,
) -> Result<Reply<SignedIn>, Problem> {
    let counted = control.clone();
    // Shielded: the notice must follow the revocation even if the thief disconnects.
    let answer = shielded(async move { try_refresh(&control, peer, &source, &body.refresh_token).await }).await;
    count(&counted, "refresh", &answer);
    answer.map(Reply)
}

async fn try_refresh(
    control: &Control,
    peer: PeerAddress,
    source: &RequestSource,
    token: &str,
) -> Result<SignedIn, Problem> {
    let refused = |code, detail| Problem::new(StatusCode::UNAUTHORIZED, code, detail);
    let invalid = || refused("refresh_invalid", "The refresh token is not valid. Sign in again.");
    if token.is_empty() || token.len() > refresh::REFRESH_TOKEN_BYTES_MAX {
        return Err(invalid());
    }
    let new_token = control.live().keys.refresh_successor(token);
    control.sign_ins().refresh(peer.network())?;
    let exchange = RefreshExchange {
        hash: &random_token::hash(token),
        new_hash: &random_token::hash(&new_token),
        lifetime_seconds: control.live().refresh_lifetime_seconds,
        grace_seconds: refresh::GRACE_SECONDS,
        source,
    };
    match control.accounts().rotate_refresh(exchange).await? {
        Rotation::Rotated(opened) | Rotation::Repeated(opened) => {
            control.sign_ins().continued(peer.network());
            Ok(SignedIn::new(control, peer, opened, new_token))
        }
        Rotation::Reused { user, session } => {
            warn_limited!(
                user = user.0,
                session = session.0,
                ip = %peer.ip(),
                "a spent refresh token was used again; its session is revoked"
            );
            control.notify_revoked([session]);
            control.watch().refresh_reused(user, session, &peer.ip());
            Err(refused(
                "refresh_reused",
                "The refresh token had been used before. Somebody may have stolen it, so the session is revoked. Sign \
                 in again.",
            ))
        }
        Rotation::Expired => Err(refused("refresh_expired", "The refresh token has expired. Sign in again.")),
        Rotation::Invalid => Err(invalid()),
    }
}
