//! Codes as an authenticator app shows them.

use std::time::{Duration, SystemTime};
use totp_rs::{Algorithm, Builder, Secret};

/// The bytes of a secret.
pub fn raw(secret: &str) -> Vec<u8> {
    base32::decode(base32::Alphabet::Rfc4648 { padding: false }, secret).unwrap()
}

/// The code of the present step, or of one of its neighbours.
pub fn app_code(secret: &str, offset: i64) -> String {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().strict_add_signed(offset * 30);
    let secret = Secret::new_stack(raw(secret).try_into().unwrap());
    Builder::new().with_algorithm(Algorithm::SHA1).with_secret(secret).build().unwrap().generate(now).to_string()
}

/// Waits until a step has just begun: codes that a test computes stay what they are for the next seconds.
pub async fn early_in_a_step() {
    let into_step = SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() % 30;
    if into_step > 12 {
        tokio::time::sleep(Duration::from_secs(31 - into_step)).await;
    }
}
