//! Which texts the content filter checks, and what the author of a rejected one receives.
//!
//! How: a server of its own with a rule that refuses a word. Every text that `chat::filter::written` lists as checked
//! is sent with that word, over HTTP as its command or route, and must be refused.

use crate::filter::{assert_filtered, decide, items, message, put, queue, set_rules, wait_for_rule, words};
use crate::support::{Client, Format, Server, User, code, id_of, text, unique};
use chat_server::chat::filter::written::{Treatment, WRITTEN_TEXTS};
use reqwest::Method;
use serde_json::{Value, json};

/// Sends a text of the table with this word in it.
async fn write(
    server: &Server,
    user: &User,
    (room, closed): (&str, &str),
    (source, field): (&str, &str),
    word: &str,
) -> Result<Value, Value> {
    let http = async |method: Method, path: &str, token: Option<&str>, body: Value| {
        let (status, answer) = server.request(method, path, token, Some(&body)).await;
        if status < 300 { Ok(answer) } else { Err(answer) }
    };
    let data = match source {
        "send_message" => message(room, word),
        "edit_message" => {
            let sent = server.ok(user, "send_message", message(room, "fine")).await;
            json!({"message_id": sent["message_id"], "content": word})
        }
        "create_conversation" => {
            let mut room = json!({"kind": "public_room", "name": unique("fine")});
            room[field] = json!(format!("{word} {}", unique("x")));
            room
        }
        "update_conversation" => json!({"conversation_id": room, field: word}),
        "add_reaction" => {
            let sent = server.ok(user, "send_message", message(room, "fine")).await;
            json!({"message_id": sent["message_id"], "emoji": format!(":{word}:")})
        }
        "request_to_join" => json!({"conversation_id": closed, "text": word}),
        "set_presence" => json!({"status": "busy", "status_text": word}),
        "POST /auth/register" => {
            let name = unique("new");
            let mut account = json!({"username": name, "email": format!("{name}@example.org"),
                "password": "correct horse battery"});
            account[field] = json!(if field == "username" { format!("{word}-{name}") } else { word.to_owned() });
            return http(Method::POST, "/auth/register", None, account).await;
        }
        "PATCH /users/me" => {
            let url = format!("https://{word}.example/a.png");
            let body = json!({field: if field == "avatar_url" { url } else { word.to_owned() }});
            return http(Method::PATCH, "/users/me", Some(&user.token), body).await;
        }
        "POST /files" => {
            let upload = json!({"conversation_id": room, "name": format!("{word}.txt"), "size": 1});
            return http(Method::POST, "/files", Some(&user.token), upload).await;
        }
        "POST /incoming-webhooks" => {
            let body = json!({"conversation_id": room, "name": word});
            return http(Method::POST, "/incoming-webhooks", Some(&user.token), body).await;
        }
        "POST /bots" => {
            let name = unique("bot");
            let mut bot = json!({"username": name, "display_name": "Bot"});
            bot[field] = json!(match field {
                "username" => format!("{word}-{name}"),
                "avatar_url" => format!("https://{word}.example/a.png"),
                _ => word.to_owned(),
            });
            return http(Method::POST, "/bots", Some(&user.token), bot).await;
        }
        "PATCH /bots/{id}" | "PUT /bots/{id}/commands" | "answer_command" => {
            return write_as_bot(server, user, room, (source, field), word).await;
        }
        other => panic!("this test does not know how to write {field} of {other}"),
    };
    server.call(user, source, data).await
}

/// The same for the texts of a bot that exists.
async fn write_as_bot(
    server: &Server,
    user: &User,
    room: &str,
    (source, field): (&str, &str),
    word: &str,
) -> Result<Value, Value> {
    let http = async |method: Method, path: &str, body: Value| {
        let (status, answer) = server.request(method, path, Some(&user.token), Some(&body)).await;
        if status < 300 { Ok(answer) } else { Err(answer) }
    };
    let bot = json!({"username": unique("bot"), "display_name": "Bot"});
    let bot = http(Method::POST, "/bots", bot).await?;
    let path = format!("/bots/{}", bot["user_id"]);
    let commands = |description: &str| json!({"commands": [{"name": "x", "description": description}]});
    match source {
        "PATCH /bots/{id}" => {
            let url = format!("https://{word}.example/a.png");
            http(Method::PATCH, &path, json!({field: if field == "avatar_url" { url } else { word.to_owned() }})).await
        }
        "PUT /bots/{id}/commands" => http(Method::PUT, &format!("{path}/commands"), commands(word)).await,
        _ => {
            http(Method::PUT, &format!("{path}/commands"), commands("fine")).await?;
            http(Method::POST, &format!("{path}/conversations"), json!({"conversation_id": room})).await?;
            let token = json!({"name": "all", "scopes": ["read", "write"]});
            let token = http(Method::POST, &format!("{path}/tokens"), token).await?;
            let signed_in = User { token: text(&token["token"]).to_owned(), ..user.clone() };
            let mut answering = Client::all(server, &signed_in, Format::Json).await;
            let mut asking = Client::none(server, user, Format::Json).await;
            let command = format!("x@{}", text(&bot["username"]));
            asking.send("run_command", json!({"conversation_id": room, "command": command})).await;
            let id = answering.event("command_invoked").await["invocation_id"].clone();
            let answer = json!({"invocation_id": id, "visibility": "private", "content": word});
            answering.command("answer_command", answer).await
        }
    }
}

#[tokio::test]
async fn checks_every_text_that_the_table_lists_as_checked() {
    let server = &Server::start(2, &[("security.admin_user_ids", "1"), ("features.webhooks", "true")]);
    let (admin, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&bob]).await;
    let create = json!({"kind": "private_room", "name": unique("closed")});
    let closed = id_of(&server.ok(&bob, "create_conversation", create).await);
    // `slow` could mute the author only in a conversation; elsewhere it refuses.
    let rules = json!([words("words", "forbidden", "refuse"), words("slow", "hasty", "slow")]);
    assert_eq!(put(server, &admin, "/admin/filter-rules", &rules).await.0, 200);
    wait_for_rule(server, &bob, &room, "forbidden").await;
    for written in WRITTEN_TEXTS {
        let Treatment::Checked(..) = written.treatment else { continue };
        // A member cannot request to join.
        let user = if written.source == "request_to_join" { &eve } else { &bob };
        let place = (written.source, written.field);
        let refused = write(server, user, (&room, &closed), place, "forbidden").await;
        assert!(refused.is_err(), "{place:?} was not refused");
        assert_filtered(&refused, "words", false);
        let fine = write(server, user, (&room, &closed), place, "ordinary").await;
        assert!(fine.is_ok(), "{place:?}: {fine:?}");
    }
    for command in ["set_presence", "request_to_join"] {
        let place = (command, if command == "set_presence" { "status_text" } else { "text" });
        let refused = write(server, &eve, (&room, &closed), place, "hasty").await;
        assert_filtered(&refused, "slow", false);
        let refusal = refused.unwrap_err();
        assert!(!refusal.to_string().contains("muted"), "nobody is muted outside of a conversation: {refusal}");
    }
    let database = server.database().await;
    let counted = "SELECT count(*) FROM filter_hits WHERE user_id = $1 AND rule = 'slow' AND action = 'refuse'";
    let hits: i64 = database.query_one(counted, &[&eve.id]).await.unwrap().get(0);
    assert_eq!(hits, 2, "each refusal is recorded");
    // The name of an emoji is no text.
    let sent = server.ok(&bob, "send_message", message(&room, "fine")).await;
    server.ok(&bob, "add_reaction", json!({"message_id": sent["message_id"], "emoji": "👍"})).await;
}

#[tokio::test]
async fn rules_of_a_room_are_not_shown_to_outsiders_who_request_to_join() {
    let server = &Server::start(1, &[]);
    let (ann, eve) = (server.register().await, server.register().await);
    let create = json!({"kind": "private_room", "name": unique("closed")});
    let room = id_of(&server.ok(&ann, "create_conversation", create).await);
    set_rules(server, &ann, &room, json!([words("secret-rule", "forbidden", "refuse")])).await;
    server.ok(&eve, "request_to_join", json!({"conversation_id": room, "text": "forbidden"})).await;
}

#[tokio::test]
async fn informs_the_author_of_a_rejected_text_and_nobody_else() {
    let server = &Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let rules = json!([words("hold", "offer", "hold"), words("flag", "odd", "flag")]);
    set_rules(server, &ann, &room, rules).await;
    // On every connection of the author, whatever its subscriptions and its format.
    let mut bobs = Client::none(server, &bob, Format::MessagePack).await;
    let mut second = Client::all(server, &bob, Format::Json).await;
    let mut anns = Client::all(server, &ann, Format::Json).await;
    let offer = json!({"conversation_id": room, "content": "an offer", "client_message_id": "offer-1"});
    assert_filtered(&bobs.command("send_message", offer.clone()).await, "hold", true);
    let sent = server.ok(&bob, "send_message", message(&room, "an odd text")).await;
    let edit = json!({"message_id": sent["message_id"], "content": "an edited offer"});
    assert_filtered(&server.call(&bob, "edit_message", edit).await, "hold", true);
    let held = items(&queue(server, &ann, &room).await);
    assert_eq!(held.len(), 3);
    // A flagged text was sent: its author notices nothing.
    for item in [&held[1], &held[0], &held[2]] {
        assert_eq!(decide(server, &ann, item, "reject").await.0, 200);
    }
    for client in [&mut bobs, &mut second] {
        let rejected = client.event("message_rejected").await;
        assert_eq!((code(&rejected).as_str(), &rejected["details"]), ("filtered", &json!({"rule": "hold"})));
        assert_eq!((text(&rejected["content"]), text(&rejected["client_message_id"])), ("an offer", "offer-1"));
        assert_eq!((&rejected["conversation_id"], &rejected["message_id"]), (&json!(room), &Value::Null));
        let of_edit = client.event("message_rejected").await;
        assert_eq!((&of_edit["message_id"], &of_edit["client_message_id"]), (&sent["message_id"], &Value::Null));
    }
    assert_filtered(&bobs.command("send_message", offer).await, "hold", false);
    // A second rejection changes nothing and informs nobody; an approved text is no rejected one.
    assert_eq!(decide(server, &ann, &held[0], "reject").await.0, 200);
    server.ok(&ann, "send_message", message(&room, "the end")).await;
    let is_end = |event: &Value| event["content"] == "the end";
    assert!(is_end(&anns.event_where("message_created", is_end).await));
    second.event_where("message_created", is_end).await;
    for client in [&mut anns, &mut second, &mut bobs] {
        assert!(!client.drain().await.iter().any(|event| event["type"] == "message_rejected"));
    }
}
