//! The settings that a reload replaces while the server runs, as shards and control plane share them.
//!
//! Invariant: a part of the server reads them where it uses them, and never keeps a copy. Otherwise one request would
//! be judged by two configurations.

use crate::auth::factor_policy::FactorPolicy;
use crate::auth::token::TokenKeys;
use crate::limits::Limits;
use std::sync::Arc;

/// The settings of one load of the configuration.
#[derive(Clone, Debug)]
pub struct LiveSettings {
    /// A later load has a higher number.
    pub version: u64,
    /// Bounds that clients learn from `welcome`.
    pub limits: Limits,
    /// Whose accounts must have two-factor authentication, and who administers the server.
    pub factor_policy: FactorPolicy,
    /// Signs and verifies tokens.
    pub keys: Arc<TokenKeys>,
    /// Web origins whose pages may connect, beside the server's own.
    pub allowed_origins: Vec<String>,
    /// How long an access token is valid, in seconds.
    pub access_lifetime_seconds: i64,
    /// How long a refresh token is valid, in seconds.
    pub refresh_lifetime_seconds: i64,
}

/// How long a socket outlives the token that opened it at most: clocks differ.
const REVOCATION_MARGIN_MS: u64 = 60_000;

impl LiveSettings {
    /// How long a revocation is remembered: as long as an access token is valid, in milliseconds.
    #[must_use]
    pub fn revocation_memory_ms(&self) -> u64 {
        self.access_lifetime_seconds as u64 * 1_000 + REVOCATION_MARGIN_MS
    }
}
