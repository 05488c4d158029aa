//! The audit chain, as anybody can check it: the canonical form of a row, the order of a whole chain, signed heads.
//!
//! PostgreSQL makes the chain (`migrations/functions/commit/append_audit.sql`). This is a second implementation of the
//! same rules from docs/audit.md, so that a fault or a change of the first does not verify itself.
//!
//! Pure: rows and texts in, findings out. Deliberately absent: a Merkle tree. The chain has one writer and few readers,
//! and a verifier has the whole database.

pub mod caller;
pub mod chain;
pub mod erasure;
pub mod note;
mod ranges;
pub mod row;
pub mod suspicion;

/// A SHA-256.
pub type Hash = [u8; 32];

fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).unwrap_or_default();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The origin of a chain's checkpoints, and the name of the key that signs them.
#[must_use]
pub fn origin(log_id: &str) -> String {
    format!("veza-chat/audit/{log_id}")
}
