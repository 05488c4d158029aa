//! The job of retention: removes old messages, conversation after conversation, once an hour.
//!
//! 1. A mutation moves the beginning of a conversation's history, in its log. So members see at once that it is
//!    gone, and unread counters are right.
//! 2. The rows behind it are removed, some at a time, with everything that belongs to them.
//!
//! Invariant: rows go from the beginning of a log on, so what is left has no gap. A client whose cursor is in the
//! removed part receives `reset`.

use super::super::jobs::JobEnd;
use super::state::{DataRights, submit};
use crate::error::Refusal;
use crate::ids::ConversationId;
use crate::storage::data_rights::RightsTables;
use serde_json::json;
use std::time::{Duration, Instant};

/// Time between two looks at all conversations.
const INTERVAL: Duration = Duration::from_hours(1);
/// Conversations that one statement looks at.
const CONVERSATIONS: i64 = 1_000;
/// Entries of a log that one statement removes: some milliseconds, for which the conversation waits.
const ENTRIES: i64 = 500;
/// How long a job runs before others have their turn.
const TURN: Duration = Duration::from_mins(5);

/// Applies retention once.
pub(super) async fn run(rights: &DataRights) -> Result<JobEnd, Refusal> {
    let tables = rights.tables().await?;
    let started = Instant::now();
    let mut after = None;
    while let Some(looked) = tables.due_history(after, rights.parts.retention, CONVERSATIONS).await? {
        after = Some(looked.conversation);
        if let Some((actor, to_seq)) = looked.due {
            submit(rights, actor, looked.conversation, "clear_history", json!({ "to_seq": to_seq })).await?;
        }
        if started.elapsed() >= TURN {
            break;
        }
    }
    // Also what an earlier run, or one that was cut short, has left.
    let mut after = None;
    while let Some(conversation) = tables.next_cleared(after).await? {
        after = Some(conversation);
        remove(&tables, conversation).await?;
        if started.elapsed() >= TURN {
            return Ok(JobEnd::RunAgainAfter(Duration::from_secs(1)));
        }
    }
    Ok(JobEnd::RunAgainAfter(INTERVAL))
}

async fn remove(tables: &RightsTables, conversation: ConversationId) -> Result<(), Refusal> {
    let mut messages = 0;
    loop {
        let (removed, more) = tables.remove_cleared(conversation, ENTRIES).await?;
        messages += removed;
        if !more {
            break;
        }
    }
    if messages > 0 {
        tracing::info!("removed {messages} old messages of {conversation}");
    }
    Ok(())
}
