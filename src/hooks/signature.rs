//! Signatures of deliveries: Standard Webhooks 1.0, symmetric (`v1`).
//!
//! `webhook-signature` is a list, separated by spaces, of `v1,` and the base64 of HMAC-SHA256 over
//! `webhook-id.webhook-timestamp.body`. While a secret is being rotated, both sign.
//!
//! One call of `hmac` is all there is to sign. The official libraries, which also verify, check it in the tests.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of a secret. Standard Webhooks asks for 24 to 64.
pub const SECRET_BYTES: usize = 32;
const PREFIX: &str = "whsec_";

/// A new secret.
#[must_use]
pub fn new_secret() -> [u8; SECRET_BYTES] {
    rand::random()
}

/// The form in which people copy a secret.
#[must_use]
pub fn shown(secret: &[u8]) -> String {
    format!("{PREFIX}{}", STANDARD.encode(secret))
}

/// The value of `webhook-signature`.
#[must_use]
pub fn sign<'a>(secrets: impl IntoIterator<Item = &'a [u8]>, id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures = secrets.into_iter().map(|secret| {
        // PROOF: HMAC takes a key of any length.
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    });
    signatures.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn signs_as_the_specification_does() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed =
            sign([secret.as_slice()], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn both_secrets_sign_during_a_rotation() {
        let [one, two] = [[1; SECRET_BYTES], [2; SECRET_BYTES]];
        let each = [&one, &two].map(|secret| sign([secret.as_slice()], "a", 1, b"{}"));
        assert_eq!(sign([one.as_slice(), two.as_slice()], "a", 1, b"{}"), each.join(" "));
        assert!(shown(&one).starts_with("whsec_") && shown(&one).len() == 6 + 44);
    }
}
