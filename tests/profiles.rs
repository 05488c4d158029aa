//! A changed profile is told wherever its owner is a member, whatever happens at the same time, and holds nobody up.
//!
//! How: a second session of PostgreSQL's executes the server's own statements and lets its transaction stand, so that what
//! happens for a moment only in a running server stays as it is for as long as a test needs to look.
#![cfg(feature = "test-db")]

mod support;

use chat_server::storage::sql::accounts::UPDATE_PROFILE;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use support::{Client, Format, Server, User, id_of, unique};
use tokio::time::{sleep, timeout};

/// The versions of somebody's profile: as it is, as all conversations have told it, as this conversation has.
async fn versions(database: &tokio_postgres::Client, user: &User, room: &str) -> (i64, i64, i64) {
    let statement = "SELECT u.profile_version, u.announced_version, m.profile_version FROM users u \
                     JOIN conversation_members m ON m.user_id = u.id WHERE u.id = $1 AND m.conversation_id = $2";
    let number: i64 = room.split_once('_').unwrap().1.parse().unwrap();
    let row = database.query_one(statement, &[&user.id, &number]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

/// Changes a name as `PATCH /users/me` does, in the transaction that `database` has open.
async fn rename(database: &tokio_postgres::Client, user: &User, name: &str) {
    let keep: Option<&str> = None;
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&user.id, &Some(name), &false, &keep, &false, &keep, &None::<bool>];
    assert_eq!(database.execute(UPDATE_PROFILE, &parameters).await.unwrap(), 1);
}

#[tokio::test]
async fn a_profile_that_is_being_saved_holds_no_message_up() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let database = server.database().await;
    database.batch_execute("BEGIN").await.unwrap();
    rename(&database, &bob, "Bob the Second").await;
    let mention = json!({"conversation_id": room, "content": format!("are you there, @{}?", bob.name)});
    let sent = timeout(Duration::from_secs(4), server.ok(&ann, "send_message", mention)).await;
    database.batch_execute("COMMIT").await.unwrap();
    assert!(sent.is_ok(), "a mention waits for whoever is mentioned to save their profile");
}

#[tokio::test]
async fn who_comes_in_is_told_as_what_they_are_called_by_then() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room =
        id_of(&server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("r")})).await);
    let database = server.database().await;
    let mut watching = Client::all(&server, &ann, Format::Json).await;
    for (n, way) in ["join_conversation", "create_conversation"].into_iter().enumerate() {
        let name = format!("Bob number {n}");
        database.batch_execute("BEGIN").await.unwrap();
        rename(&database, &bob, &name).await;
        let data = match way {
            "join_conversation" => json!({"conversation_id": room}),
            _ => json!({"kind": "group", "member_ids": [ann.id]}),
        };
        let saving = async {
            sleep(Duration::from_millis(300)).await;
            database.batch_execute("COMMIT").await.unwrap();
        };
        let (done, ()) = tokio::join!(server.ok(&bob, way, data), saving);
        let (told, place) = if way == "join_conversation" {
            (watching.event("member_joined").await["user"].clone(), room.clone())
        } else {
            let event = watching.event("conversation_created").await;
            let members = event["members"].as_array().unwrap().clone();
            (members.into_iter().find(|member| member["id"] == bob.id).unwrap(), id_of(&done))
        };
        let (now, _, of_member) = versions(&database, &bob, &place).await;
        assert_eq!((told["display_name"].as_str(), of_member), (Some(name.as_str()), now), "{way}");
    }
}

#[tokio::test]
async fn what_cannot_be_told_of_one_is_told_of_the_others() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let broken = server.room(&[&ann]).await;
    let room =
        id_of(&server.ok(&bob, "create_conversation", json!({"kind": "public_room", "name": unique("r")})).await);
    let database = server.database().await;
    // Ann's room has an entry where the next one belongs, and hers is the longest wait.
    let break_it = "INSERT INTO conversation_events (conversation_id, seq, kind, actor_id, payload, mutation_id) \
                    SELECT id, last_seq + 1, 'conversation_updated', $1, '{}', -1 FROM conversations WHERE id = $2";
    let number: i64 = broken.split_once('_').unwrap().1.parse().unwrap();
    database.execute(break_it, &[&ann.id, &number]).await.unwrap();
    let waited = "UPDATE users SET announced_at = now() - interval '1 hour' WHERE id = $1";
    database.execute(waited, &[&bob.id]).await.unwrap();
    for user in [&ann, &bob] {
        let edit: Value = json!({"bio": "I have something to say"});
        assert_eq!(server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&edit)).await.0, 200);
    }
    for _ in 0..100 {
        if versions(&database, &bob, &room).await == (1, 1, 1) {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("nothing is told any more of those who come after {}", ann.name);
}
