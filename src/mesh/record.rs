//! What storage knows and clients see: plain data that crosses cores. The serialised names are the wire contract's.

use super::bot_grant::BotGrant;
use crate::ids::{ConversationId, MessageId, Seq, SessionId, UserId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const RFC3339_MS: &[BorrowedFormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// RFC 3339 in UTC with milliseconds: the wire's form of a time.
#[must_use]
pub fn rfc3339(time: OffsetDateTime) -> String {
    time.to_offset(time::UtcOffset::UTC).format(RFC3339_MS).unwrap_or_default()
}

/// Who wrote a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sender {
    /// The user's number.
    pub id: UserId,
    /// The user's unique name.
    pub username: String,
    /// The name that people see.
    pub display_name: String,
    /// `bot`; people have no role here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<UserRole>,
}

/// What a user is, if not a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// A program.
    Bot,
}

impl UserRole {
    /// The role of a user.
    #[must_use]
    pub fn of(is_bot: bool) -> Option<Self> {
        is_bot.then_some(Self::Bot)
    }
}

/// What is known of a thread at its root message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ThreadSummary {
    /// Replies in the thread.
    pub reply_count: i64,
    /// Time of the newest one, RFC 3339 in UTC with milliseconds.
    pub last_reply_at: String,
}

/// A thread and what is known of it: the data of `thread_updated`, without the conversation's id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ThreadState {
    /// Its root.
    pub message_id: MessageId,
    /// Replies in the thread that are not deleted.
    pub reply_count: i64,
    /// Time of the newest one, RFC 3339 in UTC with milliseconds.
    pub last_reply_at: Option<String>,
}

/// A message as clients see it. Times are RFC 3339 in UTC with milliseconds.
///
/// Histories read it from the view `shown_messages` (`migrations/functions/views`), whose columns are these fields. A
/// field with a default is one that a message has from its commit on, and that a system message does not carry.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MessageRecord {
    /// Unique over the server.
    pub message_id: MessageId,
    /// The conversation that it was sent to.
    pub conversation_id: ConversationId,
    /// Its position in the conversation's change log.
    pub seq: Seq,
    /// Its author; for a system message, the user who made the reported change.
    pub sender: Sender,
    /// The text; empty when deleted.
    pub content: String,
    /// `text`, `image`, `file` or `system`.
    pub message_type: String,
    /// For a system message, the reported change: `{kind, user, actor}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<serde_json::Value>,
    /// The thread's root, when it is a reply.
    pub parent_message_id: Option<MessageId>,
    /// Present on the root of a thread.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thread: Option<ThreadSummary>,
    /// Users mentioned in the text.
    #[serde(default)]
    pub mentions: Vec<UserId>,
    /// Reactions, one entry `{emoji, count, me}` per emoji.
    #[serde(default)]
    pub reactions: Vec<serde_json::Value>,
    /// Whether it is pinned.
    #[serde(default)]
    pub pinned: bool,
    /// Time of the last edit.
    pub edited_at: Option<String>,
    /// Whether it was deleted. Its position in the log remains.
    #[serde(default)]
    pub deleted: bool,
    /// Files that belong to it.
    #[serde(default)]
    pub attachments: Vec<serde_json::Value>,
    /// When it was committed.
    pub created_at: String,
    /// The sender's own key for it; only its sender sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_message_id: Option<String>,
    /// For a reply, the state of its thread: not part of the message, but of the `thread_updated` that follows it on
    /// replay.
    #[serde(skip)]
    pub parent_thread: Option<ThreadState>,
}

impl MessageRecord {
    /// A text message as its commit leaves it: without reactions, replies, pin or edits.
    #[must_use]
    pub fn new(
        message_id: MessageId,
        conversation_id: ConversationId,
        seq: Seq,
        sender: Sender,
        created_at: String,
    ) -> Self {
        Self {
            message_id,
            conversation_id,
            seq,
            sender,
            content: String::new(),
            message_type: "text".to_owned(),
            system: None,
            parent_message_id: None,
            thread: None,
            mentions: Vec::new(),
            reactions: Vec::new(),
            pinned: false,
            edited_at: None,
            deleted: false,
            attachments: Vec::new(),
            created_at,
            client_message_id: None,
            parent_thread: None,
        }
    }
}

/// A page of a history, ascending by seq.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct MessagePage {
    /// The messages.
    pub messages: Vec<MessageRecord>,
    /// Whether there are more in the direction that was asked for.
    pub has_more: bool,
}

/// One entry of the change log.
#[derive(Clone, PartialEq, Debug)]
pub enum LogEntry {
    /// A message, in its present form.
    Message(Box<MessageRecord>),
    /// Any other mutation.
    Event(EventRecord),
}

impl LogEntry {
    /// Its position in the log.
    #[must_use]
    pub fn seq(&self) -> Seq {
        match self {
            Self::Message(message) => message.seq,
            Self::Event(event) => event.seq,
        }
    }
}

/// A mutation that is not a message.
#[derive(Clone, PartialEq, Debug)]
pub struct EventRecord {
    /// Its position in the log.
    pub seq: Seq,
    /// The event's name on the wire.
    pub kind: String,
    /// Its data, without conversation id, seq and time.
    pub payload: serde_json::Map<String, serde_json::Value>,
    /// When it was committed, RFC 3339.
    pub created_at: String,
}

/// An event of the log as clients see it.
#[derive(Clone, PartialEq, Debug)]
pub struct ShownEvent {
    /// Its position in the log.
    pub seq: Seq,
    /// Its name on the wire.
    pub kind: String,
    /// Its data.
    pub data: serde_json::Value,
    /// The thread that it changed, which is an event of its own.
    pub thread: Option<serde_json::Value>,
}

/// An event of the log as clients see it.
#[must_use]
pub fn shown_event(conversation: ConversationId, event: EventRecord) -> ShownEvent {
    let mut data = serde_json::Map::new();
    data.insert("conversation_id".to_owned(), serde_json::json!(conversation));
    data.insert("seq".to_owned(), serde_json::json!(event.seq));
    data.insert("created_at".to_owned(), serde_json::json!(event.created_at));
    data.extend(event.payload);
    let thread = data.remove("thread").filter(|thread| !thread.is_null());
    ShownEvent { seq: event.seq, kind: event.kind, data: data.into(), thread }
}

/// One line of `welcome.conversations`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ConversationHead {
    /// The conversation.
    pub id: ConversationId,
    /// direct, group, `public_room` or `private_room`.
    pub kind: String,
    /// Its name; for a direct conversation, the other user's.
    pub name: Option<String>,
    /// The newest position in its log.
    pub last_seq: Seq,
    /// The reader's marker.
    pub read_seq: Seq,
    /// The reader's role.
    pub role: String,
}

/// A user's presence: the data of the event `presence`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PresenceRecord {
    /// The user.
    pub user_id: UserId,
    /// `online`, `away`, `busy` or `offline`.
    pub status: &'static str,
    /// In their own words.
    pub status_text: Option<Box<str>>,
    /// For offline users, when this server last saw them online.
    pub last_seen_at: Option<String>,
}

/// The signed-in user, as in `welcome.user`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Profile {
    /// The user's number.
    pub id: UserId,
    /// The user's unique name.
    pub username: String,
    /// The name that people see.
    pub display_name: String,
    /// Address of a picture.
    pub avatar_url: Option<String>,
    /// The user's bio.
    pub bio: Option<String>,
    /// When the account was made.
    pub created_at: String,
    /// `bot`; people have no role here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<UserRole>,
}

/// A session that may be opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenedSession {
    /// The user who connects.
    pub profile: Profile,
    /// When the account was made, seconds of Unix time.
    pub user_created_at: i64,
    /// The sign-in it belongs to.
    pub session: SessionId,
    /// What the token permits, if it is a bot's.
    pub grant: Option<Arc<BotGrant>>,
    /// When a bot's token expires, seconds of Unix time.
    pub expires_seconds: Option<i64>,
    /// The user's conversations, when asked for: those with the newest messages.
    pub conversations: Vec<ConversationHead>,
    /// Whether the user has more of them.
    pub has_more_conversations: bool,
}
