//! Finds the room and the number of an event by their keys, without decoding it.
//!
//! The result is only a hint, which is then compared with the whole stored frame. A wrong hint costs one decoding.

use super::wire::Format;
use memchr::memmem::Finder;

/// Finds rooms and numbers.
#[derive(Debug)]
pub struct Hints {
    json_room: Finder<'static>,
    json_seq: Finder<'static>,
    msgpack_room: Finder<'static>,
    msgpack_seq: Finder<'static>,
}

impl Default for Hints {
    fn default() -> Self {
        Self {
            json_room: Finder::new(br#""conversation_id":""#),
            json_seq: Finder::new(br#""seq":"#),
            msgpack_room: Finder::new(b"\xafconversation_id"),
            msgpack_seq: Finder::new(b"\xa3seq"),
        }
    }
}

impl Hints {
    /// The room's identifier and the number in a message.
    pub fn find<'a>(&self, format: Format, payload: &'a [u8]) -> Option<(&'a str, u64)> {
        let (room, seq) = match format {
            Format::Json => {
                (json_text(after(&self.json_room, payload)?)?, json_number(after(&self.json_seq, payload)?)?)
            }
            Format::Msgpack => (
                msgpack_text(after(&self.msgpack_room, payload)?)?,
                msgpack_number(after(&self.msgpack_seq, payload)?)?,
            ),
        };
        Some((std::str::from_utf8(room).ok()?, seq))
    }
}

/// What follows a key.
fn after<'a>(key: &Finder<'_>, bytes: &'a [u8]) -> Option<&'a [u8]> {
    bytes.get(key.find(bytes)? + key.needle().len()..)
}

fn json_text(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..memchr::memchr(b'"', bytes)?)
}

fn json_number(bytes: &[u8]) -> Option<u64> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()
}

fn msgpack_text(bytes: &[u8]) -> Option<&[u8]> {
    match bytes {
        [head @ 0xa0..=0xbf, rest @ ..] => rest.get(..usize::from(head & 0x1f)),
        [0xd9, length, rest @ ..] => rest.get(..usize::from(*length)),
        _ => None,
    }
}

fn msgpack_number(bytes: &[u8]) -> Option<u64> {
    let (wide, rest) = match bytes {
        [small @ 0..=0x7f, ..] => return Some(u64::from(*small)),
        [0xcc | 0xd0, rest @ ..] => (1, rest),
        [0xcd | 0xd1, rest @ ..] => (2, rest),
        [0xce | 0xd2, rest @ ..] => (4, rest),
        [0xcf | 0xd3, rest @ ..] => (8, rest),
        _ => return None,
    };
    Some(rest.get(..wide)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rooms_and_numbers_are_found_in_both_formats() {
        let hints = Hints::default();
        for seq in [0_u64, 1, 127, 128, 255, 256, 65_535, 65_536, 1 << 32, (1 << 53) - 1] {
            for room in ["room_1".to_owned(), format!("room_{}", "9".repeat(40))] {
                let event = json!({"type": "message_created",
                                   "data": {"message_id": 5, "conversation_id": room, "seq": seq,
                    "content": "she wrote \"conversation_id\":\"room_7\",\"seq\":3 in it"}});
                let packed = rmp_serde::to_vec_named(&event).expect("it packs");
                assert_eq!(hints.find(Format::Msgpack, &packed), Some((room.as_str(), seq)));
                let text = event.to_string();
                assert_eq!(hints.find(Format::Json, text.as_bytes()), Some((room.as_str(), seq)), "{text}");
            }
        }
        for bytes in [&b""[..], b"{", br#"{"conversation_id":"room"#, b"\xafconversation_id\xd9"] {
            assert_eq!(hints.find(Format::Json, bytes), None);
            assert_eq!(hints.find(Format::Msgpack, bytes), None);
        }
    }
}
