//! Tokens of bots: `veza_bot_` and 64 characters of base64url.
//!
//! ```text
//!   8 bytes    the bot's user id, big endian
//!   24 bytes   random
//!   16 bytes   HMAC-SHA256 of the above, with a key of the server
//! ```
//!
//! The store has the SHA-256 of the token only, and it alone decides whether the token is valid. The tag proves by
//! computation that this server issued the token for this bot. So a shard knows whose budget to charge before it asks
//! PostgreSQL, and invented tokens cost no query. The consequence: a new `security.jwt_secret` ends every token.

use super::mac::hmac_sha256;
use super::random_token;
use crate::ids::{MAX_SAFE_INTEGER, UserId};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

/// How every token begins, so that people and scanners of source code recognise it.
pub const PREFIX: &str = "veza_bot_";
/// Separates this use of the server's secret from the others.
const PURPOSE: &[u8] = b"veza-chat bot token v1";
const USER_BYTES: usize = 8;
const RANDOM_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const BODY_BYTES: usize = USER_BYTES + RANDOM_BYTES;

/// A token whose tag is right: what it is stored under, and whose it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BotToken {
    /// The bot.
    pub bot: UserId,
    /// The digest of the token.
    pub hash: [u8; 32],
}

/// Issues tokens of bots and checks their tags.
#[derive(Clone)]
pub struct BotTokenKey([u8; 32]);

impl BotTokenKey {
    /// From the secret that also signs access tokens.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac_sha256(secret, PURPOSE))
    }

    /// A new token of `bot`.
    #[must_use]
    pub fn issue(&self, bot: UserId) -> String {
        let mut bytes = Vec::with_capacity(BODY_BYTES + TAG_BYTES);
        bytes.extend_from_slice(&bot.0.to_be_bytes());
        bytes.extend_from_slice(&rand::random::<[u8; RANDOM_BYTES]>());
        let tag = hmac_sha256(&self.0, &bytes);
        bytes.extend_from_slice(&tag[..TAG_BYTES]);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Reads a token that this server may have issued.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<BotToken> {
        let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix(PREFIX)?).ok()?;
        if bytes.len() != BODY_BYTES + TAG_BYTES {
            return None;
        }
        let (body, tag) = bytes.split_at(BODY_BYTES);
        // PROOF: HMAC takes a key of any length (RFC 2104 section 2).
        let mut expected = Hmac::<Sha256>::new_from_slice(&self.0).expect("any key");
        expected.update(body);
        expected.verify_truncated_left(tag).ok()?;
        let bot = body.first_chunk().map(|bytes| i64::from_be_bytes(*bytes))?;
        let is_id = (1..=MAX_SAFE_INTEGER).contains(&bot);
        is_id.then(|| BotToken { bot: UserId(bot), hash: random_token::hash(token) })
    }
}

impl fmt::Debug for BotTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BotTokenKey")
    }
}

/// Whether a text is meant to be a token of a bot.
#[must_use]
pub fn is_bot_token(text: &str) -> bool {
    text.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_bot_and_nobody_else_can_make_one() {
        let key = BotTokenKey::new(&[7; 48]);
        let token = key.issue(UserId(42));
        assert_eq!((token.len(), is_bot_token(&token)), (PREFIX.len() + 64, true));
        assert_ne!(token, key.issue(UserId(42)));
        assert_eq!(key.read(&token), Some(BotToken { bot: UserId(42), hash: random_token::hash(&token) }));
        assert_eq!(BotTokenKey::new(&[8; 48]).read(&token), None, "another server's");
        for at in PREFIX.len()..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(key.read(&String::from_utf8(bytes).unwrap()), None, "{at}");
        }
        for bad in ["", PREFIX, "veza_bot", &token[1..], &token[..token.len() - 4], &format!("{token}AAAA")] {
            assert_eq!(key.read(bad), None, "{bad}");
        }
        assert_eq!(key.read(&key.issue(UserId(0))), None);
    }
}
