//! A session: commands with a valid access token, and the next token when that one has expired.
//!
//! A token is renewed in these steps; their order is load-bearing:
//! 1. take the profile's lock;
//! 2. read the file again: another process may have renewed meanwhile; its tokens are taken, and nothing is spent;
//! 3. spend the refresh token;
//! 4. save the new pair, before anybody uses it;
//! 5. give the lock back.
//!
//! They run as a task of their own: a caller that is dropped (Ctrl-C) must not interrupt them between 3 and 4, where
//! the only valid token exists in memory. [`Session::settle`] waits for them.

use crate::address::Address;
use crate::failure::Failure;
use crate::http::{Http, Request};
use crate::profile::{Profile, Saved};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A token that is about to expire is not tried: it could expire on its way.
const LEEWAY_SECONDS: u64 = 5;
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// Somebody who is signed in.
pub struct Session {
    http: Http,
    profile: Profile,
    saved: Mutex<Saved>,
    renewing: Arc<tokio::sync::Mutex<()>>,
}

impl Session {
    /// The profile's session; `server` must be its own where it is given: tokens go to nobody else.
    pub fn open(profile: Profile, server: Option<&Address>) -> Result<Self, Failure> {
        let name = profile.name();
        let Some(saved) = profile.load()? else {
            let words = format!("nobody is signed in (profile {name}); begin with: veza login NAME");
            return Err(Failure::NotSignedIn(words));
        };
        let address = Address::parse(&saved.server).map_err(Failure::Usage)?;
        if let Some(wanted) = server.filter(|wanted| **wanted != address) {
            let words = format!(
                "profile {name} is signed in at {address}, not at {wanted}; sign in there with another --profile"
            );
            return Err(Failure::NotSignedIn(words));
        }
        let http = Http::new(address)?;
        Ok(Self { http, profile, saved: Mutex::new(saved), renewing: Arc::default() })
    }

    /// The server.
    pub fn address(&self) -> &Address {
        self.http.address()
    }

    /// The profile it is kept in.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// A command's ack data.
    pub async fn command(&self, kind: &str, data: Value) -> Result<Value, Failure> {
        self.request(Method::POST, "/api/commands", Some(&json!({ "type": kind, "data": data }))).await
    }

    /// A request as this user.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let token = self.access().await?;
        let ask = async |token: &str| {
            self.http.send(Request { method: method.clone(), path, token: Some(token), body }).await
        };
        match ask(&token).await {
            // Good by our clock and not by the server's; nothing was done.
            Err(failure) if is_unauthenticated(&failure) => {
                let token = self.renew(&token).await?;
                ask(&token).await.map_err(signed_out)
            }
            answer => answer,
        }
    }

    /// An access token that is valid as far as can be told from here.
    pub async fn access(&self) -> Result<String, Failure> {
        let saved = self.saved().clone();
        if is_fresh(&saved) { Ok(saved.access_token) } else { self.renew(&saved.access_token).await }
    }

    /// The next access token after one that is known to be no good.
    pub async fn renew(&self, spent: &str) -> Result<String, Failure> {
        let (http, profile, spent) = (self.http.clone(), self.profile.clone(), spent.to_owned());
        let renewing = Arc::clone(&self.renewing).lock_owned().await;
        let task = tokio::spawn(async move {
            let outcome = rotate(&http, &profile, &spent).await;
            drop(renewing);
            outcome
        });
        let saved = task.await.map_err(|error| Failure::Usage(format!("renewing the token failed: {error}")))??;
        let token = saved.access_token.clone();
        *self.saved() = saved;
        Ok(token)
    }

    /// Waits, for a bounded time, until no token is being renewed.
    pub async fn settle(&self) {
        // Nothing can be done about a server that does not answer.
        let _ = tokio::time::timeout(SETTLE_PATIENCE, self.renewing.lock()).await;
    }

    fn saved(&self) -> std::sync::MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an answer of `/auth/register`, `/auth/login` or `/auth/refresh` leaves to be kept.
pub fn from_answer(address: &Address, answer: &Value) -> Result<Saved, Failure> {
    let text = |key: &str| answer[key].as_str().map(str::to_owned);
    let saved = || {
        Some(Saved {
            server: address.to_string(),
            user: answer["user"].clone(),
            access_token: text("access_token")?,
            refresh_token: text("refresh_token")?,
            expires_at: now_seconds() + answer["expires_in"].as_u64()?,
        })
    };
    saved().ok_or_else(|| Failure::Unreachable(format!("{address} answered without tokens; is it a Veza Chat Server?")))
}

async fn rotate(http: &Http, profile: &Profile, spent: &str) -> Result<Saved, Failure> {
    let _lock = profile.lock().await?;
    let gone = || Failure::NotSignedIn(format!("profile {} was signed out meanwhile", profile.name()));
    let saved = profile.load()?.ok_or_else(gone)?;
    if saved.server != http.address().to_string() {
        return Err(gone());
    }
    if saved.access_token != spent && is_fresh(&saved) {
        return Ok(saved);
    }
    match http.post("/auth/refresh", &json!({ "refresh_token": saved.refresh_token })).await {
        Ok(answer) => {
            let saved = from_answer(http.address(), &answer)?;
            profile.save(&saved)?;
            Ok(saved)
        }
        // It will never be good again: what is kept of it would only hide that one has to sign in.
        Err(Failure::Refused(refusal)) if refusal.code.starts_with("refresh_") => {
            profile.forget()?;
            Err(Failure::NotSignedIn(format!("{} ({})", refusal.message, refusal.code)))
        }
        Err(failure) => Err(failure),
    }
}

fn is_fresh(saved: &Saved) -> bool {
    now_seconds() + LEEWAY_SECONDS < saved.expires_at
}

fn is_unauthenticated(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(refusal) if refusal.code == "unauthenticated")
}

fn signed_out(failure: Failure) -> Failure {
    match failure {
        Failure::Refused(refusal) if refusal.code == "unauthenticated" => Failure::NotSignedIn(refusal.message),
        other => other,
    }
}

fn now_seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}
