//! Refresh tokens: 256 bits, shown once, stored only as a SHA-256 digest.
//!
//! A plain digest (no salt, no stretching) is enough because the token has 256 bits of entropy: there is nothing to
//! guess. Somebody who reads the table can therefore not sign in with it.
//!
//! # Rotation, theft, and a lost answer
//!
//! Each refresh spends the token and issues its successor. A spent token that comes again is a sign of theft: the owner and
//! a thief both hold it, and one of them has already used it. The session is revoked then (RFC 9700 section 4.14.2).
//!
//! But an honest client also sends a spent token: when the answer with the successor was lost, or when several tabs refresh
//! at the same moment. So for [`GRACE_SECONDS`] after it was spent, a token is answered with *the same* successor again, as
//! long as that successor has not been used.
//!
//! The successor is derived from the token and a key of the server's ([`SuccessorKey`]). So the server can repeat it without
//! storing it, and nobody can compute it from a token without the key, nor from the table at all. What this costs:
//! - a thief who uses a stolen token within the grace gets the owner's own successor and not a branch of their own. Theft
//!   comes to light when one of the two uses that successor and the other does so later than the grace;
//! - a token whose successor was used is reuse at any time, so a thief cannot rewind a session;
//! - with a new key (`security.jwt_secret`) the grace of tokens spent just before is lost. Those are refused as invalid, and
//!   their session goes on with the successor.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::fmt;

/// How long after it was spent a token is answered with its successor again.
pub const GRACE_SECONDS: i64 = 30;
/// Longest refresh token that is worth hashing; ours have 43 characters.
pub const REFRESH_TOKEN_BYTES_MAX: usize = 128;

/// Separates this use of the server's secret from the signatures of tokens.
const PURPOSE: &[u8] = b"veza-chat refresh token successor v1";

/// Derives each refresh token's successor.
#[derive(Clone)]
pub struct SuccessorKey([u8; 32]);

impl SuccessorKey {
    /// From the secret that also signs access tokens.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(mac(secret, PURPOSE))
    }

    /// The token that follows `token`, always the same one.
    #[must_use]
    pub fn successor(&self, token: &str) -> String {
        URL_SAFE_NO_PAD.encode(mac(&self.0, token.as_bytes()))
    }
}

impl fmt::Debug for SuccessorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuccessorKey")
    }
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    // PROOF: HMAC takes a key of any length (RFC 2104 section 2).
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// A first token, as base64url without padding (43 characters).
#[must_use]
pub fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

/// What is stored of a token.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_needs_the_key_and_the_token() {
        let key = SuccessorKey::new(&[7; 48]);
        let next = key.successor("a");
        assert_eq!((next.len(), &next), (43, &key.successor("a")));
        assert_ne!(next, key.successor("b"));
        assert_ne!(next, SuccessorKey::new(&[8; 48]).successor("a"));
        assert_ne!(next, key.successor(&next), "a chain");
        // RFC 4231, test case 2.
        assert_eq!(mac(b"Jefe", b"what do ya want for nothing?")[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }

    #[test]
    fn tokens_differ_and_hash_alike() {
        let token = new_token();
        assert_eq!(token.len(), 43);
        assert_ne!(token, new_token());
        assert_eq!(hash(&token), hash(&token.clone()));
        assert_eq!(hash("abc")[..4], [0xba, 0x78, 0x16, 0xbf], "FIPS 180-4, first example");
    }
}
