//! The JSON that the uWebSockets.js relay and the INSERT server speak.
//!
//! ```text
//! → {"t":"join","rooms":["0","7"]}                                ← {"t":"joined"}
//! → {"t":"publish","room":"7","token":"3","payload":"…"}          ← {"t":"ack","token":"3"}
//!                              to every subscriber and the sender:
//!                                                               ← {"t":"message","room":"7","token":"3","payload":"…"}
//! ```
//!
//! The token is the sender's number of the message. A delivery of exactly this form is read in place, which costs a
//! search for quotes. Every other form goes through serde.

use super::{Codec, Frames, Incoming, number, quote, whole_number};
use serde::Deserialize;
use serde_json::json;
use std::borrow::Cow;

/// One connection.
#[derive(Debug)]
pub struct Relay {
    rooms: Vec<u32>,
}

#[derive(Deserialize)]
struct RelayReply<'a> {
    t: &'a str,
    #[serde(borrow, default)]
    room: Cow<'a, str>,
    #[serde(borrow, default)]
    token: Cow<'a, str>,
    #[serde(borrow, default)]
    payload: Cow<'a, str>,
}

impl Codec for Relay {
    const PATH: &'static str = "/";
    const SUBPROTOCOL: Option<&'static str> = None;

    fn new(_client: u32, rooms: &[u32]) -> Self {
        Self { rooms: rooms.to_vec() }
    }

    fn opened(&mut self, out: &mut impl Frames) {
        let rooms: Vec<String> = self.rooms.iter().map(u32::to_string).collect();
        out.text(&json!({ "t": "join", "rooms": rooms }).to_string());
    }

    fn received(&mut self, message: &[u8], _out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>)) {
        if let Some((room, content)) = plain_delivery(message) {
            return report(Incoming::Delivered { room, content });
        }
        let understood = serde_json::from_slice::<RelayReply<'_>>(message).ok().and_then(|reply| {
            let token = || whole_number(reply.token.as_bytes());
            match reply.t {
                "joined" => report(Incoming::Ready),
                "ack" => report(Incoming::Acked(token()?)),
                "message" => {
                    let room = whole_number(reply.room.as_bytes())?;
                    report(Incoming::Delivered { room, content: reply.payload.as_bytes() });
                }
                _ => return None,
            }
            Some(())
        });
        if understood.is_none() {
            report(Incoming::Failed(format!("not a reply of a relay: {}", quote(message))));
        }
    }

    fn publish(&mut self, room: u32, number: u32, content: &str, out: &mut impl Frames) {
        let (room, token) = (room.to_string(), number.to_string());
        out.text(&json!({ "t": "publish", "room": room, "token": token, "payload": content }).to_string());
    }
}

/// Room and content of a delivery with fields in the documented order and a content without escapes.
fn plain_delivery(message: &[u8]) -> Option<(u32, &[u8])> {
    let (room, rest) = number(message.strip_prefix(br#"{"t":"message","room":""#)?)?;
    let (_token, rest) = number(rest.strip_prefix(br#"","token":""#)?)?;
    let rest = rest.strip_prefix(br#"","payload":""#)?;
    let end = memchr::memchr2(b'"', b'\\', rest)?;
    let tail = &rest[end..];
    let known = tail == b"\"}" || tail.strip_prefix(br#"","id":"#).is_some_and(|id| id.ends_with(b"}"));
    known.then(|| (room, &rest[..end]))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Written, receive};
    use super::*;

    #[test]
    fn joins_publishes_and_receives_its_own_message() {
        let (mut relay, mut out) = (Relay::new(5, &[0, 7]), Written::default());
        relay.opened(&mut out);
        assert_eq!(out.take(), [r#"{"rooms":["0","7"],"t":"join"}"#]);
        assert_eq!(receive(&mut relay, &mut out, br#"{"t":"joined"}"#), ["ready"]);
        relay.publish(7, 3, "a \"b\"", &mut out);
        assert_eq!(out.take(), [r#"{"payload":"a \"b\"","room":"7","t":"publish","token":"3"}"#]);
        assert_eq!(receive(&mut relay, &mut out, br#"{"t":"ack","token":"3"}"#), ["acked 3"]);
    }

    #[test]
    fn deliveries_in_both_forms_and_with_escapes_are_read() {
        for (message, content) in [
            (r#"{"t":"message","room":"7","token":"3","payload":"a b"}"#, "a b"),
            (r#"{"t":"message","room":"7","token":"3","payload":"a b","id":12}"#, "a b"),
            (r#"{"t":"message","room":"7","token":"3","payload":"a \"b\""}"#, "a \"b\""),
            (r#"{ "payload":"a b", "room":"7", "token":"3", "t":"message" }"#, "a b"),
        ] {
            let reports = receive(&mut Relay::new(0, &[]), &mut Written::default(), message.as_bytes());
            assert_eq!(reports, [format!("delivered in 7: {content}")], "{message}");
        }
    }

    #[test]
    fn fails_on_invalid_replies() {
        for message in ["", "{", r#"{"t":"what"}"#, r#"{"t":"ack","token":"x"}"#, r#"{"t":"message","room":"r"}"#] {
            let reports = receive(&mut Relay::new(0, &[]), &mut Written::default(), message.as_bytes());
            assert!(reports.len() == 1 && reports[0].starts_with("failed"), "{message}: {reports:?}");
        }
    }
}
