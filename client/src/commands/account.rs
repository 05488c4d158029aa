//! `register`, `login`, `logout`, `whoami`.

use crate::address::{Address, DEFAULT};
use crate::cli::{Global, Login, Register};
use crate::failure::{Failure, Refusal};
use crate::http::Http;
use crate::output::Output;
use crate::password::{code, password};
use crate::profile::{Profile, Saved};
use crate::proof;
use crate::render::name;
use crate::session::{Session, from_answer};
use reqwest::Method;
use serde_json::{Value, json};

/// Codes that a sign-in asks for; the server allows five.
const CODE_TRIES: u32 = 3;

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
        Ok(challenge) if challenge["captcha"].is_object() => {
            let message = format!(
                "This server asks for a captcha. Create the account with a browser at {}, then type: veza login",
                http.address()
            );
            return Err(Failure::Refused(Refusal { code: "captcha".to_owned(), message, ..Refusal::default() }));
        }
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
    let body = json!({ "login": options.who, "password": password, "device_name": device() });
    let answer = match http.post("/auth/login", &body).await {
        Err(Failure::Refused(refusal)) if refusal.code == "two_factor_required" => {
            answer_challenge(&http, output, refusal, &options).await
        }
        answer => answer,
    };
    keep(profile, output, &from_answer(http.address(), &answer?)?).await
}

/// Finishes a sign-in with a code. On a terminal, a wrong one can be corrected.
async fn answer_challenge(http: &Http, output: Output, asked: Refusal, options: &Login) -> Result<Value, Failure> {
    let (key, prompt) = code_field("totp_code", options.backup_code);
    let from_stdin = options.secret.password_stdin;
    let tries = if from_stdin { 1 } else { CODE_TRIES };
    let mut failure = Failure::Refused(asked.clone());
    for _ in 0..tries {
        let Some(code) = code(from_stdin, prompt)? else { return Err(failure) };
        let body = json!({ "challenge": asked.challenge, key: code });
        match http.post("/auth/2fa/verify", &body).await {
            Err(Failure::Refused(refusal)) if refusal.code == "two_factor_invalid" => {
                failure = Failure::Refused(refusal);
                if !from_stdin {
                    output.failure(&failure);
                }
            }
            answer => return answer,
        }
    }
    Err(failure)
}

/// The field of a code in a request, and the prompt for it. `name`: the field of the app's code.
pub fn code_field(name: &'static str, is_backup: bool) -> (&'static str, &'static str) {
    if is_backup { ("backup_code", "Backup code") } else { (name, "Code from your authenticator app") }
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
