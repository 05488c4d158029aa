//! Announces changed profiles in the log of every conversation of the user. So all members see the current name, also
//! users who were offline.
//!
//! 1. `PATCH /users/me` changes the profile and increments its version, in one statement.
//! 2. The announcer finds users whose version is ahead of their conversations. For each conversation that is behind it
//!    submits a change, through the owner shard like any other change. So the announcement has a seq and an event.
//! 3. When no conversation is behind, the announcer records the version in PostgreSQL.
//!
//! Invariants:
//! - PostgreSQL knows what is to be announced before the announcer wakes, so neither the end of the process nor a
//!   failure loses it;
//! - announcing twice changes nothing, because each membership records the announced version;
//! - a user who changes the name all the time is announced at most every few seconds.

use super::commands::CommandFuture;
use super::patience::patiently;
use crate::error::{ErrorCode, Refusal};
use crate::ids::{ConversationId, UserId};
use crate::storage::accounts::Accounts;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// Most users that one query finds.
const USERS: i64 = 100;
/// Conversations of a user that are announced before the next user's turn.
const CONVERSATIONS: i64 = 200;
/// Most changes in flight. Few, because messages come first.
const UNDER_WAY: usize = 4;
/// Pause between queries while changes may be held back, or after a failure.
const SOON: Duration = Duration::from_secs(2);
/// Number of queries after a change that find everything that was held back.
const LOOKS: u32 = 4;
/// Pause between queries while nothing is known to be pending: another node may have stopped in the middle.
const SWEEP: Duration = Duration::from_mins(1);

/// The port to the owner shard of a conversation.
pub trait AnnouncePort: Send + Sync {
    /// Announces the profile of `user` in the log of a conversation.
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
            tracing::warn!("a changed profile could not be announced everywhere; retrying: {refusal}");
            looks = looks.max(1);
        }
    }
}

/// Announces everything that is pending: some conversations of each user, then more, so that no user waits for one
/// with thousands of conversations. A failure holds up its own user only: that user is tried again in the next round.
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
                // PostgreSQL may refuse this user's change alone. The next query shows whether it answers at all.
                Err(refusal) if matches!(refusal.code, ErrorCode::Internal | ErrorCode::StorageUnavailable) => {
                    failed.insert(user, refusal);
                    break;
                }
                Err(refusal) => return Err(refusal),
            }
        }
    }
}

/// Announces in some conversations after `place`; returns the last one when there may be more.
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
        match patiently(|| port.announce(user, conversation)).await {
            // The conversation no longer exists.
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
