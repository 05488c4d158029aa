//! Large rooms: a room has more subscribers than a shard serves in one turn. Every subscriber receives every event once
//! and in order, while other clients subscribe and disconnect. A small room beside it is served as well.
//!
//! How: 400 connections use both formats. Meanwhile some of them unsubscribe and subscribe again with a cursor, and
//! others disconnect. `support::Log` checks that each stream has no gap.

use crate::support::{Client, Format, Log, Server, User, shards, text};
use futures_util::future::join_all;
use serde_json::{Value, json};

const CONNECTIONS: usize = 400;
const MESSAGES: i64 = 120;

async fn connect_all(server: &Server, users: &[User]) -> Vec<Client> {
    let mut clients = Vec::new();
    for first in (0..CONNECTIONS).step_by(50) {
        let open = (first..first + 50).map(|n| Client::all(server, &users[n % users.len()], Format::ALL[n / 7 % 2]));
        clients.extend(join_all(open).await);
    }
    clients
}

/// Reads the events of a room after `from` up to `last`. Returns its messages in order.
async fn follow(client: &mut Client, room: &str, from: i64, last: i64) -> Vec<Value> {
    let mut log = Log::after([(room, from)]);
    client.follow(&mut log, room, last).await
}

async fn check_delivery_to_all_subscribers(workers: usize) {
    let server = shards(workers).await;
    let users = server.register_many(20).await;
    let members: Vec<&User> = users.iter().collect();
    let large = server.room(&members).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let small = server.room(&[&ann, &bob]).await;
    let mut neighbor = Client::all(server, &bob, Format::Json).await;
    let mut clients = connect_all(server, &users).await;
    let mut resubscribing: Vec<Client> = clients.split_off(CONNECTIONS - 40);
    let leaving: Vec<Client> = clients.split_off(clients.len() - 40);
    let first = 1;
    let last = first + MESSAGES;

    let sending = async {
        let mut senders = [
            Client::none(server, &users[0], Format::Json).await,
            Client::none(server, &users[1], Format::MessagePack).await,
        ];
        for n in 0..MESSAGES / 2 {
            let mut ids = Vec::new();
            for (number, sender) in senders.iter_mut().enumerate() {
                let key = format!("{number}-{n}");
                let data = json!({"conversation_id": large, "content": key, "client_message_id": key});
                ids.push(sender.send("send_message", data).await);
            }
            if n % 10 == 0 {
                let data = json!({"conversation_id": small, "content": "beside"});
                server.ok(&ann, "send_message", data).await;
            }
            for (sender, id) in senders.iter_mut().zip(ids) {
                assert_eq!(sender.reply(id).await.unwrap()["duplicate"], false);
            }
        }
    };
    // Some clients unsubscribe and subscribe again while messages are sent.
    let resubscriptions = async {
        for client in &mut resubscribing {
            client.ok("unsubscribe", json!({"conversation_id": large})).await;
            client.ok("subscribe", json!({"conversation_id": large, "after_seq": 0})).await;
        }
    };
    let disconnects = async {
        for client in leaving {
            client.close().await;
        }
    };
    tokio::join!(sending, resubscriptions, disconnects);

    let received = join_all(clients.iter_mut().map(|client| follow(client, &large, first, last))).await;
    let contents =
        |events: &[Value]| -> Vec<String> { events.iter().map(|e| text(&e["content"]).to_owned()).collect() };
    let sent = contents(&received[0]);
    assert_eq!(sent.len() as i64, MESSAGES);
    for (n, events) in received.iter().enumerate() {
        assert_eq!(contents(events), sent, "client {n}");
        let own = users[n % users.len()].id;
        for event in events {
            let is_own = event["sender"]["id"] == own;
            assert_eq!(
                event.get("client_message_id").is_some(),
                is_own,
                "only the sender receives the client_message_id: {event}"
            );
        }
    }
    // Clients that subscribed again after seq 0 receive the whole log.
    for client in &mut resubscribing {
        let mut seen = Vec::new();
        let mut next = 0;
        while next < last {
            let event = client.next_event().await;
            let data = &event["data"];
            if data["conversation_id"] != json!(large) || data.get("seq").is_none() || event["type"] == "caught_up" {
                continue;
            }
            let seq = data["seq"].as_i64().unwrap();
            if seq == 1 {
                seen.clear(); // events from before the second subscription
                next = 0;
            }
            if next == 0 && seq != 1 {
                continue;
            }
            assert_eq!(seq, next + 1, "{event}");
            next = seq;
            seen.extend(data.get("content").map(|content| text(content).to_owned()));
        }
        assert_eq!(seen, sent);
    }
    assert_eq!(follow(&mut neighbor, &small, 1, 1 + MESSAGES / 20).await.len() as i64, MESSAGES / 20);
}

#[tokio::test]
async fn delivers_every_event_to_all_subscribers_on_one_shard() {
    check_delivery_to_all_subscribers(1).await;
}

#[tokio::test]
async fn delivers_every_event_to_all_subscribers_on_four_shards() {
    check_delivery_to_all_subscribers(4).await;
}
