//! The servers to compare with: how to find, configure, start and stop each of them.
//!
//! Every peer runs in its own processes, with its files in its own directory, and never as a service of the machine.
//! Each is configured as its documentation recommends for throughput; the reasons are next to the settings. No default
//! limit (rate shapers, room sizes, queues) slows a peer down, and none logs per message.

pub mod ejabberd;
mod ground;
pub mod mosquitto;
pub mod nats;
pub mod tungstenite;
pub mod uws;

pub use ground::{Ground, Missing, Running};

use super::places::Places;

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

    /// A remark for readers of its figures.
    pub fn remark(self) -> &'static str {
        match self {
            Self::Uws => "relays from memory; the ack says that the relay has the message, nothing is kept",
            Self::Mosquitto => {
                "published with QoS 1, acked from memory; delivered with QoS 0, at most once; it stores nothing"
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
    /// Names what is missing and the command that installs it.
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
