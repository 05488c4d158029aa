//! Veza Chat Server.
pub mod chat;
pub mod error;
pub mod ids;
pub mod limits;
pub mod mesh;
pub mod net;
pub mod wire;
