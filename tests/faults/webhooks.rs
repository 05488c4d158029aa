//! Webhooks when the server is killed: every event arrives, and what arrives again has the same id.
//!
//! How: a sender writes messages while a receiver takes deliveries. The server is killed and started again several
//! times, each time while deliveries wait, and also after the last message. Every event must have arrived in the end,
//! from the first one after the webhook was created. `CHAT_TEST_HOOK_EVENTS` and `CHAT_TEST_HOOK_KILLS` make the test
//! longer.

use crate::support::receiver::Receiver;
use crate::support::{Client, Format, Server, from_env};
use reqwest::Method;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_lose_no_delivery_and_repeats_have_the_same_id() {
    let (events, kills) = (from_env("CHAT_TEST_HOOK_EVENTS", 1_200), from_env("CHAT_TEST_HOOK_KILLS", 3));
    let settings = [
        ("features.webhooks", "true"),
        ("webhooks.allowed_networks", "127.0.0.0/8"),
        ("limits.max_messages_per_minute", "1000000"),
        ("limits.adaptive", "false"),
    ];
    let (server, receiver) = (Server::start(1, &settings), Receiver::start().await);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    for (path, is_ordered) in [("/ok/plain", false), ("/ok/ordered", true)] {
        let body = json!({"url": receiver.at(path), "conversation_id": room, "ordered": is_ordered});
        let (status, created) = server.request(Method::POST, "/webhooks", Some(&ann.token), Some(&body)).await;
        assert_eq!(status, 201, "{created}");
    }
    let first = server.last_seq(&ann, &room).await + 1;
    let mut sent = 0;
    for kill in 0..=kills {
        let mut client = Client::none(&server, &ann, Format::Json).await;
        let share = if kill == kills { events - sent } else { events / (kills + 1) };
        let mut left = share;
        while left > 0 {
            // A connection may have 256 commands in flight.
            let mut unacknowledged = Vec::new();
            for _ in 0..left.min(200) {
                let data = json!({"conversation_id": room, "content": format!("event {sent}"),
                    "client_message_id": format!("event-{sent}")});
                unacknowledged.push(client.send("send_message", data).await);
                (sent, left) = (sent + 1, left - 1);
            }
            for id in unacknowledged {
                client.reply(id).await.unwrap();
            }
        }
        // The first deliveries of this round have arrived, and they are not recorded yet.
        let before = (sent - share) as usize;
        receiver.received_many("/ok/plain", before + share as usize / 4).await;
        server.kill9();
        server.start_again();
    }
    let last = server.last_seq(&ann, &room).await;
    assert_eq!(last - first + 1, events as i64);
    for path in ["/ok/plain", "/ok/ordered"] {
        let of_all: BTreeSet<String> = (first..=last).map(|seq| format!("evt_{room}_{seq}")).collect();
        let arrived = receiver
            .received_when(path, |arrived| {
                let ids: BTreeSet<&String> = arrived.iter().map(|delivered| &delivered.id).collect();
                ids.len() >= of_all.len()
            })
            .await;
        let mut bodies = BTreeMap::new();
        for delivered in &arrived {
            assert!(of_all.contains(&delivered.id), "{}", delivered.id);
            let body = bodies.entry(&delivered.id).or_insert(&delivered.body);
            assert_eq!(*body, &delivered.body, "a repeat is the same");
        }
        println!("{path}: {} events, {} deliveries", of_all.len(), arrived.len());
        assert!(arrived.len() > of_all.len(), "no kill came between an arrival and its record");
        if path == "/ok/ordered" {
            // A repeat begins with what was not recorded before the kill, and goes on in order.
            let mut highest = first - 1;
            for delivered in &arrived {
                let seq = delivered.json()["data"]["seq"].as_i64().unwrap();
                assert!(seq <= highest + 1, "{seq} came before {}", highest + 1);
                highest = highest.max(seq);
            }
        }
    }
}
