//! PostgreSQL's answer to a run of mutations: one verdict for each of them, in their order.

use super::known::{KnownRow, MessageNumbers};
use super::rows;
use crate::error::{ErrorCode, NO_SUCH_CONVERSATION, Refusal};
use crate::faults::error_limited;
use crate::ids::{MessageId, Seq, UserId};
use crate::mesh::frame::{Change, CommittedMessage, CommittedOther, Mutation, Signal, Verdict};
use crate::mesh::record::{MessageRecord, Sender, ThreadState, UserRole, rfc3339};
use serde_json::Value;
use std::collections::HashMap;
use time::OffsetDateTime;
use tokio_postgres::Row;

/// Rows of the statement, and the records of the triggers for messages with mentions and for replies.
pub(super) struct BatchRows {
    pub(super) rows: Vec<Row>,
    pub(super) recorded: HashMap<i64, Recorded>,
}

/// The answer of `sql::COMMIT_KNOWN`, and the records of the triggers for messages with mentions.
pub struct KnownRows {
    /// The conversations whose messages were committed.
    pub rooms: Vec<i64>,
    /// The seq of each message, in the order of the plan.
    pub seqs: Vec<i64>,
    /// Their ids, in the same order.
    pub ids: Vec<i64>,
    /// When the transaction began, which is the time of every message.
    pub created_at: OffsetDateTime,
    /// The records by message id. Messages without mentions have none.
    pub recorded: HashMap<i64, Recorded>,
}

/// A row of `sql::MENTIONS_AND_THREADS`.
#[derive(Clone, Default)]
pub struct Recorded {
    mentions: Vec<UserId>,
    thread: Option<ThreadState>,
    attachments: Vec<Value>,
}

impl Recorded {
    pub(super) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let root: Option<i64> = row.try_get("root_id")?;
        let (replies, last_reply) = (row.try_get("reply_count")?, row.try_get("last_reply_at")?);
        let attachments = match row.try_get("attachments")? {
            Some(Value::Array(attachments)) => attachments,
            _ => Vec::new(),
        };
        Ok(Self {
            attachments,
            mentions: users(row, "mentions")?,
            thread: root.map(|root| rows::thread_state(MessageId(root), replies, last_reply)),
        })
    }
}

fn users(row: &Row, column: &str) -> Result<Vec<UserId>, tokio_postgres::Error> {
    let users: Option<Vec<i64>> = row.try_get(column)?;
    Ok(users.unwrap_or_default().into_iter().map(UserId).collect())
}

/// Outcomes of a run of messages. After a repeated submission a "duplicate" may be the first one's work: it is
/// published, and subscribers that have it already skip it by its seq.
///
/// # Errors
/// The rows do not belong to the mutations, one each and in order.
pub(super) fn of_messages(run: &[Box<Mutation>], answer: &BatchRows, repeated: bool) -> Result<Vec<Verdict>, String> {
    of_each(run, &answer.rows, |mutation, row| message_verdict(mutation, row, answer, repeated))
}

fn of_each(
    run: &[Box<Mutation>],
    rows: &[Row],
    verdict: impl Fn(&Mutation, &Row) -> Result<Verdict, tokio_postgres::Error>,
) -> Result<Vec<Verdict>, String> {
    let places: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get("ord")).collect();
    check_places(run.len(), &places.map_err(|error| format!("a row without its place: {error}"))?)?;
    // Another attempt would give the same row, so only its mutation is refused.
    let unreadable = |error| Verdict::Refused(Box::new(rows::unreadable(&error)));
    Ok(run.iter().zip(rows).map(|(mutation, row)| verdict(mutation, row).unwrap_or_else(unreadable)).collect())
}

/// Whether `places` are 1 to `mutations` in order: the ordinals that a function has given to its rows. With any other
/// row, a sender would receive the verdict of somebody else's message.
fn check_places(mutations: usize, places: &[i64]) -> Result<(), String> {
    if places.len() != mutations {
        return Err(format!("{} rows for {mutations} mutations", places.len()));
    }
    match (1..).zip(places).find(|(expected, place)| expected != *place) {
        None => Ok(()),
        Some((expected, place)) => Err(format!("row {expected} of {mutations} is for mutation {place}")),
    }
}

fn message_verdict(
    mutation: &Mutation,
    row: &Row,
    answer: &BatchRows,
    repeated: bool,
) -> Result<Verdict, tokio_postgres::Error> {
    let verdict: &str = row.try_get("verdict")?;
    let duplicate = verdict == "duplicate";
    let (Some(conversation), Change::Message { content, message_type, .. }) = (mutation.conversation, &mutation.change)
    else {
        return Ok(Verdict::Refused(Box::new(Refusal::new(ErrorCode::Internal, "The message has no conversation."))));
    };
    if !duplicate && verdict != "committed" {
        return Ok(Verdict::Refused(Box::new(refusal_of(verdict, row.try_get("retry_after_ms")?))));
    }
    let id: i64 = row.try_get("message_id")?;
    let Recorded { mentions, thread, attachments } = answer.recorded.get(&id).cloned().unwrap_or_default();
    let sender = Sender {
        id: mutation.actor,
        username: row.try_get::<_, Option<String>>("username")?.unwrap_or_default(),
        display_name: row.try_get::<_, Option<String>>("display_name")?.unwrap_or_default(),
        role: UserRole::of(row.try_get::<_, Option<bool>>("is_bot")?.unwrap_or(false)),
    };
    let (seq, created_at) = (Seq(row.try_get("seq")?), rfc3339(row.try_get("created_at")?));
    let record = MessageRecord {
        content: content.clone(),
        message_type: (*message_type).to_owned(),
        parent_message_id: row.try_get::<_, Option<i64>>("parent_message_id")?.map(MessageId),
        mentions,
        attachments,
        ..MessageRecord::new(MessageId(id), conversation, seq, sender, created_at)
    };
    Ok(Verdict::Message(Box::new(CommittedMessage { record, duplicate, publish: !duplicate || repeated, thread })))
}

/// Outcomes of messages whose verdicts were known, in the order of the statement.
///
/// # Errors
/// The answer does not belong to the messages.
pub fn of_known(
    run: &[Box<Mutation>],
    planned: &[(&KnownRow, &Sender)],
    answer: &KnownRows,
) -> Result<Vec<Verdict>, String> {
    if planned.len() != answer.ids.len() || !planned.iter().map(|(row, _)| &row.seq).eq(&answer.seqs) {
        return Err(format!("the messages {planned:?} have the seqs {:?}", answer.seqs));
    }
    let created_at = rfc3339(answer.created_at);
    let rows = run.iter().zip(planned).zip(&answer.ids);
    rows.map(|((mutation, (row, sender)), id)| {
        let (Some(conversation), Change::Message { content, message_type, .. }) =
            (mutation.conversation, &mutation.change)
        else {
            return Err(format!("{row:?} is no message"));
        };
        let sender = (*sender).clone();
        let Recorded { mentions, thread, attachments } = answer.recorded.get(id).cloned().unwrap_or_default();
        let record = MessageRecord {
            content: content.clone(),
            message_type: (*message_type).to_owned(),
            mentions,
            attachments,
            ..MessageRecord::new(MessageId(*id), conversation, Seq(row.seq), sender, created_at.clone())
        };
        Ok(Verdict::Message(Box::new(CommittedMessage { record, duplicate: false, publish: true, thread })))
    })
    .collect()
}

/// What the row of a committed message shows of its conversation.
pub(super) fn numbers(row: &Row) -> Option<MessageNumbers> {
    let number = |column| row.try_get::<_, i64>(column).ok();
    let is_free = row.try_get("is_free").unwrap_or(false);
    Some(MessageNumbers { ordinal: number("ordinal")?, epoch: number("access_epoch")?, is_free })
}

/// Outcomes of a run of other mutations.
///
/// # Errors
/// The rows do not belong to the mutations, one each and in order.
pub(super) fn of_others(run: &[Box<Mutation>], answer: &[Row]) -> Result<Vec<Verdict>, String> {
    of_each(run, answer, |_, row| other_verdict(row))
}

fn other_verdict(row: &Row) -> Result<Verdict, tokio_postgres::Error> {
    let verdict: &str = row.try_get("verdict")?;
    if verdict != "committed" {
        let detail: Option<String> = row.try_get("detail")?;
        let retry_after_ms: Option<i64> = row.try_get("retry_after_ms")?;
        let refusal = match ErrorCode::parse(verdict) {
            None if verdict == "unstorable" => {
                error_limited!("PostgreSQL refused a mutation for its content: {}", detail.unwrap_or_default());
                Refusal::bad_request("The content of this change cannot be stored.")
            }
            Some(ErrorCode::Internal) | None => {
                error_limited!("a mutation failed in PostgreSQL: {verdict} {}", detail.unwrap_or_default());
                Refusal::new(ErrorCode::Internal, "The store failed on this command. The server's log has the details.")
            }
            Some(code) => Refusal::new(code, detail.unwrap_or_default()),
        };
        // rules/refuse_limited.sql
        let refusal = match row.try_get::<_, Option<Value>>("details")? {
            Some(details) => refusal.with_details(details),
            None => refusal,
        };
        let refusal = match retry_after_ms {
            Some(ms) => refusal.retry_after(ms.max(0) as u64),
            None => refusal,
        };
        return Ok(Verdict::Refused(Box::new(refusal)));
    }
    let number: Option<i64> = row.try_get("conversation_id")?;
    let conversation = number.and_then(crate::ids::ConversationId::from_number);
    let signal = row.try_get::<_, Option<Value>>("signal")?.and_then(|signal| {
        let mut signal = rows::map(signal);
        let kind = signal.get("kind")?.as_str()?.to_owned();
        let hidden_from = signal.get("hidden_from").and_then(Value::as_array).into_iter().flatten();
        let hidden_from = hidden_from.filter_map(Value::as_i64).map(UserId).collect();
        Some(Signal { kind, payload: rows::map(signal.remove("payload")?), hidden_from })
    });
    Ok(Verdict::Other(Box::new(CommittedOther {
        conversation,
        events: rows::events(conversation, row.try_get("events")?),
        result: row.try_get::<_, Option<Value>>("result")?.unwrap_or_default(),
        gained: users(row, "gained")?,
        lost: users(row, "lost")?,
        signal,
        notices: rows::notices(row.try_get("notices")?),
        blocked: row.try_get::<_, Option<i64>>("blocked")?.map(UserId),
    })))
}

/// The refusal for a verdict of `commit_messages`.
fn refusal_of(verdict: &str, retry_after_ms: Option<i64>) -> Refusal {
    let (code, reason) = match verdict {
        "not_found" => (ErrorCode::NotFound, NO_SUCH_CONVERSATION),
        "not_member" => (ErrorCode::NotMember, "You are not a member of this conversation. Join it first."),
        "banned" => (ErrorCode::Banned, "You are banned from this conversation. A moderator can lift the ban."),
        "read_only" => (ErrorCode::ReadOnly, "The conversation, or your role in it, is read-only."),
        "muted" => (ErrorCode::Muted, "You are muted in this conversation. Wait until the mute ends."),
        "muted_everywhere" => {
            (ErrorCode::Muted, "You are muted on this server because of unusual activity. Wait until the mute ends.")
        }
        "slow_mode" => (ErrorCode::SlowMode, "The conversation is in slow mode. Wait before the next message."),
        "blocked" => (ErrorCode::Blocked, "One of you has blocked the other. You cannot message each other."),
        "parent_not_found" => {
            (ErrorCode::NotFound, "data.parent_message_id: There is no such message in this conversation.")
        }
        "file_not_found" => (
            ErrorCode::NotFound,
            "data.attachments: One of these files does not exist, was not uploaded by you to this conversation, or was \
             refused.",
        ),
        _ => (ErrorCode::Internal, "The store returned a verdict that this version does not know."),
    };
    let refusal = Refusal::new(code, reason);
    match retry_after_ms {
        Some(ms) if matches!(code, ErrorCode::Muted | ErrorCode::SlowMode) => refusal.retry_after(ms.max(0) as u64),
        _ => refusal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_rows_that_do_not_belong_to_the_mutations() {
        assert_eq!(check_places(0, &[]), Ok(()));
        assert_eq!(check_places(3, &[1, 2, 3]), Ok(()));
        for (places, reason) in [
            (&[1, 2][..], "2 rows for 3 mutations"),
            (&[1, 2, 3, 4], "4 rows for 3 mutations"),
            (&[1, 3, 2], "row 2 of 3 is for mutation 3"),
            (&[1, 1, 2], "row 2 of 3 is for mutation 1"),
            (&[0, 1, 2], "row 1 of 3 is for mutation 0"),
        ] {
            assert_eq!(check_places(3, places), Err(reason.to_owned()));
        }
    }
}
