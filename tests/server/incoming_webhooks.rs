//! Incoming webhooks: programs post as bots, idempotently, within the rules of the conversation, until the token ends.
//!
//! How: the bodies are those that programs for Slack send. A post is judged by what members of the conversation see.

use crate::support::protocol::{Exchange, assert_answer};
use crate::support::{Client, Format, Server, User, code, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// The server of this module.
fn hooked() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(1, &[("features.webhooks", "true"), ("limits.max_messages_per_minute", "60")]))
}

async fn create(server: &Server, user: &User, room: &str) -> Value {
    let body = json!({"conversation_id": room, "name": "Build 🤖"});
    let (status, created) = server.request(Method::POST, "/incoming-webhooks", Some(&user.token), Some(&body)).await;
    assert_eq!(status, 201, "{created}");
    created
}

/// Posts with header fields. Returns the status and the answer.
async fn post(server: &Server, url: &Value, fields: &[(&str, &str)], body: &str) -> (u16, Value) {
    let mut request = reqwest::Client::new().post(format!("{}{}", server.base_url, text(url))).body(body.to_owned());
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let kind = answer.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
    let bytes = answer.bytes().await.unwrap();
    assert_answer(&Exchange {
        method: "POST",
        target: text(url),
        sent: None,
        status,
        content_type: kind.as_deref(),
        body: Some(&bytes),
    });
    (status, serde_json::from_slice(&bytes).unwrap())
}

#[tokio::test]
async fn programs_post_as_a_bot_once_for_each_key() {
    let server = hooked();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let webhook = create(server, &ann, &room).await;
    let mut client = Client::all(server, &bob, Format::MessagePack).await;
    let body = r#"{"text": "Build <https://ci.example.org/7|7> failed &amp; stopped", "username": "ci",
        "icon_emoji": ":x:", "attachments": [{"title": "main", "text": "2 tests"}]}"#;
    let (status, posted) = post(server, &webhook["url"], &[("idempotency-key", "build-7")], body).await;
    assert_eq!(status, 200, "{posted}");
    let event = client.event("message_created").await;
    assert_eq!(event["content"], "Build 7 (https://ci.example.org/7) failed & stopped\nmain\n2 tests");
    assert_eq!((&event["sender"]["display_name"], &event["sender"]["id"]), (&json!("Build 🤖"), &webhook["bot"]["id"]));
    assert_eq!((&event["message_id"], &event["seq"]), (&posted["message_id"], &posted["seq"]));
    let again = post(server, &webhook["url"], &[("idempotency-key", "build-7")], body).await;
    assert_eq!(again, (200, posted.clone()), "a repeat returns the first message");

    // A reply in its thread, in the form that Slack's older programs send.
    let form = format!("payload=%7B%22text%22%3A%22again%22%2C%22thread%22%3A{}%7D", posted["message_id"]);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let (status, reply) = post(server, &webhook["url"], &[kind], &form).await;
    assert_eq!(status, 200, "{reply}");
    let event = client.event("message_created").await;
    assert_eq!((&event["content"], &event["parent_message_id"]), (&json!("again"), &posted["message_id"]));
    assert_eq!(server.history(&bob, &room).await.last().unwrap()["message_id"], reply["message_id"]);
}

#[tokio::test]
async fn the_rules_of_the_conversation_hold_for_bots() {
    let server = hooked();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let webhook = create(server, &ann, &room).await;
    let url = &webhook["url"];
    for (body, status, expected) in [
        ("{}", 400, "bad_request"),
        ("[1]", 400, "bad_request"),
        ("no json", 400, "bad_request"),
        (r#"{"text": "x", "thread": 999999999}"#, 404, "not_found"),
        (r#"{"text": "x", "thread": "soon"}"#, 400, "bad_request"),
    ] {
        let (found, problem) = post(server, url, &[], body).await;
        assert_eq!((found, code(&problem).as_str()), (status, expected), "{body}: {problem}");
    }
    let long = json!({"content": "x".repeat(4_001)}).to_string();
    let (status, problem) = post(server, url, &[], &long).await;
    assert_eq!((status, code(&problem).as_str()), (413, "too_large"), "{problem}");
    let (status, problem) = post(server, url, &[("idempotency-key", &"k".repeat(65))], r#"{"text": "x"}"#).await;
    assert_eq!(status, 400, "{problem}");
    let mute = json!({"conversation_id": room, "user_id": webhook["bot"]["id"], "duration_s": 600});
    server.ok(&ann, "mute_member", mute).await;
    let (status, problem) = post(server, url, &[], r#"{"text": "x"}"#).await;
    assert_eq!((status, code(&problem).as_str()), (403, "muted"), "{problem}");
    // A bot has the limits of a user.
    let other = create(server, &ann, &room).await;
    let mut refused = None;
    for n in 0..200 {
        let (status, problem) = post(server, &other["url"], &[], &json!({"text": n.to_string()}).to_string()).await;
        if status != 200 {
            refused = Some((status, code(&problem)));
            break;
        }
    }
    assert_eq!(refused, Some((429, "rate_limited".into())));
}

#[tokio::test]
async fn administrators_manage_incoming_webhooks_and_a_deleted_one_ends() {
    let server = hooked();
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let request = async |user: &User, method: Method, path: &str, body: Option<Value>| {
        server.request(method, path, Some(&user.token), body.as_ref()).await
    };
    let body = json!({"conversation_id": room, "name": "Build"});
    assert_eq!(request(&bob, Method::POST, "/incoming-webhooks", Some(body.clone())).await.0, 403);
    assert!([403, 404].contains(&request(&eve, Method::POST, "/incoming-webhooks", Some(body)).await.0));
    let nameless = json!({"conversation_id": room, "name": " "});
    let (status, problem) = request(&ann, Method::POST, "/incoming-webhooks", Some(nameless)).await;
    assert!(status == 400 && text(&problem["detail"]).starts_with("name: "), "{problem}");
    let webhook = create(server, &ann, &room).await;
    let path = format!("/incoming-webhooks/{}", webhook["id"]);
    assert_eq!(request(&bob, Method::DELETE, &path, None).await.0, 404);
    let (_, listed) = request(&bob, Method::GET, &format!("/incoming-webhooks?conversation_id={room}"), None).await;
    assert_eq!(listed["webhooks"], json!([]));
    server.ok(&ann, "set_role", json!({"conversation_id": room, "user_id": bob.id, "role": "admin"})).await;
    let (_, listed) = request(&bob, Method::GET, &format!("/incoming-webhooks?conversation_id={room}"), None).await;
    assert_eq!(listed["webhooks"][0]["name"], "Build 🤖");
    assert!(!listed.to_string().contains("/hooks/in/"), "its address is shown once");

    let (status, rotated) = request(&bob, Method::POST, &format!("{path}/rotate"), None).await;
    assert_eq!(status, 200, "{rotated}");
    assert_eq!(post(server, &webhook["url"], &[], r#"{"text": "x"}"#).await.0, 404, "the old address has ended");
    assert_eq!(post(server, &rotated["url"], &[], r#"{"text": "x"}"#).await.0, 200);
    assert_eq!(request(&bob, Method::DELETE, &path, None).await.0, 204);
    assert_eq!(post(server, &rotated["url"], &[], r#"{"text": "x"}"#).await.0, 404);
    assert_eq!(post(server, &json!("/hooks/in/x"), &[], r#"{"text": "x"}"#).await.0, 404);
    let members = server.ok(&ann, "list_members", json!({"conversation_id": room})).await;
    assert_eq!(members["members"].as_array().unwrap().len(), 2, "the bot has left: {members}");
    let sql =
        "SELECT action FROM audit_logs WHERE target_type = 'incoming_webhook' AND target_id = $1 ORDER BY position";
    let rows = server.database().await.query(sql, &[&webhook["id"].as_i64()]).await.unwrap();
    let actions: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(actions, ["create_incoming_webhook", "rotate_incoming_webhook", "delete_incoming_webhook"]);
}
