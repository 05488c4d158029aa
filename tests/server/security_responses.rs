//! Automatic responses to security events: what they stop, how they end, and whom they never hit.
//!
//! How: a user who mentions a whole room ten times is found (`security_conduct.rs` tests the detector). Each test
//! configures what follows.

use super::security_events::found;
use crate::support::{Client, Format, PASSWORD, PATIENCE, Server, User, closed, id_of};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Instant;

async fn three(server: &Server) -> [User; 3] {
    [server.register().await, server.register().await, server.register().await]
}

/// Mentions everybody of a room of the user's own ten times. Returns the room.
async fn abuse(server: &Server, user: &User, others: [&User; 2]) -> String {
    let room = server.room(&[user, others[0], others[1]]).await;
    for n in 0..10 {
        let data = json!({"conversation_id": room, "content": format!("@room news number {n}")});
        server.ok(user, "send_message", data).await;
    }
    room
}

async fn end(server: &Server, caller: &User, event: &Value) -> (u16, Value) {
    let path = format!("/admin/security-events/{event}/responses");
    server.request(Method::DELETE, &path, Some(&caller.token), None).await
}

fn muted(outcome: Result<Value, Value>) {
    let problem = outcome.unwrap_err();
    assert_eq!(problem["code"], "muted", "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("on this server"), "{problem}");
    let wait = problem["retry_after_ms"].as_u64().unwrap();
    assert!((1..=600_000).contains(&wait), "{problem}");
}

#[tokio::test]
async fn mutes_an_abuser_everywhere_until_an_administrator_ends_it() {
    let settings = [("security.admin_user_ids", "1"), ("responses.mass_mentions", "mute")];
    let server = Server::start(2, &settings);
    let [ann, bob, eve] = three(&server).await;
    let elsewhere = server.room(&[&bob, &eve]).await;
    let say = |room: &str| json!({"conversation_id": room, "content": "hello"});
    let sent = server.ok(&eve, "send_message", say(&elsewhere)).await;
    let message = sent["message_id"].clone();
    let room = abuse(&server, &eve, [&ann, &bob]).await;
    let event = found(&server, &ann, "mass_mentions").await.remove(0);
    assert_eq!((&event["user_id"], &event["responses"][0]["response"]), (&json!(eve.id), &json!("mute")));
    assert_eq!(event["responses"][0]["ended_by"], Value::Null);

    for room in [&room, &elsewhere] {
        muted(server.call(&eve, "send_message", say(room)).await);
    }
    muted(server.call(&eve, "edit_message", json!({"message_id": message, "content": "@room"})).await);
    muted(server.call(&eve, "add_reaction", json!({"message_id": message, "emoji": "👍"})).await);
    let group = json!({"kind": "group", "name": "A group", "member_ids": [bob.id]});
    muted(server.call(&eve, "create_conversation", group.clone()).await);
    server.ok(&eve, "delete_message", json!({"message_id": message})).await;
    server.ok(&eve, "get_history", json!({"conversation_id": room})).await;
    server.ok(&bob, "send_message", say(&room)).await;

    let id = &event["id"];
    assert_eq!(end(&server, &bob, id).await.0, 403);
    assert_eq!(end(&server, &ann, &json!(999_999)).await.1["code"], "not_found");
    assert_eq!(end(&server, &ann, id).await.0, 204);
    assert_eq!(end(&server, &ann, id).await.0, 404, "it has ended");
    server.ok(&eve, "send_message", say(&elsewhere)).await;
    server.ok(&eve, "create_conversation", group).await;
    let event = found(&server, &ann, "mass_mentions").await.remove(0);
    assert_eq!(event["responses"][0]["ended_by"], json!(ann.id));

    // The attack goes on: what an administrator has ended stays ended for this event.
    let database = server.database().await;
    let again = "SELECT record_security_events(jsonb_build_array(jsonb_build_object('severity', 'warning',
                    'event_type', event_type, 'user_id', user_id, 'details', '{}'::jsonb, 'dedupe_key', dedupe_key,
                    'response', 'mute', 'response_s', 600)), 0) FROM security_events WHERE user_id = $1";
    database.query(again, &[&eve.id]).await.unwrap();
    let event = found(&server, &ann, "mass_mentions").await.remove(0);
    assert_eq!((&event["occurrences"], event["responses"].as_array().unwrap().len()), (&json!(2), 1));
    server.ok(&eve, "send_message", say(&elsewhere)).await;

    for (action, actor) in [("respond_to_event", Value::Null), ("end_response", json!(ann.id))] {
        let path = format!("/admin/audit?action={action}");
        let (_, rows) = server.request(Method::GET, &path, Some(&ann.token), None).await;
        let rows = rows["entries"].as_array().unwrap();
        assert_eq!((rows.len(), &rows[0]["user_id"]), (1, &actor), "{rows:?}");
        assert_eq!((&rows[0]["target"]["id"], &rows[0]["details"]["response"]), (&json!(eve.id), &json!("mute")));
    }
}

#[tokio::test]
async fn a_mute_ends_by_itself_and_hits_no_administrator() {
    let settings = [("security.admin_user_ids", "1"), ("responses.mass_mentions", "mute")];
    let server = Server::start(1, &settings);
    let [ann, bob, eve] = three(&server).await;
    let room = abuse(&server, &eve, [&ann, &bob]).await;
    found(&server, &ann, "mass_mentions").await;
    let say = json!({"conversation_id": room, "content": "hello"});
    muted(server.call(&eve, "send_message", say.clone()).await);
    let later = "UPDATE users SET muted_until = now() - interval '1 second' WHERE muted_until IS NOT NULL";
    assert_eq!(server.database().await.execute(later, &[]).await.unwrap(), 1);
    server.ok(&eve, "send_message", say).await;

    let room = abuse(&server, &ann, [&bob, &eve]).await;
    let started = Instant::now();
    let event = loop {
        let events = found(&server, &ann, "mass_mentions").await;
        if let Some(event) = events.into_iter().find(|event| event["user_id"] == ann.id) {
            break event;
        }
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!(event["responses"], json!([]), "an administrator");
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "hello"})).await;
}

#[tokio::test]
async fn a_challenge_revokes_the_sessions_once() {
    let settings = [("security.admin_user_ids", "1"), ("responses.mass_mentions", "challenge")];
    let server = Server::start(2, &settings);
    let [ann, bob, eve] = three(&server).await;
    let mut socket = Client::none(&server, &eve, Format::Json).await;
    abuse(&server, &eve, [&ann, &bob]).await;
    assert_eq!(closed(&socket.end().await), 4002);
    let (status, _) = server.request(Method::GET, "/users/me", Some(&eve.token), None).await;
    assert_eq!(status, 401, "the session is revoked");
    let event = found(&server, &ann, "mass_mentions").await.remove(0);
    assert_eq!(event["responses"][0]["response"], "challenge");
    // She signs in again, and is left alone for this event.
    let eve = server.login(&eve).await;
    let again = "SELECT count(*) FROM record_security_events((SELECT jsonb_agg(jsonb_build_object(
                    'severity', 'warning', 'event_type', event_type, 'user_id', user_id, 'details', '{}'::jsonb,
                    'dedupe_key', dedupe_key, 'response', 'challenge', 'response_s', 0)) FROM security_events), 0)";
    let revoked: i64 = server.database().await.query_one(again, &[]).await.unwrap().get(0);
    assert_eq!(revoked, 1, "the notice of the first session may have been lost");
    let (status, me) = server.request(Method::GET, "/users/me", Some(&eve.token), None).await;
    assert_eq!(status, 200, "{me}");
}

#[tokio::test]
async fn a_stolen_refresh_token_signs_its_owner_out_once() {
    let settings = [("security.admin_user_ids", "1"), ("responses.refresh_token_reuse", "challenge")];
    let server = Server::start(1, &settings);
    let [ann, bob, _] = three(&server).await;
    let login = json!({"login": bob.name, "password": PASSWORD});
    let (_, phone) = server.post("/auth/login", None, &login).await;
    let stolen = json!({"refresh_token": phone["refresh_token"]});
    let (_, second) = server.post("/auth/refresh", None, &stolen).await;
    server.post("/auth/refresh", None, &json!({"refresh_token": second["refresh_token"]})).await;
    let reuse = async || {
        let (status, answer) = server.request(Method::POST, "/auth/refresh", None, Some(&stolen)).await;
        assert_eq!((status, &answer["code"]), (401, &json!("refresh_reused")), "{answer}");
    };
    let is_signed_in =
        async |user: &User| server.request(Method::GET, "/users/me", Some(&user.token), None).await.0 == 200;
    assert!(is_signed_in(&bob).await);
    reuse().await;
    let event = found(&server, &ann, "refresh_token_reuse").await.remove(0);
    assert_eq!(event["responses"][0]["response"], "challenge", "{event}");
    assert!(!is_signed_in(&bob).await, "the thief may have come by more than one session");

    // The thief tries again two hours later. That is another event, and no reason to sign Bob out again.
    let bob = server.login(&bob).await;
    let later = "UPDATE security_events SET created_at = created_at - interval '2 hours'";
    assert_eq!(server.database().await.execute(later, &[]).await.unwrap(), 1);
    reuse().await;
    let started = Instant::now();
    loop {
        let events = found(&server, &ann, "refresh_token_reuse").await;
        if events.len() == 2 {
            break assert_eq!(events[0]["responses"], json!([]), "{events:?}");
        }
        assert!(started.elapsed() < PATIENCE, "{events:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(is_signed_in(&bob).await);
}

#[tokio::test]
async fn slows_an_abuser_down_by_default_and_no_victim_ever() {
    let server = Server::start(2, &[("security.admin_user_ids", "1")]);
    let [ann, bob, eve] = three(&server).await;
    abuse(&server, &eve, [&ann, &bob]).await;
    let event = found(&server, &ann, "mass_mentions").await.remove(0);
    assert_eq!(event["responses"][0]["response"], "slow_down");
    let row = "SELECT user_id, reason, event_id, ends_at - begins_at = interval '10 minutes'
                 FROM account_responses WHERE response = 'slow_down' AND ends_at > now()";
    let row = server.database().await.query_one(row, &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (eve.id, "mass_mentions"));
    assert_eq!((json!(row.get::<_, i64>(2)), row.get::<_, bool>(3)), (event["id"].clone(), true));

    // Strangers guess Bob's password. Nothing happens to Bob.
    let guess = json!({"login": bob.name, "password": "certainly not this one"});
    let started = Instant::now();
    let event = loop {
        let (status, _) = server.request(Method::POST, "/auth/login", None, Some(&guess)).await;
        assert!([401, 429].contains(&status), "{status}");
        let (_, page) = server
            .request(Method::GET, "/admin/security-events?event_type=password_guessing", Some(&ann.token), None)
            .await;
        if let Some(event) = page["events"].as_array().and_then(|events| events.first()) {
            break event.clone();
        }
        assert!(started.elapsed() < 4 * PATIENCE, "{}", server.log_tail());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert_eq!((&event["user_id"], &event["responses"]), (&json!(bob.id), &json!([])));
    let group = json!({"kind": "group", "name": "Still here", "member_ids": [ann.id]});
    let group = id_of(&server.ok(&bob, "create_conversation", group).await);
    server.ok(&bob, "send_message", json!({"conversation_id": group, "content": "hello"})).await;
}
