//! Frames of the protocol, as a client sees them: commands out, replies and events in.
//!
//! Both formats carry the same maps with the same keys; JSON goes in text frames, `MessagePack` in binary ones.
//!
//! Invariants:
//! - reading is one pass without an intermediate tree and borrows what it can. The harness shares its machine with the
//!   server under test, which lacks the CPU that the harness uses;
//! - an unknown key, or a known key with an unexpected type (`message` is text in an error, and may be a map in an
//!   event), never fails a frame. Otherwise a later, compatible server would look broken.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How frames are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Text frames.
    Json,
    /// Binary frames.
    Msgpack,
}

impl Format {
    /// The subprotocol to ask for.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "veza.v1.json",
            Self::Msgpack => "veza.v1.msgpack",
        }
    }

    /// Appends a command.
    pub fn encode<D: Serialize>(self, command: &ClientCommand<'_, D>, out: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Json => serde_json::to_writer(out, command).map_err(|error| error.to_string()),
            Self::Msgpack => rmp_serde::encode::write_named(out, command).map_err(|error| error.to_string()),
        }
    }

    /// Reads a message; the error describes its fault.
    pub fn decode(self, text: bool, payload: &[u8]) -> Result<ServerMessage<'_>, String> {
        match (self, text) {
            (Self::Json, true) => serde_json::from_slice(payload).map_err(|error| format!("not a frame: {error}")),
            (Self::Msgpack, false) => rmp_serde::from_slice(payload).map_err(|error| format!("not a frame: {error}")),
            (Self::Json, false) => Err("a binary frame on a JSON connection".to_owned()),
            (Self::Msgpack, true) => Err("a text frame on a MessagePack connection".to_owned()),
        }
    }
}

/// A command of the client.
#[derive(Serialize, Debug)]
pub struct ClientCommand<'a, D> {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The id that the reply repeats.
    pub id: CommandId<'a>,
    /// Its arguments.
    pub data: D,
}

/// The identifier of a command: the number of a send, or a word.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(untagged)]
pub enum CommandId<'a> {
    /// A send.
    Number(u64),
    /// Anything else.
    #[serde(borrow)]
    Word(Cow<'a, str>),
}

/// Arguments of `send_message`.
#[derive(Serialize, Debug)]
pub struct SendMessage<'a> {
    /// Its room.
    pub conversation_id: &'a str,
    /// The text.
    pub content: &'a str,
    /// The id by which the server recognises a repetition.
    pub client_message_id: &'a str,
}

/// Arguments of `resume`.
#[derive(Serialize, Debug)]
pub struct Resume<'a> {
    /// The last number seen of each conversation.
    pub cursors: BTreeMap<&'a str, u64>,
}

/// Arguments of `mark_read`.
#[derive(Serialize, Debug)]
pub struct MarkRead<'a> {
    /// Its kind.
    pub conversation_id: &'a str,
    /// Up to here.
    pub seq: u64,
}

/// Arguments of `typing`.
#[derive(Serialize, Debug)]
pub struct Typing<'a> {
    /// The conversation.
    pub conversation_id: &'a str,
}

/// Arguments of `get_history`.
#[derive(Serialize, Debug)]
pub struct GetHistory<'a> {
    /// Its kind.
    pub conversation_id: &'a str,
    /// Messages after this number; without it the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_seq: Option<u64>,
    /// Most messages.
    pub limit: u32,
}

/// A frame of the server: a reply or an event.
#[derive(Deserialize, Debug)]
pub struct ServerMessage<'a> {
    /// `ack`, `error`, or the event's name.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// Which command it answers.
    #[serde(borrow, default)]
    pub id: Option<CommandId<'a>>,
    /// The rest.
    #[serde(borrow, default)]
    pub data: Data<'a>,
}

/// Text that is borrowed if it has no escapes.
#[derive(Deserialize, Debug)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

/// A value of the wanted type, or anything else, which is skipped.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
pub enum Lenient<T> {
    /// The wanted type.
    Wanted(T),
    /// Something else.
    Other(IgnoredAny),
}

impl<T> Lenient<T> {
    /// The value, when it has the wanted type.
    pub fn wanted(self) -> Option<T> {
        match self {
            Self::Wanted(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}

/// All keys of `data` that the harness reads, of all frames.
#[derive(Deserialize, Default, Debug)]
#[serde(default)]
pub struct Data<'a> {
    /// The conversation.
    #[serde(borrow)]
    pub conversation_id: Option<Text<'a>>,
    /// Position in its log.
    pub seq: Option<u64>,
    /// The message.
    pub message_id: Option<u64>,
    /// Its text.
    #[serde(borrow)]
    pub content: Option<Text<'a>>,
    /// An ack: it was stored before.
    pub duplicate: bool,
    /// An error: its stable code.
    #[serde(borrow)]
    pub code: Option<Text<'a>>,
    /// The text of an error; in an event possibly the message itself.
    #[serde(borrow)]
    pub message: Option<MessageField<'a>>,
    /// When to retry, milliseconds.
    pub retry_after_ms: Option<u64>,
    /// `reset`: the head of the conversation.
    pub last_seq: Option<Lenient<u64>>,
    /// `welcome`: the conversations of the user.
    pub conversations: Option<Lenient<Vec<ConversationSummary>>>,
    /// `get_history`: its page.
    pub messages: Option<Lenient<Vec<HistoryMessage>>>,
    /// `get_history`: there is another page.
    pub has_more: bool,
}

/// `message` is text in an error; an event may nest the message under it.
#[derive(Deserialize, Debug)]
#[serde(untagged)]
pub enum MessageField<'a> {
    /// The text of an error.
    #[serde(borrow)]
    Text(Cow<'a, str>),
    /// The message of an event.
    Nested(HistoryMessage),
    /// Neither.
    Other(IgnoredAny),
}

/// A conversation in `welcome`.
#[derive(Deserialize, Debug, Clone)]
pub struct ConversationSummary {
    /// Its identifier.
    pub id: String,
    /// Its last sequence number.
    #[serde(default)]
    pub last_seq: u64,
}

/// A message as the history has it.
#[derive(Deserialize, Debug, Clone)]
pub struct HistoryMessage {
    /// Its id on the server.
    pub message_id: u64,
    /// Its position.
    pub seq: u64,
    /// Its text; absent when deleted.
    #[serde(default)]
    pub content: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The same value in both formats.
    fn both(value: &serde_json::Value) -> [(Format, Vec<u8>); 2] {
        let packed = rmp_serde::to_vec_named(value).expect("a value packs");
        [(Format::Json, value.to_string().into_bytes()), (Format::Msgpack, packed)]
    }

    fn decode(format: Format, bytes: &[u8]) -> ServerMessage<'_> {
        format.decode(format == Format::Json, bytes).expect("a frame")
    }

    #[test]
    fn commands_are_maps_with_the_same_keys_in_both_formats() {
        let command = ClientCommand {
            kind: "send_message",
            id: CommandId::Number(7),
            data: SendMessage { conversation_id: "room_1", content: "hi", client_message_id: "c" },
        };
        let expected = json!({"type": "send_message", "id": 7,
            "data": {"conversation_id": "room_1", "content": "hi", "client_message_id": "c"}});
        let mut text = Vec::new();
        Format::Json.encode(&command, &mut text).expect("it encodes");
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&text).expect("JSON"), expected);
        let mut bytes = Vec::new();
        Format::Msgpack.encode(&command, &mut bytes).expect("it encodes");
        assert_eq!(rmp_serde::from_slice::<serde_json::Value>(&bytes).expect("MessagePack"), expected);
    }

    #[test]
    fn acks_errors_and_events_are_read_in_both_formats() {
        let ack = json!({"type": "ack", "id": 7, "data": {"message_id": 5, "conversation_id": "room_1", "seq": 3,
            "created_at": "2025-01-01T00:00:00.000Z", "duplicate": true}});
        for (format, message) in both(&ack) {
            let frame = decode(format, &message);
            assert_eq!((frame.kind.as_ref(), frame.id), ("ack", Some(CommandId::Number(7))));
            assert_eq!((frame.data.message_id, frame.data.seq, frame.data.duplicate), (Some(5), Some(3), true));
        }
        let error = json!({"type": "error", "id": "resume-1", "data": {"code": "overloaded", "message": "Try later.",
            "retry_after_ms": 50, "details": {"anything": [1, 2]}}});
        for (format, message) in both(&error) {
            let frame = decode(format, &message);
            assert_eq!(frame.id, Some(CommandId::Word("resume-1".into())));
            assert!(matches!(frame.data.message, Some(MessageField::Text(words)) if words == "Try later."));
            assert_eq!(frame.data.retry_after_ms, Some(50));
        }
        let event = json!({"type": "message_created", "data": {"conversation_id": "room_1", "seq": 4, "message_id": 9,
            "content": "a \"quoted\" line\n", "sender": {"id": 1}, "mentions": [], "thread": null}});
        for (format, message) in both(&event) {
            let frame = decode(format, &message);
            assert_eq!(frame.data.content.expect("content").0, "a \"quoted\" line\n");
        }
    }

    #[test]
    fn accepts_keys_of_unexpected_types() {
        let odd = json!({"type": "ack", "id": null, "data": {"last_seq": {"room_1": 4}, "conversations": {"room_1": 4},
            "message": {"unrelated": true}, "messages": "none"}});
        for (format, message) in both(&odd) {
            let frame = decode(format, &message);
            assert!(frame.data.last_seq.expect("present").wanted().is_none());
            assert!(frame.data.conversations.expect("present").wanted().is_none());
        }
        for (format, message) in both(&json!({"type": "pong"})) {
            assert_eq!(decode(format, &message).kind, "pong");
        }
    }

    #[test]
    fn refuses_frames_of_the_wrong_type() {
        assert!(Format::Json.decode(false, &[0x80]).is_err());
        assert!(Format::Msgpack.decode(true, b"{}").is_err());
        assert!(Format::Json.decode(true, b"{").is_err());
    }
}
