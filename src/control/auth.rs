//! `/auth/register`, `/auth/login`, `/auth/refresh`: how a session begins and continues.
//!
//! A failed login has the same response after the same work, whether or not the user exists.

use super::{
    Control,
    extract::{Agent, Json, PeerAddress},
    now_seconds,
    problem::Problem,
    shielded, validate, view,
};
use crate::auth::{password, refresh};
use crate::faults::warn_limited;
use crate::storage::accounts::rotation::{RefreshExchange, Rotation};
use crate::storage::accounts::{Login, NewAccount, NewSession, Opened};
use crate::text;
use axum::{Json as Reply, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub(super) struct Register {
    username: String,
    email: String,
    password: String,
    display_name: Option<String>,
    device_name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Credentials {
    login: String,
    password: String,
    device_name: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Refresh {
    refresh_token: String,
}

/// The tokens of a session: a short-lived access token, and a refresh token for the next pair.
#[derive(Serialize)]
pub(super) struct SignedIn {
    user: view::UserView,
    access_token: String,
    refresh_token: String,
    token_type: &'static str,
    /// For how many seconds the access token is valid.
    expires_in: i64,
}

impl SignedIn {
    fn new(control: &Control, opened: Opened, refresh_token: String) -> Self {
        let expires_in = control.access_lifetime_seconds();
        let access_token = control.keys().issue_access(opened.profile.id, opened.session, now_seconds(), expires_in);
        Self { user: opened.profile.into(), access_token, refresh_token, token_type: "Bearer", expires_in }
    }
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
    control.filter().check_profile(None, "username", true, username).await?;
    if body.display_name.is_some() {
        control.filter().check_profile(None, "display_name", true, &display_name).await?;
    }
    let password_hash = control.hashing().hash(client, body.password).await?;
    let refresh_token = refresh::new_token();
    let opened = control
        .accounts()
        .register(
            NewAccount { username, display_name: &display_name, email: &email, password_hash: &password_hash },
            NewSession {
                device_name: &device_name,
                ip: &peer.ip(),
                refresh_hash: &refresh::hash(&refresh_token),
                refresh_lifetime_seconds: control.refresh_lifetime_seconds(),
            },
        )
        .await?;
    Ok(SignedIn::new(control, opened, refresh_token))
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
    let login = body.login.trim();
    let client = control.sign_ins().sign_in(peer.network())?;
    let found = find(control, login, peer).await?;
    let familiar = found.as_ref().is_some_and(|login| login.familiar);
    let check = control.sign_ins().check(login, peer.network(), familiar)?;
    // Without such a user the same work is done against the dummy hash.
    let stored = found.as_ref().map(|login| login.password_hash.clone());
    let opens = control.hashing().verify(client, body.password, stored).await?;
    let Some(login) = found.filter(|_| opens) else {
        check.failed();
        return Err(wrong());
    };
    check.succeeded();
    let refresh_token = refresh::new_token();
    let session = NewSession {
        device_name: &device_name,
        ip: &peer.ip(),
        refresh_hash: &refresh::hash(&refresh_token),
        refresh_lifetime_seconds: control.refresh_lifetime_seconds(),
    };
    // None: the password was changed while it was being verified.
    let opened = control.accounts().open_session(&login, session).await?.ok_or_else(wrong)?;
    Ok(SignedIn::new(control, opened, refresh_token))
}

/// The account of a user name or an e-mail address. The typed form is tried too: older addresses are not normalised.
async fn find(control: &Control, login: &str, peer: PeerAddress) -> Result<Option<Login>, Problem> {
    if !validate::could_be_login(login) {
        return Ok(None);
    }
    let (normalised, network) = (text::nfc(login), peer.network().to_string());
    match control.accounts().find_login(&normalised, &network).await? {
        None if *normalised != *login => Ok(control.accounts().find_login(login, &network).await?),
        found => Ok(found),
    }
}

pub(super) async fn refresh(
    State(control): State<Control>,
    peer: PeerAddress,
    Json(body): Json<Refresh>,
) -> Result<Reply<SignedIn>, Problem> {
    let counted = control.clone();
    // Shielded: the notice must follow the revocation even if the thief disconnects.
    let answer = shielded(async move { try_refresh(&control, peer, &body.refresh_token).await }).await;
    count(&counted, "refresh", &answer);
    answer.map(Reply)
}

async fn try_refresh(control: &Control, peer: PeerAddress, token: &str) -> Result<SignedIn, Problem> {
    let refused = |code, detail| Problem::new(StatusCode::UNAUTHORIZED, code, detail);
    let invalid = || refused("refresh_invalid", "The refresh token is not valid. Sign in again.");
    if token.is_empty() || token.len() > refresh::REFRESH_TOKEN_BYTES_MAX {
        return Err(invalid());
    }
    let new_token = control.keys().refresh_successor(token);
    let exchange = RefreshExchange {
        hash: &refresh::hash(token),
        new_hash: &refresh::hash(&new_token),
        lifetime_seconds: control.refresh_lifetime_seconds(),
        grace_seconds: refresh::GRACE_SECONDS,
        ip: &peer.ip(),
    };
    match control.accounts().rotate_refresh(exchange).await? {
        Rotation::Rotated(opened) | Rotation::Repeated(opened) => {
            control.sign_ins().continued(peer.network());
            Ok(SignedIn::new(control, opened, new_token))
        }
        Rotation::Reused { user, session } => {
            warn_limited!(
                user = user.0,
                session = session.0,
                ip = %peer.ip(),
                "a spent refresh token was used again; its session is revoked"
            );
            control.notify_revoked([session]);
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

fn count<T>(control: &Control, kind: &'static str, answer: &Result<T, Problem>) {
    let result = match answer {
        Ok(_) => "success",
        Err(problem) if problem.status.is_server_error() => "error",
        Err(_) => "failure",
    };
    control.metrics().auth_attempt(kind, result);
}
