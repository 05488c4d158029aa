//! The answer to a successful sign-in, and the count of attempts.

use super::extract::PeerAddress;
use super::problem::Problem;
use super::state::{Control, now_seconds};
use super::view;
use crate::storage::accounts::Opened;
use serde::Serialize;

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
    /// The tokens for a client at `peer`.
    pub(super) fn new(control: &Control, peer: PeerAddress, opened: Opened, refresh_token: String) -> Self {
        control.watch().seen(opened.profile.id, opened.session, peer.address());
        let expires_in = control.live().access_lifetime_seconds;
        let access_token =
            control.live().keys.issue_access(opened.profile.id, opened.session, now_seconds(), expires_in);
        Self { user: opened.profile.into(), access_token, refresh_token, token_type: "Bearer", expires_in }
    }
}

/// Counts an attempt by its outcome.
pub(super) fn count<T>(control: &Control, kind: &'static str, answer: &Result<T, Problem>) {
    let result = match answer {
        Ok(_) => "success",
        Err(problem) if problem.status.is_server_error() => "error",
        Err(_) => "failure",
    };
    control.metrics().auth_attempt(kind, result);
}
