//! Codes of authenticator apps (RFC 6238: SHA-1, 6 digits, 30 seconds) and backup codes.
//!
//! Invariants:
//! - a code names its step, and the caller must accept a step only if it is later than the last accepted one. Otherwise
//!   somebody who sees a code could use it again for a minute and a half (RFC 6238 section 5.2);
//! - only digests of backup codes are stored. A code has 80 random bits, so a plain digest is enough. It includes the
//!   user, so that two users never have the same digest.
//!
//! Deliberately absent: other algorithms and lengths, which common apps ignore, and codes by e-mail or SMS.

use crate::ids::UserId;
use base32::Alphabet;
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use sha2::{Digest, Sha256};
use totp_rs::{Algorithm, Builder, Secret, Totp};

/// Bytes of a secret (RFC 4226 section 4 recommends 160 bits).
pub const SECRET_BYTES: usize = 20;
/// Backup codes of a set.
pub const BACKUP_CODES: usize = 10;
/// Digits of a code.
const DIGITS: u8 = 6;
/// Seconds of a step.
const STEP_SECONDS: u64 = 30;
/// Steps before and after the present one whose codes are accepted, for clocks that differ.
const SKEW_STEPS: u16 = 1;
/// Random bytes of a backup code.
const BACKUP_CODE_BYTES: usize = 10;
const _: () = assert!(BACKUP_CODE_BYTES * 8 >= 64, "codes that nobody can guess need no salt of their own");
/// Longest code that is read; a longer one is wrong.
const CODE_BYTES_MAX: usize = 64;
/// The name that apps show above the code.
const ISSUER: &str = "Veza Chat";
const BASE32: Alphabet = Alphabet::Rfc4648 { padding: false };

/// A secret for a new enrolment.
#[must_use]
pub fn new_secret() -> [u8; SECRET_BYTES] {
    rand::random()
}

/// A secret as apps take it when it is typed.
#[must_use]
pub fn secret_text(secret: &[u8]) -> String {
    base32::encode(BASE32, secret)
}

/// What the QR code says. A user name needs no escapes.
#[must_use]
pub fn otpauth_url(username: &str, secret: &[u8]) -> String {
    let issuer = ISSUER.replace(' ', "%20");
    format!(
        "otpauth://totp/{issuer}:{username}?secret={}&issuer={issuer}&algorithm=SHA1&digits={DIGITS}\
         &period={STEP_SECONDS}",
        secret_text(secret)
    )
}

/// A QR code as SVG; `None` if the text is too long for one.
#[must_use]
pub fn qr_svg(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let svg = code.render::<svg::Color<'_>>().min_dimensions(240, 240).build();
    // Without the XML declaration it can be part of a page.
    Some(svg.find("<svg").map_or(svg.clone(), |start| svg[start..].to_owned()))
}

/// The step whose code this is, if it is the present one or a neighbour. `None` for a wrong code.
#[must_use]
pub fn matched_step(secret: &[u8], code: &str, now_seconds: i64) -> Option<i64> {
    if code.len() > CODE_BYTES_MAX {
        return None;
    }
    // Apps show the code with a space in its middle.
    let code: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    if code.len() != usize::from(DIGITS) || !code.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let step = totp(secret.try_into().ok()?).check(&code, u64::try_from(now_seconds).ok()?)?;
    i64::try_from(step).ok()
}

fn totp(secret: [u8; SECRET_BYTES]) -> Totp {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_skew(SKEW_STEPS)
        .with_step_duration(STEP_SECONDS)
        .with_secret(Secret::new_stack(secret))
        .build_noncompliant() // it checks nothing, and these values are constants
}

/// A new set of backup codes, to be shown once.
#[must_use]
pub fn new_backup_codes() -> Vec<String> {
    (0..BACKUP_CODES).map(|_| backup_code(&rand::random())).collect()
}

/// `xxxx-xxxx-xxxx-xxxx`.
fn backup_code(bytes: &[u8; BACKUP_CODE_BYTES]) -> String {
    let mut text = String::new();
    for (at, c) in base32::encode(BASE32, bytes).to_ascii_lowercase().chars().enumerate() {
        if at > 0 && at % 4 == 0 {
            text.push('-');
        }
        text.push(c);
    }
    text
}

/// The digest of a user's backup code, as it is stored. Case, blanks and hyphens of the typed code do not matter.
#[must_use]
pub fn backup_code_hash(user: UserId, code: &str) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(b"veza-chat backup code v1");
    digest.update(user.0.to_be_bytes());
    if code.len() <= CODE_BYTES_MAX {
        let typed = code.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase());
        digest.update(typed.collect::<String>());
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The secret of the vectors in RFC 6238, appendix B.
    const SECRET: &[u8; SECRET_BYTES] = b"12345678901234567890";

    #[test]
    fn accepts_the_codes_of_rfc_6238() {
        // The RFC shows 8 digits. A code of 6 digits is their end (RFC 4226 section 5.3).
        for (seconds, code) in [
            (59, "94287082"),
            (1_111_111_109, "07081804"),
            (1_111_111_111, "14050471"),
            (1_234_567_890, "89005924"),
            (2_000_000_000, "69279037"),
            (20_000_000_000, "65353130"),
        ] {
            assert_eq!(matched_step(SECRET, &code[2..], seconds), Some(seconds / 30), "{seconds}");
        }
    }

    #[test]
    fn accepts_the_neighbours_of_a_step_and_names_the_step_of_the_code() {
        let step = 1_111_111_111 / 30;
        for (offset, accepted) in [(-2, false), (-1, true), (0, true), (1, true), (2, false)] {
            let found = matched_step(SECRET, "050471", (step + offset) * 30);
            assert_eq!(found, accepted.then_some(step), "{offset}");
        }
        assert_eq!(matched_step(SECRET, "050 471", step * 30), Some(step), "as apps show it");
    }

    #[test]
    fn refuses_what_is_no_code() {
        let long = "0".repeat(CODE_BYTES_MAX + 1);
        for code in ["", "050472", "50471", "0050471", "+50471", "０５０４７１", "05047a", "050471050471", &long]
        {
            assert_eq!(matched_step(SECRET, code, 1_111_111_111), None, "{code:?}");
        }
        assert_eq!(matched_step(b"short", "050471", 1_111_111_111), None);
        assert_eq!(matched_step(SECRET, "050471", -1), None);
    }

    #[test]
    fn describes_the_secret_for_apps() {
        let url = otpauth_url("ann_1", SECRET);
        assert_eq!(
            url,
            "otpauth://totp/Veza%20Chat:ann_1?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=Veza%20Chat\
             &algorithm=SHA1&digits=6&period=30"
        );
        let svg = qr_svg(&otpauth_url(&"n".repeat(50), SECRET)).unwrap();
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>"), "{svg}");
        assert_ne!(new_secret(), new_secret());
    }

    #[test]
    fn backup_codes_are_long_distinct_and_typed_freely() {
        let codes = new_backup_codes();
        let distinct: std::collections::BTreeSet<_> = codes.iter().collect();
        assert_eq!((codes.len(), distinct.len()), (10, 10));
        assert_eq!(backup_code(&[0xff; 10]), "7777-7777-7777-7777");
        let hash = backup_code_hash(UserId(7), &codes[0]);
        let typed = format!(" {} ", codes[0].to_uppercase().replace('-', " "));
        assert_eq!(hash, backup_code_hash(UserId(7), &typed));
        assert_ne!(hash, backup_code_hash(UserId(8), &codes[0]), "another user's code");
        assert_ne!(hash, backup_code_hash(UserId(7), &codes[1]));
    }
}
