//! Random tokens that are shown once and stored only as a SHA-256 digest: refresh tokens, challenges, and those in the
//! addresses of shared files and of incoming webhooks.
//!
//! A plain digest (no salt, no stretching) is enough, because nobody can guess a token of 256 random bits. An attacker
//! who reads the table cannot use what it has.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

/// Bytes of a token.
const TOKEN_BYTES: usize = 32;

/// A new token, as base64url without padding (43 characters).
#[must_use]
pub fn new_token() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; TOKEN_BYTES]>())
}

/// The digest of a token, as it is stored.
#[must_use]
pub fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether a text has the form of a token. Another text needs no look-up.
#[must_use]
pub fn is_token(text: &str) -> bool {
    URL_SAFE_NO_PAD.decode(text).is_ok_and(|bytes| bytes.len() == TOKEN_BYTES)
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
        assert!(is_token(&token) && !is_token(&token[1..]) && !is_token("a/b") && !is_token(""));
    }
}
