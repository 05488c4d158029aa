//! HMAC-SHA-256 (RFC 2104), the one way in which keys and tags are derived from the server's secret.

use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The code of a message under a key of any length.
#[must_use]
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    // PROOF: HMAC takes a key of any length (RFC 2104 section 2).
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computes_the_codes_of_rfc_4231() {
        // Test case 2.
        assert_eq!(hmac_sha256(b"Jefe", b"what do ya want for nothing?")[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}
