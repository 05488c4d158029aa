//! What the engine needs to know of a run.

use super::connection::Sources;
use super::schedule::Stream;
use crate::check::ClientIndex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// One connection to be made.
#[derive(Clone, Debug)]
pub struct Seat {
    /// The index of its user.
    pub user: u32,
    /// The rooms it is in, by index.
    pub rooms: Arc<[u32]>,
    /// It is one of the slow readers, which pause.
    pub slow: bool,
    /// The storm disconnects it.
    pub cut: bool,
}

/// Where a server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Its address.
    pub address: SocketAddr,
    /// The same, for the `Host` field.
    pub authority: String,
}

/// How connections may be sending.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loop {
    /// By the plan; latency counts from the planned time.
    Open,
    /// Always as much as the window allows; latency counts from the actual send.
    Closed,
}

/// Everything the engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// The server, or the nodes of a cluster, which connections use in turn. At least one.
    pub endpoints: Vec<Endpoint>,
    /// Where connections come from, when that is this machine.
    pub sources: Sources,
    /// How many threads.
    pub threads: usize,
    /// A lost connection is no violation.
    pub survive_restarts: bool,
    /// Most unanswered messages of one connection.
    pub window: usize,
    /// In an open loop, a refused connection sends nothing until the server's `retry_after_ms` is over.
    pub back_off: bool,
    /// Open or closed.
    pub sending: Loop,
    /// The class of each room, by index.
    pub class_of_room: Arc<[u8]>,
    /// How many classes there are; the last one is that of slow readers.
    pub classes: usize,
    /// The connections.
    pub seats: Vec<Seat>,
    /// The messages to send.
    pub streams: Vec<Stream>,
    /// When the seats marked `cut` are cut, counted from the first load.
    pub storm_at: Option<Duration>,
    /// When the seats marked `slow` stop reading, and for how long.
    pub pause: Option<(Duration, Duration)>,
    /// Most connections that a thread opens at once, at the start.
    pub opening_max: usize,
}

impl EngineOptions {
    /// The server that a connection uses: each one after the other, so that the members of a room are on all nodes.
    pub fn endpoint(&self, client: ClientIndex) -> &Endpoint {
        &self.endpoints[client.0 as usize % self.endpoints.len()]
    }
}
