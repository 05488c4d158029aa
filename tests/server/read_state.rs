//! Read markers of conversations and threads, and who sees them.
//!
//! How: one user reads on two connections while other members watch. Each test compares acks, events and later reads.

use crate::support::{Client, Format, Server, User, code, server, shards};
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
        "not_member"
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
