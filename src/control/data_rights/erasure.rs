//! The job of an erasure.
//!
//! 1. The ledger has the erasure.
//! 2. Everything outside of the logs goes: profile, credentials, sessions, lists, webhooks, bots, files without a
//!    message.
//! 3. One conversation after the other: the person's messages and reactions, mentions by others, names in events. Then
//!    the person leaves it.
//! 4. The audit trail's commitments are cleared, and the receipt is signed.
//!
//! Every step can be repeated, and the place is saved after each part of a log. A job runs for a while only and then
//! again, so that no lease has to be long.

use super::super::jobs::JobEnd;
use super::state::{DataRights, submit};
use crate::error::Refusal;
use crate::ids::{Seq, UserId};
use crate::storage::data_rights::RightsTables;
use crate::storage::data_rights::erasures::{ErasureConversation, OpenErasure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Entries of a log that one statement searches.
const ENTRIES: i64 = 2_000;
/// Files that one statement removes.
const FILES: i64 = 100;
/// How long a job runs before others have their turn.
const TURN: Duration = Duration::from_mins(1);
/// When a job looks again whether the person's bots are done.
const PARTS: Duration = Duration::from_millis(500);
/// When a job looks again whether a legal hold is released.
const HELD: Duration = Duration::from_mins(15);

/// Works on an erasure.
pub(super) async fn run(rights: &DataRights, id: &str) -> Result<JobEnd, Refusal> {
    let mut tables = rights.tables().await?;
    let Some(erasure) = tables.open_erasure(id).await? else { return Ok(JobEnd::Done) };
    if !erasure.is_part {
        rights.parts.ledger.add(&erasure.record).await?;
    }
    if erasure.is_held {
        return Ok(JobEnd::RunAgainAfter(HELD));
    }
    let user = erasure.record.user;
    if erasure.place.is_none() {
        let mut counts = tables.erase_account(user).await?;
        rights.parts.profile_changes.notify_one();
        let files = erase_files(&tables, user).await?;
        if files > 0 {
            counts["files"] = files.into();
        }
        tables.save_erasure(id, None, &counts).await?;
    }
    match erase_logs(rights, &tables, &erasure).await? {
        LogsEnd::Done => {}
        LogsEnd::OutOfTime => return Ok(JobEnd::RunAgainAfter(Duration::ZERO)),
        // The place is at the start again: the next run finds what is no longer held.
        LogsEnd::SomeHeld => return Ok(JobEnd::RunAgainAfter(HELD)),
    }
    if erasure.has_open_parts {
        return Ok(JobEnd::RunAgainAfter(PARTS));
    }
    // Sessions that were open while the account was erased may have written something since.
    let counts = tables.erase_account(user).await?;
    tables.save_erasure(id, None, &counts).await?;
    let key = &rights.parts.key;
    tables.complete_erasure(&erasure.record, |facts| erasure.record.receipt(facts, key)).await?;
    tracing::info!("erased the person of account {}; the receipt is at /erasures/…", user.0);
    Ok(JobEnd::Done)
}

async fn erase_files(tables: &RightsTables, user: UserId) -> Result<i64, Refusal> {
    let mut total = 0;
    loop {
        let removed = tables.erase_files(user, FILES).await?;
        total += removed;
        if removed == 0 {
            return Ok(total);
        }
    }
}

enum LogsEnd {
    Done,
    OutOfTime,
    SomeHeld,
}

async fn erase_logs(rights: &DataRights, tables: &RightsTables, erasure: &OpenErasure) -> Result<LogsEnd, Refusal> {
    let started = Instant::now();
    let (id, user) = (&erasure.record.id, erasure.record.user);
    let mut before = erasure.place.map(|(conversation, _)| conversation);
    let mut some_held = false;
    while let Some(conversation) = tables.next_conversation(before, user).await? {
        before = Some(conversation.id);
        if conversation.is_held {
            some_held = true;
            continue;
        }
        let counts = erase_conversation(rights, tables, erasure, &conversation).await?;
        tables.save_erasure(id, before.map(|id| (id, conversation.last_seq)), &counts).await?;
        if started.elapsed() >= TURN {
            return Ok(LogsEnd::OutOfTime);
        }
    }
    if some_held {
        tables.save_erasure(id, None, &json!({})).await?;
        return Ok(LogsEnd::SomeHeld);
    }
    Ok(LogsEnd::Done)
}

/// Removes a person from a conversation. Returns counts.
async fn erase_conversation(
    rights: &DataRights,
    tables: &RightsTables,
    erasure: &OpenErasure,
    conversation: &ErasureConversation,
) -> Result<Value, Refusal> {
    let (user, id) = (erasure.record.user, conversation.id);
    let mutate = async |kind, arguments| submit(rights, user, id, kind, arguments).await;
    let (mut messages, mut mentions, mut reactions, mut changed) = (0, 0, 0, 0);
    let mut more = conversation.has_messages && !erasure.is_part;
    while more {
        let outcome = mutate("erase_messages", json!({})).await?;
        messages += outcome["count"].as_i64().unwrap_or_default();
        more = outcome["more"] == true;
    }
    let mut after = Seq(0);
    while after < conversation.last_seq {
        let to = Seq(after.0 + ENTRIES).min(conversation.last_seq);
        let found = tables.erase_log(user, id, after, to).await?;
        changed += found.changed;
        for message in found.mentions {
            mutate("erase_mention", json!({ "message_id": message })).await?;
            mentions += 1;
        }
        for (message, emoji) in found.reactions {
            mutate("erase_reaction", json!({ "message_id": message, "emoji": emoji })).await?;
            reactions += 1;
        }
        after = to;
    }
    if conversation.can_leave {
        mutate("leave_conversation", json!({})).await?;
    }
    let was_last = (conversation.can_leave || conversation.is_owned) && tables.erase_empty_room(id).await?;
    let counts = [
        ("messages", messages),
        ("mentions", mentions),
        ("reactions", reactions),
        ("log_entries", changed),
        ("memberships", i64::from(conversation.can_leave)),
        ("rooms", i64::from(was_last)),
    ];
    Ok(counts
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect())
}
