//! Profile changes: every conversation of a user announces the new profile, also with concurrent changes. A profile
//! that is being saved delays no message.
//!
//! How: a second PostgreSQL session executes the server's own statements and leaves its transaction open. A state that
//! lasts only a moment in a running server then lasts as long as the test needs.

use crate::support::{Client, Format, PATIENCE, Server, User, id_of, unique, wait_until};
use chat_server::storage::sql::accounts::UPDATE_PROFILE;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Versions of a profile: the current one, the one that all conversations have announced, the one of this conversation.
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
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 10] =
        [&user.id, &Some(name), &false, &keep, &false, &keep, &None::<bool>, &keep, &None::<i64>, &json!({})];
    assert_eq!(database.execute(UPDATE_PROFILE, &parameters).await.unwrap(), 1);
}

#[tokio::test]
async fn commits_a_mention_while_the_mentioned_user_saves_a_profile() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let database = server.database().await;
    database.batch_execute("BEGIN").await.unwrap();
    rename(&database, &bob, "Bob the Second").await;
    let mention = json!({"conversation_id": room, "content": format!("are you there, @{}?", bob.name)});
    // With the transaction open, a send that waits for the lock would fail at its deadline.
    server.ok(&ann, "send_message", mention).await;
    database.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn announces_new_members_under_their_name_at_the_commit() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room =
        id_of(&server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("r")})).await);
    let database = server.database().await;
    let mut observer = Client::all(&server, &ann, Format::Json).await;
    for (n, command) in ["join_conversation", "create_conversation"].into_iter().enumerate() {
        let name = format!("Bob number {n}");
        database.batch_execute("BEGIN").await.unwrap();
        rename(&database, &bob, &name).await;
        let data = match command {
            "join_conversation" => json!({"conversation_id": room}),
            _ => json!({"kind": "group", "member_ids": [ann.id]}),
        };
        let saving = async {
            let waiting = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock')";
            wait_until(&server.database().await, waiting).await;
            database.batch_execute("COMMIT").await.unwrap();
        };
        let (done, ()) = tokio::join!(server.ok(&bob, command, data), saving);
        let (announced, conversation) = if command == "join_conversation" {
            (observer.event("member_joined").await["user"].clone(), room.clone())
        } else {
            let event = observer.event("conversation_created").await;
            let members = event["members"].as_array().unwrap().clone();
            (members.into_iter().find(|member| member["id"] == bob.id).unwrap(), id_of(&done))
        };
        let (current, _, of_member) = versions(&database, &bob, &conversation).await;
        assert_eq!((announced["display_name"].as_str(), of_member), (Some(name.as_str()), current), "{command}");
    }
}

#[tokio::test]
async fn announces_other_profiles_when_one_cannot_be_announced() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let broken = server.room(&[&ann]).await;
    let room =
        id_of(&server.ok(&bob, "create_conversation", json!({"kind": "public_room", "name": unique("r")})).await);
    let database = server.database().await;
    // An event of Ann's room already has the next seq, so her profile cannot be announced. It is the first in the
    // queue.
    let break_it = "INSERT INTO conversation_events (conversation_id, seq, kind, actor_id, payload, mutation_id) \
                    SELECT id, last_seq + 1, 'conversation_updated', $1, '{}', -1 FROM conversations WHERE id = $2";
    let number: i64 = broken.split_once('_').unwrap().1.parse().unwrap();
    database.execute(break_it, &[&ann.id, &number]).await.unwrap();
    let last_announced = "UPDATE users SET announced_at = now() - interval '1 hour' WHERE id = $1";
    database.execute(last_announced, &[&bob.id]).await.unwrap();
    for user in [&ann, &bob] {
        let edit: Value = json!({"bio": "a new text"});
        assert_eq!(server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&edit)).await.0, 200);
    }
    let started = Instant::now();
    while versions(&database, &bob, &room).await != (1, 1, 1) {
        assert!(started.elapsed() < PATIENCE, "the profile of Bob is not announced");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn announces_no_profile_where_its_user_may_not_write() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let open = server.room(&[&ann, &bob]).await;
    let restricted = [server.room(&[&ann, &bob]).await, server.room(&[&ann, &bob]).await];
    let of_bob = |room: &str, more: Value| {
        let mut data = json!({"conversation_id": room, "user_id": bob.id});
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    server.ok(&ann, "mute_member", of_bob(&restricted[0], json!({}))).await;
    server.ok(&ann, "set_role", of_bob(&restricted[1], json!({"role": "read_only"}))).await;
    let mut observer = Client::all(&server, &ann, Format::Json).await;
    let database = server.database().await;
    let rename = async |name: &str| {
        let body = json!({"display_name": name});
        assert_eq!(server.request(Method::PATCH, "/users/me", Some(&bob.token), Some(&body)).await.0, 200);
        let begin = "UPDATE users SET announced_at = now() - interval '1 hour' WHERE id = $1";
        database.execute(begin, &[&bob.id]).await.unwrap();
        let started = Instant::now();
        while versions(&database, &bob, &open).await.0 != versions(&database, &bob, &open).await.1 {
            assert!(started.elapsed() < PATIENCE, "the profile is not announced");
            sleep(Duration::from_millis(100)).await;
        }
    };
    rename("a shout").await;
    let events = observer.drain().await;
    let rooms: Vec<&Value> = events.iter().map(|event| &event["data"]["conversation_id"]).collect();
    assert_eq!(rooms, [&json!(open)], "{events:?}");
    server.ok(&ann, "mute_member", of_bob(&restricted[0], json!({"duration_s": 0}))).await;
    server.ok(&ann, "set_role", of_bob(&restricted[1], json!({"role": "member"}))).await;
    observer.drain().await;
    rename("Bob").await;
    let mut rooms: Vec<String> =
        observer.drain().await.iter().map(|event| event["data"]["conversation_id"].as_str().unwrap().into()).collect();
    rooms.sort();
    let mut all = vec![open.clone(), restricted[0].clone(), restricted[1].clone()];
    all.sort();
    assert_eq!(rooms, all, "the newest profile is announced everywhere");
}
