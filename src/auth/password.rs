//! The password policy, and the hashing of passwords.
//!
//! A hash is an Argon2id PHC string with the parameters that OWASP recommends: 19 MiB, two passes, one lane. It carries
//! its own parameters, so old hashes stay valid when the parameters are raised.
//!
//! Keyboards send the same password as different bytes: `ë` is one code point or two. Therefore a password is
//! normalised before it is hashed ([`prepared`], RFC 8265). Older hashes stay valid, because [`forms`] includes the
//! forms that they may have been made from.
//!
//! A password that is short enough to be guessed is refused by its strength ([`check_strength`], zxcvbn), in which the
//! user's own names count as words that attackers try first.
//!
//! [`verify`] takes an `Option`. Without a stored hash it does the same work against [`DUMMY_HASH`], which matches no
//! password. Otherwise the time of the response would reveal which user names exist.

use argon2::password_hash::phc::{Output, ParamsString, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use std::cell::RefCell;
use std::fmt::Display;
use unicode_normalization::UnicodeNormalization;

/// Least number of characters of a password.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// Greatest number of characters of a password.
pub const PASSWORD_CHARS_MAX: usize = 128;

/// The characters that the estimate of strength reads. Its cost grows with a power of the length: a hostile password
/// takes 20 ms of a release build at 20 characters, and a second at 64. What is guessable in so many is refused.
const ESTIMATED_CHARS_MAX: usize = 20;
/// The characters of one of the user's names that it reads.
const NAME_CHARS_MAX: usize = 32;
/// A password that is found within so many guesses (as a power of ten) is refused.
const GUESSES_LOG10_MIN: f64 = 6.0;

const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// Random bytes instead of salt and digest, with the parameters of real hashes: no known password matches it.
pub const DUMMY_HASH: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$kc6egQwozevT/egVu1hV4w$CIdPJPelZZTh0eKdMvVszLxjU2IS2bXLgo2s3LkbIHs";

const COMMON: &str = include_str!("common_passwords.txt");

/// Why a password was refused, for the person who chose it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PasswordRefused {
    /// Fewer than [`PASSWORD_CHARS_MIN`] characters.
    #[error("password: Must have at least 8 characters.")]
    TooShort,
    /// More than [`PASSWORD_CHARS_MAX`] characters.
    #[error("password: Must have at most 128 characters.")]
    TooLong,
    /// One of the passwords that attackers try first.
    #[error("password: This is one of the most common passwords, which attackers try first. Choose another one.")]
    Common,
    /// Few guesses find it.
    #[error("password: This is too easy to guess. Add another word or two, or some more characters.")]
    Guessable,
    /// Few guesses find it, because it is made of the user's own names.
    #[error("password: This is too easy to guess, because it contains your name or address. Choose another one.")]
    OwnName,
    /// Equal to the user name.
    #[error("password: Must not be the username.")]
    IsUsername,
}

/// Hashing failed: no memory, or the stored string is not a hash. The typed password is not the cause.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct HashFailure(String);

impl HashFailure {
    /// With a text for the log.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// The form in which a password is checked and hashed: spaces of any kind become U+0020, and the rest NFC (RFC 8265
/// section 4.2).
#[must_use]
pub fn prepared(password: &str) -> String {
    password.chars().map(|c| if is_space(c) { ' ' } else { c }).nfc().collect()
}

/// The forms that a stored hash may have been made from, two at most: the prepared one, and the typed one, or else the
/// decomposed one, which some keyboards send. A password of ASCII has one form.
#[must_use]
pub fn forms(password: &str) -> Vec<String> {
    let mut forms = vec![prepared(password)];
    for form in [password.to_owned(), password.nfd().collect()] {
        if !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms.truncate(2); // each costs a hash
    forms
}

/// Unicode's space separators, which look alike.
fn is_space(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
}

/// Checks a new password against the policy. The list of common passwords is compared without case.
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

/// Checks a new password against guessing. `names` are the user's own: names, and parts of the address. It costs up to
/// 20 ms, so a budget must be charged first.
///
/// # Errors
/// [`PasswordRefused::Guessable`] or [`PasswordRefused::OwnName`].
pub fn check_strength(password: &str, names: &[&str]) -> Result<(), PasswordRefused> {
    let password: String = prepared(password).chars().take(ESTIMATED_CHARS_MAX).collect();
    let names: Vec<String> =
        names.iter().map(|name| name.chars().take(NAME_CHARS_MAX).collect::<String>().to_lowercase()).collect();
    // As much of a long name as is read of the password.
    let beginnings: Vec<String> = names.iter().map(|name| name.chars().take(ESTIMATED_CHARS_MAX).collect()).collect();
    // The parts of a name are words of their own: "Ada Lovelace", "ada.lovelace".
    let parts = names.iter().flat_map(|name| name.split(|c: char| !c.is_alphanumeric()));
    let words: Vec<&str> = names
        .iter()
        .chain(&beginnings)
        .map(String::as_str)
        .chain(parts)
        .filter(|word| word.chars().count() >= 3)
        .collect();
    if zxcvbn::zxcvbn(&password, &words).guesses_log10() >= GUESSES_LOG10_MIN {
        return Ok(());
    }
    let lower = password.to_lowercase();
    let is_own = words.iter().any(|word| lower.contains(word));
    Err(if is_own { PasswordRefused::OwnName } else { PasswordRefused::Guessable })
}

thread_local! {
    /// The memory of a hash, kept by the hashing thread. Allocated for each hash, it left hundreds of MiB in glibc's
    /// arenas.
    static MEMORY: RefCell<Vec<Block>> = const { RefCell::new(Vec::new()) };
}

fn failure(error: impl Display) -> HashFailure {
    HashFailure(format!("argon2: {error}"))
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

/// Hashes the prepared form of a password with a new random salt. Costs tens of milliseconds of one core and 19 MiB.
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

/// Whether a form of `password` matches `stored`. With `None` the same work is done and the result is `false`.
///
/// # Errors
/// `stored` is not a PHC string of Argon2id, or there is no memory.
pub fn verify(password: &str, stored: Option<&str>) -> Result<bool, HashFailure> {
    let parsed = PasswordHash::new(stored.unwrap_or(DUMMY_HASH)).map_err(failure)?;
    if parsed.algorithm != Algorithm::Argon2id.ident() || parsed.version != Some(Version::V0x13.into()) {
        return Err(HashFailure(format!("a stored hash is not Argon2id: {}", parsed.algorithm)));
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
    fn a_hash_matches_only_its_password_and_carries_its_parameters() {
        let stored = hash("korrekt horse battery").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(verify("korrekt horse battery", Some(&stored)).unwrap());
        assert!(!verify("korrekt horse batterz", Some(&stored)).unwrap());
        assert_ne!(stored, hash("korrekt horse battery").unwrap(), "the salt is fresh");
    }

    #[test]
    fn a_password_matches_its_hash_in_every_form() {
        let text = |bytes: &'static [u8]| std::str::from_utf8(bytes).unwrap();
        let composed = text(b"Zo\xc3\xab horse battery");
        let decomposed = text(b"Zoe\xcc\x88\xc2\xa0horse battery"); // with a no-break space
        for (hashed, typed) in [(composed, decomposed), (decomposed, composed)] {
            assert!(verify(typed, Some(&hash(hashed).unwrap())).unwrap(), "{typed:?}");
        }
        // A hash of the typed form, from before passwords were prepared.
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
    fn the_dummy_costs_the_same_and_matches_nothing() {
        let prefix = "$argon2id$v=19$m=19456,t=2,p=1$";
        assert!(DUMMY_HASH.starts_with(prefix));
        assert_eq!(DUMMY_HASH.len(), hash("any password").unwrap().len());
        assert!(!verify("any password", None).unwrap());
        assert!(!verify("", None).unwrap());
    }

    #[test]
    fn a_broken_stored_hash_is_a_failure_of_the_server() {
        assert!(verify("any password", Some("plain")).is_err());
    }

    #[test]
    fn the_policy_counts_characters_and_refuses_common_passwords() {
        assert_eq!(check_policy("äöüäöü7", "ann"), Err(PasswordRefused::TooShort));
        assert_eq!(check_policy("äöüäöüß7", "ann"), Ok(()));
        assert_eq!(check_policy(&"é".repeat(128), "ann"), Ok(()));
        assert_eq!(check_policy(&"é".repeat(129), "ann"), Err(PasswordRefused::TooLong));
        assert_eq!(check_policy("Password123", "ann"), Err(PasswordRefused::Common));
        assert_eq!(check_policy("Annabella_9", "annabella_9"), Err(PasswordRefused::IsUsername));
    }

    #[test]
    fn the_strength_counts_patterns_and_own_names_and_not_only_characters() {
        let names = ["annabella_9", "Annabella Lovelace", "a.lovelace", "example.org"];
        for (password, refused) in [
            ("aaaaaaaaaaaaaaaa", PasswordRefused::Guessable),
            ("qwertyuiop123", PasswordRefused::Guessable),
            ("abcdefgh1234", PasswordRefused::Guessable),
            ("P@ssw0rd2024", PasswordRefused::Guessable),
            ("lovelace1", PasswordRefused::OwnName),
            ("annabella_99", PasswordRefused::OwnName),
            ("Lovelace2026", PasswordRefused::OwnName),
        ] {
            assert_eq!(check_strength(password, &names), Err(refused), "{password}");
        }
        for password in ["correct horse battery", "Tr0ub4dor&3x", "kq7VmZt9", "Zoë läuft gern", &"xK3!pQ".repeat(20)]
        {
            assert_eq!(check_strength(password, &names), Ok(()), "{password}");
        }
        assert_eq!(check_strength("lovelace-grotto", &[]), Ok(()));
    }

    #[test]
    fn the_work_of_an_estimate_does_not_grow_with_the_length() {
        // What is behind the bound changes nothing.
        let long = "ab".repeat(64);
        assert_eq!(check_strength(&long, &[]), check_strength(&long[..ESTIMATED_CHARS_MAX], &[]));
        let name = "n".repeat(10_000);
        assert_eq!(check_strength("correct horse battery", &[&name]), Ok(()));
    }

    #[test]
    fn a_check_hashes_two_forms_at_most() {
        assert_eq!(forms("Zo\u{eb}\u{a0}e\u{308}").len(), 2);
    }

    #[test]
    fn the_list_of_common_passwords_is_lower_case_and_useful() {
        let lines: Vec<&str> = COMMON.lines().collect();
        assert!(lines.len() >= 200);
        assert!(lines.iter().all(|line| line.to_lowercase() == *line && line.trim() == *line && line.is_ascii()));
        let useful = lines.iter().filter(|line| line.len() >= PASSWORD_CHARS_MIN).count();
        assert!(useful >= 200, "{useful}");
    }
}
