//! Joins, leaves, join requests and profile changes: the log of a conversation has them, so that every member receives
//! them.
//!
//! How: users join, leave and change their profile on a shared server. The tests compare events, system messages and
//! reads.

use crate::support::{Client, Format, Server, User, code, id_of, server, shards, unique};
use reqwest::Method;
use serde_json::{Value, json};

/// The system messages of a conversation, as `user` reads them.
async fn system_messages(server: &Server, user: &User, room: &str) -> Vec<Value> {
    let page = server.ok(user, "get_history", json!({"conversation_id": room, "limit": 200})).await;
    let messages = page["messages"].as_array().unwrap();
    messages.iter().filter(|message| message["message_type"] == "system").cloned().collect()
}

/// `[kind, user, actor]` of each system message.
fn summaries(messages: &[Value]) -> Vec<Value> {
    messages
        .iter()
        .map(|m| json!([m["system"]["kind"], m["system"]["user"]["id"], m["system"]["actor"]["id"]]))
        .collect()
}

#[tokio::test]
async fn adds_a_system_message_for_every_join_and_leave() {
    let server = server().await;
    let (ann, bob, eve, kim) =
        (server.register().await, server.register().await, server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("open")})).await;
    let room = id_of(&created);
    let here = json!({"conversation_id": room});
    let data_for = |user: &User| json!({"conversation_id": room, "user_id": user.id});
    let mut observer = Client::all(server, &ann, Format::MessagePack).await;
    server.ok(&bob, "join_conversation", here.clone()).await;
    server.ok(&ann, "invite_member", data_for(&eve)).await;
    let made = server.ok(&ann, "create_invite", here.clone()).await;
    server.ok(&kim, "join_by_invite", json!({"code": made["invite"]["code"]})).await;
    server.ok(&bob, "leave_conversation", here.clone()).await;
    server.ok(&ann, "remove_member", data_for(&eve)).await;
    server.ok(&ann, "ban_member", data_for(&kim)).await;

    let listed = system_messages(server, &ann, &room).await;
    let expected = [
        json!(["joined", bob.id, null]),
        json!(["added", eve.id, ann.id]),
        json!(["added", kim.id, ann.id]),
        json!(["left", bob.id, null]),
        json!(["removed", eve.id, ann.id]),
        json!(["banned", kim.id, ann.id]),
    ];
    assert_eq!(summaries(&listed), expected);
    let ann_name = listed[1]["sender"]["display_name"].as_str().unwrap();
    assert_eq!(listed[0]["content"], json!(format!("{} joined", bob.name)));
    assert_eq!(listed[1]["content"], json!(format!("{ann_name} added {}", eve.name)));
    // Live clients and replaying clients receive each system message next to the change that it describes.
    let mut replaying = Client::none(server, &ann, Format::Json).await;
    replaying.ok("subscribe", json!({"conversation_id": room, "after_seq": 0})).await;
    for client in [&mut observer, &mut replaying] {
        for (n, message) in listed.iter().enumerate() {
            let kind = if n < 3 { "member_joined" } else { "member_left" };
            let (event, received) = if n < 3 {
                let event = client.event(kind).await;
                (event, client.event("message_created").await)
            } else {
                let received = client.event("message_created").await;
                (client.event(kind).await, received)
            };
            assert_eq!(&received, message);
            let distance = received["seq"].as_i64().unwrap() - event["seq"].as_i64().unwrap();
            assert_eq!(
                (distance, &event["user"]["id"]),
                (if n < 3 { 1 } else { -1 }, &message["system"]["user"]["id"])
            );
        }
    }
}

#[tokio::test]
async fn refuses_edits_of_system_messages_and_never_counts_them_as_unread() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    // A display name that looks like a mention mentions no one when its owner joins.
    let name = json!({"display_name": format!("@room @{}", ann.name)});
    server.request(Method::PATCH, "/users/me", Some(&bob.token), Some(&name)).await;
    let data = json!({"kind": "public_room", "name": unique("quiet"), "member_ids": [eve.id]});
    let room = id_of(&server.ok(&ann, "create_conversation", data).await);
    let here = json!({"conversation_id": room});
    let before = server.ok(&eve, "get_conversation", here.clone()).await;
    server.ok(&bob, "join_conversation", here.clone()).await;
    let after = server.ok(&eve, "get_conversation", here.clone()).await;
    let counts = |c: &Value| [c["conversation"]["unread_count"].clone(), c["conversation"]["mention_count"].clone()];
    assert_eq!((counts(&after), &after["conversation"]["last_message_at"]), ([json!(0), json!(0)], &Value::Null));
    assert!(after["conversation"]["last_seq"].as_i64() > before["conversation"]["last_seq"].as_i64());
    let message = system_messages(server, &bob, &room).await.remove(0);
    assert_eq!(message["mentions"], json!([]));
    let data_for = json!({"message_id": message["message_id"]});
    let edit = json!({"message_id": message["message_id"], "content": "new text"});
    assert_eq!(code(&server.call(&bob, "edit_message", edit).await.unwrap_err()), "forbidden");
    for user in [&bob, &eve] {
        let refused = server.call(user, "delete_message", data_for.clone()).await.unwrap_err();
        assert_eq!(code(&refused), "forbidden", "nor may the user whom the message names");
    }
    let found = server.ok(&ann, "search_messages", json!({"conversation_id": room, "query": "joined"})).await;
    assert_eq!(found["messages"], json!([]));
    server.ok(&ann, "delete_message", data_for).await;
    let deleted = server.ok(&eve, "get_history", here.clone()).await["messages"][0].clone();
    assert_eq!(
        (&deleted["deleted"], &deleted["content"], &deleted["system"]),
        (&json!(true), &json!(""), &Value::Null)
    );
    let sent =
        server.call(&bob, "send_message", json!({"conversation_id": room, "content": "x", "message_type": "system"}));
    assert_eq!(code(&sent.await.unwrap_err()), "bad_request");
}

#[tokio::test]
async fn does_not_count_joins_and_invitations_in_slow_mode() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("slow")})).await;
    let room = id_of(&created);
    let slow = json!({"conversation_id": room, "slow_mode_s": 3600});
    server.ok(&ann, "update_conversation", slow).await;
    let message = |content: &str| json!({"conversation_id": room, "content": content});
    server.ok(&bob, "join_conversation", json!({"conversation_id": room})).await;
    server.ok(&bob, "invite_member", json!({"conversation_id": room, "user_id": eve.id})).await;
    server.ok(&bob, "send_message", message("good morning")).await;
    assert_eq!(code(&server.call(&bob, "send_message", message("good night")).await.unwrap_err()), "slow_mode");
    server.ok(&eve, "send_message", message("good morning")).await;
}

#[tokio::test]
async fn limits_system_messages_of_repeated_joins_and_leaves() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("open")})).await;
    let room = id_of(&created);
    let here = json!({"conversation_id": room});
    let mut observer = Client::all(server, &ann, Format::Json).await;
    let mut last = 1;
    for n in 0..6 {
        let joined = server.ok(&bob, "join_conversation", here.clone()).await;
        assert_eq!(joined["conversation"]["unread_count"], 0);
        assert_eq!(joined["conversation"]["read_seq"], joined["conversation"]["last_seq"]);
        let left = server.ok(&bob, "leave_conversation", here.clone()).await["seq"].as_i64().unwrap();
        // The first joins and leaves add an event and a system message each, later ones only the event.
        assert_eq!(left - last, if n < 3 { 4 } else { 2 });
        assert_eq!(observer.event_where("member_left", |event| event["seq"] == left).await["user"]["id"], bob.id);
        last = left;
    }
    assert_eq!(system_messages(server, &ann, &room).await.len(), 6);
    server.ok(&ann, "invite_member", json!({"conversation_id": room, "user_id": bob.id})).await;
    assert_eq!(
        system_messages(server, &ann, &room).await.len(),
        7,
        "an invitation by another member still adds a system message"
    );
}

#[tokio::test]
async fn admits_users_to_private_rooms_by_join_request() {
    let server = server().await;
    let (ann, bob, eve, kim) =
        (server.register().await, server.register().await, server.register().await, server.register().await);
    let data = json!({"kind": "private_room", "name": unique("club"), "member_ids": [bob.id]});
    let room = id_of(&server.ok(&ann, "create_conversation", data).await);
    let here = json!({"conversation_id": room});
    let with = |text: &str| json!({"conversation_id": room, "text": text});
    let decide =
        |user: &User, accepted: bool| json!({"conversation_id": room, "user_id": user.id, "accepted": accepted});
    let mut owner = Client::none(server, &ann, Format::Json).await;
    let mut requester = Client::all(server, &eve, Format::MessagePack).await;

    assert_eq!(requester.refused("join_conversation", here.clone()).await, "not_found");
    let request = json!({"conversation_id": room, "requested": true});
    assert_eq!(requester.ok("request_to_join", with(" please accept ")).await, request);
    assert_eq!(
        requester.ok("request_to_join", with("please accept")).await,
        request,
        "a repeated request sends no event"
    );
    let received = owner.event("join_requested").await;
    assert_eq!((&received["user"]["id"], &received["text"]), (&json!(eve.id), &json!("please accept")));
    requester.ok("request_to_join", with("please")).await;
    assert_eq!(owner.event("join_requested").await["text"], "please", "the text can be changed");
    server.ok(&kim, "request_to_join", here.clone()).await;

    let listed = server.ok(&ann, "list_join_requests", here.clone()).await;
    let users: Vec<&Value> = listed["requests"].as_array().unwrap().iter().map(|r| &r["user"]["id"]).collect();
    assert_eq!(users, [&json!(eve.id), &json!(kim.id)], "the oldest request is first");
    assert_eq!(server.ok(&eve, "list_join_requests", json!({})).await["requests"][0]["conversation_id"], json!(room));
    for (user, refusal) in [(&bob, "forbidden"), (&kim, "not_found")] {
        assert_eq!(code(&server.call(user, "list_join_requests", here.clone()).await.unwrap_err()), refusal);
        assert_eq!(code(&server.call(user, "decide_join_request", decide(&eve, true)).await.unwrap_err()), refusal);
    }
    let refused = server.call(&ann, "decide_join_request", decide(&bob, true)).await;
    assert!(refused.is_ok(), "accepting a member changes nothing");

    server.ok(&ann, "decide_join_request", decide(&kim, false)).await;
    let declined = owner.event_where("join_request_decided", |event| event["user"]["id"] == kim.id).await;
    assert_eq!((&declined["outcome"], &declined["actor"]["id"]), (&json!("declined"), &json!(ann.id)));
    assert_eq!(code(&server.call(&ann, "decide_join_request", decide(&kim, true)).await.unwrap_err()), "not_found");

    let accepted = server.ok(&ann, "decide_join_request", decide(&eve, true)).await;
    assert_eq!(requester.event("join_request_decided").await["outcome"], "accepted");
    let joined = requester.event("member_joined").await;
    assert_eq!((&joined["seq"], &joined["invited_by"]["id"]), (&accepted["seq"], &json!(ann.id)));
    assert_eq!(code(&server.call(&eve, "request_to_join", here.clone()).await.unwrap_err()), "conflict");
    assert_eq!(server.ok(&ann, "list_join_requests", here.clone()).await["requests"], json!([]));

    // A request also ends when the user withdraws it, joins in another way or is banned.
    server.ok(&kim, "request_to_join", here.clone()).await;
    server.ok(&kim, "cancel_join_request", here.clone()).await;
    assert_eq!(owner.event_where("join_request_decided", |e| e["user"]["id"] == kim.id).await["outcome"], "cancelled");
    server.ok(&kim, "request_to_join", here.clone()).await;
    server.ok(&ann, "invite_member", json!({"conversation_id": room, "user_id": kim.id})).await;
    assert_eq!(owner.event_where("join_request_decided", |e| e["user"]["id"] == kim.id).await["outcome"], "accepted");
    assert_eq!(server.ok(&ann, "list_join_requests", here.clone()).await["requests"], json!([]));
    server.ok(&kim, "leave_conversation", here.clone()).await;
    server.ok(&kim, "request_to_join", here.clone()).await;
    server.ok(&ann, "ban_member", json!({"conversation_id": room, "user_id": kim.id})).await;
    assert_eq!(owner.event_where("join_request_decided", |e| e["user"]["id"] == kim.id).await["outcome"], "declined");
    assert_eq!(server.ok(&ann, "list_join_requests", here.clone()).await["requests"], json!([]));
    assert_eq!(code(&server.call(&kim, "request_to_join", here.clone()).await.unwrap_err()), "banned");
}

#[tokio::test]
async fn accepts_join_requests_for_private_rooms_only() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    for (kind, refusal) in [("public_room", "conflict"), ("group", "not_found"), ("direct", "not_found")] {
        let mut data = json!({"kind": kind, "member_ids": [bob.id]});
        if kind != "direct" {
            data["name"] = json!(unique("open"));
        }
        let room = id_of(&server.ok(&ann, "create_conversation", data).await);
        let refused = server.call(&eve, "request_to_join", json!({"conversation_id": room})).await.unwrap_err();
        assert_eq!(code(&refused), refusal, "{kind}");
    }
    // A group and a direct conversation are refused by their ids: those of rooms do not tell whether there is one.
    for unknown in ["group_9007199254740989", "dm_4503599627370492"] {
        let refused = server.call(&eve, "request_to_join", json!({"conversation_id": unknown})).await.unwrap_err();
        assert_eq!(code(&refused), "not_found");
    }
}

#[tokio::test]
async fn announces_a_changed_profile_in_every_conversation() {
    let server = Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(server.room(&[&ann, &bob]).await);
    }
    let data = json!({"kind": "direct", "member_ids": [bob.id]});
    rooms.push(id_of(&server.ok(&ann, "create_conversation", data).await));
    let mut observer = Client::all(&server, &bob, Format::Json).await;
    let edit = json!({"display_name": "Ann the First", "avatar_url": "https://example.org/1.png", "bio": "I was here"});
    let answer = server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&edit)).await;
    assert_eq!(answer.0, 200, "{}", answer.1);
    let profile =
        json!({"display_name": "Ann the First", "avatar_url": "https://example.org/1.png", "bio": "I was here"});
    let mut received = Vec::new();
    while received.len() < rooms.len() {
        let event = observer.event("member_updated").await;
        assert_eq!((&event["profile"], &event["user"]["id"]), (&profile, &json!(ann.id)));
        assert_eq!(event["user"]["display_name"], "Ann the First");
        received.push(event["conversation_id"].as_str().unwrap().to_owned());
    }
    received.sort();
    rooms.sort();
    assert_eq!(received, rooms, "once in each conversation");
    let listed = server.ok(&bob, "list_members", json!({"conversation_id": rooms[0]})).await;
    let member = listed["members"].as_array().unwrap().iter().find(|member| member["id"] == ann.id).unwrap().clone();
    assert_eq!((&member["display_name"], &member["avatar_url"]), (&profile["display_name"], &profile["avatar_url"]));

    // The server announces a saved profile even after a crash, and clients that were offline receive it.
    let edit = json!({"display_name": "Ann the Second"});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&edit)).await.0, 200);
    server.kill9();
    server.start_again();
    let mut returning = Client::none(&server, &bob, Format::MessagePack).await;
    for room in &rooms {
        returning.ok("subscribe", json!({"conversation_id": room, "after_seq": 0})).await;
    }
    let mut received = Vec::new();
    while received.len() < rooms.len() {
        let event = returning.event_where("member_updated", |event| !event["profile"].is_null()).await;
        if event["profile"]["display_name"] == "Ann the Second" {
            assert_eq!(event["profile"]["bio"], "I was here");
            received.push(event["conversation_id"].as_str().unwrap().to_owned());
        }
    }
    received.sort();
    assert_eq!(received, rooms);
    // A change that other users do not see is not announced.
    let database = server.database().await;
    let version = "SELECT profile_version FROM users WHERE id = $1";
    let before: i64 = database.query_one(version, &[&ann.id]).await.unwrap().get(0);
    let same = json!({"display_name": "Ann the Second", "read_receipts": "private"});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&same)).await.0, 200);
    assert_eq!(database.query_one(version, &[&ann.id]).await.unwrap().get::<_, i64>(0), before);
}

#[tokio::test]
async fn stops_sending_presence_when_no_conversation_is_shared() {
    let server = shards(4).await;
    let (ann, bob, kim) = (server.register().await, server.register().await, server.register().await);
    let rooms = [server.room(&[&kim, &ann, &bob]).await, server.room(&[&kim, &ann]).await];
    let mut observer = Client::none(server, &ann, Format::Json).await;
    let mut bobs = Client::none(server, &bob, Format::Json).await;
    let mut kims = Client::none(server, &kim, Format::Json).await;
    let answer = observer.ok("get_presence", json!({"user_ids": [bob.id, kim.id]})).await;
    assert_eq!(answer["presence"].as_array().unwrap().len(), 2);
    // Ann is removed from the room that she shares with Bob. With Kim she shares another room.
    server.ok(&kim, "remove_member", json!({"conversation_id": rooms[0], "user_id": ann.id})).await;
    let (mut quiet_rounds, mut rounds) = (0, 0);
    while quiet_rounds < 2 {
        rounds += 1;
        assert!(rounds < 30, "the presence of Bob is still sent");
        let text = format!("round {rounds}");
        bobs.ok("set_presence", json!({"status": "busy", "status_text": text})).await;
        kims.ok("set_presence", json!({"status": "busy", "status_text": text})).await;
        let mut received_bob = false;
        loop {
            let event = observer.event("presence").await;
            if event["user_id"] == kim.id && event["status_text"] == text {
                break;
            }
            received_bob |= event["user_id"] == bob.id;
        }
        quiet_rounds = if received_bob { 0 } else { quiet_rounds + 1 };
    }
}
