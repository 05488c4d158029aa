//! Users who send to several rooms on one node or the other, and users who follow these rooms there. Whatever happens
//! to the nodes meanwhile: nothing is lost, repeated or out of order.
//!
//! How: the text of each message is its key, so a follower knows when and where it was sent, and in which phase of the
//! test. A client whose connection ends goes to the next node and continues there: senders with the message that has no
//! ack, followers with their cursors. In most rooms everybody sends, so that what a node commits itself shows that it
//! has missed something. In each of the others one user sends: there nothing shows it.

use crate::support::{Client, Format, Log, PATIENCE, Received, Server, User, code, text};
use futures_util::future::join_all;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Users, each a sender and a follower: two of each begin on every one of two nodes.
const USERS: usize = 4;
/// Rooms in which everybody sends.
const SHARED_ROOMS: usize = 3;
/// One message in so many goes to the room in which only its sender sends.
const ALONE_ONE_IN: usize = 8;

pub(super) struct Traffic<'a> {
    host: &'a Server,
    nodes: &'a [Server],
    users: Vec<User>,
    /// The shared ones, and that of each user.
    rooms: Vec<String>,
    /// Between two messages of a sender.
    pace: Duration,
    acked: AtomicU64,
    finished: AtomicBool,
    /// What the test does at present, for its report.
    phase: AtomicUsize,
    /// The last attempt to send each message.
    sent: Mutex<BTreeMap<String, Attempt>>,
    deliveries: Mutex<Vec<Delivery>>,
}

#[derive(Clone, Copy)]
struct Attempt {
    at: Instant,
    node: usize,
    phase: usize,
    /// It is sent to the room in which only its sender sends.
    is_alone: bool,
}

/// A message that reached a follower on another node than its sender's.
struct Delivery {
    attempt: Attempt,
    follower: usize,
    node: usize,
    took: Duration,
}

impl<'a> Traffic<'a> {
    /// `host` is a server that runs and reaches PostgreSQL before and after.
    pub(super) async fn new(host: &'a Server, nodes: &'a [Server], pace: Duration) -> Self {
        let users = host.register_many(USERS).await;
        let members: Vec<&User> = users.iter().collect();
        let mut rooms = Vec::new();
        for _ in 0..SHARED_ROOMS + USERS {
            rooms.push(host.room(&members).await);
        }
        Self {
            host,
            nodes,
            users,
            rooms,
            pace,
            acked: AtomicU64::new(0),
            finished: AtomicBool::new(false),
            phase: AtomicUsize::new(0),
            sent: Mutex::default(),
            deliveries: Mutex::default(),
        }
    }

    /// Sends and follows until `faults` has ended, and everybody has received everything.
    pub(super) async fn during(&self, faults: impl Future<Output = ()>) {
        let (tell_ends, ends) = watch::channel(BTreeMap::new());
        let faults = async {
            faults.await;
            self.finished.store(true, Relaxed);
        };
        let sending = async {
            let (acked, ()) = tokio::join!(join_all((0..USERS).map(|number| self.send(number))), faults);
            let mut last = BTreeMap::new();
            for room in &self.rooms {
                last.insert(room.clone(), self.host.last_seq(&self.users[0], room).await);
            }
            tell_ends.send(last).unwrap();
            acked
        };
        let following = join_all((0..USERS).map(|number| self.follow(number, ends.clone())));
        let (acked, _) = tokio::join!(sending, following);
        self.check(&acked.into_iter().flatten().collect()).await;
    }

    /// The messages that are sent from now on belong to this phase.
    pub(super) fn enter(&self, phase: usize) {
        self.phase.store(phase, Relaxed);
    }

    pub(super) async fn acknowledges(&self, more: u64) {
        let until = self.acked.load(Relaxed) + more;
        let started = Instant::now();
        while self.acked.load(Relaxed) < until {
            assert!(started.elapsed() < PATIENCE, "{} of {until} messages were acknowledged", self.acked.load(Relaxed));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the followers on this node have received messages that were sent on another one in this phase, in
    /// rooms in which nobody sends on this node. All of its followers must be where they began.
    pub(super) async fn delivers_to(&self, node: usize, phase: usize) {
        let followers: Vec<usize> = (0..USERS).filter(|number| (number + 1) % self.nodes.len() == node).collect();
        let started = Instant::now();
        loop {
            let missing = {
                let deliveries = self.deliveries.lock().unwrap();
                let has_received = |follower: &usize| {
                    let of_follower = |one: &&Delivery| one.follower == *follower && one.node == node;
                    deliveries.iter().filter(of_follower).any(|one| one.attempt.phase == phase && one.attempt.is_alone)
                };
                followers.iter().filter(|follower| !has_received(follower)).count()
            };
            if missing == 0 {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "{missing} followers on node {node} receive nothing in phase {phase}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Prints how long messages took to the other nodes.
    pub(super) fn report(&self, phases: &[&str]) {
        let deliveries = self.deliveries.lock().unwrap();
        for (phase, name) in phases.iter().enumerate() {
            for (node, is_alone) in (0..self.nodes.len()).flat_map(|node| [(node, true), (node, false)]) {
                let those = deliveries.iter().filter(|one| one.attempt.phase == phase && one.node == node);
                let mut took: Vec<_> =
                    those.filter(|one| one.attempt.is_alone == is_alone).map(|one| one.took).collect();
                took.sort();
                let at = |percent: usize| took.get(took.len().saturating_sub(1) * percent / 100);
                let [half, most, longest] = [50, 99, 100].map(|percent| at(percent).copied().unwrap_or_default());
                let rooms = if is_alone { "rooms with one sender" } else { "shared rooms" };
                let many = took.len();
                println!(
                    "{name}, {rooms}: {many} to node {node}, P50 {half:.1?}, P99 {most:.1?}, longest {longest:.1?}"
                );
            }
        }
    }

    /// Sends until the end, under keys of its own. Returns where each acknowledged message is.
    async fn send(&self, number: usize) -> BTreeMap<String, (String, i64)> {
        let (mut acked, mut next, mut at) = (BTreeMap::new(), 0, number);
        while !self.finished.load(Relaxed) {
            at = (at + 1) % self.nodes.len();
            let Ok(mut client) = self.connect(at, number, Format::ALL[at % 2]).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            while !self.finished.load(Relaxed) {
                let is_alone = next % ALONE_ONE_IN == 0;
                let room = &self.rooms[if is_alone { SHARED_ROOMS + number } else { next % SHARED_ROOMS }];
                let key = format!("{number}-{next}");
                let phase = self.phase.load(Relaxed);
                let attempt = Attempt { at: Instant::now(), node: at, phase, is_alone };
                self.sent.lock().unwrap().insert(key.clone(), attempt);
                let message = json!({"conversation_id": room, "content": key, "client_message_id": key});
                let id = client.send("send_message", message).await;
                match client.try_reply(id).await {
                    Ok(Ok(ack)) => {
                        acked.insert(key, (room.clone(), ack["seq"].as_i64().unwrap()));
                        next += 1;
                        self.acked.fetch_add(1, Relaxed);
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
                tokio::time::sleep(self.pace).await;
            }
        }
        acked
    }

    async fn connect(&self, node: usize, user: usize, format: Format) -> Result<Client, String> {
        Client::try_open(&self.nodes[node], &self.users[user], format, "/ws?subscribe=none").await
    }

    /// Follows all rooms until each has its last event.
    async fn follow(&self, number: usize, mut ends: watch::Receiver<BTreeMap<String, i64>>) {
        let mut log = Log::after(self.rooms.iter().map(|room| (room.as_str(), 1)));
        let mut at = number;
        loop {
            at = (at + 1) % self.nodes.len();
            let Ok(mut client) = self.connect(at, number, Format::ALL[number / 2 % 2]).await else {
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
                            if log.record(&event) && event["type"] == "message_created" {
                                self.delivered(number, at, text(&event["data"]["content"]));
                            }
                        }
                        _ => break,
                    },
                    _ = ends.changed() => {}
                }
            }
        }
    }

    fn delivered(&self, follower: usize, node: usize, key: &str) {
        let Some(attempt) = self.sent.lock().unwrap().get(key).copied() else { return };
        if attempt.node != node {
            let delivery = Delivery { attempt, follower, node, took: attempt.at.elapsed() };
            self.deliveries.lock().unwrap().push(delivery);
        }
    }

    /// Compares what was acknowledged with what is stored.
    async fn check(&self, acked: &BTreeMap<String, (String, i64)>) {
        let mut stored = BTreeMap::new();
        for room in &self.rooms {
            for (n, message) in self.host.history(&self.users[0], room).await.iter().enumerate() {
                assert_eq!(message["seq"], n + 2, "a gap in {room}");
                let key = text(&message["content"]).to_owned();
                let before = stored.insert(key.clone(), (room.clone(), message["seq"].as_i64().unwrap()));
                assert_eq!(before, None, "{key} is stored twice");
            }
        }
        for (key, place) in acked {
            assert_eq!(stored.get(key), Some(place), "{key} was acknowledged there");
        }
        println!("{} messages acknowledged, {} stored", acked.len(), stored.len());
        assert!(stored.len() - acked.len() <= USERS, "at most one message of each sender has no ack");
    }
}
