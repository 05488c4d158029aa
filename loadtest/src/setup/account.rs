//! The users of a run: registered the first time, logged in on every later run with the same prefix.
//!
//! Invariant: names depend only on the prefix and the index, so a rerun never piles up users in the server's database.

use super::api::{Api, ApiError};
use crate::progress;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

/// The default password of all users.
pub const PASSWORD: &str = "load-Test_7-harbour-evening";
/// Concurrent registrations and creations of rooms in measurements other than `run`.
pub const SETUP_CONCURRENCY: u32 = 8;

/// A signed-in user.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its id on the server.
    pub id: u64,
    /// The name.
    pub username: String,
    /// The access token.
    pub token: String,
}

/// The common values of all sign-ins of a run.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// Prefix of every name.
    pub prefix: String,
    /// The password of all users.
    pub password: String,
}

#[derive(Serialize)]
struct Register<'a> {
    username: &'a str,
    email: String,
    password: &'a str,
}

#[derive(Serialize)]
struct Credentials<'a> {
    login: &'a str,
    password: &'a str,
    device_name: &'a str,
}

#[derive(Deserialize)]
struct Session {
    user: User,
    access_token: String,
}

#[derive(Deserialize)]
struct User {
    id: u64,
}

impl SignIn {
    /// The name of a user.
    pub fn username(&self, index: u32) -> String {
        format!("{}-{index:05}", self.prefix)
    }

    /// Registers the user, or logs in when the name is taken.
    pub async fn enter(&self, api: &Api, index: u32) -> Result<Account, String> {
        let username = self.username(index);
        let email = format!("{username}@loadtest.example");
        let body = Register { username: &username, email, password: &self.password };
        match api.post::<_, Session>("/auth/register", None, &body).await {
            Ok(session) => Ok(Account { id: session.user.id, username, token: session.access_token }),
            Err(error) if error.status() == Some(409) => self.login(api, username).await,
            Err(error) => Err(format!("cannot register {username}: {error}")),
        }
    }

    /// Logs a known user in: on a rerun, or when the token has expired.
    pub async fn login(&self, api: &Api, username: String) -> Result<Account, String> {
        let body = Credentials { login: &username, password: &self.password, device_name: "loadtest" };
        match api.post::<_, Session>("/auth/login", None, &body).await {
            Ok(session) => Ok(Account { id: session.user.id, token: session.access_token, username }),
            Err(error @ ApiError::Refused { status: 401 | 403, .. }) => Err(format!(
                "{username} exists, but cannot log in: {error}. Give the --password it was registered with, or choose \
                 another --prefix"
            )),
            Err(error) => Err(format!("cannot log in as {username}: {error}")),
        }
    }

    /// Signs in `users` users, a few at a time, in order of index. With several nodes, at each in turn.
    pub async fn sign_in_all(
        &self,
        nodes: &[Api],
        users: u32,
        concurrency: u32,
        quiet: bool,
    ) -> Result<Vec<Account>, String> {
        let bar = progress::bar(quiet, u64::from(users), "signing users in");
        let accounts = stream::iter(0..users)
            .map(|index| self.enter(&nodes[index as usize % nodes.len()], index))
            .buffered(concurrency as usize)
            .inspect_ok(|_| bar.inc(1))
            .try_collect()
            .await;
        bar.finish_and_clear();
        accounts
    }
}
