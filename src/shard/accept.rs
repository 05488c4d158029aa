//! From an accepted socket to a decision: WebSocket, control plane, or a refusal before anything was spent on it.
//!
//! One client network has a limited number of incomplete heads ([`super::pending_heads`]), and of open WebSockets over
//! all shards. Otherwise one address could take every connection of the server.
//!
//! The head is received once at a time, so that no operation is in the kernel when the socket moves to another thread.
//!
//! A full server still answers health checks: a few heads beyond `limits.max_connections` are read, and every other
//! request among them is refused.

use super::Shard;
use super::connections::{Client, Head, Proxied};
use super::early::{self, EarlyResponse};
use super::world::{Clock, Transport, World};
use crate::address::{ClientNetwork, RequestSource};
use crate::auth::bot_token::is_bot_token;
use crate::auth::signing::KeyTag;
use crate::error::ErrorCode;
use crate::ids::{ConnId, ConversationId, SessionId, UserId};
use crate::limits::{HEALTH_HEAD_TIMEOUT_MS, HEALTH_HEADS_MAX, REFUSALS_PER_SHARD_MAX, UNFINISHED_AFTER_MS};
use crate::mesh::frame::{Admission, Handshake, HttpHandover, Request};
use crate::mesh::port::Lanes;
use crate::mesh::quota::QuotaPlace;
use crate::net::Chunk;
use crate::wire::SUBPROTOCOLS;
use crate::wire::proxy::{self, ProxyHeader};
use crate::wire::ws::handshake::{HandshakeError, Upgrade};
use crate::wire::ws::head::{HeadError, HeadProgress, RequestHead, origin_authority};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl<W: World> Shard<W> {
    pub(super) fn accepted(&mut self, conn: ConnId) {
        let max = self.live.limits.max_connections;
        let open = self.settings.connections.fetch_add(1, Ordering::Relaxed);
        let descriptors = open.saturating_sub(self.settings.direct_sockets.load(Ordering::Relaxed));
        let descriptors_max = self.settings.descriptors_max;
        let beyond_max = open >= max || descriptors >= descriptors_max;
        let timeout_ms = self.settings.head_timeout_ms;
        let timeout_ms = if beyond_max { timeout_ms.min(HEALTH_HEAD_TIMEOUT_MS) } else { timeout_ms };
        let mut head = Head::boxed(conn, beyond_max, self.now_ms + timeout_ms);
        let peer = self.sockets.peer_address(conn).map(|address| address.ip());
        let mut has_room = open < max + HEALTH_HEADS_MAX;
        has_room &= descriptors < descriptors_max.saturating_add(HEALTH_HEADS_MAX);
        let is_proxy = peer.is_some_and(|peer| self.settings.trusted_proxies.contains(peer));
        if let Some(peer) = peer.filter(|_| !is_proxy) {
            head.place = self.pending_heads.admit(ClientNetwork::of(peer));
            has_room &= head.place.is_some();
        }
        if self.settings.proxy_protocol {
            head.proxied = if is_proxy { Proxied::Expected } else { Proxied::Forbidden };
        }
        *self.connections.client(conn) = Client::Head(head);
        if !has_room {
            return self.refuse_head(conn, &early::NO_ROOM);
        }
        self.connections.schedule(conn, self.now_ms + timeout_ms.min(UNFINISHED_AFTER_MS));
        self.sockets.receive_once(conn);
    }

    /// A look at a head that is still incomplete.
    pub(super) fn head_timed_out(&mut self, conn: ConnId) {
        let now_ms = self.now_ms;
        let Client::Head(head) = self.connections.client(conn) else { return };
        let refusal = if now_ms >= head.until_ms {
            &early::TIMEOUT
        } else if head.place.as_mut().is_some_and(|place| !place.may_stay_unfinished()) {
            &early::TOO_MANY_HEADS
        } else {
            let until_ms = head.until_ms;
            return self.connections.schedule(conn, until_ms);
        };
        // Browsers and HTTP libraries connect ahead of a request. They would take these bytes for its answer.
        if head.received.is_empty() { self.drop_head(conn) } else { self.refuse_head(conn, refusal) }
    }

    pub(super) fn received_head(&mut self, conn: ConnId, bytes: &[u8]) {
        let Client::Head(head) = self.connections.client(conn) else { return };
        head.received.extend_from_slice(bytes);
        match proxied(head) {
            Ok(true) => {}
            Ok(false) => return self.sockets.receive_once(conn),
            Err(()) => return self.drop_head(conn),
        }
        // From here on it is limited like a connection from the client itself.
        if let Proxied::By(client) = head.proxied
            && head.place.is_none()
        {
            head.place = self.pending_heads.admit(ClientNetwork::of(client));
            if head.place.is_none() {
                return self.refuse_head(conn, &early::NO_ROOM);
            }
        }
        match head.scanner.scan(&head.received) {
            HeadProgress::Incomplete => self.sockets.receive_once(conn),
            HeadProgress::TooLarge => self.refuse_head(conn, &early::TOO_LARGE),
            HeadProgress::Complete(end) => {
                let received = std::mem::take(&mut head.received);
                let client = match head.proxied {
                    Proxied::By(client) => Some(client),
                    Proxied::No | Proxied::Forbidden | Proxied::Expected => None,
                };
                self.route(conn, received, end, client);
            }
        }
    }

    /// Decides by the complete head who answers.
    fn route(&mut self, conn: ConnId, received: Vec<u8>, end: usize, client: Option<IpAddr>) {
        let head = match RequestHead::parse(&received[..end]) {
            Ok(head) => head,
            Err(HeadError::TooManyHeaders) => return self.refuse_head(conn, &early::TOO_LARGE),
            Err(HeadError::Malformed) => return self.refuse_head(conn, &early::MALFORMED),
            Err(HeadError::Host) => return self.refuse_head(conn, &early::NO_HOST),
        };
        let is_websocket = head.wants_websocket() && matches!(head.path(), "/ws" | "/");
        let beyond_max = matches!(self.connections.client(conn), Client::Head(head) if head.beyond_max);
        if beyond_max && (is_websocket || !is_health_check(head.path())) {
            return self.refuse_head(conn, &early::NO_ROOM);
        }
        if !is_websocket {
            return self.hand_to_control(conn, received, client);
        }
        if head.has_bare_line_feed {
            return self.refuse_head(conn, &early::BARE_LINE_FEED);
        }
        match self.judge_upgrade(&head, &received[end..]) {
            Ok(judged) => {
                let source = Arc::new(self.source(conn, &head, client));
                let Ok(network_place) = self.admit_network(&source) else {
                    return self.refuse_head(conn, &early::NETWORK_IS_FULL);
                };
                let Some(socket) = self.sockets.detach(conn) else { return self.sockets.abort(conn) };
                *self.connections.client(conn) = Client::Vacant; // still counted: by its session, or by its refusal
                let admission = Admission {
                    socket,
                    handshake: judged.handshake,
                    user: judged.user,
                    session: judged.session,
                    bot_token: judged.bot_token,
                    source,
                    token_expires_seconds: judged.expires,
                    key: judged.key,
                    ticket: judged.ticket,
                    network_place,
                    looked_up_ms: 0,
                };
                let to = self.placement.of_user(admission.user);
                if let Err(Request::Admit(back)) = self.request(to, Request::Admit(Box::new(admission))) {
                    self.answer_503(back.socket);
                }
            }
            Err(refusal) => self.refuse_head(conn, refusal),
        }
    }

    /// A place for a WebSocket of this client; none for a trusted proxy, which carries those of many clients. An error:
    /// its network has as many as it may have.
    fn admit_network(&self, source: &RequestSource) -> Result<Option<QuotaPlace<ClientNetwork>>, ()> {
        let client = source.address.filter(|address| !self.settings.trusted_proxies.contains(*address));
        client.map(|client| self.settings.networks.admit(ClientNetwork::of(client)).ok_or(())).transpose()
    }

    /// Where an upgrade came from. `client` is the address of its PROXY header.
    fn source(&self, conn: ConnId, head: &RequestHead<'_>, client: Option<IpAddr>) -> RequestSource {
        let proxies = &self.settings.trusted_proxies;
        let peer = client.or_else(|| self.sockets.peer_address(conn).map(|address| address.ip()));
        let address = peer.map(|peer| proxies.client(peer, head.values(proxies.header().name())));
        RequestSource::new(address, head.values("user-agent").next())
    }

    fn judge_upgrade(&self, head: &RequestHead<'_>, rest: &[u8]) -> Result<Judged, &'static EarlyResponse> {
        // A handshake without the field is a program's. One with two fields, or with one that is no text, must not pass
        // for it.
        let origin = head.at_most_one("origin").map_err(|_| &early::FORBIDDEN_ORIGIN)?;
        if origin.is_some_and(|origin| !self.origin_allowed(origin, head.authority)) {
            return Err(&early::FORBIDDEN_ORIGIN);
        }
        let now = self.clock.utc().unix_timestamp();
        let bearer = head.at_most_one("authorization").map_err(|_| &early::BAD_TOKEN)?.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let mut bot_token = None;
        let (user, session, key, expires, ticket) = match (bearer, head.query("ticket")) {
            (Some(token), _) if is_bot_token(token) => {
                let read = self.live.keys.read_bot_token(token).map_err(|_| &early::BAD_TOKEN)?;
                bot_token = Some(Box::new(read.hash));
                (read.bot, SessionId(0), None, i64::MAX, None) // PostgreSQL knows the rest
            }
            (Some(token), _) => {
                let claims = self.live.keys.verify_access(token, now).map_err(|_| &early::BAD_TOKEN)?;
                (claims.user, claims.session, Some(claims.key), claims.expires_at_seconds, None)
            }
            (None, Some(ticket)) => {
                let claims = self.live.keys.verify_ticket(&ticket, now).map_err(|_| &early::BAD_TOKEN)?;
                // A ticket opens a connection; how long that may stay open is the session's business.
                let spent = Some((claims.ticket_id, claims.expires_at_seconds));
                (claims.user, claims.session, Some(claims.key), i64::MAX, spent)
            }
            (None, None) => return Err(&early::NO_TOKEN),
        };
        if self.directory.revocations.contains(session) {
            return Err(&early::BAD_TOKEN);
        }
        let upgrade = Upgrade::negotiate(head, &SUBPROTOCOLS, self.settings.deflate).map_err(|error| match error {
            HandshakeError::Version => &early::UPGRADE_VERSION,
            HandshakeError::NotAnUpgrade | HandshakeError::Key => &early::UPGRADE_MALFORMED,
        })?;
        Ok(Judged {
            handshake: Handshake {
                response: upgrade.response(&SUBPROTOCOLS),
                format: upgrade.subprotocol.unwrap_or(0) as u8,
                deflate_window_bits: upgrade.deflate.map(|d| d.server_window_bits),
                subscribe_all: head.query("subscribe").as_deref() != Some("none"),
                hint: head.query("conversation").as_deref().and_then(ConversationId::parse),
                early_bytes: rest.to_vec(),
            },
            user,
            session,
            bot_token,
            key,
            expires,
            ticket,
        })
    }

    /// Pages of the server's own origin, and those on the list.
    fn origin_allowed(&self, origin: &str, host: Option<&str>) -> bool {
        let own = origin_authority(origin);
        if self.settings.loopback_origins && own.is_some_and(is_loopback) {
            return true;
        }
        (own.is_some() && own == host) || self.live.allowed_origins.iter().any(|allowed| allowed == origin)
    }

    fn hand_to_control(&mut self, conn: ConnId, received: Vec<u8>, client: Option<IpAddr>) {
        let Some(socket) = self.sockets.detach(conn) else { return self.sockets.abort(conn) };
        *self.connections.client(conn) = Client::Vacant;
        match self.lanes.hand_over_http(HttpHandover { socket, received, client }) {
            Ok(()) => self.count_connections(-1), // the control plane counts its own
            Err(back) => self.answer_503(back.socket),
        }
    }

    /// Refuses a socket for which no slot is free. It must still be counted.
    pub(super) fn answer_503(&mut self, socket: W::Socket) {
        self.answer_unowned(socket, &early::NO_ROOM);
    }

    /// Answers a socket whose session is not opened.
    pub(super) fn answer_unadmitted(&mut self, socket: W::Socket, code: ErrorCode) {
        let response = match code {
            ErrorCode::Unauthenticated => &early::BAD_TOKEN,
            ErrorCode::TwoFactorRequired => &early::NO_FACTOR,
            ErrorCode::RateLimited => &early::FLOODED,
            _ => &early::NO_STORE,
        };
        self.answer_unowned(socket, response);
    }

    fn answer_unowned(&mut self, socket: W::Socket, response: &EarlyResponse) {
        let conn = self.sockets.adopt(socket);
        *self.connections.client(conn) = Client::Head(Head::boxed(conn, false, self.now_ms));
        self.refuse_head(conn, response);
    }

    /// Answers and closes. A connection beyond the maximum is not counted from here on. Only a few of those may wait
    /// for their client's end, so that a flood of refusals cannot take the descriptors of health checks.
    fn refuse_head(&mut self, conn: ConnId, response: &EarlyResponse) {
        let beyond_max = matches!(self.connections.client(conn), Client::Head(head) if head.beyond_max);
        if beyond_max {
            self.count_connections(-1);
            self.refusals += 1;
        }
        *self.connections.client(conn) = Client::Closing { conn, counted: !beyond_max, until_ms: self.now_ms };
        if self.refusals > REFUSALS_PER_SHARD_MAX {
            return self.sockets.abort(conn);
        }
        self.sockets.send(conn, Chunk::from(response.bytes()));
        self.sockets.finish(conn);
        self.linger(conn);
    }

    /// Ends a connection without an answer.
    fn drop_head(&mut self, conn: ConnId) {
        let beyond_max = matches!(self.connections.client(conn), Client::Head(head) if head.beyond_max);
        if beyond_max {
            self.count_connections(-1);
            self.refusals += 1;
        }
        *self.connections.client(conn) = Client::Closing { conn, counted: !beyond_max, until_ms: self.now_ms };
        self.sockets.abort(conn);
    }

    pub(super) fn count_connections(&self, change: isize) {
        if change > 0 {
            self.settings.connections.fetch_add(change.unsigned_abs(), Ordering::Relaxed);
        } else {
            self.settings.connections.fetch_sub(change.unsigned_abs(), Ordering::Relaxed);
        }
    }
}

/// Takes the PROXY header off the received bytes, if there has to be one. False: it is not complete. An error: the
/// connection must be closed.
fn proxied(head: &mut Head) -> Result<bool, ()> {
    match head.proxied {
        Proxied::No | Proxied::By(_) => Ok(true),
        // A request never begins with these bytes, so that a part of them is enough.
        Proxied::Forbidden => {
            if head.received.starts_with(&proxy::SIGNATURE[..3]) {
                Err(())
            } else {
                Ok(true)
            }
        }
        Proxied::Expected => match proxy::read(&head.received) {
            ProxyHeader::Incomplete => Ok(false),
            ProxyHeader::Malformed => Err(()),
            ProxyHeader::Complete { bytes, client } => {
                head.received.drain(..bytes);
                head.proxied = client.map_or(Proxied::No, Proxied::By);
                Ok(!head.received.is_empty())
            }
        },
    }
}

/// Paths that are answered even when the server is full.
fn is_health_check(path: &str) -> bool {
    matches!(path, "/health" | "/health/live" | "/health/ready")
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback(authority: &str) -> bool {
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next(),
        None => authority.split(':').next(),
    };
    matches!(host, Some("localhost" | "127.0.0.1" | "::1"))
}

struct Judged {
    handshake: Handshake,
    user: UserId,
    session: SessionId,
    bot_token: Option<Box<[u8; 32]>>,
    key: Option<KeyTag>,
    expires: i64,
    ticket: Option<(String, i64)>,
}
