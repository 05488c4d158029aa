//! HTTP responses that a shard gives by itself, before anything was spent on the connection.

use crate::limits::FLOOD_RETRY_MS;
use crate::wire::response_fields::response_fields;
use std::fmt::Write;

/// An HTTP response without the control plane.
pub(super) struct EarlyResponse {
    status: &'static str,
    code: &'static str,
    detail: &'static str,
    header: &'static str,
}

const fn response(status: &'static str, code: &'static str, detail: &'static str) -> EarlyResponse {
    EarlyResponse { status, code, detail, header: "" }
}

pub(super) const TIMEOUT: EarlyResponse =
    response("408 Request Timeout", "request_timeout", "The request head was not complete in time.");
pub(super) const TOO_LARGE: EarlyResponse = response(
    "431 Request Header Fields Too Large",
    "too_large",
    "The request head is larger than 8 KiB or has more than 64 fields.",
);
pub(super) const MALFORMED: EarlyResponse =
    response("400 Bad Request", "bad_request", "This is not an HTTP/1.1 request.");
pub(super) const BARE_LINE_FEED: EarlyResponse = response(
    "400 Bad Request",
    "bad_request",
    "Every line of a WebSocket handshake must end with CR LF. A proxy may have changed the line ends.",
);
pub(super) const NO_HOST: EarlyResponse = response(
    "400 Bad Request",
    "bad_request",
    "An HTTP/1.1 request must have one Host header, with a host name and an optional port.",
);
pub(super) const FORBIDDEN_ORIGIN: EarlyResponse =
    response("403 Forbidden", "forbidden", "Pages of this origin may not connect. Add it to security.allowed_origins.");
pub(super) const NO_TOKEN: EarlyResponse = response(
    "401 Unauthorized",
    "unauthenticated",
    "A WebSocket needs `Authorization: Bearer <access token>`, or ?ticket= from POST /ws-ticket.",
);
pub(super) const BAD_TOKEN: EarlyResponse = response(
    "401 Unauthorized",
    "unauthenticated",
    "The token or ticket is not valid or has expired. Sign in or refresh it.",
);
pub(super) const NO_FACTOR: EarlyResponse = response(
    "403 Forbidden",
    "two_factor_required",
    "Your account needs two-factor authentication. Set it up with POST /auth/2fa/enable and POST /auth/2fa/confirm, \
     then connect again.",
);
const _: () = assert!(FLOOD_RETRY_MS == 5_000, "FLOODED says so");
pub(super) const FLOODED: EarlyResponse = EarlyResponse {
    status: "429 Too Many Requests",
    code: "rate_limited",
    detail: "A WebSocket of your account was closed with 4005 (rate limited). Wait as long as its close frame says.",
    header: "Retry-After: 5\r\n",
};
pub(super) const NO_ROOM: EarlyResponse = EarlyResponse {
    status: "503 Service Unavailable",
    code: "overloaded",
    detail: "The server cannot accept another connection right now. Try again in a few seconds.",
    header: "Retry-After: 2\r\n",
};
pub(super) const NETWORK_IS_FULL: EarlyResponse = EarlyResponse {
    status: "503 Service Unavailable",
    code: "overloaded",
    detail: "Too many WebSockets from this network are open. Close some, or try again later.",
    header: "Retry-After: 30\r\n",
};
pub(super) const TOO_MANY_HEADS: EarlyResponse = EarlyResponse {
    status: "503 Service Unavailable",
    code: "overloaded",
    detail: "Too many requests from this network are incomplete. Try again in a few seconds.",
    header: "Retry-After: 2\r\n",
};
pub(super) const NO_STORE: EarlyResponse = EarlyResponse {
    status: "503 Service Unavailable",
    code: "storage_unavailable",
    detail: "The server cannot reach its database right now. Try again in a moment.",
    header: "Retry-After: 1\r\n",
};
pub(super) const UPGRADE_VERSION: EarlyResponse = EarlyResponse {
    status: "426 Upgrade Required",
    code: "bad_request",
    detail: "Only version 13 of the WebSocket protocol is supported.",
    header: "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n",
};
pub(super) const UPGRADE_MALFORMED: EarlyResponse = response(
    "400 Bad Request",
    "bad_request",
    "This is not a valid WebSocket handshake (RFC 6455 section 4.1): GET, HTTP/1.1 and one Sec-WebSocket-Key \
     are needed.",
);

impl EarlyResponse {
    /// The whole response; the connection is closed after it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let body = format!(
            "{{\"type\":\"about:blank\",\"title\":\"{}\",\"status\":{},\"detail\":\"{}\",\"code\":\"{}\"}}",
            self.status.get(4..).unwrap_or_default(),
            self.status.get(..3).unwrap_or_default(),
            self.detail,
            self.code
        );
        let mut response = format!("HTTP/1.1 {}\r\nConnection: close\r\n{}", self.status, self.header);
        // Writing to a String cannot fail.
        let _ = write!(
            response,
            "Content-Type: application/problem+json\r\n{}Content-Length: {}\r\n\r\n{body}",
            response_fields(),
            body.len()
        );
        response.into_bytes()
    }
}
