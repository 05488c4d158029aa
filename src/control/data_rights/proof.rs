//! The password again: for what cannot be undone, and for what shows everything.

use super::super::current_password;
use super::super::extract::PeerAddress;
use super::super::problem::Problem;
use super::super::second_factor::{FactorCaller, GivenCode};
use super::super::state::Control;
use super::super::two_factor;
use super::state::DataRights;
use crate::audit::caller::Caller;
use crate::error::{ErrorCode, Refusal};
use serde::Deserialize;

/// The password again, and a code if the account has a second factor.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OwnerProof {
    password: String,
    code: Option<String>,
    backup_code: Option<String>,
}

/// Checks that the person at the device is the owner of the account.
///
/// # Errors
/// `forbidden` for a wrong password, `step_up_required`, `two_factor_invalid`, and those of the limits.
pub(super) async fn reauthenticate(
    control: &Control,
    factor: FactorCaller,
    peer: PeerAddress,
    proof: OwnerProof,
) -> Result<Caller, Problem> {
    let code = GivenCode::read("code", proof.code, proof.backup_code)?.filter(|_| factor.state.enabled);
    if code.is_none() {
        factor.require_fresh(control).await?;
    }
    let caller = factor.caller;
    let login = current_password::account(control, caller.user).await?;
    let client = control.sign_ins().sign_in(peer.network())?;
    let check = current_password::check(control, &login, client, peer, ("password", proof.password)).await?;
    check.succeeded();
    if let Some(code) = code {
        two_factor::give_again(control, &caller, peer, code).await?;
    }
    Ok(caller)
}

pub(super) fn rights(control: &Control) -> Result<DataRights, Problem> {
    control.data_rights().cloned().ok_or_else(|| {
        let detail = "This server has no key that signs receipts, so it cannot erase anybody. Its log says why.";
        Refusal::new(ErrorCode::StorageUnavailable, detail).into()
    })
}
