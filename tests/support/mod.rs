//! Shared by the integration tests: server processes of their own, and clients that check what they receive.
//!
//! A test binary shares one server per number of shards ([`server`], [`shards`]); each test makes users and
//! conversations of its own, so that tests run side by side. Tests that configure or harm their server start their own.
#![allow(dead_code, unused_imports)] // every test binary compiles this module and uses a part of it

pub mod browser;
mod client;
mod log;
mod process;
pub mod protocol;
mod raw;
pub mod source;
mod users;
mod values;

pub use client::{Client, Format, Received, closed, connect_error, upgrade};
pub use log::Log;
pub use process::{Server, server, shards, signal};
pub use raw::Raw;
pub use users::{Code, PASSWORD, User, code, id_of, text};
pub use values::{PATIENCE, Random, from_env, keys, unique};
