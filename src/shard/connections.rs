//! The shard's connections by slot, and when to check them. Pure.

use super::pending_heads::PendingHead;
use super::session::Session;
use super::wheel::{RANGE_MS, Wheel};
use crate::address::RequestSource;
use crate::ids::ConnId;
use crate::wire::ws::head::HeadScanner;
use std::net::IpAddr;
use std::sync::Arc;

/// A socket whose request head is not complete.
pub struct Head {
    /// The connection.
    pub conn: ConnId,
    /// The bytes received so far.
    pub received: Vec<u8>,
    /// Finds its end.
    pub scanner: HeadScanner,
    /// It was accepted when the server was full; it may only request the health checks.
    pub beyond_max: bool,
    /// When it must be complete, in milliseconds of the process's clock.
    pub until_ms: u64,
    /// Its place among those of its network; `None` for a trusted proxy.
    pub place: Option<PendingHead>,
    /// How it has to begin.
    pub proxied: Proxied,
}

/// What comes before a request head, where `server.proxy_protocol` is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proxied {
    /// Nothing.
    No,
    /// Nothing: the peer is no trusted proxy, and must not send a PROXY header.
    Forbidden,
    /// A PROXY header.
    Expected,
    /// The header was read and has named the client.
    By(IpAddr),
}

impl Head {
    /// A socket that has sent nothing yet.
    pub fn boxed(conn: ConnId, beyond_max: bool, until_ms: u64) -> Box<Self> {
        let scanner = HeadScanner::default();
        Box::new(Self { conn, received: Vec::new(), scanner, beyond_max, until_ms, place: None, proxied: Proxied::No })
    }
}

/// What a slot holds.
///
/// ```text
///   Vacant ──► Head ──► (given away) Vacant
///                └────► Closing ──► Vacant
///   Vacant ──► Open ──► Closing ──► Vacant
/// ```
#[derive(Default)]
pub enum Client {
    /// Nothing, or a socket that is moving to another thread.
    #[default]
    Vacant,
    /// A request head is being received.
    Head(Box<Head>),
    /// A WebSocket, and where the request came from that opened it.
    Open(Box<Session>, Arc<RequestSource>),
    /// The last bytes are being sent; the peer has time until the deadline to close its half.
    Closing {
        /// The connection.
        conn: ConnId,
        /// It is part of the count of connections.
        counted: bool,
        /// When the socket is aborted, in milliseconds of the process's clock.
        until_ms: u64,
    },
}

impl Client {
    /// The connection that the slot belongs to.
    pub fn conn(&self) -> Option<ConnId> {
        match self {
            Self::Vacant => None,
            Self::Head(head) => Some(head.conn),
            Self::Open(session, _) => Some(session.conn),
            Self::Closing { conn, .. } => Some(*conn),
        }
    }

    fn session(&self) -> Option<&Session> {
        match self {
            Self::Open(session, _) => Some(session),
            Self::Vacant | Self::Head(_) | Self::Closing { .. } => None,
        }
    }
}

/// The connections of one shard.
#[derive(Default)]
pub struct Connections {
    clients: Vec<Client>,
    wheel: Wheel,
}

impl Connections {
    /// The connection's slot.
    pub fn client(&mut self, conn: ConnId) -> &mut Client {
        let slot = conn.slot() as usize;
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, Client::default);
        }
        &mut self.clients[slot]
    }

    /// The connection's session, while it is open.
    pub fn session(&self, conn: ConnId) -> Option<&Session> {
        self.clients.get(conn.slot() as usize)?.session().filter(|session| session.conn == conn)
    }

    /// The same, to be changed.
    pub fn session_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        match self.clients.get_mut(conn.slot() as usize)? {
            Client::Open(session, _) if session.conn == conn => Some(session),
            Client::Vacant | Client::Head(_) | Client::Open(..) | Client::Closing { .. } => None,
        }
    }

    /// Where the request came from that opened the connection, while it is open.
    pub fn source(&self, conn: ConnId) -> Option<Arc<RequestSource>> {
        match self.clients.get(conn.slot() as usize)? {
            Client::Open(session, source) if session.conn == conn => Some(Arc::clone(source)),
            Client::Vacant | Client::Head(_) | Client::Open(..) | Client::Closing { .. } => None,
        }
    }

    /// All open sessions.
    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.clients.iter().filter_map(Client::session)
    }

    /// Plans a check of the connection at `at_ms`, or earlier when that is further away than the wheel reaches.
    pub fn schedule(&mut self, conn: ConnId, at_ms: u64) {
        self.wheel.schedule(conn, at_ms);
    }

    /// Plans a check of an open session at `at_ms`. Replaces an earlier plan.
    pub fn schedule_session(&mut self, conn: ConnId, at_ms: u64, now_ms: u64) {
        // Within the wheel's range, so that the entry comes exactly then and it can be distinguished from an earlier
        // plan's.
        let at_ms = at_ms.min(now_ms + RANGE_MS);
        if let Some(session) = self.session_mut(conn) {
            session.check_at_ms = at_ms;
            self.wheel.schedule(conn, at_ms);
        }
    }

    /// The connections to check now.
    pub fn due(&mut self, now_ms: u64) -> Vec<ConnId> {
        let mut due = Vec::new();
        self.wheel.due(now_ms, &mut due);
        due
    }
}
