//! The rooms of a run, found by name or created, with their members.
//!
//! The first member of a room creates it. Users join before any WebSocket is open, so that a connection's `welcome` has
//! the final membership. Names contain the shape of the room, so that a rerun with another shape gets its own rooms.

use super::account::Account;
use super::api::{Api, ApiError};
use crate::progress;
use crate::scenario::{RoomKind, RoomPlan};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Most pages of an owner's conversations that are searched.
const PAGES_MAX: u32 = 10_000;
/// Conversations asked for in one page.
const PAGE_LIMIT: u32 = 100;

#[derive(Serialize)]
struct ListConversations<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<&'a serde_json::Value>,
    limit: u32,
}

#[derive(Deserialize)]
struct RoomPage {
    conversations: Vec<Room>,
    #[serde(default)]
    next_cursor: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Room {
    id: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    archived: bool,
}

#[derive(Serialize)]
struct CreateRoom<'a> {
    kind: RoomKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    member_ids: Vec<u64>,
}

#[derive(Deserialize)]
struct Created {
    conversation: Room,
}

#[derive(Serialize)]
struct Join<'a> {
    conversation_id: &'a str,
}

/// Options for preparing rooms.
#[derive(Debug, Clone, Copy)]
pub struct Preparation<'a> {
    /// Prefix of every name.
    pub prefix: &'a str,
    /// Concurrent calls.
    pub concurrency: u32,
    /// No progress bars.
    pub quiet: bool,
}

/// Creates or finds all rooms and lets their members join. Returns the rooms' identifiers, by index.
pub async fn prepare(
    api: &Api,
    accounts: &[Account],
    rooms: &[RoomPlan],
    how: Preparation<'_>,
) -> Result<Vec<String>, String> {
    let mut by_owner: HashMap<u32, Vec<usize>> = HashMap::new();
    for (index, room) in rooms.iter().enumerate() {
        let owner = room.members.first().ok_or_else(|| format!("the room {} has no members", room.name))?;
        by_owner.entry(*owner).or_default().push(index);
    }
    let bar = progress::bar(how.quiet, rooms.len() as u64, "preparing rooms");
    let mut found: Vec<(usize, String)> = stream::iter(by_owner)
        .map(|(owner, mine)| rooms_of_owner(api, accounts, owner, mine, rooms, how.prefix))
        .buffer_unordered(how.concurrency as usize)
        .inspect_ok(|mine: &Vec<_>| bar.inc(mine.len() as u64))
        .try_concat()
        .await?;
    bar.finish_and_clear();
    found.sort_unstable_by_key(|(index, ..)| *index);

    let joins: Vec<(&Account, &str)> = found
        .iter()
        .filter(|(index, ..)| rooms[*index].kind == RoomKind::PublicRoom)
        .flat_map(|(index, id)| rooms[*index].members[1..].iter().map(|user| (&accounts[*user as usize], id.as_str())))
        .collect();
    let bar = progress::bar(how.quiet, joins.len() as u64, "joining rooms");
    stream::iter(joins)
        .map(|(account, id)| join(api, account, id))
        .buffer_unordered(how.concurrency as usize)
        .try_for_each(|()| {
            bar.inc(1);
            std::future::ready(Ok(()))
        })
        .await?;
    bar.finish_and_clear();
    Ok(found.into_iter().map(|(_, id)| id).collect())
}

/// One owner's rooms: those found by name, the others created.
async fn rooms_of_owner(
    api: &Api,
    accounts: &[Account],
    owner: u32,
    mine: Vec<usize>,
    rooms: &[RoomPlan],
    prefix: &str,
) -> Result<Vec<(usize, String)>, String> {
    let account = &accounts[owner as usize];
    let context = |error: ApiError| format!("cannot prepare the rooms of {}: {error}", account.username);
    // A direct conversation has no name and exists once: creating it again finds it.
    let (pairs, mut missing): (Vec<_>, Vec<_>) = mine.into_iter().partition(|i| rooms[*i].kind == RoomKind::Direct);
    let name_of = |index: usize| format!("{prefix}-{}", rooms[index].name);
    let mut found = Vec::new();
    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        if missing.is_empty() {
            break;
        }
        let ask = ListConversations { cursor: cursor.as_ref(), limit: PAGE_LIMIT };
        let page: RoomPage = api.command(&account.token, "list_conversations", ask).await.map_err(context)?;
        for conversation in page.conversations {
            let at = missing.iter().position(|index| conversation.name.as_ref() == Some(&name_of(*index)));
            if let Some(at) = at.filter(|_| !conversation.archived) {
                found.push((missing.swap_remove(at), conversation.id));
            }
        }
        cursor = page.next_cursor.filter(|cursor| !cursor.is_null());
        if cursor.is_none() {
            break;
        }
    }
    for index in missing.into_iter().chain(pairs) {
        let plan = &rooms[index];
        let name = name_of(index);
        let named = plan.kind != RoomKind::Direct;
        let others = plan.members[1..].iter().map(|user| accounts[*user as usize].id);
        let ask = CreateRoom {
            kind: plan.kind,
            name: named.then_some(name.as_str()),
            description: named.then_some("Load test"),
            member_ids: if plan.kind == RoomKind::PublicRoom { Vec::new() } else { others.collect() },
        };
        let created: Created = api.command(&account.token, "create_conversation", ask).await.map_err(|error| {
            let conflict = error.code() == "conflict";
            let hint = if conflict { ". Somebody else has a room of that name: choose another --prefix" } else { "" };
            format!("cannot create the room {name}: {error}{hint}")
        })?;
        found.push((index, created.conversation.id));
    }
    Ok(found)
}

async fn join(api: &Api, account: &Account, conversation_id: &str) -> Result<(), String> {
    match api.command::<_, IgnoredAny>(&account.token, "join_conversation", Join { conversation_id }).await {
        Ok(_) => Ok(()),
        Err(error) if error.code() == "conflict" => Ok(()), // In it since an earlier run.
        Err(error) => Err(format!("{} cannot join {conversation_id}: {error}", account.username)),
    }
}
