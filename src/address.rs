//! Addresses of clients: the networks that limits count, and the proxies that may name a client's address.
//!
//! Invariant: an address in a header counts only if a trusted proxy sent the header, and only the last address that is
//! not a trusted proxy's. A client can put any address before it. If any peer were believed, a client could choose the
//! address by which it is limited and that its sessions show.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// What limits count as one client: an IPv4 address, or the /64 of an IPv6 address, which one subscriber has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientNetwork(NetworkPrefix);

/// In half the room of an address: each open WebSocket keeps one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum NetworkPrefix {
    /// The address.
    V4(u32),
    /// The first half of the address.
    V6(u64),
}

impl ClientNetwork {
    /// The network of an address; an IPv4-mapped IPv6 address is IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => NetworkPrefix::V4(address.to_bits()),
            IpAddr::V6(address) => NetworkPrefix::V6((address.to_bits() >> 64) as u64),
        })
    }

    /// Its first address.
    fn address(self) -> IpAddr {
        match self.0 {
            NetworkPrefix::V4(bits) => IpAddr::V4(bits.into()),
            NetworkPrefix::V6(bits) => IpAddr::V6((u128::from(bits) << 64).into()),
        }
    }
}

/// Many networks of one provider or organisation: an IPv4 /24, or an IPv6 /48.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientSubnet(IpAddr);

impl ClientNetwork {
    /// The subnet that it belongs to.
    #[must_use]
    pub fn subnet(self) -> ClientSubnet {
        ClientSubnet(match self.address() {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() & (u32::MAX << 8)).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 80)).into()),
        })
    }
}

impl fmt::Display for ClientNetwork {
    /// In CIDR notation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.address();
        write!(f, "{address}/{}", if address.is_ipv4() { 32 } else { 64 })
    }
}

/// The header in which the trusted proxies name the client. There is one only: proxies replace their own header, and
/// pass another one on as the client has written it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For: client, proxy`
    #[default]
    XForwardedFor,
    /// `Forwarded: for=client, for=proxy` (RFC 7239)
    Forwarded,
}

impl ForwardedHeader {
    /// The field's name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
        }
    }

    /// The address in one element of the list.
    fn address(self, element: &str) -> Option<IpAddr> {
        match self {
            Self::XForwardedFor => node_address(element.trim()),
            Self::Forwarded => {
                let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
                let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
                node_address(value.trim().trim_matches('"'))
            }
        }
    }
}

/// `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`, the first and the last also with a port.
fn node_address(node: &str) -> Option<IpAddr> {
    let address = match node.strip_prefix('[') {
        Some(rest) => IpAddr::V6(rest.split_once(']')?.0.parse().ok()?),
        None => match node.parse() {
            Ok(address) => address,
            Err(_) => IpAddr::V4(node.split_once(':')?.0.parse::<Ipv4Addr>().ok()?),
        },
    };
    Some(address.to_canonical())
}

/// Reads a network, `10.0.0.0/8`, or one address.
#[must_use]
pub fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Longest `User-Agent` that is kept, in characters.
const AGENT_CHARS_MAX: usize = 200;

/// Where a request came from, as the audit trail shows it. A WebSocket has that of the request that opened it.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize)]
pub struct RequestSource {
    /// The client's address, as [`TrustedProxies::client`] gives it; none if it is not known.
    #[serde(rename = "ip_address", skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its `User-Agent`, cut; none if it sent none.
    #[serde(rename = "device", skip_serializing_if = "Option::is_none")]
    pub agent: Option<Box<str>>,
}

impl RequestSource {
    /// A client at `address` that sent this `User-Agent`.
    #[must_use]
    pub fn new(address: Option<IpAddr>, agent: Option<&str>) -> Self {
        let agent =
            agent.map(|text| text.chars().filter(|c| !c.is_control()).take(AGENT_CHARS_MAX).collect::<String>());
        let agent = agent.filter(|text| !text.trim().is_empty()).map(String::into_boxed_str);
        Self { address: address.map(|address| address.to_canonical()), agent }
    }
}

/// The proxies that may name a client's address; cloning shares them.
#[derive(Clone, Default, Debug)]
pub struct TrustedProxies {
    networks: Arc<[IpNet]>,
    header: ForwardedHeader,
}

impl TrustedProxies {
    /// Proxies in these networks, which write `header`.
    #[must_use]
    pub fn new(networks: Vec<IpNet>, header: ForwardedHeader) -> Self {
        Self { networks: networks.into(), header }
    }

    /// The header that they write.
    #[must_use]
    pub fn header(&self) -> ForwardedHeader {
        self.header
    }

    /// Whether `address` is a trusted proxy's.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The client's address. `fields` are the values of [`Self::header`] in their order. An element that is no address
    /// ends the search at the proxy that wrote it.
    #[must_use]
    pub fn client<'a>(&self, peer: IpAddr, fields: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut elements = fields.rev().flat_map(|field| field.rsplit(','));
        while self.contains(client) {
            let Some(before) = elements.next().and_then(|element| self.header.address(element)) else { break };
            client = before;
        }
        client
    }
}

/// Host and port of `host:port`; an IPv6 address is in brackets, which the host is without. No server has port 0.
#[must_use]
pub fn parse_host_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| !host.contains([':', '/', '@', '[', ']']))?,
    };
    let is_host = !host.is_empty() && !host.contains(char::is_whitespace);
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|port| is_port && *port > 0)?;
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_addresses_by_what_one_client_and_one_provider_control() {
        let network = |text: &str| ClientNetwork::of(text.parse().unwrap());
        assert_eq!(network("2001:db8:1:2:3::4"), network("2001:db8:1:2::9"));
        assert_ne!(network("2001:db8:1:2::4"), network("2001:db8:1:3::4"));
        assert_eq!(network("2001:db8:1:2::4").subnet(), network("2001:db8:1:3::4").subnet());
        assert_eq!(network("192.0.2.1").subnet(), network("192.0.2.2").subnet());
        assert_ne!(network("192.0.2.1").subnet(), network("192.0.3.1").subnet());
        assert_eq!(network("2001:db8:1:2:3::4").to_string(), "2001:db8:1:2::/64");
        assert_eq!(network("::ffff:192.0.2.1").to_string(), "192.0.2.1/32");
    }

    #[test]
    fn a_source_keeps_a_bounded_agent_without_control_characters() {
        let source = RequestSource::new(Some(ip("::ffff:192.0.2.1")), Some("curl/8\t\u{7f}x"));
        assert_eq!(serde_json::json!(source), serde_json::json!({"ip_address": "192.0.2.1", "device": "curl/8x"}));
        let long = RequestSource::new(None, Some(&"é".repeat(AGENT_CHARS_MAX + 1)));
        assert_eq!(long.agent.map(|agent| agent.chars().count()), Some(AGENT_CHARS_MAX));
        assert_eq!(RequestSource::new(None, Some(" ")), RequestSource::default());
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_a_64_of_ipv6() {
        let network = |text: &str| ClientNetwork::of(ip(text));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:0:0:9"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }

    #[test]
    fn a_host_and_a_port_are_no_url_and_no_bare_address() {
        for (text, host, port) in [
            ("redis-2.example.com:6379", "redis-2.example.com", 6_379),
            ("localhost:1", "localhost", 1),
            ("192.0.2.1:65535", "192.0.2.1", 65_535),
            ("[2001:db8::7]:6379", "2001:db8::7", 6_379),
        ] {
            assert_eq!(parse_host_port(text), Some((host, port)), "{text}");
        }
        for text in [
            "",
            "redis",
            "redis:",
            ":6379",
            "redis:0",
            "redis:65536",
            "redis:+6379",
            "redis:-1",
            "redis:6379 ",
            "redis :6379",
            "re\tdis:6379",
            "redis:6379:6379",
            "redis://redis:6379",
            "user@redis:6379",
            "redis:6379/0",
            "2001:db8::7:6379",
            "[2001:db8::7]",
            "[2001:db8::7]6379",
            "[2001:db8::7:6379",
            "2001:db8::7]:6379",
            "[redis]:6379",
            "[]:6379",
        ] {
            assert_eq!(parse_host_port(text), None, "{text}");
        }
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let networks = ["10.0.0.0/8", "127.0.0.1", "2001:db8:ffff::/48"].map(|text| parse_network(text).unwrap());
        let proxies = TrustedProxies::new(networks.to_vec(), ForwardedHeader::XForwardedFor);
        for (peer, fields, client) in [
            ("192.0.2.7", &["203.0.113.1"][..], "192.0.2.7"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.1"], "203.0.113.1"),
            ("::ffff:10.0.0.1", &["203.0.113.1"], "203.0.113.1"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.1"], "203.0.113.1"),
            ("10.0.0.1", &["198.51.100.1, 203.0.113.1 ,10.0.0.2"], "203.0.113.1"),
            ("10.0.0.1", &["198.51.100.1", "203.0.113.1", "127.0.0.1"], "203.0.113.1"),
            ("10.0.0.1", &["203.0.113.1:4711"], "203.0.113.1"),
            ("2001:db8:ffff::1", &["[2001:db8::7]:80"], "2001:db8::7"),
            ("10.0.0.1", &["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["203.0.113.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.1, "], "10.0.0.1"),
        ] {
            assert_eq!(proxies.client(ip(peer), fields.iter().copied()), ip(client), "{peer} {fields:?}");
        }
        assert_eq!(TrustedProxies::default().client(ip("127.0.0.1"), ["203.0.113.1"].into_iter()), ip("127.0.0.1"));
    }

    #[test]
    fn reads_the_forwarded_header() {
        let proxies = TrustedProxies::new(vec![parse_network("10.0.0.1").unwrap()], ForwardedHeader::Forwarded);
        for (field, client) in [
            ("for=203.0.113.1;proto=https", "203.0.113.1"),
            ("proto=https; For=\"[2001:db8::7]:4711\"", "2001:db8::7"),
            ("for=198.51.100.1, for=\"203.0.113.1:80\"", "203.0.113.1"),
            ("for=\"198.51.100.1, for=203.0.113.1", "203.0.113.1"),
            ("for=203.0.113.1, for=_hidden", "10.0.0.1"),
            ("by=203.0.113.1", "10.0.0.1"),
        ] {
            assert_eq!(proxies.client(ip("10.0.0.1"), [field].into_iter()), ip(client), "{field}");
        }
    }

    #[test]
    fn reads_networks_and_single_addresses() {
        assert_eq!(parse_network("192.0.2.1"), parse_network("192.0.2.1/32"));
        assert!(parse_network("2001:db8::/32").is_some());
        for bad in ["", "10.0.0.0/33", "proxy.example", "10.0.0.1:80", "10.0.0.0/8,127.0.0.1"] {
            assert_eq!(parse_network(bad), None, "{bad}");
        }
    }
}
