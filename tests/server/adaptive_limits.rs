//! A user's limits depend on the user's standing, and administrators can read why.
//!
//! How: the server has the default limits. Each flood is sent in one write, so that its budget cannot refill in
//! between.

use super::audit::number_of;
use crate::support::{Client, Format, PATIENCE, Server, User, code};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn start() -> Server {
    Server::start(2, &[("limits.max_messages_per_minute", "60"), ("security.admin_user_ids", "1")])
}

/// What an administrator reads of a user's limits.
async fn limits_of(server: &Server, admin: &User, user: i64) -> Value {
    let path = format!("/admin/users/{user}/limits");
    let (status, shown) = server.request(Method::GET, &path, Some(&admin.token), None).await;
    assert_eq!(status, 200, "{shown}");
    shown
}

fn limit<'a>(shown: &'a Value, limiter: &str) -> &'a Value {
    shown["limits"].as_array().unwrap().iter().find(|limit| limit["limiter"] == limiter).unwrap()
}

/// Waits until a user's messages have this part, for these reasons.
async fn until(server: &Server, admin: &User, user: i64, percent: i64, reasons: &Value) -> Value {
    let started = Instant::now();
    loop {
        let shown = limits_of(server, admin, user).await;
        if shown["standing"]["percent"] == percent && shown["standing"]["reasons"] == *reasons {
            return shown;
        }
        assert!(started.elapsed() < PATIENCE, "{percent} {reasons}: {shown}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Sends so many messages at once. Returns how many were accepted, and the last refusal.
async fn send(client: &mut Client, room: &str, count: usize) -> (usize, Option<Value>) {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(client.feed("send_message", json!({"conversation_id": room, "content": n.to_string()})).await);
    }
    client.flush().await;
    let (mut accepted, mut refused) = (0, None);
    for id in ids {
        match client.reply(id).await {
            Ok(_) => accepted += 1,
            Err(refusal) => refused = Some(refusal),
        }
    }
    (accepted, refused)
}

#[tokio::test]
async fn explains_a_users_limits_to_administrators_only() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&bob]).await;
    let shown = limits_of(&server, &ann, bob.id).await;
    assert_eq!(shown["user"]["username"], bob.name.as_str());
    assert_eq!(shown["standing"], json!({"percent": 100, "reasons": []}));
    assert_eq!(shown["overload"], json!({"commits": 100, "pages": 100, "catch_up": 100}));
    let messages = json!({
        "limiter": "messages", "scope": "user", "counts": "messages", "configured": 60, "percent": 100, "reasons": [],
        "limit": 60, "window_ms": 60_000, "remaining": 60,
    });
    assert_eq!(limit(&shown, "messages"), &messages);
    for _ in 0..20 {
        server.ok(&bob, "send_message", json!({"conversation_id": room, "content": "x"})).await;
    }
    let requests = limit(&limits_of(&server, &ann, bob.id).await, "requests").clone();
    assert_eq!((&requests["configured"], &requests["percent"]), (&json!(600), &json!(100)));
    assert!(requests["remaining"].as_i64().is_some_and(|left| (1..=300).contains(&left)), "{requests}");
    let left = limit(&limits_of(&server, &ann, bob.id).await, "messages")["remaining"].as_i64().unwrap();
    assert!((40..60).contains(&left), "{left} of 60 after 20, less what came back meanwhile");
    let of_admin = limits_of(&server, &ann, ann.id).await;
    assert_eq!(of_admin["standing"], json!({"percent": 200, "reasons": ["administrator"]}));

    for (path, token, expected) in [
        (format!("/admin/users/{}/limits", bob.id), Some(bob.token.as_str()), 403),
        (format!("/admin/users/{}/limits", bob.id), None, 401),
        ("/admin/users/999999/limits".to_owned(), Some(ann.token.as_str()), 404),
        ("/admin/users/x/limits".to_owned(), Some(ann.token.as_str()), 400),
    ] {
        assert_eq!(server.request(Method::GET, &path, token, None).await.0, expected, "{path}");
    }
    let path = "/admin/audit?action=read_user_limits&limit=1";
    let row = server.request(Method::GET, path, Some(&ann.token), None).await.1["entries"][0].clone();
    assert_eq!((&row["user_id"], &row["target"]["id"]), (&json!(ann.id), &json!(ann.id)), "{row}");
}

#[tokio::test]
async fn an_older_account_has_twice_the_limits_and_a_new_one_the_configured_ones() {
    let server = start();
    let (_, old, new) = (server.register().await, server.register().await, server.register().await);
    let database = server.database().await;
    let aged = "UPDATE users SET created_at = now() - interval '8 days' WHERE id = $1";
    assert_eq!(database.execute(aged, &[&old.id]).await.unwrap(), 1);
    for (user, burst, slack) in [(&new, 60, 5), (&old, 119, 10)] {
        let room = server.room(&[user]).await;
        let mut client = Client::none(&server, user, Format::Json).await;
        let (accepted, refused) = send(&mut client, &room, 150).await;
        assert!((burst..burst + slack).contains(&accepted), "{accepted} of {burst}");
        let details = refused.unwrap()["details"].clone();
        let expected = if burst == 60 {
            json!({"limiter": "messages", "scope": "user", "limit": 60, "window_ms": 60_000})
        } else {
            json!({"limiter": "messages", "scope": "user", "limit": 120, "window_ms": 60_000, "percent": 200,
                   "reasons": ["trusted"]})
        };
        assert_eq!(details, expected);
    }
}

#[tokio::test]
async fn who_goes_on_after_a_thousand_refusals_has_less_and_others_do_not() {
    let server = start();
    let (ann, eve, bob) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&eve, &bob]).await;
    let mut client = Client::none(&server, &eve, Format::Json).await;
    for _ in 0..8 {
        assert!(send(&mut client, &room, 200).await.1.is_some());
        tokio::time::sleep(Duration::from_millis(500)).await; // faster, its connection would be closed
    }
    let refused = send(&mut client, &room, 200).await.1.unwrap();
    assert_eq!(code(&refused), "rate_limited");
    let shown = until(&server, &ann, eve.id, 50, &json!(["refusals"])).await;
    assert_eq!(limit(&shown, "reads")["limit"], 600, "all of its budgets");
    assert_eq!(limits_of(&server, &ann, bob.id).await["standing"]["percent"], 100);
    let mut others = Client::none(&server, &bob, Format::Json).await;
    assert_eq!(send(&mut others, &room, 60).await.0, 60);
    let (_, refused) = send(&mut client, &room, 1).await;
    if let Some(refused) = refused {
        assert_eq!(refused["details"]["limit"], 30, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains("many refusals"), "{refused}");
    }
}

#[tokio::test]
async fn whom_administrators_reject_again_and_again_has_less_within_a_second() {
    let server = start();
    let (ann, eve) = (server.register().await, server.register().await);
    let room = number_of(&server.room(&[&eve]).await);
    let database = server.database().await;
    // What a moderator of a room decides, and what was sent and flagged only, does not count.
    let elsewhere = "INSERT INTO held_messages (conversation_id, sender_id, client_message_id, content, message_type, \
                     rule, is_server_rule, state, decided_by, decided_at, sent) \
                     SELECT $1::bigint, $2::bigint, 'other ' || n, 'x', 'text', 'r', n % 3 <> 0, 'rejected', \
                            CASE n % 3 WHEN 1 THEN $2 ELSE $3::bigint END, now(), n % 3 = 2 \
                     FROM generate_series(1, 12) n";
    database.execute(elsewhere, &[&room, &eve.id, &ann.id]).await.unwrap();
    let refuse = "INSERT INTO held_messages (conversation_id, sender_id, client_message_id, content, message_type, \
                  rule, is_server_rule, state, decided_by, decided_at) \
                  VALUES ($1, $2, $3, 'x', 'text', 'offers', true, 'rejected', $4, now())";
    for n in 0..3 {
        assert_eq!(limits_of(&server, &ann, eve.id).await["standing"]["percent"], 100, "after {n}");
        database.execute(refuse, &[&room, &eve.id, &n.to_string(), &ann.id]).await.unwrap();
    }
    let shown = until(&server, &ann, eve.id, 50, &json!(["reported"])).await;
    assert_eq!(limit(&shown, "messages")["remaining"], 30);
    let mut client = Client::none(&server, &eve, Format::Json).await;
    let room = server.room(&[&eve]).await;
    let (accepted, refused) = send(&mut client, &room, 40).await;
    assert!((30..35).contains(&accepted), "{accepted}");
    let details = refused.unwrap()["details"].clone();
    assert_eq!((&details["percent"], &details["reasons"]), (&json!(50), &json!(["reported"])));
    database.execute("UPDATE held_messages SET decided_at = now() - interval '8 days'", &[]).await.unwrap();
    until(&server, &ann, eve.id, 100, &json!([])).await;
}

#[tokio::test]
async fn a_response_to_a_security_event_slows_its_user_down_until_it_ends() {
    let server = start();
    let (ann, eve) = (server.register().await, server.register().await);
    let database = server.database().await;
    let slow_down = "WITH found AS (
            INSERT INTO security_events (severity, event_type, user_id, dedupe_key)
            VALUES ('warning', 'mass_mentions', $1, 'test') RETURNING id)
        INSERT INTO account_responses (user_id, response, reason, event_id, ends_at)
        SELECT $1, 'slow_down', 'mass_mentions', id, now() + interval '1 hour' FROM found RETURNING event_id";
    let event: i64 = database.query_one(slow_down, &[&eve.id]).await.unwrap().get(0);
    let shown = until(&server, &ann, eve.id, 25, &json!(["slowed"])).await;
    assert_eq!(limit(&shown, "messages")["limit"], 15);
    let path = format!("/admin/security-events/{event}/responses");
    assert_eq!(server.request(Method::DELETE, &path, Some(&ann.token), None).await.0, 204);
    until(&server, &ann, eve.id, 100, &json!([])).await;
}
