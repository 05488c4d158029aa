//! The setting for [`super::operators`].

use crate::ids::UserId;
use sha2::{Digest, Sha256};

/// The clients that count as operators.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Access {
    /// Every client that can reach the port; for development.
    Everyone,
    /// Requests through the internal listener, and with one of these tokens.
    Operators {
        /// Users whose access token is accepted.
        admins: Vec<UserId>,
        /// A token for programs.
        metrics_token: Option<MetricsToken>,
    },
}

/// The digest of a token. Comparing digests takes no time that depends on the token.
#[derive(Clone, PartialEq, Eq)]
pub struct MetricsToken([u8; 32]);

impl MetricsToken {
    /// Of the token that clients send.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

impl std::fmt::Debug for MetricsToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsToken")
    }
}
