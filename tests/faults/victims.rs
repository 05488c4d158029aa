//! No flood gets an ordinary user refused.
//!
//! How: at the shipped limits, two accounts flood the server in turn with each kind of request that was once free of
//! charge, from the address of everybody else. Beside them ordinary users send, read, mark and connect. Each of their
//! requests must be answered. `loadtest run crowding` measures how long that takes.

use crate::support::{Client, Format, Server, User, id_of, unique};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio_tungstenite::tungstenite::Message;

/// Commands that a flooder has in flight on its connection.
const IN_FLIGHT: usize = 128;
/// Rounds of an ordinary user beside each flood. The shipped limit is 60 messages a minute.
const ROUNDS: usize = 4;

/// A kind of flood.
#[derive(Clone, Copy, Debug)]
enum Flood {
    Command(&'static str),
    BadJson,
    Profile,
    Refresh,
    Passwords,
    Groups,
}

const FLOODS: [Flood; 10] = [
    Flood::Command("ping"),
    Flood::Command("mark_read"),
    Flood::Command("resume"),
    Flood::Command("subscribe"),
    Flood::Command("search_messages"),
    Flood::BadJson,
    Flood::Profile,
    Flood::Refresh,
    Flood::Passwords,
    Flood::Groups,
];

fn data(command: &str, room: &str) -> Value {
    match command {
        "mark_read" => json!({"conversation_id": room, "seq": 1}),
        "subscribe" => json!({"conversation_id": room, "after_seq": 0}),
        "search_messages" => json!({"query": "\"a-a-a-a-a-a\""}),
        "resume" => {
            let unknown = (0..500).map(|n| (format!("room_{}", 4_000_002 + 4 * n), json!(0)));
            json!({"cursors": unknown.collect::<serde_json::Map<_, _>>()})
        }
        _ => json!({}),
    }
}

/// Floods until `over`. A flooder that is closed connects again.
async fn flood(server: &Server, user: &User, victim: &User, room: &str, kind: Flood, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        match kind {
            Flood::Command(command) => {
                let opened = Client::try_open(server, user, Format::Json, "/ws?subscribe=none").await;
                let Ok(mut client) = opened else { continue };
                'open: while !over.load(Ordering::Relaxed) {
                    let mut ids = Vec::new();
                    for _ in 0..IN_FLIGHT {
                        ids.push(client.feed(command, data(command, room)).await);
                    }
                    client.flush().await;
                    for id in ids {
                        if client.try_reply(id).await.is_err() {
                            break 'open;
                        }
                    }
                }
            }
            Flood::BadJson => {
                let opened = Client::try_open(server, user, Format::Json, "/ws?subscribe=none").await;
                let Ok(mut client) = opened else { continue };
                while !over.load(Ordering::Relaxed) {
                    for _ in 0..IN_FLIGHT {
                        client.send_raw(Message::text("{\"type\":")).await;
                    }
                    let fence = client.send("ping", json!({})).await;
                    if client.try_reply(fence).await.is_err() {
                        break;
                    }
                }
            }
            Flood::Profile => {
                let name = json!({"display_name": unique("Flood")});
                server.request(Method::PATCH, "/users/me", Some(&user.token), Some(&name)).await;
            }
            Flood::Refresh => {
                server.post("/auth/refresh", None, &json!({"refresh_token": "A".repeat(43)})).await;
            }
            Flood::Passwords => {
                server.post("/auth/login", None, &json!({"login": user.name, "password": "not the password"})).await;
            }
            Flood::Groups => {
                let group = json!({"kind": "group", "name": unique("spam"), "member_ids": [victim.id]});
                drop(server.call(user, "create_conversation", group).await);
            }
        }
    }
}

/// What an ordinary user does. Every request must be answered.
async fn act(server: &Server, user: &User, room: &str) {
    let mut client = Client::all(server, user, Format::MessagePack).await;
    for round in 0..ROUNDS {
        let sent = client.ok("send_message", json!({"conversation_id": room, "content": format!("{round}")})).await;
        client.event_where("message_created", |event| event["seq"] == sent["seq"]).await;
        client.ok("mark_read", json!({"conversation_id": room, "seq": sent["seq"]})).await;
        client.ok("get_history", json!({"conversation_id": room, "limit": 20})).await;
        server.ok(user, "list_conversations", json!({"limit": 10})).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    client.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_ordinary_users_beside_every_flood() {
    let shipped = [
        ("security.sign_ins_per_minute", "60"),
        ("security.registrations_per_minute", "60"),
        ("security.stranger_additions_per_hour", "50"),
    ];
    let server = Server::start(2, &shipped);
    let users = server.register_many(6).await;
    let (flooders, ordinary) = users.split_at(2);
    let members: Vec<&User> = ordinary.iter().collect();
    let room = server.room(&members).await;
    let den = server.room(&flooders.iter().collect::<Vec<_>>()).await;
    for kind in FLOODS {
        let over = AtomicBool::new(false);
        let floods = flooders.iter().map(|flooder| flood(&server, flooder, &ordinary[0], &den, kind, &over));
        let victims = async {
            join_all(ordinary.iter().map(|user| act(&server, user, &room))).await;
            over.store(true, Ordering::Relaxed);
        };
        tokio::join!(join_all(floods), victims);
    }
    // A person's own room is still among the first conversations.
    let direct = json!({"kind": "direct", "member_ids": [ordinary[1].id]});
    id_of(&server.ok(&ordinary[0], "create_conversation", direct).await);
    let welcome = Client::all(&server, &ordinary[0], Format::Json).await.welcome;
    assert_eq!(welcome["conversations"][0]["id"], json!(room));
    server.login(&ordinary[0]).await;
}
