//! What two users with a block between them see of each other: messages in shared conversations, and nothing else.
//!
//! How: Ann blocks Bob, after both were permitted to type, so that what the server remembers of the time before is
//! attacked too. Then each of them types, reads, changes their presence and their profile. A message that the same user
//! sends afterwards is the fence: when it arrives, everything from before it has arrived. Eve, whom nobody blocks, must
//! receive all of it.

use crate::support::{Client, Format, Server, User, code, id_of, server, shards, unique};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than the time between two typing signals of one connection.
const TYPING_INTERVAL: Duration = Duration::from_millis(2_100);

fn here(conversation: &str) -> Value {
    json!({"conversation_id": conversation})
}

async fn direct(server: &Server, one: &User, other: &User) -> String {
    id_of(&server.ok(one, "create_conversation", json!({"kind": "direct", "member_ids": [other.id]})).await)
}

/// Events up to the first of this kind that has `value` in `field`, that one included.
async fn events_until(client: &mut Client, kind: &str, field: &str, value: &str) -> Vec<Value> {
    let mut events = Vec::new();
    loop {
        events.push(client.next_event().await);
        let last = &events[events.len() - 1];
        if last["type"] == kind && last["data"][field] == value {
            return events;
        }
    }
}

/// The kinds of the signals among these events that are about a user, each once.
fn signals(events: &[Value], about: &User) -> Vec<String> {
    let about = events.iter().filter(|event| event["data"]["user_id"] == json!(about.id));
    let mut kinds: Vec<String> = about.map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    kinds.sort();
    kinds.dedup();
    kinds
}

/// Ann, Bob and Eve in a room, where Eve has sent two messages. Each is connected and watches the presence of all.
struct Room {
    server: &'static Server,
    users: [User; 3],
    clients: [Client; 3],
    id: String,
    seq: i64,
}

async fn room(workers: usize) -> Room {
    let server = shards(workers).await;
    let users: [User; 3] = server.register_many(3).await.try_into().unwrap();
    let [ann, bob, eve] = &users;
    let id = server.room(&[ann, bob, eve]).await;
    let message = json!({"conversation_id": id, "content": "hello"});
    server.ok(eve, "send_message", message.clone()).await;
    let seq = server.ok(eve, "send_message", message).await["seq"].as_i64().unwrap();
    let mut clients = [
        Client::all(server, ann, Format::Json).await,
        Client::all(server, bob, Format::MessagePack).await,
        Client::all(server, eve, Format::Json).await,
    ];
    for client in &mut clients {
        let shown = client.ok("get_presence", json!({"user_ids": [ann.id, bob.id, eve.id]})).await;
        assert_eq!(shown["presence"].as_array().unwrap().len(), 3);
    }
    Room { server, users, clients, id, seq }
}

impl Room {
    /// One of the users types, reads up to `seq`, changes their presence, and then sends a message. Returns the events
    /// that the clients of all three have received until then.
    async fn act(&mut self, user: usize, seq: i64) -> Vec<Vec<Value>> {
        let mark = unique("mark");
        let acting = &mut self.clients[user];
        acting.send("typing", here(&self.id)).await;
        acting.ok("mark_read", json!({"conversation_id": self.id, "seq": seq})).await;
        acting.ok("set_presence", json!({"status": "busy", "status_text": mark})).await;
        let mut of_eve = events_until(&mut self.clients[2], "presence", "status_text", &mark).await;
        let message = json!({"conversation_id": self.id, "content": mark});
        self.clients[user].ok("send_message", message).await;
        let mut received = Vec::new();
        for client in &mut self.clients {
            received.push(events_until(client, "message_created", "content", &mark).await);
        }
        of_eve.append(&mut received[2]);
        received[2] = of_eve;
        received
    }
}

#[tokio::test]
async fn hides_typing_read_marks_and_presence_in_shared_rooms() {
    for workers in [1, 2] {
        let mut room = room(workers).await;
        let all = ["presence", "read_updated", "typing"];
        // Without a block everybody receives everything. The connections remember for some seconds who may type.
        for (user, other) in [(0, 1), (1, 0)] {
            let received = room.act(user, room.seq - 1).await;
            for reader in [other, 2] {
                assert_eq!(signals(&received[reader], &room.users[user]), all);
            }
        }
        let bob = room.users[1].id;
        room.clients[0].ok("block_user", json!({"user_id": bob})).await;
        tokio::time::sleep(TYPING_INTERVAL).await;
        for (user, other) in [(0, 1), (1, 0)] {
            let received = room.act(user, room.seq).await;
            assert_eq!(signals(&received[2], &room.users[user]), all);
            assert_eq!(signals(&received[other], &room.users[user]), [""; 0], "{:?}", received[other]);
        }
        for (user, other) in [(0, 1), (1, 0)] {
            let [user, other] = [&room.users[user], &room.users[other]];
            let listed = room.server.ok(user, "list_members", here(&room.id)).await;
            for member in listed["members"].as_array().unwrap() {
                assert_eq!(member["read_seq"].is_null(), member["id"] == json!(other.id), "{member}");
            }
            let shown = room.server.ok(user, "get_presence", json!({"user_ids": [other.id]})).await;
            assert_eq!(shown["presence"], json!([]));
            // A question of now, which finds the block in PostgreSQL.
            let mut fresh = Client::all(room.server, other, Format::Json).await;
            room.server.ok(user, "typing", here(&room.id)).await;
            assert_eq!(room.clients[2].event("typing").await["user_id"], json!(user.id));
            assert_eq!(signals(&fresh.drain().await, user), [""; 0]);
        }
        // Messages continue, and so does everything else after the end of the block.
        room.clients[0].ok("unblock_user", json!({"user_id": bob})).await;
        room.server.ok(&room.users[0], "typing", here(&room.id)).await;
        assert_eq!(room.clients[2].event("typing").await["user_id"], json!(room.users[0].id));
    }
}

#[tokio::test]
async fn hides_the_presence_of_each_from_the_other_while_it_changes() {
    let room = room(2).await;
    let Room { server, users, clients: [mut of_ann, mut of_bob, _], .. } = room;
    let [ann, bob, _] = &users;
    let watch = |user: &User| json!({"user_ids": [user.id]});
    for round in 0..40 {
        of_bob.ok("get_presence", watch(ann)).await;
        of_ann.ok("get_presence", watch(bob)).await;
        // These changes are on their way when the block is committed.
        of_ann.send("set_presence", json!({"status": "away", "status_text": format!("before {round}")})).await;
        of_bob.send("set_presence", json!({"status": "away", "status_text": format!("before {round}")})).await;
        let question = of_bob.send("get_presence", watch(ann)).await;
        of_ann.ok("block_user", json!({"user_id": bob.id})).await;
        of_ann.take_events();
        drop(of_bob.reply(question).await);
        drop(of_bob.drain().await);
        let after = json!({"status": "busy", "status_text": format!("after {round}")});
        of_ann.ok("set_presence", after.clone()).await;
        of_bob.ok("set_presence", after).await;
        for (client, other) in [(&mut of_ann, bob), (&mut of_bob, ann)] {
            assert_eq!(client.ok("get_presence", watch(other)).await["presence"], json!([]));
        }
        // Longer than a round of presence, now and then.
        if round % 8 == 0 {
            tokio::time::sleep(Duration::from_millis(600)).await;
        }
        for (client, other) in [(&mut of_ann, bob), (&mut of_bob, ann)] {
            assert_eq!(signals(&client.drain().await, other), [""; 0], "round {round}");
        }
        server.ok(ann, "unblock_user", json!({"user_id": bob.id})).await;
    }
}

#[tokio::test]
async fn announces_no_profile_in_a_direct_conversation_with_a_block() {
    let server = shards(1).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let place = direct(server, &ann, &bob).await;
    let room = server.room(&[&ann, &bob]).await;
    server.ok(&ann, "block_user", json!({"user_id": bob.id})).await;
    let mut of_ann = Client::all(server, &ann, Format::Json).await;
    let mut of_bob = Client::all(server, &bob, Format::Json).await;
    for (user, other) in [(&ann, &mut of_bob), (&bob, &mut of_ann)] {
        let name = json!({"display_name": unique("New name"), "bio": "something to say"});
        assert_eq!(server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&name)).await.0, 200);
        // The room's log has it. The conversations are announced in order, so a second change follows the first.
        other.event_where("member_updated", |event| event["conversation_id"] == json!(room)).await;
        let name = json!({"display_name": unique("Newer name")});
        assert_eq!(server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&name)).await.0, 200);
        other.event_where("member_updated", |event| event["profile"]["display_name"] == name["display_name"]).await;
        assert_eq!(server.last_seq(user, &place).await, 1, "the direct conversation has only its beginning");
    }
}

#[tokio::test]
async fn refuses_new_conversations_and_invitations_between_two_users_with_a_block() {
    let server = shards(1).await;
    let users = server.register_many(4).await;
    let [ann, bob, eve, kim] = &users[..] else { unreachable!() };
    let old = direct(server, ann, eve).await;
    for blocked in [bob, eve] {
        server.ok(ann, "block_user", json!({"user_id": blocked.id})).await;
    }
    let room = server.room(&[kim, bob]).await;
    let room_of_ann = server.room(&[ann, kim]).await;
    let with = |user: &User, kind: &str| json!({"kind": kind, "name": "x", "member_ids": [user.id]});
    for (user, other, place) in [(bob, ann, &room), (ann, bob, &room_of_ann)] {
        for kind in ["direct", "group", "private_room", "public_room"] {
            let mut data = with(other, kind);
            if kind == "direct" {
                data.as_object_mut().unwrap().remove("name");
            }
            let refused = server.call(user, "create_conversation", data).await.unwrap_err();
            assert_eq!(code(&refused), "blocked", "{kind}: {refused}");
            if user.id == bob.id {
                let text = refused["detail"].as_str().unwrap();
                assert!(!text.contains("has blocked"), "{text}");
            }
        }
        let invite = json!({"conversation_id": place, "user_id": other.id});
        assert_eq!(code(&server.call(user, "invite_member", invite).await.unwrap_err()), "blocked");
    }
    // An old direct conversation is not opened again; what is in it stays readable.
    let again = json!({"kind": "direct", "member_ids": [ann.id]});
    assert_eq!(code(&server.call(eve, "create_conversation", again).await.unwrap_err()), "blocked");
    server.ok(eve, "get_history", here(&old)).await;
    for user in [bob, eve] {
        server.ok(ann, "unblock_user", json!({"user_id": user.id})).await;
    }
    direct(server, bob, ann).await;
    assert_eq!(direct(server, eve, ann).await, old);
}

#[tokio::test]
async fn shows_no_typing_of_muted_and_read_only_members() {
    for workers in [1, 2] {
        let server = shards(workers).await;
        let users = server.register_many(3).await;
        let [ann, bob, eve] = &users[..] else { unreachable!() };
        let room = server.room(&[ann, bob, eve]).await;
        let mut of_bob = Client::all(server, bob, Format::Json).await;
        let mut of_eve = Client::all(server, eve, Format::MessagePack).await;
        let of = |field: &str, value: Value| json!({"conversation_id": room, "user_id": bob.id, field: value});
        for (restrict, release, refusal) in [
            (("mute_member", of("duration_s", json!(3600))), ("mute_member", of("duration_s", json!(0))), "muted"),
            (("set_role", of("role", json!("read_only"))), ("set_role", of("role", json!("member"))), "read_only"),
        ] {
            of_bob.send("typing", here(&room)).await;
            assert_eq!(of_eve.event("typing").await["user_id"], json!(bob.id));
            server.ok(ann, restrict.0, restrict.1).await;
            tokio::time::sleep(TYPING_INTERVAL).await;
            // Bob's connection still knows that he was permitted to type.
            of_bob.send("typing", here(&room)).await;
            assert_eq!(code(&server.call(bob, "typing", here(&room)).await.unwrap_err()), refusal);
            of_bob.drain().await;
            let fence = unique("fence");
            server.ok(ann, "send_message", json!({"conversation_id": room, "content": fence})).await;
            let received = events_until(&mut of_eve, "message_created", "content", &fence).await;
            assert_eq!(signals(&received, bob), [""; 0], "{received:?}");
            server.ok(ann, release.0, release.1).await;
            tokio::time::sleep(Duration::from_millis(10)).await; // the server compares times in milliseconds
            server.ok(bob, "typing", here(&room)).await;
            assert_eq!(of_eve.event("typing").await["user_id"], json!(bob.id));
            tokio::time::sleep(TYPING_INTERVAL).await;
        }
        let archive = json!({"conversation_id": room, "archived": true});
        of_bob.send("typing", here(&room)).await;
        assert_eq!(of_eve.event("typing").await["user_id"], json!(bob.id));
        server.ok(ann, "archive_conversation", archive).await;
        assert_eq!(code(&server.call(bob, "typing", here(&room)).await.unwrap_err()), "read_only");
    }
}

#[tokio::test]
async fn bounds_the_blocks_that_a_user_sets_and_lifts_in_an_hour() {
    let server = server().await;
    let users = server.register_many(2).await;
    let [ann, bob] = &users[..] else { unreachable!() };
    let database = server.database().await;
    let bobs = json!({"user_id": bob.id});
    let (rows, used) = (
        format!("SELECT count(*) FROM audit_logs WHERE user_id = {}", ann.id),
        format!("SELECT used FROM toggle_budgets WHERE user_id = {}", ann.id),
    );
    let number = async |query: &str| database.query_one(query, &[]).await.unwrap().get::<_, i64>(0);
    let before = number(&rows).await;
    for kind in ["block_user", "block_user", "unblock_user", "unblock_user"] {
        server.ok(ann, kind, bobs.clone()).await;
    }
    assert_eq!(number(&rows).await, before + 2, "what changes nothing has no row");
    assert_eq!(number(&used).await, 2, "and costs nothing");
    // As after 198 changes within the last hour.
    let spend = format!("UPDATE toggle_budgets SET used = 199 WHERE user_id = {}", ann.id);
    database.batch_execute(&spend).await.unwrap();
    server.ok(ann, "block_user", bobs.clone()).await;
    let problem = server.call(ann, "unblock_user", bobs.clone()).await.unwrap_err();
    let limit = json!({"limiter": "toggles", "scope": "user", "limit": 200, "window_ms": 3_600_000});
    assert_eq!((code(&problem).as_str(), &problem["details"]), ("rate_limited", &limit), "{problem}");
    assert!(problem["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 3_600_000), "{problem}");
    assert_eq!(server.ok(ann, "list_blocks", json!({})).await["users"].as_array().map(Vec::len), Some(1));
    assert_eq!(number(&rows).await, before + 3);
    let later = format!("UPDATE toggle_budgets SET began_at = now() - interval '1 hour' WHERE user_id = {}", ann.id);
    database.batch_execute(&later).await.unwrap();
    server.ok(ann, "unblock_user", bobs).await;
}
