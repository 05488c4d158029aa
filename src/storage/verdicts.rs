//! What PostgreSQL's rows say of a run: one verdict for each of its mutations, in their order.

use super::rows;
use crate::error::{ErrorCode, Refusal};
use crate::faults::error_limited;
use crate::ids::{MessageId, Seq, UserId};
use crate::mesh::frame::{Change, CommittedMessage, CommittedOther, Mutation, Verdict};
use crate::mesh::record::{MessageRecord, Sender, ThreadState, rfc3339};
use serde_json::Value;
use std::collections::HashMap;
use tokio_postgres::Row;

/// Rows of the statement, and what the triggers made of messages that mention somebody or are replies.
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    pub(super) aftermath: HashMap<i64, Aftermath>,
}

#[derive(Clone, Default)]
pub(super) struct Aftermath {
    mentions: Vec<UserId>,
    thread: Option<ThreadState>,
}

impl Aftermath {
    pub(super) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let mentions: Option<Vec<i64>> = row.try_get(1)?;
        let root: Option<i64> = row.try_get(2)?;
        let (replies, last_reply) = (row.try_get(3)?, row.try_get(4)?);
        Ok(Self {
            mentions: mentions.unwrap_or_default().into_iter().map(UserId).collect(),
            thread: root.map(|root| rows::thread_state(MessageId(root), replies, last_reply)),
        })
    }
}

/// Outcomes of a run of messages. After a repeated submission a "duplicate" may be the first one's work: it is
/// published, and subscribers that have it already skip it by its seq.
pub(super) fn of_messages(run: &[Box<Mutation>], answer: &Answer, repeated: bool) -> Result<Vec<Verdict>, String> {
    let rows = run.iter().zip(&answer.rows);
    of_each(run, rows.map(|(mutation, row)| message_verdict(mutation, row, answer, repeated)))
}

fn of_each(
    run: &[Box<Mutation>],
    verdicts: impl Iterator<Item = Result<Verdict, tokio_postgres::Error>>,
) -> Result<Vec<Verdict>, String> {
    // A row of ours that we cannot read is that row's fault to bear; asking again would give it again.
    let unreadable = |error| Verdict::Refused(Box::new(rows::unreadable(&error)));
    let verdicts: Vec<_> = verdicts.map(|verdict| verdict.unwrap_or_else(unreadable)).collect();
    if verdicts.len() == run.len() {
        Ok(verdicts)
    } else {
        Err(format!("{} rows for {} mutations", verdicts.len(), run.len()))
    }
}

fn message_verdict(
    mutation: &Mutation,
    row: &Row,
    answer: &Answer,
    repeated: bool,
) -> Result<Verdict, tokio_postgres::Error> {
    let word: &str = row.try_get(1)?;
    let duplicate = word == "duplicate";
    let (Some(conversation), Change::Message { content, message_type, .. }) = (mutation.conversation, &mutation.change)
    else {
        return Ok(Verdict::Refused(Box::new(Refusal::new(ErrorCode::Internal, "a message without a conversation"))));
    };
    if !duplicate && word != "committed" {
        return Ok(Verdict::Refused(Box::new(denied(word, row.try_get(8)?))));
    }
    let id: i64 = row.try_get(2)?;
    let Aftermath { mentions, thread } = answer.aftermath.get(&id).cloned().unwrap_or_default();
    let record = MessageRecord {
        message_id: MessageId(id),
        conversation_id: conversation,
        seq: Seq(row.try_get(3)?),
        sender: Sender {
            id: mutation.actor,
            username: row.try_get::<_, Option<String>>(6)?.unwrap_or_default(),
            display_name: row.try_get::<_, Option<String>>(7)?.unwrap_or_default(),
        },
        content: content.clone(),
        message_type: (*message_type).to_owned(),
        system: None,
        parent_message_id: row.try_get::<_, Option<i64>>(5)?.map(MessageId),
        thread: None,
        mentions,
        reactions: Vec::new(),
        pinned: false,
        edited_at: None,
        deleted: false,
        attachments: Vec::new(),
        created_at: rfc3339(row.try_get(4)?),
        client_message_id: None,
        parent_thread: None,
    };
    Ok(Verdict::Message(Box::new(CommittedMessage { record, duplicate, publish: !duplicate || repeated, thread })))
}

pub(super) fn of_others(run: &[Box<Mutation>], answer: &[Row]) -> Result<Vec<Verdict>, String> {
    of_each(run, answer.iter().map(other_verdict))
}

fn other_verdict(row: &Row) -> Result<Verdict, tokio_postgres::Error> {
    let word: &str = row.try_get(1)?;
    if word != "committed" {
        let detail: Option<String> = row.try_get(2)?;
        let retry_after_ms: Option<i64> = row.try_get(11)?;
        let refusal = match ErrorCode::parse(word) {
            None if word == "unstorable" => {
                error_limited!("PostgreSQL refused a mutation for its content: {}", detail.unwrap_or_default());
                Refusal::bad_request("the store refused this change; its content cannot be stored")
            }
            Some(ErrorCode::Internal) | None => {
                error_limited!("a mutation failed in PostgreSQL: {word} {}", detail.unwrap_or_default());
                Refusal::new(ErrorCode::Internal, "the store failed on this command; the server's log has the details")
            }
            Some(code) => Refusal::new(code, detail.unwrap_or_default()),
        };
        let refusal = match retry_after_ms {
            Some(ms) => refusal.retry_after(ms.max(0) as u64),
            None => refusal,
        };
        return Ok(Verdict::Refused(Box::new(refusal)));
    }
    let number: Option<i64> = row.try_get(3)?;
    let conversation = number.and_then(crate::ids::ConversationId::from_number);
    let users = |column: usize| -> Result<Vec<UserId>, tokio_postgres::Error> {
        let users: Option<Vec<i64>> = row.try_get(column)?;
        Ok(users.unwrap_or_default().into_iter().map(UserId).collect())
    };
    let signal = row.try_get::<_, Option<Value>>(8)?.and_then(|signal| {
        let mut signal = rows::map(signal);
        let kind = signal.get("kind")?.as_str()?.to_owned();
        Some((kind, rows::map(signal.remove("payload")?)))
    });
    Ok(Verdict::Other(Box::new(CommittedOther {
        conversation,
        events: rows::events(row.try_get(4)?),
        result: row.try_get::<_, Option<Value>>(5)?.unwrap_or_default(),
        gained: users(6)?,
        lost: users(7)?,
        signal,
        notices: rows::notices(row.try_get(9)?),
        parted: row.try_get::<_, Option<i64>>(10)?.map(UserId),
    })))
}

/// A message's denial in words.
fn denied(word: &str, retry_after_ms: Option<i64>) -> Refusal {
    let (code, words) = match word {
        "not_found" => (ErrorCode::NotFound, "data.conversation_id: no such conversation"),
        "not_member" => (ErrorCode::NotMember, "you are not a member of this conversation; join it first"),
        "banned" => (ErrorCode::Banned, "you are banned from this conversation; a moderator can lift it"),
        "read_only" => (ErrorCode::ReadOnly, "the conversation, or your role in it, is read-only"),
        "muted" => (ErrorCode::Muted, "you are muted in this conversation for a while"),
        "slow_mode" => (ErrorCode::SlowMode, "the conversation is in slow mode; wait a moment before the next message"),
        "blocked" => (ErrorCode::Blocked, "one of you has blocked the other; messages do not pass"),
        "parent_not_found" => {
            (ErrorCode::NotFound, "data.parent_message_id: there is no such message in this conversation")
        }
        _ => (ErrorCode::Internal, "the store gave a verdict that this version does not know"),
    };
    let refusal = Refusal::new(code, words);
    match retry_after_ms {
        Some(ms) if matches!(code, ErrorCode::Muted | ErrorCode::SlowMode) => refusal.retry_after(ms.max(0) as u64),
        _ => refusal,
    }
}
