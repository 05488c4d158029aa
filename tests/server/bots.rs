//! Bots: what their tokens permit, and when they end; their limits and their badge.
//!
//! How: a bot is used as a user whose access token is the token of the bot, over HTTP and over WebSockets.

use crate::support::{Client, Format, Server, User, closed, code, connect_error, text, unique, upgrade, wait_until};
use chat_server::wire::command::Command;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// The server of this module. Its first user is an administrator.
fn host() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let limits = [("limits.max_bots_per_user", "3"), ("limits.adaptive", "false")];
        let messages = [("limits.max_messages_per_minute", "10"), ("limits.bot_messages_per_minute", "60")];
        Server::start(2, &[&limits[..], &messages[..]].concat())
    })
}

async fn call(server: &Server, user: &User, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
    server.request(method, path, Some(&user.token), body.as_ref()).await
}

/// Creates a bot that has no token.
async fn create(server: &Server, owner: &User) -> Value {
    let body = json!({"username": unique("bot"), "display_name": "Helper"});
    let (status, bot) = call(server, owner, Method::POST, "/bots", Some(body)).await;
    assert_eq!(status, 201, "{bot}");
    bot
}

/// Adds a bot to a conversation.
async fn add(server: &Server, owner: &User, bot: &Value, conversation: &str) {
    let body = json!({"conversation_id": conversation});
    let path = format!("/bots/{}/conversations", bot["user_id"]);
    let (status, answer) = call(server, owner, Method::POST, &path, Some(body)).await;
    assert_eq!(status, 204, "{answer}");
}

/// A token with these scopes, limited to these conversations: its number, and the bot that signs in with it.
async fn token(server: &Server, owner: &User, bot: &Value, scopes: &[&str], conversations: &[&str]) -> (Value, User) {
    let body = json!({"name": "test", "scopes": scopes, "conversation_ids": conversations});
    let path = format!("/bots/{}/tokens", bot["user_id"]);
    let (status, made) = call(server, owner, Method::POST, &path, Some(body)).await;
    assert_eq!(status, 201, "{made}");
    let (id, name) = (bot["user_id"].as_i64().unwrap(), text(&bot["username"]).to_owned());
    let signed_in = User { id, name, token: text(&made["token"]).to_owned(), refresh_token: String::new() };
    (made["id"].clone(), signed_in)
}

/// An owner, a room of the owner, and a bot in it with a token that has every scope.
async fn bot_in_a_room(server: &Server) -> (User, String, Value, User) {
    let owner = server.register().await;
    let room = server.room(&[&owner]).await;
    let bot = create(server, &owner).await;
    add(server, &owner, &bot, &room).await;
    let (_, helper) = token(server, &owner, &bot, &["read", "write", "manage", "files"], &[]).await;
    (owner, room, bot, helper)
}

#[tokio::test]
async fn a_bot_uses_the_same_commands_and_is_marked_in_everything_that_shows_it() {
    let server = host();
    let (ann, room, bot, helper) = bot_in_a_room(server).await;
    for format in [Format::Json, Format::MessagePack] {
        let mut anns = Client::all(server, &ann, format).await;
        let mut bots = Client::all(server, &helper, format).await;
        assert_eq!((&bots.welcome["user"]["id"], &bots.welcome["user"]["role"]), (&bot["user_id"], &json!("bot")));
        assert_eq!(bots.welcome["limits"]["max_messages_per_minute"], 60);
        assert_eq!(bots.welcome["conversations"][0]["id"], json!(room));
        assert!(anns.welcome["user"].get("role").is_none(), "people have no role");
        let content = unique("badge");
        let sent = bots.ok("send_message", json!({"conversation_id": room, "content": content})).await;
        let event = anns.event("message_created").await;
        assert_eq!((&event["message_id"], &event["sender"]["role"]), (&sent["message_id"], &json!("bot")));
        anns.ok("send_message", json!({"conversation_id": room, "content": "thank you"})).await;
        let event = bots.event_where("message_created", |event| event["content"] == "thank you").await;
        assert!(event["sender"].get("role").is_none(), "{event}");
        bots.ok("add_reaction", json!({"message_id": sent["message_id"], "emoji": "👍"})).await;
        assert_eq!(anns.event("reaction_added").await["user"]["role"], "bot");

        let history = anns.ok("get_history", json!({"conversation_id": room})).await;
        let found = history["messages"].as_array().unwrap().iter().find(|found| found["content"] == json!(content));
        assert_eq!(found.unwrap()["sender"]["role"], "bot");
        let members = anns.ok("list_members", json!({"conversation_id": room})).await;
        let marked: Vec<&Value> = members["members"].as_array().unwrap().iter().map(|member| &member["bot"]).collect();
        assert_eq!(marked, [&Value::Null, &json!(true)]);
        let mut late = Client::none(server, &ann, format).await;
        late.ok("subscribe", json!({"conversation_id": room, "after_seq": 0})).await;
        let replayed = late.event_where("message_created", |event| event["content"] == json!(content)).await;
        assert_eq!(replayed["sender"]["role"], "bot", "catching up shows it too");
        let number = room.split_once('_').unwrap().1;
        let indexed = format!(
            "SELECT NOT EXISTS (SELECT FROM messages m LEFT JOIN search_progress p USING (conversation_id)
              WHERE m.conversation_id = {number} AND m.seq > coalesce(p.indexed_seq, 0))"
        );
        wait_until(&server.database().await, &indexed).await;
        let found = anns.ok("search_messages", json!({"conversation_id": room, "query": content})).await;
        assert_eq!(found["messages"][0]["sender"]["role"], "bot");
    }
    let (_, profile) = call(server, &ann, Method::GET, &format!("/users/{}", bot["user_id"]), None).await;
    assert_eq!(profile["role"], "bot");
    let (_, me) = call(server, &helper, Method::GET, "/users/me", None).await;
    assert_eq!((&me["id"], &me["role"]), (&bot["user_id"], &json!("bot")));
}

#[tokio::test]
async fn owners_manage_their_bots_and_nobody_else_does() {
    let server = host();
    let (ann, eve) = (server.register().await, server.register().await);
    let bot = create(server, &ann).await;
    let path = format!("/bots/{}", bot["user_id"]);
    let (status, shown) = call(server, &ann, Method::GET, &path, None).await;
    assert_eq!((status, &shown), (200, &bot));
    assert_eq!((&bot["owner_id"], &bot["tokens_count"]), (&json!(ann.id), &json!(0)));
    let change = json!({"display_name": "Weather", "bio": "It rains."});
    let (status, changed) = call(server, &ann, Method::PATCH, &path, Some(change.clone())).await;
    assert_eq!((status, &changed["display_name"], &changed["bio"]), (200, &json!("Weather"), &json!("It rains.")));
    let (_, changed) = call(server, &ann, Method::PATCH, &path, Some(json!({"bio": null}))).await;
    assert_eq!((&changed["display_name"], &changed["bio"]), (&json!("Weather"), &Value::Null));
    let wanted = json!({"name": "x", "scopes": ["read"]});
    for (method, target, body) in [
        (Method::GET, path.clone(), None),
        (Method::PATCH, path.clone(), Some(change)),
        (Method::DELETE, path.clone(), None),
        (Method::POST, format!("{path}/tokens"), Some(wanted.clone())),
        (Method::GET, format!("{path}/tokens"), None),
        (Method::POST, format!("{path}/conversations"), Some(json!({"conversation_id": server.room(&[&eve]).await}))),
    ] {
        assert_eq!(call(server, &eve, method, &target, body).await.0, 404, "{target}");
    }
    for bad in [
        json!({"name": "x", "scopes": []}),
        json!({"name": "x", "scopes": ["admin"]}),
        json!({"name": " ", "scopes": ["read"]}),
        json!({"name": "x", "scopes": ["read"], "expires_in_s": 0}),
        json!({"name": "x", "scopes": ["read"], "expires_in_s": 31_622_401}),
    ] {
        let (status, problem) = call(server, &ann, Method::POST, &format!("{path}/tokens"), Some(bad.clone())).await;
        assert_eq!(status, 400, "{bad}: {problem}");
    }
    let elsewhere = json!({"name": "x", "scopes": ["read"], "conversation_ids": [server.room(&[&ann]).await]});
    let (status, problem) = call(server, &ann, Method::POST, &format!("{path}/tokens"), Some(elsewhere)).await;
    assert_eq!((status, code(&problem).as_str()), (403, "not_member"), "{problem}");
    let taken = json!({"username": ann.name, "display_name": "Ann"});
    assert_eq!(call(server, &ann, Method::POST, "/bots", Some(taken)).await.0, 409);
    for _ in 0..2 {
        create(server, &ann).await;
    }
    let one_more = json!({"username": unique("bot"), "display_name": "Helper"});
    let (status, problem) = call(server, &ann, Method::POST, "/bots", Some(one_more)).await;
    assert_eq!((status, code(&problem).as_str()), (409, "conflict"), "{problem}");
    let (_, listed) = call(server, &ann, Method::GET, "/bots", None).await;
    assert_eq!(listed["bots"].as_array().unwrap().len(), 3);
    assert_eq!(call(server, &eve, Method::GET, "/bots", None).await.1["bots"], json!([]));
    assert_eq!(call(server, &eve, Method::GET, "/bots?all=true", None).await.0, 403);
    // A bot cannot be invited by others, and nobody signs in as it with a password.
    let room = server.room(&[&eve]).await;
    let invited = server.ok(&eve, "invite_member", json!({"conversation_id": room, "user_id": bot["user_id"]})).await;
    assert_eq!(invited["pending"], true);
    let login = json!({"login": bot["username"], "password": "correct horse battery"});
    assert_eq!(server.post("/auth/login", None, &login).await.0, 401);
}

#[tokio::test]
async fn administrators_list_the_bots_of_all_users_and_the_audit_trail_records_it() {
    let server = Server::start(1, &[("security.admin_user_ids", "1")]);
    let admin = server.register().await;
    assert_eq!(admin.id, 1);
    let (ann, bob) = (server.register().await, server.register().await);
    let mut made = Vec::new();
    for owner in [&ann, &bob, &admin] {
        made.push((create(&server, owner).await["user_id"].clone(), json!(owner.id)));
    }
    let (status, listed) = call(&server, &admin, Method::GET, "/bots?all=true", None).await;
    assert_eq!(status, 200, "{listed}");
    let bots = listed["bots"].as_array().unwrap();
    let shown: Vec<_> = bots.iter().map(|bot| (bot["user_id"].clone(), bot["owner_id"].clone())).collect();
    assert_eq!(shown, made);
    let (_, listed) = call(&server, &admin, Method::GET, "/bots?all=false", None).await;
    assert_eq!(listed["bots"].as_array().unwrap().len(), 1, "the administrator's own");
    let (status, problem) = call(&server, &ann, Method::GET, "/bots?all=true", None).await;
    assert_eq!((status, code(&problem).as_str()), (403, "forbidden"), "{problem}");
    let reads = "SELECT count(*) FROM audit_logs WHERE action = 'read_bots' AND user_id = 1";
    assert_eq!(server.database().await.query_one(reads, &[]).await.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn a_token_permits_what_its_scopes_say_and_nothing_else() {
    let server = host();
    let (ann, room, bot, _) = bot_in_a_room(server).await;
    let message = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "hello"})).await;
    let data = json!({"conversation_id": room, "content": "x", "message_id": message["message_id"], "emoji": "👍",
        "pinned": true, "seq": 1, "query": "hello", "following": true, "user_id": ann.id, "role": "member",
        "kind": "group", "name": "x", "user_ids": [ann.id], "status": "online", "cursors": {}, "code": "x",
        "accepted": true, "archived": false});
    let (_, nothing) = token(server, &ann, &bot, &["files"], &[]).await;
    let mut client = Client::all(server, &nothing, Format::Json).await;
    assert_eq!(client.welcome["conversations"], json!([]), "it may not read them");
    for name in Command::NAMES {
        if name == "ping" {
            continue;
        }
        let given = client.command(name, data.clone()).await;
        let refusal = given.expect_err(name);
        // What a command does not accept at all is refused before.
        if code(&refusal) != "bad_request" {
            assert_eq!(code(&refusal), "forbidden", "{name}: {refusal}");
        }
        let problem = server.call(&nothing, name, data.clone()).await.expect_err(name);
        assert_eq!(code(&problem), code(&refusal), "{name}: {problem}");
    }
    for (scope, command, data) in [
        ("read", "get_history", json!({"conversation_id": room})),
        ("write", "send_message", json!({"conversation_id": room, "content": "by scope"})),
        ("manage", "update_conversation", json!({"conversation_id": room, "description": "x"})),
    ] {
        let refusal = server.call(&nothing, command, data.clone()).await.unwrap_err();
        assert_eq!((code(&refusal).as_str(), &refusal["details"]["scope"]), ("forbidden", &json!(scope)), "{refusal}");
        let (_, permitted) = token(server, &ann, &bot, &[scope], &[]).await;
        match server.call(&permitted, command, data).await {
            Ok(_) => {}
            // The token permits it, and its role in the room does not.
            Err(problem) => assert!(scope == "manage" && text(&problem["detail"]).contains("role"), "{problem}"),
        }
    }
    for (method, path) in [
        (Method::POST, "/bots"),
        (Method::GET, "/bots"),
        (Method::GET, "/auth/sessions"),
        (Method::POST, "/auth/2fa/enable"),
        (Method::POST, "/webhooks"),
        (Method::GET, "/users?query=ann"),
        (Method::GET, "/admin/audit"),
    ] {
        let (status, problem) = call(server, &nothing, method, path, Some(json!({}))).await;
        assert_eq!((status, code(&problem).as_str()), (403, "forbidden"), "{path}: {problem}");
    }
}

#[tokio::test]
async fn a_token_of_some_conversations_shows_no_others() {
    let server = host();
    let (ann, room, bot, _) = bot_in_a_room(server).await;
    let other = server.room(&[&ann]).await;
    add(server, &ann, &bot, &other).await;
    let (_, limited) = token(server, &ann, &bot, &["read", "write", "manage", "files"], &[&room]).await;
    let mut client = Client::all(server, &limited, Format::MessagePack).await;
    let listed = client.welcome["conversations"].as_array().unwrap();
    assert_eq!((listed.len(), &listed[0]["id"]), (1, &json!(room)));
    let elsewhere = server.ok(&ann, "send_message", json!({"conversation_id": other, "content": "secret"})).await;
    for (command, data) in [
        ("get_history", json!({"conversation_id": other})),
        ("subscribe", json!({"conversation_id": other})),
        ("send_message", json!({"conversation_id": other, "content": "x"})),
        ("edit_message", json!({"message_id": elsewhere["message_id"], "content": "x"})),
        ("add_reaction", json!({"message_id": elsewhere["message_id"], "emoji": "👍"})),
        ("get_thread", json!({"message_id": elsewhere["message_id"]})),
        ("search_messages", json!({"query": "secret"})),
        ("list_conversations", json!({})),
        ("resume", json!({"cursors": {(other.clone()): 1}})),
        ("create_conversation", json!({"kind": "group", "name": "x"})),
    ] {
        assert_eq!(client.refused(command, data.clone()).await, "forbidden", "{command}");
        if !["subscribe", "resume"].contains(&command) {
            let problem = server.call(&limited, command, data).await.unwrap_err();
            assert_eq!(code(&problem), "forbidden", "{command}: {problem}");
        }
    }
    // A mention elsewhere, and a conversation that the bot joins now, do not reach it either.
    let mention = json!({"conversation_id": other, "content": format!("@{}", limited.name)});
    server.ok(&ann, "send_message", mention).await;
    add(server, &ann, &bot, &server.room(&[&ann]).await).await;
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "the end"})).await;
    client.event_where("message_created", |event| event["content"] == "the end").await;
    let strays = client.take_events();
    assert!(strays.iter().all(|event| event["data"]["conversation_id"] == json!(room)), "{strays:?}");
    // Files of other conversations are refused, too.
    let upload = json!({"conversation_id": other, "name": "x.txt", "size": 1});
    assert_eq!(call(server, &limited, Method::POST, "/files", Some(upload)).await.0, 403);
    let upload = json!({"conversation_id": room, "name": "x.txt", "size": 1});
    assert_eq!(call(server, &limited, Method::POST, "/files", Some(upload)).await.0, 201);
}

#[tokio::test]
async fn a_revoked_token_ends_everywhere_and_is_listed_no_more() {
    let server = host();
    let (ann, room, bot, kept) = bot_in_a_room(server).await;
    let path = format!("/bots/{}/tokens", bot["user_id"]);
    let (id, revoked) = token(server, &ann, &bot, &["read", "write"], &[]).await;
    let ticket = server.ticket(&revoked).await;
    let mut by_ticket = Client::open(
        server,
        &User { token: String::new(), ..revoked.clone() },
        Format::Json,
        &format!("/ws?ticket={ticket}"),
    )
    .await;
    let mut by_token = Client::all(server, &revoked, Format::MessagePack).await;
    let mut other = Client::all(server, &kept, Format::Json).await;
    assert_eq!(
        by_ticket.refused("update_conversation", json!({"conversation_id": room, "name": "x"})).await,
        "forbidden"
    );
    let (_, listed) = call(server, &ann, Method::GET, &path, None).await;
    let tokens = listed["tokens"].as_array().unwrap();
    assert_eq!((tokens.len(), &tokens[1]["id"], &tokens[1]["scopes"]), (2, &id, &json!(["read", "write"])));
    assert!(tokens[1]["last_used_at"].is_string() && !listed.to_string().contains("veza_bot_"), "{listed}");
    assert_eq!(call(server, &ann, Method::DELETE, &format!("{path}/{id}"), None).await.0, 204);
    assert_eq!((closed(&by_ticket.end().await), closed(&by_token.end().await)), (4002, 4002));
    for _ in 0..2 {
        let problem = server.call(&revoked, "list_conversations", json!({})).await.unwrap_err();
        assert_eq!(code(&problem), "unauthenticated");
    }
    let bearer = format!("Bearer {}", revoked.token);
    assert_eq!(connect_error(upgrade(server, "/ws", &[("authorization", &bearer)], None).await), 401);
    other.ok("send_message", json!({"conversation_id": room, "content": "still here"})).await;
    assert_eq!(call(server, &ann, Method::DELETE, &format!("{path}/{id}"), None).await.0, 404);
    let (_, listed) = call(server, &ann, Method::GET, &path, None).await;
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 1);
    // Forged tokens: another tag, and a right one that was never stored.
    for forged in ["veza_bot_", "veza_bot_x", &revoked.token[..revoked.token.len() - 1]] {
        let forged = User { token: forged.to_owned(), ..revoked.clone() };
        assert_eq!(code(&server.call(&forged, "ping", json!({})).await.unwrap_err()), "unauthenticated");
    }
}

#[tokio::test]
async fn an_expired_token_ends_and_closes_its_connections() {
    let server = host();
    let (ann, _, bot, _) = bot_in_a_room(server).await;
    let body = json!({"name": "short", "scopes": ["read"], "expires_in_s": 4});
    let path = format!("/bots/{}/tokens", bot["user_id"]);
    let (_, made) = call(server, &ann, Method::POST, &path, Some(body)).await;
    let short = User {
        id: bot["user_id"].as_i64().unwrap(),
        name: String::new(),
        token: text(&made["token"]).to_owned(),
        refresh_token: String::new(),
    };
    let mut client = Client::all(server, &short, Format::Json).await;
    assert_eq!(closed(&client.end().await), 4001);
    let problem = server.call(&short, "ping", json!({})).await.unwrap_err();
    assert_eq!(code(&problem), "unauthenticated", "{problem}");
    let (_, listed) = call(server, &ann, Method::GET, &path, None).await;
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 1, "the other one");
}

#[tokio::test]
async fn a_deleted_bot_leaves_and_its_messages_stay() {
    let server = host();
    let (ann, room, bot, helper) = bot_in_a_room(server).await;
    let mut client = Client::all(server, &helper, Format::Json).await;
    client.ok("send_message", json!({"conversation_id": room, "content": "I was here"})).await;
    let path = format!("/bots/{}", bot["user_id"]);
    assert_eq!(call(server, &ann, Method::DELETE, &path, None).await.0, 204);
    assert_eq!(closed(&client.end().await), 4002);
    assert_eq!(code(&server.call(&helper, "ping", json!({})).await.unwrap_err()), "unauthenticated");
    let members = server.ok(&ann, "list_members", json!({"conversation_id": room})).await;
    assert_eq!(members["members"].as_array().unwrap().len(), 1, "{members}");
    let history = server.history(&ann, &room).await;
    let said = history.iter().find(|message| message["content"] == "I was here").unwrap();
    assert_eq!(said["sender"]["role"], "bot");
    assert_eq!(call(server, &ann, Method::GET, &path, None).await.0, 404);
    let sql = "SELECT action FROM audit_logs WHERE target_type = 'user' AND target_id = $1 \
               AND action LIKE '%bot%' ORDER BY position";
    let rows = server.database().await.query(sql, &[&bot["user_id"].as_i64()]).await.unwrap();
    let actions: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(actions, ["create_bot", "create_bot_token", "delete_bot"]);
}

#[tokio::test]
async fn a_bot_is_removed_from_one_conversation_by_its_owner() {
    let server = host();
    let (ann, room, bot, helper) = bot_in_a_room(server).await;
    let path = format!("/bots/{}/conversations/{room}", bot["user_id"]);
    assert_eq!(call(server, &ann, Method::DELETE, &path, None).await.0, 204);
    let problem = server.call(&helper, "get_history", json!({"conversation_id": room})).await.unwrap_err();
    assert!(["not_member", "not_found"].contains(&code(&problem).as_str()), "{problem}");
    // The owner needs the rights to add somebody where the bot is added.
    let eve = server.register().await;
    let foreign = server.room(&[&eve]).await;
    let body = json!({"conversation_id": foreign});
    let path = format!("/bots/{}/conversations", bot["user_id"]);
    let (status, problem) = call(server, &ann, Method::POST, &path, Some(body.clone())).await;
    assert!([403, 404].contains(&status), "{problem}");
    server.ok(&eve, "invite_member", json!({"conversation_id": foreign, "user_id": ann.id})).await;
    let role = json!({"conversation_id": foreign, "user_id": ann.id, "role": "read_only"});
    server.ok(&eve, "set_role", role).await;
    let (status, problem) = call(server, &ann, Method::POST, &path, Some(body)).await;
    assert_eq!(status, 403, "{problem}");
}

#[tokio::test]
async fn tokens_end_while_the_owner_is_deactivated() {
    let server = host();
    let (ann, _, _, helper) = bot_in_a_room(server).await;
    server.ok(&helper, "ping", json!({})).await;
    let set = "UPDATE users SET is_active = $2 WHERE id = $1";
    server.database().await.execute(set, &[&ann.id, &false]).await.unwrap();
    assert_eq!(code(&server.call(&helper, "ping", json!({})).await.unwrap_err()), "unauthenticated");
    let bearer = format!("Bearer {}", helper.token);
    assert_eq!(connect_error(upgrade(server, "/ws", &[("authorization", &bearer)], None).await), 401);
}

#[tokio::test]
async fn bots_have_rate_limits_of_their_own() {
    let server = host();
    let (ann, room, _, helper) = bot_in_a_room(server).await;
    let sent = async |user: &User| {
        for n in 0.. {
            let data = json!({"conversation_id": room, "content": n.to_string()});
            if let Err(problem) = server.call(user, "send_message", data).await {
                assert_eq!(code(&problem), "rate_limited", "{problem}");
                return (n, problem["details"]["limit"].clone());
            }
        }
        unreachable!()
    };
    let (n, limit) = sent(&ann).await;
    assert!((10..20).contains(&n) && limit == 10, "{n}, {limit}");
    let (n, limit) = sent(&helper).await;
    assert!((60..120).contains(&n) && limit == 60, "{n}, {limit}");
}
