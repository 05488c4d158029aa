//! Close codes (RFC 6455 §7.4, and the 4000 range of the wire contract) and the close frame's payload.

use serde::Serialize;

/// Close codes that this server sends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u16)]
pub enum CloseCode {
    /// The connection has served its purpose.
    Normal = 1000,
    /// The server is shutting down.
    GoingAway = 1001,
    /// RFC 6455 was violated.
    Protocol = 1002,
    /// Text on a MessagePack connection or the reverse.
    Unsupported = 1003,
    /// Text that is not UTF-8, or a compressed message that does not inflate.
    InvalidPayload = 1007,
    /// A message was not complete in time, or a rule was violated that no other code describes.
    Policy = 1008,
    /// Larger than the limit.
    TooBig = 1009,
    /// A fault of the server.
    Internal = 1011,
    /// The access token has expired: refresh it and reconnect.
    TokenExpired = 4001,
    /// The session was revoked: sign in again.
    SessionRevoked = 4002,
    /// The client did not read its events in time.
    TooSlow = 4003,
    /// The user has too many connections.
    TooManyConnections = 4004,
    /// Too many requests.
    RateLimited = 4005,
    /// The client did not answer for two heartbeats.
    HeartbeatTimeout = 4006,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The stable code in the close reason.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::GoingAway => "going_away",
            Self::Protocol => "protocol_error",
            Self::Unsupported => "unsupported_data",
            Self::InvalidPayload => "invalid_payload",
            Self::Policy => "policy_violation",
            Self::TooBig => "too_large",
            Self::Internal => "internal",
            Self::TokenExpired => "token_expired",
            Self::SessionRevoked => "session_revoked",
            Self::TooSlow => "too_slow",
            Self::TooManyConnections => "too_many_connections",
            Self::RateLimited => "rate_limited",
            Self::HeartbeatTimeout => "heartbeat_timeout",
        }
    }

    /// Whether the client may reconnect, at once or with a new token.
    #[must_use]
    pub fn reconnect(self) -> bool {
        matches!(
            self,
            Self::GoingAway
                | Self::Policy
                | Self::Internal
                | Self::TokenExpired
                | Self::TooSlow
                | Self::RateLimited
                | Self::HeartbeatTimeout
        )
    }

    /// The close reason of the wire contract: short JSON, at most 123 bytes.
    #[must_use]
    pub fn reason(self, retry_after_ms: u64) -> String {
        #[derive(Serialize)]
        struct Reason {
            code: &'static str,
            reconnect: bool,
            retry_after_ms: u64,
        }
        let reason = Reason { code: self.word(), reconnect: self.reconnect(), retry_after_ms };
        serde_json::to_string(&reason).unwrap_or_default() // PROOF: three scalar fields always serialise
    }
}

/// Whether a peer may send this code (RFC 6455 §7.4; 1012–1014 are registered with IANA).
#[must_use]
pub fn may_be_received(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_fit_a_control_frame() {
        for code in [CloseCode::TooManyConnections, CloseCode::HeartbeatTimeout, CloseCode::InvalidPayload] {
            let reason = code.reason(u64::MAX);
            assert!(reason.len() <= 123, "{reason}");
        }
    }

    #[test]
    fn reserved_codes_may_not_be_received() {
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, u16::MAX] {
            assert!(!may_be_received(code), "{code}");
        }
    }
}
