//! The keys of stored secrets: a report of those that are missing, and the rotation.

use super::error::BootError;
use crate::auth::sealed::{SealedSecret, SealingKeys};
use crate::ids::UserId;
use crate::storage::accounts::Accounts;
use crate::storage::accounts::two_factor::StoredSecret;

/// Secrets that the rotation reads at once.
const BATCH: i64 = 100;
/// Problems that the rotation logs one by one.
const LOGGED_MAX: u64 = 20;

/// Logs which stored secrets nobody can read with these keys. Their users cannot sign in with a code, so the operator
/// must learn it at once.
pub(super) async fn report_unknown_keys(accounts: &Accounts, keys: &SealingKeys) {
    match accounts.keys_in_use().await {
        Ok(used) => {
            for (id, count) in used.iter().filter(|(id, _)| keys.ids().all(|known| known != id)) {
                tracing::error!(
                    "the two-factor secrets of {count} users are encrypted with the key {id:?}, which is not in \
                     security.encryption_keys: these users can sign in with backup codes only. Add the key (older \
                     keys come after the present one), or restore data_dir/encryption_key if the server made it"
                );
            }
        }
        Err(error) => tracing::warn!("cannot check the keys of two-factor secrets: {error}"),
    }
}

/// Encrypts every secret under the present key, a batch at a time. Each batch that changes a secret is a transaction
/// with a row of the audit trail. Returns how many it changed. The server may run
/// meanwhile, if it has the present key.
pub(super) async fn rotate(accounts: &Accounts, keys: &SealingKeys) -> Result<u64, BootError> {
    let (mut rotated, mut failed, mut after) = (0, 0, UserId(0));
    loop {
        let batch = accounts.secrets_to_reseal(keys.current_id(), after, BATCH).await.map_err(BootError::Refused)?;
        let Some((last, _)) = batch.last() else { break };
        after = *last;
        let mut resealed = Vec::with_capacity(batch.len());
        for (user, stored) in batch {
            let old = SealedSecret { key_id: stored.key_id, bytes: stored.sealed };
            match keys.open(user, &old) {
                Ok(secret) => {
                    let new = keys.seal(user, &secret);
                    let enrolment = stored.enrolment;
                    let new = StoredSecret { enrolment, key_id: new.key_id, sealed: new.bytes };
                    resealed.push((user, old.key_id, new));
                }
                Err(error) => {
                    failed += 1;
                    if failed <= LOGGED_MAX {
                        tracing::error!(user = user.0, "the two-factor secret of a user stays as it is: {error}");
                    }
                }
            }
        }
        // A secret that was replaced meanwhile does not count: the server has encrypted the new one.
        rotated += accounts.reseal(keys.current_id(), &resealed).await.map_err(BootError::Refused)?;
    }
    if failed > 0 {
        return Err(BootError::Configuration(format!(
            "security.encryption_keys: {rotated} secrets were encrypted again, and {failed} could not be read; the log \
             names their keys. Add these keys after the present one and run rotate-keys again"
        )));
    }
    Ok(rotated)
}
