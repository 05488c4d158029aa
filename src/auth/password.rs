//! Passwords: which are accepted, and how they are kept.
//!
//! Kept as Argon2id PHC strings with the parameters OWASP recommends (19 MiB, two passes, one lane); a hash carries
//! its own parameters, so raising them later leaves old hashes valid.
//!
//! The same password reaches the server as different bytes, depending on the keyboard: `ë` is one code point or two. So it
//! is brought into one form before it is hashed ([`prepared`], RFC 8265). Hashes from before that rule stay valid, because
//! [`forms`] also names what may have been hashed then.
//!
//! [`verify`] takes an `Option`: with no stored hash it does the same work against [`DUMMY_HASH`], which no password
//! opens. Without that, the time of an answer would tell which user names exist.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::cell::RefCell;
use std::fmt::Display;
use unicode_normalization::UnicodeNormalization;

/// Fewest characters of a password.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Most characters of a password.
pub const PASSWORD_CHARS_MAX: usize = 128;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Random bytes in the place of salt and digest, with the parameters of real hashes: no known password opens it.
pub const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$kc6egQwozevT/egVu1hV4w$CIdPJPelZZTh0eKdMvVszLxjU2IS2bXLgo2s3LkbIHs";

const COMMON: &str = include_str!("common_passwords.txt");

/// Why a password was refused, in words for the person who chose it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PasswordRefused {
    /// Fewer than [`PASSWORD_CHARS_MIN`] characters.
    #[error("password: must have at least 8 characters")]
    TooShort,
    /// More than [`PASSWORD_CHARS_MAX`] characters.
    #[error("password: must have at most 128 characters")]
    TooLong,
    /// Among the passwords that are guessed first.
    #[error("password: is one of the most common passwords and would be guessed at once; choose another one")]
    Common,
    /// Equal to the user name.
    #[error("password: must not be the username")]
    IsUsername,
}

/// Argon2 did not run: no memory, or the stored string is not a hash. Not the fault of whoever typed the password.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("argon2: {0}")]
pub struct HashFailure(String);

/// The form in which a password is checked and hashed: spaces of any kind become U+0020, and the rest NFC (RFC 8265
/// section 4.2).
#[must_use]
pub fn prepared(password: &str) -> String {
    password.chars().map(|c| if is_space(c) { ' ' } else { c }).nfc().collect()
}

/// What a password may have been hashed as, without repetition: its prepared form, as it was typed, and decomposed as some
/// keyboards send it. One form for a password of ASCII.
#[must_use]
pub fn forms(password: &str) -> Vec<String> {
    let mut forms = vec![prepared(password)];
    for form in [password.to_owned(), password.nfd().collect()] {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// Unicode's space separators; they look alike, and a keyboard's layout decides which is typed.
fn is_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Checks a new password against the policy. Case does not make a common password uncommon.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_policy(password: &str, username: &str) -> Result<(), PasswordRefused> {
    let password = &prepared(password);
    let chars = password.chars().take(PASSWORD_CHARS_MAX + 1).count();
    if chars < PASSWORD_CHARS_MIN {
        return Err(PasswordRefused::TooShort);
    }
    if chars > PASSWORD_CHARS_MAX {
        return Err(PasswordRefused::TooLong);
    }
    let lower = password.to_lowercase();
    if lower == username.to_lowercase() {
        return Err(PasswordRefused::IsUsername);
    }
    if COMMON.lines().any(|common| common == lower) {
        return Err(PasswordRefused::Common);
    }
    Ok(())
}

thread_local! {
    /// The blocks that a hash works in, kept by the thread that hashes: taken from the heap and given back each time,
    /// they have been seen to leave hundreds of MiB in glibc's arenas.
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

fn failure(error: impl Display) -> HashFailure {
    HashFailure(error.to_string())
}

/// The digest of a password.
fn digest(password: &str, salt: &Salt, params: &Params) -> Result<Output, HashFailure> {
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    let mut digest = vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
    MEMORY
        .with_borrow_mut(|memory| {
            if memory.len() < params.block_count() {
                memory.resize(params.block_count(), Block::default());
            }
            let blocks = &mut memory[..params.block_count()];
            argon2.hash_password_into_with_memory(password.as_bytes(), salt, &mut digest, blocks)
        })
        .map_err(failure)?;
    Output::new(&digest).map_err(failure)
}

/// Hashes a password, prepared, with a fresh random salt. Tens of milliseconds of one core and 19 MiB.
///
/// # Errors
/// No memory, or no randomness.
pub fn hash(password: &str) -> Result<String, HashFailure> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None).map_err(failure)?;
    let salt = Salt::new(&rand::random::<[u8; 16]>()).map_err(failure)?;
    let hash = PasswordHash {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params).map_err(failure)?,
        hash: Some(digest(&prepared(password), &salt, &params)?),
        salt: Some(salt),
    };
    Ok(hash.to_string())
}

/// Whether a form of `password` opens `stored`; with `None` the same work is done and the answer is `false`.
///
/// # Errors
/// `stored` is not a PHC string of Argon2id, or there is no memory.
pub fn verify(password: &str, stored: Option<&str>) -> Result<bool, HashFailure> {
    let parsed = PasswordHash::new(stored.unwrap_or(DUMMY_HASH)).map_err(failure)?;
    if parsed.algorithm != Algorithm::Argon2id.ident() || parsed.version != Some(Version::V0x13.into()) {
        return Err(HashFailure(format!("a stored hash is of another kind: {}", parsed.algorithm)));
    }
    let (Some(salt), Some(expected)) = (&parsed.salt, &parsed.hash) else {
        return Err(HashFailure("a stored hash lacks its salt or digest".to_owned()));
    };
    let params = Params::try_from(&parsed).map_err(failure)?;
    for form in forms(password) {
        // `Output` compares in constant time.
        if digest(&form, salt, &params)? == *expected {
            return Ok(stored.is_some());
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_opens_to_its_password_only_and_carries_its_parameters() {
        let stored = hash("korrekt horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify("korrekt horse battery", Some(&stored)).unwrap());
        assert!(!verify("korrekt horse batterz", Some(&stored)).unwrap());
        assert_ne!(stored, hash("korrekt horse battery").unwrap(), "the salt is fresh");
    }

    #[test]
    fn one_password_opens_its_hash_however_it_was_typed() {
        let text = |bytes: &'static [u8]| std::str::from_utf8(bytes).unwrap();
        let composed = text(b"Zo\xc3\xab horse battery");
        let decomposed = text(b"Zoe\xcc\x88\xc2\xa0horse battery"); // with a no-break space
        for (hashed, typed) in [(composed, decomposed), (decomposed, composed)] {
            assert!(verify(typed, Some(&hash(hashed).unwrap())).unwrap(), "{typed:?}");
        }
        // Hashed as it came, before passwords were prepared.
        let params = Params::new(MEMORY_KIB, PASSES, LANES, None).unwrap();
        let salt = Salt::new(&[7; 16]).unwrap();
        let old = |typed: &str| {
            let phc = PasswordHash {
                algorithm: Algorithm::Argon2id.ident(),
                version: Some(Version::V0x13.into()),
                params: ParamsString::try_from(&params).unwrap(),
                hash: Some(digest(typed, &salt, &params).unwrap()),
                salt: Some(salt),
            };
            phc.to_string()
        };
        let plain = text(b"Zoe\xcc\x88 horse battery");
        assert!(verify(plain, Some(&old(plain))).unwrap());
        assert!(verify(composed, Some(&old(plain))).unwrap(), "typed on another keyboard");
        assert!(verify(decomposed, Some(&old(decomposed))).unwrap());
        assert!(!verify("Zoe horse battery", Some(&old(plain))).unwrap());
        assert_eq!(forms("plain").len(), 1);
    }

    #[test]
    fn the_dummy_costs_the_same_and_opens_to_nothing() {
        let prefix = "$argon2id$v=19$m=19456,t=2,p=1$";
        assert!(DUMMY_HASH.starts_with(prefix));
        assert_eq!(DUMMY_HASH.len(), hash("any password").unwrap().len());
        assert!(!verify("any password", None).unwrap());
        assert!(!verify("", None).unwrap());
    }

    #[test]
    fn a_broken_stored_hash_is_a_failure_and_not_a_wrong_password() {
        assert!(verify("any password", Some("plain")).is_err());
    }

    #[test]
    fn the_policy_counts_characters_and_knows_common_ones() {
        assert_eq!(check_policy("äöüäöü7", "ann"), Err(PasswordRefused::TooShort));
        assert_eq!(check_policy("äöüäöüß7", "ann"), Ok(()));
        assert_eq!(check_policy(&"é".repeat(128), "ann"), Ok(()));
        assert_eq!(check_policy(&"é".repeat(129), "ann"), Err(PasswordRefused::TooLong));
        assert_eq!(check_policy("Password123", "ann"), Err(PasswordRefused::Common));
        assert_eq!(check_policy("Annabella_9", "annabella_9"), Err(PasswordRefused::IsUsername));
    }

    #[test]
    fn the_list_holds_lower_case_lines_that_the_length_rule_does_not_cover_already() {
        let lines: Vec<&str> = COMMON.lines().collect();
        assert!(lines.len() >= 200);
        assert!(lines.iter().all(|line| line.to_lowercase() == *line && line.trim() == *line && line.is_ascii()));
        let useful = lines.iter().filter(|line| line.len() >= PASSWORD_CHARS_MIN).count();
        assert!(useful >= 200, "{useful}");
    }
}
