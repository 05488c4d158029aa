//! Access tokens and WebSocket tickets: JSON Web Tokens (RFC 7519), signed with HS256 only.
//!
//! Invariants:
//! - the server fixes the algorithm: a token with `alg: none` or any other algorithm is refused before its claims are
//!   read (RFC 8725 §3.1). Otherwise anybody could forge a token;
//! - the claim `typ` separates access tokens from tickets. A ticket is part of a URL, which appears in logs, so it must
//!   never work for HTTP requests;
//! - time is an argument: the library does not read the clock, and `exp` and `nbf` are checked here with
//!   [`LEEWAY_SECONDS`] for clocks that differ;
//! - verification allocates little and looks nothing up. It proves what was true at issue. The caller must ask whether
//!   the session was revoked or the ticket used since.

use super::bot_token::{BotToken, BotTokenKey};
use super::proof;
use super::refresh::SuccessorKey;
use super::signing::{KeyTag, SECRET_BYTES_MIN, SecretError, SigningKey};
use crate::ids::{MAX_SAFE_INTEGER, SessionId, UserId};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode, errors::ErrorKind,
};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How far clocks may differ.
pub const LEEWAY_SECONDS: i64 = 5;
/// How long a WebSocket ticket is valid.
pub const TICKET_LIFETIME_SECONDS: i64 = 30;
/// Longest token that is parsed; the server's own have about 400 bytes.
pub const TOKEN_BYTES_MAX: usize = 2_048;

const ISSUER: &str = "veza-chat";
const AUDIENCE: &str = "veza-chat";
const TYPE_ACCESS: &str = "access";
const TYPE_TICKET: &str = "ticket";

/// Why a token was refused. The client receives the text, which reveals nothing beyond the token itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// Not three parts of base64url JSON, or a claim is missing or of the wrong type.
    #[error("The token is malformed.")]
    Malformed,
    /// Signed with another algorithm than HS256, or not at all.
    #[error("The token's algorithm is not accepted.")]
    Algorithm,
    /// Names a key that is not among the server's: it was replaced since.
    #[error("The token was signed with a key that is no longer in use. Sign in again.")]
    UnknownKey,
    /// The signature is wrong.
    #[error("The token's signature is wrong.")]
    Signature,
    /// From another issuer.
    #[error("The token comes from another issuer.")]
    Issuer,
    /// For another audience.
    #[error("The token is meant for another service.")]
    Audience,
    /// A ticket instead of an access token, or the reverse.
    #[error("The token is of the wrong kind. Tickets open WebSockets only; use an access token for everything else.")]
    WrongType,
    /// It has expired.
    #[error("The token has expired. Refresh it or sign in again.")]
    Expired,
    /// It is not valid yet.
    #[error("The token is not valid yet. Check the clock of this device and of the server.")]
    NotYetValid,
}

/// The claims of a valid access token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccessClaims {
    /// The user.
    pub user: UserId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// When it expires, in seconds since 1970.
    pub expires_at_seconds: i64,
    /// The key that signed it.
    pub key: KeyTag,
}

/// The claims of a valid ticket.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TicketClaims {
    /// The user.
    pub user: UserId,
    /// The session that it belongs to.
    pub session: SessionId,
    /// Unique. The caller must remember it until the ticket has expired, which makes the ticket single use.
    pub ticket_id: String,
    /// When it expires, in seconds since 1970.
    pub expires_at_seconds: i64,
    /// The key that signed it.
    pub key: KeyTag,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    sid: i64,
    typ: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

/// Signs and verifies tokens. Several keys are valid at once, so that a new one can take over while tokens of the old
/// one are still in use.
#[derive(Clone)]
pub struct TokenKeys {
    encoding: EncodingKey,
    header: Header,
    validation: Validation,
    /// The key that signs, and those that signed before.
    verifying: Vec<VerifyingKey>,
    successors: SuccessorKey,
    proof_key: [u8; 32],
    bots: BotTokenKey,
}

#[derive(Clone)]
struct VerifyingKey {
    id: String,
    tag: KeyTag,
    decoding: DecodingKey,
    until_seconds: i64,
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.ids().collect();
        f.debug_struct("TokenKeys").field("ids", &ids).finish_non_exhaustive()
    }
}

impl TokenKeys {
    /// One key, from the server's secret.
    ///
    /// # Errors
    /// The secret is shorter than [`SECRET_BYTES_MIN`] bytes.
    pub fn new(secret: &[u8]) -> Result<Self, SecretError> {
        Self::with_keys(secret, &SigningKey::of_secret(secret), &[])
    }

    /// The key `present` signs, and all of them verify. What is not a token's signature still comes from `secret`: the
    /// successors of refresh tokens, the challenges of registrations, and the tags of bots' tokens.
    ///
    /// # Errors
    /// The secret or a key is shorter than [`SECRET_BYTES_MIN`] bytes.
    pub fn with_keys(secret: &[u8], present: &SigningKey, former: &[SigningKey]) -> Result<Self, SecretError> {
        let lengths = [secret.len(), present.secret.len()].into_iter().chain(former.iter().map(|key| key.secret.len()));
        if let Some(short) = lengths.into_iter().find(|bytes| *bytes < SECRET_BYTES_MIN) {
            return Err(SecretError::TooShort(short));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would read the system clock and check `exp` only. `check` checks all claims and the time.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some(present.id.clone());
        let verifying = std::iter::once(present).chain(former).map(|key| VerifyingKey {
            id: key.id.clone(),
            tag: KeyTag::of(&key.id),
            decoding: DecodingKey::from_secret(&key.secret),
            until_seconds: key.until_seconds,
        });
        Ok(Self {
            encoding: EncodingKey::from_secret(&present.secret),
            header,
            validation,
            verifying: verifying.collect(),
            successors: SuccessorKey::new(secret),
            proof_key: proof::key_of(secret),
            bots: BotTokenKey::new(secret),
        })
    }

    /// The ids of the keys, the one that signs first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.verifying.iter().map(|key| key.id.as_str())
    }

    /// Whether a key is among these.
    #[must_use]
    pub fn has(&self, key: KeyTag) -> bool {
        self.verifying.iter().any(|known| known.tag == key)
    }

    /// The key of the challenges for registrations.
    #[must_use]
    pub fn proof_key(&self) -> [u8; 32] {
        self.proof_key
    }

    /// The successor of a refresh token.
    #[must_use]
    pub fn refresh_successor(&self, token: &str) -> String {
        self.successors.successor(token)
    }

    /// Issues a token of a bot.
    #[must_use]
    pub fn issue_bot_token(&self, bot: UserId) -> String {
        self.bots.issue(bot)
    }

    /// Reads a token of a bot.
    ///
    /// # Errors
    /// This server did not issue it.
    pub fn read_bot_token(&self, token: &str) -> Result<BotToken, TokenError> {
        self.bots.read(token).ok_or(TokenError::Malformed)
    }

    /// Issues an access token.
    #[must_use]
    pub fn issue_access(&self, user: UserId, session: SessionId, now_seconds: i64, lifetime_seconds: i64) -> String {
        self.issue(TYPE_ACCESS, user, session, now_seconds, lifetime_seconds)
    }

    /// Issues a ticket for one WebSocket of a browser, which cannot set headers.
    #[must_use]
    pub fn issue_ticket(&self, user: UserId, session: SessionId, now_seconds: i64) -> String {
        self.issue(TYPE_TICKET, user, session, now_seconds, TICKET_LIFETIME_SECONDS)
    }

    fn issue(&self, typ: &str, user: UserId, session: SessionId, now_seconds: i64, lifetime_seconds: i64) -> String {
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: user.0.to_string(),
            sid: session.0,
            typ: typ.to_owned(),
            jti: URL_SAFE_NO_PAD.encode(rand::random::<[u8; 16]>()),
            iat: now_seconds,
            nbf: now_seconds,
            exp: now_seconds.saturating_add(lifetime_seconds),
        };
        // PROOF: HMAC takes a key of any length, and the claims are strings and integers, so this cannot fail. If it
        // did, the empty token would be refused.
        encode(&self.header, &claims, &self.encoding).unwrap_or_default()
    }

    /// Verifies an access token against `now_seconds`.
    ///
    /// # Errors
    /// The first check that it does not pass.
    pub fn verify_access(&self, token: &str, now_seconds: i64) -> Result<AccessClaims, TokenError> {
        let (claims, user, key) = self.check(token, TYPE_ACCESS, now_seconds)?;
        Ok(AccessClaims { user, session: SessionId(claims.sid), expires_at_seconds: claims.exp, key })
    }

    /// Verifies a ticket against `now_seconds`. The caller must refuse a ticket id that was used before.
    ///
    /// # Errors
    /// The first check that it does not pass.
    pub fn verify_ticket(&self, token: &str, now_seconds: i64) -> Result<TicketClaims, TokenError> {
        let (claims, user, key) = self.check(token, TYPE_TICKET, now_seconds)?;
        let (session, expires_at_seconds) = (SessionId(claims.sid), claims.exp);
        Ok(TicketClaims { user, session, ticket_id: claims.jti, expires_at_seconds, key })
    }

    fn check(&self, token: &str, typ: &str, now_seconds: i64) -> Result<(Claims, UserId, KeyTag), TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        let header = decode_header(token).map_err(|error| refined(&error))?;
        if header.alg != Algorithm::HS256 {
            return Err(TokenError::Algorithm);
        }
        // Every token of this server names its key, so one look-up finds the only key that may have signed it.
        let named = header.kid.as_deref().and_then(|id| self.verifying.iter().find(|key| key.id == id));
        let key = named.filter(|key| now_seconds < key.until_seconds).ok_or(TokenError::UnknownKey)?;
        let claims = decode::<Claims>(token, &key.decoding, &self.validation).map_err(|error| refined(&error))?.claims;
        if claims.iss != ISSUER {
            return Err(TokenError::Issuer);
        }
        if claims.aud != AUDIENCE {
            return Err(TokenError::Audience);
        }
        if claims.typ != typ {
            return Err(TokenError::WrongType);
        }
        if now_seconds >= claims.exp.saturating_add(LEEWAY_SECONDS) {
            return Err(TokenError::Expired);
        }
        if now_seconds < claims.nbf.saturating_sub(LEEWAY_SECONDS) {
            return Err(TokenError::NotYetValid);
        }
        let user = claims.sub.parse::<i64>().map_err(|_| TokenError::Malformed)?;
        let ids_in_range = [user, claims.sid].iter().all(|id| (1..=MAX_SAFE_INTEGER).contains(id));
        if !ids_in_range || claims.jti.is_empty() || claims.jti.len() > 64 {
            return Err(TokenError::Malformed);
        }
        Ok((claims, UserId(user), key.tag))
    }
}

fn refined(error: &jsonwebtoken::errors::Error) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidAlgorithm | ErrorKind::MissingAlgorithm | ErrorKind::UnsupportedAlgorithm => {
            TokenError::Algorithm
        }
        ErrorKind::InvalidSignature => TokenError::Signature,
        _ => TokenError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
    const NOW: i64 = 1_750_000_000;
    const USER: UserId = UserId(7);
    const SESSION: SessionId = SessionId(11);

    fn keys() -> TokenKeys {
        TokenKeys::new(SECRET).unwrap()
    }

    fn good_claims() -> Value {
        json!({"iss": "veza-chat", "aud": "veza-chat", "sub": "7", "sid": 11, "typ": "access", "jti": "j",
               "iat": NOW, "nbf": NOW, "exp": NOW + 60})
    }

    fn signed(claims: &Value, edit: impl FnOnce(&mut Header)) -> String {
        let mut header = keys().header;
        edit(&mut header);
        encode(&header, claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    fn refused_with(key: &str, value: Value) -> TokenError {
        let mut claims = good_claims();
        claims[key] = value;
        keys().verify_access(&signed(&claims, |_| ()), NOW).unwrap_err()
    }

    #[test]
    fn an_access_token_round_trips_until_it_expires() {
        let keys = keys();
        let token = keys.issue_access(USER, SESSION, NOW, 900);
        let key = KeyTag::of(keys.ids().next().unwrap());
        let expected = AccessClaims { user: USER, session: SESSION, expires_at_seconds: NOW + 900, key };
        for now in [NOW - LEEWAY_SECONDS, NOW, NOW + 900, NOW + 900 + LEEWAY_SECONDS - 1] {
            assert_eq!(keys.verify_access(&token, now), Ok(expected), "{now}");
        }
        assert_eq!(keys.verify_access(&token, NOW + 900 + LEEWAY_SECONDS), Err(TokenError::Expired));
        assert_eq!(keys.verify_access(&token, NOW - LEEWAY_SECONDS - 1), Err(TokenError::NotYetValid));
    }

    #[test]
    fn tickets_and_access_tokens_do_not_replace_each_other() {
        let keys = keys();
        let ticket = keys.issue_ticket(USER, SESSION, NOW);
        let claims = keys.verify_ticket(&ticket, NOW).unwrap();
        assert_eq!((claims.user, claims.session), (USER, SESSION));
        assert_eq!(claims.expires_at_seconds, NOW + TICKET_LIFETIME_SECONDS);
        let other = keys.verify_ticket(&keys.issue_ticket(USER, SESSION, NOW), NOW).unwrap();
        assert_ne!(claims.ticket_id, other.ticket_id);
        assert_eq!(keys.verify_access(&ticket, NOW), Err(TokenError::WrongType));
        assert_eq!(keys.verify_ticket(&keys.issue_access(USER, SESSION, NOW, 9), NOW), Err(TokenError::WrongType));
    }

    #[test]
    fn the_token_that_the_refusal_tests_alter_is_valid() {
        assert!(keys().verify_access(&signed(&good_claims(), |_| ()), NOW).is_ok());
    }

    #[test]
    fn alg_none_is_refused_with_and_without_a_signature() {
        let token = keys().issue_access(USER, SESSION, NOW, 900);
        let (_, rest) = token.split_once('.').unwrap();
        let (payload, signature) = rest.split_once('.').unwrap();
        for alg in ["none", "None", "NONE"] {
            let kid = keys().header.kid;
            let header = URL_SAFE_NO_PAD.encode(json!({"alg": alg, "typ": "JWT", "kid": kid}).to_string());
            for forged in [format!("{header}.{payload}."), format!("{header}.{payload}.{signature}")] {
                assert!(keys().verify_access(&forged, NOW).is_err(), "{forged}");
            }
        }
    }

    #[test]
    fn other_algorithms_are_refused_even_with_the_right_secret() {
        for alg in [Algorithm::HS384, Algorithm::HS512] {
            let token = signed(&good_claims(), |header| header.alg = alg);
            assert_eq!(keys().verify_access(&token, NOW), Err(TokenError::Algorithm));
        }
    }

    #[test]
    fn a_wrong_or_missing_kid_is_refused() {
        let wrong = signed(&good_claims(), |header| header.kid = Some("0011223344556677".into()));
        assert_eq!(keys().verify_access(&wrong, NOW), Err(TokenError::UnknownKey));
        let missing = signed(&good_claims(), |header| header.kid = None);
        assert_eq!(keys().verify_access(&missing, NOW), Err(TokenError::UnknownKey));
        let rotated = TokenKeys::new(b"another secret of at least 32 bytes").unwrap();
        assert_eq!(
            keys().verify_access(&rotated.issue_access(USER, SESSION, NOW, 9), NOW),
            Err(TokenError::UnknownKey)
        );
    }

    #[test]
    fn a_new_key_signs_and_the_former_ones_verify_until_their_time() {
        let new = SigningKey { id: "2026-12".to_owned(), secret: vec![9; 32], until_seconds: i64::MAX };
        let former = SigningKey { until_seconds: NOW + 900, ..SigningKey::of_secret(SECRET) };
        let rotated = TokenKeys::with_keys(SECRET, &new, &[former]).unwrap();
        let (old, fresh) =
            (keys().issue_access(USER, SESSION, NOW, 900), rotated.issue_access(USER, SESSION, NOW, 900));
        assert!(rotated.verify_access(&old, NOW + 899).is_ok());
        assert_eq!(rotated.verify_access(&old, NOW + 900), Err(TokenError::UnknownKey), "its key has retired");
        let claims = rotated.verify_access(&fresh, NOW).unwrap();
        assert_eq!(claims.key, KeyTag::of("2026-12"));
        assert!(rotated.has(claims.key) && !keys().has(claims.key));
        assert_eq!(keys().verify_access(&fresh, NOW), Err(TokenError::UnknownKey), "a node that does not know it yet");
        assert_eq!(rotated.refresh_successor("token"), keys().refresh_successor("token"), "comes from the secret");
        // The signature of one key under the name of another.
        let forged = signed(&good_claims(), |header| header.kid = Some("2026-12".to_owned()));
        assert_eq!(rotated.verify_access(&forged, NOW), Err(TokenError::Signature));
    }

    #[test]
    fn each_claim_is_checked() {
        assert_eq!(refused_with("iss", json!("other")), TokenError::Issuer);
        assert_eq!(refused_with("aud", json!("other")), TokenError::Audience);
        assert_eq!(refused_with("typ", json!("refresh")), TokenError::WrongType);
        assert_eq!(refused_with("exp", json!(NOW - LEEWAY_SECONDS)), TokenError::Expired);
        assert_eq!(refused_with("exp", json!(i64::MIN)), TokenError::Expired);
        assert_eq!(refused_with("nbf", json!(NOW + LEEWAY_SECONDS + 1)), TokenError::NotYetValid);
        for (key, value) in [
            ("sub", json!("seven")),
            ("sub", json!("-7")),
            ("sub", json!("0")),
            ("sub", json!(7)),
            ("sub", json!("9007199254740992")),
            ("sid", json!("11")),
            ("sid", json!(0)),
            ("jti", json!("")),
            ("exp", json!(null)),
            ("nbf", json!(null)),
            ("exp", json!("tomorrow")),
            ("aud", json!(["veza-chat", "other"])),
        ] {
            assert_eq!(refused_with(key, value.clone()), TokenError::Malformed, "{key} = {value}");
        }
    }

    #[test]
    fn any_flipped_character_is_refused() {
        let token = keys().issue_access(USER, SESSION, NOW, 900);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let forged = String::from_utf8(bytes).unwrap();
            assert!(keys().verify_access(&forged, NOW).is_err(), "{at}");
        }
        for bad in ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", &"x".repeat(TOKEN_BYTES_MAX + 1)] {
            assert_eq!(keys().verify_access(bad, NOW), Err(TokenError::Malformed), "{bad}");
        }
    }

    #[test]
    fn a_short_secret_is_refused_and_never_printed() {
        assert_eq!(TokenKeys::new(&[7; 31]).unwrap_err(), SecretError::TooShort(31));
        assert!(!format!("{:?}", keys()).contains("abcdef"));
    }
}
