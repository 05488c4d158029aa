//! A large population, inserted into the private PostgreSQL of a server that this program has started.
//!
//! Registering 10,000 users through the server hashes 10,000 passwords, which takes minutes and is no part of most
//! measurements. Inserted users have no password. Each has a session, and a token that is signed with the secret that
//! the server was started with. A rerun finds what an earlier one inserted. Names differ from those of `account` and
//! `rooms`: a later run with fewer users on the same data could not sign in as users without a password.

use super::account::{Account, SignIn};
use super::launch::Server;
use crate::scenario::{RoomKind, RoomPlan};
use chat_server::auth::token::TokenKeys;
use chat_server::ids::{SessionId, UserId};
use chat_server::storage::connect::{Target, connect};
use std::collections::HashMap;
use std::time::SystemTime;
use tokio_postgres::Client;

/// From so many users on, a population is inserted.
const USERS_MIN: u32 = 1_000;
/// As long as the server's own tokens in a run.
const TOKEN_SECONDS: i64 = 12 * 3_600;
const DATABASE: &str = "veza_chat";

const RULES: &str = "SELECT format('SET app.rules = %L; SET search_path = %I, public, pg_temp', name, name) \
    FROM rule_sets ORDER BY last_used_at DESC LIMIT 1";
const USERS: &str = "INSERT INTO users (username, display_name) SELECT n, n FROM unnest($1::text[]) n \
    WHERE NOT EXISTS (SELECT FROM users u WHERE lower(u.username) = lower(n))";
const USER_IDS: &str = "SELECT username, id FROM users WHERE username = ANY ($1)";
const SESSIONS: &str = "INSERT INTO sessions (user_id, device_name, ip) \
    SELECT u, 'loadtest', '127.0.0.1' FROM unnest($1::bigint[]) u RETURNING user_id, id";
const ROOMS: &str = "INSERT INTO conversations (id, kind, name, owner_id) \
    SELECT nextval('conversation_numbers') * 4 + CASE k WHEN 'group' THEN 1 ELSE 2 END, k::conversation_kind, n, o \
    FROM unnest($1::text[], $2::text[], $3::bigint[]) f (k, n, o) \
    WHERE NOT EXISTS (SELECT FROM conversations c WHERE c.owner_id = o AND c.name = n)";
const ROOM_IDS: &str = "SELECT name, id FROM conversations WHERE name = ANY ($1)";
const MEMBERS: &str = "INSERT INTO conversation_members (conversation_id, user_id, role) \
    SELECT c, u, r::member_role FROM unnest($1::bigint[], $2::bigint[], $3::text[]) f (c, u, r) \
    ON CONFLICT DO NOTHING";
/// What autovacuum would do later, in the middle of the measurement.
const TIDY_UP: &str = "VACUUM ANALYZE users, sessions, conversations, conversation_members, conversation_statistics";

/// Whether this population can be inserted.
pub fn fits(users: u32, rooms: &[RoomPlan]) -> bool {
    users >= USERS_MIN && rooms.iter().all(|room| room.kind != RoomKind::Direct)
}

/// Inserts what is missing. Returns the users and the identifiers of the rooms, by index.
pub async fn population(
    server: &Server,
    sign_in: &SignIn,
    users: u32,
    rooms: &[RoomPlan],
) -> Result<(Vec<Account>, Vec<String>), String> {
    // Short: a name has 50 characters at most, and a prefix 40.
    let sign_in = &SignIn { prefix: format!("{}-i", sign_in.prefix), ..sign_in.clone() };
    let target = Target::embedded_as_superuser(&server.data_dir().join("postgres"), DATABASE);
    let client = connect(&target.login_config()).await.map_err(|error| described(&error))?;
    // Those of the server, which may be of another version.
    let session: String =
        client.query_one(RULES, &[]).await.and_then(|row| row.try_get(0)).map_err(|error| described(&error))?;
    client.batch_execute(&session).await.map_err(|error| described(&error))?;
    let accounts = accounts(&client, server, sign_in, users).await?;
    let names: Vec<String> = rooms.iter().map(|room| format!("{}-{}", sign_in.prefix, room.name)).collect();
    let kinds: Vec<&str> =
        rooms.iter().map(|room| if room.kind == RoomKind::Group { "group" } else { "public_room" }).collect();
    let id_of = |user: &u32| accounts[*user as usize].id as i64;
    let owners: Vec<i64> = rooms.iter().filter_map(|room| room.members.first().map(id_of)).collect();
    client.execute(ROOMS, &[&kinds, &names, &owners]).await.map_err(|error| described(&error))?;
    let numbers = numbers(&client, ROOM_IDS, &names).await?;
    let (mut of_rooms, mut members, mut roles) = (Vec::new(), Vec::new(), Vec::new());
    let mut ids = Vec::with_capacity(rooms.len());
    for (room, name) in rooms.iter().zip(&names) {
        let number = *numbers.get(name).ok_or_else(|| format!("the room {name} was not inserted"))?;
        for (at, user) in room.members.iter().enumerate() {
            of_rooms.push(number);
            members.push(id_of(user));
            roles.push(if at == 0 { "owner" } else { "member" });
        }
        ids.push(format!("{}_{number}", if room.kind == RoomKind::Group { "group" } else { "room" }));
    }
    client.execute(MEMBERS, &[&of_rooms, &members, &roles]).await.map_err(|error| described(&error))?;
    client.batch_execute(TIDY_UP).await.map_err(|error| described(&error))?;
    Ok((accounts, ids))
}

async fn accounts(client: &Client, server: &Server, sign_in: &SignIn, users: u32) -> Result<Vec<Account>, String> {
    let names: Vec<String> = (0..users).map(|index| sign_in.username(index)).collect();
    client.execute(USERS, &[&names]).await.map_err(|error| described(&error))?;
    let ids = numbers(client, USER_IDS, &names).await?;
    let in_order: Vec<i64> = names.iter().filter_map(|name| ids.get(name).copied()).collect();
    if in_order.len() != names.len() {
        return Err(format!("{} of {users} users were not inserted", names.len() - in_order.len()));
    }
    let rows = client.query(SESSIONS, &[&in_order]).await.map_err(|error| described(&error))?;
    let mut sessions = HashMap::new();
    for row in rows {
        sessions.insert(
            row.try_get::<_, i64>(0).map_err(|error| described(&error))?,
            row.try_get::<_, i64>(1).map_err(|error| described(&error))?,
        );
    }
    let keys = TokenKeys::new(server.secret().as_bytes()).map_err(|error| error.to_string())?;
    let now_seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() as i64);
    names
        .into_iter()
        .zip(in_order)
        .map(|(username, id)| {
            let session = *sessions.get(&id).ok_or_else(|| format!("{username} has no session"))?;
            let token = keys.issue_access(UserId(id), SessionId(session), now_seconds, TOKEN_SECONDS);
            Ok(Account { id: id as u64, username, token })
        })
        .collect()
}

/// A query of names and numbers, as a map.
async fn numbers(client: &Client, query: &str, names: &[String]) -> Result<HashMap<String, i64>, String> {
    let rows = client.query(query, &[&names]).await.map_err(|error| described(&error))?;
    rows.into_iter()
        .map(|row| {
            Ok((row.try_get(0).map_err(|error| described(&error))?, row.try_get(1).map_err(|error| described(&error))?))
        })
        .collect()
}

fn described(error: &tokio_postgres::Error) -> String {
    let reason = error.as_db_error().map_or_else(|| error.to_string(), ToString::to_string);
    format!("cannot insert users and rooms into the server's private PostgreSQL: {reason}")
}
