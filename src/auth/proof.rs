//! Proof of work: what a registration may have to bring, so that many accounts cost computing time. Pure.
//!
//! 1. A client asks for a challenge. It is signed and carries its own expiry, so nothing is remembered of it.
//! 2. The client looks for a nonce such that SHA-256 of `challenge:nonce` begins with `difficulty` zero bits. That
//!    takes 2^difficulty attempts on average.
//! 3. The registration brings both. A challenge is redeemed once; its id is remembered until it expires.
//!
//! The key comes from the secret that signs tokens ([`key_of`]). So a restart voids no challenge that a client is
//! solving, and every node accepts those of the others.
//!
//! Invariant: only ids of redeemed challenges are remembered, and each of them has cost its work. When the memory is
//! full, registrations wait; otherwise a forgotten challenge could be redeemed again. Each process remembers its own: a
//! proof is worth one account on each node, and one more after a restart within its five minutes.

use super::mac::hmac_sha256;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use std::collections::HashMap;

/// How long a challenge is valid, in seconds: a slow phone must have time to solve it and to repeat.
pub const CHALLENGE_SECONDS: i64 = 300;
/// Longest nonce.
const NONCE_BYTES_MAX: usize = 32;
/// Redeemed challenges that are remembered, 40 bytes each.
const REDEEMED_MAX: usize = 100_000;

/// Separates this use of the server's secret from the others.
const PURPOSE: &[u8] = b"veza-chat registration proof of work v1";

const ID_BYTES: usize = 16;
const SIGNED_BYTES: usize = ID_BYTES + 8;

/// A task for a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// What the proof begins with.
    pub challenge: String,
    /// The zero bits that the digest must begin with; 0 if no proof is needed.
    pub difficulty: u8,
    /// When it expires, in seconds of Unix time.
    pub expires_seconds: i64,
}

/// Why a proof was refused, for the program that sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofRefused {
    /// None was sent.
    #[error("proof: Registrations need a proof of work. Solve the challenge of GET /auth/register/challenge.")]
    Missing,
    /// The challenge is not the server's, or has expired.
    #[error("proof.challenge: It is not valid or has expired. Get a new one from GET /auth/register/challenge.")]
    Challenge,
    /// The digest has too few zero bits.
    #[error("proof.nonce: It does not solve the challenge.")]
    Nonce,
    /// It was redeemed before.
    #[error("proof.challenge: It was used already. Get a new one from GET /auth/register/challenge.")]
    Used,
    /// Too many challenges were redeemed within their lifetime.
    #[error("Too many registrations were made. Try again in some minutes.")]
    Full,
}

/// The key of the challenges, from the secret that also signs access tokens.
#[must_use]
pub fn key_of(secret: &[u8]) -> [u8; 32] {
    hmac_sha256(secret, PURPOSE)
}

/// The challenges of a server.
pub struct Proofs {
    key: [u8; 32],
    difficulty: u8,
    /// Ids of redeemed challenges, and when these expire.
    redeemed: HashMap<[u8; ID_BYTES], i64>,
}

impl Proofs {
    /// Challenges signed with `key`, which need `difficulty` zero bits; 0 asks for no proof.
    #[must_use]
    pub fn new(key: [u8; 32], difficulty: u8) -> Self {
        Self { key, difficulty, redeemed: HashMap::new() }
    }

    /// A new challenge with this random id.
    #[must_use]
    pub fn challenge(&self, id: [u8; ID_BYTES], now_seconds: i64) -> Challenge {
        let expires_seconds = now_seconds + CHALLENGE_SECONDS;
        let mut signed = [0; SIGNED_BYTES];
        signed[..ID_BYTES].copy_from_slice(&id);
        signed[ID_BYTES..].copy_from_slice(&expires_seconds.to_be_bytes());
        let whole = [&signed[..], &self.signature(&signed).finalize().into_bytes()].concat();
        Challenge { challenge: URL_SAFE_NO_PAD.encode(whole), difficulty: self.difficulty, expires_seconds }
    }

    fn signature(&self, signed: &[u8]) -> Hmac<Sha256> {
        // PROOF: HMAC takes keys of every length.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).unwrap();
        mac.update(&[self.difficulty]);
        mac.update(signed);
        mac
    }

    /// Redeems a proof, the challenge and the nonce.
    ///
    /// # Errors
    /// [`ProofRefused`]; nothing was redeemed then.
    pub fn redeem(&mut self, proof: Option<(&str, &str)>, now_seconds: i64) -> Result<(), ProofRefused> {
        if self.difficulty == 0 {
            return Ok(());
        }
        let (challenge, nonce) = proof.ok_or(ProofRefused::Missing)?;
        // Longer ones are not worth decoding.
        if challenge.len() > 2 * (SIGNED_BYTES + 32) {
            return Err(ProofRefused::Challenge);
        }
        let whole = URL_SAFE_NO_PAD.decode(challenge).map_err(|_| ProofRefused::Challenge)?;
        let (signed, signature) = whole.split_first_chunk::<SIGNED_BYTES>().ok_or(ProofRefused::Challenge)?;
        self.signature(signed).verify_slice(signature).map_err(|_| ProofRefused::Challenge)?;
        let (id, expires) = signed.split_first_chunk::<ID_BYTES>().ok_or(ProofRefused::Challenge)?;
        let expires = i64::from_be_bytes(expires.try_into().map_err(|_| ProofRefused::Challenge)?);
        if expires <= now_seconds {
            return Err(ProofRefused::Challenge);
        }
        if nonce.len() > NONCE_BYTES_MAX || zero_bits(challenge, nonce) < u32::from(self.difficulty) {
            return Err(ProofRefused::Nonce);
        }
        if self.redeemed.len() >= REDEEMED_MAX {
            self.redeemed.retain(|_, expires| *expires > now_seconds);
        }
        if self.redeemed.contains_key(id) {
            return Err(ProofRefused::Used);
        } else if self.redeemed.len() >= REDEEMED_MAX {
            return Err(ProofRefused::Full);
        }
        self.redeemed.insert(*id, expires);
        Ok(())
    }
}

/// The zero bits at the beginning of the digest.
fn zero_bits(challenge: &str, nonce: &str) -> u32 {
    let digest = Sha256::new().chain_update(challenge).chain_update(":").chain_update(nonce).finalize();
    let first = digest.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    first.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_000;

    fn solve(challenge: &str, difficulty: u8) -> String {
        let mut nonces = (0..1_000_000u64).map(|nonce| nonce.to_string());
        nonces.find(|nonce| zero_bits(challenge, nonce) >= u32::from(difficulty)).unwrap()
    }

    #[test]
    fn redeems_a_solved_challenge_once_and_before_it_expires() {
        let mut proofs = Proofs::new([7; 32], 10);
        let Challenge { challenge, difficulty, expires_seconds } = proofs.challenge([1; 16], NOW);
        let nonce = solve(&challenge, difficulty);
        let proof = Some((challenge.as_str(), nonce.as_str()));
        assert_eq!(proofs.redeem(None, NOW), Err(ProofRefused::Missing));
        assert_eq!(proofs.redeem(Some((&challenge, "unsolved")), NOW), Err(ProofRefused::Nonce));
        assert_eq!(proofs.redeem(proof, expires_seconds), Err(ProofRefused::Challenge));
        assert_eq!(proofs.redeem(proof, NOW), Ok(()));
        assert_eq!(proofs.redeem(proof, NOW), Err(ProofRefused::Used));
        // What another server, or the same with less work, has signed is not worth anything.
        for other in [Proofs::new([8; 32], 10), Proofs::new([7; 32], 9)] {
            let challenge = other.challenge([2; 16], NOW).challenge;
            let nonce = solve(&challenge, 10);
            assert_eq!(proofs.redeem(Some((&challenge, &nonce)), NOW), Err(ProofRefused::Challenge));
        }
        for challenge in ["", "no base64!", "AAAA", &"A".repeat(10_000)] {
            assert_eq!(proofs.redeem(Some((challenge, "0")), NOW), Err(ProofRefused::Challenge));
        }
    }

    #[test]
    fn servers_with_one_secret_accept_the_challenges_of_each_other() {
        let server = |secret: &[u8]| Proofs::new(key_of(secret), 4);
        let challenge = server(b"secret").challenge([3; 16], NOW).challenge;
        let nonce = solve(&challenge, 4);
        let proof = Some((challenge.as_str(), nonce.as_str()));
        assert_eq!(server(b"secret").redeem(proof, NOW), Ok(()));
        assert_eq!(server(b"another").redeem(proof, NOW), Err(ProofRefused::Challenge));
        assert_ne!(key_of(b"secret"), <[u8; 32]>::from(Sha256::digest(b"secret")));
    }

    #[test]
    fn remembers_no_more_than_its_bound() {
        let mut proofs = Proofs::new([7; 32], 1);
        proofs.redeemed = (0..REDEEMED_MAX)
            .map(|n| ([(n as u128).to_be_bytes(), [0; 16]].concat()[..16].try_into().unwrap(), NOW + 10))
            .collect();
        let challenge = proofs.challenge([0xff; 16], NOW).challenge;
        let nonce = solve(&challenge, 1);
        assert_eq!(proofs.redeem(Some((&challenge, &nonce)), NOW), Err(ProofRefused::Full));
        assert_eq!(proofs.redeem(Some((&challenge, &nonce)), NOW + 10), Ok(()));
        assert_eq!(proofs.redeemed.len(), 1);
    }

    #[test]
    fn asks_for_nothing_where_it_is_off() {
        assert_eq!(Proofs::new([7; 32], 0).redeem(None, NOW), Ok(()));
    }
}
