//! The keys that sign tokens: their ids, and how one takes over from another.
//!
//! A key has an id, the `kid` of a token's header. The newest key signs. The ones before it verify until no token of
//! theirs can be valid any longer. A server whose keys were never rotated has one, made from its secret.
//!
//! Invariant: a key that has signed is never forgotten before its tokens have expired, unless an operator wants that.
//! Otherwise every rotation would sign people out.

use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Least number of bytes of a key that signs (RFC 7518 §3.2: at least the digest's size).
pub const SECRET_BYTES_MIN: usize = 32;

/// A key cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SecretError {
    /// Fewer than [`SECRET_BYTES_MIN`] bytes.
    #[error("the token secret has {0} bytes; at least 32 are needed")]
    TooShort(usize),
}

/// Names a key in four bytes, for every open connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct KeyTag(u32);

impl KeyTag {
    /// Of the key with this id. Two ids with one tag are as one key where connections are closed, and nowhere else.
    #[must_use]
    pub fn of(id: &str) -> Self {
        let digest = Sha256::digest(id);
        Self(u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }
}

/// A key that signs or has signed.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// The `kid` of its tokens.
    pub id: String,
    /// The key of the HMAC.
    pub secret: Vec<u8>,
    /// When it stops verifying, in seconds since 1970; `i64::MAX` for the one that signs.
    pub until_seconds: i64,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SigningKey {
    /// The key that is made from the server's secret. Its id is derived too, so that it changes with the secret.
    #[must_use]
    pub fn of_secret(secret: &[u8]) -> Self {
        let mut id = String::with_capacity(16);
        for byte in &Sha256::digest(secret)[..8] {
            // Writing to a String cannot fail.
            let _ = write!(id, "{byte:02x}");
        }
        Self { id, secret: secret.to_vec(), until_seconds: i64::MAX }
    }
}
