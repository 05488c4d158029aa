//! Refresh tokens. The first of a session is a random token ([`super::random_token`]).
//!
//! # Rotation, theft, and a lost answer
//!
//! Each refresh spends the token and issues its successor. The reuse of a spent token is a sign of theft: the owner and
//! a thief both hold it, and one of them has used it already. The server then revokes the session (RFC 9700 section
//! 4.14.2).
//!
//! But an honest client also sends a spent token when the response was lost, or when several tabs refresh at the same
//! time. Therefore the server returns *the same* successor again for [`GRACE_SECONDS`], unless that successor has been
//! used.
//!
//! The successor is derived from the token and a key of the server ([`SuccessorKey`]). So the server can repeat it
//! without storing it. Nobody can compute it without both the token and the key. The consequences:
//! - a thief who uses a stolen token within the grace receives the owner's successor. The theft is detected one
//!   rotation later: one of the two uses that successor, and the other uses it after the grace;
//! - a token whose successor has been used counts as reuse at any time, so a thief cannot go back to an earlier token;
//! - a new `security.jwt_secret` ends the grace of tokens that were spent just before. They are refused as invalid, and
//!   the session continues with the successor.

use super::mac::hmac_sha256;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use std::fmt;

/// For how long the server returns the successor of a spent token again.
pub const GRACE_SECONDS: i64 = 30;
/// Longest refresh token that is hashed; the server's own have 43 characters.
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
        Self(hmac_sha256(secret, PURPOSE))
    }

    /// The successor of `token`, always the same one.
    #[must_use]
    pub fn successor(&self, token: &str) -> String {
        URL_SAFE_NO_PAD.encode(hmac_sha256(&self.0, token.as_bytes()))
    }
}

impl fmt::Debug for SuccessorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuccessorKey")
    }
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
    }
}
