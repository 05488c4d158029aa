//! What the server does when something fails: it is killed, PostgreSQL hangs or refuses, reads flood it.
//!
//! How: every test starts its own server, since it kills, floods or starves it. This binary is apart from `server`, so
//! that these tests do not slow down the others.
#![cfg(feature = "test-db")]

mod crash;
mod differential;
#[path = "../support/mod.rs"]
mod support;
