//! Rows of PostgreSQL ⇄ the plain data that crosses cores.

use crate::error::{ErrorCode, Refusal};
use crate::faults::error_limited;
use crate::ids::{ConversationId, MessageId, Seq, UserId};
use crate::mesh::frame::Notice;
use crate::mesh::record::{EventRecord, MessageRecord, Sender, ThreadState, ThreadSummary, rfc3339};
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::error::DbError;

/// What a row that contradicts the schema turns into: a fault of ours, logged, never a panic.
pub fn unreadable(error: &tokio_postgres::Error) -> Refusal {
    error_limited!("a row of PostgreSQL does not have the shape this version expects: {error}");
    Refusal::new(ErrorCode::Internal, "the store returned something unexpected; the server's log has the details")
}

/// What `refuse()` in PostgreSQL raises.
pub const REFUSED: &str = "VZ001";

/// A refusal that `refuse()` raised: its code is the message, its words are the detail.
#[must_use]
pub fn refusal(error: &DbError) -> Refusal {
    let code = ErrorCode::parse(error.message()).unwrap_or(ErrorCode::Internal);
    Refusal::new(code, error.detail().unwrap_or_default().to_owned())
}

/// A conversation's id, or the same refusal.
///
/// # Errors
/// When PostgreSQL holds a number that is no conversation id.
pub fn conversation(number: i64) -> Result<ConversationId, Refusal> {
    ConversationId::from_number(number).ok_or_else(|| {
        error_limited!("the database holds conversation id {number}, which cannot be one");
        Refusal::new(ErrorCode::Internal, "the store returned something unexpected; the server's log has the details")
    })
}

/// A row of `sql::MESSAGES_*`.
///
/// # Errors
/// When the row has another shape.
pub fn message(row: &Row) -> Result<MessageRecord, Refusal> {
    let conversation_id = conversation(row.try_get(15).map_err(|e| unreadable(&e))?)?;
    let read = || -> Result<MessageRecord, tokio_postgres::Error> {
        let thread = match (row.try_get::<_, Option<i64>>(12)?, row.try_get::<_, Option<OffsetDateTime>>(13)?) {
            (Some(reply_count), Some(at)) => Some(ThreadSummary { reply_count, last_reply_at: rfc3339(at) }),
            _ => None,
        };
        let parent = row.try_get::<_, Option<i64>>(7)?.map(MessageId);
        let (replies, last_reply) = (row.try_get(18)?, row.try_get(19)?);
        Ok(MessageRecord {
            seq: Seq(row.try_get(0)?),
            message_id: MessageId(row.try_get(1)?),
            conversation_id,
            sender: Sender { id: UserId(row.try_get(2)?), username: row.try_get(3)?, display_name: row.try_get(4)? },
            content: row.try_get(5)?,
            message_type: row.try_get(6)?,
            system: row.try_get(20)?,
            parent_message_id: parent,
            thread,
            mentions: row.try_get::<_, Option<Vec<i64>>>(14)?.unwrap_or_default().into_iter().map(UserId).collect(),
            reactions: list(row.try_get(16)?),
            pinned: row.try_get(17)?,
            edited_at: row.try_get::<_, Option<OffsetDateTime>>(10)?.map(rfc3339),
            deleted: row.try_get(11)?,
            attachments: Vec::new(),
            created_at: rfc3339(row.try_get(9)?),
            client_message_id: row.try_get(8)?,
            parent_thread: parent.map(|root| thread_state(root, replies, last_reply)),
        })
    };
    read().map_err(|e| unreadable(&e))
}

/// A row of `sql::EVENTS_AFTER`.
///
/// # Errors
/// When the row has another shape.
pub fn event(row: &Row) -> Result<EventRecord, Refusal> {
    let read = || -> Result<EventRecord, tokio_postgres::Error> {
        Ok(EventRecord {
            seq: Seq(row.try_get(0)?),
            kind: row.try_get(1)?,
            payload: map(row.try_get(2)?),
            created_at: rfc3339(row.try_get(3)?),
        })
    };
    read().map_err(|e| unreadable(&e))
}

/// A thread as its statistics have it; a thread without any has no replies.
pub fn thread_state(root: MessageId, replies: Option<i64>, last_reply: Option<OffsetDateTime>) -> ThreadState {
    let reply_count = replies.unwrap_or(0);
    ThreadState { message_id: root, reply_count, last_reply_at: last_reply.map(rfc3339) }
}

/// A list's entries; anything else becomes empty.
pub fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// An object's entries; anything else becomes empty.
pub fn map(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => serde_json::Map::new(),
    }
}

/// The events in `apply_mutations.events`.
pub fn events(value: Option<Value>) -> Vec<EventRecord> {
    list(value)
        .into_iter()
        .filter_map(|entry| {
            let mut entry = map(entry);
            Some(EventRecord {
                seq: Seq(entry.get("seq")?.as_i64()?),
                kind: entry.get("kind")?.as_str()?.to_owned(),
                created_at: entry.get("created_at")?.as_str()?.to_owned(),
                payload: map(entry.remove("payload")?),
            })
        })
        .collect()
}

/// The notices in `apply_mutations.notices`.
pub fn notices(value: Option<Value>) -> Vec<Notice> {
    list(value)
        .into_iter()
        .filter_map(|entry| {
            let mut entry = map(entry);
            let users = entry.get("users")?.as_array()?.iter().filter_map(Value::as_i64).map(UserId).collect();
            let kind = entry.get("kind")?.as_str()?.to_owned();
            Some(Notice { users, kind, payload: map(entry.remove("payload")?) })
        })
        .collect()
}
