//! `loadtest floor`: what this machine can do at all for the same shape of work.
//!
//! A figure of a server says little without the figure of the least program that could do the same: a bare loop that
//! reads bytes and writes them to a room's sockets ([`sockets`]), and a bare loader that commits the server's rows with
//! the server's statement ([`postgres`]). Ratios to these two are what carries from one machine to another.
//!
//! Invariants:
//! - the floor does strictly less than a server: no WebSocket, no JSON, no rules, no database behind its sockets, no
//!   sockets before its database. Whatever it did besides would flatter the server;
//! - it does the same *kind* of work: as many bytes per message as the server's own encoder writes ([`frames`]), over
//!   TCP on loopback, with the server's schema and statement. A smaller message or a simpler table would be no floor;
//! - the socket floor is a process of its own, and its CPU is read from the same place as a server's
//!   ([`crate::measure::process`]);
//! - everything sent is counted when it arrives; a floor that lost something is an error, not a result.
//!
//! Deliberately absent: a bare `io_uring` loop. Submitting to a ring takes `unsafe`, which this crate does without; on
//! loopback the prototypes of both were within 20 % of each other.

pub mod beside;
pub mod cli;
mod drive;
mod frames;
pub mod postgres;
pub mod sockets;
pub mod summary;
mod wire;
