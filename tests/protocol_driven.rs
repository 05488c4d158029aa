//! Every command, event and route of the server behaves as docs/asyncapi.yaml and docs/openapi.yaml describe.
//!
//! How: the tests use each of them once. `support::protocol` checks each frame and each answer, as in all other tests,
//! and records what it has seen. A command, event or route that the tests do not use is a failure.
#![cfg(feature = "test-db")]

mod support;

use chat_server::wire::command::Command;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::app_codes::app_code;
use support::protocol::{self, assert_response, documents};
use support::source::{EVENTS_NOT_YET, ROUTES_NOT_YET, documented_route, operations, routes};
use support::{Client, Format, PASSWORD, Server, User, closed, id_of, unique};

/// Events that other tests cover: `catch_up.rs` with a reader that is slow for seconds, and `filter_texts.rs`.
const EVENTS_SEEN_ELSEWHERE: &[&str] = &["lagging", "message_rejected"];

/// A changed copy of `value`.
fn altered(value: &Value, change: impl FnOnce(&mut Value)) -> Value {
    let mut altered = value.clone();
    change(&mut altered);
    altered
}

/// Runs a command that must be acknowledged, if the server has it.
async fn run(client: &mut Client, kind: &str, data: Value) -> Value {
    if Command::NAMES.contains(&kind) { client.ok(kind, data).await } else { Value::Null }
}

async fn use_message_commands(ann: &mut Client, bob: &mut Client, room: &str, bob_name: &str) {
    let here = json!({"conversation_id": room});
    let message = |content: &str| json!({"conversation_id": room, "content": content, "client_message_id": content});
    let first = ann.ok("send_message", message(&format!("hello @{bob_name}"))).await["message_id"].clone();
    let reply = altered(&message("a reply"), |data| data["parent_message_id"] = first.clone());
    let reply = bob.ok("send_message", reply).await["message_id"].clone();
    for data in [json!({}), json!({"limit": 1}), json!({"before_seq": 3}), json!({"around_message_id": first})] {
        let data = altered(&data, |data| data["conversation_id"] = json!(room));
        ann.ok("get_history", data).await;
    }
    let of_message = |message: &Value| json!({"message_id": message});
    let with = |message: &Value, key: &str, value: Value| altered(&of_message(message), |data| data[key] = value);
    run(ann, "edit_message", with(&first, "content", json!("goodbye"))).await;
    run(ann, "list_edits", of_message(&first)).await;
    run(ann, "pin_message", with(&first, "pinned", json!(true))).await;
    run(ann, "list_pins", here.clone()).await;
    run(bob, "add_reaction", with(&first, "emoji", json!("👍"))).await;
    run(ann, "list_reactions", of_message(&first)).await;
    run(ann, "get_history", here.clone()).await;
    run(bob, "remove_reaction", with(&first, "emoji", json!("👍"))).await;
    run(bob, "get_thread", of_message(&first)).await;
    run(ann, "follow_thread", with(&first, "following", json!(false))).await;
    run(bob, "mark_thread_read", with(&first, "seq", json!(1_000))).await;
    run(bob, "list_threads", json!({"limit": 1})).await;
    run(bob, "list_mentions", json!({})).await;
    run(bob, "search_messages", json!({"query": "reply", "conversation_id": room, "limit": 10})).await;
    run(bob, "delete_message", of_message(&reply)).await;
}

async fn use_member_commands(ann: &mut Client, eves: &mut Client, room: &str, bob: &User, eve: &User) {
    let here = |data: Value| altered(&data, |data| data["conversation_id"] = json!(room));
    let user = |user: &User| json!({"conversation_id": room, "user_id": user.id});
    ann.ok("invite_member", user(eve)).await;
    ann.ok("list_members", here(json!({"limit": 1}))).await;
    run(ann, "set_role", altered(&user(bob), |data| data["role"] = json!("moderator"))).await;
    run(ann, "mute_member", altered(&user(eve), |data| data["duration_s"] = json!(60))).await;
    run(ann, "mute_member", altered(&user(eve), |data| data["duration_s"] = json!(0))).await;
    run(ann, "mute_member", user(eve)).await;
    run(ann, "remove_member", user(eve)).await;
    run(ann, "ban_member", altered(&user(eve), |data| data["reason"] = json!("spam"))).await;
    run(ann, "list_bans", here(json!({}))).await;
    run(ann, "unban_member", user(eve)).await;
    run(ann, "update_conversation", here(json!({"description": "new", "slow_mode_s": 0}))).await;
    run(ann, "list_public_rooms", json!({"limit": 2})).await;
    let made = run(ann, "create_invite", here(json!({"max_uses": 2, "expires_in_s": 60}))).await;
    run(ann, "list_invites", here(json!({}))).await;
    let code = json!({"code": made["invite"]["code"]});
    run(eves, "join_by_invite", code.clone()).await;
    run(ann, "revoke_invite", here(code)).await;
    run(ann, "transfer_ownership", user(bob)).await;
}

async fn use_invitation_commands(ann: &mut Client, eves: &mut Client, eve: &User, server: &Server) {
    let body = json!({"group_invitations": "nobody"});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&eve.token), Some(&body)).await.0, 200);
    for command in ["accept_invitation", "decline_invitation"] {
        let room = json!({"kind": "private_room", "name": unique("consent"), "member_ids": [eve.id]});
        let created = ann.ok("create_conversation", room).await;
        eves.event("invitation_received").await;
        run(eves, "list_invitations", json!({})).await;
        run(eves, command, json!({"conversation_id": id_of(&created)})).await;
    }
    let room = id_of(&ann.ok("create_conversation", json!({"kind": "private_room", "name": unique("consent")})).await);
    ann.ok("invite_member", json!({"conversation_id": room, "user_id": eve.id})).await;
    let mut second = Client::none(server, eve, Format::Json).await;
    run(eves, "decline_invitation", json!({"conversation_id": room})).await;
    second.event("invitation_closed").await;
    let body = json!({"group_invitations": "everyone"});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&eve.token), Some(&body)).await.0, 200);
}

async fn use_join_request_commands(ann: &mut Client, eves: &mut Client, eve: &User) {
    let create = json!({"kind": "private_room", "name": unique("closed")});
    let here = json!({"conversation_id": id_of(&ann.ok("create_conversation", create).await)});
    for accepted in [false, true] {
        run(eves, "request_to_join", altered(&here, |data| data["text"] = json!("please"))).await;
        ann.event("join_requested").await;
        run(eves, "list_join_requests", json!({})).await;
        run(ann, "list_join_requests", here.clone()).await;
        let decision = altered(&here, |data| data["accepted"] = json!(accepted));
        run(ann, "decide_join_request", altered(&decision, |data| data["user_id"] = json!(eve.id))).await;
        eves.event("join_request_decided").await;
    }
    run(eves, "leave_conversation", here.clone()).await;
    run(eves, "request_to_join", here.clone()).await;
    run(eves, "cancel_join_request", here).await;
}

/// A slash command that a bot answers in private, and in public.
async fn use_bot_commands(anns: &mut Client, ann: &User, server: &Server, room: &str) {
    let request = async |method: Method, path: &str, body: Value| {
        let (status, answer) = server.request(method, path, Some(&ann.token), Some(&body)).await;
        assert!((200..300).contains(&status), "{path}: {answer}");
        answer
    };
    let bot = request(Method::POST, "/bots", json!({"username": unique("bot"), "display_name": "Helper"})).await;
    let path = |rest: &str| format!("/bots/{}/{rest}", bot["user_id"]);
    request(Method::POST, &path("conversations"), json!({"conversation_id": room})).await;
    let commands = json!({"commands": [{"name": "help", "description": "Get help."}]});
    request(Method::PUT, &path("commands"), commands).await;
    let token = request(Method::POST, &path("tokens"), json!({"name": "all", "scopes": ["read", "write"]})).await;
    let user = User { token: token["token"].as_str().unwrap().to_owned(), ..ann.clone() };
    let mut bots = Client::all(server, &user, Format::Json).await;
    for visibility in ["private", "public"] {
        let asked = anns.send("run_command", json!({"conversation_id": room, "command": "help", "text": "me"})).await;
        let id = bots.event("command_invoked").await["invocation_id"].clone();
        let answer = json!({"invocation_id": id, "visibility": visibility, "content": "Here is help."});
        run(&mut bots, "answer_command", answer).await;
        anns.reply(asked).await.unwrap();
    }
    anns.event("command_answered").await;
    request(Method::DELETE, &format!("/bots/{}", bot["user_id"]), Value::Null).await;
}

async fn use_user_commands(ann: &mut Client, room: &str, bob: &User) {
    let bob = json!({"user_id": bob.id});
    run(ann, "block_user", bob.clone()).await;
    run(ann, "list_blocks", json!({})).await;
    run(ann, "unblock_user", bob.clone()).await;
    run(ann, "set_presence", json!({"status": "busy", "status_text": "away"})).await;
    run(ann, "get_presence", json!({"user_ids": [bob["user_id"]]})).await;
    ann.ok("mark_read", json!({"conversation_id": room, "seq": 2})).await;
    ann.ok("ping", json!({})).await;
    ann.send("typing", json!({"conversation_id": room})).await;
}

async fn use_subscription_commands(client: &mut Client, room: &str) {
    client.ok("subscribe", json!({"conversation_id": room, "after_seq": 0})).await;
    client.event("caught_up").await;
    client.ok("subscribe", json!({"conversation_id": room, "after_seq": 1_000_000})).await;
    client.event("reset").await;
    client.ok("resume", json!({"cursors": {(room): 1, "room_9007199254740990": 0}})).await;
    client.event("caught_up").await;
    client.ok("unsubscribe", json!({"conversation_id": room})).await;
    client.ok("unsubscribe", json!({"conversation_id": room})).await;
}

#[tokio::test]
async fn sends_every_command_and_event_as_documented() {
    let server = Server::start(2, &[]);
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    for format in Format::ALL {
        let mut anns = Client::all(&server, &ann, format).await;
        let mut bobs = Client::all(&server, &bob, format.other()).await;
        let mut eves = Client::none(&server, &eve, format).await;
        let mut phone = Client::all(&server, &bob, format).await;
        let create = json!({"kind": "public_room", "name": unique("room"), "description": "A room"});
        let room = id_of(&anns.ok("create_conversation", create).await);
        let here = json!({"conversation_id": room});
        bobs.ok("get_conversation", here.clone()).await;
        bobs.ok("join_conversation", here.clone()).await;
        bobs.ok("list_conversations", json!({"limit": 1})).await;
        anns.ok("create_conversation", json!({"kind": "direct", "member_ids": [bob.id]})).await;
        server.upload(&ann, &room, "note.txt", b"a note").await;
        anns.event("file_updated").await;
        use_message_commands(&mut anns, &mut bobs, &room, &bob.name).await;
        phone.event("thread_follow_updated").await;
        use_join_request_commands(&mut anns, &mut eves, &eve).await;
        use_invitation_commands(&mut anns, &mut eves, &eve, &server).await;
        use_bot_commands(&mut anns, &ann, &server, &room).await;
        use_user_commands(&mut anns, &room, &bob).await;
        // The block ended the watch, so Bob watches again.
        bobs.ok("get_presence", json!({"user_ids": [ann.id]})).await;
        anns.ok("set_presence", json!({"status": "away"})).await;
        while !["typing.event", "presence"].iter().all(|key| documents().seen().contains(key)) {
            bobs.next_event().await;
        }
        use_subscription_commands(&mut Client::none(&server, &bob, format).await, &room).await;
        use_member_commands(&mut anns, &mut eves, &room, &bob, &eve).await;
        server.ok(&ann, "typing", here.clone()).await;
        // Both members leave, one after the other. The last leave archives the group.
        let group = json!({"kind": "group", "member_ids": [bob.id]});
        let group = json!({"conversation_id": id_of(&anns.ok("create_conversation", group).await)});
        anns.ok("leave_conversation", group.clone()).await;
        bobs.ok("leave_conversation", group).await;
        // Bob owns the room since the transfer.
        run(&mut bobs, "archive_conversation", here).await;
        anns.drain().await;
        bobs.drain().await;
    }
    let mut last = Client::all(&server, &ann, Format::Json).await;
    assert_eq!(last.refused("shout", json!({})).await, "unknown_command");
    server.sigterm();
    assert_eq!(closed(&last.end().await), 1001);
    server.wait();

    let seen = documents().seen();
    for name in Command::NAMES {
        let ack = format!("{name}.ack");
        assert!(seen.contains(name) && (name == "typing" || seen.contains(ack.as_str())), "{name} was not seen");
    }
    let unseen: BTreeSet<&str> = documents().events().difference(&events_seen(&seen)).copied().collect();
    let expected = EVENTS_NOT_YET.iter().chain(EVENTS_SEEN_ELSEWHERE).copied().collect();
    assert_eq!(unseen, expected, "events that no client has received");
}

/// The event types among the recorded messages; `typing` is also the name of a command.
fn events_seen<'a>(seen: &BTreeSet<&'a str>) -> BTreeSet<&'a str> {
    seen.iter().map(|key| key.strip_suffix(".event").unwrap_or(key)).collect()
}

/// Switches two-factor authentication on, uses it, and switches it off. Returns the routes.
async fn use_second_factor(server: &Server, user: &User) -> BTreeSet<String> {
    let mut driven = BTreeSet::new();
    let mut ask = async |method: Method, path: &str, token: Option<&str>, body: Option<Value>| {
        let (status, answer) = server.request(method.clone(), path, token, body.as_ref()).await;
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        driven.insert(format!("{method} {path}"));
        answer
    };
    let token = Some(user.token.as_str());
    let enabled = ask(Method::POST, "/auth/2fa/enable", token, Some(json!({"password": PASSWORD}))).await;
    let code = app_code(enabled["secret"].as_str().unwrap(), 0);
    let confirmed = ask(Method::POST, "/auth/2fa/confirm", token, Some(json!({"code": code}))).await;
    let backup = |codes: &Value, n: usize| codes["backup_codes"][n].clone();
    ask(Method::GET, "/auth/2fa", token, None).await;
    let again = json!({"backup_code": backup(&confirmed, 0)});
    ask(Method::POST, "/auth/2fa/step-up", token, Some(again)).await;
    let body = json!({"login": user.name, "password": PASSWORD});
    let challenge = server.post("/auth/login", None, &body).await.1["challenge"].clone();
    let answer = json!({"challenge": challenge, "backup_code": backup(&confirmed, 1)});
    ask(Method::POST, "/auth/2fa/verify", None, Some(answer)).await;
    let change = json!({"password": PASSWORD, "backup_code": backup(&confirmed, 2)});
    let renewed = ask(Method::POST, "/auth/2fa/backup-codes", token, Some(change)).await;
    let change = json!({"password": PASSWORD, "backup_code": backup(&renewed, 0)});
    ask(Method::POST, "/auth/2fa/disable", token, Some(change)).await;
    driven
}

/// Uploads, reads and removes files. Returns the routes.
async fn use_files(server: &Server, user: &User) -> BTreeSet<String> {
    let room = server.room(&[user]).await;
    let mut picture = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(400, 400).write_to(&mut picture, image::ImageFormat::Png).unwrap();
    let picture = picture.into_inner();
    let form = format!(
        "--x\r\ncontent-disposition: form-data; name=\"conversation_id\"\r\n\r\n{room}\r\n--x\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"b.txt\"\r\n\r\ntext\r\n--x--\r\n"
    );
    let given = json!({"conversation_id": room, "name": "a.png", "size": picture.len()}).to_string();
    let mut driven = BTreeSet::new();
    let mut ask = async |method: &str, path: &str, fields: &[(&'static str, &str)], body: Vec<u8>| {
        let response = server.send(user, method, path, fields, body).await;
        let status = response.status();
        let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
        let bytes = response.bytes().await.unwrap();
        assert!(status.is_success(), "{method} {path}: {status} {bytes:?}");
        protocol::assert_answer(&protocol::Exchange {
            method,
            target: path,
            sent: None,
            status: status.as_u16(),
            content_type: kind.as_deref(),
            body: Some(&bytes),
        });
        driven.insert(format!("{method} {path}"));
        serde_json::from_slice::<Value>(&bytes).unwrap_or(Value::Null)
    };
    ask("OPTIONS", "/files", &[], vec![]).await;
    let file = ask("POST", "/files", &[], given.into_bytes()).await["file_id"].as_i64().unwrap();
    let path = format!("/files/{file}");
    ask("HEAD", &path, &[], vec![]).await;
    let fields = [("content-type", "application/offset+octet-stream"), ("upload-offset", "0")];
    ask("PATCH", &path, &fields, picture.clone()).await;
    server.settled(user, file).await;
    ask("GET", &path, &[], vec![]).await;
    ask("GET", &format!("{path}/a.png"), &[], vec![]).await;
    ask("GET", &format!("{path}/variants/thumb_small"), &[], vec![]).await;
    ask("POST", &format!("{path}/link"), &[], vec![]).await;
    ask("POST", "/files/simple", &[("content-type", "multipart/form-data; boundary=x")], form.into_bytes()).await;
    let json = [("content-type", "application/json")];
    let share = ask("POST", &format!("{path}/shares"), &json, b"{}".to_vec()).await;
    ask("GET", &format!("{path}/shares"), &[], vec![]).await;
    ask("GET", share["url"].as_str().unwrap(), &[], vec![]).await;
    ask("DELETE", &format!("{path}/shares/{}", share["id"]), &[], vec![]).await;
    ask("DELETE", &path, &[], vec![]).await;
    let avatar = ask("PUT", "/users/me/avatar", &[("content-type", "image/png")], picture).await;
    ask("GET", avatar["avatar_url"].as_str().unwrap(), &[], vec![]).await;
    ask("DELETE", "/users/me/avatar", &[], vec![]).await;
    driven
}

/// Lets the content filter hold two texts of Bob in a room of Ann. Returns the targets that approve the first, reject
/// the second, and have the rules of the room.
async fn hold_two_texts(server: &Server, ann: &User, bob: &User) -> (String, String, String) {
    let room = server.room(&[ann, bob]).await;
    let rules = format!("/conversations/{room}/filter-rules");
    let hold = json!({"rules": [
        {"id": "hold", "kind": "keywords", "definition": {"words": ["offer"]}, "action": "hold"}]});
    assert_eq!(server.request(Method::PUT, &rules, Some(&ann.token), Some(&hold)).await.0, 200);
    let mut queued = Vec::new();
    while queued.len() < 2 {
        let _ = server.call(bob, "send_message", json!({"conversation_id": room, "content": "an offer"})).await;
        let queue = server.request(Method::GET, "/moderation/queue", Some(&ann.token), None).await.1;
        queued.clone_from(queue["items"].as_array().unwrap());
    }
    let of = |n: usize, decision: &str| format!("/moderation/queue/{}/{decision}", queued[n]["id"]);
    (of(0, "approve"), of(1, "reject"), rules)
}

/// Records a security event that slows a user down. Returns its id.
async fn slow_down(server: &Server, user: &User) -> i64 {
    let found = json!([{"severity": "warning", "event_type": "mass_mentions", "user_id": user.id, "details": {},
                        "dedupe_key": "a test", "response": "slow_down", "response_s": 600}]);
    let database = server.database().await;
    database.query("SELECT record_security_events($1, 0)", &[&found]).await.unwrap();
    database.query_one("SELECT id FROM security_events", &[]).await.unwrap().get(0)
}

/// Every request about webhooks. Returns the routes.
async fn use_webhooks(server: &Server, user: &User) -> BTreeSet<String> {
    let room = server.room(&[user]).await;
    let mut requested = BTreeSet::new();
    let mut request = async |method: &str, route: &str, id: &Value, body: Option<Value>| {
        let target = route.replace("{id}", &id.to_string());
        let (status, answer) = server.request(method.parse().unwrap(), &target, Some(&user.token), body.as_ref()).await;
        assert!((200..300).contains(&status), "{method} {target}: {status} {answer}");
        requested.insert(format!("{method} {route}"));
        answer
    };
    let none = Value::Null;
    let url = json!({"url": "https://receiver.invalid/", "conversation_id": room});
    let id = &request("POST", "/webhooks", &none, Some(url)).await["id"];
    request("GET", "/webhooks", &none, None).await;
    request("GET", "/webhooks/{id}", id, None).await;
    request("PATCH", "/webhooks/{id}", id, Some(json!({"events": ["message_created"]}))).await;
    request("POST", "/webhooks/{id}/rotate", id, None).await;
    request("POST", "/webhooks/{id}/test", id, None).await;
    request("POST", "/webhooks/{id}/replay", id, Some(json!({"from": "2026-01-01T00:00:00Z"}))).await;
    request("GET", "/webhooks/{id}/deliveries", id, None).await;
    request("DELETE", "/webhooks/{id}", id, None).await;
    let incoming = json!({"conversation_id": room, "name": "Build"});
    let created = request("POST", "/incoming-webhooks", &none, Some(incoming)).await;
    request("GET", "/incoming-webhooks", &none, None).await;
    let rotated = request("POST", "/incoming-webhooks/{id}/rotate", &created["id"], None).await;
    let post = rotated["url"].as_str().unwrap();
    request("POST", post, &none, Some(json!({"text": "hello"}))).await;
    request("DELETE", "/incoming-webhooks/{id}", &created["id"], None).await;
    requested
}

/// Every request about bots. Returns the routes.
async fn use_bots(server: &Server, user: &User) -> BTreeSet<String> {
    let room = server.room(&[user]).await;
    let mut requested = BTreeSet::new();
    let mut request = async |method: &str, route: &str, ids: &[(&str, &Value)], body: Option<Value>| {
        let target = ids.iter().fold(route.to_owned(), |target, (name, id)| {
            let id = id.as_str().map_or_else(|| id.to_string(), str::to_owned);
            target.replace(&format!("{{{name}}}"), &id)
        });
        let (status, answer) = server.request(method.parse().unwrap(), &target, Some(&user.token), body.as_ref()).await;
        assert!((200..300).contains(&status), "{method} {target}: {status} {answer}");
        requested.insert(format!("{method} {route}"));
        answer
    };
    let new = json!({"username": unique("bot"), "display_name": "Helper"});
    let id = &request("POST", "/bots", &[], Some(new)).await["user_id"];
    let bot = [("id", id)];
    request("GET", "/bots", &[], None).await;
    request("GET", "/bots/{id}", &bot, None).await;
    request("PATCH", "/bots/{id}", &bot, Some(json!({"bio": "It helps."}))).await;
    request("POST", "/bots/{id}/conversations", &bot, Some(json!({"conversation_id": room}))).await;
    let new = json!({"name": "server", "scopes": ["read"], "conversation_ids": [room]});
    let token = request("POST", "/bots/{id}/tokens", &bot, Some(new)).await;
    request("GET", "/bots/{id}/tokens", &bot, None).await;
    let commands = json!({"commands": [{"name": "help", "description": "Get help.", "url": "https://bot.invalid/"}]});
    request("PUT", "/bots/{id}/commands", &bot, Some(commands)).await;
    request("GET", "/bots/{id}/commands", &bot, None).await;
    request("POST", "/bots/{id}/commands/rotate-secret", &bot, None).await;
    request("GET", "/conversations/{id}/commands", &[("id", &json!(room))], None).await;
    let of_token = [("id", id), ("token_id", &token["id"])];
    request("DELETE", "/bots/{id}/tokens/{token_id}", &of_token, None).await;
    let room = json!(room);
    let in_room = [("id", id), ("conversation_id", &room)];
    request("DELETE", "/bots/{id}/conversations/{conversation_id}", &in_room, None).await;
    request("DELETE", "/bots/{id}", &bot, None).await;
    requested
}

#[tokio::test]
async fn answers_every_route_as_documented() {
    // The first user is an administrator.
    let settings = [("files.public_links", "true"), ("features.webhooks", "true")];
    let server = &Server::start(2, &[&[("security.admin_user_ids", "1")], &settings[..]].concat());
    let ann = server.register().await;
    let bob = server.register().await;
    let (approve, reject, rules) = hold_two_texts(server, &ann, &bob).await;
    let event = slow_down(server, &bob).await;
    let held = json!({"rules": []});
    let (other, _) = (server.login(&ann).await, server.login(&ann).await);
    let sessions = server.request(Method::GET, "/auth/sessions", Some(&ann.token), None).await.1;
    let ids = sessions["sessions"].as_array().unwrap().iter().map(|session| session["id"].as_i64().unwrap());
    let spare = ids.max().unwrap();
    let new_password = json!({"current_password": PASSWORD, "new_password": "another horse battery"});
    let (ann_token, bob_token) = (Some(ann.token.as_str()), Some(bob.token.as_str()));
    let requests: Vec<(&str, String, Option<&str>, Option<Value>)> = vec![
        ("POST", "/auth/login".into(), None, Some(json!({"login": ann.name, "password": PASSWORD}))),
        ("POST", "/auth/refresh".into(), None, Some(json!({"refresh_token": other.refresh_token}))),
        ("GET", "/auth/register/challenge".into(), None, None),
        ("GET", "/auth/sessions".into(), ann_token, None),
        ("DELETE", format!("/auth/sessions/{spare}"), ann_token, None),
        ("GET", format!("/users?query={}&limit=5", ann.name), ann_token, None),
        ("GET", "/users/me".into(), ann_token, None),
        ("PATCH", "/users/me".into(), ann_token, Some(json!({"display_name": "Ann", "bio": null}))),
        ("GET", format!("/users/{}", ann.id), bob_token, None),
        ("POST", "/admin/reload".into(), ann_token, None),
        ("GET", "/admin/filter-rules".into(), ann_token, None),
        ("PUT", "/admin/filter-rules".into(), ann_token, Some(held.clone())),
        ("GET", rules.clone(), ann_token, None),
        ("PUT", rules, ann_token, Some(held)),
        ("GET", "/moderation/queue?limit=1".into(), ann_token, None),
        ("POST", approve, ann_token, None),
        ("POST", reject, ann_token, None),
        ("POST", "/ws-ticket".into(), ann_token, None),
        ("GET", format!("/admin/audit?actor={}&limit=5", ann.id), ann_token, None),
        ("GET", "/admin/security-events".into(), ann_token, None),
        ("DELETE", format!("/admin/security-events/{event}/responses"), ann_token, None),
        ("GET", format!("/admin/users/{}/limits", bob.id), ann_token, None),
        ("POST", "/api/commands".into(), ann_token, Some(json!({"type": "list_conversations"}))),
        ("POST", "/auth/password".into(), ann_token, Some(new_password)),
        ("POST", "/auth/logout".into(), ann_token, None),
        ("POST", "/auth/logout-all".into(), bob_token, None),
        ("GET", "/health".into(), None, None),
        ("GET", "/health/ready".into(), None, None),
        ("GET", "/health/live".into(), None, None),
        ("GET", "/metrics".into(), None, None),
        ("GET", "/dashboard".into(), None, None),
        ("GET", "/".into(), None, None),
        ("GET", "/web/veza-client.js".into(), None, None),
        ("GET", "/sdk/js/index.js".into(), None, None),
    ];
    let parts = routes().into_iter().filter_map(|route| Some(route.strip_prefix("GET ")?.to_owned()));
    let parts = parts.filter(|path| path.starts_with("/dashboard/") && !path.ends_with("/events"));
    let parts: Vec<_> = parts.map(|path| ("GET", path, None, None)).collect();
    assert!(parts.len() > 5, "{parts:?}");
    let mut used = use_second_factor(server, &bob).await;
    used.extend(use_files(server, &ann).await);
    used.extend(use_webhooks(server, &bob).await);
    used.extend(use_bots(server, &ann).await);
    used.insert("POST /auth/register".to_owned());
    for (method, target, token, body) in requests.into_iter().chain(parts) {
        let (status, answer) = server.request(method.parse().unwrap(), &target, token, body.as_ref()).await;
        assert!((200..300).contains(&status), "{method} {target}: {status} {answer}");
        used.insert(format!("{method} {}", target.split('?').next().unwrap_or_default()));
    }
    assert_eq!(server.request(Method::GET, "/ws", None, None).await.0, 426);
    used.insert("GET /ws".to_owned());
    let stream = reqwest::get(format!("{}/dashboard/events", server.base_url)).await.unwrap();
    assert_eq!(stream.status(), 200);
    assert_response("/dashboard/events", &stream, None);
    used.insert("GET /dashboard/events".to_owned());
    let used: BTreeSet<String> = used.iter().filter_map(|route| documented_route(route)).collect();
    let unused: BTreeSet<String> = operations().difference(&used).cloned().collect();
    assert_eq!(
        unused,
        ROUTES_NOT_YET.iter().map(|route| (*route).to_owned()).collect(),
        "operations that the test does not use"
    );
}
