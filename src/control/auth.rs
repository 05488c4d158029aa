//! `/auth/register`, `/auth/login`, `/auth/refresh`: how a session begins and goes on.
//!
//! A login that fails is the same answer, after the same work, whether or not the user exists.

use super::{
    Control,
    extract::{Agent, Json, Peer},
    now_seconds,
    problem::Problem,
    shielded, validate, view,
};
use crate::auth::{password, refresh};
use crate::storage::accounts::{NewAccount, NewSession, Opened, Rotation};
use axum::{Json as Answer, extract::State, http::StatusCode};
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

/// What opens the door: an access token for a while, and a refresh token for the next one.
#[derive(Serialize)]
pub(super) struct SignedIn {
    user: view::User,
    access_token: String,
    refresh_token: String,
    token_type: &'static str,
    /// Seconds that the access token is good for.
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
    peer: Peer,
    Agent(agent): Agent,
    Json(body): Json<Register>,
) -> Result<(StatusCode, Answer<SignedIn>), Problem> {
    let answer = try_register(&control, peer, agent, body).await;
    count(&control, "register", &answer);
    answer.map(|signed_in| (StatusCode::CREATED, Answer(signed_in)))
}

async fn try_register(
    control: &Control,
    peer: Peer,
    agent: Option<String>,
    body: Register,
) -> Result<SignedIn, Problem> {
    let username = validate::username(&body.username)?;
    let email = validate::email(&body.email)?;
    let display_name = body.display_name.as_deref().map_or(Ok(username), validate::display_name)?;
    let device_name = validate::device_name(body.device_name.as_deref(), agent.as_deref())?;
    password::check_policy(&body.password, username).map_err(|refused| Problem::bad_request(refused.to_string()))?;
    let password_hash = control.hashing().hash(body.password).await?;
    let refresh_token = refresh::new_token();
    let opened = control
        .accounts()
        .register(
            NewAccount { username, display_name, email, password_hash: &password_hash },
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
    peer: Peer,
    Agent(agent): Agent,
    Json(body): Json<Credentials>,
) -> Result<Answer<SignedIn>, Problem> {
    let answer = try_login(&control, peer, agent, body).await;
    count(&control, "login", &answer);
    answer.map(Answer)
}

async fn try_login(
    control: &Control,
    peer: Peer,
    agent: Option<String>,
    body: Credentials,
) -> Result<SignedIn, Problem> {
    let wrong = || Problem::unauthenticated("the username or email, or the password, is wrong");
    let device_name = validate::device_name(body.device_name.as_deref(), agent.as_deref())?;
    let login = body.login.trim();
    let found = if validate::could_be_login(login) { control.accounts().find_login(login).await? } else { None };
    // With no such user the same work is done against the dummy hash.
    let stored = found.as_ref().map(|login| login.password_hash.clone());
    let opens = control.hashing().verify(body.password, stored).await?;
    let Some(login) = found.filter(|_| opens) else { return Err(wrong()) };
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

pub(super) async fn refresh(
    State(control): State<Control>,
    peer: Peer,
    Json(body): Json<Refresh>,
) -> Result<Answer<SignedIn>, Problem> {
    let counted = control.clone();
    // Shielded: when reuse is found, the notice must follow the revocation even if the thief hangs up.
    let answer = shielded(async move { try_refresh(&control, peer, &body.refresh_token).await }).await;
    count(&counted, "refresh", &answer);
    answer.map(Answer)
}

async fn try_refresh(control: &Control, peer: Peer, token: &str) -> Result<SignedIn, Problem> {
    let refused = |code, detail| Problem::new(StatusCode::UNAUTHORIZED, code, detail);
    let invalid = || refused("refresh_invalid", "the refresh token is not valid (any more); sign in again");
    if token.is_empty() || token.len() > refresh::REFRESH_TOKEN_BYTES_MAX {
        return Err(invalid());
    }
    let new_token = refresh::new_token();
    let rotation = control
        .accounts()
        .rotate_refresh(
            &refresh::hash(token),
            &refresh::hash(&new_token),
            control.refresh_lifetime_seconds(),
            &peer.ip(),
        )
        .await?;
    match rotation {
        Rotation::Rotated(opened) => Ok(SignedIn::new(control, opened, new_token)),
        Rotation::Reused { user, session } => {
            tracing::warn!(user = user.0, session = session.0, ip = %peer.ip(), "a spent refresh token was used again");
            control.notify_revoked([session]);
            Err(refused(
                "refresh_reused",
                "the refresh token had been used before; since somebody may have stolen it, the session is revoked: \
                 sign in again",
            ))
        }
        Rotation::Expired => Err(refused("refresh_expired", "the refresh token has expired; sign in again")),
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
