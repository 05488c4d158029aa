//! The secrets of webhooks, encrypted for storage.

use crate::auth::sealed::{SealedOwner, SealedSecret, SealingKeys, UnsealError};
use crate::storage::webhooks::WebhookSecret;

/// Encrypts a secret of a webhook under the present key.
#[must_use]
pub fn seal(keys: &SealingKeys, webhook: i64, secret: &[u8]) -> WebhookSecret {
    let SealedSecret { key_id, bytes } = keys.seal(SealedOwner::Webhook(webhook), secret);
    WebhookSecret { key_id, sealed: bytes }
}

/// Decrypts a secret of a webhook.
///
/// # Errors
/// Its key is unknown, or it is damaged.
pub fn open(keys: &SealingKeys, webhook: i64, stored: &WebhookSecret) -> Result<Vec<u8>, UnsealError> {
    let sealed = SealedSecret { key_id: stored.key_id.clone(), bytes: stored.sealed.clone() };
    keys.open(SealedOwner::Webhook(webhook), &sealed)
}
