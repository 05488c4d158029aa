//! A room with more subscribers than one turn serves: everybody gets every event, in order, once, whoever comes and goes
//! meanwhile; so does a small room beside it.
//!
//! How: 400 connections in both formats, among them the senders' own, whose copies carry the key, while others
//! unsubscribe, subscribe anew with a cursor, or just leave; every stream is checked by arithmetic (`support::Log`).
#![cfg(feature = "test-db")]

mod support;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::{Client, Format, Log, Server, User, shards, text};

const CONNECTIONS: usize = 400;
const MESSAGES: i64 = 120;

async fn crowd(server: &Server, users: &[User]) -> Vec<Client> {
    let mut clients = Vec::new();
    for first in (0..CONNECTIONS).step_by(50) {
        let open = (first..first + 50).map(|n| Client::all(server, &users[n % users.len()], Format::ALL[n / 7 % 2]));
        clients.extend(join_all(open).await);
    }
    clients
}

/// Follows a room from `from` on to `last`; everything it said, in order.
async fn follow(client: &mut Client, room: &str, from: i64, last: i64) -> Vec<Value> {
    let mut log = Log::after([(room, from)]);
    client.follow(&mut log, room, last).await
}

async fn a_crowd_hears_everything(workers: usize) {
    let server = shards(workers).await;
    let users = join_all((0..20).map(|_| server.register())).await;
    let everybody: Vec<&User> = users.iter().collect();
    let large = server.room(&everybody).await;
    let (ann, bob) = (server.register().await, server.register().await);
    let small = server.room(&[&ann, &bob]).await;
    let mut beside = Client::all(server, &bob, Format::Json).await;
    let mut clients = crowd(server, &users).await;
    let mut restless: Vec<Client> = clients.split_off(CONNECTIONS - 40);
    let leaving: Vec<Client> = clients.split_off(clients.len() - 40);
    let first = 1;
    let last = first + MESSAGES;

    let talk = async {
        let mut senders = [
            Client::none(server, &users[0], Format::Json).await,
            Client::none(server, &users[1], Format::MessagePack).await,
        ];
        for n in 0..MESSAGES / 2 {
            let mut ids = Vec::new();
            for (who, sender) in senders.iter_mut().enumerate() {
                let key = format!("{who}-{n}");
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
    // Subscribe, unsubscribe and resume in the middle of everything.
    let unrest = async {
        for client in &mut restless {
            client.ok("unsubscribe", json!({"conversation_id": large})).await;
            client.ok("subscribe", json!({"conversation_id": large, "after_seq": 0})).await;
        }
    };
    let departures = async {
        for client in leaving {
            client.close().await;
        }
    };
    tokio::join!(talk, unrest, departures);

    let heard = join_all(clients.iter_mut().map(|client| follow(client, &large, first, last))).await;
    let contents =
        |events: &[Value]| -> Vec<String> { events.iter().map(|e| text(&e["content"]).to_owned()).collect() };
    let said = contents(&heard[0]);
    assert_eq!(said.len() as i64, MESSAGES);
    for (n, events) in heard.iter().enumerate() {
        assert_eq!(contents(events), said, "client {n}");
        let own = users[n % users.len()].id;
        for event in events {
            let is_own = event["sender"]["id"] == own;
            assert_eq!(
                event.get("client_message_id").is_some(),
                is_own,
                "only a sender's copies carry its key: {event}"
            );
        }
    }
    // Those who began anew at 0 have the whole log, from its first event.
    for client in &mut restless {
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
                seen.clear(); // what it had heard before it subscribed anew
                next = 0;
            }
            if next == 0 && seq != 1 {
                continue;
            }
            assert_eq!(seq, next + 1, "{event}");
            next = seq;
            seen.extend(data.get("content").map(|content| text(content).to_owned()));
        }
        assert_eq!(seen, said);
    }
    assert_eq!(follow(&mut beside, &small, 1, 1 + MESSAGES / 20).await.len() as i64, MESSAGES / 20);
}

#[tokio::test]
async fn a_crowd_on_one_shard_hears_everything() {
    a_crowd_hears_everything(1).await;
}

#[tokio::test]
async fn a_crowd_on_four_shards_hears_everything() {
    a_crowd_hears_everything(4).await;
}
