//! The server's address (`http://…`), and the HTTP and WebSocket URLs derived from it.
//!
//! Deliberately absent: `https://`. The client has no TLS library. It refuses such an address and explains why, so that
//! no user believes that their password was encrypted.

use reqwest::Url;
use std::fmt;
use std::net::IpAddr;

/// The address of a local server with the default settings.
pub const DEFAULT: &str = "http://127.0.0.1:8080";

/// A server's address, without a trailing slash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address(String);

impl Address {
    /// Parses `http://HOST[:PORT][/PREFIX]`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{error}; expected http://HOST:PORT"))?;
        match url.scheme() {
            "http" => {}
            "https" => {
                return Err(
                    "this client has no TLS; open a tunnel to the server's HTTP port, for example with ssh -L \
                            8080:localhost:8080 HOST, and give http://127.0.0.1:8080"
                        .to_owned(),
                );
            }
            other => return Err(format!("{other}:// is not supported; expected http://HOST:PORT")),
        }
        let plain = url.username().is_empty() && url.password().is_none();
        if !plain || url.query().is_some() || url.fragment().is_some() {
            return Err("an address has no user, query or fragment; expected http://HOST:PORT".to_owned());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// The URL of an HTTP endpoint; `path` begins with a slash.
    pub fn http(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// The URL of a WebSocket endpoint; `path` begins with a slash.
    pub fn websocket(&self, path: &str) -> String {
        format!("ws{}{path}", self.0.trim_start_matches("http"))
    }

    /// Whether the server is this machine, so that requests are not sent over a network.
    pub fn is_loopback(&self) -> bool {
        let url = Url::parse(&self.0).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derives_http_and_websocket_urls() {
        let address = Address::parse("http://chat.example:8080/veza/").unwrap();
        assert_eq!(address.http("/ws"), "http://chat.example:8080/veza/ws");
        assert_eq!(address.websocket("/ws"), "ws://chat.example:8080/veza/ws");
        assert_eq!(Address::parse(DEFAULT).unwrap().to_string(), DEFAULT);
    }

    #[test]
    fn refuses_addresses_that_cannot_work() {
        assert!(Address::parse("https://chat.example").unwrap_err().contains("TLS"));
        for wrong in ["", "chat.example", "ftp://a", "http://", "http://u:p@a", "http://a?b", "http://a#b"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn recognizes_loopback_addresses() {
        for (text, loopback) in [
            ("http://127.9.9.9", true),
            ("http://[::1]:80", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(Address::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }
}
