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
/// Changed texts after which the progress is saved.
const SAVED: usize = 50;
/// Files that one statement removes.
const FILES: i64 = 100;
/// How long a job runs before others have their turn.
const TURN: Duration = Duration::from_mins(1);
/// When a job looks again whether the person's bots are done.
const PARTS: Duration = Duration::from_millis(500);
/// When a job looks again whether a legal hold is released. A release plans the job at once.
const HELD: Duration = Duration::from_hours(24);

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
        // The place is at the beginning again: the next run finds what is no longer held.
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
    // The conversation that was searched last is searched again from there on: it may have grown.
    let mut least = erasure.place.map_or(0, |(conversation, _)| conversation.number());
    let mut after = erasure.place.map_or(Seq(0), |(_, seq)| seq);
    let mut some_held = false;
    while let Some(conversation) = tables.next_conversation(least, erasure.record.user).await? {
        let part = Part { rights, tables, erasure, conversation, started };
        if conversation.is_held {
            some_held |= tables.names_person(erasure.record.user, conversation.id).await?;
        } else {
            part.erase(std::mem::take(&mut after)).await?;
        }
        if started.elapsed() >= TURN {
            return Ok(LogsEnd::OutOfTime);
        }
        (least, after) = (conversation.id.number() + 1, Seq(0));
    }
    if some_held {
        tables.save_erasure(&erasure.record.id, None, &json!({})).await?;
        return Ok(LogsEnd::SomeHeld);
    }
    Ok(LogsEnd::Done)
}

/// A conversation, from which a person is removed.
struct Part<'a> {
    rights: &'a DataRights,
    tables: &'a RightsTables,
    erasure: &'a OpenErasure,
    conversation: ErasureConversation,
    /// When the turn of the job began.
    started: Instant,
}

impl Part<'_> {
    /// Removes the person, for as long as the turn lasts. The log is searched behind `after`. The place is saved after
    /// each step. Mutations count what they remove themselves, so that the receipt has it whatever happens next.
    async fn erase(&self, mut after: Seq) -> Result<(), Refusal> {
        let Self { tables, erasure, conversation, .. } = self;
        let mut more = conversation.has_messages && !erasure.is_part;
        while more {
            let outcome = self.mutate("erase_messages", json!({})).await?;
            self.save(after, &[]).await?;
            more = outcome["more"] == true;
            if more && self.is_out_of_time() {
                return Ok(());
            }
        }
        while after < conversation.last_seq {
            let to = Seq(after.0 + ENTRIES).min(conversation.last_seq);
            let found = tables.erase_log(erasure.record.user, conversation.id, after, to).await?;
            self.save(after, &[("log_entries", found.changed)]).await?;
            for some in found.mentions.chunks(SAVED) {
                for message in some {
                    self.mutate("erase_mention", json!({ "message_id": message })).await?;
                }
                self.save(after, &[]).await?;
            }
            for (message, emoji) in found.reactions {
                self.mutate("erase_reaction", json!({ "message_id": message, "emoji": emoji })).await?;
                self.save(after, &[]).await?;
            }
            after = to;
            if after < conversation.last_seq && self.is_out_of_time() {
                return self.save(after, &[]).await;
            }
        }
        if conversation.can_leave {
            self.mutate("leave_conversation", json!({})).await?;
        }
        let was_last =
            (conversation.can_leave || conversation.is_owned) && tables.erase_empty_room(conversation.id).await?;
        self.save(after, &[("memberships", conversation.can_leave.into()), ("rooms", was_last.into())]).await
    }

    /// Whether others have their turn now. The next turn goes on from the place that was saved.
    fn is_out_of_time(&self) -> bool {
        self.started.elapsed() >= TURN
    }

    async fn mutate(&self, kind: &'static str, arguments: Value) -> Result<Value, Refusal> {
        submit(self.rights, self.erasure.record.user, self.conversation.id, kind, arguments).await
    }

    /// Saves what was done up to a place of the log.
    async fn save(&self, seq: Seq, counts: &[(&str, i64)]) -> Result<(), Refusal> {
        let counts = counts.iter().filter(|(_, count)| *count > 0);
        let counts: Value = counts.map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        self.tables.save_erasure(&self.erasure.record.id, Some((self.conversation.id, seq)), &counts).await
    }
}
