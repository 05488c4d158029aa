//! Who comes and goes, who asks to be let in, and what people are called: told in the log, so that everybody finds it.
#![cfg(feature = "test-db")]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use support::{Client, Format, Server, User, code, id_of, server, shards, unique};

/// The messages of a conversation that the server wrote, as `user` reads them.
async fn system_messages(server: &Server, user: &User, room: &str) -> Vec<Value> {
    let page = server.ok(user, "get_history", json!({"conversation_id": room, "limit": 200})).await;
    let messages = page["messages"].as_array().unwrap();
    messages.iter().filter(|message| message["message_type"] == "system").cloned().collect()
}

/// `[kind, user, actor]` of each.
fn reports(messages: &[Value]) -> Vec<Value> {
    messages
        .iter()
        .map(|m| json!([m["system"]["kind"], m["system"]["user"]["id"], m["system"]["actor"]["id"]]))
        .collect()
}

#[tokio::test]
async fn who_comes_and_who_goes_is_said_among_the_messages() {
    let server = server().await;
    let (ann, bob, eve, kim) =
        (server.register().await, server.register().await, server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("door")})).await;
    let room = id_of(&created);
    let here = json!({"conversation_id": room});
    let about = |user: &User| json!({"conversation_id": room, "user_id": user.id});
    let mut watching = Client::all(server, &ann, Format::MessagePack).await;
    server.ok(&bob, "join_conversation", here.clone()).await;
    server.ok(&ann, "invite_member", about(&eve)).await;
    let made = server.ok(&ann, "create_invite", here.clone()).await;
    server.ok(&kim, "join_by_invite", json!({"code": made["invite"]["code"]})).await;
    server.ok(&bob, "leave_conversation", here.clone()).await;
    server.ok(&ann, "remove_member", about(&eve)).await;
    server.ok(&ann, "ban_member", about(&kim)).await;

    let said = system_messages(server, &ann, &room).await;
    let expected = [
        json!(["joined", bob.id, null]),
        json!(["added", eve.id, ann.id]),
        json!(["added", kim.id, ann.id]),
        json!(["left", bob.id, null]),
        json!(["removed", eve.id, ann.id]),
        json!(["banned", kim.id, ann.id]),
    ];
    assert_eq!(reports(&said), expected);
    let ann_name = said[1]["sender"]["display_name"].as_str().unwrap();
    assert_eq!(said[0]["content"], json!(format!("{} joined", bob.name)));
    assert_eq!(said[1]["content"], json!(format!("{ann_name} added {}", eve.name)));
    // Those who were there heard the same, each beside the change that it is about; so does who replays.
    let mut replaying = Client::none(server, &ann, Format::Json).await;
    replaying.ok("subscribe", json!({"conversation_id": room, "after_seq": 0})).await;
    for client in [&mut watching, &mut replaying] {
        for (n, message) in said.iter().enumerate() {
            let kind = if n < 3 { "member_joined" } else { "member_left" };
            let (event, told) = if n < 3 {
                let event = client.event(kind).await;
                (event, client.event("message_created").await)
            } else {
                let told = client.event("message_created").await;
                (client.event(kind).await, told)
            };
            assert_eq!(&told, message);
            let distance = told["seq"].as_i64().unwrap() - event["seq"].as_i64().unwrap();
            assert_eq!(
                (distance, &event["user"]["id"]),
                (if n < 3 { 1 } else { -1 }, &message["system"]["user"]["id"])
            );
        }
    }
}

#[tokio::test]
async fn what_the_server_says_is_no_ones_to_edit_and_never_unread() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    // Whoever calls themselves so mentions nobody by coming in.
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
    let about = json!({"message_id": message["message_id"]});
    let edit = json!({"message_id": message["message_id"], "content": "I was always here"});
    assert_eq!(code(&server.call(&bob, "edit_message", edit).await.unwrap_err()), "forbidden");
    for user in [&bob, &eve] {
        let refused = server.call(user, "delete_message", about.clone()).await.unwrap_err();
        assert_eq!(code(&refused), "forbidden", "not even by whom it is about");
    }
    let found = server.ok(&ann, "search_messages", json!({"conversation_id": room, "query": "joined"})).await;
    assert_eq!(found["messages"], json!([]));
    server.ok(&ann, "delete_message", about).await;
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
async fn coming_in_is_not_speaking_where_speaking_is_slow() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("slow")})).await;
    let room = id_of(&created);
    let slow = json!({"conversation_id": room, "slow_mode_s": 3600});
    server.ok(&ann, "update_conversation", slow).await;
    let say = |words: &str| json!({"conversation_id": room, "content": words});
    server.ok(&bob, "join_conversation", json!({"conversation_id": room})).await;
    server.ok(&bob, "invite_member", json!({"conversation_id": room, "user_id": eve.id})).await;
    server.ok(&bob, "send_message", say("good morning")).await;
    assert_eq!(code(&server.call(&bob, "send_message", say("good night")).await.unwrap_err()), "slow_mode");
    server.ok(&eve, "send_message", say("good morning")).await;
}

#[tokio::test]
async fn nobody_speaks_by_coming_and_going() {
    let server = server().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("gate")})).await;
    let room = id_of(&created);
    let here = json!({"conversation_id": room});
    let mut watching = Client::all(server, &ann, Format::Json).await;
    let mut last = 1;
    for n in 0..6 {
        let joined = server.ok(&bob, "join_conversation", here.clone()).await;
        assert_eq!(joined["conversation"]["unread_count"], 0);
        assert_eq!(joined["conversation"]["read_seq"], joined["conversation"]["last_seq"]);
        let left = server.ok(&bob, "leave_conversation", here.clone()).await["seq"].as_i64().unwrap();
        // Two entries each for as long as it is news, then one: the change itself is always in the log.
        assert_eq!(left - last, if n < 3 { 4 } else { 2 });
        assert_eq!(watching.event_where("member_left", |event| event["seq"] == left).await["user"]["id"], bob.id);
        last = left;
    }
    assert_eq!(system_messages(server, &ann, &room).await.len(), 6);
    server.ok(&ann, "invite_member", json!({"conversation_id": room, "user_id": bob.id})).await;
    assert_eq!(system_messages(server, &ann, &room).await.len(), 7, "what others do is said all the same");
}

#[tokio::test]
async fn a_private_room_is_entered_by_asking() {
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
    let mut asking = Client::all(server, &eve, Format::MessagePack).await;

    assert_eq!(asking.refused("join_conversation", here.clone()).await, "forbidden");
    let asked = json!({"conversation_id": room, "requested": true});
    assert_eq!(asking.ok("request_to_join", with(" let me in ")).await, asked);
    assert_eq!(asking.ok("request_to_join", with("let me in")).await, asked, "the same again is no news");
    let told = owner.event("join_requested").await;
    assert_eq!((&told["user"]["id"], &told["text"]), (&json!(eve.id), &json!("let me in")));
    asking.ok("request_to_join", with("please")).await;
    assert_eq!(owner.event("join_requested").await["text"], "please", "the text can be changed");
    server.ok(&kim, "request_to_join", here.clone()).await;

    let listed = server.ok(&ann, "list_join_requests", here.clone()).await;
    let users: Vec<&Value> = listed["requests"].as_array().unwrap().iter().map(|r| &r["user"]["id"]).collect();
    assert_eq!(users, [&json!(eve.id), &json!(kim.id)], "who asked first is first");
    assert_eq!(server.ok(&eve, "list_join_requests", json!({})).await["requests"][0]["conversation_id"], json!(room));
    for (user, refusal) in [(&bob, "forbidden"), (&kim, "not_member")] {
        assert_eq!(code(&server.call(user, "list_join_requests", here.clone()).await.unwrap_err()), refusal);
        assert_eq!(code(&server.call(user, "decide_join_request", decide(&eve, true)).await.unwrap_err()), refusal);
    }
    let refused = server.call(&ann, "decide_join_request", decide(&bob, true)).await;
    assert!(refused.is_ok(), "who is in already has been let in");

    server.ok(&ann, "decide_join_request", decide(&kim, false)).await;
    let declined = owner.event_where("join_request_decided", |event| event["user"]["id"] == kim.id).await;
    assert_eq!((&declined["outcome"], &declined["actor"]["id"]), (&json!("declined"), &json!(ann.id)));
    assert_eq!(code(&server.call(&ann, "decide_join_request", decide(&kim, true)).await.unwrap_err()), "not_found");

    let let_in = server.ok(&ann, "decide_join_request", decide(&eve, true)).await;
    assert_eq!(asking.event("join_request_decided").await["outcome"], "accepted");
    let joined = asking.event("member_joined").await;
    assert_eq!((&joined["seq"], &joined["invited_by"]["id"]), (&let_in["seq"], &json!(ann.id)));
    assert_eq!(code(&server.call(&eve, "request_to_join", here.clone()).await.unwrap_err()), "conflict");
    assert_eq!(server.ok(&ann, "list_join_requests", here.clone()).await["requests"], json!([]));

    // A request ends with what makes it needless: withdrawal, another way in, a ban.
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
async fn only_private_rooms_are_asked_for() {
    let server = server().await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    for (kind, refusal) in [("public_room", "conflict"), ("group", "forbidden"), ("direct", "forbidden")] {
        let mut data = json!({"kind": kind, "member_ids": [bob.id]});
        if kind != "direct" {
            data["name"] = json!(unique("open"));
        }
        let room = id_of(&server.ok(&ann, "create_conversation", data).await);
        let refused = server.call(&eve, "request_to_join", json!({"conversation_id": room})).await.unwrap_err();
        assert_eq!(code(&refused), refusal, "{kind}");
    }
    let nowhere = json!({"conversation_id": "room_9007199254740990"});
    assert_eq!(code(&server.call(&eve, "request_to_join", nowhere).await.unwrap_err()), "not_found");
}

#[tokio::test]
async fn a_changed_profile_reaches_all_who_see_it() {
    let server = Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(server.room(&[&ann, &bob]).await);
    }
    let data = json!({"kind": "direct", "member_ids": [bob.id]});
    rooms.push(id_of(&server.ok(&ann, "create_conversation", data).await));
    let mut watching = Client::all(&server, &bob, Format::Json).await;
    let edit = json!({"display_name": "Ann the First", "avatar_url": "https://example.org/1.png", "bio": "I was here"});
    let answer = server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&edit)).await;
    assert_eq!(answer.0, 200, "{}", answer.1);
    let profile =
        json!({"display_name": "Ann the First", "avatar_url": "https://example.org/1.png", "bio": "I was here"});
    let mut told = Vec::new();
    while told.len() < rooms.len() {
        let event = watching.event("member_updated").await;
        assert_eq!((&event["profile"], &event["user"]["id"]), (&profile, &json!(ann.id)));
        assert_eq!(event["user"]["display_name"], "Ann the First");
        told.push(event["conversation_id"].as_str().unwrap().to_owned());
    }
    told.sort();
    rooms.sort();
    assert_eq!(told, rooms, "once in each");
    let listed = server.ok(&bob, "list_members", json!({"conversation_id": rooms[0]})).await;
    let member = listed["members"].as_array().unwrap().iter().find(|member| member["id"] == ann.id).unwrap().clone();
    assert_eq!((&member["display_name"], &member["avatar_url"]), (&profile["display_name"], &profile["avatar_url"]));

    // What was saved is told, whatever happens to the server meanwhile; who was away finds it.
    let edit = json!({"display_name": "Ann the Second"});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&edit)).await.0, 200);
    server.kill9();
    server.start_again();
    let mut returning = Client::none(&server, &bob, Format::MessagePack).await;
    for room in &rooms {
        returning.ok("subscribe", json!({"conversation_id": room, "after_seq": 0})).await;
    }
    let mut told = Vec::new();
    while told.len() < rooms.len() {
        let event = returning.event_where("member_updated", |event| !event["profile"].is_null()).await;
        if event["profile"]["display_name"] == "Ann the Second" {
            assert_eq!(event["profile"]["bio"], "I was here");
            told.push(event["conversation_id"].as_str().unwrap().to_owned());
        }
    }
    told.sort();
    assert_eq!(told, rooms);
    // What changes nothing for others is nobody's news.
    let database = server.database().await;
    let version = "SELECT profile_version FROM users WHERE id = $1";
    let before: i64 = database.query_one(version, &[&ann.id]).await.unwrap().get(0);
    let same = json!({"display_name": "Ann the Second", "read_receipts": "private"});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&same)).await.0, 200);
    assert_eq!(database.query_one(version, &[&ann.id]).await.unwrap().get::<_, i64>(0), before);
}

#[tokio::test]
async fn who_shares_nothing_any_more_is_not_seen_any_more() {
    let server = shards(4).await;
    let (ann, bob, kim) = (server.register().await, server.register().await, server.register().await);
    let rooms = [server.room(&[&kim, &ann, &bob]).await, server.room(&[&kim, &ann]).await];
    let mut watching = Client::none(server, &ann, Format::Json).await;
    let mut bobs = Client::none(server, &bob, Format::Json).await;
    let mut kims = Client::none(server, &kim, Format::Json).await;
    let shown = watching.ok("get_presence", json!({"user_ids": [bob.id, kim.id]})).await;
    assert_eq!(shown["presence"].as_array().unwrap().len(), 2);
    // Ann is removed from the room that she shares with Bob; with Kim she shares another one.
    server.ok(&kim, "remove_member", json!({"conversation_id": rooms[0], "user_id": ann.id})).await;
    let (mut quiet_rounds, mut rounds) = (0, 0);
    while quiet_rounds < 2 {
        rounds += 1;
        assert!(rounds < 30, "Bob is still seen");
        let text = format!("round {rounds}");
        bobs.ok("set_presence", json!({"status": "busy", "status_text": text})).await;
        kims.ok("set_presence", json!({"status": "busy", "status_text": text})).await;
        let mut saw_bob = false;
        loop {
            let event = watching.event("presence").await;
            if event["user_id"] == kim.id && event["status_text"] == text {
                break;
            }
            saw_bob |= event["user_id"] == bob.id;
        }
        quiet_rounds = if saw_bob { 0 } else { quiet_rounds + 1 };
    }
}
