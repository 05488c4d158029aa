//! Secrets that the server must read again, encrypted for storage: XChaCha20-Poly1305 under keys with ids.
//!
//! Invariants:
//! - who reads the database or its backup, but not the keys, learns no secret;
//! - a sealed secret opens for its owner and under its key id only. Both are authenticated, so that a row that is
//!   copied to another user or webhook does not open;
//! - the first key seals, and every key opens. So a new key can be added first, and an old one removed last.

use crate::ids::UserId;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use std::fmt;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a nonce. It is random: 192 bits never repeat by chance.
const NONCE_BYTES: usize = 24;

/// What a secret belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SealedOwner {
    /// The two-factor secret of a user.
    User(UserId),
    /// The secret that signs the deliveries of a webhook.
    Webhook(i64),
    /// The secret that signs the requests of a bot's slash commands.
    Bot(UserId),
}

/// An encrypted secret, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedSecret {
    /// Id of its key.
    pub key_id: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

/// Why a secret cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UnsealError {
    /// Its key is not among the keys.
    #[error("its key {0:?} is not in security.encryption_keys")]
    UnknownKey(String),
    /// It was changed, belongs to another owner, or another key has its key's id.
    #[error("it does not open under its key {0:?}: the stored secret was changed, or another key has this id")]
    Damaged(String),
}

/// The keys, the present one first.
#[derive(Clone)]
pub struct SealingKeys {
    current: SealingKey,
    others: Vec<SealingKey>,
}

#[derive(Clone)]
struct SealingKey {
    id: String,
    cipher: XChaCha20Poly1305,
}

impl SealingKey {
    fn new((id, key): (String, [u8; KEY_BYTES])) -> Self {
        Self { id, cipher: XChaCha20Poly1305::new(&key.into()) }
    }
}

impl fmt::Debug for SealingKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl SealingKeys {
    /// `current` seals; `others` only open.
    #[must_use]
    pub fn new(current: (String, [u8; KEY_BYTES]), others: Vec<(String, [u8; KEY_BYTES])>) -> Self {
        Self { current: SealingKey::new(current), others: others.into_iter().map(SealingKey::new).collect() }
    }

    fn all(&self) -> impl Iterator<Item = &SealingKey> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// The ids of all keys, the present one first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.all().map(|key| key.id.as_str())
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn current_id(&self) -> &str {
        &self.current.id
    }

    /// Encrypts a secret of `owner` under the present key.
    #[must_use]
    pub fn seal(&self, owner: SealedOwner, secret: &[u8]) -> SealedSecret {
        let SealingKey { id, cipher } = &self.current;
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = associated(owner, id);
        // PROOF: only a message of 256 GiB cannot be encrypted.
        let sealed = cipher.encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: &aad }).expect("a short secret");
        SealedSecret { key_id: id.clone(), bytes: [nonce.as_slice(), &sealed].concat() }
    }

    /// Decrypts a secret of `owner`.
    ///
    /// # Errors
    /// Its key is unknown, or it is damaged.
    pub fn open(&self, owner: SealedOwner, sealed: &SealedSecret) -> Result<Vec<u8>, UnsealError> {
        let id = &sealed.key_id;
        let found = self.all().find(|key| key.id == *id);
        let cipher = &found.ok_or_else(|| UnsealError::UnknownKey(id.clone()))?.cipher;
        let damaged = || UnsealError::Damaged(id.clone());
        let (nonce, rest) = sealed.bytes.split_first_chunk::<NONCE_BYTES>().ok_or_else(damaged)?;
        let aad = associated(owner, id);
        cipher.decrypt(&XNonce::from(*nonce), Payload { msg: rest, aad: &aad }).map_err(|_| damaged())
    }
}

/// What is authenticated beside the secret.
fn associated(owner: SealedOwner, key_id: &str) -> Vec<u8> {
    let (purpose, number) = match owner {
        SealedOwner::User(user) => ("veza-chat two-factor secret v1", user.0),
        SealedOwner::Webhook(webhook) => ("veza-chat webhook secret v1", webhook),
        SealedOwner::Bot(bot) => ("veza-chat bot secret v1", bot.0),
    };
    [purpose.as_bytes(), &number.to_be_bytes(), key_id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: SealedOwner = SealedOwner::User(UserId(7));

    fn key(id: &str, byte: u8) -> (String, [u8; KEY_BYTES]) {
        (id.to_owned(), [byte; KEY_BYTES])
    }

    #[test]
    fn opens_for_its_user_only_and_notices_any_change() {
        let keys = SealingKeys::new(key("a", 1), Vec::new());
        let sealed = keys.seal(ANN, b"secret");
        assert_eq!(keys.open(ANN, &sealed), Ok(b"secret".to_vec()));
        assert_ne!(sealed, keys.seal(ANN, b"secret"), "the nonce is fresh");
        let damaged = Err(UnsealError::Damaged("a".to_owned()));
        assert_eq!(keys.open(SealedOwner::User(UserId(8)), &sealed), damaged);
        assert_eq!(keys.open(SealedOwner::Webhook(7), &sealed), damaged, "of the same number");
        for at in 0..sealed.bytes.len() {
            let mut changed = sealed.clone();
            changed.bytes[at] ^= 1;
            assert_eq!(keys.open(ANN, &changed), damaged, "byte {at}");
        }
        for length in 0..sealed.bytes.len() {
            let cut = SealedSecret { bytes: sealed.bytes[..length].to_vec(), ..sealed.clone() };
            assert_eq!(keys.open(ANN, &cut), damaged, "{length} bytes");
        }
        let other = SealingKeys::new(key("a", 2), Vec::new());
        assert_eq!(other.open(ANN, &sealed), damaged, "another key of the same id");
    }

    #[test]
    fn a_new_key_seals_while_the_old_one_still_opens() {
        let old = SealingKeys::new(key("a", 1), Vec::new());
        let sealed = old.seal(ANN, b"secret");
        let both = SealingKeys::new(key("b", 2), vec![key("a", 1)]);
        let opened = both.open(ANN, &sealed).unwrap();
        let again = both.seal(ANN, &opened);
        assert_eq!((again.key_id.as_str(), both.current_id()), ("b", "b"));
        let new = SealingKeys::new(key("b", 2), Vec::new());
        assert_eq!(new.open(ANN, &again), Ok(b"secret".to_vec()));
        assert_eq!(new.open(ANN, &sealed), Err(UnsealError::UnknownKey("a".to_owned())));
        let renamed = SealedSecret { key_id: "b".to_owned(), ..sealed };
        assert_eq!(new.open(ANN, &renamed), Err(UnsealError::Damaged("b".to_owned())));
        assert_eq!(format!("{both:?}"), r#"["b", "a"]"#, "keys are never printed");
    }
}
