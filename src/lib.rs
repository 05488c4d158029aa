//! Veza Chat Server.
pub mod boot;
pub mod chat;
pub mod config;
pub mod error;
pub mod ids;
pub mod limits;
pub mod mesh;
pub mod net;
pub mod wire;
