//! Veza Chat Server.
pub mod auth;
pub mod control;
pub mod error;
pub mod ids;
pub mod limits;
pub mod mesh;
pub mod storage;
