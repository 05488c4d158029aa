//! `loadtest floor`: what this machine can do at most for the same shape of work.
//!
//! A figure of a server means little without the figure of the smallest program that could do the same. These programs
//! are a loop that reads bytes and writes them to a room's sockets ([`sockets`]), a loader that commits the server's
//! rows with the server's statement ([`postgres`]), and both in one process ([`bare_loop`]). Ratios to these carry from
//! one machine to another.
//!
//! Invariants:
//! - the floor does strictly less than a server: no WebSocket, no JSON, no rules. Only the bare loop has a database
//!   behind its sockets. Any extra work would flatter the server;
//! - it does the same *kind* of work: as many bytes per message as the server's own encoder writes ([`frames`]), over
//!   TCP on loopback, with the server's schema and statement. A smaller message or a simpler table would be no floor;
//! - the loop with the sockets is a process of its own, and its CPU is measured like a server's
//!   ([`crate::measure::process`]);
//! - everything sent is counted when it arrives. A floor that lost something is an error, not a result.
//!
//! Deliberately absent: an `io_uring` loop. Submitting to a ring takes `unsafe`, which this crate does without. On
//! loopback the prototypes of both were within 20 % of each other.

pub mod bare_loop;
pub mod beside;
pub mod cli;
mod committer;
mod drive;
mod frames;
mod history;
mod loader;
pub mod postgres;
pub mod report;
mod server;
mod shape;
pub mod sockets;
mod store;
pub mod summary;
mod wire;
