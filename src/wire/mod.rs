//! Bytes ⇄ meaning. No I/O, no clock, no runtime.
//!
//! The same code reads JSON and MessagePack into a small bounded tree ([`value`]), and then into a typed
//! [`command::Command`] that borrows from the receive buffer. Replies and events are serialised once per format
//! ([`event`]).

pub mod command;
pub mod event;
pub mod json;
pub mod msgpack;
pub mod proxy;
pub mod response_fields;
pub mod value;
pub mod ws;

use ws::MessageKind;

/// The two serialisations of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Format {
    /// `veza.v1.json`, text frames.
    Json,
    /// `veza.v1.msgpack`, binary frames.
    MessagePack,
}

/// Subprotocol names in the order of [`Format::index`].
pub const SUBPROTOCOLS: [&str; 2] = ["veza.v1.json", "veza.v1.msgpack"];

impl Format {
    /// Both, in the order of [`Format::index`].
    pub const ALL: [Self; 2] = [Self::Json, Self::MessagePack];

    /// The bits of both.
    pub const ALL_BITS: u8 = 0b11;

    /// Position in arrays with one entry per format.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// This format's bit in a set of formats.
    #[must_use]
    pub fn bit(self) -> u8 {
        1 << self as u8
    }

    /// The kind of frame of this format.
    #[must_use]
    pub fn message_kind(self) -> MessageKind {
        match self {
            Self::Json => MessageKind::Text,
            Self::MessagePack => MessageKind::Binary,
        }
    }
}
