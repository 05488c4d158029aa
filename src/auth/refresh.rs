//! Refresh tokens: 32 random bytes, told once, stored only as a SHA-256 digest.
//!
//! A plain digest (no salt, no stretching) is enough because the token has 256 bits of entropy: there is nothing to
//! guess. Whoever reads the table can therefore not sign in with it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Longest refresh token that is worth hashing; ours have 43 characters.
pub const REFRESH_TOKEN_BYTES_MAX: usize = 128;

/// A new token, as base64url without padding (43 characters).
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
    fn tokens_differ_and_hash_alike() {
        let token = new_token();
        assert_eq!(token.len(), 43);
        assert_ne!(token, new_token());
        assert_eq!(hash(&token), hash(&token.clone()));
        assert_eq!(hash("abc")[..4], [0xba, 0x78, 0x16, 0xbf], "FIPS 180-4, first example");
    }
}
