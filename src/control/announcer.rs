//! Tells changed profiles in the log of every conversation of theirs, so that whoever sees somebody sees what they are
//! called now, also those who were away.
//!
//! 1. `PATCH /users/me` changes the profile and counts its version up, in one statement.
//! 2. The announcer finds users whose version is ahead of what all conversations have been told, and submits a change for
//!    each conversation that is behind, through its owner like any other change: it gets a seq, an event, a place in the log.
//! 3. When none is behind any more it says so in PostgreSQL.
//!
//! Invariants: what is to be told stands in PostgreSQL before anybody is woken, so neither the end of the process nor a
//! failure loses it; telling twice changes nothing, since each membership knows what was told; of somebody who changes
//! their name all the time only what it is every few seconds is told.

use super::commands::CommandFuture;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, UserId};
use crate::storage::accounts::Accounts;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Users that one look finds.
const USERS: i64 = 100;
/// Conversations of a user that are told before it is the next one's turn.
const CONVERSATIONS: i64 = 200;
/// Changes under way at once: few, since whoever talks comes first.
const UNDER_WAY: usize = 4;
/// Between two looks while somebody's changes may be held back, or could not be told.
const SOON: Duration = Duration::from_secs(2);
/// So many looks after a change find what was held back.
const LOOKS: u32 = 4;
/// Between two looks while nothing is known to be there: another node may have stopped in the middle.
const SWEEP: Duration = Duration::from_mins(1);

/// The way to the owner of a conversation.
pub trait AnnouncePort: Send + Sync {
    /// Tells `user`'s profile in the log of a conversation.
    fn announce(&self, user: UserId, conversation: ConversationId) -> CommandFuture;
}

/// Announces until the runtime ends. `changed` is notified when a profile has changed.
pub async fn run(accounts: Accounts, port: Arc<dyn AnnouncePort>, changed: Arc<Notify>) {
    let mut looks = LOOKS; // find what an earlier process left
    loop {
        tokio::select! {
            () = changed.notified() => looks = LOOKS,
            () = tokio::time::sleep(if looks > 0 { SOON } else { SWEEP }) => looks = looks.saturating_sub(1),
        }
        if let Err(refusal) = announce_all(&accounts, &*port).await {
            tracing::warn!("a changed profile could not be told to everybody, trying again: {refusal}");
            looks = looks.max(1);
        }
    }
}

/// Everything there is to be told now: some of each user's conversations, then some more, so that nobody waits for one who is
/// in thousands. What cannot be told because of what stands there holds up its own user only; with anything else that fails
/// the look is over.
async fn announce_all(accounts: &Accounts, port: &dyn AnnouncePort) -> Result<(), Refusal> {
    let mut places = HashMap::new();
    let mut failed = HashMap::new();
    loop {
        let mut behind = accounts.unannounced(USERS).await?;
        behind.retain(|(user, _)| !failed.contains_key(user));
        if behind.is_empty() {
            return failed.into_values().next().map_or(Ok(()), Err);
        }
        for (user, version) in behind {
            match announce_some(accounts, port, user, version, places.remove(&(user, version))).await {
                Ok(None) => (),
                Ok(Some(place)) => drop(places.insert((user, version), place)),
                Err(refusal) if refusal.code == ErrorCode::Internal => drop(failed.insert(user, refusal)),
                Err(refusal) => return Err(refusal),
            }
        }
    }
}

/// Tells some conversations after `place`; up to which, when there may be more.
async fn announce_some(
    accounts: &Accounts,
    port: &dyn AnnouncePort,
    user: UserId,
    version: i64,
    place: Option<ConversationId>,
) -> Result<Option<ConversationId>, Refusal> {
    let conversations = accounts.untold(user, version, place, CONVERSATIONS).await?;
    let last = conversations.last().copied().filter(|_| conversations.len() as i64 == CONVERSATIONS);
    let tell = |conversation| async move {
        match port.announce(user, conversation).await {
            // It is gone: nobody needs to be told.
            Err(refusal) if refusal.code == ErrorCode::NotFound => Ok(()),
            outcome => outcome.map(drop),
        }
    };
    stream::iter(conversations).map(tell).buffer_unordered(UNDER_WAY).try_collect::<()>().await?;
    if last.is_none() {
        accounts.announced(user, version).await?;
    }
    Ok(last)
}
