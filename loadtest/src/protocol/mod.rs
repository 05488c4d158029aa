//! What the engine drives: one [`Protocol`] per kind of server, all over WebSocket.
//!
//! The engine (`crate::engine`) owns sockets, the WebSocket codec, the plan of sends, windows, reconnection, time and
//! histograms. A protocol owns the meaning of the bytes: how a connection opens, how a message is published, and which
//! frame is an acknowledgement or a delivery. It also checks the promises of the server, because only it knows them.
//! The engine counts what the protocol reports to the [`Sink`].
//!
//! The life of a connection, as a protocol sees it:
//!
//! ```text
//!  upgrade() ──101──▶ opened() ──▶ message()* ──▶ sink.ready() ──▶ publish()*, act()*, message()*, fast()*
//!      ▲                                                                │
//!      └───────────────── after a pause ◀── lost() ◀────────────────────┘
//! ```
//!
//! - [`System`] is what all threads share: identifiers, credentials, the checkers. Each engine thread gets its own
//!   [`Protocol`] from it, so a protocol may keep caches without locks.
//! - [`Protocol::State`] is the part of each connection; it survives reconnections.
//! - After `sink.ready()` the engine publishes. When a connection is lost, the engine publishes its unanswered messages
//!   again, oldest first, with [`Publish::repeated`] set, as soon as the next connection is ready.
//! - Message numbers count from 0 per connection, without gaps. A [`Token`] names a message of the whole run.
//! - Frames go to [`Peer::out`], which masks them; nothing blocks. The engine writes after each turn.
//!
//! Invariants:
//! - every number given to `publish` is reported exactly once, by [`Sink::acked`] or [`Sink::refused`]. Otherwise it
//!   stays in the window and counts as unanswered;
//! - [`Protocol::fast`] may only consume frames whose effect it reports in full. A fast path that skips a check would
//!   hide a fault of the server, which is worse than a slow generator.

pub mod veza;

use crate::engine::flow::Flight;
use crate::engine::websocket::Outbox;
use crate::payload::Token;
use crate::violations::{ViolationKind, Violations};
use std::sync::Arc;

pub use crate::check::ClientIndex;

/// A server of one kind: what all threads share.
pub trait System: Send + Sync + 'static {
    /// Its protocol, one instance per thread.
    type Protocol: Protocol + Send;

    /// A protocol for one more engine thread.
    fn protocol(self: &Arc<Self>) -> Self::Protocol;

    /// Whether every stored message has reached every subscriber. Called after sending has ended, after
    /// [`Protocol::sync`] of every connection.
    fn settled(&self) -> bool;

    /// Ends the checks. `complete` is false when the run was interrupted: what is in flight is then no violation.
    fn finish(&self, complete: bool) -> Violations;
}

/// One engine thread's side of a protocol.
pub trait Protocol {
    /// The state of a connection.
    type State: Send;

    /// The state of a new connection.
    fn state(&mut self, client: ClientIndex, rooms: &[u32]) -> Self::State;

    /// The request that opens a connection, for the first time or again.
    fn upgrade(&mut self, peer: &Peer<Self::State>) -> Upgrade;

    /// The server has accepted the upgrade. A protocol that needs nothing more calls `sink.ready()` here.
    fn opened<S: Sink>(&mut self, peer: &mut Peer<Self::State>, sink: &mut S);

    /// A whole message arrived.
    fn message<S: Sink>(&mut self, peer: &mut Peer<Self::State>, message: Message<'_>, sink: &mut S);

    /// Consumes known frames at the beginning of `bytes`, raw from the socket, and returns how many
    /// bytes it took. Called before the frames are parsed, only on a ready connection and at the beginning of a frame.
    fn fast<S: Sink>(&mut self, _peer: &mut Peer<Self::State>, _bytes: &[u8], _sink: &mut S) -> usize {
        0
    }

    /// Queues a message.
    fn publish(&mut self, peer: &mut Peer<Self::State>, publish: Publish);

    /// Queues another command; false when the protocol has none of that kind.
    fn act(&mut self, _peer: &mut Peer<Self::State>, _action: Action, _room: u32, _now_ns: u64) -> bool {
        false
    }

    /// The connection has closed.
    fn lost(&mut self, _peer: &mut Peer<Self::State>) {}

    /// Commands other than messages that this connection has sent and that wait for their answer.
    fn unanswered(&self, _peer: &Peer<Self::State>) -> u64 {
        0
    }

    /// From now on the connection is behind what others have received, until [`caught_up`](Self::caught_up) is true.
    fn fall_behind(&mut self, _peer: &mut Peer<Self::State>) {}

    /// Whether the connection has everything that [`fall_behind`](Self::fall_behind) noted, and has resumed what it had
    /// before it was lost.
    fn caught_up(&self, _peer: &Peer<Self::State>) -> bool {
        true
    }

    /// Reports to the shared checkers what only the connection's state knows.
    fn sync(&mut self, _peer: &mut Peer<Self::State>) {}
}

/// A connection, as a protocol sees it.
#[derive(Debug)]
pub struct Peer<S> {
    /// Its index among the connections of the run.
    pub client: ClientIndex,
    /// The user it belongs to.
    pub user: u32,
    /// The rooms its user is in, by index.
    pub rooms: Arc<[u32]>,
    /// Whether it was lost at least once.
    pub reopened: bool,
    /// The protocol's own part.
    pub state: S,
    /// Frames to be written.
    pub out: Outbox,
}

/// The parts of an upgrade request that differ between protocols.
#[derive(Clone, Debug, Default)]
pub struct Upgrade {
    /// Path and query.
    pub path: String,
    /// Further header fields.
    pub headers: Vec<(&'static str, String)>,
    /// The subprotocol to ask for; the server must agree.
    pub subprotocol: Option<&'static str>,
    /// Whether to offer permessage-deflate.
    pub deflate: bool,
}

/// A whole message: unmasked, inflated and assembled.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Text or binary.
    pub text: bool,
    /// Its content.
    pub payload: &'a [u8],
    /// The raw frame with its header; empty for a message in fragments.
    pub frame: &'a [u8],
}

/// A message to be published.
#[derive(Clone, Copy, Debug)]
pub struct Publish {
    /// Its token, whose number `acked` and `refused` report.
    pub token: Token,
    /// Its room.
    pub room: u32,
    /// When it was planned, nanoseconds on the engine's clock; part of the content.
    pub planned_ns: u64,
    /// The server may have received it before: the connection was lost before its answer arrived.
    pub repeated: bool,
}

/// A command other than publishing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Action {
    /// A typing notice.
    Typing,
    /// A read marker at the newest message.
    MarkRead,
    /// A page of history.
    GetHistory,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Typing, Self::MarkRead, Self::GetHistory];

    /// The server does not answer it.
    pub fn is_silent(self) -> bool {
        self == Self::Typing
    }

    /// The name in scenarios and results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Typing => "typing",
            Self::MarkRead => "mark_read",
            Self::GetHistory => "get_history",
        }
    }
}

/// Receives the reports of a protocol, for one turn of a connection. The engine's implementation counts and records
/// latencies; a test's may store the reports.
pub trait Sink {
    /// The connection can publish.
    fn ready(&mut self);

    /// A message was acknowledged. `None` when no such message waits for an answer.
    fn acked(&mut self, number: u32) -> Option<Flight>;

    /// A message was refused. `None` when no such message waits for an answer.
    fn refused(&mut self, number: u32, code: &str, retry_after_ms: Option<u64>) -> Option<Flight>;

    /// Whether a message still waits for its answer.
    fn waits(&self, number: u32) -> bool;

    /// A message of this run reached this connection.
    fn delivered(&mut self, room: u32, planned_ns: u64);

    /// Another event reached it.
    fn other_event(&mut self);

    /// A command other than a message was answered (or sent, when it has no answer), `started_ns` after the fact.
    fn operation(&mut self, name: &'static str, started_ns: u64);

    /// A command other than a message was refused.
    fn error(&mut self, code: &str);

    /// The server sent the connection `lagging`.
    fn lagging(&mut self);

    /// The server sent the connection a reset, so it must read the history.
    fn reset(&mut self);

    /// The server announced that it will close, and when to reconnect.
    fn going_away(&mut self, retry_after_ms: Option<u64>);

    /// A violation was found.
    fn violation(&mut self, kind: ViolationKind, describe: impl FnOnce() -> String);

    /// The connection cannot continue: close it and open another.
    fn fail(&mut self, reason: String);
}
