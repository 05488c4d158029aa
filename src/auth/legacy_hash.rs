//! Passwords of older versions, which were hashed with bcrypt. A right one is hashed again with Argon2id at sign-in.
//!
//! Invariant: no hash is computed whose cost is above the configured one. A hash says its own cost, and 31 would take a
//! core for days. So a hash that somebody put into the database cannot stop sign-ins.

use super::password::{HashFailure, forms};
use bcrypt::HashParts;

/// The result of a check.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LegacyMatch {
    /// The password is right.
    Right,
    /// The password is wrong.
    Wrong,
    /// The hash costs more than allowed. Nothing was computed.
    TooCostly {
        /// Its cost.
        cost: u32,
    },
}

/// Whether a stored hash is one of bcrypt.
#[must_use]
pub fn is_bcrypt(stored: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| stored.starts_with(prefix))
}

/// Whether a form of `password` matches `stored`. Like older versions, bcrypt reads 72 bytes of it at most.
///
/// # Errors
/// `stored` is not a hash of bcrypt.
pub fn verify_bcrypt(password: &str, stored: &str, cost_max: u32) -> Result<LegacyMatch, HashFailure> {
    let parts: HashParts = stored.parse().map_err(|error| HashFailure::new(format!("bcrypt: {error}")))?;
    let cost = parts.get_cost();
    if cost > cost_max {
        return Ok(LegacyMatch::TooCostly { cost });
    }
    // A password that bcrypt refuses, such as one with a NUL, is wrong.
    let is_right = forms(password).iter().any(|form| bcrypt::verify(form, stored).unwrap_or(false));
    Ok(if is_right { LegacyMatch::Right } else { LegacyMatch::Wrong })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifies_hashes_of_every_prefix() {
        // From the test vectors of the original implementation (John the Ripper's, for `U*U`).
        let stored = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        for prefix in ["$2a$", "$2b$", "$2y$"] {
            let stored = stored.replacen("$2a$", prefix, 1);
            assert!(is_bcrypt(&stored));
            assert_eq!(verify_bcrypt("U*U", &stored, 12).unwrap(), LegacyMatch::Right, "{prefix}");
            assert_eq!(verify_bcrypt("U*V", &stored, 12).unwrap(), LegacyMatch::Wrong, "{prefix}");
        }
        assert_eq!(verify_bcrypt("U\0U", stored, 12).unwrap(), LegacyMatch::Wrong);
    }

    #[test]
    fn computes_no_hash_above_the_allowed_cost() {
        // At cost 31 the test would not end.
        let stored = "$2b$31$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";
        assert_eq!(verify_bcrypt("U*U", stored, 12).unwrap(), LegacyMatch::TooCostly { cost: 31 });
    }

    #[test]
    fn a_broken_hash_is_a_failure_of_the_server() {
        assert!(verify_bcrypt("U*U", "$2b$12$short", 12).is_err());
        assert!(!is_bcrypt(super::super::password::DUMMY_HASH));
    }
}
