//! Decodes frames into messages (RFC 6455 §5): strictly, resumable at any byte, in place if the input holds the whole
//! frame.
//!
//! ```text
//!            first bytes        header complete            payload complete
//!   Header ─────────────► Header ──────────────► Payload ──────────────────► Header
//!     │  whole unfragmented frame in the input: unmasked and returned in place
//!     └────────────────────────────────────────────────────────────────────► Header
//! ```
//!
//! Invariants: each header byte is checked when it arrives; the declared length is compared with the limit before any
//! other use; `assembled` grows only by bytes that arrived; text is validated chunk by chunk. When `next` returns
//! `None`, the input is empty, and an idle decoder owns no heap memory.

use super::{
    MessageKind, close,
    close::CloseCode,
    deflate::{InflateError, Inflater},
    mask,
    utf8::Utf8Validator,
};
use crate::limits::FRAGMENT_CHARGE_BYTES_MIN;

/// Longest client header: 2 + 8 + 4 bytes.
const HEADER_BYTES_MAX: usize = 14;
/// Longest control frame payload (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// A complete message or control frame.
#[derive(PartialEq, Eq, Debug)]
pub enum Incoming<'a> {
    /// A data message; text is valid UTF-8. Mutable, because parsers work in place.
    Message(MessageKind, &'a mut [u8]),
    /// A ping; the answer is a pong with the same payload.
    Ping(&'a [u8]),
    /// A pong: the peer is alive.
    Pong,
    /// The peer closes, with its code if it sent one.
    Close(Option<u16>),
}

/// A violation of the protocol: the close code of the answer, and the reason for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProtocolError {
    /// 1002, 1007 or 1009.
    pub code: CloseCode,
    /// The reason, for the log.
    pub what: &'static str,
}

/// The shared state of all decoders of a shard, borrowed for each call.
pub struct DecodeContext<'c> {
    /// Most bytes in a frame, and in a message after inflating and reassembly.
    pub max_message_bytes: usize,
    /// Shared by all connections: no context survives a message.
    pub inflater: &'c mut Inflater,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    final_fragment: bool,
    opcode: u8,
    mask: [u8; 4],
    phase: u8,
    remaining: u64,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    kind: MessageKind,
    compressed: bool,
    fragments: u32,
}

/// The payload of a control frame.
#[derive(Debug)]
struct ControlPayload {
    bytes: [u8; CONTROL_BYTES_MAX as usize],
    len: usize,
}

impl Default for ControlPayload {
    fn default() -> Self {
        Self { bytes: [0; CONTROL_BYTES_MAX as usize], len: 0 }
    }
}

impl ControlPayload {
    fn append(&mut self, chunk: &[u8]) -> Result<(), ProtocolError> {
        let end = self.len + chunk.len();
        self.bytes.get_mut(self.len..end).ok_or(LONG_CONTROL)?.copy_from_slice(chunk);
        self.len = end;
        Ok(())
    }
}

/// The decoding state of one connection.
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER_BYTES_MAX],
    header_len: u8,
    /// permessage-deflate was negotiated.
    deflate: bool,
    /// The last call returned `assembled`, so this call empties it. A control frame between two fragments must not
    /// empty it, hence the second flag.
    message_handed_out: bool,
    /// The same for `control`.
    control_handed_out: bool,
    /// The payload that follows, once its header is complete.
    frame: Option<Frame>,
    /// The message whose first frame has begun.
    message: Option<Message>,
    utf8: Utf8Validator,
    assembled: Vec<u8>,
    /// Of the control frame that is being received, if it has a payload.
    control: Option<Box<ControlPayload>>,
}

const fn protocol(what: &'static str) -> ProtocolError {
    ProtocolError { code: CloseCode::Protocol, what }
}

const LONG_CONTROL: ProtocolError = protocol("control frame longer than 125 bytes");
const TOO_BIG: ProtocolError = ProtocolError { code: CloseCode::TooBig, what: "message larger than the limit" };
const NOT_UTF8: ProtocolError = ProtocolError { code: CloseCode::InvalidPayload, what: "text is not UTF-8" };

impl Decoder {
    /// A decoder for one connection; `deflate` says whether permessage-deflate was negotiated.
    #[must_use]
    pub fn new(deflate: bool) -> Self {
        Self { deflate, ..Self::default() }
    }

    /// Whether a frame or a fragmented message has begun and is not complete.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        self.message.is_some() || self.frame.is_some() || self.header_len > 0
    }

    /// Consumes bytes from the front of `input` until an item is complete; `None` when the input is empty.
    ///
    /// # Errors
    /// A [`ProtocolError`]; the connection must then be failed and the decoder not be used again.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
        context: &'a mut DecodeContext<'_>,
    ) -> Result<Option<Incoming<'a>>, ProtocolError> {
        if std::mem::take(&mut self.message_handed_out) {
            self.assembled.clear();
        }
        if std::mem::take(&mut self.control_handed_out) {
            self.control = None;
        }
        loop {
            let Some(frame) = self.frame else {
                match self.read_header(input, context.max_message_bytes)? {
                    Some(frame) => {
                        self.begin(frame, context.max_message_bytes)?;
                        continue;
                    }
                    None => {
                        self.release_when_idle();
                        return Ok(None);
                    }
                }
            };
            // The usual frame: unfragmented, whole, uncompressed. It never leaves the receive buffer.
            if let Some(Message { kind, compressed: false, fragments: 1 }) = self.message
                && frame.final_fragment
                && frame.opcode < 8
                && self.assembled.is_empty()
                && frame.phase == 0
                && frame.remaining <= input.len() as u64
            {
                let payload = take(input, frame.remaining as usize);
                mask::apply(payload, frame.mask, 0);
                if kind == MessageKind::Text && simdutf8::basic::from_utf8(payload).is_err() {
                    return Err(NOT_UTF8);
                }
                self.frame = None;
                self.message = None;
                return Ok(Some(Incoming::Message(kind, payload)));
            }
            if !self.read_payload(frame, input)? {
                return Ok(None);
            }
            self.frame = None;
            if frame.opcode >= 8 {
                self.control_handed_out = true;
                return self.control_item(frame.opcode).map(Some);
            }
            if frame.final_fragment {
                let Some(message) = self.message.take() else { continue };
                self.message_handed_out = true;
                return self.finish_message(message, context).map(Some);
            }
        }
    }

    /// Collects and checks header bytes; returns a frame once the header is complete.
    fn read_header(&mut self, input: &mut &mut [u8], max_bytes: usize) -> Result<Option<Frame>, ProtocolError> {
        while !input.is_empty() {
            let have = usize::from(self.header_len);
            self.header[have] = take(input, 1)[0];
            self.header_len += 1;
            let head = &self.header[..=have];
            match have {
                0 => self.judge_first_byte(head[0])?,
                1 => {
                    if head[1] & 0x80 == 0 {
                        return Err(protocol("client frame without a mask"));
                    }
                    if head[0] & 0x08 != 0 && u64::from(head[1] & 0x7f) > CONTROL_BYTES_MAX {
                        return Err(LONG_CONTROL);
                    }
                }
                _ => {}
            }
            let length_bytes = match head.get(1).map(|b| b & 0x7f) {
                None => continue,
                Some(126) => 2,
                Some(127) => 8,
                Some(_) => 0,
            };
            if head.len() == 2 + length_bytes {
                let length = declared_length(head)?;
                if length > max_bytes as u64 {
                    return Err(TOO_BIG);
                }
            }
            if head.len() == 2 + length_bytes + 4 {
                let frame = Frame {
                    final_fragment: head[0] & 0x80 != 0,
                    opcode: head[0] & 0x0f,
                    mask: [head[have - 3], head[have - 2], head[have - 1], head[have]],
                    phase: 0,
                    remaining: declared_length(&head[..2 + length_bytes])?,
                };
                self.header_len = 0;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    fn judge_first_byte(&self, byte: u8) -> Result<(), ProtocolError> {
        let (fin, rsv1, rsv23, opcode) = (byte & 0x80 != 0, byte & 0x40 != 0, byte & 0x30, byte & 0x0f);
        if rsv23 != 0 || (rsv1 && !(self.deflate && matches!(opcode, 1 | 2))) {
            return Err(protocol("reserved bit set"));
        }
        match opcode {
            0 if self.message.is_none() => Err(protocol("continuation of nothing")),
            1 | 2 if self.message.is_some() => Err(protocol("new message inside a fragmented one")),
            0..=2 => Ok(()),
            8..=10 if !fin => Err(protocol("fragmented control frame")),
            8..=10 => Ok(()),
            _ => Err(protocol("unknown opcode")),
        }
    }

    /// Charges the frame to its message.
    fn begin(&mut self, frame: Frame, max_bytes: usize) -> Result<(), ProtocolError> {
        match frame.opcode {
            1 | 2 => {
                let kind = if frame.opcode == 1 { MessageKind::Text } else { MessageKind::Binary };
                self.message = Some(Message { kind, compressed: self.header[0] & 0x40 != 0, fragments: 1 });
                self.utf8 = Utf8Validator::default();
            }
            0 => {
                let Some(message) = &mut self.message else { return Err(protocol("continuation of nothing")) };
                message.fragments += 1;
                if self.assembled.len() as u64 + frame.remaining > max_bytes as u64
                    || message.fragments as usize > max_bytes / FRAGMENT_CHARGE_BYTES_MIN + 16
                {
                    return Err(TOO_BIG);
                }
            }
            _ => {}
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// Consumes the payload bytes of the input; true when the payload is complete.
    fn read_payload(&mut self, mut frame: Frame, input: &mut &mut [u8]) -> Result<bool, ProtocolError> {
        let available = frame.remaining.min(input.len() as u64) as usize;
        let chunk = take(input, available);
        frame.phase = mask::apply(chunk, frame.mask, usize::from(frame.phase)) as u8;
        frame.remaining -= available as u64;
        if frame.opcode >= 8 {
            if !chunk.is_empty() {
                self.control.get_or_insert_default().append(chunk)?;
            }
        } else {
            if let Some(Message { kind: MessageKind::Text, compressed: false, .. }) = self.message {
                self.utf8.feed(chunk).map_err(|_| NOT_UTF8)?;
            }
            self.assembled.extend_from_slice(chunk);
        }
        self.frame = Some(frame);
        Ok(frame.remaining == 0)
    }

    fn finish_message<'a>(
        &'a mut self,
        message: Message,
        context: &'a mut DecodeContext<'_>,
    ) -> Result<Incoming<'a>, ProtocolError> {
        if message.compressed {
            let text = context.inflater.inflate(&self.assembled, context.max_message_bytes).map_err(|e| match e {
                InflateError::TooBig => TOO_BIG,
                InflateError::Corrupt => {
                    ProtocolError { code: CloseCode::InvalidPayload, what: "message does not inflate (RFC 7692)" }
                }
            })?;
            if message.kind == MessageKind::Text && simdutf8::basic::from_utf8(text).is_err() {
                return Err(NOT_UTF8);
            }
            return Ok(Incoming::Message(message.kind, text));
        }
        if message.kind == MessageKind::Text && !self.utf8.finish() {
            return Err(NOT_UTF8);
        }
        Ok(Incoming::Message(message.kind, &mut self.assembled))
    }

    fn control_item(&mut self, opcode: u8) -> Result<Incoming<'_>, ProtocolError> {
        let payload = self.control.as_ref().and_then(|control| control.bytes.get(..control.len)).unwrap_or_default();
        match opcode {
            0x9 => Ok(Incoming::Ping(payload)),
            0xa => Ok(Incoming::Pong),
            _ => match payload {
                [] => Ok(Incoming::Close(None)),
                [_] => Err(protocol("close frame with half a code")),
                [high, low, reason @ ..] => {
                    let code = u16::from_be_bytes([*high, *low]);
                    if !close::may_be_received(code) {
                        Err(protocol("close code that may not be sent"))
                    } else if std::str::from_utf8(reason).is_err() {
                        Err(ProtocolError { code: CloseCode::InvalidPayload, what: "close reason is not UTF-8" })
                    } else {
                        Ok(Incoming::Close(Some(code)))
                    }
                }
            },
        }
    }

    fn release_when_idle(&mut self) {
        if self.message.is_none() && self.assembled.is_empty() {
            self.assembled = Vec::new();
        }
    }
}

/// The payload length; `head` is complete up to the length (RFC 6455 §5.2).
fn declared_length(head: &[u8]) -> Result<u64, ProtocolError> {
    match *head {
        [_, _, a, b, c, d, e, f, g, h] => {
            let length = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
            if length >> 63 != 0 {
                Err(protocol("length with its most significant bit set"))
            } else if length <= 0xffff {
                Err(protocol("length not in its shortest form"))
            } else {
                Ok(length)
            }
        }
        [_, _, a, b] => match u16::from_be_bytes([a, b]) {
            0..=125 => Err(protocol("length not in its shortest form")),
            length => Ok(u64::from(length)),
        },
        [_, length] => Ok(u64::from(length & 0x7f)),
        _ => Err(protocol("header of impossible length")),
    }
}

/// Splits `count` bytes off the front of `input`; `count` ≤ its length.
fn take<'a>(input: &mut &'a mut [u8], count: usize) -> &'a mut [u8] {
    let (front, rest) = std::mem::take(input).split_at_mut(count);
    *input = rest;
    front
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
