//! What a peer needs to start, a peer that runs, and why a peer is missing.

use crate::compare::child::Child;
use crate::compare::places::{Places, Ports};
use crate::compare::postgres::Postgres;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Why a peer is left out, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// What was not found.
    pub what: String,
    /// The command that installs it.
    pub install: &'static str,
}

impl Missing {
    pub(super) fn new(what: impl Into<String>, install: &'static str) -> Self {
        Self { what: what.into(), install }
    }
}

impl From<Missing> for String {
    fn from(missing: Missing) -> Self {
        format!("{}; install it: {}", missing.what, missing.install)
    }
}

/// What a peer is started with.
pub struct Ground<'a> {
    /// Where programs are.
    pub places: &'a Places,
    /// The peer's own directory; what it stores stays from round to round.
    pub directory: &'a Path,
    /// Free ports.
    pub ports: &'a mut Ports,
    /// Cores for the server and its store; empty for all.
    pub cores: &'a [usize],
    /// Threads of servers whose number is a setting.
    pub workers: u32,
    /// How many connections will be opened: connection N is user N.
    pub connections: u32,
    /// How many rooms there will be.
    pub rooms: u32,
}

impl Ground<'_> {
    pub(super) fn address(&mut self) -> Result<SocketAddr, String> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.reserve()?)))
    }
}

/// A peer that listens. Dropping it stops it, the server before its store.
#[derive(Debug)]
pub struct Running {
    /// Where its WebSocket is.
    pub address: SocketAddr,
    /// Its version, as it reports it.
    pub version: String,
    /// Its threads that do the work, when known.
    pub workers: Option<u32>,
    pub(super) server: Child,
    pub(super) store: Option<Postgres>,
}

impl Running {
    /// The server's main process.
    pub fn server_pid(&self) -> u32 {
        self.server.pid()
    }

    /// The main process of its store; `None` when it stores in its own process or stores nothing.
    pub fn store_pid(&self) -> Option<u32> {
        self.store.as_ref().map(Postgres::pid)
    }
}

/// A program that is there, or why the peer is left out.
pub(super) fn required(places: &Places, program: &str, install: &'static str) -> Result<PathBuf, Missing> {
    places.program(program).ok_or_else(|| Missing::new(format!("{program} was not found"), install))
}
