//! What a crowd's coming and going costs somebody who watches it: at most one frame for each user and telling interval,
//! however often they change their mind, and none for who is back before the next round.
//!
//! How: frames are counted, and bounded by the rounds of telling that fit into the time that the crowd took, as the
//! test's clock saw it. A slow machine gets a higher bound, never a failure; on a usual one the bounds are a fraction of
//! the changes. That everything has been told is known from a last user, the fence, whose own change comes after it.
#![cfg(feature = "test-db")]

mod support;

use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use support::{Client, Format, Server, User, shards};

const CROWD: usize = 60;
/// How often each of them changes what they show, within about one interval.
const TOGGLES: usize = 12;
/// Between two of those changes: some fall into every tick of the shards' clocks, which are more frequent than rounds.
const PAUSE: Duration = Duration::from_millis(30);
/// How often changes are told (`shard/timers.rs`).
const INTERVAL: Duration = Duration::from_millis(500);

/// Rounds of telling, of one shard, that can have begun within this time.
fn rounds(time: Duration) -> usize {
    (time.as_millis() / INTERVAL.as_millis()) as usize + 1
}

/// Frames of each user since the last call, up to the fence's second change from now on: the first may be told in the same
/// round as a change that another shard still has to tell, the second comes an interval later.
async fn told(watcher: &mut Client, fence: &mut Client, fence_id: i64) -> HashMap<i64, Vec<Value>> {
    let mut frames: HashMap<i64, Vec<Value>> = HashMap::new();
    for _ in 0..2 {
        let mark = support::unique("fence");
        fence.ok("set_presence", json!({"status": "away", "status_text": mark})).await;
        loop {
            let event = watcher.event("presence").await;
            let user = event["user_id"].as_i64().unwrap();
            if user != fence_id {
                frames.entry(user).or_default().push(event);
            } else if event["status_text"] == json!(mark) {
                break;
            }
        }
    }
    frames
}

async fn come(server: &Server, users: &[User]) -> Vec<Client> {
    join_all((0..users.len()).map(|n| Client::none(server, &users[n], Format::ALL[n % 2]))).await
}

async fn a_crowd_is_told_in_rounds(workers: usize) {
    let server = shards(workers).await;
    let users = join_all((0..CROWD + 2).map(|_| server.register())).await;
    let everybody: Vec<&User> = users.iter().collect();
    server.room(&everybody).await;
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

    // They come: whatever that takes, each of them shows something else than before once.
    let mut there = come(server, crowd).await;
    for watcher in &mut watchers {
        let frames = told(watcher, &mut fence, last.id).await;
        for id in &ids {
            let statuses: Vec<&Value> = frames[id].iter().map(|frame| &frame["status"]).collect();
            assert_eq!(statuses, ["online"], "user {id}");
        }
        assert_eq!(frames.len(), CROWD);
    }

    // They cannot make up their minds.
    let began = Instant::now();
    join_all(there.iter_mut().map(async |client| {
        let mut asked = 0;
        for n in 0..TOGGLES {
            let status = ["away", "busy"][n % 2];
            asked = client.send("set_presence", json!({"status": status, "status_text": n.to_string()})).await;
            tokio::time::sleep(PAUSE).await;
        }
        client.reply(asked).await.unwrap();
    }))
    .await;
    // Of the rounds within this time, and the one after it.
    let most = rounds(began.elapsed()) + 1;
    for watcher in &mut watchers {
        let frames = told(watcher, &mut fence, last.id).await;
        for id in &ids {
            let frames = &frames[id];
            assert!(frames.len() <= most.min(TOGGLES), "user {id}: {} frames in {most} rounds", frames.len());
            let shown = frames.last().unwrap();
            assert_eq!(
                (&shown["status"], &shown["status_text"]),
                (&json!("busy"), &json!("11")),
                "what they ended with"
            );
        }
    }

    // They lose their connections and are back at once, one after the other, so that a round of telling meets at most one
    // of them while nobody is there.
    let began = Instant::now();
    let mut back = Vec::new();
    for (n, client) in there.drain(..).enumerate() {
        client.close().await;
        back.push(Client::none(server, &crowd[n], Format::ALL[n % 2]).await);
    }
    let met = workers * rounds(began.elapsed());
    for watcher in &mut watchers {
        let frames = told(watcher, &mut fence, last.id).await;
        let count: usize = frames.values().map(Vec::len).sum();
        assert!(count <= 2 * met, "{count} frames, but at most {met} users can have been missed: {frames:?}");
        for frames in frames.values() {
            assert_eq!(frames.last().unwrap()["status"], "busy", "they are there, as before");
        }
    }

    // They leave: once each.
    join_all(back.into_iter().map(Client::close)).await;
    for watcher in &mut watchers {
        let frames = told(watcher, &mut fence, last.id).await;
        for id in &ids {
            let statuses: Vec<&Value> = frames[id].iter().map(|frame| &frame["status"]).collect();
            assert_eq!(statuses, ["offline"], "user {id}");
        }
    }
}

#[tokio::test]
async fn a_crowd_on_one_shard_is_told_in_rounds() {
    a_crowd_is_told_in_rounds(1).await;
}

#[tokio::test]
async fn a_crowd_on_four_shards_is_told_in_rounds() {
    a_crowd_is_told_in_rounds(4).await;
}
