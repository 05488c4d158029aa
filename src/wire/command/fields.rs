//! Reads the fields of a command: each has its type and is within its bounds, or the refusal names it.

use super::arguments::HistoryWindow;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, FileId, MAX_SAFE_INTEGER, MessageId, Seq, UserId};
use crate::limits as bounds;
use crate::text::{self, Shape, TextFault};
use crate::wire::value::{Map, Value};
use std::borrow::Cow;

/// The cursors of `resume`, and the keys that cannot be the id of a conversation.
pub(super) struct Cursors {
    pub(super) known: Vec<(ConversationId, Seq)>,
    pub(super) impossible: Vec<String>,
}

/// The fields of one map, removed one by one; errors begin with the prefix and the name of the field.
pub(super) struct Fields<'a> {
    pub(super) map: Map<'a>,
    pub(super) prefix: &'static str,
}

impl<'a> Fields<'a> {
    pub(super) fn remove(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.map.iter().position(|(key, _)| key == name)?;
        Some(self.map.swap_remove(at).1)
    }

    pub(super) fn wrong(&self, name: &str, expected: &str, found: &Value<'_>) -> Refusal {
        Refusal::bad_request(format!("{}{name}: Must be {expected}, not {}.", self.prefix, found.kind()))
    }

    pub(super) fn missing(&self, name: &str) -> Refusal {
        Refusal::bad_request(format!("{}{name}: This field is missing.", self.prefix))
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.remove(name) {
            None | Some(Value::Null) => Ok(None),
            // PostgreSQL cannot store U+0000.
            Some(Value::Text(text)) if text.contains('\0') => {
                Err(Refusal::bad_request(format!("{}{name}: Must not contain U+0000.", self.prefix)))
            }
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(name, "a string", &other)),
        }
    }

    pub(super) fn required_text(&mut self, name: &str) -> Result<Cow<'a, str>, Refusal> {
        self.optional_text(name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn optional_integer(&mut self, name: &str, min: i64, max: i64) -> Result<Option<i64>, Refusal> {
        match self.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Integer(number)) if (min..=max).contains(&number) => Ok(Some(number)),
            Some(Value::Integer(_)) => {
                Err(Refusal::bad_request(format!("{}{name}: Must be between {min} and {max}.", self.prefix)))
            }
            Some(other) => Err(self.wrong(name, "an integer", &other)),
        }
    }

    pub(super) fn required_integer(&mut self, name: &str, min: i64, max: i64) -> Result<i64, Refusal> {
        self.optional_integer(name, min, max)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn optional_id(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        self.optional_integer(name, 1, MAX_SAFE_INTEGER)
    }

    pub(super) fn limit(&mut self, default: i64, max: i64) -> Result<i64, Refusal> {
        Ok(self.optional_integer("limit", 1, max)?.unwrap_or(default))
    }

    pub(super) fn required_bool(&mut self, name: &str) -> Result<bool, Refusal> {
        match self.remove(name) {
            Some(Value::Bool(value)) => Ok(value),
            None | Some(Value::Null) => Err(self.missing(name)),
            Some(other) => Err(self.wrong(name, "a boolean", &other)),
        }
    }

    /// Whether the field is present, even as `null`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.map.iter().any(|(key, _)| key == name)
    }

    pub(super) fn required_id(&mut self, name: &str) -> Result<i64, Refusal> {
        self.required_integer(name, 1, MAX_SAFE_INTEGER)
    }

    pub(super) fn user_ids(&mut self, name: &'static str, most: usize) -> Result<Vec<UserId>, Refusal> {
        let list = match self.remove(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::List(list)) if list.len() <= most => list,
            Some(Value::List(_)) => {
                return Err(Refusal::bad_request(format!(
                    "{}{name}: At most {most} users are allowed at once. Send several commands.",
                    self.prefix
                )));
            }
            Some(other) => return Err(self.wrong(name, "a list of user ids", &other)),
        };
        list.iter()
            .map(|value| match value {
                Value::Integer(id @ 1..=MAX_SAFE_INTEGER) => Ok(UserId(*id)),
                other => Err(self.wrong(name, "a list of user ids", other)),
            })
            .collect()
    }

    pub(super) fn optional_conversation(&mut self) -> Result<Option<ConversationId>, Refusal> {
        self.optional_text("conversation_id")?.map(|text| conversation(&text, "data.conversation_id")).transpose()
    }

    pub(super) fn conversation(&mut self) -> Result<ConversationId, Refusal> {
        conversation(&self.required_text("conversation_id")?, "data.conversation_id")
    }

    pub(super) fn bounded_text(&mut self, name: &str, chars_max: usize) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.optional_text(name)? {
            Some(text) if text.chars().count() > chars_max => Err(Refusal::new(
                ErrorCode::TooLarge,
                format!("{}{name}: At most {chars_max} characters are allowed. Shorten the text.", self.prefix),
            )),
            other => Ok(other),
        }
    }

    /// A text of at most `chars_max` characters that passes [`text::check`].
    pub(super) fn written_text(
        &mut self,
        name: &str,
        chars_max: usize,
        shape: Shape,
    ) -> Result<Option<Cow<'a, str>>, Refusal> {
        let written = self.bounded_text(name, chars_max)?;
        if let Some(written) = &written {
            text::check(written, shape).map_err(|fault| self.fault(name, fault))?;
        }
        Ok(written)
    }

    /// A name: a visible text on one line, without space around it. A blank name counts as absent.
    pub(super) fn name(&mut self, name: &str, chars_max: usize) -> Result<Option<String>, Refusal> {
        let Some(written) = self.bounded_text(name, chars_max)? else { return Ok(None) };
        let written = written.trim();
        if written.is_empty() {
            return Ok(None);
        }
        text::check_visible(written, Shape::Line).map_err(|fault| self.fault(name, fault))?;
        Ok(Some(written.to_owned()))
    }

    fn fault(&self, name: &str, fault: TextFault) -> Refusal {
        Refusal::bad_request(format!("{}{name}: {fault}", self.prefix))
    }

    /// The text of a message. The shard checks its characters, because that filter can be switched off.
    pub(super) fn content(&mut self, chars_max: usize) -> Result<Cow<'a, str>, Refusal> {
        let content = self.bounded_text("content", chars_max)?.ok_or_else(|| self.missing("content"))?;
        if content.trim().is_empty() {
            return Err(Refusal::bad_request("data.content: Must not be empty."));
        }
        if !text::is_visible(&content) {
            return Err(self.fault("content", TextFault::Invisible));
        }
        Ok(content)
    }

    /// The text beside the files of a message: it may be missing or empty.
    pub(super) fn caption(&mut self, chars_max: usize) -> Result<Cow<'a, str>, Refusal> {
        let is_empty = |(key, value): &(_, Value<'a>)| match value {
            Value::Null => *key == "content",
            Value::Text(text) => *key == "content" && text.trim().is_empty(),
            _ => false,
        };
        if !self.has("content") || self.map.iter().any(is_empty) {
            self.remove("content");
            return Ok(Cow::Borrowed(""));
        }
        self.content(chars_max)
    }

    /// `attachments`: different files.
    pub(super) fn files(&mut self) -> Result<Vec<FileId>, Refusal> {
        let list = match self.remove("attachments") {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::List(list)) => list,
            Some(other) => return Err(self.wrong("attachments", "a list of file ids", &other)),
        };
        if list.len() > bounds::ATTACHMENTS_MAX {
            let most = bounds::ATTACHMENTS_MAX;
            let message = format!("data.attachments: At most {most} files are allowed. Send several messages.");
            return Err(Refusal::bad_request(message));
        }
        let mut files = Vec::with_capacity(list.len());
        for value in &list {
            match value {
                Value::Integer(id @ 1..=MAX_SAFE_INTEGER) if !files.contains(&FileId(*id)) => files.push(FileId(*id)),
                Value::Integer(1..=MAX_SAFE_INTEGER) => {
                    return Err(Refusal::bad_request("data.attachments: A file is in the list twice."));
                }
                other => return Err(self.wrong("attachments", "a list of file ids", other)),
            }
        }
        Ok(files)
    }

    pub(super) fn client_message_id(&mut self) -> Result<Option<Cow<'a, str>>, Refusal> {
        match self.optional_text("client_message_id")? {
            None => Ok(None),
            Some(text) if text.is_empty() || text.len() > bounds::CLIENT_MESSAGE_ID_BYTES_MAX => {
                Err(Refusal::bad_request("data.client_message_id: Must be 1 to 64 bytes."))
            }
            // Reserved for the server, which generates such ids for messages without one.
            Some(text) if text.chars().any(char::is_control) => {
                Err(Refusal::bad_request("data.client_message_id: Must not contain control characters."))
            }
            Some(text) => Ok(Some(text)),
        }
    }

    pub(super) fn history_window(&mut self) -> Result<HistoryWindow, Refusal> {
        let before = self.optional_integer("before_seq", 0, MAX_SAFE_INTEGER)?;
        let after = self.optional_integer("after_seq", 0, MAX_SAFE_INTEGER)?;
        let around = self.optional_id("around_message_id")?;
        match (before, after, around) {
            (None, None, None) => Ok(HistoryWindow::Newest),
            (Some(seq), None, None) => Ok(HistoryWindow::Before(Seq(seq))),
            (None, Some(seq), None) => Ok(HistoryWindow::After(Seq(seq))),
            (None, None, Some(id)) => Ok(HistoryWindow::Around(MessageId(id))),
            _ => Err(Refusal::bad_request("data: Set at most one of before_seq, after_seq and around_message_id.")),
        }
    }

    pub(super) fn cursors(&mut self) -> Result<Cursors, Refusal> {
        let map = match self.remove("cursors") {
            Some(Value::Map(map)) if map.len() <= bounds::RESUME_CONVERSATIONS_MAX => map,
            Some(Value::Map(_)) => {
                return Err(Refusal::bad_request(
                    "data.cursors: At most 1000 conversations are allowed. Send several resume commands.",
                ));
            }
            Some(other) => return Err(self.wrong("cursors", "a map of conversation id to seq", &other)),
            None => return Err(self.missing("cursors")),
        };
        let mut cursors = Cursors { known: Vec::with_capacity(map.len()), impossible: Vec::new() };
        for (key, value) in map {
            match (ConversationId::parse(&key), value) {
                (Some(conversation), Value::Integer(seq @ 0..=MAX_SAFE_INTEGER)) => {
                    cursors.known.push((conversation, Seq(seq)));
                }
                (None, Value::Integer(0..=MAX_SAFE_INTEGER)) => cursors.impossible.push(key.into_owned()),
                (_, other) => return Err(self.wrong("cursors", "a map of conversation id to seq", &other)),
            }
        }
        Ok(cursors)
    }
}

/// Parses the id of a conversation.
pub(super) fn conversation(text: &str, field: &str) -> Result<ConversationId, Refusal> {
    ConversationId::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(40).collect();
        Refusal::new(ErrorCode::NotFound, format!("{field}: There is no conversation {shown:?}."))
    })
}
