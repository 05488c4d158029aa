//! `loadtest floor`: what this machine can do at most for the same shape of work.
//!
//! A figure of a server means little without the figure of the smallest program that could do the same. These programs
//! are a loop that reads bytes and writes them to a room's sockets ([`sockets`]), and a loader that commits the
//! server's rows with the server's statement ([`postgres`]). Ratios to these two carry from one machine to another.
//!
//! Invariants:
//! - the floor does strictly less than a server: no WebSocket, no JSON, no rules, no database behind its sockets, no
//!   sockets in front of its database. Any extra work would flatter the server;
//! - it does the same *kind* of work: as many bytes per message as the server's own encoder writes ([`frames`]), over
//!   TCP on loopback, with the server's schema and statement. A smaller message or a simpler table would be no floor;
//! - the socket floor is its own process, and its CPU is measured like a server's ([`crate::measure::process`]);
//! - everything sent is counted when it arrives. A floor that lost something is an error, not a result.
//!
//! Deliberately absent: an `io_uring` loop. Submitting to a ring takes `unsafe`, which this crate does without. On
//! loopback the prototypes of both were within 20 % of each other.

pub mod beside;
pub mod cli;
mod drive;
mod frames;
mod history;
pub mod postgres;
pub mod sockets;
pub mod summary;
mod wire;
