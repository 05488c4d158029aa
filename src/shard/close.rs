//! How a connection ends: the close handshake, the time that the peer gets for its half, and the clean-up.
//!
//! [`Shard::leave`] removes a session from everything that could send to it, once. After it the connection is only a
//! socket with a deadline.

use super::Shard;
use super::connections::Client;
use super::world::{Transport, World};
use crate::ids::ConnId;
use crate::limits::SLOW_CONSUMER_LINGER_MS;
use crate::planted::{Fault, is_planted};
use crate::wire::ws::close::CloseCode;
use crate::wire::ws::peer::Ending;

/// How long a peer has to close its half of the connection after the server closed its own.
pub(super) const LINGER_MS: u64 = 2_000;

impl<W: World> Shard<W> {
    /// The close handshake is over, or the peer broke the protocol: send the queued bytes, close this half.
    pub(super) fn finish_peer(&mut self, conn: ConnId, ending: Ending) {
        if let Some(session) = self.connections.session_mut(conn) {
            session.close_code = match ending {
                Ending::ByPeer(code) => code.unwrap_or(1005),
                Ending::Fault(fault) => {
                    tracing::debug!("{conn:?}: {}", fault.what);
                    fault.code.number()
                }
                Ending::ByUs => session.close_code,
            };
        }
        self.leave(conn);
        self.sockets.finish(conn);
        self.linger(conn);
    }

    /// Begins the close handshake with a code of the server.
    pub(super) fn close(&mut self, conn: ConnId, code: CloseCode) {
        self.close_with(conn, code, 0);
    }

    /// The same with a waiting time for the client.
    pub(super) fn close_with(&mut self, conn: ConnId, code: CloseCode, retry_after_ms: u64) {
        let Some(session) = self.connections.session_mut(conn) else { return };
        let Some(frame) = session.peer.close(code, &code.reason(retry_after_ms)) else { return };
        session.close_code = code.number();
        if code == CloseCode::TooSlow || code == CloseCode::HeartbeatTimeout {
            self.sockets.discard_queue(conn); // it does not read: only the reason is worth sending
        }
        self.send_frame(conn, frame);
        self.leave(conn);
        if code == CloseCode::RateLimited {
            self.sockets.refuse_input(conn); // to read and discard what a flood has sent would serve it
        }
        self.sockets.finish(conn);
        // The close frame waits behind what the kernel holds, so a client that reads late needs time to get there.
        let reads_late = matches!(code, CloseCode::TooSlow | CloseCode::HeartbeatTimeout);
        self.linger_for(conn, if reads_late { SLOW_CONSUMER_LINGER_MS } else { LINGER_MS });
    }

    /// Takes the session out of everything that could send to it.
    fn leave(&mut self, conn: ConnId) {
        if self.connections.session(conn).is_none() {
            return;
        }
        let closing = Client::Closing { conn, counted: true, until_ms: self.now_ms + LINGER_MS };
        let Client::Open(session, _) = std::mem::replace(self.connections.client(conn), closing) else { return };
        self.counters.connection_closed(session.close_code);
        for conversation in &session.subscriptions {
            self.rooms.unsubscribe(conn, *conversation);
        }
        self.directory.local.remove(session.user, conn);
        self.directory.watches.forget(conn);
        self.departures.push_back((session.user, Some(conn)));
    }

    /// Gives the peer a moment to close its half.
    pub(super) fn linger(&mut self, conn: ConnId) {
        self.linger_for(conn, LINGER_MS);
    }

    fn linger_for(&mut self, conn: ConnId, linger_ms: u64) {
        self.leave(conn);
        let until_ms = self.now_ms + linger_ms;
        let client = self.connections.client(conn);
        if client.conn() != Some(conn) {
            return; // the slot belongs to another connection by now
        }
        let counted = match client {
            Client::Closing { counted, .. } => *counted,
            Client::Head(_) | Client::Vacant | Client::Open(..) => true,
        };
        *client = Client::Closing { conn, counted, until_ms };
        self.connections.schedule(conn, until_ms);
    }

    /// Checks a connection that is closing: its peer's time is over, or this is an outdated entry of the wheel.
    pub(super) fn end_linger(&mut self, conn: ConnId, until_ms: u64) {
        if self.now_ms >= until_ms || is_planted(Fault::LingerCutShort) {
            self.sockets.abort(conn);
        }
    }

    /// The socket has ended.
    pub(super) fn ended(&mut self, conn: ConnId) {
        self.leave(conn);
        let client = self.connections.client(conn);
        if client.conn() != Some(conn) {
            return;
        }
        match std::mem::take(client) {
            Client::Closing { counted: true, .. } | Client::Head(_) => self.count_connections(-1),
            Client::Closing { counted: false, .. } => self.refusals -= 1,
            Client::Vacant | Client::Open(..) => {}
        }
    }

    /// Reports ended connections to the users' shards, as far as the lanes have room.
    pub(super) fn report_departures(&mut self) {
        // A connection of a bot is reported before its end.
        if !self.report_bots() {
            return;
        }
        for _ in 0..self.departures.len() {
            let Some((user, conn)) = self.departures.pop_front() else { return };
            let departed = crate::mesh::frame::Request::Departed { user, conn };
            if self.request(self.placement.of_user(user), departed).is_err() {
                self.departures.push_back((user, conn)); // at the next turn
            }
        }
    }
}
