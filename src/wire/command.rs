//! Commands: what a client can ask for, with every field checked.
//!
//! Adding a command is one variant, one row in [`Command::NAMES`] and one arm in `Command::read`.

use super::Format;
use super::json::JsonReader;
use super::msgpack;
use super::value::{Map, Value};
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, MAX_SAFE_INTEGER, MessageId, Seq, UserId};
use crate::limits as bounds;
use serde::Serialize;
use std::borrow::Cow;

/// A client's own name for a command, echoed in its reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(untagged)]
pub enum RequestId {
    /// Given as an integer.
    Integer(i64),
    /// Given as text, at most 128 bytes.
    Text(Box<str>),
}

/// What kind of conversation to create.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NewConversationKind {
    /// Two people; exists once per pair.
    Direct,
    /// A few people.
    Group,
    /// Anybody may find and join it.
    PublicRoom,
    /// By invitation.
    PrivateRoom,
}

/// Which part of a history to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryWindow {
    /// The newest messages.
    Newest,
    /// Messages with a smaller seq, the nearest ones.
    Before(Seq),
    /// Messages with a larger seq, the nearest ones.
    After(Seq),
    /// Messages on both sides of one.
    Around(MessageId),
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
    },
    GetHistory {
        conversation: ConversationId,
        window: HistoryWindow,
        limit: i64,
    },
    CreateConversation {
        kind: NewConversationKind,
        name: Option<Cow<'a, str>>,
        description: Option<Cow<'a, str>>,
        members: Vec<UserId>,
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
    JoinConversation {
        conversation: ConversationId,
    },
    LeaveConversation {
        conversation: ConversationId,
    },
    InviteMember {
        conversation: ConversationId,
        user: UserId,
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
    },
    MarkRead {
        conversation: ConversationId,
        seq: Seq,
    },
    Typing {
        conversation: ConversationId,
    },
    Ping,
}

/// A frame as far as it could be read.
#[derive(Debug)]
pub struct Parsed<'a> {
    /// The client's name for it, where one could be read.
    pub id: Option<RequestId>,
    /// The command, or why there is none.
    pub command: Result<Command<'a>, Refusal>,
}

impl Command<'_> {
    /// Every command's name, in the order of [`Command::index`].
    pub const NAMES: [&'static str; 15] = [
        "send_message",
        "get_history",
        "create_conversation",
        "list_conversations",
        "get_conversation",
        "list_members",
        "join_conversation",
        "leave_conversation",
        "invite_member",
        "subscribe",
        "unsubscribe",
        "resume",
        "mark_read",
        "typing",
        "ping",
    ];

    /// Position of the command's name in [`Command::NAMES`].
    #[must_use]
    pub fn index(&self) -> usize {
        match self {
            Self::SendMessage { .. } => 0,
            Self::GetHistory { .. } => 1,
            Self::CreateConversation { .. } => 2,
            Self::ListConversations { .. } => 3,
            Self::GetConversation { .. } => 4,
            Self::ListMembers { .. } => 5,
            Self::JoinConversation { .. } => 6,
            Self::LeaveConversation { .. } => 7,
            Self::InviteMember { .. } => 8,
            Self::Subscribe { .. } => 9,
            Self::Unsubscribe { .. } => 10,
            Self::Resume { .. } => 11,
            Self::MarkRead { .. } => 12,
            Self::Typing { .. } => 13,
            Self::Ping => 14,
        }
    }
}

/// Reads one frame.
pub fn parse<'a>(bytes: &'a mut [u8], format: Format, json: &mut JsonReader, limits: &bounds::Limits) -> Parsed<'a> {
    let value = match format {
        Format::Json => json.read(bytes),
        Format::MessagePack => msgpack::read(bytes),
    };
    let refused = |id, refusal| Parsed { id, command: Err(refusal) };
    let mut fields = match value {
        Ok(Value::Map(map)) => Fields { map, place: "" },
        Ok(other) => {
            let words = format!("a command is a map {{\"type\", \"id\", \"data\"}}, this is {}", other.kind());
            return refused(None, Refusal::bad_request(words));
        }
        Err(words) => return refused(None, Refusal::bad_request(words)),
    };
    let id = match fields.take("id") {
        None | Some(Value::Null) => None,
        Some(Value::Integer(number)) => Some(RequestId::Integer(number)),
        Some(Value::Text(text)) if text.len() <= bounds::COMMAND_ID_BYTES_MAX => {
            Some(RequestId::Text(text.into_owned().into()))
        }
        Some(other) => {
            let words = format!("id: must be an integer or a string of at most 128 bytes, not {}", other.kind());
            return refused(None, Refusal::bad_request(words));
        }
    };
    let name = match fields.required_text("type") {
        Ok(name) => name,
        Err(refusal) => return refused(id, refusal),
    };
    let data = match fields.take("data") {
        Some(Value::Map(map)) => Fields { map, place: "data." },
        None | Some(Value::Null) => Fields { map: Vec::new(), place: "data." },
        Some(other) => {
            return refused(id, Refusal::bad_request(format!("data: must be a map, not {}", other.kind())));
        }
    };
    Parsed { id, command: Command::read(&name, data, limits) }
}

impl<'a> Command<'a> {
    fn read(name: &str, mut data: Fields<'a>, limits: &bounds::Limits) -> Result<Self, Refusal> {
        let data = &mut data;
        Ok(match name {
            "send_message" => Self::SendMessage {
                conversation: data.conversation()?,
                content: data.content(limits.max_message_length)?,
                parent: data.optional_id("parent_message_id")?.map(MessageId),
                message_type: match data.optional_text("message_type")?.as_deref() {
                    None | Some("text") => "text",
                    Some("image") => "image",
                    Some("file") => "file",
                    Some(_) => return Err(Refusal::bad_request("data.message_type: must be text, image or file")),
                },
                client_message_id: data.client_message_id()?,
            },
            "get_history" => Self::GetHistory {
                conversation: data.conversation()?,
                window: data.history_window()?,
                limit: data.limit(bounds::HISTORY_PAGE_DEFAULT, bounds::HISTORY_PAGE_MAX)?,
            },
            "create_conversation" => data.new_conversation()?,
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
            "join_conversation" => Self::JoinConversation { conversation: data.conversation()? },
            "leave_conversation" => Self::LeaveConversation { conversation: data.conversation()? },
            "invite_member" => Self::InviteMember {
                conversation: data.conversation()?,
                user: UserId(data.required_integer("user_id", 1, MAX_SAFE_INTEGER)?),
            },
            "subscribe" => Self::Subscribe {
                conversation: data.conversation()?,
                after: data.optional_integer("after_seq", 0, MAX_SAFE_INTEGER)?.map(Seq),
            },
            "unsubscribe" => Self::Unsubscribe { conversation: data.conversation()? },
            "resume" => Self::Resume { cursors: data.cursors()? },
            "mark_read" => Self::MarkRead {
                conversation: data.conversation()?,
                seq: Seq(data.required_integer("seq", 0, MAX_SAFE_INTEGER)?),
            },
            "typing" => Self::Typing { conversation: data.conversation()? },
            "ping" => Self::Ping,
            unknown => {
                let shown: String = unknown.chars().take(40).collect();
                return Err(Refusal::new(ErrorCode::UnknownCommand, format!("type: there is no command {shown:?}")));
            }
        })
    }
}

/// The fields of one map, taken out one by one; errors name the place.
struct Fields<'a> {
    map: Map<'a>,
    place: &'static str,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.map.iter().position(|(key, _)| key == name)?;
        Some(self.map.swap_remove(at).1)
    }

    fn wrong(&self, name: &str, expected: &str, found: &Value<'_>) -> Refusal {
        Refusal::bad_request(format!("{}{name}: must be {expected}, not {}", self.place, found.kind()))
    }

    fn missing(&self, name: &str) -> Refusal {
        Refusal::bad_request(format!("{}{name}: is missing", self.place))
    }

    fn optional_text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            // PostgreSQL cannot store U+0000, and no text that people write has it.
            Some(Value::Text(text)) if text.contains('\0') => {
                Err(Refusal::bad_request(format!("{}{name}: must not contain U+0000", self.place)))
            }
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a string", &other)),
        }
    }

    fn required_text(&mut self, name: &str) -> Result<Cow<'a, str>, Refusal> {
        self.optional_text(name)?.ok_or_else(|| self.missing(name))
    }

    fn optional_integer(&mut self, name: &str, min: i64, max: i64) -> Result<Option<i64>, Refusal> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Integer(number)) if (min..=max).contains(&number) => Ok(Some(number)),
            Some(Value::Integer(_)) => {
                Err(Refusal::bad_request(format!("{}{name}: must be between {min} and {max}", self.place)))
            }
            Some(other) => Err(self.wrong(name, "an integer", &other)),
        }
    }

    fn required_integer(&mut self, name: &str, min: i64, max: i64) -> Result<i64, Refusal> {
        self.optional_integer(name, min, max)?.ok_or_else(|| self.missing(name))
    }

    fn optional_id(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        self.optional_integer(name, 1, MAX_SAFE_INTEGER)
    }

    fn limit(&mut self, default: i64, max: i64) -> Result<i64, Refusal> {
        Ok(self.optional_integer("limit", 1, max)?.unwrap_or(default))
    }

    fn conversation(&mut self) -> Result<ConversationId, Refusal> {
        conversation(&self.required_text("conversation_id")?, "data.conversation_id")
    }

    fn bounded_text(&mut self, name: &str, chars_max: usize) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.optional_text(name)? {
            Some(text) if text.chars().count() > chars_max => Err(Refusal::new(
                ErrorCode::TooLarge,
                format!("{}{name}: at most {chars_max} characters are allowed", self.place),
            )),
            other => Ok(other),
        }
    }

    fn content(&mut self, chars_max: usize) -> Result<Cow<'a, str>, Refusal> {
        let content = self.bounded_text("content", chars_max)?.ok_or_else(|| self.missing("content"))?;
        if content.trim().is_empty() {
            return Err(Refusal::bad_request("data.content: must not be empty"));
        }
        Ok(content)
    }

    fn client_message_id(&mut self) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.optional_text("client_message_id")? {
            None => Ok(None),
            Some(text) if text.is_empty() || text.len() > bounds::CLIENT_MESSAGE_ID_BYTES_MAX => {
                Err(Refusal::bad_request("data.client_message_id: must be 1 to 64 bytes"))
            }
            // Control characters are the server's own: it keys messages sent without an id with them.
            Some(text) if text.chars().any(char::is_control) => {
                Err(Refusal::bad_request("data.client_message_id: must not contain control characters"))
            }
            Some(text) => Ok(Some(text)),
        }
    }

    fn history_window(&mut self) -> Result<HistoryWindow, Refusal> {
        let before = self.optional_integer("before_seq", 0, MAX_SAFE_INTEGER)?;
        let after = self.optional_integer("after_seq", 0, MAX_SAFE_INTEGER)?;
        let around = self.optional_id("around_message_id")?;
        match (before, after, around) {
            (None, None, None) => Ok(HistoryWindow::Newest),
            (Some(seq), None, None) => Ok(HistoryWindow::Before(Seq(seq))),
            (None, Some(seq), None) => Ok(HistoryWindow::After(Seq(seq))),
            (None, None, Some(id)) => Ok(HistoryWindow::Around(MessageId(id))),
            _ => Err(Refusal::bad_request("data: give at most one of before_seq, after_seq and around_message_id")),
        }
    }

    fn new_conversation(&mut self) -> Result<Command<'a>, Refusal> {
        let kind = match self.required_text("kind")?.as_ref() {
            "direct" => NewConversationKind::Direct,
            "group" => NewConversationKind::Group,
            "public_room" => NewConversationKind::PublicRoom,
            "private_room" => NewConversationKind::PrivateRoom,
            _ => {
                return Err(Refusal::bad_request("data.kind: must be direct, group, public_room or private_room"));
            }
        };
        let name = self
            .bounded_text("name", bounds::CONVERSATION_NAME_CHARS_MAX)?
            .map(|name| Cow::<str>::Owned(name.trim().to_owned()))
            .filter(|name| !name.is_empty());
        let description = self.bounded_text("description", bounds::CONVERSATION_DESCRIPTION_CHARS_MAX)?;
        let members = self.member_ids()?;
        match kind {
            NewConversationKind::Direct if name.is_some() || description.is_some() => {
                Err(Refusal::bad_request("data.name: a direct conversation has no name or description"))
            }
            NewConversationKind::Direct if members.len() != 1 => {
                Err(Refusal::bad_request("data.member_ids: a direct conversation needs exactly one other user"))
            }
            NewConversationKind::PublicRoom | NewConversationKind::PrivateRoom if name.is_none() => {
                Err(Refusal::bad_request("data.name: a room needs a name"))
            }
            _ => Ok(Command::CreateConversation { kind, name, description, members }),
        }
    }

    fn member_ids(&mut self) -> Result<Vec<UserId>, Refusal> {
        let list = match self.take("member_ids") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::List(list)) if list.len() <= bounds::CREATE_MEMBERS_MAX => list,
            Some(Value::List(_)) => {
                return Err(Refusal::bad_request("data.member_ids: at most 100 members can be added at once"));
            }
            Some(other) => return Err(self.wrong("member_ids", "a list of user ids", &other)),
        };
        list.iter()
            .map(|value| match value {
                Value::Integer(id @ 1..=MAX_SAFE_INTEGER) => Ok(UserId(*id)),
                other => Err(self.wrong("member_ids", "a list of user ids", other)),
            })
            .collect()
    }

    fn cursors(&mut self) -> Result<Vec<(ConversationId, Seq)>, Refusal> {
        let map = match self.take("cursors") {
            Some(Value::Map(map)) if map.len() <= bounds::RESUME_CONVERSATIONS_MAX => map,
            Some(Value::Map(_)) => {
                return Err(Refusal::bad_request(
                    "data.cursors: at most 1000 conversations; send several resume commands",
                ));
            }
            Some(other) => return Err(self.wrong("cursors", "a map of conversation id to seq", &other)),
            None => return Err(self.missing("cursors")),
        };
        map.into_iter()
            .map(|(key, value)| match value {
                Value::Integer(seq @ 0..=MAX_SAFE_INTEGER) => Ok((conversation(&key, "data.cursors")?, Seq(seq))),
                other => Err(self.wrong("cursors", "a map of conversation id to seq", &other)),
            })
            .collect()
    }
}

fn conversation(text: &str, place: &str) -> Result<ConversationId, Refusal> {
    ConversationId::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        Refusal::new(ErrorCode::NotFound, format!("{place}: there is no conversation {shown:?}"))
    })
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
        let text = r#"{"type":"send_message","id":7,"data":{"conversation_id":"room_6","content":"h\u00e9","client_message_id":"c"}}"#;
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
    fn errors_say_what_and_keep_the_id() {
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
        assert_eq!(Command::NAMES[Command::Ping.index()], "ping");
        let resume = Command::Resume { cursors: vec![] };
        assert_eq!(Command::NAMES[resume.index()], "resume");
    }
}
