//! Read markers of conversations and threads, and who sees them.
//!
//! How: one user reads on two connections while other members watch. Each test compares acks, events and later reads.

use crate::support::{Client, Format, Random, Server, User, code, server, shards};
use reqwest::Method;
use serde_json::{Value, json};

async fn send_message(server: &Server, user: &User, room: &str, parent: Option<&Value>) -> Value {
    let message = json!({"conversation_id": room, "content": "text", "parent_message_id": parent});
    server.ok(user, "send_message", message).await
}

/// Whether a thread is followed, its read marker, and its number of unread replies.
fn state(answer: &Value) -> (bool, i64, i64) {
    let number = |name: &str| answer[name].as_i64().unwrap();
    (answer["following"].as_bool().unwrap(), number("read_seq"), number("unread_count"))
}

#[tokio::test]
async fn keeps_a_read_marker_per_thread() {
    let server = shards(4).await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob, &eve]).await;
    let question = send_message(server, &ann, &room, None).await;
    let data = json!({"message_id": question["message_id"]});
    let thread = async |user: &User| state(&server.ok(user, "get_thread", data.clone()).await);
    assert_eq!(thread(&ann).await, (false, 0, 0), "a message without replies is no thread");

    let first = send_message(server, &bob, &room, Some(&question["message_id"])).await;
    let second = send_message(server, &bob, &room, Some(&question["message_id"])).await;
    let (root_seq, first_seq, second_seq) =
        (question["seq"].as_i64().unwrap(), first["seq"].as_i64().unwrap(), second["seq"].as_i64().unwrap());
    assert_eq!(thread(&ann).await, (true, root_seq, 2), "the author of the root follows the thread from the root on");
    assert_eq!(thread(&bob).await, (true, first_seq, 0), "own replies are not unread");
    assert_eq!(thread(&eve).await, (false, 0, 0));
    let mark = |seq: i64| json!({"message_id": second["message_id"], "seq": seq});
    assert_eq!(code(&server.call(&eve, "mark_thread_read", mark(9)).await.unwrap_err()), "conflict");

    let mut phone = Client::none(server, &ann, Format::MessagePack).await;
    let mut reading = Client::none(server, &ann, Format::Json).await;
    let answer = reading.ok("mark_thread_read", mark(first_seq)).await;
    assert_eq!((&answer["message_id"], state(&answer)), (&question["message_id"], (true, first_seq, 1)));
    let received = phone.event("thread_follow_updated").await;
    assert_eq!((&received["message_id"], state(&received)), (&question["message_id"], (true, first_seq, 1)));
    assert_eq!(received["conversation_id"], json!(room));
    assert_eq!(
        state(&reading.ok("mark_thread_read", mark(0)).await),
        (true, first_seq, 1),
        "the marker never moves backward"
    );
    assert_eq!(
        state(&reading.ok("mark_thread_read", mark(1_000_000)).await),
        (true, second_seq, 0),
        "the marker stops at the last reply"
    );
    assert!(reading.drain().await.is_empty(), "the connection that sent the command receives the ack only");
    let received: Vec<_> = phone.drain().await.iter().map(|event| state(&event["data"])).collect();
    assert_eq!(received, [(true, second_seq, 0)], "a command that changes nothing sends no event");

    let third = send_message(server, &eve, &room, Some(&first["message_id"])).await;
    assert_eq!(thread(&ann).await, (true, second_seq, 1));
    server.ok(&eve, "delete_message", json!({"message_id": third["message_id"]})).await;
    assert_eq!(thread(&ann).await, (true, second_seq, 0), "a deleted reply is not unread");

    let stop = json!({"message_id": question["message_id"], "following": false});
    assert_eq!(state(&server.ok(&ann, "follow_thread", stop).await), (false, 0, 0));
    let last = send_message(server, &bob, &room, Some(&question["message_id"])).await;
    let again = json!({"message_id": question["message_id"], "following": true});
    let last_seq = last["seq"].as_i64().unwrap();
    let followed = server.ok(&ann, "follow_thread", again).await;
    assert_eq!((state(&followed).0, state(&followed).2), (true, 0), "following again starts at the present");
    assert!(state(&followed).1 >= last_seq);
}

#[tokio::test]
async fn lists_followed_threads_by_their_newest_reply() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let (room, other) = (server.room(&[&ann, &bob]).await, server.room(&[&ann, &bob]).await);
    let mut roots = Vec::new();
    for conversation in [&room, &other, &room] {
        let question = send_message(server, &ann, conversation, None).await["message_id"].clone();
        send_message(server, &bob, conversation, Some(&question)).await;
        roots.push(question);
    }
    send_message(server, &bob, &room, Some(&roots[0])).await; // the oldest thread gets the newest reply
    let listed = async |data: Value| {
        let page = server.ok(&ann, "list_threads", data).await;
        let threads = page["threads"].as_array().unwrap().clone();
        let ids: Vec<Value> = threads.iter().map(|thread| thread["root"]["message_id"].clone()).collect();
        let unread: Vec<i64> = threads.iter().map(|thread| thread["unread_count"].as_i64().unwrap()).collect();
        (ids, unread, page["next_cursor"].clone())
    };
    let newest_first = vec![roots[0].clone(), roots[2].clone(), roots[1].clone()];
    assert_eq!(listed(json!({})).await, (newest_first.clone(), vec![2, 1, 1], Value::Null));
    let (ids, unread, _) = listed(json!({"conversation_id": other})).await;
    assert_eq!((ids, unread), (vec![roots[1].clone()], vec![1]));
    let mut cursor = Value::Null;
    for newest in &newest_first {
        let (ids, _, next) = listed(json!({"limit": 1, "cursor": cursor})).await;
        assert_eq!(ids, std::slice::from_ref(newest));
        cursor = next;
    }
    assert_eq!(cursor, Value::Null);
    assert_eq!(code(&server.call(&ann, "list_threads", json!({"cursor": "then"})).await.unwrap_err()), "bad_request");
    // A former member follows no thread of the conversation.
    server.ok(&ann, "leave_conversation", json!({"conversation_id": other})).await;
    assert_eq!(listed(json!({})).await.0.len(), 2);
    assert_eq!(
        code(&server.call(&ann, "list_threads", json!({"conversation_id": other})).await.unwrap_err()),
        "not_found"
    );
}

#[tokio::test]
async fn shows_private_read_receipts_to_their_owner_only() {
    let server = shards(4).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut observer = Client::all(server, &ann, Format::Json).await;
    let mut reading = Client::all(server, &bob, Format::Json).await;
    let mut phone = Client::all(server, &bob, Format::MessagePack).await;
    let shown = async |user: &User| {
        let page = server.ok(user, "list_members", json!({"conversation_id": room})).await;
        page["members"].as_array().unwrap().iter().find(|m| m["id"] == bob.id).unwrap()["read_seq"].clone()
    };
    for receipts in ["public", "private", "public"] {
        let setting = json!({"read_receipts": receipts});
        let answer = server.request(Method::PATCH, "/users/me", Some(&bob.token), Some(&setting)).await;
        assert_eq!((answer.0, &answer.1["read_receipts"]), (200, &json!(receipts)));
        let seq = send_message(server, &ann, &room, None).await["seq"].clone();
        reading.ok("mark_read", json!({"conversation_id": room, "seq": seq})).await;
        let received = phone.event("read_updated").await;
        assert_eq!(
            (&received["user_id"], &received["read_seq"], &received["conversation_id"]),
            (&json!(bob.id), &seq, &json!(room))
        );
        assert_eq!(shown(&bob).await, seq);
        // The next message comes after any event about the read marker.
        let next = send_message(server, &ann, &room, None).await["seq"].clone();
        let mut received_update = false;
        loop {
            let event = observer.next_event().await;
            received_update |= event["type"] == "read_updated" && event["data"]["user_id"] == bob.id;
            if event["type"] == "message_created" && event["data"]["seq"] == next {
                break;
            }
        }
        assert_eq!(received_update, receipts == "public");
        assert_eq!(shown(&ann).await, if receipts == "public" { seq } else { Value::Null });
        let own = reading.drain().await;
        assert!(
            own.iter().all(|event| event["type"] != "read_updated"),
            "the connection that sent the command receives the ack only: {own:?}"
        );
    }
}

#[tokio::test]
async fn refuses_commands_of_disabled_features_and_lists_them_in_the_welcome() {
    let disabled = [
        ("features.message_reactions", "false"),
        ("features.pinned_messages", "false"),
        ("features.user_mentions", "false"),
        ("features.message_threads", "false"),
        ("features.file_uploads", "false"),
    ];
    let server = Server::start(1, &disabled);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut client = Client::all(&server, &ann, Format::Json).await;
    assert!(client.welcome["features"].as_object().unwrap().values().all(|is_on| is_on == false));
    let content = format!("hello @{}", bob.name);
    let message = client.ok("send_message", json!({"conversation_id": room, "content": content})).await;
    let id = &message["message_id"];
    for (command, data) in [
        ("add_reaction", json!({"message_id": id, "emoji": "👍"})),
        ("remove_reaction", json!({"message_id": id, "emoji": "👍"})),
        ("pin_message", json!({"message_id": id, "pinned": true})),
        ("follow_thread", json!({"message_id": id, "following": true})),
        ("mark_thread_read", json!({"message_id": id, "seq": 1})),
        ("send_message", json!({"conversation_id": room, "content": "a reply", "parent_message_id": id})),
    ] {
        assert_eq!(client.refused(command, data).await, "forbidden", "{command}");
    }
    let edit = json!({"message_id": id, "content": format!("again @{}", bob.name)});
    client.ok("edit_message", edit).await;
    assert_eq!(server.ok(&bob, "list_mentions", json!({})).await["messages"], json!([]));
    let conversation = server.ok(&bob, "get_conversation", json!({"conversation_id": room})).await;
    assert_eq!(conversation["conversation"]["mention_count"], 0);
}

/// What the server must count: message by message, and reply by reply.
const NAIVE: &str = "
SELECT x.user_id, x.read_seq,
       (SELECT count(*) FROM messages m
         WHERE m.conversation_id = x.conversation_id AND m.seq > x.read_seq AND m.sender_id <> x.user_id
           AND m.deleted_at IS NULL AND m.message_type <> 'system'),
       f.root_message_id, f.read_seq,
       (SELECT count(*) FROM messages m
         WHERE m.parent_message_id = f.root_message_id AND m.seq > f.read_seq AND m.sender_id <> x.user_id
           AND m.deleted_at IS NULL)
  FROM conversation_members x
  LEFT JOIN thread_followers f ON f.conversation_id = x.conversation_id AND f.user_id = x.user_id
 WHERE x.conversation_id = $1";

/// Compares what the members of a room see with the naive count. Returns the largest number of unread messages.
async fn compare_with_naive_count(server: &Server, users: &[User], room: &str) -> i64 {
    let number: i64 = room.split_once('_').unwrap().1.parse().unwrap();
    let database = server.database().await;
    let mut most = 0;
    for row in database.query(NAIVE, &[&number]).await.unwrap() {
        let user = users.iter().find(|user| user.id == row.get::<_, i64>(0)).unwrap();
        let expected = [row.get::<_, i64>(1), row.get(2)];
        let one = server.ok(user, "get_conversation", json!({"conversation_id": room})).await;
        let all = server.ok(user, "list_conversations", json!({"limit": 200})).await;
        let listed = all["conversations"].as_array().unwrap().iter().find(|c| c["id"] == room).unwrap();
        let marked = server.ok(user, "mark_read", json!({"conversation_id": room, "seq": 0})).await;
        for shown in [&one["conversation"], listed, &marked] {
            let shown = [&shown["read_seq"], &shown["unread_count"]];
            assert_eq!(shown.map(|number| number.as_i64().unwrap()), expected, "{}", user.name);
        }
        most = most.max(expected[1]);
        if let Some(root) = row.get::<_, Option<i64>>(3) {
            let thread = server.ok(user, "get_thread", json!({"message_id": root, "limit": 1})).await;
            assert_eq!(state(&thread), (true, row.get(4), row.get(5)), "{}'s thread {root}", user.name);
        }
    }
    most
}

#[tokio::test]
async fn counts_unread_messages_exactly() {
    let server = shards(4).await;
    let mut users = Vec::new();
    for _ in 0..4 {
        users.push(server.register().await);
    }
    let room = server.room(&users.iter().collect::<Vec<_>>()).await;
    let mut random = Random::new();
    let (mut sent, mut most): (Vec<(usize, Value, i64)>, i64) = (Vec::new(), 0);
    let mut seq = 1;
    for step in 1..=500 {
        // The last user only reads, and not often: the marker falls more than a hundred places behind.
        let author = random.below(3) as usize;
        let user = &users[author];
        match random.below(20) {
            0..=13 => {
                let parent = if random.below(3) == 0 { sent.first().map(|(_, id, _)| id.clone()) } else { None };
                let message = send_message(server, user, &room, parent.as_ref()).await;
                seq = message["seq"].as_i64().unwrap();
                sent.push((author, message["message_id"].clone(), seq));
            }
            14 | 15 if sent.len() > 1 => {
                // Its author deletes it, or the owner. The first message stays: it is the thread's.
                let (author, id, _) = sent.remove(1 + random.below(sent.len() as u64 - 1) as usize);
                let by = &users[if random.below(2) == 0 { author } else { 0 }];
                server.ok(by, "delete_message", json!({"message_id": id})).await;
            }
            16 | 17 => {
                let upto = random.below(seq as u64 + 5);
                server.ok(user, "mark_read", json!({"conversation_id": room, "seq": upto})).await;
                if let Some((_, id, _)) = sent.first() {
                    // Only followers have a marker in the thread.
                    let _ = server.call(user, "mark_thread_read", json!({"message_id": id, "seq": upto})).await;
                }
            }
            18 if author > 0 => {
                server.ok(user, "leave_conversation", json!({"conversation_id": room})).await;
                let about = json!({"conversation_id": room, "user_id": user.id});
                server.ok(&users[0], "invite_member", about).await;
            }
            _ => {
                let change = json!({"conversation_id": room, "description": format!("step {step}")});
                server.ok(&users[0], "update_conversation", change).await;
            }
        }
        if step % 50 == 0 {
            most = most.max(compare_with_naive_count(server, &users, &room).await);
        }
        if step == 250 {
            let middle = json!({"conversation_id": room, "seq": seq / 2});
            server.ok(&users[3], "mark_read", middle).await;
        }
    }
    assert!(most > 100, "at most {most} were unread, which is too few to count by ordinals");
    let misnumbered = "SELECT count(*) FROM (
        SELECT m.ordinal, count(*) FILTER (WHERE m.message_type <> 'system')
               OVER (PARTITION BY m.conversation_id ORDER BY m.seq) AS counted FROM messages m) x
         WHERE x.ordinal <> x.counted";
    let row = server.database().await.query_one(misnumbered, &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0, "messages whose ordinal is not their number");
}
