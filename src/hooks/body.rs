//! The body of a delivery: `{"type", "timestamp", "data"}`, as Standard Webhooks recommends. `data` is what clients
//! receive as the event's `data` over their WebSocket.
//!
//! A body is smaller than 20 kB, the size that receivers must accept. A longer text is cut, and `content_truncated` is
//! true. If that is not enough, `data` has only the ids, and `truncated` is true.

use crate::ids::ConversationId;
use crate::mesh::record::{LogEntry, shown_event};
use bytes::Bytes;
use serde_json::{Value, json};

/// The largest body.
pub const BODY_BYTES_MAX: usize = 19_999;

/// The body of an entry of the log.
#[must_use]
pub fn of_entry(conversation: ConversationId, entry: LogEntry) -> Bytes {
    match entry {
        LogEntry::Message(message) => {
            let created_at = message.created_at.clone();
            let mut data = json!(*message);
            if let Value::Object(fields) = &mut data {
                fields.remove("client_message_id"); // only for its sender
            }
            of("message_created", &created_at, data)
        }
        LogEntry::Event(event) => {
            let created_at = event.created_at.clone();
            let shown = shown_event(conversation, event);
            of(&shown.kind, &created_at, shown.data)
        }
    }
}

/// The body of an event.
#[must_use]
pub fn of(kind: &str, timestamp: &str, mut data: Value) -> Bytes {
    let write = |data: &Value| {
        let body = json!({ "type": kind, "timestamp": timestamp, "data": data }).to_string();
        let excess = body.len().saturating_sub(BODY_BYTES_MAX);
        (body, excess)
    };
    let (mut body, mut excess) = write(&data);
    if excess > 0
        && let Some(content) = data["content"].as_str().map(str::to_owned)
    {
        data["content_truncated"] = true.into();
        // A byte takes at least one byte in JSON, and at most six. So the first cut leaves a few rounds, and no round
        // cuts too much.
        let mut kept = &content[..content.floor_char_boundary(BODY_BYTES_MAX)];
        data["content"] = kept.into();
        (body, excess) = write(&data);
        while excess > 0 && !kept.is_empty() {
            kept = &kept[..kept.floor_char_boundary(kept.len().saturating_sub(excess.div_ceil(6).max(64)))];
            data["content"] = kept.into();
            (body, excess) = write(&data);
        }
    }
    if excess > 0 {
        let kept = ["conversation_id", "seq", "message_id", "created_at"];
        let mut short: serde_json::Map<_, _> =
            kept.into_iter().filter_map(|name| Some((name.to_owned(), data.get(name)?.clone()))).collect();
        short.insert("truncated".to_owned(), true.into());
        (body, _) = write(&Value::Object(short));
    }
    body.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &Bytes) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn a_body_that_fits_is_complete() {
        let data = json!({"conversation_id": "room_6", "seq": 3, "content": "Grüße 🌳 \"x\""});
        let body = read(&of("message_created", "2026-01-01T00:00:00.000Z", data.clone()));
        assert_eq!(body, json!({"type": "message_created", "timestamp": "2026-01-01T00:00:00.000Z", "data": data}));
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_nearly_fills_the_body() {
        for character in ["x", "é", "🌳", "\u{1}", "\""] {
            let content = character.repeat(20_000);
            let body = of("message_created", "t", json!({"seq": 1, "content": content}));
            assert!(body.len() <= BODY_BYTES_MAX && body.len() > BODY_BYTES_MAX - 700, "{character:?}: {}", body.len());
            let read = read(&body);
            let kept = read["data"]["content"].as_str().unwrap();
            assert!(content.starts_with(kept) && read["data"]["content_truncated"] == true);
        }
    }

    #[test]
    fn anything_else_that_is_too_long_leaves_the_place_in_the_log() {
        let users: Vec<u64> = (0..10_000).collect();
        let data = json!({"conversation_id": "room_6", "seq": 3, "content": "x".repeat(5_000), "users": users});
        let body = read(&of("member_joined", "t", data));
        assert_eq!(body["data"], json!({"conversation_id": "room_6", "seq": 3, "truncated": true}));
    }
}
