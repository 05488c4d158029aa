//! A connection's state, and the road from its bytes to its commands.

use super::Shard;
use crate::error::Refusal;
use crate::ids::{ConnId, ConversationId, SessionId, UserId};
use crate::latency::Stage;
use crate::limits::SLOW_CONSUMER_LINGER_MS;
use crate::mesh::frame::Budgets;
use crate::wire::Format;
use crate::wire::command;
use crate::wire::ws::close::CloseCode;
use crate::wire::ws::decoder::DecodeContext;
use crate::wire::ws::head::HeadScanner;
use crate::wire::ws::peer::{Ending, Peer, PeerEvent};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

/// A peer gets this long to close its half of the connection after we closed ours.
const LINGER_MS: u64 = 2_000;

/// A socket whose request head is not complete.
pub(super) struct Head {
    pub(super) conn: ConnId,
    pub(super) received: Vec<u8>,
    pub(super) scanner: HeadScanner,
    /// It came when the server was full; it may only ask for health.
    pub(super) beyond_max: bool,
}

impl Head {
    pub(super) fn boxed(conn: ConnId) -> Box<Self> {
        Box::new(Self { conn, received: Vec::new(), scanner: HeadScanner::default(), beyond_max: false })
    }
}

/// What a slot holds.
///
/// ```text
///   Vacant ──► Head ──► (given away) Vacant
///                └────► Ending ──► Vacant
///   Vacant ──► Open ──► Ending ──► Vacant
/// ```
#[derive(Default)]
pub(super) enum Client {
    /// Nothing, or a socket that is on its way elsewhere.
    #[default]
    Vacant,
    /// A request head is being received.
    Head(Box<Head>),
    /// A WebSocket.
    Open(Box<Session>),
    /// The last bytes are being sent.
    Ending {
        /// It is part of the count of connections.
        counted: bool,
    },
}

impl Client {
    pub(super) fn session(&self) -> Option<&Session> {
        match self {
            Self::Open(session) => Some(session),
            _ => None,
        }
    }

    pub(super) fn session_mut(&mut self) -> Option<&mut Session> {
        match self {
            Self::Open(session) => Some(session),
            _ => None,
        }
    }
}

/// An open WebSocket. Idle, it owns one allocation (itself) and its subscriptions.
pub(super) struct Session {
    pub(super) conn: ConnId,
    pub(super) peer: Peer,
    pub(super) user: UserId,
    pub(super) sign_in: SessionId,
    pub(super) format: Format,
    pub(super) deflate_window_bits: Option<u8>,
    pub(super) subscribe_all: bool,
    pub(super) replay_in_flight: bool,
    pub(super) replay_waits: bool,
    /// The code of the close frame that was sent, for the metrics.
    pub(super) close_code: u16,
    pub(super) in_flight: u32,
    pub(super) token_expires_ms: u64,
    pub(super) last_seen_ms: u64,
    /// The ping that nothing has come after.
    pub(super) pinged_at_ms: Option<u64>,
    /// The look at this session that counts; earlier entries in the wheel are void.
    pub(super) look_at_ms: u64,
    /// Since when its queue is too full for events.
    pub(super) lagging_since_ms: Option<u64>,
    pub(super) typed: Option<(ConversationId, u64)>,
    pub(super) budgets: Arc<Budgets>,
    pub(super) subscriptions: Vec<ConversationId>,
    /// Conversations whose log is to be read for it.
    pub(super) replays: VecDeque<ConversationId>,
    /// Conversations of which its full queue has refused an event.
    pub(super) behind: Vec<ConversationId>,
    /// Users whose presence it hears of.
    pub(super) watching: Vec<UserId>,
}

impl Session {
    pub(super) fn new(conn: ConnId, user: UserId, sign_in: SessionId, format: Format, window: Option<u8>) -> Self {
        Self {
            conn,
            peer: Peer::new(window.is_some()),
            user,
            sign_in,
            format,
            deflate_window_bits: window,
            subscribe_all: true,
            replay_in_flight: false,
            replay_waits: false,
            close_code: 1006,
            in_flight: 0,
            token_expires_ms: u64::MAX,
            last_seen_ms: 0,
            pinged_at_ms: None,
            look_at_ms: 0,
            lagging_since_ms: None,
            typed: None,
            budgets: Arc::default(),
            subscriptions: Vec::new(),
            replays: VecDeque::new(),
            behind: Vec::new(),
            watching: Vec::new(),
        }
    }
}

/// What a step of the decoder asks for, without a borrow of the session.
enum Step {
    Next,
    Send(Vec<u8>),
    Finish(Option<Vec<u8>>, Ending),
    WrongKind,
}

impl Shard {
    pub(super) fn session(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.clients.get_mut(conn.slot() as usize)?.session_mut().filter(|s| s.conn == conn)
    }

    /// Bytes arrived.
    pub(super) fn received(&mut self, conn: ConnId, bytes: &mut [u8]) {
        match self.client(conn) {
            Client::Open(_) => self.received_frames(conn, bytes),
            Client::Head(_) => self.received_head(conn, bytes),
            Client::Vacant | Client::Ending { .. } => {}
        }
    }

    fn received_frames(&mut self, conn: ConnId, bytes: &mut [u8]) {
        // The session is taken out while its bytes are decoded: commands need the whole shard.
        let Client::Open(mut session) = std::mem::take(self.client(conn)) else { return };
        session.last_seen_ms = self.now_ms;
        session.pinged_at_ms = None;
        let mut peer = std::mem::take(&mut session.peer);
        let format = session.format;
        *self.client(conn) = Client::Open(session);
        let mut inflater = std::mem::take(&mut self.inflater);
        let mut json = std::mem::take(&mut self.json);
        let max_message_bytes = self.settings.limits.max_frame_bytes;
        let settings = Arc::clone(&self.settings);
        let mut input = bytes;
        let mut ended = None;
        loop {
            let began = Instant::now();
            let mut context = DecodeContext { max_message_bytes, inflater: &mut inflater };
            let step = match peer.next(&mut input, &mut context) {
                None => break,
                Some(PeerEvent::Alive) => Step::Next,
                Some(PeerEvent::Reply(frame)) => Step::Send(frame),
                Some(PeerEvent::Finish(frame, ending)) => Step::Finish(frame, ending),
                Some(PeerEvent::Message(kind, _)) if kind != format.message_kind() => Step::WrongKind,
                Some(PeerEvent::Message(_, payload)) => {
                    let parsed = command::parse(payload, format, &mut json, &settings.limits);
                    self.counters.stages.record(Stage::Decode, began.elapsed(), 1);
                    self.on_command(conn, parsed);
                    Step::Next
                }
            };
            match step {
                Step::Next => {}
                Step::Send(frame) => {
                    if self.sockets.queued_bytes(conn) < 2 * self.settings.limits.max_outbound_queue_bytes {
                        self.send_frame(conn, frame);
                    } else {
                        ended = Some(CloseCode::TooSlow); // it pings and does not read
                        break;
                    }
                }
                Step::WrongKind => {
                    ended = Some(CloseCode::Unsupported);
                    break;
                }
                Step::Finish(frame, ending) => {
                    if let Some(frame) = frame {
                        self.send_frame(conn, frame);
                    }
                    self.inflater = inflater;
                    self.json = json;
                    return self.finish(conn, ending);
                }
            }
            // A command may have closed the connection.
            if self.session(conn).is_none() {
                break;
            }
        }
        self.inflater = inflater;
        self.json = json;
        if let Some(session) = self.session(conn) {
            // A close that was asked for while the peer was out is in `close_code`; see `close`.
            session.peer = peer;
            if let Some(code) = ended {
                self.close(conn, code);
            }
        }
    }

    /// The WebSocket is over: send what is queued, close our half.
    fn finish(&mut self, conn: ConnId, ending: Ending) {
        let code = match ending {
            Ending::ByPeer(code) => code.unwrap_or(1005),
            Ending::Fault(fault) => {
                tracing::debug!("{conn:?}: {}", fault.what);
                fault.code.number()
            }
            Ending::ByUs => self.session(conn).map_or(1006, |s| s.close_code),
        };
        if let Some(session) = self.session(conn) {
            session.close_code = code;
        }
        self.leave(conn);
        self.sockets.finish(conn);
        self.linger(conn);
    }

    /// Begins the close handshake with a code of ours.
    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode) {
        self.close_with(conn, code, 0);
    }

    /// The same with a waiting time for the client.
    pub(super) fn close_with(&mut self, conn: ConnId, code: CloseCode, retry_after_ms: u64) {
        let Some(session) = self.session(conn) else { return };
        let Some(frame) = session.peer.close(code, &code.reason(retry_after_ms)) else { return };
        session.close_code = code.number();
        if code == CloseCode::TooSlow || code == CloseCode::HeartbeatTimeout {
            self.sockets.discard_queue(conn); // it does not read: only the reason is worth sending
        }
        self.send_frame(conn, frame);
        self.leave(conn);
        self.sockets.finish(conn);
        // The close frame waits behind what the kernel holds, so a client that reads late needs time to get there.
        let reads_late = matches!(code, CloseCode::TooSlow | CloseCode::HeartbeatTimeout);
        self.linger_for(conn, if reads_late { SLOW_CONSUMER_LINGER_MS } else { LINGER_MS });
    }

    /// Takes the session out of everything that could send to it.
    fn leave(&mut self, conn: ConnId) {
        let Client::Open(session) = std::mem::replace(self.client(conn), Client::Ending { counted: true }) else {
            return;
        };
        self.counters.connection_closed(session.close_code);
        for conversation in &session.subscriptions {
            self.remove_subscriber(conn, *conversation);
        }
        if let Some(connections) = self.local_users.get_mut(&session.user) {
            connections.retain(|c| *c != conn);
            if connections.is_empty() {
                self.local_users.remove(&session.user);
            }
        }
        self.unwatch(conn, session.watching);
        self.departures.push_back(session.user);
    }

    /// Gives the peer a moment to close its half.
    pub(super) fn linger(&mut self, conn: ConnId) {
        self.linger_for(conn, LINGER_MS);
    }

    fn linger_for(&mut self, conn: ConnId, linger_ms: u64) {
        if matches!(self.client(conn), Client::Open(_)) {
            self.leave(conn);
        }
        let at = self.now_ms + linger_ms;
        self.wheel.schedule(conn, at);
    }

    /// The socket is gone.
    pub(super) fn ended(&mut self, conn: ConnId) {
        if matches!(self.client(conn), Client::Open(_)) {
            self.leave(conn);
        }
        match std::mem::take(self.client(conn)) {
            Client::Ending { counted: true } | Client::Head(_) => self.count_connections(-1),
            Client::Ending { counted: false } => self.refusals -= 1,
            Client::Vacant | Client::Open(_) => {}
        }
    }

    /// Whether the connection may make another request; refuses it otherwise.
    pub(super) fn take_place(&mut self, conn: ConnId) -> Result<(), Refusal> {
        let most = crate::limits::COMMANDS_IN_FLIGHT_PER_CONNECTION_MAX;
        let Some(session) = self.session(conn) else { return Ok(()) };
        if session.in_flight >= most {
            return Err(Refusal::overloaded("commands of this connection"));
        }
        session.in_flight += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_stays_small() {
        assert!(size_of::<Session>() <= 384, "{} bytes", size_of::<Session>());
    }
}
