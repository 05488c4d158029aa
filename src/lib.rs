//! Veza Chat Server.
pub mod error;
pub mod ids;
pub mod limits;
pub mod net;
pub mod wire;
