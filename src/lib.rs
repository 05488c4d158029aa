//! Veza Chat Server.
pub mod boot;
pub mod config;
pub mod error;
pub mod ids;
pub mod limits;
