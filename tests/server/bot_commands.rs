//! Slash commands: they reach one connection of their bot or its URL, and are answered once, in time, by that bot only.
//!
//! How: users and bots are clients of one server with several shards. A receiver in this process is the URL of a
//! command. A command that nobody answers costs its test the 3 seconds that a bot has.

use crate::support::receiver::Receiver;
use crate::support::{Client, Format, Server, User, code, text, unique};
use chat_server::hooks::signature;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// The server of this module, which allows receivers on this machine.
fn host() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        Server::start(3, &[("features.webhooks", "true"), ("webhooks.allowed_networks", "127.0.0.0/8")])
    })
}

async fn call(server: &Server, user: &User, method: Method, path: &str, body: Option<Value>) -> Value {
    let (status, answer) = server.request(method, path, Some(&user.token), body.as_ref()).await;
    assert!((200..300).contains(&status), "{path}: {answer}");
    answer
}

/// A bot with these commands, which is a member of a room, and signs in with every scope.
async fn bot_with(server: &Server, owner: &User, room: &str, commands: Value) -> (User, Value) {
    let body = json!({"username": unique("bot"), "display_name": "Helper"});
    let bot = call(server, owner, Method::POST, "/bots", Some(body)).await;
    let path = |rest: &str| format!("/bots/{}/{rest}", bot["user_id"]);
    let body = json!({"conversation_id": room});
    call(server, owner, Method::POST, &path("conversations"), Some(body)).await;
    let registered = call(server, owner, Method::PUT, &path("commands"), Some(json!({"commands": commands}))).await;
    let body = json!({"name": "all", "scopes": ["read", "write", "manage", "files"]});
    let token = call(server, owner, Method::POST, &path("tokens"), Some(body)).await;
    let (id, name) = (bot["user_id"].as_i64().unwrap(), text(&bot["username"]).to_owned());
    let user = User { id, name, token: text(&token["token"]).to_owned(), refresh_token: String::new() };
    (user, registered)
}

fn weather() -> Value {
    json!([{"name": "weather", "description": "Show the weather.", "usage": "CITY"}])
}

fn run(room: &str, command: &str, text: &str) -> Value {
    json!({"conversation_id": room, "command": command, "text": text})
}

#[tokio::test]
async fn a_command_is_answered_in_private_or_in_public() {
    let server = host();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let (bot, _) = bot_with(server, &ann, &room, weather()).await;
    let listed = call(server, &bob, Method::GET, &format!("/conversations/{room}/commands"), None).await;
    let command = &listed["commands"][0];
    assert_eq!((&command["name"], &command["usage"]), (&json!("weather"), &json!("CITY")));
    assert_eq!((&command["bot"]["id"], &command["bot"]["role"]), (&json!(bot.id), &json!("bot")));
    for format in [Format::Json, Format::MessagePack] {
        let mut anns = Client::all(server, &ann, format).await;
        let mut caller = Client::all(server, &bob, format).await;
        let mut second = Client::all(server, &bob, format.other()).await;
        let mut older = Client::all(server, &bot, format).await;
        let mut bots = Client::all(server, &bot, format).await;
        let thread = anns.ok("send_message", json!({"conversation_id": room, "content": "a thread"})).await;
        let thread = thread["message_id"].clone();

        let asked = caller.send("run_command", run(&room, "weather", "Lyon")).await;
        let invoked = bots.event("command_invoked").await;
        assert_eq!((&invoked["command"], &invoked["text"]), (&json!("weather"), &json!("Lyon")));
        assert_eq!((&invoked["conversation_id"], &invoked["user"]["id"]), (&json!(room), &json!(bob.id)));
        let id = invoked["invocation_id"].clone();
        let answer = json!({"invocation_id": id, "visibility": "private", "content": "It rains."});
        bots.ok("answer_command", answer.clone()).await;
        let ack = caller.reply(asked).await.unwrap();
        assert_eq!(ack, json!({"invocation_id": id, "visibility": "private", "content": "It rains."}));
        let event = second.event("command_answered").await;
        assert_eq!((&event["invocation_id"], &event["content"]), (&id, &json!("It rains.")));
        assert_eq!(bots.refused("answer_command", answer).await, "not_found", "it was answered");

        let in_thread = json!({"conversation_id": room, "command": "weather", "text": "Nice",
            "parent_message_id": thread});
        let asked = caller.send("run_command", in_thread).await;
        let invoked = bots.event("command_invoked").await;
        assert_eq!(invoked["parent_message_id"], thread);
        let id = invoked["invocation_id"].clone();
        let answer = json!({"invocation_id": id, "visibility": "public", "content": "The sun shines."});
        let answered = bots.ok("answer_command", answer.clone()).await;
        let ack = caller.reply(asked).await.unwrap();
        assert_eq!((&ack["message_id"], &ack["seq"]), (&answered["message_id"], &answered["seq"]));
        let posted = anns.event_where("message_created", |event| event["content"] == "The sun shines.").await;
        assert_eq!((&posted["message_id"], &posted["parent_message_id"]), (&ack["message_id"], &thread));
        assert_eq!((&posted["sender"]["id"], &posted["sender"]["role"]), (&json!(bot.id), &json!("bot")));
        assert_eq!(bots.refused("answer_command", answer).await, "not_found");

        older.ok("ping", json!({})).await;
        let strays = older.take_events();
        assert!(strays.iter().all(|event| event["type"] != "command_invoked"), "one connection receives a command");
        anns.ok("ping", json!({})).await;
        assert!(anns.take_events().iter().all(|event| event["type"] != "command_answered"), "it is private");
        for client in [anns, caller, second, older, bots] {
            client.close().await;
        }
    }
}

#[tokio::test]
async fn commands_work_over_http_on_both_sides() {
    let server = host();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (bot, _) = bot_with(server, &ann, &room, weather()).await;
    let mut bots = Client::all(server, &bot, Format::Json).await;
    let asking = server.call(&ann, "run_command", run(&room, "weather", "Lyon"));
    let answering = async {
        let invoked = bots.event("command_invoked").await;
        let answer = json!({"invocation_id": invoked["invocation_id"], "visibility": "public", "content": "Rain."});
        server.ok(&bot, "answer_command", answer).await
    };
    let (asked, answered) = tokio::join!(asking, answering);
    assert_eq!(asked.unwrap()["message_id"], answered["message_id"]);
}

#[tokio::test]
async fn nobody_else_answers_and_late_answers_are_refused() {
    let server = host();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (bot, _) = bot_with(server, &ann, &room, weather()).await;
    let (stranger, _) = bot_with(server, &ann, &room, json!([{"name": "other", "description": "Another."}])).await;
    let mut bots = Client::all(server, &bot, Format::Json).await;
    let mut strangers = Client::all(server, &stranger, Format::Json).await;
    let mut anns = Client::all(server, &ann, Format::Json).await;
    let asked = anns.send("run_command", run(&room, "weather", "Lyon")).await;
    let invoked = bots.event("command_invoked").await;
    let id = text(&invoked["invocation_id"]).to_owned();
    let answer = |id: &str| json!({"invocation_id": id, "visibility": "public", "content": "I am the bot."});
    assert_eq!(strangers.refused("answer_command", answer(&id)).await, "not_found");
    assert_eq!(anns.refused("answer_command", answer(&id)).await, "not_found", "a person answers for no bot");
    let forged = format!("{}0000", &id[..id.len() - 4]);
    for forged in [forged.as_str(), "inv_room_6_0000000000000000", "x"] {
        assert_eq!(bots.refused("answer_command", answer(forged)).await, "not_found", "{forged}");
    }
    let refusal = anns.reply(asked).await.unwrap_err();
    assert_eq!(code(&refusal), "deadline_exceeded", "{refusal}");
    assert!(text(&refusal["message"]).contains("3 seconds"));
    assert_eq!(bots.refused("answer_command", answer(&id)).await, "not_found", "it is too late");
    let history = server.history(&ann, &room).await;
    assert!(history.iter().all(|message| message["content"] != "I am the bot."), "{history:?}");
}

#[tokio::test]
async fn a_refused_answer_can_be_given_again() {
    let server = host();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (bot, _) = bot_with(server, &ann, &room, weather()).await;
    let mut bots = Client::all(server, &bot, Format::Json).await;
    let mut anns = Client::all(server, &ann, Format::Json).await;
    server.ok(&ann, "mute_member", json!({"conversation_id": room, "user_id": bot.id, "duration_s": 600})).await;
    let asked = anns.send("run_command", run(&room, "weather", "Lyon")).await;
    let id = bots.event("command_invoked").await["invocation_id"].clone();
    let answer = |visibility: &str| json!({"invocation_id": id, "visibility": visibility, "content": "Rain."});
    assert_eq!(bots.refused("answer_command", answer("public")).await, "muted");
    bots.ok("answer_command", answer("private")).await;
    assert_eq!(anns.reply(asked).await.unwrap()["content"], "Rain.");
}

#[tokio::test]
async fn a_command_of_two_bots_goes_to_the_first_unless_it_is_addressed() {
    let server = host();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (first, _) = bot_with(server, &ann, &room, weather()).await;
    let (second, _) = bot_with(server, &ann, &room, weather()).await;
    let mut firsts = Client::all(server, &first, Format::Json).await;
    let mut seconds = Client::all(server, &second, Format::Json).await;
    let mut anns = Client::all(server, &ann, Format::Json).await;
    for (command, bots) in [("weather".to_owned(), &mut firsts), (format!("weather@{}", second.name), &mut seconds)] {
        let asked = anns.send("run_command", run(&room, &command, "")).await;
        let id = bots.event("command_invoked").await["invocation_id"].clone();
        bots.ok("answer_command", json!({"invocation_id": id, "visibility": "private", "content": "Yes."})).await;
        assert_eq!(anns.reply(asked).await.unwrap()["content"], "Yes.", "{command}");
    }
}

#[tokio::test]
async fn only_members_who_may_send_run_commands_of_bots_that_are_there() {
    let server = host();
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let (bot, _) = bot_with(server, &ann, &room, weather()).await;
    let refused = async |user: &User, data: Value| {
        let problem = server.call(user, "run_command", data).await.unwrap_err();
        (code(&problem), text(&problem["detail"]).to_owned())
    };
    let (refusal, detail) = refused(&ann, run(&room, "weather", "Lyon")).await;
    assert_eq!((refusal.as_str(), detail.contains("offline")), ("not_found", true), "{detail}");
    let (refusal, detail) = refused(&ann, run(&room, "nothing", "")).await;
    assert_eq!((refusal.as_str(), detail.contains("/nothing")), ("not_found", true), "{detail}");
    assert_eq!(refused(&eve, run(&room, "weather", "")).await.0, "not_found");
    assert_eq!(refused(&bot, run(&room, "weather", "")).await.0, "forbidden", "bots run no commands");
    let missing = json!({"conversation_id": room, "command": "weather", "parent_message_id": 999_999_999});
    assert_eq!(refused(&ann, missing).await.0, "not_found");
    server.ok(&ann, "mute_member", json!({"conversation_id": room, "user_id": bob.id, "duration_s": 600})).await;
    assert_eq!(refused(&bob, run(&room, "weather", "")).await.0, "muted");
    let path = format!("/conversations/{room}/commands");
    assert_eq!(server.request(Method::GET, &path, Some(&eve.token), None).await.0, 404);
    // A token without the scope `write` receives no commands.
    let body = json!({"name": "reader", "scopes": ["read"]});
    let reader = call(server, &ann, Method::POST, &format!("/bots/{}/tokens", bot.id), Some(body)).await;
    let reader = User { token: text(&reader["token"]).to_owned(), ..bot.clone() };
    let _reads = Client::all(server, &reader, Format::Json).await;
    assert_eq!(refused(&ann, run(&room, "weather", "")).await.0, "not_found");
    let path = format!("/bots/{}", bot.id);
    call(server, &ann, Method::DELETE, &path, None).await;
    let (_, detail) = refused(&ann, run(&room, "weather", "")).await;
    assert!(detail.contains("/weather"), "{detail}");
}

#[tokio::test]
async fn a_command_is_posted_to_its_url_and_signed() {
    let server = host();
    let receiver = Receiver::start().await;
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let commands = json!([
        {"name": "quiet", "description": "x", "url": receiver.at("/answer/private")},
        {"name": "loud", "description": "x", "url": receiver.at("/answer/public")},
        {"name": "broken", "description": "x", "url": receiver.at("/hang")},
    ]);
    let (bot, registered) = bot_with(server, &ann, &room, commands.clone()).await;
    let path = format!("/bots/{}/commands", bot.id);
    let again = call(server, &ann, Method::PUT, &path, Some(json!({"commands": commands}))).await;
    assert!(again.get("secret").is_none(), "the secret is shown once");
    let mut anns = Client::all(server, &ann, Format::Json).await;
    let ack = anns.ok("run_command", run(&room, "quiet", "a word")).await;
    assert_eq!((&ack["visibility"], &ack["content"]), (&json!("private"), &json!("Posted.")));
    let delivered = receiver.received("/answer/private").remove(0);
    assert_eq!(
        (delivered.json()["type"].as_str(), &delivered.json()["data"]["text"]),
        (Some("command_invoked"), &json!("a word"))
    );
    assert_eq!(json!(delivered.id), ack["invocation_id"]);
    let signed = |secret: &Value| {
        use base64::Engine as _;
        let key = text(secret).strip_prefix("whsec_").unwrap();
        let key = base64::engine::general_purpose::STANDARD.decode(key).unwrap();
        signature::sign([key.as_slice()], &delivered.id, delivered.timestamp, &delivered.body) == delivered.signature
    };
    assert!(signed(&registered["secret"]));
    let rotated = call(server, &ann, Method::POST, &format!("{path}/rotate-secret"), None).await;
    assert!(!signed(&rotated["secret"]));

    let ack = anns.ok("run_command", run(&room, "loud", "")).await;
    let posted = anns.event_where("message_created", |event| event["content"] == "Posted.").await;
    assert_eq!((&posted["message_id"], &posted["sender"]["id"]), (&ack["message_id"], &json!(bot.id)));
    assert_eq!(anns.refused("run_command", run(&room, "broken", "")).await, "deadline_exceeded");
    // While the bot is connected, its commands come to the connection.
    let mut bots = Client::all(server, &bot, Format::Json).await;
    let asked = anns.send("run_command", run(&room, "quiet", "")).await;
    let id = bots.event("command_invoked").await["invocation_id"].clone();
    bots.ok("answer_command", json!({"invocation_id": id, "visibility": "private", "content": "Here."})).await;
    assert_eq!(anns.reply(asked).await.unwrap()["content"], "Here.");
}

#[tokio::test]
async fn commands_are_checked_when_they_are_registered() {
    let server = host();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (bot, _) = bot_with(server, &ann, &room, weather()).await;
    let path = format!("/bots/{}/commands", bot.id);
    let command = |name: &str, url: Value| json!([{"name": name, "description": "x", "url": url}]);
    for bad in [
        command("Upper", Value::Null),
        command("", Value::Null),
        command("a b", Value::Null),
        command("x", json!("ftp://example.org/")),
        command("x", json!("http://169.254.169.254/latest")),
        json!([{"name": "x", "description": " "}]),
        json!([{"name": "x", "description": "x"}, {"name": "x", "description": "y"}]),
    ] {
        let body = json!({"commands": bad});
        let (status, problem) = server.request(Method::PUT, &path, Some(&ann.token), Some(&body)).await;
        assert_eq!(status, 400, "{bad}: {problem}");
    }
    let kept = call(server, &ann, Method::GET, &path, None).await;
    assert_eq!(kept["commands"][0]["name"], "weather");
    let eve = server.register().await;
    let body = json!({"commands": []});
    assert_eq!(server.request(Method::PUT, &path, Some(&eve.token), Some(&body)).await.0, 404);
    let emptied = call(server, &ann, Method::PUT, &path, Some(body)).await;
    assert_eq!(emptied, json!({"commands": []}));
}
