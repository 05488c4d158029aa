//! The job of retention: removes old messages, conversation after conversation, once an hour.
//!
//! 1. A mutation moves the beginning of a conversation's history, in its log. So members see at once that it is
//!    gone, and unread counters are right.
//! 2. A range of message ids of which nothing is left is dropped, which frees its disk at once
//!    ([`storage::data_rights::ranges`](crate::storage::data_rights::ranges)). So the server's own limit clears whole
//!    ranges, each of which is a twelfth of it.
//! 3. Other rows that are behind a beginning are removed, some at a time, with everything that belongs to them: those
//!    of conversations with a shorter limit, of imports, and from before the first range ended.
//!
//! Invariant: rows go from the beginning of a log on, so what is left has no gap. A client whose cursor is in the
//! removed part receives `reset`.

use super::super::jobs::JobEnd;
use super::state::{DataRights, submit};
use crate::error::Refusal;
use crate::faults::warn_limited;
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
/// Ranges of message ids that the server's limit has at a time: more would make reads slower, fewer would keep messages
/// longer.
const RANGES: u32 = 12;
/// How long a job runs before others have their turn.
const TURN: Duration = Duration::from_mins(5);

/// Applies retention once.
pub(super) async fn run(rights: &DataRights) -> Result<JobEnd, Refusal> {
    let tables = rights.tables().await?;
    let started = Instant::now();
    if let Some(limit) = rights.parts.retention {
        match tables.begin_range(limit / RANGES).await {
            Ok(true) => tracing::info!("a new range of message ids was begun, which retention will drop as a whole"),
            Ok(false) => {}
            Err(refusal) => warn_limited!(%refusal, "no new range of message ids was begun; the next run tries again"),
        }
    }
    let mut after = None;
    let mut is_complete = true;
    while let Some(looked) = tables.due_history(after, rights.parts.retention, CONVERSATIONS).await? {
        after = Some(looked.conversation);
        if let Some((actor, to_seq)) = looked.due {
            submit(rights, actor, looked.conversation, "clear_history", json!({ "to_seq": to_seq })).await?;
        }
        if started.elapsed() >= TURN {
            is_complete = false;
            break;
        }
    }
    if is_complete && let Err(refusal) = drop_ranges(&tables, rights.parts.retention).await {
        warn_limited!(%refusal, "old messages were not dropped; the next run goes on");
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

/// Drops the ranges of message ids that are cleared.
async fn drop_ranges(tables: &RightsTables, limit: Option<Duration>) -> Result<(), Refusal> {
    let (mut after, mut freed) = (-1, 0);
    while let Some(dropped) = tables.drop_range(after, limit).await? {
        (after, freed) = (dropped.first_id, freed + dropped.freed);
    }
    if after >= 0 {
        tracing::info!("dropped a range of old messages: {} MB of disk are free", freed / 1_000_000);
    }
    Ok(())
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
