//! Veza Chat Server.
pub mod auth;
pub mod boot;
pub mod chat;
pub mod config;
pub mod control;
pub mod error;
pub mod ids;
pub mod limits;
pub mod mesh;
pub mod net;
pub mod shard;
pub mod storage;
pub mod wire;
