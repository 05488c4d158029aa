//! Support for the integration tests: server processes, and clients that check what they receive.
//!
//! The tests of a binary share one server per number of shards ([`server`], [`shards`]). Each test creates its own
//! users and conversations, so that tests can run at the same time. Tests that configure or harm a server start their
//! own.
#![allow(dead_code, unused_imports)] // each test binary uses a part of this module

pub mod app_codes;
pub mod browser;
pub mod captcha;
mod client;
pub mod forwarder;
pub mod legacy;
mod log;
pub mod mattermost;
pub mod mattermost_schema;
pub mod network;
mod process;
pub mod protocol;
mod raw;
pub mod receiver;
pub mod redis;
pub mod slack;
pub mod source;
mod template;
mod uploads;
mod users;
mod values;

pub use client::{Client, Format, Received, closed, connect_error, upgrade};
pub use log::Log;
pub use process::{HANDS_OVER, Server, server, shards, signal};
pub use raw::Raw;
pub use users::{Code, PASSWORD, User, code, id_of, text};
pub use values::{PATIENCE, Random, from_env, keys, unique};

use std::time::{Duration, Instant};

/// Waits until a query returns true. `condition` is its text.
pub async fn wait_until(database: &tokio_postgres::Client, condition: &str) {
    let started = Instant::now();
    // NULL is not true.
    while database.query_one(condition, &[]).await.unwrap().get::<_, Option<bool>>(0) != Some(true) {
        assert!(started.elapsed() < PATIENCE, "never true: {condition}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
