//! Several nodes on one database: whatever node a client is connected to, it receives everything once and in order,
//! with Redis, without it, and while nodes and Redis are killed.
//!
//! How: one server has the private PostgreSQL; the nodes use that. `CHAT_TEST_NODE_ROUNDS` sets the number of faults,
//! `CHAT_TEST_SEED` repeats a run.

use super::cluster::{Cluster, metric, wait_for_metric, wait_for_readiness};
use super::traffic::Traffic;
use crate::support::redis::Redis;
use crate::support::{Client, Format, PATIENCE, Random, Server, User, closed, from_env, text, unique};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What holds on any two nodes, with Redis and without it.
pub(super) async fn check_two_nodes(one: &Server, other: &Server) {
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
    for user in [&bob, &eve] {
        one.ok(user, "join_conversation", json!({"conversation_id": lobby})).await;
    }
    one.ok(&ann, "send_message", json!({"conversation_id": lobby, "content": "welcome"})).await;
    for client in [&mut at_other, &mut eve_at_other] {
        let seen = client.event_where("message_created", |data| data["content"] == "welcome").await;
        assert_eq!(seen["conversation_id"], lobby);
    }

    // Who is removed here receives nothing there any longer.
    one.ok(&ann, "remove_member", json!({"conversation_id": lobby, "user_id": eve.id})).await;
    loop {
        let event = eve_at_other.next_event().await;
        if event["type"] == "member_left" || event["type"] == "error" {
            break;
        }
    }
    one.ok(&ann, "send_message", json!({"conversation_id": lobby, "content": "secret"})).await;
    // Once the room's owner has delivered it there, it answers another request of Eve, behind what it had for her.
    at_other.event_where("message_created", |data| data["content"] == "secret").await;
    let refused =
        eve_at_other.refused("send_message", json!({"conversation_id": lobby, "content": "still here"})).await;
    assert_eq!(refused, "not_member");
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
    let cluster = Cluster::start(2, Some(&redis.url()));
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
    let cluster = Cluster::start(1, Some(&redis.url()));
    let node = &cluster.nodes[0];
    wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
    redis.kill();
    wait_for_metric(node, "chat_server_redis_up", |up| up < 0.5).await;
    let reason = wait_for_readiness(node, 200, "failing").await;
    assert!(reason.contains("Redis cannot be used") && reason.contains("come late"), "{reason}");
    redis.start_again();
    wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
    // A subscriber that no longer receives anything, with a socket that looks healthy.
    redis.signal(Signal::SIGSTOP);
    wait_for_metric(node, "chat_server_redis_up", |up| up < 0.5).await;
    redis.signal(Signal::SIGCONT);
    wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
}

#[tokio::test]
async fn loses_repeats_and_reorders_nothing_while_nodes_and_redis_are_killed() {
    let mut redis = Redis::start();
    let cluster = Cluster::start(2, Some(&redis.url()));
    let nodes = &cluster.nodes;
    let traffic = Traffic::new(&cluster.host, nodes, Duration::ZERO).await;
    let mut random = Random::new();
    let rounds = from_env("CHAT_TEST_NODE_ROUNDS", 5);
    let faults = async {
        for round in 0..rounds {
            traffic.acknowledges(100 + random.below(400)).await;
            let what = round % 5;
            match what {
                0 | 3 => {
                    let node = &nodes[random.below(2) as usize];
                    node.kill9();
                    node.start_again();
                }
                1 => {
                    redis.kill();
                    traffic.acknowledges(random.below(500)).await;
                    redis.start_again();
                }
                2 => {
                    redis.ask(&["FLUSHALL"]);
                    redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                }
                _ => {
                    redis.signal(Signal::SIGSTOP);
                    for node in nodes {
                        wait_for_metric(node, "chat_server_redis_up", |up| up < 0.5).await;
                    }
                    traffic.acknowledges(100).await;
                    redis.signal(Signal::SIGCONT);
                }
            }
            println!("round {round}: fault {what}");
        }
        traffic.acknowledges(100).await;
    };
    Box::pin(traffic.during(faults)).await;
}

/// Opens sockets at a node until it closes one for their number.
async fn fill(node: &Server, user: &User, open: &mut Vec<Client>) -> usize {
    for count in 0.. {
        match Client::try_open(node, user, Format::Json, "/ws").await {
            Ok(client) => open.push(client),
            Err(reason) => {
                assert!(reason.contains("Closed(4004,"), "{reason}");
                return count;
            }
        }
    }
    unreachable!()
}

/// Waits until another node has received what a node published of a user until now. `client` is the user's, and
/// `watcher` a client of the other node that watches the user.
async fn publish(client: &mut Client, watcher: &mut Client) {
    // A node publishes the connections of a user with their presence, and what the user has spent behind it. The second
    // choice is published after all of that.
    for status in ["busy", "away"] {
        client.ok("set_presence", json!({"status": status})).await;
        watcher.event_where("presence", |data| data["status"] == status).await;
    }
    // A busy machine can be late with one of these all the same: nodes publish them once a second.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}

/// A client of a node that watches other users.
async fn watch(node: &Server, watcher: &User, users: &[&User]) -> Client {
    let mut client = Client::none(node, watcher, Format::Json).await;
    let users: Vec<i64> = users.iter().map(|user| user.id).collect();
    let answer = client.ok("get_presence", json!({"user_ids": users})).await;
    assert_eq!(answer["presence"].as_array().map(Vec::len), Some(users.len()), "{answer}");
    client
}

#[tokio::test]
async fn holds_the_limits_of_a_user_over_all_nodes() {
    const CONNECTIONS: usize = 5;
    let redis = Redis::start();
    let url = redis.url();
    let limits = [
        ("limits.max_connections_per_user", "5"),
        ("limits.max_messages_per_minute", "60"),
        ("limits.bot_messages_per_minute", "60"),
    ];
    let cluster = Cluster::start_with(2, &[&[("cluster.redis_url", url.as_str())], &limits[..]].concat());
    let (one, other) = cluster.pair();
    for node in [one, other] {
        wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
    }
    let [ann, bob, eve] = one.register_many(3).await.try_into().ok().unwrap();
    let room = one.room(&[&ann, &bob, &eve]).await;
    let mut eve_at_one = watch(one, &eve, &[&ann]).await;
    let mut eve_at_other = watch(other, &eve, &[&ann]).await;

    // Connections.
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Client::none(one, &ann, Format::Json).await);
    }
    publish(&mut open[2], &mut eve_at_other).await;
    assert_eq!(fill(other, &ann, &mut open).await, CONNECTIONS - 3);
    publish(&mut open[CONNECTIONS - 1], &mut eve_at_one).await;
    assert_eq!(fill(one, &ann, &mut open).await, 0);
    // A node that dies keeps nobody out.
    other.kill9();
    open.truncate(3);
    let died = Instant::now();
    while fill(one, &ann, &mut open).await == 0 {
        assert!(died.elapsed() < PATIENCE, "connections to a node that died still count");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(open.len(), CONNECTIONS);
    other.start_again();
    wait_for_metric(other, "chat_server_redis_up", |up| up > 0.5).await;

    // Messages: a minute's are one burst, whichever node takes them. A bot has a limit of its own.
    let (_, robot) = hello_bot(one, &bob, &room).await;
    for user in [&bob, &robot] {
        let mut eve_at_other = watch(other, &eve, &[user]).await;
        let mut at_one = Client::none(one, user, Format::Json).await;
        let message = json!({"conversation_id": room, "content": "x"});
        for _ in 0..40 {
            at_one.ok("send_message", message.clone()).await;
        }
        publish(&mut at_one, &mut eve_at_other).await;
        at_one.close().await;
        let mut at_other = Client::none(other, user, Format::Json).await;
        let mut sent = 0;
        while at_other.command("send_message", message.clone()).await.is_ok() {
            sent += 1;
            assert!(sent < 35, "what was spent on the first node counts here: 20, and what is refilled");
        }
        assert!(sent >= 20, "no less than what is left: {sent}");
    }
}

/// A bot of `owner` in a room, with the command `/hello`: its number, and the bot that signs in with a token of it.
async fn hello_bot(node: &Server, owner: &User, room: &str) -> (Value, User) {
    let request = async |method: &str, path: &str, body: Value| {
        let (status, answer) = node.request(method.parse().unwrap(), path, Some(&owner.token), Some(&body)).await;
        assert!((200..300).contains(&status), "{path}: {answer}");
        answer
    };
    let bot = request("POST", "/bots", json!({"username": unique("bot"), "display_name": "Hello"})).await;
    let path = |rest: &str| format!("/bots/{}/{rest}", bot["user_id"]);
    request("POST", &path("conversations"), json!({"conversation_id": room})).await;
    let commands = json!({"commands": [{"name": "hello", "description": "Say hello."}]});
    request("PUT", &path("commands"), commands).await;
    let token = request("POST", &path("tokens"), json!({"name": "x", "scopes": ["read", "write"]})).await;
    let id = bot["user_id"].as_i64().unwrap();
    (token["id"].clone(), User { id, token: text(&token["token"]).to_owned(), ..owner.clone() })
}

#[tokio::test]
async fn a_command_is_answered_by_its_bot_on_another_node() {
    let redis = Redis::start();
    let cluster = Cluster::start(2, Some(&redis.url()));
    let (one, other) = cluster.pair();
    for node in [one, other] {
        wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
    }
    let ann = one.register().await;
    let room = one.room(&[&ann]).await;
    let (token, bot) = hello_bot(one, &ann, &room).await;
    let mut anns = Client::all(one, &ann, Format::Json).await;
    let mut bots = Client::all(other, &bot, Format::MessagePack).await;
    let command = json!({"conversation_id": room, "command": "hello", "text": "there"});
    // The first node learns within a moment that the bot is connected to the other one.
    let invoked = loop {
        let asked = anns.send("run_command", command.clone()).await;
        let invoked = tokio::select! {
            invoked = bots.event("command_invoked") => invoked,
            refused = anns.reply(asked) => {
                assert_eq!(refused.unwrap_err()["code"], "not_found");
                continue;
            }
        };
        let answer = json!({"invocation_id": invoked["invocation_id"], "visibility": "private", "content": "Hi."});
        bots.ok("answer_command", answer).await;
        assert_eq!(anns.reply(asked).await.unwrap()["content"], "Hi.");
        break invoked;
    };
    let again = json!({"invocation_id": invoked["invocation_id"], "visibility": "public", "content": "Again."});
    assert_eq!(bots.refused("answer_command", again).await, "not_found", "the other node knows that it was answered");
    let asked = anns.send("run_command", command).await;
    let id = bots.event("command_invoked").await["invocation_id"].clone();
    // A bot can answer on any node.
    let answer = json!({"invocation_id": id, "visibility": "public", "content": "Hello, all."});
    let answered = other.ok(&bot, "answer_command", answer).await;
    assert_eq!(anns.reply(asked).await.unwrap()["message_id"], answered["message_id"]);
    bots.event_where("message_created", |event| event["content"] == "Hello, all.").await;
    // A token that is revoked here ends there.
    let path = format!("/bots/{}/tokens/{token}", bot.id);
    let (status, _) = one.request("DELETE".parse().unwrap(), &path, Some(&ann.token), None).await;
    assert_eq!((status, closed(&bots.end().await)), (204, 4002));
}
