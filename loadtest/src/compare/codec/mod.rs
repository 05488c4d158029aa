//! The protocols of the peers, as functions over bytes: no socket, no clock.
//!
//! A [`Codec`] is one connection's side of a protocol over WebSocket. It receives bytes and messages to publish. It
//! writes [`Frames`] and reports [`Incoming`]. Rooms and messages are numbers here; each codec names them on the wire
//! in its own way.
//!
//! Invariants:
//! - a codec reports a message's number exactly as often as the server answers it, and each delivered content with the
//!   bytes that arrived. It does not judge them: the ledger does;
//! - a codec reports bytes that it does not understand as [`Incoming::Failed`] and never skips them.

pub mod mqtt;
pub mod nats;
pub mod relay;
pub mod xmpp;

/// A message of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming<'a> {
    /// The connection is in its rooms and can publish.
    Ready,
    /// A message of this connection was acknowledged.
    Acked(u32),
    /// A message of this connection was refused.
    Refused(u32, String),
    /// A message reached this connection.
    Delivered {
        /// The room.
        room: u32,
        /// Its content as it arrived.
        content: &'a [u8],
    },
    /// The server sent something after which the codec cannot continue.
    Failed(String),
}

/// Where a codec writes.
pub trait Frames {
    /// A text message.
    fn text(&mut self, content: &str);
    /// A binary message.
    fn binary(&mut self, content: &[u8]);
}

/// One connection's side of a protocol.
pub trait Codec: Send + Sized {
    /// The path of the WebSocket.
    const PATH: &'static str;
    /// The subprotocol to ask for.
    const SUBPROTOCOL: Option<&'static str>;

    /// A connection that is going to be opened, for connection `client` of the run, which joins `rooms`.
    fn new(client: u32, rooms: &[u32]) -> Self;

    /// The WebSocket is open.
    fn opened(&mut self, out: &mut impl Frames);

    /// A message of the WebSocket arrived.
    fn received(&mut self, message: &[u8], out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>));

    /// Publishes message `number` of this connection.
    fn publish(&mut self, room: u32, number: u32, content: &str, out: &mut impl Frames);
}

/// The number in ASCII digits at the beginning of `bytes`, and what follows it.
fn number(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = std::str::from_utf8(&bytes[..digits]).ok()?;
    Some((text.parse().ok()?, &bytes[digits..]))
}

/// The number that `text` is.
fn whole_number(text: &[u8]) -> Option<u32> {
    number(text).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
}

/// Bytes of an unknown message that an error quotes.
const QUOTE_BYTES: usize = 200;

fn quote(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(QUOTE_BYTES)]).into_owned()
}

#[cfg(test)]
mod testing {
    use super::*;

    /// Recorded frames.
    #[derive(Default, PartialEq, Eq, Debug)]
    pub struct Written(pub Vec<Vec<u8>>);

    impl Frames for Written {
        fn text(&mut self, content: &str) {
            self.0.push(content.as_bytes().to_vec());
        }
        fn binary(&mut self, content: &[u8]) {
            self.0.push(content.to_vec());
        }
    }

    impl Written {
        /// What was written since the last call, as text.
        pub fn take(&mut self) -> Vec<String> {
            self.0.drain(..).map(|frame| String::from_utf8_lossy(&frame).into_owned()).collect()
        }
    }

    /// Reports as text.
    pub fn receive<C: Codec>(codec: &mut C, out: &mut Written, message: &[u8]) -> Vec<String> {
        let mut reports = Vec::new();
        codec.received(message, out, &mut |incoming| {
            reports.push(match incoming {
                Incoming::Ready => "ready".to_owned(),
                Incoming::Acked(number) => format!("acked {number}"),
                Incoming::Refused(number, reason) => format!("refused {number}: {reason}"),
                Incoming::Delivered { room, content } => {
                    format!("delivered in {room}: {}", String::from_utf8_lossy(content))
                }
                Incoming::Failed(reason) => format!("failed: {reason}"),
            });
        });
        reports
    }

    /// The same bytes must give the same reports at every split.
    pub fn receive_at_every_split<C: Codec>(fresh: impl Fn() -> C, bytes: &[u8]) -> Vec<String> {
        let whole = receive(&mut fresh(), &mut Written::default(), bytes);
        for at in 1..bytes.len() {
            let (mut codec, mut out) = (fresh(), Written::default());
            let mut reports = receive(&mut codec, &mut out, &bytes[..at]);
            reports.extend(receive(&mut codec, &mut out, &bytes[at..]));
            assert_eq!(reports, whole, "split at {at}");
        }
        whole
    }
}
