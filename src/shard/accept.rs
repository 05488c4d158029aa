//! From an accepted socket to a decision: WebSocket, control plane, or a refusal before anything was spent on it.
//!
//! The head is received once at a time, so that no operation is in the kernel when the socket is given away.
//!
//! A full server still answers health checks: a few heads beyond `limits.max_connections` are read, and every other
//! request among them is refused.

use super::Shard;
use super::session::{Client, Head};
use crate::ids::{ConnId, ConversationId};
use crate::limits::{HEALTH_HEAD_TIMEOUT_MS, HEALTH_HEADS_MAX, REFUSALS_PER_SHARD_MAX};
use crate::mesh::frame::{Admission, Handshake, HttpHandover, Request};
use crate::net::Chunk;
use crate::wire::SUBPROTOCOLS;
use crate::wire::ws::handshake::{HandshakeError, Upgrade};
use crate::wire::ws::head::{HeadError, HeadProgress, RequestHead};
use std::fmt::Write;
use std::sync::atomic::Ordering;

/// An HTTP answer given without the control plane.
struct Answer {
    status: &'static str,
    code: &'static str,
    detail: &'static str,
    header: &'static str,
}

const fn answer(status: &'static str, code: &'static str, detail: &'static str) -> Answer {
    Answer { status, code, detail, header: "" }
}

const TIMEOUT: Answer = answer("408 Request Timeout", "request_timeout", "the request head was not complete in time");
const TOO_LARGE: Answer = answer(
    "431 Request Header Fields Too Large",
    "too_large",
    "the request head is larger than 8 KiB or has more than 64 fields",
);
const MALFORMED: Answer = answer("400 Bad Request", "bad_request", "this is not an HTTP/1.1 request");
const NO_HOST: Answer = answer(
    "400 Bad Request",
    "bad_request",
    "An HTTP/1.1 request must have one Host header, with a host name and an optional port.",
);
const FORBIDDEN_ORIGIN: Answer =
    answer("403 Forbidden", "forbidden", "pages of this origin may not connect; add it to security.allowed_origins");
const NO_TOKEN: Answer = answer(
    "401 Unauthorized",
    "unauthenticated",
    "a WebSocket needs `Authorization: Bearer <access token>`, or ?ticket= from POST /ws-ticket",
);
const BAD_TOKEN: Answer = answer(
    "401 Unauthorized",
    "unauthenticated",
    "the token or ticket is not valid or has expired; sign in or refresh it",
);
const NO_ROOM: Answer = Answer {
    status: "503 Service Unavailable",
    code: "overloaded",
    detail: "the server has no room for another connection right now; try again in a few seconds",
    header: "Retry-After: 2\r\n",
};
const NO_STORE: Answer = Answer {
    status: "503 Service Unavailable",
    code: "storage_unavailable",
    detail: "the store cannot be reached right now; try again in a moment",
    header: "Retry-After: 1\r\n",
};

impl Shard {
    pub(super) fn accepted(&mut self, conn: ConnId) {
        let max = self.settings.limits.max_connections;
        let open = self.settings.connections.fetch_add(1, Ordering::Relaxed);
        let mut head = Head::boxed(conn);
        head.beyond_max = open >= max;
        let timeout_ms = self.settings.head_timeout_ms;
        let timeout_ms = if head.beyond_max { timeout_ms.min(HEALTH_HEAD_TIMEOUT_MS) } else { timeout_ms };
        *self.client(conn) = Client::Head(head);
        if open >= max + HEALTH_HEADS_MAX {
            return self.refuse_head(conn, &NO_ROOM);
        }
        self.wheel.schedule(conn, self.now_ms + timeout_ms);
        self.sockets.receive_once(conn);
    }

    pub(super) fn head_timed_out(&mut self, conn: ConnId) {
        self.refuse_head(conn, &TIMEOUT);
    }

    pub(super) fn received_head(&mut self, conn: ConnId, bytes: &[u8]) {
        let Client::Head(head) = self.client(conn) else { return };
        head.received.extend_from_slice(bytes);
        match head.scanner.scan(&head.received) {
            HeadProgress::Incomplete => self.sockets.receive_once(conn),
            HeadProgress::TooLarge => self.refuse_head(conn, &TOO_LARGE),
            HeadProgress::Complete(end) => {
                let received = std::mem::take(&mut head.received);
                self.route(conn, received, end);
            }
        }
    }

    /// Decides by the complete head who answers.
    fn route(&mut self, conn: ConnId, received: Vec<u8>, end: usize) {
        let head = match RequestHead::parse(&received[..end]) {
            Ok(head) => head,
            Err(HeadError::TooManyHeaders) => return self.refuse_head(conn, &TOO_LARGE),
            Err(HeadError::Malformed) => return self.refuse_head(conn, &MALFORMED),
            Err(HeadError::Host) => return self.refuse_head(conn, &NO_HOST),
        };
        let is_websocket = head.wants_websocket() && matches!(head.path(), "/ws" | "/");
        let beyond_max = matches!(self.client(conn), Client::Head(head) if head.beyond_max);
        if beyond_max && (is_websocket || !is_health_check(head.path())) {
            return self.refuse_head(conn, &NO_ROOM);
        }
        if !is_websocket {
            return self.hand_to_control(conn, received);
        }
        match self.judge_upgrade(&head, &received[end..]) {
            Ok(judged) => {
                let Some(socket) = self.sockets.detach(conn) else { return self.sockets.abort(conn) };
                *self.client(conn) = Client::Vacant; // still counted: by its session, or by its refusal
                let admission = Admission {
                    socket,
                    handshake: judged.handshake,
                    user: judged.user,
                    session: judged.session,
                    token_expires_seconds: judged.expires,
                    ticket: judged.ticket,
                };
                let to = self.mesh.placement.of_user(admission.user);
                if let Err(Request::Admit(back)) = self.request(to, Request::Admit(Box::new(admission))) {
                    self.answer_503(back.socket);
                }
            }
            Err(refusal) => self.refuse_head(conn, refusal),
        }
    }

    fn judge_upgrade(&self, head: &RequestHead<'_>, rest: &[u8]) -> Result<Judged, &'static Answer> {
        if let Some(origin) = head.single("origin")
            && !self.origin_allowed(origin, head.authority)
        {
            return Err(&FORBIDDEN_ORIGIN);
        }
        let now = Self::unix_seconds();
        let bearer = head.single("authorization").and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let (user, session, expires, ticket) = match (bearer, head.query("ticket")) {
            (Some(token), _) => {
                let claims = self.settings.keys.verify_access(token, now).map_err(|_| &BAD_TOKEN)?;
                (claims.user, claims.session, claims.expires_at_seconds, None)
            }
            (None, Some(ticket)) => {
                let claims = self.settings.keys.verify_ticket(&ticket, now).map_err(|_| &BAD_TOKEN)?;
                // A ticket opens a connection; how long that may stay open is the session's business.
                (claims.user, claims.session, i64::MAX, Some((claims.ticket_id, claims.expires_at_seconds)))
            }
            (None, None) => return Err(&NO_TOKEN),
        };
        if self.is_revoked(session) {
            return Err(&BAD_TOKEN);
        }
        let upgrade = Upgrade::negotiate(head, &SUBPROTOCOLS, self.settings.deflate).map_err(|error| match error {
            HandshakeError::Version => &UPGRADE_VERSION,
            HandshakeError::NotAnUpgrade | HandshakeError::Key => &UPGRADE_MALFORMED,
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
            expires,
            ticket,
        })
    }

    /// Pages of the server's own origin, and those on the list.
    fn origin_allowed(&self, origin: &str, host: Option<&str>) -> bool {
        let own = origin.split_once("://").map(|(_, authority)| authority);
        if self.settings.loopback_origins && own.is_some_and(is_loopback) {
            return true;
        }
        (own.is_some() && own == host) || self.settings.allowed_origins.iter().any(|allowed| allowed == origin)
    }

    fn hand_to_control(&mut self, conn: ConnId, received: Vec<u8>) {
        let Some(socket) = self.sockets.detach(conn) else { return self.sockets.abort(conn) };
        *self.client(conn) = Client::Vacant;
        match self.mesh.http.try_push(HttpHandover { socket, received }) {
            Ok(()) => {
                self.count_connections(-1); // the control plane counts its own
                self.mesh.control_bell.ring();
            }
            Err(back) => self.answer_503(back.socket),
        }
    }

    /// Refuses a socket that no slot owns, for want of room. It must still be counted.
    pub(super) fn answer_503(&mut self, socket: std::os::fd::OwnedFd) {
        self.answer_unowned(socket, &NO_ROOM);
    }

    /// The same for one whose session could not be opened.
    pub(super) fn answer_unadmitted(&mut self, socket: std::os::fd::OwnedFd, store_is_down: bool) {
        self.answer_unowned(socket, if store_is_down { &NO_STORE } else { &BAD_TOKEN });
    }

    fn answer_unowned(&mut self, socket: std::os::fd::OwnedFd, answer: &Answer) {
        let conn = self.sockets.adopt(socket);
        *self.client(conn) = Client::Head(Head::boxed(conn));
        self.refuse_head(conn, answer);
    }

    /// Answers and closes. A connection beyond the maximum is no longer counted from here on; only a few of those may wait
    /// for their client's end, so that a flood of refusals cannot take the descriptors of health checks.
    fn refuse_head(&mut self, conn: ConnId, answer: &Answer) {
        let beyond_max = matches!(self.client(conn), Client::Head(head) if head.beyond_max);
        if beyond_max {
            self.count_connections(-1);
            self.refusals += 1;
        }
        *self.client(conn) = Client::Ending { counted: !beyond_max };
        if self.refusals > REFUSALS_PER_SHARD_MAX {
            return self.sockets.abort(conn);
        }
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\",\"code\":\"{}\"}}",
            answer.status.get(4..).unwrap_or_default(),
            answer.status.get(..3).unwrap_or_default(),
            answer.detail,
            answer.code
        );
        let mut response = format!("HTTP/1.1 {}\r\nConnection: close\r\n{}", answer.status, answer.header);
        // Writing to a String cannot fail.
        let _ =
            write!(response, "Content-Type: application/problem+json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        self.sockets.send(conn, Chunk::new(response));
        self.sockets.finish(conn);
        self.linger(conn);
    }
}

const UPGRADE_VERSION: Answer = Answer {
    status: "426 Upgrade Required",
    code: "bad_request",
    detail: "only version 13 of the WebSocket protocol is spoken here",
    header: "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
};
const UPGRADE_MALFORMED: Answer = answer(
    "400 Bad Request",
    "bad_request",
    "this is not a valid WebSocket handshake (RFC 6455 section 4.1): GET, HTTP/1.1 and one Sec-WebSocket-Key are needed",
);

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
    user: crate::ids::UserId,
    session: crate::ids::SessionId,
    expires: i64,
    ticket: Option<(String, i64)>,
}
