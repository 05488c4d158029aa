//! A session: it sends commands with a valid access token, and renews the token when it has expired.
//!
//! Renewing a token takes these steps, and their order matters:
//! 1. acquire the profile's lock;
//! 2. read the file again: if another process has renewed the token meanwhile, use that token and stop;
//! 3. exchange the refresh token for a new pair;
//! 4. save the new pair before using it;
//! 5. release the lock.
//!
//! They run as a task of their own. A caller that is dropped (Ctrl-C) must not interrupt them between 3 and 4, when the
//! only valid refresh token is in memory. [`Session::settle`] waits for them.

use crate::address::Address;
use crate::failure::Failure;
use crate::http::{Http, Request};
use crate::profile::{Profile, Saved};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// A token that expires within this time is renewed, because it could expire on its way to the server.
const LEEWAY_SECONDS: u64 = 5;
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);

/// A signed-in user.
pub struct Session {
    http: Http,
    profile: Profile,
    saved: Mutex<Saved>,
    renewing: Arc<tokio::sync::Mutex<()>>,
}

impl Session {
    /// Opens the profile's session. `server`, if given, must be its server: tokens are sent to no other.
    pub fn open(profile: Profile, server: Option<&Address>) -> Result<Self, Failure> {
        let name = profile.name();
        let Some(saved) = profile.load()? else {
            let message = format!("you are not signed in (profile {name}); sign in with: veza login NAME");
            return Err(Failure::NotSignedIn(message));
        };
        let address = Address::parse(&saved.server).map_err(Failure::Usage)?;
        if let Some(wanted) = server.filter(|wanted| **wanted != address) {
            let message = format!(
                "profile {name} is signed in at {address}, not at {wanted}; use another --profile for that server"
            );
            return Err(Failure::NotSignedIn(message));
        }
        let http = Http::new(address)?;
        Ok(Self { http, profile, saved: Mutex::new(saved), renewing: Arc::default() })
    }

    /// The server.
    pub fn address(&self) -> &Address {
        self.http.address()
    }

    /// The profile that stores it.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Sends a command and returns the data of its ack.
    pub async fn command(&self, kind: &str, data: Value) -> Result<Value, Failure> {
        self.request(Method::POST, "/api/commands", Some(&json!({ "type": kind, "data": data }))).await
    }

    /// Sends a request as this user.
    pub async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.authorized(async |http, token| {
            http.send(Request { method: method.clone(), path, token: Some(token), body }).await
        })
        .await
    }

    /// Calls `ask` with an access token, and once more with a new one if the server no longer accepts it.
    pub async fn authorized<T>(&self, ask: impl AsyncFn(&Http, &str) -> Result<T, Failure>) -> Result<T, Failure> {
        let token = self.access().await?;
        let ask = async |token: &str| ask(&self.http, token).await;
        match ask(&token).await {
            // Valid by our clock, expired by the server's; the request had no effect.
            Err(failure) if is_unauthenticated(&failure) => {
                let token = self.renew(&token).await?;
                ask(&token).await.map_err(signed_out)
            }
            answer => answer,
        }
    }

    /// An access token that is valid by this machine's clock.
    pub async fn access(&self) -> Result<String, Failure> {
        let saved = self.saved().clone();
        if is_fresh(&saved) { Ok(saved.access_token) } else { self.renew(&saved.access_token).await }
    }

    /// A new access token after `spent`, which is no longer valid.
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

    /// Waits until no token is being renewed, at most a few seconds.
    pub async fn settle(&self) {
        // If the server does not answer, waiting longer does not help.
        let _ = tokio::time::timeout(SETTLE_PATIENCE, self.renewing.lock()).await;
    }

    fn saved(&self) -> std::sync::MutexGuard<'_, Saved> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The session in an answer of `/auth/register`, `/auth/login` or `/auth/refresh`.
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
        // The session is over. Keeping it would hide that the user has to sign in again.
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
