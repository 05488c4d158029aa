//! How many bytes a message has on the wire, in each direction: measured on real frames from the server's own encoder.

use chat_server::ids::{ConversationId, MessageId, Seq, UserId};
use chat_server::mesh::record::{MessageRecord, Sender};
use chat_server::wire::{Format, event};
use serde_json::json;

/// Bytes of one message on the wire, WebSocket header included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameBytes {
    /// The client's `send_message`.
    pub to_server: usize,
    /// The server's `message_created`.
    pub to_member: usize,
}

/// Opcode and length, and the mask that every frame of a client carries.
const CLIENT_HEADER_BYTES: usize = 4 + 4;

/// The bytes of a message whose content has `content_bytes` characters.
///
/// # Errors
/// The server's encoder's.
pub fn measure(content_bytes: usize, format: Format) -> Result<FrameBytes, String> {
    let content = "x".repeat(content_bytes);
    let room = ConversationId::from_number(40_002).ok_or("40002 is not a conversation id")?;
    let command = json!({"type": "send_message", "id": 1234, "data": {
        "conversation_id": room, "content": content, "client_message_id": "lt-0123456789abcdef-1000.1234"}});
    let sender = Sender {
        id: UserId(12_345),
        username: "loadtest-01234".to_owned(),
        display_name: "loadtest-01234".to_owned(),
        role: None,
    };
    let created_at = "2026-01-02T03:04:05.678Z".to_owned();
    let record =
        MessageRecord { content, ..MessageRecord::new(MessageId(1_234_567), room, Seq(12_345), sender, created_at) };
    let command_bytes = match format {
        Format::Json => command.to_string().len(),
        Format::MessagePack => rmp_serde::to_vec_named(&command).map_err(|error| error.to_string())?.len(),
    };
    Ok(FrameBytes {
        to_server: command_bytes + CLIENT_HEADER_BYTES,
        to_member: event::encode(format, "message_created", None, &record)?.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_grow_with_the_content() {
        let (small, large) = (measure(128, Format::Json).unwrap(), measure(1128, Format::Json).unwrap());
        assert_eq!(large.to_server - small.to_server, 1000);
        assert_eq!(large.to_member - small.to_member, 1000);
        assert!(small.to_server > 128 && small.to_member > small.to_server, "{small:?}");
    }

    #[test]
    fn messagepack_is_shorter() {
        let (json, packed) = (measure(128, Format::Json).unwrap(), measure(128, Format::MessagePack).unwrap());
        assert!(packed.to_server < json.to_server && packed.to_member < json.to_member, "{json:?} {packed:?}");
        assert!(packed.to_server > 128 && packed.to_member > 128, "{packed:?}");
    }
}
