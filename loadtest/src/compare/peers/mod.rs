//! The servers that are compared: how each is found, configured, started, and stopped.
//!
//! Every peer runs in processes of its own, with its files in a directory of its own, and never as a service of the
//! machine. Each is configured as its own documentation recommends for throughput; the reasons stand beside the settings.
//! No peer may be slowed by a limit it has by default (rate shapers, room sizes, queues), and none logs per message.

pub mod ejabberd;
pub mod mosquitto;
pub mod nats;
pub mod tungstenite;
pub mod uws;

use super::child::Child;
use super::places::{Places, Ports};
use super::postgres::Postgres;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

/// A server to compare with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, clap::ValueEnum)]
pub enum PeerKind {
    /// uWebSockets.js, publish and subscribe, nothing stored
    Uws,
    /// Mosquitto, MQTT over WebSocket
    Mosquitto,
    /// NATS over WebSocket, `JetStream` that syncs every message
    Nats,
    /// ejabberd, MUC with its archive in PostgreSQL
    Ejabberd,
    /// A tokio-tungstenite server that INSERTs each message
    Tungstenite,
}

/// What an acknowledgement of a peer promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// The message survives a power cut.
    Fsync,
    /// The server has it in memory.
    Memory,
}

impl Durability {
    /// The word in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::Memory => "memory",
        }
    }
}

/// Why a peer is left out, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// What was not found.
    pub what: String,
    /// The command that installs it.
    pub install: &'static str,
}

impl Missing {
    fn new(what: impl Into<String>, install: &'static str) -> Self {
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
    /// Threads of servers that have to be told.
    pub workers: u32,
    /// How many connections will be opened: connection N is user N.
    pub connections: u32,
    /// How many rooms there will be.
    pub rooms: u32,
}

impl Ground<'_> {
    fn address(&mut self) -> Result<SocketAddr, String> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.take()?)))
    }
}

/// A peer that listens. Dropping it stops it, the server before its store.
#[derive(Debug)]
pub struct Running {
    /// Where its WebSocket is.
    pub address: SocketAddr,
    /// Its version, as it says.
    pub version: String,
    /// Its threads that do the work, when known.
    pub workers: Option<u32>,
    server: Child,
    store: Option<Postgres>,
}

impl Running {
    /// The server's main process.
    pub fn server_pid(&self) -> u32 {
        self.server.pid()
    }

    /// The main process of its store; `None` when it stores in its own process, or not at all.
    pub fn store_pid(&self) -> Option<u32> {
        self.store.as_ref().map(Postgres::pid)
    }
}

impl PeerKind {
    /// Its name on the command line and in directories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uws => "uws",
            Self::Mosquitto => "mosquitto",
            Self::Nats => "nats",
            Self::Ejabberd => "ejabberd",
            Self::Tungstenite => "tungstenite",
        }
    }

    /// Its name in results.
    pub fn title(self) -> &'static str {
        match self {
            Self::Uws => "uWebSockets.js",
            Self::Mosquitto => "Mosquitto",
            Self::Nats => "NATS JetStream",
            Self::Ejabberd => "ejabberd",
            Self::Tungstenite => "tungstenite+INSERT",
        }
    }

    /// What its acknowledgement promises.
    pub fn durability(self) -> Durability {
        match self {
            Self::Uws | Self::Mosquitto => Durability::Memory,
            Self::Nats | Self::Ejabberd | Self::Tungstenite => Durability::Fsync,
        }
    }

    /// What a reader of its figures must know.
    pub fn remark(self) -> &'static str {
        match self {
            Self::Uws => "relays from memory; the ack says that the relay has the message, nothing is kept",
            Self::Mosquitto => {
                "published with QoS 1, the PUBACK comes from memory; delivered with QoS 0, at most once, nothing is kept"
            }
            Self::Nats => {
                "the ack comes after fsync; core subscribers get a message without waiting for that, at most once"
            }
            Self::Ejabberd => {
                "the ack is the room's reflection to the sender, after the archive's INSERT; delivered at most once"
            }
            Self::Tungstenite => "one INSERT per message, then fan-out, then the ack; delivered at most once",
        }
    }

    /// Whether it can be started here.
    ///
    /// # Errors
    /// With what is missing and how to install it.
    pub fn find(self, places: &Places) -> Result<(), Missing> {
        match self {
            Self::Uws => uws::find(places).map(drop),
            Self::Mosquitto => mosquitto::find(places).map(drop),
            Self::Nats => nats::find(places).map(drop),
            Self::Ejabberd => ejabberd::find(places).map(drop),
            Self::Tungstenite => tungstenite::find(places),
        }
    }

    /// Starts it, and waits until it listens.
    ///
    /// # Errors
    /// When it is missing or does not start, with the end of its log.
    pub fn start(self, ground: &mut Ground<'_>) -> Result<Running, String> {
        let started = match self {
            Self::Uws => uws::start(ground),
            Self::Mosquitto => mosquitto::start(ground),
            Self::Nats => nats::start(ground),
            Self::Ejabberd => ejabberd::start(ground),
            Self::Tungstenite => tungstenite::start(ground),
        };
        started.map_err(|error| format!("{}: {error}", self.title()))
    }
}

/// A program that is there, or why the peer is left out.
fn required(places: &Places, program: &str, install: &'static str) -> Result<std::path::PathBuf, Missing> {
    places.program(program).ok_or_else(|| Missing::new(format!("{program} was not found"), install))
}
