//! The PROXY protocol, version 2: the header in which a proxy names the client of a connection. It comes before the
//! first byte of the client.
//!
//! ```text
//!   signature 12 │ version, command 1 │ family, transport 1 │ length 2 │ addresses │ TLVs
//! ```
//!
//! Strict: what the specification (haproxy.org, proxy-protocol.txt, section 2.2) does not define, or what a TCP proxy
//! does not send, is malformed. The header decides by which address a client is limited, so nothing in it is guessed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What every header begins with. No HTTP request does.
pub const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes before the addresses.
const FIXED_BYTES: usize = 16;
/// Most bytes after the fixed part. Addresses need 36; the rest is for TLVs, such as those of a TLS connection.
const REST_BYTES_MAX: usize = 2_048;

/// How far the header was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProxyHeader {
    /// More bytes are needed.
    Incomplete,
    /// It is no valid header. The connection must be closed, because nobody knows whose it is.
    Malformed,
    /// The header.
    Complete {
        /// Its length in bytes.
        bytes: usize,
        /// The client's address. None if the proxy speaks for itself (`LOCAL`), or does not know it (`UNSPEC`).
        client: Option<IpAddr>,
    },
}

/// Reads the header from the first bytes of a connection, which may have more than that.
#[must_use]
pub fn read(bytes: &[u8]) -> ProxyHeader {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return ProxyHeader::Malformed;
    }
    let Some(([.., command, family, high, low], rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        return ProxyHeader::Incomplete;
    };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > REST_BYTES_MAX {
        return ProxyHeader::Malformed;
    }
    let Some(rest) = rest.get(..length) else { return ProxyHeader::Incomplete };
    let client = match (*command, *family) {
        // The proxy's own connection, for a health check. What follows is skipped, whatever it is.
        (0x20, _) => Some(None),
        (0x21, 0x00) => Some(None),
        (0x21, 0x11) => address::<4, 8>(rest).map(|bytes| Some(Ipv4Addr::from(bytes).into())),
        (0x21, 0x21) => address::<16, 20>(rest).map(|bytes| Some(Ipv6Addr::from(bytes).to_canonical())),
        _ => None,
    };
    match client {
        Some(client) => ProxyHeader::Complete { bytes: FIXED_BYTES + length, client },
        None => ProxyHeader::Malformed,
    }
}

/// The source address, if the `OTHER` bytes of destination and ports follow, and then whole TLVs only.
fn address<const SOURCE: usize, const OTHER: usize>(rest: &[u8]) -> Option<[u8; SOURCE]> {
    let (source, rest) = rest.split_first_chunk::<SOURCE>()?;
    let (_, mut tlvs) = rest.split_first_chunk::<OTHER>()?;
    while !tlvs.is_empty() {
        let ([_, high, low], value) = tlvs.split_first_chunk::<3>()?;
        tlvs = value.get(usize::from(u16::from_be_bytes([*high, *low]))..)?;
    }
    Some(*source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    fn v4(more: &[u8]) -> Vec<u8> {
        [&[203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80], more].concat()
    }

    fn v6(more: &[u8]) -> Vec<u8> {
        let [source, destination] =
            ["2001:db8::7", "2001:db8::1"].map(|text| text.parse::<Ipv6Addr>().unwrap().octets());
        [&source[..], &destination, &[0x12, 0x34, 0, 80], more].concat()
    }

    /// A TLV of type NOOP with a value of 300 bytes, and one of type `UNIQUE_ID` without a value.
    fn tlvs() -> Vec<u8> {
        [&[0x04, 1, 44][..], &[7; 300], &[0x05, 0, 0]].concat()
    }

    #[test]
    fn reads_the_client_of_each_family_at_every_split() {
        for (command, family, rest, client) in [
            (0x21, 0x11, v4(&[]), Some("203.0.113.9")),
            (0x21, 0x11, v4(&tlvs()), Some("203.0.113.9")),
            (0x21, 0x21, v6(&[]), Some("2001:db8::7")),
            (0x21, 0x21, v6(&tlvs()), Some("2001:db8::7")),
            (0x21, 0x00, vec![], None),
            (0x21, 0x00, vec![9; 5], None),
            (0x20, 0x00, vec![], None),
            (0x20, 0x11, v4(&[]), None),
        ] {
            let mut bytes = header(command, family, &rest);
            for end in 0..bytes.len() {
                assert_eq!(read(&bytes[..end]), ProxyHeader::Incomplete, "{end} of {}", bytes.len());
            }
            let complete =
                ProxyHeader::Complete { bytes: bytes.len(), client: client.map(|text| text.parse().unwrap()) };
            bytes.extend_from_slice(b"GET / HTTP/1.1\r\n");
            assert_eq!(read(&bytes), complete);
        }
        let mapped = "::ffff:192.0.2.1".parse::<Ipv6Addr>().unwrap().octets();
        let rest = [&mapped[..], &mapped, &[0; 4]].concat();
        let client = Some("192.0.2.1".parse().unwrap());
        assert_eq!(read(&header(0x21, 0x21, &rest)), ProxyHeader::Complete { bytes: 52, client });
    }

    #[test]
    fn refuses_what_is_no_header() {
        let lying = |rest: &[u8], length: u16| {
            let mut bytes = header(0x21, 0x11, rest);
            bytes[14..16].copy_from_slice(&length.to_be_bytes());
            bytes
        };
        for (name, bytes) in [
            ("a request", b"GET / HTTP/1.1\r\n".to_vec()),
            ("version 1", b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 80\r\n".to_vec()),
            ("another version", header(0x11, 0x11, &v4(&[]))),
            ("another command", header(0x22, 0x11, &v4(&[]))),
            ("UDP", header(0x21, 0x12, &v4(&[]))),
            ("a UNIX socket", header(0x21, 0x31, &[0; 216])),
            ("another family", header(0x21, 0x41, &v4(&[]))),
            ("an IPv4 address as IPv6", header(0x21, 0x21, &v4(&[]))),
            ("a length that is too short", lying(&v4(&[]), 11)),
            ("a length that begins a TLV", lying(&v4(&tlvs()), 13)),
            ("a length that cuts a TLV", lying(&v4(&tlvs()), 40)),
            ("a TLV that is too long", header(0x21, 0x11, &v4(&[0x04, 0, 2, 7]))),
            ("too many bytes", lying(&v4(&[]), 2_049)),
            ("a length of 65,535", lying(&v4(&[]), u16::MAX)),
        ] {
            assert_eq!(read(&bytes), ProxyHeader::Malformed, "{name}");
        }
        // A length that promises more than arrives keeps the connection waiting, until its head times out.
        assert_eq!(read(&lying(&v4(&[]), 100)), ProxyHeader::Incomplete);
    }
}
