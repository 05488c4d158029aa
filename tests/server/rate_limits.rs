//! Rate limits: whatever a client sends is charged to a budget of its user. Beyond it the client is refused, and then
//! closed. Other users are not affected.
//!
//! How: the server has the default limits. Each test sends a flood in one write, so that its budget cannot refill in
//! between.

use crate::support::{Client, Format, Raw, Server, User, code, unique};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::OnceLock;

/// A server that these tests share: each floods with users of its own.
fn start_with_default_limits() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| Server::start(2, &[("limits.max_messages_per_minute", "60")]))
}

/// Sends the commands at once. Returns the refusals.
async fn flood(client: &mut Client, commands: Vec<(&str, Value)>) -> Vec<Value> {
    let mut ids = Vec::new();
    for (kind, data) in commands {
        ids.push(client.feed(kind, data).await);
    }
    client.flush().await;
    let mut refusals = Vec::new();
    for id in ids {
        refusals.extend(client.reply(id).await.err());
    }
    refusals
}

/// Fails unless there are refusals, and all of them name this limit.
#[track_caller]
fn assert_limited(refusals: &[Value], limiter: &str, limit: i64) {
    assert!(!refusals.is_empty(), "nothing was refused");
    for refusal in refusals {
        assert_eq!(code(refusal), "rate_limited", "{refusal}");
        assert!(refusal["retry_after_ms"].as_i64().is_some_and(|ms| ms > 0), "{refusal}");
        let details = json!({"limiter": limiter, "scope": "user", "limit": limit, "window_ms": 60_000});
        assert_eq!(refusal["details"], details, "{refusal}");
    }
}

#[tokio::test]
async fn refuses_read_markers_beyond_a_budget_of_their_own() {
    let server = start_with_default_limits();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let question = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "a thread"})).await;
    let reply = json!({"conversation_id": room, "content": "reply", "parent_message_id": question["message_id"]});
    server.ok(&ann, "send_message", reply).await;
    let mark = || ("mark_read", json!({"conversation_id": room, "seq": 1}));
    let mark_thread = || ("mark_thread_read", json!({"message_id": question["message_id"], "seq": 1}));
    let mut client = Client::none(server, &ann, Format::Json).await;
    assert_eq!(
        flood(&mut client, (0..60).map(|_| mark()).collect()).await,
        Vec::<Value>::new(),
        "a burst of 60 is allowed"
    );
    let refusals = flood(&mut client, (0..120).flat_map(|_| [mark(), mark_thread()]).collect()).await;
    assert!(refusals.len() > 100, "{} of 240 are refused", refusals.len());
    assert_limited(&refusals, "marks", 300);
    let message = json!({"conversation_id": room, "content": "other budgets are full"});
    client.ok("send_message", message).await;
    server.ok(&bob, "mark_read", mark().1).await;
}

#[tokio::test]
async fn names_the_budget_in_every_refusal() {
    let server = start_with_default_limits();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut client = Client::none(server, &ann, Format::MessagePack).await;
    let message = |n: i32| ("send_message", json!({"conversation_id": room, "content": n.to_string()}));
    let refusals = flood(&mut client, (0..90).map(message).collect()).await;
    assert_limited(&refusals, "messages", 60);
    let presence = || ("set_presence", json!({"status": "away"}));
    let mut refusals = flood(&mut client, (0..250).map(|_| presence()).collect()).await;
    refusals.extend(flood(&mut client, (0..250).map(|_| presence()).collect()).await);
    assert_limited(&refusals, "changes", 300);
}

/// 3,000 frames of each kind that no other budget pays for.
fn cheap_floods(room: &str) -> Vec<(&'static str, Vec<u8>)> {
    let text = |frame: Value| Raw::client_frame(true, 1, frame.to_string().as_bytes());
    vec![
        ("ping", text(json!({"type": "ping", "id": 1}))),
        ("unsubscribe", text(json!({"type": "unsubscribe", "id": 1, "data": {"conversation_id": room}}))),
        ("typing", text(json!({"type": "typing", "data": {"conversation_id": room}}))),
        ("bad JSON", Raw::client_frame(true, 1, b"{")),
        ("an unknown command", text(json!({"type": "shout", "id": 1}))),
        ("a missing field", text(json!({"type": "get_history", "id": 1}))),
        ("a WebSocket ping", Raw::client_frame(true, 9, b"x")),
        ("a WebSocket pong", Raw::client_frame(true, 10, b"x")),
        (
            "messages beyond their budget",
            text(json!({"type": "send_message", "id": 1, "data": {"conversation_id": room, "content": "x"}})),
        ),
    ]
}

#[tokio::test]
async fn refuses_floods_of_cheap_frames_and_then_closes_their_connection() {
    let server = start_with_default_limits();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut bystander = Client::all(server, &ann, Format::Json).await;
    for (what, frame) in cheap_floods(&room) {
        let eve = server.register().await;
        let mut raw = Raw::upgraded(server, &eve, "veza.v1.json").await;
        raw.write(&frame.repeat(3_000)).await.unwrap();
        let (mut limited, mut closed) = (0, None);
        while let Some((opcode, payload)) = raw.frame().await {
            match opcode {
                1 => {
                    let frame: Value = serde_json::from_slice(&payload).unwrap();
                    limited += usize::from(frame["data"]["code"] == "rate_limited");
                }
                8 => closed = Some(u16::from_be_bytes([payload[0], payload[1]])),
                _ => {}
            }
        }
        assert_eq!(closed, Some(4005), "{what}");
        assert_kept_out(server, &eve).await;
        let has_replies = !what.starts_with("a WebSocket");
        assert_eq!(limited > 0, has_replies, "{what}: {limited} refusals before the end");
        bystander.ok("send_message", json!({"conversation_id": room, "content": what})).await;
    }
}

/// Fails unless another connection of this user is refused until the time that a close frame with 4005 gives.
async fn assert_kept_out(server: &Server, user: &User) {
    let mut again = Raw::connect(server).await;
    again.write(Raw::upgrade_head(user, "veza.v1.json").as_bytes()).await.unwrap();
    let head = again.head().await;
    assert!(head.starts_with("HTTP/1.1 429 ") && head.contains("Retry-After: 5\r\n"), "{head}");
}

#[tokio::test]
async fn charges_long_frames_by_their_size() {
    let server = start_with_default_limits();
    let text = |frame: Value| Raw::client_frame(true, 1, frame.to_string().as_bytes());
    let cursors: serde_json::Map<_, _> =
        (0..1_000).map(|n| (format!("room_{}", 1_000_001 + 4 * n), json!(0))).collect();
    // What may be answered of them: 400 signals or 300 reads, and 1,200 of excess, where long frames cost three times
    // their size.
    for (what, frame, answers_max) in [
        ("pings of 60 KiB", text(json!({"type": "ping", "id": 1, "data": {"x": "x".repeat(60 * 1_024)}})), 14),
        ("resumes of 19 KiB", text(json!({"type": "resume", "id": 1, "data": {"cursors": cursors}})), 60),
        ("60 KiB that are no JSON", Raw::client_frame(true, 1, "[".repeat(60 * 1_024).as_bytes()), 14),
    ] {
        let eve = server.register().await;
        let mut raw = Raw::upgraded(server, &eve, "veza.v1.json").await;
        // The server may close before it has read everything.
        let sent = raw.write(&frame.repeat(200)).await;
        let (mut answers, mut closed) = (0, None);
        while let Some((opcode, payload)) = raw.frame().await {
            match opcode {
                1 => answers += 1,
                8 => closed = Some(u16::from_be_bytes([payload[0], payload[1]])),
                _ => {}
            }
        }
        assert_eq!(closed, Some(4005), "{what}: {sent:?}");
        assert!(answers <= answers_max, "{what}: {answers} answers");
        assert_kept_out(server, &eve).await;
    }
}

#[tokio::test]
async fn reads_nothing_more_of_a_flood_that_it_has_closed() {
    const FLOOD_BYTES: usize = 200 << 20;
    let server = start_with_default_limits();
    let eve = server.register().await;
    let mut raw = Raw::upgraded(server, &eve, "veza.v1.json").await;
    let ping = json!({"type": "ping", "id": 1, "data": {"x": "x".repeat(60 * 1_024)}});
    let frames = Raw::client_frame(true, 1, ping.to_string().as_bytes()).repeat(16);
    let mut written = 0;
    while written < FLOOD_BYTES && raw.write(&frames).await.is_ok() {
        written += frames.len();
    }
    // What the kernel buffers, and what the budgets allow.
    assert!(written < FLOOD_BYTES / 4, "the server has taken {written} bytes");
    let mut closed = None;
    while let Some((opcode, payload)) = raw.frame().await {
        closed = closed.or((opcode == 8).then(|| u16::from_be_bytes([payload[0], payload[1]])));
    }
    assert_eq!(closed, Some(4005), "the reason is there although the server did not read on");
    let bob = server.register().await;
    Client::none(server, &bob, Format::Json).await.ok("ping", json!({})).await;
}

#[tokio::test]
async fn allows_bursts_of_cheap_frames_and_shares_their_budget_between_connections() {
    let server = start_with_default_limits();
    let ann = server.register().await;
    let mut one = Client::none(server, &ann, Format::Json).await;
    let mut two = Client::none(server, &ann, Format::MessagePack).await;
    let pings = |count: usize| (0..count).map(|_| ("ping", json!({}))).collect::<Vec<_>>();
    assert_eq!(flood(&mut one, pings(200)).await, Vec::<Value>::new());
    assert_eq!(flood(&mut two, pings(190)).await, Vec::<Value>::new());
    let mut refusals = flood(&mut one, pings(500)).await;
    refusals.extend(flood(&mut two, pings(500)).await);
    assert_limited(&refusals, "signals", 6_000);
}

#[tokio::test]
async fn bounds_the_replays_that_repeated_resumes_ask_for() {
    let server = start_with_default_limits();
    let ann = server.register().await;
    let mut cursors = serde_json::Map::new();
    for _ in 0..100 {
        cursors.insert(server.room(&[&ann]).await, json!(0));
    }
    let mut client = Client::none(server, &ann, Format::MessagePack).await;
    let resume = || ("resume", json!({"cursors": cursors}));
    let refusals = flood(&mut client, (0..40).map(|_| resume()).collect()).await;
    assert!((1..=25).contains(&refusals.len()), "1,500 of 4,000 replays are allowed: {} refused", refusals.len());
    assert_limited(&refusals, "replays", 6_000);
    let room = cursors.keys().next().unwrap();
    client.ok("get_history", json!({"conversation_id": room})).await;
    // A client that has missed nothing asks for no replay.
    let current: serde_json::Map<_, _> = cursors.keys().map(|room| (room.clone(), json!(1))).collect();
    client.ok("resume", json!({"cursors": current})).await;
}

#[tokio::test]
async fn charges_resumes_of_conversations_that_cannot_exist() {
    let server = start_with_default_limits();
    let ann = server.register().await;
    let mut client = Client::none(server, &ann, Format::Json).await;
    // No conversation has such a number: its two low bits are those of another kind.
    let cursors: serde_json::Map<_, _> =
        (0..1_000).map(|n| (format!("room_{}", 1_000_001 + 4 * n), json!(0))).collect();
    let resume = || ("resume", json!({"cursors": cursors}));
    // More of these long frames would use the excess up too.
    let refusals = flood(&mut client, (0..30).map(|_| resume()).collect()).await;
    assert!(refusals.len() >= 12, "300 reads at once pay for 15: {} of 30 refused", refusals.len());
    assert_limited(&refusals, "reads", 1_200);
}

#[tokio::test]
async fn closes_clients_whose_message_stays_unfinished() {
    let server = Server::start(1, &[("server.message_timeout", "400ms")]);
    let ann = server.register().await;
    let mut whole = Raw::upgraded(&server, &ann, "veza.v1.json").await;
    let frame = Raw::client_frame;
    let unfinished = [
        ("half a header", vec![0x81]),
        ("a header without its payload", vec![0x81, 0xfe, 0xff, 0xff, 0, 0, 0, 0]),
        ("a payload that stops", frame(true, 1, &[b' '; 1_000])[..500].to_vec()),
        ("a message without its last fragment", frame(false, 1, b"{")),
        ("the same, with a complete ping", [frame(false, 1, b"{"), frame(true, 9, b"x")].concat()),
        ("a ping without its payload", frame(true, 9, b"xyz")[..6].to_vec()),
    ];
    for (what, bytes) in unfinished {
        let mut raw = Raw::upgraded(&server, &ann, "veza.v1.json").await;
        raw.write(&frame(true, 1, br#"{"type":"ping","id":1}"#)).await.unwrap();
        raw.write(&bytes).await.unwrap();
        assert_eq!(raw.close_code().await, Some(1008), "{what}");
    }
    // Fragments that never end do not extend the time.
    let mut raw = Raw::upgraded(&server, &ann, "veza.v1.json").await;
    raw.write(&frame(false, 1, b"{")).await.unwrap();
    for _ in 0..40 {
        let _ = raw.write(&frame(false, 0, b" ")).await; // it fails when the server has closed
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(raw.close_code().await, Some(1008), "endless fragments");
    // A connection between two messages may be idle for as long as it likes.
    whole.write(&frame(true, 1, br#"{"type":"ping","id":1}"#)).await.unwrap();
    let (_, ack) = whole.frame().await.expect("an ack");
    assert!(ack.starts_with(br#"{"type":"ack","id":1"#), "{}", String::from_utf8_lossy(&ack));
}

#[tokio::test]
async fn refuses_profile_edits_beyond_ten_a_minute() {
    let server = start_with_default_limits();
    let (ann, bob) = (server.register().await, server.register().await);
    let edit = async |user: &User| {
        let body = json!({"display_name": unique("Ann")});
        server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&body)).await
    };
    let answers = join_all((0..30).map(|_| edit(&ann))).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 200);
    assert!((10..30).contains(&accepted.len()), "{} of 30 are accepted", accepted.len());
    for (status, problem) in &refused {
        assert_eq!((*status, code(problem).as_str()), (429, "rate_limited"), "{problem}");
        assert!(problem["retry_after_ms"].as_i64().is_some_and(|ms| (1..=7_000).contains(&ms)), "{problem}");
    }
    assert_eq!(edit(&bob).await.0, 200, "other users are not affected");
}

#[tokio::test]
async fn refuses_profile_edits_without_looking_their_session_up() {
    let server = &Server::start(2, &[("limits.max_messages_per_minute", "60")]);
    let ann = server.register().await;
    let edit = async || {
        let body = json!({"display_name": unique("Ann")});
        server.request(Method::PATCH, "/users/me", Some(&ann.token), Some(&body)).await
    };
    join_all((0..30).map(|_| edit())).await;
    let locked = server.database().await;
    locked.batch_execute(NO_LOOK_UPS).await.unwrap();
    let (status, problem) = edit().await;
    assert_eq!((status, &problem["details"]["limiter"]), (429, &json!("profile_edits")), "{problem}");
}

/// While a transaction has done this, no session can be looked up.
const NO_LOOK_UPS: &str = "BEGIN; LOCK sessions IN ACCESS EXCLUSIVE MODE";

/// Sends this request at once until one is refused by the budget of requests. Returns the refusal.
async fn request_flood(server: &Server, user: &User, (method, path, body): (Method, &str, Option<&Value>)) -> Value {
    for _ in 0..20 {
        let mut answers: FuturesUnordered<_> = (0..100)
            .map(|_| {
                let client = reqwest::Client::new().request(method.clone(), format!("{}{path}", server.base_url));
                let request = client.bearer_auth(&user.token);
                body.map_or(request.try_clone().unwrap(), |body| request.json(body)).send()
            })
            .collect();
        while let Some(answer) = answers.next().await {
            let answer = answer.unwrap();
            if answer.status() == 429 {
                assert!(answer.headers()["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
                let problem: Value = answer.json().await.unwrap();
                if problem["details"]["limiter"] == "requests" {
                    return problem;
                }
            }
        }
    }
    panic!("2,000 requests to {path} passed");
}

#[tokio::test]
async fn refuses_requests_beyond_a_budget_before_their_session_is_looked_up() {
    let server = Server::start(
        2,
        &[
            ("limits.max_messages_per_minute", "60"),
            ("security.admin_user_ids", "1"),
            ("server.environment", "production"),
        ],
    );
    let (admin, bob) = (server.register().await, server.register().await);
    let typing = json!({"type": "get_presence", "data": {"user_ids": []}});
    let edit = json!({"display_name": "Eve"});
    for (method, path, body, percent) in [
        (Method::POST, "/ws-ticket", None, 100),
        (Method::POST, "/api/commands", Some(&typing), 100),
        (Method::GET, "/users/me", None, 100),
        (Method::PATCH, "/users/me", Some(&edit), 100),
        (Method::GET, "/auth/2fa", None, 100),
        (Method::GET, "/moderation/queue", None, 100),
        (Method::GET, "/admin/audit", None, 100),
        (Method::GET, "/metrics", None, 100),
        (Method::GET, "/metrics", None, 200),
    ] {
        let eve = if percent == 100 { server.register().await } else { admin.clone() };
        let problem = request_flood(&server, &eve, (method.clone(), path, body)).await;
        let details = json!({"limiter": "requests", "scope": "user", "limit": 6 * percent, "window_ms": 60_000});
        for name in ["limiter", "scope", "limit", "window_ms"] {
            assert_eq!(problem["details"][name], details[name], "{path}: {problem}");
        }
        assert_eq!(problem["code"], "rate_limited");
        assert!(problem["retry_after_ms"].as_i64().is_some_and(|ms| ms > 0), "{problem}");
        let locked = server.database().await;
        locked.batch_execute(NO_LOOK_UPS).await.unwrap();
        request_flood(&server, &eve, (method, path, body)).await;
        locked.batch_execute("ROLLBACK").await.unwrap();
    }
    let (status, _) = server.request(Method::GET, "/users/me", Some(&bob.token), None).await;
    assert_eq!(status, 200, "others are not affected");
}

#[tokio::test]
async fn an_ended_session_does_not_use_the_budget_of_its_user_up() {
    let server = start_with_default_limits();
    let ann = server.register().await;
    let stolen = server.login(&ann).await;
    assert_eq!(server.post("/auth/logout", Some(&stolen.token), &json!({})).await.0, 204);
    let read = async |user: &User| server.request(Method::GET, "/users/me", Some(&user.token), None).await.0;
    assert_eq!(read(&stolen).await, 401);
    for _ in 0..5 {
        assert_eq!(join_all((0..100).map(|_| read(&stolen))).await, [401; 100]);
    }
    assert_eq!(read(&ann).await, 200);
}

#[tokio::test]
async fn bounds_how_often_sessions_are_continued_from_one_network() {
    let server = Server::start(1, &[("security.sign_ins_per_minute", "6")]);
    let ann = server.register().await;
    let refresh = json!({"refresh_token": "nobody's"});
    let mut statuses = Vec::new();
    for _ in 0..80 {
        let (status, answer) = server.request(Method::POST, "/auth/refresh", None, Some(&refresh)).await;
        if status == 429 {
            let details = json!({"limiter": "refreshes", "scope": "address", "limit": 60, "window_ms": 60_000});
            assert_eq!((&answer["code"], &answer["details"]), (&json!("rate_limited"), &details), "{answer}");
        }
        statuses.push(status);
    }
    let allowed = statuses.iter().filter(|status| **status == 401).count();
    assert!((60..70).contains(&allowed), "{allowed} of 80");
    assert_eq!(server.request(Method::GET, "/users/me", Some(&ann.token), None).await.0, 200);
}

#[tokio::test]
async fn bounds_how_often_rules_of_the_filter_are_replaced() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let rules = json!({"rules": []});
    let put = async |user: &User| {
        let path = format!("/conversations/{}/filter-rules", server.room(&[user]).await);
        server.request(Method::PUT, &path, Some(&user.token), Some(&rules)).await
    };
    for _ in 0..10 {
        assert_eq!(put(&ann).await.0, 200);
    }
    let (status, refused) = put(&ann).await;
    assert_eq!((status, &refused["details"]["limiter"]), (429, &json!("filter_rules")), "{refused}");
    assert_eq!(put(&bob).await.0, 200, "others are not affected");
}
