//! The keys of stored secrets, which are those of two-factor authentication and of webhooks: a report of the keys that
//! are missing, and the rotation.

use super::error::BootError;
use crate::auth::sealed::{SealedOwner, SealedSecret, SealingKeys, UnsealError};
use crate::hooks::secret;
use crate::ids::UserId;
use crate::storage::accounts::Accounts;
use crate::storage::accounts::two_factor::StoredSecret;
use crate::storage::bots::{BotStore, SealedBotSecret};
use crate::storage::webhooks::{SecretsToReseal, WebhookSecret, WebhookStore};

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
    match WebhookStore::new(accounts.clone()).keys_in_use().await {
        Ok(used) => {
            for (id, count) in used.iter().filter(|(id, _)| keys.ids().all(|known| known != id)) {
                tracing::error!(
                    "the secrets of {count} webhooks are encrypted with the key {id:?}, which is not in \
                     security.encryption_keys: these webhooks send nothing. Add the key (older keys come after the \
                     present one), restore data_dir/encryption_key, or let their owners rotate the secrets"
                );
            }
        }
        Err(error) => tracing::warn!("cannot check the keys of webhooks: {error}"),
    }
    match BotStore::new(accounts.clone()).keys_in_use().await {
        Ok(used) => {
            for (id, count) in used.iter().filter(|(id, _)| keys.ids().all(|known| known != id)) {
                tracing::error!(
                    "the secrets of {count} bots are encrypted with the key {id:?}, which is not in \
                     security.encryption_keys: their slash commands are not posted to URLs. Add the key, restore \
                     data_dir/encryption_key, or let their owners rotate the secrets"
                );
            }
        }
        Err(error) => tracing::warn!("cannot check the keys of bots: {error}"),
    }
}

/// Encrypts every secret under the present key, a batch at a time. Returns how many it changed. The server may run
/// meanwhile, if it has the present key.
pub(super) async fn rotate(accounts: &Accounts, keys: &SealingKeys) -> Result<u64, BootError> {
    let of_users = rotate_of_users(accounts, keys).await?;
    let of_webhooks = rotate_of_webhooks(&WebhookStore::new(accounts.clone()), keys).await?;
    let of_bots = rotate_of_bots(&BotStore::new(accounts.clone()), keys).await?;
    let rotated = of_users.0 + of_webhooks.0 + of_bots.0;
    let failed = of_users.1 + of_webhooks.1 + of_bots.1;
    if failed > 0 {
        return Err(BootError::Configuration(format!(
            "security.encryption_keys: {rotated} secrets were encrypted again, and {failed} could not be read; the log \
             names their keys. Add these keys after the present one and run rotate-keys again"
        )));
    }
    Ok(rotated)
}

/// Of webhooks. Returns how many were changed, and how many could not be read.
async fn rotate_of_webhooks(store: &WebhookStore, keys: &SealingKeys) -> Result<(u64, u64), BootError> {
    let (mut rotated, mut failed, mut after) = (0, 0, 0);
    loop {
        let batch = store.to_reseal(keys.current_id(), after, BATCH).await.map_err(BootError::Refused)?;
        let Some(last) = batch.last() else { return Ok((rotated, failed)) };
        after = last.webhook;
        for old in batch {
            let reseal =
                |stored: &WebhookSecret| Ok(secret::seal(keys, old.webhook, &secret::open(keys, old.webhook, stored)?));
            match reseal(&old.secret) {
                Ok(secret) => {
                    // An old secret that cannot be read signs nothing any more, and is forgotten.
                    let previous = old.previous.as_ref().and_then(|previous| reseal(previous).ok());
                    let new = SecretsToReseal { webhook: old.webhook, secret, previous };
                    store.reseal(&old, &new).await.map_err(BootError::Refused)?;
                    rotated += 1;
                }
                Err(error) => note_unreadable(&mut failed, "webhook", old.webhook, &error),
            }
        }
    }
}

/// Of bots with slash commands. Returns how many were changed, and how many could not be read.
async fn rotate_of_bots(store: &BotStore, keys: &SealingKeys) -> Result<(u64, u64), BootError> {
    let (mut rotated, mut failed, mut after) = (0, 0, UserId(0));
    loop {
        let batch = store.to_reseal(keys.current_id(), after, BATCH).await.map_err(BootError::Refused)?;
        let Some((last, ..)) = batch.last() else { return Ok((rotated, failed)) };
        after = *last;
        for (bot, key_id, bytes) in batch {
            let owner = SealedOwner::Bot(bot);
            let old = SealedSecret { key_id, bytes };
            match keys.open(owner, &old) {
                Ok(secret) => {
                    let new = keys.seal(owner, &secret);
                    let new = SealedBotSecret { key_id: &new.key_id, sealed: &new.bytes };
                    rotated += u64::from(store.reseal(bot, &old.bytes, new).await.map_err(BootError::Refused)?);
                }
                Err(error) => note_unreadable(&mut failed, "bot", bot.0, &error),
            }
        }
    }
}

fn note_unreadable(failed: &mut u64, what: &str, number: i64, error: &UnsealError) {
    *failed += 1;
    if *failed <= LOGGED_MAX {
        tracing::error!("the secret of {what} {number} stays as it is: {error}");
    }
}

/// Of two-factor authentication. Each batch that changes a secret is a transaction with a row of the audit trail.
/// Returns how many were changed, and how many could not be read.
async fn rotate_of_users(accounts: &Accounts, keys: &SealingKeys) -> Result<(u64, u64), BootError> {
    let (mut rotated, mut failed, mut after) = (0, 0, UserId(0));
    loop {
        let batch = accounts.secrets_to_reseal(keys.current_id(), after, BATCH).await.map_err(BootError::Refused)?;
        let Some((last, _)) = batch.last() else { break };
        after = *last;
        let mut resealed = Vec::with_capacity(batch.len());
        for (user, stored) in batch {
            let old = SealedSecret { key_id: stored.key_id, bytes: stored.sealed };
            let owner = SealedOwner::User(user);
            match keys.open(owner, &old) {
                Ok(secret) => {
                    let new = keys.seal(owner, &secret);
                    let enrolment = stored.enrolment;
                    let new = StoredSecret { enrolment, key_id: new.key_id, sealed: new.bytes };
                    resealed.push((user, old.key_id, new));
                }
                Err(error) => note_unreadable(&mut failed, "user", user.0, &error),
            }
        }
        // A secret that was replaced meanwhile does not count: the server has encrypted the new one.
        rotated += accounts.reseal(keys.current_id(), &resealed).await.map_err(BootError::Refused)?;
    }
    Ok((rotated, failed))
}
