//! NATS's client protocol over WebSocket, with `JetStream` acknowledgements.
//!
//! 1. The server begins with `INFO {…}`. The client answers CONNECT, one SUB per room (subject `room.STREAM.N`), one
//!    SUB for its acknowledgements (`_INBOX.CLIENT.*`), and PING. PONG confirms that the server has processed all of
//!    it.
//! 2. `PUB room.S.N _INBOX.CLIENT.NUMBER length` stores a message in a stream. The reply is the acknowledgement, in
//!    JSON.
//! 3. Subscribers are core subscribers: the server delivers to them immediately and at most once, including the sender.
//!
//! `JetStream` writes one stream with one thread and syncs every message. Its documentation advises several streams for
//! throughput, so rooms are spread over [`STREAMS`] streams. A room is in one stream, which keeps its order. Durable
//! acknowledgements of 20 rooms with 1, 16 and 64 streams: 2,700, 11,400 and 11,400 per second.
//!
//! The bytes form one stream: a line or a content may span WebSocket messages.

use super::{Codec, Frames, Incoming, number, quote, whole_number};
use std::fmt::Write;

/// Streams that rooms are spread over.
pub const STREAMS: u32 = 16;
/// Longest line.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Longest content.
const CONTENT_BYTES_MAX: usize = 1 << 20;
/// The subscription of acknowledgements; rooms have their number plus one.
const INBOX_SID: u32 = 0;

/// The stream that keeps a room.
pub fn stream_of(room: u32) -> u32 {
    room % STREAMS
}

/// The subject of a room.
pub fn subject(room: u32) -> String {
    format!("room.{}.{room}", stream_of(room))
}

/// One connection.
#[derive(Debug)]
pub struct Nats {
    client: u32,
    rooms: Vec<u32>,
    /// The beginning of an incomplete operation.
    partial: Vec<u8>,
    greeted: bool,
    ready: bool,
}

impl Codec for Nats {
    const PATH: &'static str = "/";
    const SUBPROTOCOL: Option<&'static str> = None;

    fn new(client: u32, rooms: &[u32]) -> Self {
        Self { client, rooms: rooms.to_vec(), partial: Vec::new(), greeted: false, ready: false }
    }

    fn opened(&mut self, _out: &mut impl Frames) {
        // The server sends first.
    }

    fn received(&mut self, message: &[u8], out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>)) {
        if self.partial.is_empty() {
            let taken = self.operations(message, out, report);
            self.partial.extend_from_slice(&message[taken..]);
        } else {
            let mut bytes = std::mem::take(&mut self.partial);
            bytes.extend_from_slice(message);
            let taken = self.operations(&bytes, out, report);
            bytes.drain(..taken);
            self.partial = bytes;
        }
    }

    fn publish(&mut self, room: u32, number: u32, content: &str, out: &mut impl Frames) {
        let (subject, client, length) = (subject(room), self.client, content.len());
        out.binary(format!("PUB {subject} _INBOX.{client}.{number} {length}\r\n{content}\r\n").as_bytes());
    }
}

impl Nats {
    /// Handles the whole operations at the beginning of `bytes` and returns their length.
    fn operations(&mut self, bytes: &[u8], out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>)) -> usize {
        let mut taken = 0;
        while let Some(end) = memchr::memchr(b'\n', &bytes[taken..]) {
            let line = bytes[taken..taken + end].trim_ascii_end();
            let after_line = taken + end + 1;
            if let Some(rest) = line.strip_prefix(b"MSG ") {
                let Some((sid, length, subject)) = message_line(rest) else {
                    report(Incoming::Failed(format!("not a MSG line: {}", quote(line))));
                    return bytes.len();
                };
                // The content is followed by CR LF.
                let Some(content) = bytes.get(after_line..after_line + length) else { return taken };
                if bytes.len() < after_line + length + 2 {
                    return taken;
                }
                taken = after_line + length + 2;
                report(match sid {
                    INBOX_SID => acknowledgement(subject, content),
                    room => Incoming::Delivered { room: room - 1, content },
                });
            } else {
                taken = after_line;
                if let Some(failure) = self.line(line, out, report) {
                    report(Incoming::Failed(failure));
                    return bytes.len();
                }
            }
        }
        if bytes.len() - taken > LINE_BYTES_MAX {
            report(Incoming::Failed(format!("a line without an end: {}", quote(&bytes[taken..]))));
            return bytes.len();
        }
        taken
    }

    fn line(&mut self, line: &[u8], out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>)) -> Option<String> {
        match line {
            b"PING" => out.binary(b"PONG\r\n"),
            b"PONG" if !self.ready => {
                self.ready = true;
                report(Incoming::Ready);
            }
            b"PONG" | b"+OK" => {}
            _ if line.starts_with(b"INFO ") => {
                // The server sends it again after every change.
                if !self.greeted {
                    self.greeted = true;
                    out.binary(self.greeting().as_bytes());
                }
            }
            _ => return Some(format!("the server said: {}", quote(line))),
        }
        None
    }

    fn greeting(&self) -> String {
        let mut text = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"protocol\":1}\r\n".to_owned();
        // Writing into a String cannot fail.
        for room in &self.rooms {
            let _ = write!(text, "SUB {} {}\r\n", subject(*room), room + 1);
        }
        let _ = write!(text, "SUB _INBOX.{}.* {INBOX_SID}\r\nPING\r\n", self.client);
        text
    }
}

/// Subscription, length and subject of a MSG line: `subject sid [reply-to] length`.
fn message_line(line: &[u8]) -> Option<(u32, usize, &[u8])> {
    let space = memchr::memchr(b' ', line)?;
    let (subject, rest) = line.split_at(space);
    let (sid, rest) = number(&rest[1..])?;
    let last = memchr::memrchr(b' ', rest)?;
    let length = whole_number(&rest[last + 1..])? as usize;
    (length <= CONTENT_BYTES_MAX).then_some((sid, length, subject))
}

/// The reply to a published message: `{"stream":"rooms-3","seq":17}`, or `{"error":{…},…}`.
fn acknowledgement<'a>(subject: &[u8], content: &[u8]) -> Incoming<'a> {
    let published = memchr::memrchr(b'.', subject).and_then(|dot| whole_number(&subject[dot + 1..]));
    let Some(published) = published else {
        return Incoming::Failed(format!("an acknowledgement on the subject {}", quote(subject)));
    };
    match serde_json::from_slice::<serde_json::Value>(content) {
        Ok(reply) if reply["seq"].is_u64() => Incoming::Acked(published),
        Ok(reply) if reply["error"]["description"].is_string() => {
            Incoming::Refused(published, reply["error"]["description"].as_str().unwrap_or_default().to_owned())
        }
        _ => Incoming::Failed(format!("not an acknowledgement: {}", quote(content))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Written, receive, receive_at_every_split};
    use super::*;

    #[test]
    fn is_ready_when_the_server_answers_the_ping() {
        let (mut nats, mut out) = (Nats::new(5, &[0, 17]), Written::default());
        nats.opened(&mut out);
        assert_eq!(receive(&mut nats, &mut out, b"INFO {\"version\":\"2.10\"}\r\n"), [""; 0]);
        assert_eq!(
            out.take(),
            ["CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"protocol\":1}\r\n\
              SUB room.0.0 1\r\nSUB room.1.17 18\r\nSUB _INBOX.5.* 0\r\nPING\r\n"]
        );
        assert_eq!(receive(&mut nats, &mut out, b"PONG\r\nPING\r\nINFO {}\r\n"), ["ready"]);
        assert_eq!(out.take(), ["PONG\r\n"]);
    }

    #[test]
    fn messages_are_published_with_a_reply_subject_and_acknowledged_by_it() {
        let (mut nats, mut out) = (Nats::new(5, &[17]), Written::default());
        nats.publish(17, 3, "hello", &mut out);
        assert_eq!(out.take(), ["PUB room.1.17 _INBOX.5.3 5\r\nhello\r\n"]);
        let ack = b"MSG _INBOX.5.3 0 28\r\n{\"stream\":\"rooms-1\",\"seq\":1}\r\n";
        assert_eq!(receive(&mut nats, &mut out, ack), ["acked 3"]);
        let refusal = b"MSG _INBOX.5.4 0 43\r\n{\"error\":{\"code\":503,\"description\":\"full\"}}\r\n";
        assert_eq!(receive(&mut nats, &mut out, refusal), ["refused 4: full"]);
    }

    #[test]
    fn reads_deliveries_at_every_split() {
        let stream =
            b"INFO {}\r\nPONG\r\nMSG room.1.17 18 _INBOX.9.1 7\r\nhe\r\nllo\r\nMSG room.0.0 1 0\r\n\r\nPING\r\n\
            MSG _INBOX.5.3 0 28\r\n{\"stream\":\"rooms-1\",\"seq\":1}\r\n";
        assert_eq!(
            receive_at_every_split(|| Nats::new(5, &[17, 0]), stream),
            ["ready", "delivered in 17: he\r\nllo", "delivered in 0: ", "acked 3"]
        );
    }

    #[test]
    fn errors_and_garbage_fail() {
        for bytes in [&b"-ERR 'Unknown'\r\n"[..], b"MSG x\r\n", b"MSG a 1 99999999\r\n", b"what\r\n"] {
            let reports = receive(&mut Nats::new(0, &[0]), &mut Written::default(), bytes);
            assert!(reports.len() == 1 && reports[0].starts_with("failed"), "{bytes:?}: {reports:?}");
        }
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(receive(&mut Nats::new(0, &[0]), &mut Written::default(), &endless).len(), 1);
    }
}
