//! The rooms of a run, and who is in them.
//!
//! Room `r` belongs to user `r mod users`, who creates it the first time and finds it again by name on a rerun. User `u`
//! joins rooms `u, u + 1, …` (modulo the number of rooms), as many as `--rooms-per-user`. Joining happens before any
//! WebSocket is open, so that a connection's `welcome` has the final membership.

use crate::account::Account;
use crate::api::{Api, ApiError};
use crate::options::Options;
use crate::progress;
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// Most pages of an owner's conversations that are searched for a room.
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
struct Page {
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
    kind: &'a str,
    name: &'a str,
    description: &'a str,
}

#[derive(Deserialize)]
struct Created {
    conversation: Room,
}

#[derive(Serialize)]
struct Join<'a> {
    conversation_id: &'a str,
}

/// The rooms a user sends to, by index.
pub fn rooms_of(user: u32, rooms: u32, rooms_per_user: u32) -> Vec<u32> {
    (0..rooms_per_user.min(rooms)).map(|step| (user % rooms + step) % rooms).collect()
}

/// Finds or creates the rooms and has every user join; answers the rooms' identifiers.
pub async fn rooms(api: &Api, accounts: &[Account], options: &Options) -> Result<Vec<String>, String> {
    let owners = options.users.min(options.rooms);
    let bar = progress::bar(options.quiet, u64::from(owners), "preparing rooms");
    let owned: Vec<Vec<(u32, String)>> = stream::iter(0..owners)
        .map(|owner| prepare_rooms(api, &accounts[owner as usize], owner, options))
        .buffered(options.setup_concurrency as usize)
        .inspect_ok(|_| bar.inc(1))
        .try_collect()
        .await?;
    bar.finish_and_clear();
    let mut rooms: Vec<(u32, String)> = owned.into_iter().flatten().collect();
    rooms.sort_unstable();
    let rooms: Vec<String> = rooms.into_iter().map(|(_, id)| id).collect();

    let bar = progress::bar(options.quiet, u64::from(options.users), "joining rooms");
    stream::iter(accounts.iter().zip(0..))
        .map(|(account, user)| join_rooms(api, account, user, &rooms, options))
        .buffer_unordered(options.setup_concurrency as usize)
        .try_for_each(|()| {
            bar.inc(1);
            std::future::ready(Ok(()))
        })
        .await?;
    bar.finish_and_clear();
    Ok(rooms)
}

/// One owner's rooms: those found by name, the others created.
async fn prepare_rooms(
    api: &Api,
    account: &Account,
    owner: u32,
    options: &Options,
) -> Result<Vec<(u32, String)>, String> {
    let context = |error: ApiError| format!("cannot prepare the rooms of {}: {error}", account.username);
    let mut missing: Vec<(u32, String)> = (owner..options.rooms)
        .step_by(options.users as usize)
        .map(|room| (room, format!("{}-room-{room}", options.prefix)))
        .collect();
    let mut found = Vec::with_capacity(missing.len());

    let mut cursor = None;
    for _ in 0..PAGES_MAX {
        let ask = ListConversations { cursor: cursor.as_ref(), limit: PAGE_LIMIT };
        let page: Page = api.command(&account.token, "list_conversations", ask).await.map_err(context)?;
        for conversation in page.conversations {
            let at = missing.iter().position(|(_, name)| conversation.name.as_ref() == Some(name));
            if let Some(at) = at.filter(|_| !conversation.archived) {
                found.push((missing.swap_remove(at).0, conversation.id));
            }
        }
        cursor = page.next_cursor.filter(|cursor| !cursor.is_null());
        if cursor.is_none() || missing.is_empty() {
            break;
        }
    }
    for (room, name) in missing {
        let ask = CreateRoom { kind: "public_room", name: &name, description: "Load test" };
        let created: Created = api.command(&account.token, "create_conversation", ask).await.map_err(|error| {
            let conflict = error.code() == "conflict";
            let hint = if conflict { ". Somebody else has a room of that name: choose another --prefix" } else { "" };
            format!("cannot create the room {name}: {error}{hint}")
        })?;
        found.push((room, created.conversation.id));
    }
    Ok(found)
}

async fn join_rooms(
    api: &Api,
    account: &Account,
    user: u32,
    rooms: &[String],
    options: &Options,
) -> Result<(), String> {
    for room in rooms_of(user, options.rooms, options.rooms_per_user) {
        if room % options.users == user {
            continue; // The owner is in it.
        }
        let conversation_id = &rooms[room as usize];
        let joined = api.command::<_, IgnoredAny>(&account.token, "join_conversation", Join { conversation_id }).await;
        match joined {
            Ok(_) => {}
            Err(error) if error.code() == "conflict" => {} // In it since an earlier run.
            Err(error) => return Err(format!("{} cannot join {conversation_id}: {error}", account.username)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_spread_round_robin() {
        assert_eq!(rooms_of(0, 3, 1), [0]);
        assert_eq!(rooms_of(7, 3, 1), [1]);
        assert_eq!(rooms_of(8, 3, 2), [2, 0]);
        assert_eq!(rooms_of(1, 3, 9), [1, 2, 0]);
        let mut sizes = [0; 5];
        (0..50).flat_map(|user| rooms_of(user, 5, 1)).for_each(|room| sizes[room as usize] += 1);
        assert_eq!(sizes, [10; 5]);
    }
}
