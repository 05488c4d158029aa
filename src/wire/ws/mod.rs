//! RFC 6455 and RFC 7692 over bytes: no socket, no clock, and no allocation beyond the bytes that arrived.
//!
//! ```text
//!  request head ──► head ──► handshake ──► 101 + accept key, subprotocol, permessage-deflate
//!  bytes ──► decoder (mask, utf8, deflate) ──► peer ──► messages up, control replies down
//!  messages ──► encoder (deflate) ──► frames
//! ```
//!
//! Invariants: everything is resumable at any split of the input (tests feed every split point); a length is checked
//! before any arithmetic with it; memory grows with the bytes that arrived, never with a declared length. Otherwise one
//! hostile client could stop the process (RUSTSEC-2022-0035, CVE-2020-27813 in other servers).

pub mod close;
pub mod decoder;
pub mod deflate;
pub mod encoder;
pub mod handshake;
pub mod head;
pub mod mask;
pub mod peer;
pub mod utf8;

/// Frame opcodes (RFC 6455 §5.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Opcode {
    /// Continues a fragmented message.
    Continuation = 0x0,
    /// UTF-8 text.
    Text = 0x1,
    /// Bytes.
    Binary = 0x2,
    /// Close handshake.
    Close = 0x8,
    /// Asks the peer for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xa,
}

/// The kind of a data message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind {
    /// Valid UTF-8.
    Text,
    /// Bytes.
    Binary,
}

impl MessageKind {
    /// The opcode of the message's first frame.
    #[must_use]
    pub fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}
