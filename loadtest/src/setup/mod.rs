//! Set-up before a run: a server (unless one is given), its users and their rooms.

pub mod account;
pub mod api;
pub mod insert;
pub mod launch;
pub mod pin;
pub mod rooms;
