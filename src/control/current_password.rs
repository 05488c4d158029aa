//! The current password of a signed-in user, asked for again before a dangerous change.

use super::extract::PeerAddress;
use super::hashing::HashClient;
use super::problem::Problem;
use super::sign_in_limits::PasswordCheck;
use super::state::Control;
use crate::error::{ErrorCode, Refusal};
use crate::ids::UserId;
use crate::storage::accounts::Login;

/// The account of a signed-in user.
///
/// # Errors
/// `unauthenticated` if it is no longer active.
pub(super) async fn account(control: &Control, user: UserId) -> Result<Login, Problem> {
    let login = control.accounts().find_login_by_id(user).await?;
    login.ok_or_else(|| Problem::unauthenticated("The account is no longer active."))
}

/// Checks the password of that account; `field` is its name in the request. The caller tells the check what follows.
///
/// # Errors
/// `forbidden` if it is wrong, `account_locked`, and those of the hashing queue.
pub(super) async fn check(
    control: &Control,
    login: &Login,
    client: HashClient,
    peer: PeerAddress,
    (field, password): (&str, String),
) -> Result<PasswordCheck, Problem> {
    // The session proves that the network is familiar.
    let check = control.sign_ins().check(&login.username, peer.network(), true)?;
    let opens = control.hashing().verify(client, password, Some(login.password_hash.clone())).await?;
    control.metrics().auth_attempt("password", if opens { "success" } else { "failure" });
    if opens {
        return Ok(check);
    }
    check.failed();
    control.watch().wrong_password(&login.username, Some(login.user), peer.network());
    // 403 and not 401: the token is valid, and the client must keep it.
    let detail = format!("{field}: The password is wrong. Enter the password that you signed in with.");
    Err(Refusal::new(ErrorCode::Forbidden, detail).into())
}
