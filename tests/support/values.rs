//! Names, numbers, settings and waiting times that tests use.

use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The limit of every wait. It only ends tests that would hang: no property depends on its length.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A name that no other test uses.
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    format!("{prefix}_{:x}_{}", now & 0xff_ffff_ffff, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Random numbers. The seed is printed; `CHAT_TEST_SEED` repeats a run.
pub struct Random(u64);

impl Random {
    /// Takes the seed from `CHAT_TEST_SEED` or from the clock.
    pub fn new() -> Self {
        let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
        let seed = std::env::var("CHAT_TEST_SEED").map_or_else(|_| clock(), |seed| seed.parse().unwrap());
        println!("CHAT_TEST_SEED={seed}");
        Self(seed)
    }

    /// A number from 0 to `below` − 1 (splitmix64).
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

/// A number from the environment.
pub fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// The keys of an object, sorted.
#[track_caller]
pub fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().expect("an object").keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}
