//! One endpoint of a WebSocket: the decoder, and the rules of control frames and closing (RFC 6455 §5.5, §7).
//!
//! ```text
//!           close frame sent                  close frame received
//!   Open ───────────────────► CloseSent ─────────────────────────► Done
//!     │ close frame received, answered with the same code            ▲
//!     ├──────────────────────────────────────────────────────────────┤
//!     └ protocol fault, answered with 1002 / 1007 / 1009 ────────────┘
//! ```
//!
//! In `Done` nothing is decoded. The owner flushes its queue, half-closes the socket and waits for the peer's half.

use super::{
    MessageKind, Opcode,
    close::CloseCode,
    decoder::{DecodeContext, Decoder, Incoming, ProtocolError},
    encoder,
};

/// What the owner of the connection must do next.
#[derive(Debug)]
pub enum PeerEvent<'a> {
    /// A message for the application.
    Message(MessageKind, &'a mut [u8]),
    /// Send these bytes (a pong).
    Reply(Vec<u8>),
    /// A pong: the peer is alive.
    Alive,
    /// Send these bytes, if any, then half-close the socket.
    Finish(Option<Vec<u8>>, Ending),
}

/// The end of a WebSocket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// The peer closed, with its code if it sent one.
    ByPeer(Option<u16>),
    /// The peer answered the server's close frame.
    ByUs,
    /// The peer broke the protocol.
    Fault(ProtocolError),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum PeerState {
    #[default]
    Open,
    CloseSent,
    Done,
}

/// The protocol state of one connection.
#[derive(Debug, Default)]
pub struct Peer {
    decoder: Decoder,
    phase: PeerState,
}

impl Peer {
    /// A peer whose handshake is complete.
    #[must_use]
    pub fn new(deflate: bool) -> Self {
        Self { decoder: Decoder::new(deflate), phase: PeerState::Open }
    }

    /// Whether messages may still be sent.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == PeerState::Open
    }

    /// Whether a frame or a fragmented message has begun and is not complete.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        self.decoder.is_within_message()
    }

    /// Begins the close handshake: the frame to send, or `None` when one was sent already.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Option<Vec<u8>> {
        (self.phase == PeerState::Open).then(|| {
            self.phase = PeerState::CloseSent;
            encoder::close(code, reason)
        })
    }

    /// Consumes bytes from the front of `input` up to the next event; `None` when the input is empty.
    pub fn next<'a, 'i: 'a>(
        &'a mut self,
        input: &mut &'i mut [u8],
        context: &'a mut DecodeContext<'_>,
    ) -> Option<PeerEvent<'a>> {
        if self.phase == PeerState::Done {
            *input = &mut [];
            return None;
        }
        let sent = self.phase == PeerState::CloseSent;
        match self.decoder.next(input, context) {
            Ok(None) => None,
            // After the server's close frame, only the peer's close frame matters.
            Ok(Some(Incoming::Message(..) | Incoming::Ping(_))) if sent => Some(PeerEvent::Alive),
            Ok(Some(Incoming::Message(kind, payload))) => Some(PeerEvent::Message(kind, payload)),
            Ok(Some(Incoming::Ping(payload))) => Some(PeerEvent::Reply(encoder::frame(Opcode::Pong, false, payload))),
            Ok(Some(Incoming::Pong)) => Some(PeerEvent::Alive),
            Ok(Some(Incoming::Close(code))) => {
                self.phase = PeerState::Done;
                let ending = if sent { Ending::ByUs } else { Ending::ByPeer(code) };
                let echo = (!sent).then(|| {
                    let code = code.map(u16::to_be_bytes);
                    encoder::frame(Opcode::Close, false, code.as_ref().map_or(&[], <[u8; 2]>::as_slice))
                });
                Some(PeerEvent::Finish(echo, ending))
            }
            Err(fault) => {
                self.phase = PeerState::Done;
                let frame = (!sent).then(|| encoder::close(fault.code, &fault.code.reason(0)));
                Some(PeerEvent::Finish(frame, Ending::Fault(fault)))
            }
        }
    }
}
