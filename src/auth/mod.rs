//! Passwords, tokens, second factors and the limits of sign-ins. Pure: no I/O, no clock, no runtime; time is an
//! argument.
//!
//! Invariants:
//! - a shard verifies an access token by computation alone, with the keys of [`token::TokenKeys`]. If verification
//!   needed a look-up, a reconnect storm would reach PostgreSQL;
//! - tokens need no state here. PostgreSQL knows whether a session is revoked or a ticket used, and the caller must
//!   ask it. A valid signature proves only who the user was when the token was issued;
//! - Argon2 costs tens of milliseconds of a core and 19 MiB. It runs on the bounded blocking pool of the control plane
//!   only. On a shard it would stop every connection of that core.
//!
//! Deliberately absent: public-key signatures (one process issues and verifies), token encryption.

pub mod attempts;
pub mod bot_token;
pub mod factor_policy;
pub mod hash_queue;
pub mod legacy_hash;
pub mod mac;
pub mod password;
pub mod proof;
pub mod random_token;
pub mod refresh;
pub mod sealed;
pub mod signing;
pub mod token;
pub mod totp;
