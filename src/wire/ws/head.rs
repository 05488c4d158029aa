//! The request head of RFC 9112, as far as a shard needs it to decide between WebSocket and control plane.
//!
//! Invariant: the end of the head is searched for incrementally, and the complete head is parsed once. Parsing again on
//! every read is a denial of service (CVE-2023-43669 in another server). Size and number of fields are bounded
//! (CVE-2024-37890).
//!
//! A line may end with LF alone, as RFC 9112 section 2.2 permits. So shard and control plane find the same end of a
//! head; otherwise a proxy could be led to see two requests where the server sees one. A WebSocket handshake with such
//! a line is refused, because no client of WebSockets sends one ([`RequestHead::has_bare_line_feed`]).

use crate::limits::{REQUEST_HEAD_BYTES_MAX, REQUEST_HEADERS_MAX};
use std::net::Ipv6Addr;

/// Searches for the empty line that ends a head, and remembers how far it has searched.
#[derive(Clone, Copy, Default, Debug)]
pub struct HeadScanner {
    searched: u16,
}

/// Result of one search.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadProgress {
    /// More bytes are needed.
    Incomplete,
    /// The head is complete and has this many bytes.
    Complete(usize),
    /// It is longer than [`REQUEST_HEAD_BYTES_MAX`].
    TooLarge,
}

impl HeadScanner {
    /// Searches `received`, which is everything received so far.
    pub fn scan(&mut self, received: &[u8]) -> HeadProgress {
        let from = usize::from(self.searched).min(received.len());
        let window = &received[from..received.len().min(REQUEST_HEAD_BYTES_MAX)];
        let mut line_ends = window.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
        let empty_line = |at: usize| match window[at..] {
            [b'\n', ..] => Some(at + 1),
            [b'\r', b'\n', ..] => Some(at + 2),
            _ => None,
        };
        if let Some(end) = line_ends.find_map(empty_line) {
            return HeadProgress::Complete(from + end);
        }
        if received.len() >= REQUEST_HEAD_BYTES_MAX {
            return HeadProgress::TooLarge;
        }
        self.searched = received.len().saturating_sub(3) as u16;
        HeadProgress::Incomplete
    }
}

/// Why a head was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// Not HTTP/1.x.
    Malformed,
    /// `Host` is missing in HTTP/1.1, repeated, or no host (RFC 9112 §3.2).
    Host,
    /// More than [`REQUEST_HEADERS_MAX`] fields.
    TooManyHeaders,
}

/// A field that must not be repeated is there twice, or is not UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidField;

/// A parsed head; borrows from the received bytes.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// Request method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Host and port that the request is for: of an absolute target, else of `Host`.
    pub authority: Option<&'a str>,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// A line ends with LF alone.
    pub has_bare_line_feed: bool,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> RequestHead<'a> {
    /// Parses a complete head.
    ///
    /// # Errors
    /// [`HeadError`] when it is not a request head or has too many fields.
    pub fn parse(head: &'a [u8]) -> Result<Self, HeadError> {
        let mut fields = [httparse::EMPTY_HEADER; REQUEST_HEADERS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyHeaders),
            Ok(httparse::Status::Partial) | Err(_) => return Err(HeadError::Malformed),
        }
        let (Some(method), Some(target), Some(minor_version)) = (request.method, request.path, request.version) else {
            return Err(HeadError::Malformed);
        };
        let headers = request.headers.iter().map(|h| (h.name, h.value)).collect();
        let has_bare_line_feed = has_bare_line_feed(head);
        let mut head = Self { method, target, authority: None, minor_version, has_bare_line_feed, headers };
        let mut hosts = head.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = hosts.next().map(|(_, value)| *value);
        if hosts.next().is_some() || host.map_or(minor_version > 0, |host| !is_host(host)) {
            return Err(HeadError::Host);
        }
        head.authority = host.and_then(|host| std::str::from_utf8(host).ok()).map(str::trim);
        if let Some((authority, target)) = absolute(target) {
            (head.authority, head.target) = (Some(authority), target);
        }
        Ok(head)
    }

    /// The value of a field that must not be repeated.
    ///
    /// # Errors
    /// When it is repeated or not UTF-8. An absent field is no error: then nothing is decided by it.
    pub fn at_most_one(&self, name: &str) -> Result<Option<&'a str>, InvalidField> {
        let mut values = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some((_, value)), None) => std::str::from_utf8(value).map(|text| Some(text.trim())).or(Err(InvalidField)),
            (Some(_), Some(_)) => Err(InvalidField),
        }
    }

    /// The value of a required field that must not be repeated; `None` when it is absent, repeated or not UTF-8.
    #[must_use]
    pub fn single(&self, name: &str) -> Option<&'a str> {
        self.at_most_one(name).ok().flatten()
    }

    /// Every value of a field, in order. One that is not UTF-8 is empty.
    pub fn values<'s>(&'s self, name: &'s str) -> impl DoubleEndedIterator<Item = &'a str> + 's {
        let values = self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        values.map(|(_, value)| std::str::from_utf8(value).unwrap_or_default().trim())
    }

    /// Members of a comma-separated list that may be spread over several fields (RFC 9110 §5.6.1), trimmed.
    pub fn list<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'a str> + 's {
        self.headers
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .filter_map(|(_, value)| std::str::from_utf8(value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|member| !member.is_empty())
    }

    /// The path without the query.
    #[must_use]
    pub fn path(&self) -> &'a str {
        match self.target.split_once('?').map_or(self.target, |(path, _)| path) {
            "" => "/", // an absolute target may have a query and no path
            path => path,
        }
    }

    /// A query parameter, percent-decoded; `None` when absent or not decodable.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<String> {
        let (_, query) = self.target.split_once('?')?;
        let (_, value) = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name)?;
        percent_decode(value)
    }

    /// Whether the request asks for a WebSocket (RFC 6455 §4.1). The control plane answers everything else.
    #[must_use]
    pub fn wants_websocket(&self) -> bool {
        self.list("upgrade").any(|value| value.eq_ignore_ascii_case("websocket"))
            && self.list("connection").any(|value| value.eq_ignore_ascii_case("upgrade"))
    }
}

/// Whether a `Host` field's value is a host with an optional port, or empty (RFC 9110 §7.2).
#[must_use]
pub fn is_host(value: &[u8]) -> bool {
    value.trim_ascii().iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%:[]".contains(byte))
}

fn has_bare_line_feed(head: &[u8]) -> bool {
    head.iter().enumerate().any(|(at, byte)| *byte == b'\n' && (at == 0 || head[at - 1] != b'\r'))
}

/// The authority of an `Origin` field, `scheme://host[:port]` (RFC 6454 §7.1). Everything else is `None`, `null` too.
#[must_use]
pub fn origin_authority(origin: &str) -> Option<&str> {
    let (scheme, authority) = origin.split_once("://")?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let is_host = match host.strip_prefix('[') {
        Some(address) => address.strip_suffix(']').is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    (is_scheme && is_host && port.is_none_or(is_port)).then_some(authority)
}

/// Authority and path of a target in absolute form (RFC 9112 §3.2.2). A path alone is `None`.
fn absolute(target: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = target.split_once("://")?;
    if !["http", "https", "ws", "wss"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    Some((authority, if path.is_empty() { "/" } else { path }))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &[u8] = b"GET /ws?ticket=a%2Bb&subscribe=none HTTP/1.1\r\nHost: h\r\n\
        Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\r\n";

    #[test]
    fn the_end_is_found_one_byte_at_a_time() {
        let mut scanner = HeadScanner::default();
        for end in 1..HEAD.len() {
            assert_eq!(scanner.scan(&HEAD[..end]), HeadProgress::Incomplete);
        }
        assert_eq!(scanner.scan(HEAD), HeadProgress::Complete(HEAD.len()));
        let head = RequestHead::parse(HEAD).unwrap();
        assert_eq!((head.path(), head.query("ticket").as_deref()), ("/ws", Some("a+b")));
        assert!(head.wants_websocket());
    }

    #[test]
    fn the_end_is_where_the_parser_finds_it_when_lines_end_with_lf_alone() {
        let text = String::from_utf8(HEAD.to_vec()).unwrap();
        let all = text.replace("\r\n", "\n");
        let last = text.replace("\r\n\r\n", "\r\n\n");
        let first = text.replacen("\r\n", "\n", 1);
        for head in [all, last, first] {
            let mut scanner = HeadScanner::default();
            for end in 1..head.len() {
                assert_eq!(scanner.scan(&head.as_bytes()[..end]), HeadProgress::Incomplete, "{head:?} {end}");
            }
            let with_frame = format!("{head}frame");
            assert_eq!(HeadScanner::default().scan(with_frame.as_bytes()), HeadProgress::Complete(head.len()));
            assert!(RequestHead::parse(head.as_bytes()).unwrap().has_bare_line_feed, "{head:?}");
        }
        assert!(!RequestHead::parse(HEAD).unwrap().has_bare_line_feed);
    }

    #[test]
    fn distinguishes_an_absent_field_from_an_invalid_one() {
        for (fields, expected) in [
            ("", Ok(None)),
            ("Origin: http://a\r\n", Ok(Some("http://a"))),
            ("Origin:\r\n", Ok(Some(""))),
            ("Origin: http://a\r\norigin: http://a\r\n", Err(InvalidField)),
        ] {
            let text = format!("GET /ws HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            assert_eq!(RequestHead::parse(text.as_bytes()).unwrap().at_most_one("origin"), expected, "{fields:?}");
        }
        let head = b"GET /ws HTTP/1.1\r\nHost: a\r\nOrigin: http://\xff\r\n\r\n";
        assert_eq!(RequestHead::parse(head).unwrap().at_most_one("origin"), Err(InvalidField));
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (origin, authority) in [
            ("https://chat.example", Some("chat.example")),
            ("http://[::1]:8080", Some("[::1]:8080")),
            ("tauri://localhost", Some("localhost")),
            ("null", None),
            ("", None),
            ("https://", None),
            ("://a", None),
            ("https://a/", None),
            ("https://a https://b", None),
            ("https://a, https://b", None),
            ("https://localhost:1:2", None),
            ("https://localhost:+1", None),
            ("https://localhost:65536", None),
            ("https://user@a", None),
            ("https://[::1", None),
            ("ht tp://a", None),
        ] {
            assert_eq!(origin_authority(origin), authority, "{origin:?}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(HeadScanner::default().scan(&vec![b'a'; REQUEST_HEAD_BYTES_MAX]), HeadProgress::TooLarge);
        let mut head = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
        for i in 0..=REQUEST_HEADERS_MAX {
            head.extend(format!("x{i}: 1\r\n").bytes());
        }
        head.extend(b"\r\n");
        assert_eq!(RequestHead::parse(&head).err(), Some(HeadError::TooManyHeaders));
    }

    #[test]
    fn an_absolute_target_is_its_path_and_names_the_host() {
        for (target, path, authority) in [
            ("/ws?ticket=x", "/ws", "other:1"),
            ("ws://chat.example:8080/ws?ticket=x", "/ws", "chat.example:8080"),
            ("HTTP://[::1]:8080/health?ticket=x", "/health", "[::1]:8080"),
            ("wss://chat.example?ticket=x", "/", "chat.example"),
            ("/redirect?to=http://chat.example/&ticket=x", "/redirect", "other:1"),
        ] {
            let text = format!("GET {target} HTTP/1.1\r\nHost: other:1\r\n\r\n");
            let head = RequestHead::parse(text.as_bytes()).unwrap();
            assert_eq!((head.path(), head.authority), (path, Some(authority)), "{target}");
            assert_eq!(head.query("ticket").as_deref(), Some("x"), "{target}");
        }
        let head = RequestHead::parse(b"GET ws://chat.example HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(head.path(), "/");
    }

    #[test]
    fn a_request_names_one_host() {
        for (head, ok) in [
            ("GET / HTTP/1.1\r\nHost: chat.example:80\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", true),
            ("GET / HTTP/1.0\r\n\r\n", true),
            ("GET / HTTP/1.1\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", false),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", false),
            ("GET ws://a/ HTTP/1.1\r\n\r\n", false),
        ] {
            assert_eq!(RequestHead::parse(head.as_bytes()).err(), (!ok).then_some(HeadError::Host), "{head:?}");
        }
    }

    proptest! {
        #[test]
        fn random_heads_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(head) = RequestHead::parse(&bytes) {
                let _ = (head.wants_websocket(), head.query("a"), head.single("host").map(origin_authority));
            }
        }
    }
}
