//! Who somebody is: passwords, tokens. Pure: no I/O, no clock, no runtime; time is an argument.
//!
//! Invariants:
//! - a shard verifies an access token with arithmetic alone (keys and rules are built once, in
//!   [`token::TokenKeys`]). If verification needed a look-up, a reconnect storm would reach PostgreSQL;
//! - nothing here remembers anything: that a session is revoked, or a ticket used, is a fact of the store and is
//!   checked by whoever holds the store. A valid signature alone says who somebody *was* when it was issued;
//! - Argon2 costs tens of milliseconds of a core and 19 MiB. It must run on the control plane's bounded blocking
//!   pool only; on a shard it would stop every connection of that core.
//!
//! Deliberately absent: public-key signatures (one process issues and verifies), token encryption.

pub mod password;
pub mod refresh;
pub mod token;
