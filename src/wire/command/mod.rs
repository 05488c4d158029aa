//! Commands of clients, with every field checked.
//!
//! Most commands are a row in one of two tables: [`changes`] are executed by `mutate_<name>` in PostgreSQL, [`lookups`]
//! by `read_<name>`. docs/adding-a-command.md shows how. A command that needs the shard itself is a variant of
//! [`Command`] with an arm in `Command::read`.

mod arguments;
pub mod changes;
mod fields;
pub mod lookups;

pub use arguments::{Arguments, ConversationRef, HistoryWindow};

use self::changes::CHANGES;
use self::fields::Fields;
use self::lookups::LOOKUPS;
use super::Format;
use super::json::JsonReader;
use super::msgpack;
use super::value::Value;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{CommandId, ConversationId, FileId, MAX_SAFE_INTEGER, MessageId, Seq, UserId};
use crate::limits as bounds;
use serde::Serialize;
use std::borrow::Cow;

/// The id that a client gives a command, echoed in its reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// Given as an integer.
    Integer(i64),
    /// Given as text, at most 128 bytes.
    Text(Box<str>),
}

/// A command whose fields are in range. Text borrows from the receive buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the fields are the wire contract's
pub enum Command<'a> {
    SendMessage {
        conversation: ConversationId,
        content: Cow<'a, str>,
        parent: Option<MessageId>,
        message_type: &'static str,
        client_message_id: Option<Cow<'a, str>>,
        files: Vec<FileId>,
    },
    GetHistory {
        conversation: ConversationId,
        window: HistoryWindow,
        limit: i64,
    },
    ListConversations {
        cursor: i64,
        limit: i64,
    },
    GetConversation {
        conversation: ConversationId,
    },
    ListMembers {
        conversation: ConversationId,
        cursor: i64,
        limit: i64,
    },
    Subscribe {
        conversation: ConversationId,
        after: Option<Seq>,
    },
    Unsubscribe {
        conversation: ConversationId,
    },
    Resume {
        cursors: Vec<(ConversationId, Seq)>,
        /// Keys of `cursors` that cannot be the id of a conversation.
        impossible: Vec<String>,
    },
    Typing {
        conversation: ConversationId,
    },
    SetPresence {
        status: &'static str,
        text: Option<Cow<'a, str>>,
    },
    GetPresence {
        users: Vec<UserId>,
    },
    /// A slash command of a bot.
    RunCommand {
        conversation: ConversationId,
        command: Cow<'a, str>,
        text: Cow<'a, str>,
        parent: Option<MessageId>,
    },
    /// The answer of a bot.
    AnswerCommand {
        invocation: Cow<'a, str>,
        is_public: bool,
        content: Cow<'a, str>,
    },
    Ping,
    /// A change other than a new message: a row of [`changes::CHANGES`].
    Change {
        row: usize,
        conversation: ConversationRef,
        arguments: Arguments,
    },
    /// A look-up: a row of [`lookups::LOOKUPS`].
    Lookup {
        row: usize,
        arguments: Arguments,
    },
}

/// The result of reading a frame.
#[derive(Debug)]
pub struct Parsed<'a> {
    /// The id of the command, if one could be read.
    pub id: Option<RequestId>,
    /// The command, or the refusal.
    pub command: Result<Command<'a>, Refusal>,
}

impl Command<'_> {
    /// Every command's name, in the order of [`Command::id`].
    pub const NAMES: [&'static str; OWN.len() + CHANGES.len() + LOOKUPS.len()] = {
        let mut names = [""; OWN.len() + CHANGES.len() + LOOKUPS.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = if at < OWN.len() {
                OWN[at]
            } else if at < OWN.len() + CHANGES.len() {
                CHANGES[at - OWN.len()].name
            } else {
                LOOKUPS[at - OWN.len() - CHANGES.len()].name
            };
            at += 1;
        }
        names
    };

    /// Position of the command's name in [`Command::NAMES`].
    #[must_use]
    pub fn id(&self) -> CommandId {
        let index = match self {
            Self::SendMessage { .. } => 0,
            Self::GetHistory { .. } => 1,
            Self::ListConversations { .. } => 2,
            Self::GetConversation { .. } => 3,
            Self::ListMembers { .. } => 4,
            Self::Subscribe { .. } => 5,
            Self::Unsubscribe { .. } => 6,
            Self::Resume { .. } => 7,
            Self::Typing { .. } => 8,
            Self::Ping => 9,
            Self::SetPresence { .. } => 10,
            Self::GetPresence { .. } => 11,
            Self::RunCommand { .. } => 12,
            Self::AnswerCommand { .. } => 13,
            Self::Change { row, .. } => OWN.len() + row,
            Self::Lookup { row, .. } => OWN.len() + CHANGES.len() + row,
        };
        CommandId(index as u16)
    }
}

/// Commands with an arm of their own in `Command::read`, in the order of [`Command::id`].
const OWN: [&str; 14] = [
    "send_message",
    "get_history",
    "list_conversations",
    "get_conversation",
    "list_members",
    "subscribe",
    "unsubscribe",
    "resume",
    "typing",
    "ping",
    "set_presence",
    "get_presence",
    "run_command",
    "answer_command",
];

/// Reads one frame.
pub fn parse<'a>(bytes: &'a mut [u8], format: Format, json: &mut JsonReader, limits: &bounds::Limits) -> Parsed<'a> {
    let value = match format {
        Format::Json => json.read(bytes),
        Format::MessagePack => msgpack::read(bytes),
    };
    let refused = |id, refusal| Parsed { id, command: Err(refusal) };
    let mut fields = match value {
        Ok(Value::Map(map)) => Fields { map, prefix: "" },
        Ok(other) => {
            let detail = format!("A command must be a map {{\"type\", \"id\", \"data\"}}, not {}.", other.kind());
            return refused(None, Refusal::bad_request(detail));
        }
        Err(reason) => return refused(None, Refusal::bad_request(reason)),
    };
    let id = match fields.remove("id") {
        None | Some(Value::Null) => None,
        Some(Value::Integer(number)) => Some(RequestId::Integer(number)),
        Some(Value::Text(text)) if text.len() <= bounds::COMMAND_ID_BYTES_MAX => {
            Some(RequestId::Text(text.into_owned().into()))
        }
        Some(other) => {
            let detail = format!("id: Must be an integer or a string of at most 128 bytes, not {}.", other.kind());
            return refused(None, Refusal::bad_request(detail));
        }
    };
    let name = match fields.required_text("type") {
        Ok(name) => name,
        Err(refusal) => return refused(id, refusal),
    };
    let data = match fields.remove("data") {
        Some(Value::Map(map)) => Fields { map, prefix: "data." },
        None | Some(Value::Null) => Fields { map: Vec::new(), prefix: "data." },
        Some(other) => {
            return refused(id, Refusal::bad_request(format!("data: Must be a map, not {}.", other.kind())));
        }
    };
    Parsed { id, command: Command::read(&name, data, limits) }
}

impl<'a> Command<'a> {
    fn read(name: &str, mut data: Fields<'a>, limits: &bounds::Limits) -> Result<Self, Refusal> {
        let data = &mut data;
        Ok(match name {
            "send_message" => {
                let conversation = data.conversation()?;
                let files = data.files()?;
                let most = limits.max_message_length;
                let content = if files.is_empty() { data.content(most)? } else { data.caption(most)? };
                Self::SendMessage {
                    conversation,
                    content,
                    files,
                    parent: data.optional_id("parent_message_id")?.map(MessageId),
                    message_type: match data.optional_text("message_type")?.as_deref() {
                        None | Some("text") => "text",
                        Some("image") => "image",
                        Some("file") => "file",
                        Some(_) => return Err(Refusal::bad_request("data.message_type: Must be text, image or file.")),
                    },
                    client_message_id: data.client_message_id()?,
                }
            }
            "get_history" => Self::GetHistory {
                conversation: data.conversation()?,
                window: data.history_window()?,
                limit: data.limit(bounds::HISTORY_PAGE_DEFAULT, bounds::HISTORY_PAGE_MAX)?,
            },
            "list_conversations" => Self::ListConversations {
                cursor: data.optional_integer("cursor", 0, MAX_SAFE_INTEGER)?.unwrap_or(0),
                limit: data.limit(50, bounds::LIST_PAGE_MAX)?,
            },
            "get_conversation" => Self::GetConversation { conversation: data.conversation()? },
            "list_members" => Self::ListMembers {
                conversation: data.conversation()?,
                cursor: data.optional_integer("cursor", 0, MAX_SAFE_INTEGER)?.unwrap_or(0),
                limit: data.limit(50, bounds::LIST_PAGE_MAX)?,
            },
            "subscribe" => Self::Subscribe {
                conversation: data.conversation()?,
                after: data.optional_integer("after_seq", 0, MAX_SAFE_INTEGER)?.map(Seq),
            },
            "unsubscribe" => Self::Unsubscribe { conversation: data.conversation()? },
            "resume" => {
                let fields::Cursors { known, impossible } = data.cursors()?;
                Self::Resume { cursors: known, impossible }
            }
            "typing" => Self::Typing { conversation: data.conversation()? },
            "ping" => Self::Ping,
            "set_presence" => Self::SetPresence {
                status: match data.required_text("status")?.as_ref() {
                    "online" => "online",
                    "away" => "away",
                    "busy" => "busy",
                    "invisible" => "invisible",
                    _ => return Err(Refusal::bad_request("data.status: Must be online, away, busy or invisible.")),
                },
                text: data.name("status_text", bounds::STATUS_TEXT_CHARS_MAX)?.map(Cow::Owned),
            },
            "run_command" => Self::RunCommand {
                conversation: data.conversation()?,
                command: {
                    let name = data.bounded_text("command", bounds::COMMAND_NAME_CHARS_MAX)?;
                    let name = name.filter(|name| !name.is_empty() && !name.contains('\0'));
                    name.ok_or_else(|| Refusal::bad_request("data.command: Must be the name of a command."))?
                },
                text: data.bounded_text("text", limits.max_message_length)?.unwrap_or_default(),
                parent: data.optional_id("parent_message_id")?.map(MessageId),
            },
            "answer_command" => Self::AnswerCommand {
                invocation: data.required_text("invocation_id")?,
                is_public: match data.required_text("visibility")?.as_ref() {
                    "public" => true,
                    "private" => false,
                    _ => return Err(Refusal::bad_request("data.visibility: Must be private or public.")),
                },
                content: data.content(limits.max_message_length)?,
            },
            "get_presence" => Self::GetPresence { users: data.user_ids("user_ids", bounds::WATCHED_MAX)? },
            other => match (changes::row(other), lookups::row(other)) {
                (Some(row), _) => {
                    let (conversation, arguments) = (CHANGES[row].read)(data, limits)?;
                    Self::Change { row, conversation, arguments }
                }
                (None, Some(row)) => Self::Lookup { row, arguments: (LOOKUPS[row].read)(data)? },
                (None, None) => return Err(unknown(other)),
            },
        })
    }
}

fn unknown(name: &str) -> Refusal {
    let shown: String = name.chars().take(40).collect();
    Refusal::new(ErrorCode::UnknownCommand, format!("type: There is no command {shown:?}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> (Option<RequestId>, Result<String, ErrorCode>) {
        let mut bytes = text.as_bytes().to_vec();
        let parsed = parse(&mut bytes, Format::Json, &mut JsonReader::default(), &bounds::Limits::default());
        (parsed.id, parsed.command.map(|c| format!("{c:?}")).map_err(|r| r.code))
    }

    #[test]
    fn both_formats_give_the_same_command() {
        let text = concat!(
            r#"{"type":"send_message","id":7,"#,
            r#""data":{"conversation_id":"room_6","content":"h\u00e9","client_message_id":"c"}}"#
        );
        let mut packed = Vec::new();
        msgpack::write(&serde_json::from_str::<serde_json::Value>(text).unwrap(), &mut packed).unwrap();
        let limits = bounds::Limits::default();
        let mut reader = JsonReader::default();
        let mut json = text.as_bytes().to_vec();
        let a = parse(&mut json, Format::Json, &mut reader, &limits);
        let mut other = JsonReader::default();
        let b = parse(&mut packed, Format::MessagePack, &mut other, &limits);
        assert_eq!((a.id, a.command.unwrap()), (b.id, b.command.unwrap()));
    }

    #[test]
    fn errors_have_a_reason_and_keep_the_id() {
        for (text, code) in [
            (r#"{"id":1,"type":"nope"}"#, ErrorCode::UnknownCommand),
            (r#"{"id":1}"#, ErrorCode::BadRequest),
            (r#"{"id":1,"type":"send_message","data":[]}"#, ErrorCode::BadRequest),
            (r#"{"id":1,"type":"send_message","data":{"conversation_id":"room_6"}}"#, ErrorCode::BadRequest),
            (
                r#"{"id":1,"type":"send_message","data":{"conversation_id":"room_6","content":"  "}}"#,
                ErrorCode::BadRequest,
            ),
            (
                r#"{"id":1,"type":"send_message","data":{"conversation_id":"room_5","content":"a"}}"#,
                ErrorCode::NotFound,
            ),
            (
                r#"{"id":1,"type":"send_message","data":{"conversation_id":"room_6","content":"a\u0000"}}"#,
                ErrorCode::BadRequest,
            ),
            (r#"{"id":1,"type":"get_history","data":{"conversation_id":"room_6","limit":201}}"#, ErrorCode::BadRequest),
            (r#"{"id":1,"type":"create_conversation","data":{"kind":"public_room"}}"#, ErrorCode::BadRequest),
        ] {
            assert_eq!(json(text), (Some(RequestId::Integer(1)), Err(code)), "{text}");
        }
        assert_eq!(json("[]"), (None, Err(ErrorCode::BadRequest)));
        let long = format!(
            r#"{{"id":1,"type":"send_message","data":{{"conversation_id":"room_6","content":"{}"}}}}"#,
            "é".repeat(4_001)
        );
        assert_eq!(json(&long).1, Err(ErrorCode::TooLarge));
    }

    #[test]
    fn names_and_indices_agree() {
        let name_of = |command: &Command<'_>| Command::NAMES[usize::from(command.id().0)];
        assert_eq!(name_of(&Command::Ping), "ping");
        let resume = Command::Resume { cursors: vec![], impossible: vec![] };
        assert_eq!(name_of(&resume), "resume");
        let names: std::collections::BTreeSet<_> = Command::NAMES.iter().collect();
        assert_eq!(names.len(), Command::NAMES.len(), "no name occurs twice");
        for name in Command::NAMES {
            let text =
                format!(r#"{{"type":"{name}","data":{{"conversation_id":"room_6","message_id":1,"content":"a"}}}}"#);
            let mut bytes = text.into_bytes();
            let parsed = parse(&mut bytes, Format::Json, &mut JsonReader::default(), &bounds::Limits::default());
            match parsed.command {
                Ok(command) => assert_eq!(name_of(&command), name),
                Err(refusal) => assert_eq!(refusal.code, ErrorCode::BadRequest, "{name} is known: {refusal}"),
            }
        }
    }
}
