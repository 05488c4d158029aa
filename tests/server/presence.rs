//! Presence: a watcher receives at most one event per user and round, however often the users change their status. A
//! user who reconnects before the next round causes no event.
//!
//! How: the tests count presence events. The limit is the number of rounds that fit into the time that the changes
//! took, so a slow machine only raises it; usually it is a fraction of the changes. A last user, the fence, changes its
//! status after the others: when that event arrives, all earlier ones have been sent.

use crate::support;
use crate::support::{Client, Format, Server, User, shards};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

const CROWD: usize = 60;
/// Changes of status per user, within about one interval.
const CHANGES: usize = 12;
/// The pause between two changes. It is shorter than a tick of the shards, so each tick has some changes.
const PAUSE: Duration = Duration::from_millis(30);
/// The interval between two rounds (`shard/interval.rs`).
const INTERVAL: Duration = Duration::from_millis(500);

/// The number of rounds of one shard that can begin within this time.
fn rounds(time: Duration) -> usize {
    (time.as_millis() / INTERVAL.as_millis()) as usize + 1
}

/// Reads the events of each user up to the second change of the fence. The first change may be sent in the same round
/// as a change that another shard still has to send; the second is sent an interval later.
async fn presence_events(watcher: &mut Client, fence: &mut Client, fence_id: i64) -> HashMap<i64, Vec<Value>> {
    let mut events: HashMap<i64, Vec<Value>> = HashMap::new();
    for _ in 0..2 {
        let mark = support::unique("fence");
        fence.ok("set_presence", json!({"status": "away", "status_text": mark})).await;
        loop {
            let event = watcher.event("presence").await;
            let user = event["user_id"].as_i64().unwrap();
            if user != fence_id {
                events.entry(user).or_default().push(event);
            } else if event["status_text"] == json!(mark) {
                break;
            }
        }
    }
    events
}

async fn connect_all(server: &Server, users: &[User]) -> Vec<Client> {
    join_all((0..users.len()).map(|n| Client::none(server, &users[n], Format::ALL[n % 2]))).await
}

async fn check_events_per_round(workers: usize) {
    let server = shards(workers).await;
    let users = server.register_many(CROWD + 2).await;
    let members: Vec<&User> = users.iter().collect();
    server.room(&members).await;
    let (crowd, [watching, last]) = users.split_at(CROWD) else { unreachable!() };
    let ids: Vec<i64> = crowd.iter().map(|user| user.id).collect();
    let mut fence = Client::none(server, last, Format::Json).await;
    let mut watchers =
        [Client::none(server, watching, Format::Json).await, Client::none(server, watching, Format::MessagePack).await];
    for watcher in &mut watchers {
        let mut asked = ids.clone();
        asked.push(last.id);
        let answer = watcher.ok("get_presence", json!({"user_ids": asked})).await;
        assert_eq!(answer["presence"].as_array().unwrap().len(), CROWD + 1);
    }

    // All connect: each of them changes from offline to online once.
    let mut connected = connect_all(server, crowd).await;
    for watcher in &mut watchers {
        let events = presence_events(watcher, &mut fence, last.id).await;
        for id in &ids {
            let statuses: Vec<&Value> = events[id].iter().map(|frame| &frame["status"]).collect();
            assert_eq!(statuses, ["online"], "user {id}");
        }
        assert_eq!(events.len(), CROWD);
    }

    // All change their status often.
    let began = Instant::now();
    join_all(connected.iter_mut().map(async |client| {
        let mut asked = 0;
        for n in 0..CHANGES {
            let status = ["away", "busy"][n % 2];
            asked = client.send("set_presence", json!({"status": status, "status_text": n.to_string()})).await;
            tokio::time::sleep(PAUSE).await;
        }
        client.reply(asked).await.unwrap();
    }))
    .await;
    // The rounds within this time, and the one after it.
    let most = rounds(began.elapsed()) + 1;
    for watcher in &mut watchers {
        let events = presence_events(watcher, &mut fence, last.id).await;
        for id in &ids {
            let events = &events[id];
            assert!(events.len() <= most.min(CHANGES), "user {id}: {} frames in {most} rounds", events.len());
            let shown = events.last().unwrap();
            assert_eq!(
                (&shown["status"], &shown["status_text"]),
                (&json!("busy"), &json!("11")),
                "the last change of the user"
            );
        }
    }

    // They reconnect one after the other, so that a round finds at most one of them offline.
    let began = Instant::now();
    let mut back = Vec::new();
    for (n, client) in connected.drain(..).enumerate() {
        client.close().await;
        back.push(Client::none(server, &crowd[n], Format::ALL[n % 2]).await);
    }
    let met = workers * rounds(began.elapsed());
    for watcher in &mut watchers {
        let events = presence_events(watcher, &mut fence, last.id).await;
        let count: usize = events.values().map(Vec::len).sum();
        assert!(count <= 2 * met, "{count} events, but at most {met} users were offline in a round: {events:?}");
        for events in events.values() {
            assert_eq!(events.last().unwrap()["status"], "busy", "the status is the one from before");
        }
    }

    // All disconnect: each of them changes to offline once.
    join_all(back.into_iter().map(Client::close)).await;
    for watcher in &mut watchers {
        let events = presence_events(watcher, &mut fence, last.id).await;
        for id in &ids {
            let statuses: Vec<&Value> = events[id].iter().map(|frame| &frame["status"]).collect();
            assert_eq!(statuses, ["offline"], "user {id}");
        }
    }
}

#[tokio::test]
async fn sends_one_presence_event_per_user_and_round_on_one_shard() {
    check_events_per_round(1).await;
}

#[tokio::test]
async fn sends_one_presence_event_per_user_and_round_on_four_shards() {
    check_events_per_round(4).await;
}
