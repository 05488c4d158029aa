//! MQTT 3.1.1 over WebSocket (subprotocol `mqtt`), for Mosquitto.
//!
//! 1. CONNECT with a clean session and no keep-alive; the server answers CONNACK.
//! 2. One SUBSCRIBE for all rooms, `QoS` 0: topic `room/N`; the server answers SUBACK.
//! 3. PUBLISH with `QoS` 1, answered by PUBACK. The broker delivers it to every subscriber, including the sender, with
//!    `QoS` 0, which is its cheapest delivery. It does not wait for a subscriber that has disconnected.
//!
//! The bytes of binary messages form one stream: a packet may span messages, and a message may hold several packets.
//!
//! `mqttbytes` writes and reads the packets, except the one that arrives by the million: a PUBLISH with `QoS` 0 is read
//! in place.

use super::{Codec, Frames, Incoming, quote, whole_number};
use bytes::BytesMut;
use mqttbytes::QoS;
use mqttbytes::v4::{
    Connect, ConnectReturnCode, Packet, Publish, Subscribe, SubscribeFilter, SubscribeReasonCode, read,
};
use std::collections::HashMap;

/// Longest packet.
const PACKET_BYTES_MAX: usize = 1 << 20;
const TOPIC: &str = "room/";
/// First byte of a PUBLISH with `QoS` 0 that is neither retained nor repeated.
const PUBLISH_QOS_0: u8 = 0x30;
const SUBSCRIBE_ID: u16 = 1;

/// One connection.
#[derive(Debug)]
pub struct Mqtt {
    client: u32,
    rooms: Vec<u32>,
    /// The beginning of an incomplete packet.
    partial: Vec<u8>,
    /// Numbers of messages by the packet identifier they wait with.
    waiting: HashMap<u16, u32>,
}

impl Codec for Mqtt {
    const PATH: &'static str = "/";
    const SUBPROTOCOL: Option<&'static str> = Some("mqtt");

    fn new(client: u32, rooms: &[u32]) -> Self {
        Self { client, rooms: rooms.to_vec(), partial: Vec::new(), waiting: HashMap::new() }
    }

    fn opened(&mut self, out: &mut impl Frames) {
        let mut connect = Connect::new(format!("loadtest-{}", self.client));
        // 0 disables it: WebSocket pings keep the connections of all servers alive.
        connect.keep_alive = 0;
        connect.clean_session = true;
        send(out, |bytes| connect.write(bytes));
    }

    fn received(&mut self, message: &[u8], out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>)) {
        if self.partial.is_empty() {
            let taken = self.packets(message, out, report);
            self.partial.extend_from_slice(&message[taken..]);
        } else {
            let mut bytes = std::mem::take(&mut self.partial);
            bytes.extend_from_slice(message);
            let taken = self.packets(&bytes, out, report);
            bytes.drain(..taken);
            self.partial = bytes;
        }
    }

    fn publish(&mut self, room: u32, number: u32, content: &str, out: &mut impl Frames) {
        // 1 to 65,535; a window is smaller than that, so the one before is answered by the time an identifier returns.
        let id = (number % u32::from(u16::MAX)) as u16 + 1;
        self.waiting.insert(id, number);
        let mut publish = Publish::new(format!("{TOPIC}{room}"), QoS::AtLeastOnce, content);
        publish.pkid = id;
        send(out, |bytes| publish.write(bytes));
    }
}

impl Mqtt {
    /// Handles the whole packets at the beginning of `bytes` and returns their length.
    fn packets(&mut self, bytes: &[u8], out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>)) -> usize {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            let length = match packet_length(rest) {
                Ok(Some(length)) if length <= rest.len() => length,
                Ok(_) => return taken,
                Err(reason) => {
                    report(Incoming::Failed(reason));
                    return bytes.len();
                }
            };
            let packet = &rest[..length];
            taken += length;
            match plain_publish(packet) {
                Some((room, content)) => report(Incoming::Delivered { room, content }),
                None => self.packet(packet, out, report),
            }
        }
    }

    fn packet(&mut self, packet: &[u8], out: &mut impl Frames, report: &mut impl FnMut(Incoming<'_>)) {
        let fail = |what: &str| Incoming::Failed(format!("{what}: {}", quote(packet)));
        match read(&mut BytesMut::from(packet), PACKET_BYTES_MAX) {
            Ok(Packet::ConnAck(answer)) if answer.code == ConnectReturnCode::Success => {
                let filters = self.rooms.iter();
                let filters = filters.map(|room| SubscribeFilter::new(format!("{TOPIC}{room}"), QoS::AtMostOnce));
                let mut subscribe = Subscribe::new_many(filters);
                subscribe.pkid = SUBSCRIBE_ID;
                send(out, |bytes| subscribe.write(bytes));
            }
            Ok(Packet::ConnAck(answer)) => {
                report(Incoming::Failed(format!("the broker refused the connection: {:?}", answer.code)));
            }
            Ok(Packet::SubAck(answer)) => {
                let refused = answer.return_codes.contains(&SubscribeReasonCode::Failure);
                report(if refused { fail("the broker refused a subscription") } else { Incoming::Ready });
            }
            Ok(Packet::PubAck(answer)) => report(match self.waiting.remove(&answer.pkid) {
                Some(number) => Incoming::Acked(number),
                None => fail("a PUBACK that nothing waits for"),
            }),
            Ok(Packet::PingResp) => {}
            Ok(_) => report(fail("an unexpected MQTT packet")),
            Err(error) => report(Incoming::Failed(format!("not an MQTT packet ({error:?}): {}", quote(packet)))),
        }
    }
}

fn send<E>(out: &mut impl Frames, write: impl FnOnce(&mut BytesMut) -> Result<usize, E>) {
    let mut bytes = BytesMut::new();
    // Writing fails only on contents longer than 256 MB.
    if write(&mut bytes).is_ok() {
        out.binary(&bytes);
    }
}

/// Length of the fixed header and of the whole packet at the beginning of `bytes`, as far as it can be told (MQTT
/// 3.1.1, 2.2.3).
fn header(bytes: &[u8]) -> Result<Option<(usize, usize)>, String> {
    let mut length = 0;
    for (position, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            let header = position + 2;
            return match header + length {
                total if total <= PACKET_BYTES_MAX => Ok(Some((header, total))),
                total => Err(format!("an MQTT packet of {total} bytes")),
            };
        }
    }
    if bytes.len() > 4 { Err(format!("an MQTT packet without a length: {}", quote(bytes))) } else { Ok(None) }
}

fn packet_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    Ok(header(bytes)?.map(|(_, total)| total))
}

/// Room and content of a PUBLISH with `QoS` 0.
fn plain_publish(packet: &[u8]) -> Option<(u32, &[u8])> {
    if *packet.first()? != PUBLISH_QOS_0 {
        return None;
    }
    let (start, _) = header(packet).ok()??;
    let (length, rest) = packet.get(start..)?.split_first_chunk()?;
    let (topic, content) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    Some((whole_number(topic.strip_prefix(TOPIC.as_bytes())?)?, content))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Written, receive, receive_at_every_split};
    use super::*;

    const CONNACK: &[u8] = b"\x20\x02\x00\x00";
    const SUBACK: &[u8] = b"\x90\x04\x00\x01\x00\x00";

    #[test]
    fn a_connection_subscribes_and_then_is_ready() {
        let (mut mqtt, mut out) = (Mqtt::new(5, &[0, 7]), Written::default());
        mqtt.opened(&mut out);
        assert_eq!(out.0, [b"\x10\x16\x00\x04MQTT\x04\x02\x00\x00\x00\x0aloadtest-5"]);
        out.0.clear();
        assert_eq!(receive(&mut mqtt, &mut out, CONNACK), [""; 0]);
        assert_eq!(out.0, [b"\x82\x14\x00\x01\x00\x06room/0\x00\x00\x06room/7\x00"]);
        assert_eq!(receive(&mut mqtt, &mut out, SUBACK), ["ready"]);
    }

    #[test]
    fn messages_are_published_with_qos_1_and_acknowledged_in_any_order() {
        let (mut mqtt, mut out) = (Mqtt::new(5, &[7]), Written::default());
        mqtt.publish(7, 0, "hello", &mut out);
        mqtt.publish(7, 65_535, "again", &mut out);
        mqtt.publish(7, 2, "x", &mut out);
        assert_eq!(out.0[0], b"\x32\x0f\x00\x06room/7\x00\x01hello");
        assert_eq!(receive(&mut mqtt, &mut out, b"\x40\x02\x00\x03\x40\x02\x00\x01"), ["acked 2", "acked 65535"]);
        let again = receive(&mut mqtt, &mut out, b"\x40\x02\x00\x03");
        assert!(again[0].starts_with("failed: a PUBACK that nothing waits for"), "{again:?}");
    }

    #[test]
    fn reads_deliveries_at_every_split() {
        let stream =
            b"\x20\x02\x00\x00\x90\x03\x00\x01\x00\x30\x0d\x00\x06room/7hello\x30\x0a\x00\x07room/12y\x40\x02\x00\x09";
        let fresh = || Mqtt { waiting: HashMap::from([(9, 8)]), ..Mqtt::new(5, &[7]) };
        assert_eq!(
            receive_at_every_split(fresh, stream),
            ["ready", "delivered in 7: hello", "delivered in 12: y", "acked 8"]
        );
    }

    #[test]
    fn agrees_with_mqttbytes_when_reading_in_place() {
        let content = "z".repeat(3000);
        let mut bytes = BytesMut::new();
        Publish::new("room/42", QoS::AtMostOnce, content.as_str()).write(&mut bytes).expect("it is short");
        assert_eq!(plain_publish(&bytes), Some((42, content.as_bytes())));
        assert_eq!(packet_length(&bytes), Ok(Some(bytes.len())));
    }

    #[test]
    fn refusals_and_garbage_fail() {
        for bytes in [
            &b"\x20\x02\x00\x05"[..],
            b"\x90\x03\x00\x01\x80",
            b"\x30\x05\x00\x06room/",
            b"\xff\xff\xff\xff\xff\xff",
            b"\x30\x06\x00\x04romx",
            b"\x00\x00",
        ] {
            let reports = receive(&mut Mqtt::new(0, &[0]), &mut Written::default(), bytes);
            assert!(reports.len() == 1 && reports[0].starts_with("failed"), "{bytes:?}: {reports:?}");
        }
    }
}
