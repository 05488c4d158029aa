//! Where deliveries may go: the address of a receiver, and the networks that it may be in.
//!
//! Invariants:
//! - an address is public, or in a network that the operator allows. The check is made on the IP addresses that the
//!   name has when the request is sent, and the connection goes to one of these ([`super::connect`]). A check of the
//!   name, or an earlier check, could be evaded by changing the name's addresses;
//! - every IPv6 form of an IPv4 address is judged as that IPv4 address, or refused.
//!
//! Sources: the IANA registries of special-purpose IPv4 and IPv6 addresses (RFC 6890 and its updates).

use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::LazyLock;
use url::{Host, Url};

/// Bytes of an address of a receiver.
pub const URL_BYTES_MAX: usize = 2_000;

/// Networks of IPv4 that are not public.
const SPECIAL_V4: &[&str] = &[
    "0.0.0.0/8",       // this network
    "10.0.0.0/8",      // private
    "100.64.0.0/10",   // shared by carriers
    "127.0.0.0/8",     // loopback
    "169.254.0.0/16",  // link-local, metadata of clouds
    "172.16.0.0/12",   // private
    "192.0.0.0/24",    // protocol assignments
    "192.0.2.0/24",    // documentation
    "192.88.99.0/24",  // 6to4 relays
    "192.168.0.0/16",  // private
    "198.18.0.0/15",   // benchmarks
    "198.51.100.0/24", // documentation
    "203.0.113.0/24",  // documentation
    "224.0.0.0/4",     // multicast
    "240.0.0.0/4",     // reserved, broadcast
];
/// The one block of IPv6 that has public addresses.
const PUBLIC_V6: &str = "2000::/3";
/// Its parts that are not public, or that stand for IPv4 addresses.
const SPECIAL_V6: &[&str] = &[
    "2001::/23",     // protocol assignments, Teredo
    "2001:db8::/32", // documentation
    "2002::/16",     // 6to4
    "3fff::/20",     // documentation
];

/// The networks of this file, parsed once.
struct Networks {
    special: Vec<IpNet>,
    public_v6: Vec<IpNet>,
}

static NETWORKS: LazyLock<Networks> = LazyLock::new(|| {
    // PROOF: a test parses every one of them.
    let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("a network")).collect::<Vec<IpNet>>();
    Networks { special: parse(&[SPECIAL_V4, SPECIAL_V6].concat()), public_v6: parse(&[PUBLIC_V6]) }
});

/// Whether an address is public.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    let address = address.to_canonical();
    let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&address));
    (address.is_ipv4() || is_in(&NETWORKS.public_v6)) && !is_in(&NETWORKS.special)
}

/// The networks that receivers may be in.
#[derive(Clone, Debug, Default)]
pub struct AddressPolicy {
    allowed: Vec<IpNet>,
}

impl AddressPolicy {
    /// Public addresses, and these networks.
    #[must_use]
    pub fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed }
    }

    /// Whether a delivery may go to an address. An unencrypted one stays within the networks of the operator.
    #[must_use]
    pub fn permits(&self, address: IpAddr, is_encrypted: bool) -> bool {
        let canonical = address.to_canonical();
        is_encrypted && is_public(address) || self.allowed.iter().any(|network| network.contains(&canonical))
    }
}

/// Why a URL is refused. The texts are for the person who gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// It is no URL.
    #[error("url: Must be an absolute URL, such as https://example.org/hooks.")]
    Malformed,
    /// It is too long.
    #[error("url: Must have at most {URL_BYTES_MAX} bytes.")]
    TooLong,
    /// Its scheme is neither https nor a permitted http.
    #[error("url: Must begin with https:// (or http:// inside a network that the operator of this server allows).")]
    Scheme,
    /// It has a user name or a password.
    #[error("url: Must not have a user name or a password. Verify the signature instead.")]
    Credentials,
    /// It has a fragment.
    #[error("url: Must not have a fragment (#…).")]
    Fragment,
    /// It names an address that is not public.
    #[error("url: Its address is not public. Ask the operator of this server to allow it.")]
    NotPublic,
}

/// The address of a receiver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HookTarget {
    url: Url,
}

impl HookTarget {
    /// Reads an address that a user gave, and refuses those that no delivery may go to. A name is resolved later.
    ///
    /// # Errors
    /// [`TargetError`].
    pub fn parse(text: &str, policy: &AddressPolicy) -> Result<Self, TargetError> {
        if text.len() > URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| TargetError::Malformed)?;
        if !matches!(url.scheme(), "https" | "http") {
            return Err(TargetError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        if url.as_str().len() > URL_BYTES_MAX {
            return Err(TargetError::TooLong);
        }
        let target = Self { url };
        match target.literal() {
            Some(address) if !policy.permits(address, target.is_encrypted()) => {
                Err(if is_public(address) { TargetError::Scheme } else { TargetError::NotPublic })
            }
            _ => Ok(target),
        }
    }

    /// Scheme, host and port of an address that was accepted. Its path and query can hold a token.
    #[must_use]
    pub fn origin(url: &str) -> String {
        Url::parse(url).map_or_else(|_| String::new(), |url| url.origin().ascii_serialization())
    }

    /// The address, normalised.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.url.as_str()
    }

    /// The IP address, if the URL has one instead of a name. Every spelling of IPv4 that browsers accept is one.
    #[must_use]
    pub fn literal(&self) -> Option<IpAddr> {
        match self.url.host()? {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }

    /// Whether deliveries are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.url.scheme() == "https"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str, allowed: &[&str]) -> Result<String, TargetError> {
        let policy = AddressPolicy::new(allowed.iter().map(|network| network.parse().unwrap()).collect());
        HookTarget::parse(url, &policy).map(|target| target.as_str().to_owned())
    }

    #[test]
    fn permits_public_addresses_only() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "::ffff:1.1.1.1",
            "100.128.0.1",
            "198.20.0.1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.255.255",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "192.0.0.170",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "5f00::1",
            "4000::1",
        ] {
            assert!(!is_public(special.parse().unwrap()), "{special}");
        }
    }

    #[test]
    fn an_allowed_network_is_permitted_and_its_neighbours_are_not() {
        let policy = AddressPolicy::new(vec!["10.1.0.0/16".parse().unwrap()]);
        let permits = |address: &str| policy.permits(address.parse().unwrap(), true);
        assert!(permits("10.1.255.255") && permits("::ffff:10.1.0.1") && permits("1.1.1.1"));
        assert!(!permits("10.2.0.0") && !permits("127.0.0.1"));
        let permits_plain = |address: &str| policy.permits(address.parse().unwrap(), false);
        assert!(permits_plain("10.1.0.1") && !permits_plain("1.1.1.1"), "the internet gets encrypted requests only");
    }

    #[test]
    fn refuses_addresses_in_every_spelling() {
        for url in [
            "http://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]:8443/",
            "https://169.254.169.254/latest/meta-data",
            "https://10.0.0.1./x",
            "https://①②⑦.0.0.1/",
        ] {
            assert_eq!(parsed(url, &[]), Err(TargetError::NotPublic), "{url}");
        }
        for (url, error) in [
            ("", TargetError::Malformed),
            ("example.org/hook", TargetError::Malformed),
            ("https://", TargetError::Malformed),
            ("https://exa mple.org", TargetError::Malformed),
            ("ftp://example.org/", TargetError::Scheme),
            ("file:///etc/passwd", TargetError::Scheme),
            ("javascript:alert(1)", TargetError::Scheme),
            ("https://user@example.org/", TargetError::Credentials),
            ("https://:secret@example.org/", TargetError::Credentials),
            ("https://example.org/#top", TargetError::Fragment),
            ("http://1.1.1.1/", TargetError::Scheme),
        ] {
            assert_eq!(parsed(url, &[]), Err(error), "{url}");
        }
        let long = format!("https://example.org/{}", "x".repeat(URL_BYTES_MAX));
        assert_eq!(parsed(&long, &[]), Err(TargetError::TooLong));
    }

    #[test]
    fn normalises_what_it_accepts() {
        let accepted = |url: &str| parsed(url, &["127.0.0.0/8"]).unwrap();
        assert_eq!(accepted("HTTPS://Example.ORG:443/a b"), "https://example.org/a%20b");
        assert_eq!(accepted("https://bücher.example/x?y=1"), "https://xn--bcher-kva.example/x?y=1");
        assert_eq!(accepted("http://127.1:8080"), "http://127.0.0.1:8080/");
    }
}
