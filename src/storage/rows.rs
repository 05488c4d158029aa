//! Rows of PostgreSQL ⇄ the plain data that crosses cores.

use crate::error::{ErrorCode, Refusal};
use crate::faults::error_limited;
use crate::ids::{ConversationId, MessageId, Seq, UserId};
use crate::mesh::frame::Notice;
use crate::mesh::record::{EventRecord, MessageRecord, ThreadState, rfc3339};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::Row;
use tokio_postgres::error::DbError;
use tokio_postgres::types::Json;
use tokio_postgres::types::ToSql;

/// A statement and its parameters.
pub(super) type Statement<'a> = (&'static str, &'a [&'a (dyn ToSql + Sync)]);

/// The refusal for a row that contradicts the schema: a server fault, logged, never a panic.
pub fn unreadable(error: &tokio_postgres::Error) -> Refusal {
    error_limited!("a row of PostgreSQL does not have the shape this version expects: {error}");
    Refusal::new(ErrorCode::Internal, "The store returned something unexpected. The server's log has the details.")
}

/// What `refuse()` in PostgreSQL raises.
pub const REFUSED: &str = "VZ001";

/// A refusal that `refuse()` raised: its code is the message, its reason is the detail.
#[must_use]
pub fn refusal(error: &DbError) -> Refusal {
    let code = ErrorCode::parse(error.message()).unwrap_or(ErrorCode::Internal);
    Refusal::new(code, error.detail().unwrap_or_default().to_owned())
}

/// A conversation's id, or the same refusal.
///
/// # Errors
/// When PostgreSQL holds a number that is not a conversation id.
pub fn conversation(number: i64) -> Result<ConversationId, Refusal> {
    ConversationId::from_number(number).ok_or_else(|| {
        error_limited!("the database holds conversation id {number}, which cannot be one");
        Refusal::new(ErrorCode::Internal, "The store returned something unexpected. The server's log has the details.")
    })
}

/// A row of `sql::MESSAGES_*`.
///
/// # Errors
/// When the row has another shape.
pub fn message(row: &Row) -> Result<MessageRecord, Refusal> {
    let read = || -> Result<MessageRecord, tokio_postgres::Error> {
        let Json(mut message) = row.try_get::<_, Json<MessageRecord>>("message")?;
        let (replies, last_reply) = (row.try_get("reply_count")?, row.try_get("last_reply_at")?);
        message.parent_thread = message.parent_message_id.map(|root| thread_state(root, replies, last_reply));
        Ok(message)
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
            seq: Seq(row.try_get("seq")?),
            kind: row.try_get("kind")?,
            payload: map(row.try_get("payload")?),
            created_at: rfc3339(row.try_get("created_at")?),
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

/// The events of a `mutation_outcome`.
pub fn events(conversation: Option<ConversationId>, value: Option<Value>) -> Vec<EventRecord> {
    list(value)
        .into_iter()
        .filter_map(|entry| {
            let mut entry = map(entry);
            let event = EventRecord {
                seq: Seq(entry.get("seq")?.as_i64()?),
                kind: entry.get("kind")?.as_str()?.to_owned(),
                created_at: entry.get("created_at")?.as_str()?.to_owned(),
                payload: map(entry.remove("payload")?),
            };
            Some(if event.kind == "message_created" { complete_message(conversation, event) } else { event })
        })
        .collect()
}

/// A system message with all fields of a message: PostgreSQL names only those that it sets.
fn complete_message(conversation: Option<ConversationId>, mut event: EventRecord) -> EventRecord {
    let mut fields = event.payload.clone();
    fields.insert("conversation_id".to_owned(), json!(conversation));
    fields.insert("seq".to_owned(), json!(event.seq));
    fields.insert("created_at".to_owned(), json!(event.created_at));
    match serde_json::from_value::<MessageRecord>(Value::Object(fields)).and_then(serde_json::to_value) {
        Ok(message) => event.payload = map(message),
        Err(error) => error_limited!("a system message does not have the shape this version expects: {error}"),
    }
    event
}

/// The notices of a `mutation_outcome`.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_message_has_all_fields_of_a_message() {
        let sender = json!({"id": 7, "username": "ada", "display_name": "Ada"});
        let system = json!({"kind": "joined", "user": sender, "actor": null});
        let payload = json!({"message_id": 5, "sender": sender, "content": "Ada joined", "message_type": "system",
            "system": system});
        let created_at = "2026-01-01T00:00:00.000Z";
        let given = json!([{"seq": 2, "kind": "message_created", "created_at": created_at, "payload": payload}]);
        let read = events(ConversationId::from_number(6), Some(given)).remove(0);
        let expected = json!({"message_id": 5, "conversation_id": "room_6", "seq": 2, "created_at": created_at,
            "sender": sender, "content": "Ada joined", "message_type": "system", "system": system,
            "parent_message_id": null, "mentions": [], "reactions": [], "pinned": false, "edited_at": null,
            "deleted": false, "attachments": []});
        assert_eq!(Value::Object(read.payload), expected);
    }
}
