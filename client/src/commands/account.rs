//! `register`, `login`, `logout`, `whoami`.

use crate::address::{Address, DEFAULT};
use crate::cli::{Global, Login, Register};
use crate::failure::Failure;
use crate::http::Http;
use crate::output::Output;
use crate::password::{can_ask, hidden, password};
use crate::profile::{Profile, Saved};
use crate::proof;
use crate::render::name;
use crate::session::{Session, from_answer};
use reqwest::Method;
use serde_json::{Value, json};

/// Creates an account and signs in.
pub async fn register(global: &Global, profile: &Profile, output: Output, options: Register) -> Result<(), Failure> {
    let http = server(global, profile, output)?;
    let password = password(options.secret.password_stdin, &["Password", "Repeat the password"])?;
    let mut body = json!({ "username": options.username, "email": options.email, "password": password });
    if let Some(display_name) = options.display_name {
        body["display_name"] = display_name.into();
    }
    body["device_name"] = device().into();
    // An older server knows no challenges.
    match http.get("/auth/register/challenge").await {
        Ok(challenge) => body["proof"] = proof::solve(&challenge).into(),
        Err(Failure::Refused(refusal)) if refusal.code == "not_found" => {}
        Err(failure) => return Err(failure),
    }
    let answer = http.post("/auth/register", &body).await?;
    keep(profile, output, &from_answer(http.address(), &answer)?).await
}

/// Signs in; asks for a second factor if the account has one.
pub async fn login(global: &Global, profile: &Profile, output: Output, options: Login) -> Result<(), Failure> {
    let http = server(global, profile, output)?;
    let password = password(options.secret.password_stdin, &["Password"])?;
    let mut body = json!({ "login": options.who, "password": password, "device_name": device() });
    let mut answer = http.post("/auth/login", &body).await;
    if matches!(&answer, Err(Failure::Refused(refusal)) if refusal.code == "two_factor_required") && can_ask() {
        let (key, prompt) = if options.backup_code {
            ("backup_code", "Backup code")
        } else {
            ("totp_code", "Code from your authenticator app")
        };
        body[key] = hidden(prompt)?.trim().into();
        answer = http.post("/auth/login", &body).await;
    }
    keep(profile, output, &from_answer(http.address(), &answer?)?).await
}

/// Ends the session on the server, then deletes it here.
pub async fn logout(session: &Session, output: Output) -> Result<(), Failure> {
    match session.request(Method::POST, "/auth/logout", None).await {
        // If the session is already over, it only has to be deleted here.
        Ok(_) | Err(Failure::NotSignedIn(_)) => forget(session.profile(), output),
        Err(failure) => Err(failure),
    }
}

/// Deletes the session here only.
pub fn forget(profile: &Profile, output: Output) -> Result<(), Failure> {
    profile.forget()?;
    output.result(&json!({ "signed_out": true, "profile": profile.name() }), || "signed out".to_owned())
}

/// Shows the signed-in user.
pub async fn whoami(session: &Session, output: Output) -> Result<(), Failure> {
    let user = session.request(Method::GET, "/users/me", None).await?;
    describe(output, session.profile(), session.address(), &user)
}

/// The server of a new session: the one that was named, the profile's, or the default.
fn server(global: &Global, profile: &Profile, output: Output) -> Result<Http, Failure> {
    let address = match (&global.server, profile.server()) {
        (Some(address), _) => address.clone(),
        (None, saved) => Address::parse(saved.as_deref().unwrap_or(DEFAULT)).map_err(|error| {
            Failure::Usage(format!("profile {} has no valid server address ({error}); give --server", profile.name()))
        })?,
    };
    if !address.is_loopback() {
        output.note(&format!("{address} is another machine, and HTTP is not encrypted: others may read your password"));
    }
    Http::new(address)
}

async fn keep(profile: &Profile, output: Output, saved: &Saved) -> Result<(), Failure> {
    // Another process may be renewing the session that this one replaces. It must not overwrite the new one.
    let lock = profile.lock().await?;
    profile.save(saved)?;
    drop(lock);
    let address = Address::parse(&saved.server).map_err(Failure::Usage)?;
    describe(output, profile, &address, &saved.user)
}

fn describe(output: Output, profile: &Profile, address: &Address, user: &Value) -> Result<(), Failure> {
    let value = json!({ "user": user, "server": address.to_string(), "profile": profile.name() });
    output.result(&value, || {
        let paint = output.paint();
        let who = paint.person(user["username"].as_str().unwrap_or_default(), &name(&user["username"]));
        let rest = format!("({}, user {}) at {address}", name(&user["display_name"]), name(&user["id"]));
        format!("{who} {}", paint.dim(&rest))
    })
}

/// The name of this client in the list of sessions.
fn device() -> String {
    format!("veza {}", env!("CARGO_PKG_VERSION"))
}
