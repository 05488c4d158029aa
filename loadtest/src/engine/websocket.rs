//! The client's side of WebSocket (RFC 6455), as functions over bytes: no socket, no clock.
//!
//! Frames of the server are parsed where they are in the buffer. Frames of the client are masked and written to an
//! [`Outbox`].
//!
//! Invariants:
//! - a server frame that is masked, or has unknown bits or an unknown opcode, is an error and never skipped. Otherwise
//!   the harness would report the bytes after a broken frame as broken messages;
//! - a frame is at most [`FRAME_BYTES_MAX`] long, so a broken length cannot exhaust the memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::{Decompress, FlushDecompress, Status};
use sha1::{Digest, Sha1};

/// Longest frame, and longest assembled or inflated message, bytes.
pub const FRAME_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The fixed GUID of RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The four bytes that RFC 7692 §7.2.1 strips from the end of each message.
const DEFLATE_TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// The kinds of frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opcode {
    /// A continuation of the message.
    Continuation = 0,
    /// Text.
    Text = 1,
    /// Binary.
    Binary = 2,
    /// Close.
    Close = 8,
    /// Ping.
    Ping = 9,
    /// Pong.
    Pong = 10,
}

/// One frame of the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The last frame of its message.
    pub last: bool,
    /// Its message is compressed.
    pub compressed: bool,
    /// Its kind.
    pub opcode: Opcode,
    /// Its content.
    pub payload: &'a [u8],
    /// Its whole length, header included.
    pub length: usize,
}

/// The result of parsing the beginning of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parsed<'a> {
    /// A whole frame.
    Frame(Frame<'a>),
    /// Part of a frame of this length, as far as it is known.
    Incomplete(usize),
    /// A broken frame.
    Broken(&'static str),
}

/// Reads the frame at the beginning of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    let &[first, second, ref rest @ ..] = bytes else { return Parsed::Incomplete(2) };
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Parsed::Broken("a frame with an unknown opcode"),
    };
    if first & 0x30 != 0 {
        return Parsed::Broken("a frame with reserved bits");
    }
    if second & 0x80 != 0 {
        return Parsed::Broken("a masked frame from a server");
    }
    let (header, length) = match (second, rest) {
        (126, &[a, b, ..]) => (4, u64::from(u16::from_be_bytes([a, b]))),
        (126, _) => return Parsed::Incomplete(4),
        (127, &[a, b, c, d, e, f, g, h, ..]) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        (127, _) => return Parsed::Incomplete(10),
        (short, _) => (2, u64::from(short)),
    };
    if length > FRAME_BYTES_MAX as u64 {
        return Parsed::Broken("a frame longer than 32 MiB");
    }
    let length = header + length as usize;
    match bytes.get(header..length) {
        Some(payload) => {
            Parsed::Frame(Frame { last: first & 0x80 != 0, compressed: first & 0x40 != 0, opcode, payload, length })
        }
        None => Parsed::Incomplete(length),
    }
}

/// The status and reason of a close frame, as text.
pub fn close_reason(payload: &[u8]) -> (Option<u16>, String) {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            (Some(code), format!("closed by the server: {code} {}", String::from_utf8_lossy(reason)))
        }
        _ => (None, "closed by the server without a reason".to_owned()),
    }
}

/// Frames to be written to the server.
#[derive(Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    written: usize,
    random: u64,
}

impl Outbox {
    /// An empty outbox. `seed` makes its masking keys differ from those of others.
    pub fn new(seed: u64) -> Self {
        // SplitMix64 needs no particular seed.
        Self { bytes: Vec::new(), written: 0, random: seed }
    }

    /// Queues a text message.
    pub fn text(&mut self, payload: &[u8]) {
        self.frame(Opcode::Text, |bytes| bytes.extend_from_slice(payload));
    }

    /// Queues a binary message.
    pub fn binary(&mut self, payload: &[u8]) {
        self.frame(Opcode::Binary, |bytes| bytes.extend_from_slice(payload));
    }

    /// Queues a frame. `fill` appends its content.
    pub fn frame(&mut self, opcode: Opcode, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        // Space for the header of nearly every frame: two bytes, a 16-bit length, the key.
        self.bytes.extend_from_slice(&[0; 8]);
        fill(&mut self.bytes);
        let length = self.bytes.len().saturating_sub(start + 8);
        let mut header = [0; 14];
        header[0] = 0x80 | opcode as u8;
        let header_len = match length {
            0..=125 => {
                header[1] = 0x80 | length as u8;
                6
            }
            126..=0xffff => {
                header[1] = 0xfe;
                header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
                8
            }
            _ => {
                header[1] = 0xff;
                header[2..10].copy_from_slice(&(length as u64).to_be_bytes());
                14
            }
        };
        let key = self.key();
        header[header_len - 4..header_len].copy_from_slice(&key);
        if header_len == 8 {
            self.bytes[start..start + 8].copy_from_slice(&header[..8]);
        } else {
            self.bytes.splice(start..start + 8, header[..header_len].iter().copied());
        }
        mask(&mut self.bytes[start + header_len..], key);
    }

    /// Queues bytes as they are: the upgrade request.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes that are not yet written.
    pub fn unwritten(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// `count` of those bytes have been written.
    pub fn advance(&mut self, count: usize) {
        self.written += count;
        if self.written >= self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
    }

    /// Clears everything, because the connection has closed.
    pub fn clear(&mut self) {
        self.bytes = Vec::new();
        self.written = 0;
    }

    fn key(&mut self) -> [u8; 4] {
        // SplitMix64: masking protects proxies, which this traffic does not pass, so keys only have to vary.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed >> 32) as u32).to_ne_bytes()
    }
}

/// XORs `bytes` with `key`, repeated.
fn mask(bytes: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        if let Ok(eight) = <[u8; 8]>::try_from(&*chunk) {
            chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

/// `Sec-WebSocket-Key` of 16 bytes.
pub fn handshake_key(bytes: [u8; 16]) -> String {
    STANDARD.encode(bytes)
}

/// `Sec-WebSocket-Accept` for a key (RFC 6455 §4.2.2).
pub fn accept_of(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(GUID);
    STANDARD.encode(hash.finalize())
}

/// Inflates messages without context takeover; one for all connections of a thread.
#[derive(Debug)]
pub struct Inflater {
    stream: Decompress,
    output: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self { stream: Decompress::new(false), output: Vec::new() }
    }
}

impl Inflater {
    /// Inflates one whole message; the result lives until the next call.
    pub fn inflate(&mut self, compressed: &[u8]) -> Result<&[u8], &'static str> {
        self.stream.reset(false);
        self.output.clear();
        for part in [compressed, &DEFLATE_TAIL] {
            let mut rest = part;
            while !rest.is_empty() {
                if self.output.len() == self.output.capacity() {
                    self.output.reserve(self.output.len().max(4096));
                }
                if self.output.len() > FRAME_BYTES_MAX {
                    return Err("a compressed message longer than 32 MiB");
                }
                let (before, produced) = (self.stream.total_in(), self.output.len());
                let status = self.stream.decompress_vec(rest, &mut self.output, FlushDecompress::Sync);
                let consumed = (self.stream.total_in() - before) as usize;
                rest = &rest[consumed..];
                match status {
                    Ok(Status::StreamEnd) => return Ok(&self.output),
                    Ok(_) => {
                        let full = self.output.len() == self.output.capacity();
                        if consumed == 0 && self.output.len() == produced && !full {
                            return Err("a compressed message that is no deflate stream");
                        }
                    }
                    Err(_) => return Err("a compressed message that is no deflate stream"),
                }
            }
        }
        self.flush()
    }

    /// Takes the output that the stream still keeps for lack of space.
    fn flush(&mut self) -> Result<&[u8], &'static str> {
        while self.output.len() == self.output.capacity() {
            if self.output.len() > FRAME_BYTES_MAX {
                return Err("a compressed message longer than 32 MiB");
            }
            self.output.reserve(self.output.len().max(4096));
            let produced = self.output.len();
            if self.stream.decompress_vec(&[], &mut self.output, FlushDecompress::Sync).is_err() {
                return Err("a compressed message that is no deflate stream");
            }
            if self.output.len() == produced {
                break;
            }
        }
        Ok(&self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server writes it.
    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            0..=125 => bytes.push(payload.len() as u8),
            126..=0xffff => {
                bytes.push(126);
                bytes.extend((payload.len() as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend((payload.len() as u64).to_be_bytes());
            }
        }
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn every_split_of_a_frame_is_incomplete_and_the_whole_is_not() {
        for length in [0, 1, 125, 126, 300, 0xffff, 0x1_0000] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let bytes = server_frame(0x82, &payload);
            for cut in (0..bytes.len()).step_by(if length > 1000 { 997 } else { 1 }) {
                let Parsed::Incomplete(needed) = parse(&bytes[..cut]) else { panic!("{length} cut at {cut}") };
                assert!(needed > cut && needed <= bytes.len());
            }
            let Parsed::Frame(frame) = parse(&bytes) else { panic!("{length} is whole") };
            assert_eq!((frame.payload, frame.length), (payload.as_slice(), bytes.len()));
            assert!(frame.last && !frame.compressed && frame.opcode == Opcode::Binary);
        }
    }

    #[test]
    fn broken_frames_are_named() {
        for bytes in [&[0x83, 0][..], &[0xa1, 0], &[0x81, 0x80], &[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0]] {
            assert!(matches!(parse(bytes), Parsed::Broken(_)), "{bytes:?}");
        }
    }

    #[test]
    fn writes_frames_that_a_server_can_unmask() {
        for length in [0_usize, 1, 7, 8, 9, 125, 126, 1000, 0xffff, 0x1_0000] {
            let payload: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
            let mut out = Outbox::new(5);
            out.text(b"before");
            let before = out.unwritten().len();
            out.binary(&payload);
            let bytes = &out.unwritten()[before..];
            assert_eq!(bytes[0], 0x82);
            let header = match length {
                0..=125 => 6,
                126..=0xffff => 8,
                _ => 14,
            };
            assert_eq!(bytes.len(), header + length);
            let key = &bytes[header - 4..header];
            let plain: Vec<u8> = bytes[header..].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
            assert_eq!(plain, payload);
        }
    }

    #[test]
    fn forgets_written_bytes() {
        let mut out = Outbox::new(1);
        out.raw(b"abcdef");
        out.advance(2);
        assert_eq!(out.unwritten(), b"cdef");
        out.advance(4);
        assert!(out.unwritten().is_empty());
    }

    #[test]
    fn the_rfc_examples_hold() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut inflater = Inflater::default();
        // RFC 7692 §7.2.3.1, twice: there is no context takeover.
        for _ in 0..2 {
            assert_eq!(inflater.inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]), Ok(&b"Hello"[..]));
        }
        assert!(inflater.inflate(&[0xff, 0xff, 0xff]).is_err());
    }

    #[test]
    fn long_messages_inflate_whole() {
        let text: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8 ^ (n / 977) as u8).collect();
        let mut compress = flate2::Compress::new(flate2::Compression::fast(), false);
        let mut deflated = Vec::with_capacity(400_000);
        compress.compress_vec(&text, &mut deflated, flate2::FlushCompress::Sync).expect("it compresses");
        deflated.truncate(deflated.len() - 4);
        assert_eq!(Inflater::default().inflate(&deflated), Ok(text.as_slice()));
    }

    #[test]
    fn close_reasons_are_read() {
        assert_eq!(close_reason(&[0x0f, 0xa3, b'x']).0, Some(4003));
        assert_eq!(close_reason(&[]).0, None);
    }
}
