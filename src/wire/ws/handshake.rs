//! The opening handshake (RFC 6455 §4.2) with subprotocol and permessage-deflate negotiation (RFC 7692 §7.1).

use super::head::RequestHead;
use base64::{Engine, engine::general_purpose::STANDARD};
use sha1::{Digest, Sha1};

/// The fixed GUID of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why an upgrade was refused; each reason has one HTTP response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HandshakeError {
    /// Method is not GET, or HTTP/1.0.
    NotAnUpgrade,
    /// `Sec-WebSocket-Version` is not 13; the answer names 13.
    Version,
    /// `Sec-WebSocket-Key` is missing, repeated or not 16 bytes of Base64.
    Key,
}

/// permessage-deflate as negotiated: without context takeover in either direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeflateParameters {
    /// The server's window when it compresses: 2^9 … 2^15 bytes.
    pub server_window_bits: u8,
    /// Whether the response must repeat `server_max_window_bits`.
    echo_window_bits: bool,
}

/// A valid upgrade request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upgrade {
    accept: String,
    /// The first offered subprotocol that the server knows: an index into the list given to [`Upgrade::negotiate`].
    pub subprotocol: Option<usize>,
    /// permessage-deflate, if an offer suits the server.
    pub deflate: Option<DeflateParameters>,
}

impl Upgrade {
    /// Checks an upgrade request. `known` are the server's subprotocols; `deflate` enables compression.
    ///
    /// # Errors
    /// [`HandshakeError`] when the request is not a valid WebSocket handshake.
    pub fn negotiate(head: &RequestHead<'_>, known: &[&str], deflate: bool) -> Result<Self, HandshakeError> {
        if head.method != "GET" || head.minor_version == 0 {
            return Err(HandshakeError::NotAnUpgrade);
        }
        if head.single("sec-websocket-version") != Some("13") {
            return Err(HandshakeError::Version);
        }
        let key = head.single("sec-websocket-key").ok_or(HandshakeError::Key)?;
        if STANDARD.decode(key).map(|bytes| bytes.len()) != Ok(16) {
            return Err(HandshakeError::Key);
        }
        let subprotocol =
            head.list("sec-websocket-protocol").find_map(|offered| known.iter().position(|name| *name == offered));
        let deflate = if deflate { head.list("sec-websocket-extensions").find_map(accept_offer) } else { None };
        Ok(Self { accept: accept_key(key), subprotocol, deflate })
    }

    /// The `101 Switching Protocols` response.
    #[must_use]
    pub fn response(&self, known: &[&str]) -> String {
        use std::fmt::Write;
        let mut response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n",
            self.accept
        );
        if let Some(name) = self.subprotocol.and_then(|index| known.get(index)) {
            let _ = write!(response, "Sec-WebSocket-Protocol: {name}\r\n"); // writing to a String cannot fail
        }
        if let Some(deflate) = self.deflate {
            response.push_str(
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            );
            if deflate.echo_window_bits {
                let _ = write!(response, "; server_max_window_bits={}", deflate.server_window_bits);
            }
            response.push_str("\r\n");
        }
        response.push_str("\r\n");
        response
    }
}

/// `Sec-WebSocket-Accept` for a `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
#[must_use]
pub fn accept_key(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

/// Accepts or declines one extension offer (RFC 7692 §7.1). Unknown, repeated or invalid parameters decline it.
fn accept_offer(offer: &str) -> Option<DeflateParameters> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next()? != "permessage-deflate" {
        return None;
    }
    let mut accepted = DeflateParameters { server_window_bits: 15, echo_window_bits: false };
    let mut seen = [false; 4];
    for part in parts {
        let (name, value) = part.split_once('=').map_or((part, None), |(name, value)| (name.trim(), Some(value)));
        let value = value.map(|v| v.trim().trim_matches('"'));
        let bits = || value.and_then(|v| v.parse::<u8>().ok()).filter(|b| (8..=15).contains(b));
        let index = match (name, value) {
            ("server_no_context_takeover", None) => 0,
            ("client_no_context_takeover", None) => 1,
            // An inflater with the largest window understands every smaller one.
            ("client_max_window_bits", None) => 2,
            ("client_max_window_bits", Some(_)) => bits().map(|_| 2)?,
            ("server_max_window_bits", Some(_)) => {
                // zlib cannot write raw deflate with a 256-byte window; such an offer is declined.
                accepted.server_window_bits = bits().filter(|b| *b >= 9)?;
                accepted.echo_window_bits = true;
                3
            }
            _ => return None,
        };
        if std::mem::replace(&mut seen[index], true) {
            return None;
        }
    }
    Some(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(extra: &str) -> String {
        format!(
            "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
        )
    }

    fn negotiate(text: &str) -> Result<Upgrade, HandshakeError> {
        Upgrade::negotiate(&RequestHead::parse(text.as_bytes()).unwrap(), &["a", "b"], true)
    }

    #[test]
    fn computes_the_accept_key_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_clients_order_of_subprotocols_counts() {
        let upgrade = negotiate(&head("Sec-WebSocket-Protocol: x, b\r\nSec-WebSocket-Protocol: a\r\n")).unwrap();
        assert_eq!(upgrade.subprotocol, Some(1));
        assert!(upgrade.response(&["a", "b"]).contains("\r\nSec-WebSocket-Protocol: b\r\n"));
        assert_eq!(negotiate(&head("")).unwrap().subprotocol, None);
    }

    #[test]
    fn reports_why_a_handshake_is_invalid() {
        assert_eq!(negotiate(&head("").replace("GET", "POST")), Err(HandshakeError::NotAnUpgrade));
        assert_eq!(negotiate(&head("").replace("HTTP/1.1", "HTTP/1.0")), Err(HandshakeError::NotAnUpgrade));
        assert_eq!(negotiate(&head("").replace(": 13", ": 8")), Err(HandshakeError::Version));
        assert_eq!(negotiate(&head("").replace("dGhl", "")), Err(HandshakeError::Key));
        assert_eq!(negotiate(&head("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n")), Err(HandshakeError::Key));
    }

    #[test]
    fn deflate_offers() {
        for (offer, bits) in [
            ("permessage-deflate", Some(15)),
            ("permessage-deflate; client_max_window_bits", Some(15)),
            ("permessage-deflate; server_max_window_bits=9; client_max_window_bits=10", Some(9)),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=8, permessage-deflate; server_no_context_takeover", Some(15)),
            ("permessage-deflate; unknown", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; client_no_context_takeover; client_no_context_takeover", None),
            ("x-webkit-deflate-frame", None),
        ] {
            let upgrade = negotiate(&head(&format!("Sec-WebSocket-Extensions: {offer}\r\n"))).unwrap();
            assert_eq!(upgrade.deflate.map(|d| d.server_window_bits), bits, "{offer}");
        }
    }
}
