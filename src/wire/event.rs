//! Replies and events, serialised once per format as whole WebSocket frames.

use super::command::RequestId;
use super::ws::{Opcode, encoder};
use super::{Format, json, msgpack};
use serde::Serialize;

/// The envelope of everything the server sends: `{"type", "id"?, "data"}`, `data` last (see [`with_data_field`]).
#[derive(Serialize)]
struct Envelope<'a, T: Serialize> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RequestId>,
    data: &'a T,
}

/// A frame with `{"type": kind, "id": id, "data": data}`.
///
/// # Errors
/// The serialiser's message; the server's own types always serialise.
pub fn encode<T: Serialize>(format: Format, kind: &str, id: Option<&RequestId>, data: &T) -> Result<Vec<u8>, String> {
    let envelope = Envelope { kind, id, data };
    let opcode = format.message_kind().opcode();
    encoder::message_with(opcode, |out| match format {
        Format::Json => json::write(&envelope, out),
        Format::MessagePack => msgpack::write(&envelope, out),
    })
}

/// The frame of an event with one more text field in its `data`. So the sender's copy carries `client_message_id`
/// without being serialised again.
///
/// `frame` must come from [`encode`] without an id, with a map or structure as `data`; `None` otherwise.
#[must_use]
pub fn with_data_field(frame: &[u8], format: Format, kind: &str, key: &str, value: &str) -> Option<Vec<u8>> {
    let payload = encoder::payload_of(frame);
    let mut extended = Vec::with_capacity(payload.len() + key.len() + value.len() + 16);
    match format {
        Format::Json => {
            let open = payload.strip_suffix(b"}}")?;
            extended.extend_from_slice(open);
            if !open.ends_with(b"{") {
                extended.push(b',');
            }
            json::write(&key, &mut extended).ok()?;
            extended.push(b':');
            json::write(&value, &mut extended).ok()?;
            extended.extend_from_slice(b"}}");
        }
        Format::MessagePack => {
            // fixmap(2) "type" kind "data" map: the header of the data map has a known offset.
            let mut before = vec![0x82];
            for text in ["type", kind, "data"] {
                msgpack::write(&text, &mut before).ok()?;
            }
            let rest = payload.strip_prefix(before.as_slice())?;
            let (count, entries) = match rest {
                [head @ 0x80..=0x8f, entries @ ..] => (u16::from(head & 0x0f), entries),
                [0xde, high, low, entries @ ..] => (u16::from_be_bytes([*high, *low]), entries),
                _ => return None,
            };
            extended.extend_from_slice(&before);
            extended.push(0xde);
            extended.extend_from_slice(&count.checked_add(1)?.to_be_bytes());
            extended.extend_from_slice(entries);
            msgpack::write(&key, &mut extended).ok()?;
            msgpack::write(&value, &mut extended).ok()?;
        }
    }
    let opcode: Opcode = format.message_kind().opcode();
    Some(encoder::frame(opcode, false, &extended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn decode(frame: &[u8], format: Format) -> Value {
        let payload = encoder::payload_of(frame);
        match format {
            Format::Json => serde_json::from_slice(payload).unwrap(),
            Format::MessagePack => rmp_serde::from_slice(payload).unwrap(),
        }
    }

    #[test]
    fn an_inserted_field_equals_a_serialised_one() {
        for fields in [0, 1, 14, 15, 16, 40] {
            let data: serde_json::Map<String, Value> = (0..fields).map(|i| (format!("k{i:02}"), json!(i))).collect();
            for format in Format::ALL {
                let frame = encode(format, "message_created", None, &data).unwrap();
                let spliced = with_data_field(&frame, format, "message_created", "zz", "a\"é\n").unwrap();
                let mut expected = data.clone();
                expected.insert("zz".into(), json!("a\"é\n"));
                assert_eq!(decode(&spliced, format), json!({"type": "message_created", "data": expected}));
            }
        }
    }

    #[test]
    fn an_id_is_echoed_unchanged() {
        let frame = encode(Format::Json, "ack", Some(&RequestId::Text("x".into())), &json!({})).unwrap();
        assert_eq!(encoder::payload_of(&frame), br#"{"type":"ack","id":"x","data":{}}"#);
    }
}
