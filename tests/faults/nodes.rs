//! Several nodes on one database: whatever node a client is connected to, it receives everything once and in order,
//! with Redis, without it, and while nodes and Redis are killed.
//!
//! How: one server has the private PostgreSQL; the nodes use that. `CHAT_TEST_NODE_ROUNDS` sets the number of faults,
//! `CHAT_TEST_SEED` repeats a run.

use super::starting::database_url;
use crate::support::redis::Redis;
use crate::support::{Client, Format, Log, PATIENCE, Random, Received, Server, User, closed, code, from_env, text};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A server with the private PostgreSQL, and nodes that use it.
struct Cluster {
    // Dropped first: without PostgreSQL they do not stop in order.
    nodes: Vec<Server>,
    host: Server,
}

impl Cluster {
    fn start(nodes: usize, redis: Option<&Redis>) -> Self {
        let host = Server::start(1, &[("database.shared", "true")]);
        let (database, redis) = (database_url(&host), redis.map(Redis::url));
        let mut settings = vec![("database.url", database.as_str()), ("database.shared", "true")];
        settings.extend(redis.as_deref().map(|url| ("cluster.redis_url", url)));
        Self { nodes: (0..nodes).map(|_| Server::start(2, &settings)).collect(), host }
    }

    fn pair(&self) -> (&Server, &Server) {
        (&self.nodes[0], &self.nodes[1])
    }
}

async fn metric(server: &Server, name: &str) -> f64 {
    let page = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap().text().await.unwrap();
    let values = page.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.split(' ').next_back());
    values.map(|value| value.parse::<f64>().unwrap()).sum()
}

async fn wait_for_metric(server: &Server, name: &str, wanted: impl Fn(f64) -> bool) {
    let started = Instant::now();
    while !wanted(metric(server, name).await) {
        assert!(started.elapsed() < PATIENCE, "{name} is {}", metric(server, name).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What holds on any two nodes, with Redis and without it.
async fn check_two_nodes(one: &Server, other: &Server) {
    let [ann, bob, eve] = one.register_many(3).await.try_into().ok().unwrap();
    let room = one.room(&[&ann, &bob]).await;
    let mut at_other = Client::all(other, &bob, Format::Json).await;
    let mut at_one = Client::all(one, &ann, Format::MessagePack).await;
    let mut second_device = Client::all(other, &ann, Format::MessagePack).await;

    // A message, and the key for the sender's other device.
    let message = json!({"conversation_id": room, "content": "hello", "client_message_id": "key-1"});
    let sent = at_one.ok("send_message", message).await;
    let seen = at_other.event("message_created").await;
    assert_eq!((&seen["seq"], &seen["content"]), (&sent["seq"], &json!("hello")));
    assert_eq!(seen["client_message_id"], Value::Null, "only the sender's devices have the key");
    let seen = second_device.event("message_created").await;
    // An event that is read from the log has no key either: a message is known by its seq there.
    assert!([json!("key-1"), Value::Null].contains(&seen["client_message_id"]), "{seen}");

    // Both ways, and a change that is no message.
    let answered = at_other.ok("send_message", json!({"conversation_id": room, "content": "back"})).await;
    at_one.event_where("message_created", |data| data["seq"] == answered["seq"]).await;
    let emoji = json!({"message_id": sent["message_id"], "emoji": "👍"});
    at_one.ok("add_reaction", emoji).await;
    let changed = at_other.event("reaction_added").await;
    assert_eq!(changed["message_id"], sent["message_id"]);

    // Somebody is added here and is connected there.
    let mut eve_at_other = Client::all(other, &eve, Format::Json).await;
    let public = json!({"kind": "public_room", "name": "open to all"});
    let lobby = crate::support::id_of(&one.ok(&ann, "create_conversation", public).await);
    one.ok(&eve, "join_conversation", json!({"conversation_id": lobby})).await;
    one.ok(&ann, "send_message", json!({"conversation_id": lobby, "content": "welcome"})).await;
    let seen = eve_at_other.event_where("message_created", |data| data["content"] == "welcome").await;
    assert_eq!(seen["conversation_id"], lobby);

    // Who is removed here receives nothing there any longer.
    one.ok(&ann, "remove_member", json!({"conversation_id": lobby, "user_id": eve.id})).await;
    loop {
        let event = eve_at_other.next_event().await;
        if event["type"] == "member_left" || event["type"] == "error" {
            break;
        }
    }
    one.ok(&ann, "send_message", json!({"conversation_id": lobby, "content": "secret"})).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let late = eve_at_other.drain().await;
    assert!(late.iter().all(|event| event["data"]["content"] != "secret"), "{late:?}");

    // A session that is ended here is closed there.
    let (status, _) = one.post("/auth/logout-all", Some(&bob.token), &json!({})).await;
    assert!((200..300).contains(&status), "{status}");
    let began = Instant::now();
    let end = at_other.end().await;
    assert_eq!(closed(&end), 4002, "{end:?}");
    println!("a revoked session was closed on the other node after {:?}", began.elapsed());
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn reads_what_other_nodes_do_from_postgresql() {
    let cluster = Cluster::start(1, None);
    check_two_nodes(&cluster.host, &cluster.nodes[0]).await;
}

#[tokio::test]
async fn exchanges_events_through_redis() {
    let redis = Redis::start();
    let cluster = Cluster::start(2, Some(&redis));
    let (one, other) = cluster.pair();
    for node in [one, other] {
        wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
    }
    check_two_nodes(one, other).await;
    assert!(metric(other, "chat_server_node_frames_total{outcome=\"received\"}").await > 0.0);

    // What is in no log comes through Redis only.
    let [ann, bob] = one.register_many(2).await.try_into().ok().unwrap();
    let room = one.room(&[&ann, &bob]).await;
    let mut at_one = Client::all(one, &ann, Format::Json).await;
    let mut at_other = Client::all(other, &bob, Format::MessagePack).await;
    let mut second_device = Client::all(other, &ann, Format::Json).await;
    at_one.ok("send_message", json!({"conversation_id": room, "content": "first", "client_message_id": "k"})).await;
    at_other.event("message_created").await;
    assert_eq!(second_device.event("message_created").await["client_message_id"], "k");
    // Presence: a user is online on whichever node they are connected, and shows the same everywhere.
    let asked = at_other.ok("get_presence", json!({"user_ids": [ann.id]})).await;
    assert_eq!(asked["presence"][0]["status"], "online", "{asked}");
    at_one.ok("set_presence", json!({"status": "busy", "status_text": "in a meeting"})).await;
    let shown = at_other.event_where("presence", |data| data["status"] == "busy").await;
    assert_eq!(shown["status_text"], "in a meeting");

    at_one.send("typing", json!({"conversation_id": room})).await;
    assert_eq!(at_other.event("typing").await["user_id"], ann.id);
    let mention = format!("look, @{}", bob.name);
    at_one.ok("send_message", json!({"conversation_id": room, "content": mention})).await;
    at_other.event("mention").await;

    // How long an event takes; the longest of many, beside the sender's own node.
    let mut took = Vec::new();
    for n in 0..200 {
        let content = n.to_string();
        let sent_at = Instant::now();
        at_one.send("send_message", json!({"conversation_id": room, "content": content})).await;
        at_other.event_where("message_created", |data| data["content"] == content.as_str()).await;
        took.push(sent_at.elapsed());
    }
    took.sort();
    println!("send to delivery on the other node: median {:?}, P99 {:?}", took[100], took[198]);

    // A user is offline when the last connection to any node has ended.
    second_device.close().await;
    at_one.ok("set_presence", json!({"status": "away"})).await;
    at_other.event_where("presence", |data| data["status"] == "away").await;
    at_one.close().await;
    at_other.event_where("presence", |data| data["status"] == "offline").await;
}

#[tokio::test]
async fn says_in_health_that_redis_is_away_and_stays_ready() {
    let mut redis = Redis::start();
    let cluster = Cluster::start(1, Some(&redis));
    let node = &cluster.nodes[0];
    wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
    redis.kill();
    wait_for_metric(node, "chat_server_redis_up", |up| up < 0.5).await;
    let (status, health) = node.request(Method::GET, "/health/ready", None, None).await;
    assert_eq!((status, &health["checks"]["nodes"]["status"]), (200, &json!("failing")), "{health}");
    let reason = text(&health["checks"]["nodes"]["reason"]);
    assert!(reason.contains("Redis cannot be used") && reason.contains("come late"), "{reason}");
    redis.start_again();
    wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
    // A subscriber that no longer receives anything, with a socket that looks healthy.
    redis.signal(Signal::SIGSTOP);
    wait_for_metric(node, "chat_server_redis_up", |up| up < 0.5).await;
    redis.signal(Signal::SIGCONT);
    wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
}

/// Sends under its own keys, and goes to the next node whenever a connection ends.
async fn send_anywhere(
    nodes: &[Server],
    user: &User,
    (number, rooms): (usize, &[String]),
    count: &AtomicU64,
    finished: &AtomicBool,
) -> BTreeMap<String, (String, i64)> {
    let (mut acked, mut next, mut at) = (BTreeMap::new(), 0, number);
    while !finished.load(Relaxed) {
        at += 1;
        let node = &nodes[at % nodes.len()];
        let Ok(mut client) = Client::try_open(node, user, Format::ALL[at % 2], "/ws?subscribe=none").await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !finished.load(Relaxed) {
            let (key, room) = (format!("{number}-{next}"), &rooms[next % rooms.len()]);
            let message = json!({"conversation_id": room, "content": key, "client_message_id": key});
            let id = client.send("send_message", message).await;
            match client.try_reply(id).await {
                Ok(Ok(ack)) => {
                    acked.insert(key, (room.clone(), ack["seq"].as_i64().unwrap()));
                    next += 1;
                    count.fetch_add(1, Relaxed);
                }
                Ok(Err(refusal)) => {
                    let code = code(&refusal);
                    assert!(
                        ["storage_unavailable", "deadline_exceeded", "overloaded"].contains(&code.as_str()),
                        "{key}: {refusal}"
                    );
                }
                Err(_) => break,
            }
        }
    }
    acked
}

/// Follows the rooms on one node after the other, until each has its last event.
async fn follow_anywhere(
    nodes: &[Server],
    user: &User,
    (number, rooms): (usize, &[String]),
    ends: &tokio::sync::watch::Receiver<BTreeMap<String, i64>>,
) {
    let mut log = Log::after(rooms.iter().map(|room| (room.as_str(), 1)));
    let (mut at, mut ends) = (number, ends.clone());
    loop {
        at += 1;
        let (node, format) = (&nodes[at % nodes.len()], Format::ALL[number % 2]);
        let Ok(mut client) = Client::try_open(node, user, format, "/ws?subscribe=none").await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        client.send("resume", json!({"cursors": log.cursors()})).await;
        loop {
            let is_complete = |ends: &BTreeMap<String, i64>| {
                !ends.is_empty() && ends.iter().all(|(room, seq)| log.last(room) >= *seq)
            };
            if is_complete(&ends.borrow()) {
                return;
            }
            tokio::select! {
                received = client.receive() => match received {
                    Received::Frame(event) => {
                        assert_ne!(event["type"], "reset");
                        log.record(&event);
                    }
                    _ => break,
                },
                _ = ends.changed() => {}
            }
        }
    }
}

#[tokio::test]
async fn loses_repeats_and_reorders_nothing_while_nodes_and_redis_are_killed() {
    let mut redis = Redis::start();
    let cluster = Cluster::start(2, Some(&redis));
    let users = cluster.host.register_many(4).await;
    let members: Vec<&User> = users.iter().collect();
    let mut rooms = Vec::new();
    for _ in 0..3 {
        rooms.push(cluster.host.room(&members).await);
    }
    let (count, finished) = (AtomicU64::new(0), AtomicBool::new(false));
    let (tell_ends, ends) = tokio::sync::watch::channel(BTreeMap::new());
    let mut random = Random::new();
    let rounds = from_env("CHAT_TEST_NODE_ROUNDS", 5);
    let nodes = &cluster.nodes;
    let faults = async {
        for round in 0..rounds {
            let until = count.load(Relaxed) + 100 + random.below(400);
            let started = Instant::now();
            while count.load(Relaxed) < until {
                assert!(started.elapsed() < PATIENCE, "{} of {until} messages were acknowledged", count.load(Relaxed));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let what = round % 5;
            match what {
                0 | 3 => {
                    let node = &nodes[random.below(2) as usize];
                    node.kill9();
                    node.start_again();
                }
                1 => {
                    redis.kill();
                    tokio::time::sleep(Duration::from_millis(random.below(2_000))).await;
                    redis.start_again();
                }
                2 => {
                    redis.ask(&["FLUSHALL"]);
                    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                }
                _ => {
                    redis.signal(Signal::SIGSTOP);
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    redis.signal(Signal::SIGCONT);
                }
            }
            println!("round {round}: fault {what} after {until} acks");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        finished.store(true, Relaxed);
    };
    let sending = async {
        let senders =
            users.iter().enumerate().map(|(n, user)| send_anywhere(nodes, user, (n, &rooms), &count, &finished));
        let (acked, ()) = tokio::join!(join_all(senders), faults);
        let mut last = BTreeMap::new();
        for room in &rooms {
            last.insert(room.clone(), cluster.host.last_seq(&users[0], room).await);
        }
        tell_ends.send(last).unwrap();
        acked
    };
    let following = (0..4).map(|n| follow_anywhere(nodes, &users[n % 4], (n, &rooms), &ends));
    let (acked, _) = tokio::join!(sending, join_all(following));

    let mut stored = BTreeMap::new();
    for room in &rooms {
        for (n, message) in cluster.host.history(&users[0], room).await.iter().enumerate() {
            assert_eq!(message["seq"], n + 2, "a gap in {room}");
            let key = text(&message["content"]).to_owned();
            let before = stored.insert(key.clone(), (room.clone(), message["seq"].as_i64().unwrap()));
            assert_eq!(before, None, "{key} is stored twice");
        }
    }
    let acked: BTreeMap<_, _> = acked.into_iter().flatten().collect();
    for (key, place) in &acked {
        assert_eq!(stored.get(key), Some(place), "{key} was acknowledged there");
    }
    println!("{} messages acknowledged, {} stored", acked.len(), stored.len());
    assert!(stored.len() - acked.len() <= users.len(), "at most one message of each sender has no ack");
}
