//! One connection: opens it and turns received bytes into a protocol's messages. The loop and the readiness of sockets
//! are in `worker`.
//!
//! ```text
//!  Closed ──connect──▶ Opening ──101──▶ Open ──sink.ready()──▶ Ready
//!    ▲                    │              │                       │
//!    └────────────────────┴──── lost ────┴───────────────────────┘
//! ```
//!
//! Invariants:
//! - bytes are parsed in the thread's one buffer, where the kernel wrote them. Only the beginning of an unfinished
//!   frame is copied, so 20,000 connections do not need 20,000 buffers;
//! - [`Connection::digest`] accepts any split of the stream: the tests try every one.

use super::flow::Flow;
use super::recorder::Recorder;
use super::turn::{Effects, Turn};
use super::websocket::{self, Frame, Inflater, Opcode, Parsed};
use crate::protocol::{Message, Peer, Protocol, Upgrade};
use mio::net::TcpStream;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol as Transport, Socket, Type};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Connections from one source address. An address has about 28,000 ports, and reconnections need new ones.
const CONNECTIONS_PER_SOURCE: u32 = 8_000;
/// Longest response to an upgrade request, bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Receive buffer of a slow reader, bytes. It is small, so that the server notices that the client does not read.
const SLOW_BUFFER_BYTES: usize = 32 * 1024;
/// Segment size of a slow reader, bytes. Loopback's segments are larger than its buffer, and TCP would wait for timers.
const SLOW_SEGMENT_BYTES: u32 = 1400;

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionPhase {
    /// There is no socket.
    Closed,
    /// Waits for the response to the upgrade request.
    Opening,
    /// It is a WebSocket, and the protocol is still opening it.
    Open,
    /// It can publish.
    Ready,
}

/// Why a connection is lost.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost {
    /// For people.
    pub reason: String,
    /// The server's close code.
    pub code: Option<u16>,
    /// The server does not accept the credentials.
    pub unauthorized: bool,
}

impl Lost {
    /// A loss with a reason of the client's side.
    pub fn because(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), code: None, unauthorized: false }
    }
}

/// A message in fragments.
#[derive(Debug)]
struct Fragments {
    text: bool,
    compressed: bool,
    bytes: Vec<u8>,
}

/// One connection.
#[derive(Debug)]
pub struct Connection<S> {
    /// The protocol's view of it.
    pub peer: Peer<S>,
    /// Its messages.
    pub flow: Flow,
    /// Its phase.
    pub phase: ConnectionPhase,
    /// Its socket, unless closed.
    pub socket: Option<TcpStream>,
    /// The beginning of an unfinished frame.
    pub partial: Vec<u8>,
    /// Its deliveries count as those of a slow reader.
    pub slow: bool,
    key: String,
    subprotocol: Option<&'static str>,
    compression_offered: bool,
    compression: bool,
    fragments: Option<Box<Fragments>>,
}

impl<S> Connection<S> {
    /// A closed one.
    pub fn new(peer: Peer<S>, slow: bool) -> Self {
        Self {
            peer,
            flow: Flow::default(),
            phase: ConnectionPhase::Closed,
            socket: None,
            partial: Vec::new(),
            slow,
            key: String::new(),
            subprotocol: None,
            compression_offered: false,
            compression: false,
            fragments: None,
        }
    }

    /// Begins to connect; the request waits in the outbox until the socket is writable.
    pub fn open(
        &mut self,
        address: SocketAddr,
        sources: Sources,
        authority: &str,
        upgrade: &Upgrade,
    ) -> io::Result<()> {
        self.close();
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Transport::TCP))?;
        // No frame waits for a full packet, because the run measures latency.
        socket.set_tcp_nodelay(true)?;
        if self.slow {
            socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
            socket.set_tcp_mss(SLOW_SEGMENT_BYTES)?;
        }
        if let Some(source) = sources.of(address, self.peer.client.0) {
            // The kernel chooses the port when connecting, when it knows the other end, too. A port chosen here must
            // have no connection in TIME_WAIT, of which earlier runs leave thousands.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            socket.bind(&SocketAddr::new(IpAddr::V4(source), 0).into())?;
        }
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
        self.socket = Some(TcpStream::from_std(socket.into()));
        self.prepare(authority, upgrade);
        Ok(())
    }

    /// Queues the upgrade request and waits for its response.
    pub fn prepare(&mut self, authority: &str, upgrade: &Upgrade) {
        self.key = websocket::handshake_key(rand::random());
        self.subprotocol = upgrade.subprotocol;
        self.compression_offered = upgrade.deflate;
        let request = request(authority, upgrade, &self.key);
        self.peer.out.raw(request.as_bytes());
        self.phase = ConnectionPhase::Opening;
    }

    /// Closes the socket and drops unfinished frames of both directions.
    pub fn close(&mut self) {
        self.socket = None;
        self.phase = ConnectionPhase::Closed;
        self.partial = Vec::new();
        self.fragments = None;
        self.compression = false;
        self.peer.out.clear();
    }

    /// Consumes whole frames of `bytes`, which follow the bytes consumed last.
    pub fn digest<P: Protocol<State = S>>(
        &mut self,
        protocol: &mut P,
        inflater: &mut Inflater,
        recorder: &mut Recorder,
        now_ns: u64,
        bytes: &[u8],
    ) -> Digest {
        let Self { peer, flow, slow, .. } = self;
        let mut turn = Turn { now_ns, slow: *slow, flow, recorder, effects: Effects::default() };
        let mut wire = Wire {
            phase: &mut self.phase,
            fragments: &mut self.fragments,
            compression: &mut self.compression,
            inflater,
            taken: 0,
        };
        let handshake = if *wire.phase == ConnectionPhase::Opening {
            wire.handshake(bytes, &self.key, self.subprotocol, self.compression_offered)
        } else {
            Ok(false)
        };
        let outcome = handshake.and_then(|opened| {
            if opened {
                protocol.opened(peer, &mut turn);
            }
            if *wire.phase == ConnectionPhase::Opening { Ok(()) } else { wire.frames(protocol, peer, &mut turn, bytes) }
        });
        let taken = wire.taken;
        Digest { taken, effects: turn.effects, lost: outcome.err() }
    }
}

/// The result of some bytes.
#[derive(Debug)]
pub struct Digest {
    /// How many bytes were consumed; the rest is the beginning of an unfinished frame.
    pub taken: usize,
    /// Their effects.
    pub effects: Effects,
    /// The connection has ended, and why.
    pub lost: Option<Lost>,
}

/// The framing side of a connection, borrowed for one turn.
struct Wire<'a> {
    phase: &'a mut ConnectionPhase,
    fragments: &'a mut Option<Box<Fragments>>,
    compression: &'a mut bool,
    inflater: &'a mut Inflater,
    taken: usize,
}

impl Wire<'_> {
    /// Reads the response to the upgrade request; false while it is incomplete.
    fn handshake(
        &mut self,
        bytes: &[u8],
        key: &str,
        subprotocol: Option<&'static str>,
        offered: bool,
    ) -> Result<bool, Lost> {
        let Some(accepted) = answer(bytes, key, subprotocol, offered)? else { return Ok(false) };
        self.taken = accepted.length;
        *self.compression = accepted.compression;
        *self.phase = ConnectionPhase::Open;
        Ok(true)
    }

    /// Passes every whole message to the protocol.
    fn frames<P: Protocol>(
        &mut self,
        protocol: &mut P,
        peer: &mut Peer<P::State>,
        turn: &mut Turn<'_>,
        bytes: &[u8],
    ) -> Result<(), Lost> {
        loop {
            if turn.effects.ready && *self.phase == ConnectionPhase::Open {
                *self.phase = ConnectionPhase::Ready;
            }
            if let Some(reason) = turn.effects.failed.take() {
                return Err(Lost::because(reason));
            }
            let rest = &bytes[self.taken..];
            if *self.phase == ConnectionPhase::Ready && self.fragments.is_none() {
                let fast = protocol.fast(peer, rest, turn);
                if fast > 0 {
                    self.taken += fast;
                    continue;
                }
            }
            let frame = match websocket::parse(rest) {
                Parsed::Frame(frame) => frame,
                Parsed::Incomplete(_) => return Ok(()),
                Parsed::Broken(reason) => return Err(Lost::because(format!("the server sent {reason}"))),
            };
            self.taken += frame.length;
            match frame.opcode {
                Opcode::Ping => peer.out.frame(Opcode::Pong, |out| out.extend_from_slice(frame.payload)),
                Opcode::Pong => {}
                Opcode::Close => {
                    let (code, reason) = websocket::close_reason(frame.payload);
                    return Err(Lost { reason, code, unauthorized: false });
                }
                Opcode::Text | Opcode::Binary | Opcode::Continuation => {
                    self.message(protocol, peer, turn, &frame, &rest[..frame.length])?;
                }
            }
        }
    }

    /// Passes the message that `frame` completes, if any, to the protocol.
    fn message<P: Protocol>(
        &mut self,
        protocol: &mut P,
        peer: &mut Peer<P::State>,
        turn: &mut Turn<'_>,
        frame: &Frame<'_>,
        raw: &[u8],
    ) -> Result<(), Lost> {
        if frame.compressed && !*self.compression {
            return Err(Lost::because("the server sent a compressed frame that was not agreed on"));
        }
        let Some(whole) = assemble(self.fragments, frame).map_err(Lost::because)? else { return Ok(()) };
        let (text, payload, compressed, raw) = match &whole {
            Whole::Frame => (frame.opcode == Opcode::Text, frame.payload, frame.compressed, raw),
            Whole::Assembled(parts) => (parts.text, parts.bytes.as_slice(), parts.compressed, &[][..]),
        };
        let payload = if compressed {
            self.inflater.inflate(payload).map_err(|reason| Lost::because(format!("the server sent {reason}")))?
        } else {
            payload
        };
        protocol.message(peer, Message { text, payload, frame: raw }, turn);
        Ok(())
    }
}

/// Where a message's bytes are.
enum Whole {
    /// In one frame.
    Frame,
    /// Assembled from fragments.
    Assembled(Box<Fragments>),
}

/// Adds a data frame to its message; returns the message when it is complete.
fn assemble(fragments: &mut Option<Box<Fragments>>, frame: &Frame<'_>) -> Result<Option<Whole>, &'static str> {
    match (fragments.take(), frame.opcode) {
        (None, Opcode::Continuation) => Err("the server sent a continuation of nothing"),
        (Some(_), Opcode::Text | Opcode::Binary) => Err("the server sent a message inside another"),
        (None, _) if frame.last => Ok(Some(Whole::Frame)),
        (None, opcode) => {
            let (text, compressed) = (opcode == Opcode::Text, frame.compressed);
            *fragments = Some(Box::new(Fragments { text, compressed, bytes: frame.payload.to_vec() }));
            Ok(None)
        }
        (Some(mut parts), _) => {
            if parts.bytes.len() + frame.payload.len() > websocket::FRAME_BYTES_MAX {
                return Err("the server sent a message longer than 32 MiB");
            }
            parts.bytes.extend_from_slice(frame.payload);
            if frame.last {
                return Ok(Some(Whole::Assembled(parts)));
            }
            *fragments = Some(parts);
            Ok(None)
        }
    }
}

/// The source addresses of a run when the server is on this machine: a few of 127.0.0.0/8. Each run uses other ones, so
/// that connections of earlier runs in `TIME_WAIT` do not occupy its ports. 127.0.0.1 is not used, because other
/// programs use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sources {
    first: Ipv4Addr,
}

impl Sources {
    /// Random addresses for a new run.
    pub fn random() -> Self {
        // Above 127.0.255.255 and far below the broadcast address, for any number of connections.
        Self { first: Ipv4Addr::from(rand::random_range(0x7f01_0000..0x7f80_0000_u32)) }
    }

    /// The source address of a connection to `address`.
    fn of(self, address: SocketAddr, client: u32) -> Option<Ipv4Addr> {
        let local = address.is_ipv4() && address.ip().is_loopback();
        local.then(|| Ipv4Addr::from(u32::from(self.first) + client / CONNECTIONS_PER_SOURCE))
    }
}

fn request(authority: &str, upgrade: &Upgrade, key: &str) -> String {
    let mut request = format!(
        "GET {} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
        upgrade.path
    );
    // Writing into a String cannot fail.
    if let Some(subprotocol) = upgrade.subprotocol {
        let _ = write!(request, "Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    if upgrade.deflate {
        request.push_str(
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n",
        );
    }
    for (name, value) in &upgrade.headers {
        let _ = write!(request, "{name}: {value}\r\n");
    }
    request.push_str("\r\n");
    request
}

struct Accepted {
    length: usize,
    compression: bool,
}

/// Reads the response to an upgrade request; `None` while it is incomplete.
fn answer(
    bytes: &[u8],
    key: &str,
    subprotocol: Option<&'static str>,
    compression_offered: bool,
) -> Result<Option<Accepted>, Lost> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < ANSWER_BYTES_MAX => return Ok(None),
        Ok(httparse::Status::Partial) => return Err(Lost::because("the answer to the upgrade is too long")),
        Err(error) => return Err(Lost::because(format!("the answer to the upgrade is not HTTP: {error}"))),
    };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let status = response.code.unwrap_or_default();
    if status != 101 {
        let body = String::from_utf8_lossy(&bytes[length..]).chars().take(300).collect::<String>();
        let reason = format!("the upgrade was refused with status {status} {body}");
        return Err(Lost { reason, code: None, unauthorized: status == 401 });
    }
    if header("sec-websocket-accept") != Some(websocket::accept_of(key).as_str()) {
        return Err(Lost::because("the answer to the upgrade has a wrong Sec-WebSocket-Accept"));
    }
    if header("sec-websocket-protocol") != subprotocol {
        let got = header("sec-websocket-protocol").unwrap_or("none");
        let asked = subprotocol.unwrap_or("none");
        return Err(Lost::because(format!("the server chose the subprotocol {got}, asked for was {asked}")));
    }
    let compression = match header("sec-websocket-extensions") {
        None | Some("") => false,
        Some(agreed) if compression_offered && agreed.starts_with("permessage-deflate") => {
            if !agreed.contains("server_no_context_takeover") {
                return Err(Lost::because("the server keeps its compression context, which was not asked for"));
            }
            true
        }
        Some(agreed) => return Err(Lost::because(format!("the server chose an extension not offered: {agreed}"))),
    };
    Ok(Some(Accepted { length, compression }))
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
