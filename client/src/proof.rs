//! The proof of work that a registration may need.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Zero bits that are tried for. A server that asks for more would keep this program busy for hours; it refuses the
/// registration instead.
const DIFFICULTY_MAX: u64 = 28;

/// Solves a challenge of `GET /auth/register/challenge`; `None` if no proof is needed.
pub fn solve(challenge: &Value) -> Option<Value> {
    let (text, difficulty) = (challenge["challenge"].as_str()?, challenge["difficulty"].as_u64()?);
    if difficulty == 0 || difficulty > DIFFICULTY_MAX {
        return None;
    }
    let begun = Sha256::new().chain_update(text).chain_update(":");
    let solves = |nonce: &String| {
        let digest = begun.clone().chain_update(nonce).finalize();
        let first = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        u64::from(first.leading_zeros()) >= difficulty
    };
    let nonce = (0..u64::MAX).map(|nonce| nonce.to_string()).find(solves)?;
    Some(json!({ "challenge": text, "nonce": nonce }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_nonce_whose_digest_begins_with_the_zero_bits() {
        let proof = solve(&json!({ "challenge": "abc", "difficulty": 12 })).unwrap();
        let digest = Sha256::digest(format!("abc:{}", proof["nonce"].as_str().unwrap()));
        assert!(digest[0] == 0 && digest[1] < 16, "{digest:?}");
        assert_eq!(solve(&json!({ "challenge": "abc", "difficulty": 0 })), None);
    }
}
