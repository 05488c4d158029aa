//! Conversations: who may create, find, join, invite to and leave them, and which events each client receives. Every
//! invalid input gets a specific error code, and the connection stays open.
//!
//! How: each test creates its own users and conversations on one shared server with two shards. To show that an event
//! was *not* sent, a test waits for an event that must come after it on the same connection.

use crate::support::{Client, Format, Log, Server, User, closed, id_of, keys, server, shards, text, unique};
use serde_json::{Value, json};

/// An id in the valid range that no object has.
const UNKNOWN_ID: i64 = 1_000_000_000_000_000;

const CONVERSATION_KEYS: [&str; 18] = [
    "archived",
    "cleared_seq",
    "created_at",
    "description",
    "id",
    "kind",
    "last_message_at",
    "last_seq",
    "member_count",
    "member_limit",
    "mention_count",
    "name",
    "owner_id",
    "read_seq",
    "retention_days",
    "role",
    "slow_mode_s",
    "unread_count",
];

async fn register<const N: usize>(server: &Server) -> [User; N] {
    let mut users = Vec::new();
    for _ in 0..N {
        users.push(server.register().await);
    }
    users.try_into().unwrap()
}

fn of_room(room: &str) -> Value {
    json!({"conversation_id": room})
}

#[tokio::test]
async fn describes_the_user_and_their_conversations_in_the_welcome() {
    let server = server().await;
    let [ann, bob] = register(server).await;
    let room = server.room(&[&ann, &bob]).await;
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "hello"})).await;
    for format in Format::ALL {
        let client = Client::all(server, &bob, format).await;
        let welcome = &client.welcome;
        assert_eq!(
            keys(welcome),
            ["conversations", "features", "heartbeat_ms", "limits", "server_time", "session_id", "user"],
            "{welcome}"
        );
        assert_eq!((&welcome["user"]["id"], &welcome["user"]["username"]), (&json!(bob.id), &json!(bob.name)));
        assert_eq!(keys(&welcome["user"]), ["avatar_url", "bio", "created_at", "display_name", "id", "username"]);
        assert_eq!((&welcome["limits"]["max_message_length"], &welcome["heartbeat_ms"]), (&json!(4000), &json!(25000)));
        let time = text(&welcome["server_time"]);
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
        let conversations = welcome["conversations"].as_array().unwrap();
        assert_eq!(conversations.len(), 1);
        assert_eq!(keys(&conversations[0]), ["id", "kind", "last_seq", "name", "read_seq", "role"]);
        let head = &conversations[0];
        assert_eq!(
            (&head["id"], &head["kind"], &head["last_seq"], &head["role"]),
            (&json!(room), &json!("private_room"), &json!(2), &json!("member"))
        );
        client.close().await;
        let client = Client::none(server, &bob, format).await;
        assert_eq!(client.welcome.get("conversations"), None, "subscribe=none lists no conversations");
    }
}

#[tokio::test]
async fn reads_and_lists_a_created_room_page_by_page() {
    let server = server().await;
    let [ann, bob, eve] = register(server).await;
    let mut client = Client::all(server, &ann, Format::Json).await;
    let name = unique("lobby");
    let data = json!({"kind": "public_room", "name": name, "description": "Everything", "member_ids": [bob.id]});
    let created = client.ok("create_conversation", data).await;
    let room = &created["conversation"];
    assert_eq!(keys(room), CONVERSATION_KEYS);
    assert!(text(&room["id"]).starts_with("room_"));
    let expected = json!({"kind": "public_room", "name": name, "description": "Everything", "owner_id": ann.id,
        "role": "owner", "last_seq": 1, "member_count": 2, "archived": false, "unread_count": 0, "mention_count": 0});
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&room[key], value, "{key}");
    }
    let event = client.event("conversation_created").await;
    assert_eq!((&event["conversation_id"], &event["seq"]), (&room["id"], &json!(1)));

    let id = text(&room["id"]);
    let read = client.ok("get_conversation", of_room(id)).await;
    assert_eq!(read["conversation"], *room);
    let by_eve = server.ok(&eve, "get_conversation", of_room(id)).await;
    assert_eq!(by_eve["conversation"]["role"], Value::Null, "a public room can be read before joining it");

    for _ in 0..2 {
        server.room(&[&ann]).await;
    }
    let (mut found, mut cursor) = (Vec::new(), json!(0));
    loop {
        let page = client.ok("list_conversations", json!({"cursor": cursor, "limit": 1})).await;
        found.extend(page["conversations"].as_array().unwrap().iter().cloned());
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|conversation| keys(conversation) == CONVERSATION_KEYS));

    let first = client.ok("list_members", json!({"conversation_id": id, "limit": 1})).await;
    let rest = client.ok("list_members", json!({"conversation_id": id, "cursor": first["next_cursor"]})).await;
    let member = |page: &Value| (page["members"][0]["username"].clone(), page["members"][0]["role"].clone());
    assert_eq!(member(&first), (json!(ann.name), json!("owner")));
    assert_eq!((member(&rest), rest.get("next_cursor")), ((json!(bob.name), json!("member")), None));
}

#[tokio::test]
async fn creates_one_direct_conversation_per_pair_of_users() {
    let server = server().await;
    let [ann, bob, eve] = register(server).await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        let by = |me: &User, other: i64| {
            let me = me.clone();
            async move { server.ok(&me, "create_conversation", json!({"kind": "direct", "member_ids": [other]})).await }
        };
        let (one, two) = tokio::join!(by(&ann, bob.id), by(&bob, ann.id));
        assert_eq!((&one["conversation"]["name"], &two["conversation"]["name"]), (&json!(bob.name), &json!(ann.name)));
        assert_eq!(one["conversation"]["member_count"], 2);
        ids.extend([id_of(&one), id_of(&two)]);
    }
    assert!(ids[0].starts_with("dm_") && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    let mut client = Client::none(server, &ann, Format::Json).await;
    let dm = of_room(&ids[0]);
    assert_eq!(client.refused("leave_conversation", dm.clone()).await, "forbidden");
    assert_eq!(
        client.refused("invite_member", json!({"conversation_id": ids[0], "user_id": eve.id})).await,
        "forbidden"
    );
    let mut stranger = Client::none(server, &eve, Format::Json).await;
    assert_eq!(stranger.refused("join_conversation", dm.clone()).await, "not_found");
    for command in ["get_conversation", "get_history", "list_members", "subscribe"] {
        assert_eq!(stranger.refused(command, dm.clone()).await, "not_found", "{command}");
    }
    let data = json!({"kind": "direct", "member_ids": [ann.id]});
    assert_eq!(client.refused("create_conversation", data).await, "bad_request", "a direct conversation with yourself");
}

#[tokio::test]
async fn delivers_events_to_members_from_the_moment_they_join_or_are_invited() {
    let server = server().await;
    let [ann, bob, eve] = register(server).await;
    let mut owner = Client::all(server, &ann, Format::Json).await;
    let mut guest = Client::all(server, &bob, Format::MessagePack).await;
    let mut invited = Client::all(server, &eve, Format::Json).await;
    let mut passive = Client::none(server, &eve, Format::Json).await;
    let created = owner.ok("create_conversation", json!({"kind": "public_room", "name": unique("open")})).await;
    let room = id_of(&created);

    let joined = guest.ok("join_conversation", of_room(&room)).await;
    assert_eq!((&joined["seq"], &joined["conversation"]["role"]), (&json!(2), &json!("member")));
    assert_eq!(joined["conversation"]["unread_count"], 0, "messages from before the join are not unread");
    let event = owner.event("member_joined").await;
    assert_eq!((&event["seq"], &event["user"]["id"]), (&json!(2), &json!(bob.id)));
    let again = guest.ok("join_conversation", of_room(&room)).await;
    assert_eq!(
        (&again["seq"], &again["conversation"]["last_seq"]),
        (&json!(2), &json!(3)),
        "joining again changes nothing"
    );

    let invitation = json!({"conversation_id": room, "user_id": eve.id});
    let answer = guest.ok("invite_member", invitation.clone()).await;
    assert_eq!(answer, json!({"conversation_id": room, "user_id": eve.id, "seq": 4}));
    assert_eq!(guest.ok("invite_member", invitation).await["seq"], 4, "inviting again changes nothing");
    let event = owner.event("member_joined").await;
    assert_eq!((&event["user"]["id"], &event["invited_by"]["id"]), (&json!(eve.id), &json!(bob.id)));

    owner.ok("send_message", json!({"conversation_id": room, "content": "welcome"})).await;
    for client in [&mut owner, &mut guest, &mut invited] {
        let message = client.event_where("message_created", |message| message["message_type"] == "text").await;
        assert_eq!((&message["seq"], &message["content"]), (&json!(6), &json!("welcome")));
    }
    let received = passive.drain().await;
    assert!(received.is_empty(), "with subscribe=none a client subscribes itself: {received:?}");
    assert_eq!(passive.ok("subscribe", of_room(&room)).await["last_seq"], 6);
}

#[tokio::test]
async fn stops_delivery_and_refuses_commands_after_a_member_leaves() {
    let server = server().await;
    let [ann, bob] = register(server).await;
    let room = server.room(&[&ann, &bob]).await;
    let mut owner = Client::all(server, &ann, Format::Json).await;
    let mut leaver = Client::all(server, &bob, Format::Json).await;
    let left = leaver.ok("leave_conversation", of_room(&room)).await;
    assert_eq!((&left["seq"], &left["conversation"]["id"]), (&json!(3), &json!(room)));
    let event = owner.event("member_left").await;
    assert_eq!((&event["seq"], &event["user"]["id"]), (&json!(3), &json!(bob.id)));
    assert_eq!(
        leaver.event("member_left").await,
        event,
        "a member who leaves receives member_left on every connection"
    );
    assert_eq!(leaver.refused("leave_conversation", of_room(&room)).await, "not_found");
    owner.ok("send_message", json!({"conversation_id": room, "content": "after the leave"})).await;
    owner.event("message_created").await;
    assert!(leaver.drain().await.iter().all(|event| event["type"] != "message_created"));
    for command in ["subscribe", "get_history", "list_members", "get_conversation"] {
        assert_eq!(leaver.refused(command, of_room(&room)).await, "not_found", "{command}");
    }
    let data = json!({"conversation_id": room, "content": "still here"});
    assert_eq!(leaver.refused("send_message", data).await, "not_found");
    assert_eq!(leaver.refused("join_conversation", of_room(&room)).await, "not_found", "a private room");
}

#[tokio::test]
async fn hands_ownership_over_when_the_owner_leaves() {
    let server = server().await;
    let [ann, bob] = register(server).await;
    let room = server.room(&[&ann, &bob]).await;
    let mut successor = Client::all(server, &bob, Format::Json).await;
    let mut log = Log::after([(room.as_str(), 1)]);
    server.ok(&ann, "leave_conversation", of_room(&room)).await;
    successor.follow(&mut log, &room, 3).await;
    let conversation = successor.ok("get_conversation", of_room(&room)).await["conversation"].clone();
    assert_eq!((&conversation["owner_id"], &conversation["role"]), (&json!(bob.id), &json!("owner")));
    successor.ok("leave_conversation", of_room(&room)).await;
    assert_eq!(successor.refused("get_conversation", of_room(&room)).await, "not_found");
}

#[tokio::test]
async fn sends_typing_to_other_members_and_throttles_it() {
    let server = server().await;
    let [ann, bob] = register(server).await;
    let room = server.room(&[&ann, &bob]).await;
    let mut typist = Client::all(server, &ann, Format::Json).await;
    let mut reader = Client::all(server, &bob, Format::MessagePack).await;
    for _ in 0..5 {
        typist.send("typing", of_room(&room)).await;
    }
    let first = reader.next_event().await;
    assert_eq!((&first["type"], &first["data"]["conversation_id"]), (&json!("typing"), &json!(room)), "{first}");
    assert_eq!(first["data"]["user_id"], json!(ann.id), "{first}");
    assert_eq!(first["data"].get("seq"), None);
    typist.ok("send_message", json!({"conversation_id": room, "content": "done"})).await;
    let second = reader.next_event().await;
    assert_eq!(second["type"], "message_created", "five commands in a row send one event: {second}");
    let own = typist.drain().await;
    assert!(own.iter().all(|event| event["type"] != "typing"), "the typist receives no typing event: {own:?}");
    let outsider = server.register().await;
    let mut outsider = Client::all(server, &outsider, Format::Json).await;
    outsider.send("typing", of_room(&room)).await;
    outsider.drain().await;
    assert!(reader.drain().await.is_empty(), "typing of a user who is not a member is not sent");
}

#[tokio::test]
async fn moves_the_read_marker_forward_and_broadcasts_it() {
    let server = server().await;
    let [ann, bob] = register(server).await;
    let room = server.room(&[&ann, &bob]).await;
    for n in 0..4 {
        server.ok(&ann, "send_message", json!({"conversation_id": room, "content": format!("{n}")})).await;
    }
    let mut reader = Client::all(server, &bob, Format::Json).await;
    let mut phone = Client::all(server, &bob, Format::MessagePack).await;
    let mut writer = Client::all(server, &ann, Format::Json).await;
    let unread = reader.ok("get_conversation", of_room(&room)).await["conversation"]["unread_count"].clone();
    assert_eq!(unread, 4);
    let mark = |seq: i64| json!({"conversation_id": room, "seq": seq});
    let answer = |seq: i64, unread: i64| json!({"conversation_id": room, "read_seq": seq, "unread_count": unread});
    assert_eq!(reader.ok("mark_read", mark(3)).await, answer(3, 2));
    for client in [&mut phone, &mut writer] {
        let event = client.event("read_updated").await;
        assert_eq!((&event["user_id"], &event["read_seq"], event.get("seq")), (&json!(bob.id), &json!(3), None));
        assert_eq!(event["conversation_id"], room);
    }
    assert_eq!(reader.ok("mark_read", mark(2)).await, answer(3, 2), "never backwards");
    assert_eq!(reader.ok("mark_read", mark(9_000)).await, answer(5, 0), "never beyond the end");
    assert_eq!(writer.event("read_updated").await["read_seq"], 5, "a command that changes nothing sends no event");
    assert!(reader.drain().await.is_empty(), "the connection that sent the command receives the ack only");
    let stranger = server.register().await;
    let refused = server.call(&stranger, "mark_read", mark(1)).await.unwrap_err();
    assert_eq!(refused["code"], "not_found");
}

#[tokio::test]
async fn answers_a_ping_with_the_server_time() {
    let server = server().await;
    let ann = server.register().await;
    for format in Format::ALL {
        let mut client = Client::all(server, &ann, format).await;
        let answer = client.ok("ping", json!({})).await;
        assert!(text(&answer["server_time"]).ends_with('Z'));
        client.send_raw(format.message(&json!({"type": "ping", "id": "päng"}))).await;
        assert_eq!(client.next_event().await["id"], "päng", "a text id is echoed");
        client.send_raw(format.message(&json!({"type": "ping"}))).await;
        assert_eq!(keys(&client.next_event().await), ["data", "type"], "without an id none is echoed");
    }
}

#[tokio::test]
async fn refuses_each_invalid_input_with_its_code_and_keeps_the_connection_open() {
    let server = server().await;
    let [ann, bob, eve] = register(server).await;
    let room = server.room(&[&ann, &bob]).await;
    let public = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": unique("p")})).await;
    let public = id_of(&public);
    let message = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "x"})).await;
    let message = &message["message_id"];
    let many: Vec<i64> = (1..=101).collect();
    let cursors: serde_json::Map<String, Value> =
        (0..1_001).map(|n| (format!("room_{}", n * 4 + 2), json!(0))).collect();
    let long_id = "i".repeat(65);
    let cases = [
        ("send_message", json!({}), "bad_request"),
        ("send_message", json!({"conversation_id": room}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": ""}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": " \n\t "}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": 7}), "bad_request"),
        ("send_message", json!({"conversation_id": 7, "content": "x"}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": "a\u{0}b"}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": "\u{1b}[2J"}), "content_rejected"),
        ("send_message", json!({"conversation_id": room, "content": "a\u{202e}b"}), "content_rejected"),
        ("send_message", json!({"conversation_id": room, "content": "é".repeat(4_001)}), "too_large"),
        ("send_message", json!({"conversation_id": room, "content": "x", "message_type": "poll"}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": "x", "message_type": "system"}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": "x", "client_message_id": ""}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": "x", "client_message_id": long_id}), "bad_request"),
        (
            "send_message",
            json!({"conversation_id": room, "content": "x", "client_message_id": "\u{1}a"}),
            "bad_request",
        ),
        ("send_message", json!({"conversation_id": room, "content": "x", "parent_message_id": 0}), "bad_request"),
        ("send_message", json!({"conversation_id": room, "content": "x", "parent_message_id": "1"}), "bad_request"),
        (
            "send_message",
            json!({"conversation_id": room, "content": "x", "parent_message_id": UNKNOWN_ID}),
            "not_found",
        ),
        ("send_message", json!({"conversation_id": public, "content": "x", "parent_message_id": message}), "not_found"),
        ("send_message", json!({"conversation_id": "room_9007199254740990", "content": "x"}), "not_found"),
        ("send_message", json!({"conversation_id": "lobby", "content": "x"}), "not_found"),
        ("send_message", json!({"conversation_id": "", "content": "x"}), "not_found"),
        ("send_message", json!({"conversation_id": "room_-2", "content": "x"}), "not_found"),
        ("get_history", json!({"conversation_id": room, "limit": 0}), "bad_request"),
        ("get_history", json!({"conversation_id": room, "limit": 201}), "bad_request"),
        ("get_history", json!({"conversation_id": room, "limit": 1.5}), "bad_request"),
        ("get_history", json!({"conversation_id": room, "before_seq": -1}), "bad_request"),
        ("get_history", json!({"conversation_id": room, "before_seq": 1, "after_seq": 1}), "bad_request"),
        ("get_history", json!({"conversation_id": room, "around_message_id": UNKNOWN_ID}), "not_found"),
        ("get_history", json!({"conversation_id": public, "around_message_id": message}), "not_found"),
        ("get_history", json!({"conversation_id": "room_9007199254740990"}), "not_found"),
        ("create_conversation", json!({}), "bad_request"),
        ("create_conversation", json!({"kind": "channel"}), "bad_request"),
        ("create_conversation", json!({"kind": "public_room"}), "bad_request"),
        ("create_conversation", json!({"kind": "private_room", "name": "  "}), "bad_request"),
        ("create_conversation", json!({"kind": "group", "name": "n".repeat(101)}), "too_large"),
        ("create_conversation", json!({"kind": "group", "description": "d".repeat(1_001)}), "too_large"),
        ("create_conversation", json!({"kind": "group", "member_ids": [UNKNOWN_ID]}), "not_found"),
        ("create_conversation", json!({"kind": "group", "member_ids": many}), "bad_request"),
        ("create_conversation", json!({"kind": "group", "member_ids": ["1"]}), "bad_request"),
        ("create_conversation", json!({"kind": "group", "member_ids": bob.id}), "bad_request"),
        ("create_conversation", json!({"kind": "direct"}), "bad_request"),
        ("create_conversation", json!({"kind": "direct", "member_ids": [bob.id, eve.id]}), "bad_request"),
        ("create_conversation", json!({"kind": "direct", "name": "us", "member_ids": [bob.id]}), "bad_request"),
        ("create_conversation", json!({"kind": "direct", "member_ids": [UNKNOWN_ID]}), "not_found"),
        ("list_conversations", json!({"cursor": -1}), "bad_request"),
        ("list_conversations", json!({"limit": 1_000}), "bad_request"),
        ("get_conversation", json!({"conversation_id": "dm_4503599627370492"}), "not_found"),
        ("list_members", json!({"conversation_id": room, "cursor": "x"}), "bad_request"),
        ("join_conversation", json!({"conversation_id": "room_9007199254740990"}), "not_found"),
        ("leave_conversation", json!({"conversation_id": "group_9007199254740989"}), "not_found"),
        ("invite_member", json!({"conversation_id": room}), "bad_request"),
        ("invite_member", json!({"conversation_id": room, "user_id": UNKNOWN_ID}), "not_found"),
        ("subscribe", json!({"conversation_id": room, "after_seq": -1}), "bad_request"),
        ("subscribe", json!({"conversation_id": "room_9007199254740990"}), "not_found"),
        ("resume", json!({}), "bad_request"),
        ("resume", json!({"cursors": []}), "bad_request"),
        ("resume", json!({"cursors": {(room.clone()): "1"}}), "bad_request"),
        ("resume", json!({"cursors": {"lobby": -1}}), "bad_request"),
        ("resume", json!({"cursors": cursors}), "bad_request"),
        ("mark_read", json!({"conversation_id": room}), "bad_request"),
        ("mark_read", json!({"conversation_id": room, "seq": 9_007_199_254_740_992_i64}), "bad_request"),
        ("ping_pong", json!({}), "unknown_command"),
        ("", json!({}), "unknown_command"),
        ("SEND_MESSAGE", json!({}), "unknown_command"),
    ];
    for format in Format::ALL {
        let mut client = Client::none(server, &ann, format).await;
        for (kind, data, code) in &cases {
            let shown: String = format!("{kind} {data}").chars().take(200).collect();
            assert_eq!(client.refused(kind, data.clone()).await, *code, "{format:?} {shown}");
        }
        assert_eq!(client.ok("get_conversation", of_room(&room)).await["conversation"]["last_seq"], 2);
    }
    for (kind, data, code) in cases.into_iter().filter(|(kind, ..)| *kind != "subscribe") {
        let shown: String = format!("{kind} {data}").chars().take(200).collect();
        let problem = server.call(&ann, kind, data).await.expect_err(&shown);
        assert_eq!(problem["code"], code, "over HTTP: {shown}");
    }
    let mut stranger = Client::none(server, &eve, Format::Json).await;
    let send = json!({"conversation_id": room, "content": "x"});
    assert_eq!(stranger.refused("send_message", send).await, "not_found");
    let invite = json!({"conversation_id": room, "user_id": eve.id});
    assert_eq!(stranger.refused("invite_member", invite).await, "not_found");
}

#[tokio::test]
async fn refuses_frames_that_do_not_parse_and_keeps_the_connection_open() {
    use tokio_tungstenite::tungstenite::Message;
    let server = server().await;
    let ann = server.register().await;
    let mut client = Client::none(server, &ann, Format::Json).await;
    let nested = format!("{{\"type\":\"ping\",\"data\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    let deep_id = format!("{{\"type\":\"ping\",\"id\":\"{}\"}}", "i".repeat(129));
    for text in
        ["", "{", "nonsense", "[]", "7", "null", "\"ping\"", "{}", "{\"type\":7}", "{\"type\":\"ping\",\"id\":[]}"]
            .into_iter()
            .chain([nested.as_str(), deep_id.as_str(), "{\"type\":\"ping\",\"data\":[]}", "{\"type\":\"ping\"}{}"])
    {
        client.send_raw(Message::text(text)).await;
        let reply = client.next_event().await;
        assert_eq!(
            (&reply["type"], &reply["data"]["code"]),
            (&json!("error"), &json!("bad_request")),
            "{text}: {reply}"
        );
    }
    client.send_raw(Message::text("{\"id\":\"seven\",\"type\":\"no\"}")).await;
    let reply = client.next_event().await;
    assert_eq!((&reply["id"], &reply["data"]["code"]), (&json!("seven"), &json!("unknown_command")));
    client.ok("ping", json!({})).await;

    let mut client = Client::none(server, &ann, Format::MessagePack).await;
    let mut nested =
        vec![0x82, 0xa4, b't', b'y', b'p', b'e', 0xa4, b'p', b'i', b'n', b'g', 0xa4, b'd', b'a', b't', b'a'];
    nested.extend([0x91; 100]);
    nested.push(0xc0);
    let frames: [&[u8]; 9] = [
        &[],
        &[0xc1],
        &[0x80],
        &[0x90],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0x81],
        b"{}",
        &nested,
    ];
    for bytes in frames {
        client.send_raw(Message::binary(bytes.to_vec())).await;
        let reply = client.next_event().await;
        assert_eq!((&reply["type"], &reply["data"]["code"]), (&json!("error"), &json!("bad_request")), "{bytes:x?}");
    }
    client.ok("ping", json!({})).await;
}

#[tokio::test]
async fn closes_the_connection_on_a_frame_of_the_other_format() {
    let server = server().await;
    let ann = server.register().await;
    for format in Format::ALL {
        let mut client = Client::none(server, &ann, format).await;
        client.send_raw(format.other().message(&json!({"type": "ping", "id": 1}))).await;
        assert_eq!(closed(&client.end().await), 1003, "{format:?}");
    }
}

#[tokio::test]
async fn executes_commands_over_http_as_over_websocket() {
    let server = server().await;
    let [ann, bob] = register(server).await;
    let room = server.room(&[&ann, &bob]).await;
    let mut client = Client::all(server, &ann, Format::Json).await;
    let send =
        |n: i64, key: &str| json!({"conversation_id": room, "content": format!("{n}"), "client_message_id": key});
    let by_socket = client.ok("send_message", send(1, "a")).await;
    let by_http = server.ok(&ann, "send_message", send(2, "b")).await;
    assert_eq!(keys(&by_socket), keys(&by_http));
    assert_eq!((&by_socket["seq"], &by_http["seq"]), (&json!(2), &json!(3)));
    let mut repeated = by_socket.clone();
    repeated["duplicate"] = json!(true);
    assert_eq!(
        server.ok(&ann, "send_message", send(1, "a")).await,
        repeated,
        "the client_message_id holds for both transports"
    );
    let mut log = Log::after([(room.as_str(), 1)]);
    client.follow(&mut log, &room, 3).await;

    let reads = [
        ("get_history", of_room(&room)),
        ("get_conversation", of_room(&room)),
        ("list_conversations", json!({})),
        ("list_members", of_room(&room)),
        ("mark_read", json!({"conversation_id": room, "seq": 3})),
    ];
    for (kind, data) in reads {
        assert_eq!(client.ok(kind, data.clone()).await, server.ok(&ann, kind, data).await, "{kind}");
    }
    assert!(server.ok(&ann, "ping", json!({})).await["server_time"].is_string());
    for kind in ["subscribe", "unsubscribe"] {
        let problem = server.call(&ann, kind, of_room(&room)).await.unwrap_err();
        assert_eq!(problem["code"], "bad_request", "{kind} needs a WebSocket");
    }
    assert_eq!(server.ok(&ann, "typing", of_room(&room)).await, json!({}));
    let (status, problem) = server.post("/api/commands", None, &json!({"type": "ping"})).await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthenticated")));
    let (status, problem) = server.post("/api/commands", Some(&ann.token), &json!([])).await;
    assert_eq!((status, &problem["code"]), (400, &json!("bad_request")));
    let (status, problem) = server.post("/api/commands", Some(&bob.token), &json!({"type": "nope"})).await;
    assert_eq!((status, &problem["code"]), (400, &json!("unknown_command")));
}

#[tokio::test]
async fn delivers_events_again_after_leaving_and_joining_at_once() {
    let server = shards(4).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": "open"})).await;
    let room = id_of(&created);
    let data = json!({"conversation_id": room});
    // The client subscribes itself: a delayed leave must not remove a subscription that was made after it.
    let mut client = Client::none(server, &bob, Format::Json).await;
    for n in 0..3 {
        let joined = client.ok("join_conversation", data.clone()).await;
        client.ok("subscribe", json!({"conversation_id": room, "after_seq": joined["seq"]})).await;
        let content = format!("round {n}");
        server.ok(&ann, "send_message", json!({"conversation_id": room, "content": content})).await;
        client.event_where("message_created", |message| message["content"] == content.as_str()).await;
        client.ok("leave_conversation", data.clone()).await;
    }
}

#[tokio::test]
async fn sends_presence_to_watchers_who_share_a_conversation() {
    let server = shards(4).await;
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    server.room(&[&ann, &bob]).await;
    let mut watcher = Client::none(server, &ann, Format::MessagePack).await;
    let answer = watcher.ok("get_presence", json!({"user_ids": [bob.id, eve.id, bob.id]})).await;
    let shown = answer["presence"].as_array().unwrap();
    assert_eq!(shown.len(), 1, "the presence of strangers is not shown: {answer}");
    assert_eq!((&shown[0]["user_id"], &shown[0]["status"]), (&json!(bob.id), &json!("offline")));

    let mut present = Client::none(server, &bob, Format::Json).await;
    assert_eq!(watcher.event("presence").await["status"], "online");
    for (status, text, expected) in
        [("away", Some("lunch"), "away"), ("busy", None, "busy"), ("invisible", Some("hidden"), "offline")]
    {
        let ack = present.ok("set_presence", json!({"status": status, "status_text": text})).await;
        assert_eq!((&ack["status"], &ack["status_text"]), (&json!(status), &json!(text)));
        let event = watcher.event("presence").await;
        assert_eq!((&event["user_id"], &event["status"]), (&json!(bob.id), &json!(expected)));
        assert_eq!(event["status_text"], json!(text.filter(|_| expected != "offline")), "{event}");
    }
    // While a user is invisible, watchers see no connect and no disconnect.
    let hidden = watcher.ok("get_presence", json!({"user_ids": [bob.id]})).await;
    assert!(hidden["presence"][0]["last_seen_at"].is_string(), "last seen when the user became invisible: {hidden}");
    present.close().await;
    let mut present = Client::none(server, &bob, Format::Json).await;
    assert_eq!(watcher.ok("get_presence", json!({"user_ids": [bob.id]})).await, hidden);
    present.ok("set_presence", json!({"status": "online"})).await;
    assert_eq!(watcher.event("presence").await["status"], "online", "no event came before");
    present.close().await;
    let event = watcher.event("presence").await;
    assert_eq!((&event["status"], event["last_seen_at"].is_string()), (&json!("offline"), true));

    assert_eq!(watcher.refused("set_presence", json!({"status": "dancing"})).await, "bad_request");
    assert_eq!(watcher.refused("get_presence", json!({"user_ids": vec![1; 201]})).await, "bad_request");
    let by_http = server.ok(&bob, "get_presence", json!({"user_ids": [ann.id]})).await;
    assert_eq!(by_http["presence"][0]["status"], "online");
    server.ok(&bob, "block_user", json!({"user_id": ann.id})).await;
    let answer = watcher.ok("get_presence", json!({"user_ids": [bob.id]})).await;
    assert_eq!(answer["presence"], json!([]));
    // The block also ends the watch that began before it. The event of another user shows that Bob's would have come.
    server.room(&[&ann, &eve]).await;
    watcher.ok("get_presence", json!({"user_ids": [eve.id]})).await;
    let mut present = Client::none(server, &bob, Format::Json).await;
    present.ok("set_presence", json!({"status": "busy"})).await;
    let _eve = Client::none(server, &eve, Format::Json).await;
    assert_eq!(watcher.event("presence").await["user_id"], eve.id);
}
