//! A cluster of two nodes restarts one node after the other under load: nothing is lost, and every client is back in a
//! time of its own.
//!
//! How: clients keep to what the protocol says: they wait for `retry_after_ms`, go to the other node, and resume with
//! their cursors. `CHAT_TEST_ROLLING_CLIENTS` sets their number. The test prints how long they were away, and what
//! PostgreSQL spent beside its normal use.

use super::starting::database_url;
use crate::support::redis::Redis;
use crate::support::{PATIENCE, Server, User, from_env, text};
use futures_util::future::join_all;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// Users; each has the same part of the connections.
const USERS: usize = 20;
/// Users of a room.
const MEMBERS: usize = 5;
/// Connections to a room: two of each member.
const ROOM_CONNECTIONS: usize = 2 * MEMBERS;
/// One in so many connections sends.
const SENDS_ONE_IN: usize = 4;
/// Between two messages of a connection that sends.
const SEND_EVERY: Duration = Duration::from_secs(2);

struct Town {
    nodes: Vec<Server>,
    rooms: Vec<String>,
    users: Vec<User>,
    finished: AtomicBool,
    /// Connections that have their welcome.
    connected: AtomicUsize,
    /// Refused handshakes and connections that could not be made, by reason.
    refused: Mutex<BTreeMap<String, usize>>,
    /// How long each client was away after its connection ended.
    away: Mutex<Vec<Duration>>,
    /// Room and number of each acknowledged message.
    acked: Mutex<BTreeMap<(usize, i64), String>>,
}

/// A connection of a user, over all of its sockets.
struct Resident {
    number: usize,
    /// The last number of its room that it has seen.
    seen: i64,
    sent: usize,
    unacked: Option<String>,
}

/// The index of the room of a connection. Those of one room are of the same users.
fn room_of(number: usize) -> usize {
    let group = (number % USERS) / MEMBERS;
    let floor = number / (2 * USERS);
    floor * (USERS / MEMBERS) + group
}

impl Town {
    /// Lives until the end. Fails if an event of its room is missing, comes twice or out of order.
    async fn live(self: Arc<Self>, number: usize) {
        let mut resident = Resident { number, seen: 0, sent: 0, unacked: None };
        let (mut node, mut ended, mut wait) = (number % 2, None::<Instant>, Duration::ZERO);
        loop {
            tokio::time::sleep(wait).await;
            let address = self.nodes[node].address;
            let mut request = format!("ws://{address}/ws?subscribe=none").into_client_request().unwrap();
            let bearer = format!("Bearer {}", self.users[number % USERS].token).parse().unwrap();
            request.headers_mut().insert("Authorization", bearer);
            let opened = tokio::time::timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await;
            let Ok(Ok((mut socket, _))) = opened else {
                let how = opened.map_or_else(|_| "no answer".to_owned(), |opened| opened.err().unwrap().to_string());
                *self.refused.lock().unwrap().entry(how).or_default() += 1;
                (node, wait) = ((node + 1) % 2, Duration::from_millis(200));
                continue;
            };
            let subscribe = json!({"conversation_id": self.rooms[room_of(number)], "after_seq": resident.seen});
            let subscribe = json!({"type": "subscribe", "id": "s", "data": subscribe}).to_string();
            if socket.send(Message::text(subscribe)).await.is_err() {
                (node, wait) = ((node + 1) % 2, Duration::from_millis(200));
                continue;
            }
            self.connected.fetch_add(1, Relaxed);
            if let Some(ended) = ended.take() {
                self.away.lock().unwrap().push(ended.elapsed());
            }
            wait = self.stay(&mut resident, &mut socket).await;
            self.connected.fetch_sub(1, Relaxed);
            if self.finished.load(Relaxed) {
                return;
            }
            (node, ended) = ((node + 1) % 2, Some(Instant::now()));
        }
    }

    /// Returns when to come back.
    async fn stay(
        &self,
        resident: &mut Resident,
        socket: &mut (impl StreamExt<Item = Result<Message, Error>> + SinkExt<Message> + Unpin),
    ) -> Duration {
        let mut back_ms = 200;
        let mut sends = tokio::time::interval(SEND_EVERY);
        loop {
            let received = tokio::select! {
                received = socket.next() => received,
                _ = sends.tick() => {
                    if self.finished.load(Relaxed) {
                        return Duration::ZERO;
                    }
                    // After a cut it sends the same message again.
                    if resident.number.is_multiple_of(SENDS_ONE_IN) {
                        let key = resident.unacked.clone().unwrap_or_else(|| {
                            resident.sent += 1;
                            format!("{}-{}", resident.number, resident.sent)
                        });
                        let message = json!({"conversation_id": self.rooms[room_of(resident.number)],
                            "content": key, "client_message_id": key});
                        let frame = json!({"type": "send_message", "id": key, "data": message}).to_string();
                        resident.unacked = Some(key);
                        let _ = socket.send(Message::text(frame)).await; // its end is received
                    }
                    continue;
                }
            };
            let Some(Ok(message)) = received else { return Duration::from_millis(back_ms) };
            if let Message::Close(Some(close)) = &message {
                let reason: Value = serde_json::from_str(&close.reason).unwrap();
                back_ms = reason["retry_after_ms"].as_u64().expect("the close says when to come back");
            }
            let Message::Text(frame) = message else { continue };
            let frame: Value = serde_json::from_str(&frame).unwrap();
            let data = &frame["data"];
            if frame["type"] == "ack" && frame["id"] != "s" {
                let key = text(&frame["id"]).to_owned();
                let seq = data["seq"].as_i64().unwrap();
                self.acked.lock().unwrap().insert((room_of(resident.number), seq), key);
                resident.unacked = None;
            } else if frame["type"] == "reset" {
                resident.seen = data["last_seq"].as_i64().unwrap();
            } else if let Some(seq) = data["seq"].as_i64()
                && !["ack", "caught_up", "read_updated"].contains(&text(&frame["type"]))
            {
                assert_eq!(seq, resident.seen + 1, "connection {}: {frame}", resident.number);
                resident.seen = seq;
            }
        }
    }
}

/// CPU time of PostgreSQL, in seconds.
fn postgres_cpu(host: &Server) -> f64 {
    let ticks = |pid: &i32| -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
        // utime, stime, and those of ended children: fields 14 to 17 of proc(5).
        Some(fields[11..15].iter().filter_map(|field| field.parse::<u64>().ok()).sum())
    };
    host.postgres_processes().iter().filter_map(ticks).sum::<u64>() as f64 / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_nothing_and_brings_everybody_back() {
    let clients = from_env("CHAT_TEST_ROLLING_CLIENTS", 80) as usize;
    let (redis, host) = (Redis::start(), Server::start(1, &[("database.shared", "true")]));
    let (database, redis_url) = (database_url(&host), redis.url());
    let settings = [
        ("database.url", database.as_str()),
        ("database.shared", "true"),
        ("cluster.redis_url", redis_url.as_str()),
        ("limits.max_connections_per_network", "100000"),
    ];
    let nodes: Vec<Server> = (0..2).map(|_| Server::start(2, &settings)).collect();
    let users = host.register_many(USERS).await;
    let mut rooms = Vec::new();
    for room in 0..clients.div_ceil(ROOM_CONNECTIONS) {
        let group = room % (USERS / MEMBERS);
        rooms.push(host.room(&users[group * MEMBERS..][..MEMBERS].iter().collect::<Vec<_>>()).await);
    }
    let town = Arc::new(Town {
        nodes,
        rooms,
        users,
        finished: AtomicBool::default(),
        connected: AtomicUsize::default(),
        refused: Mutex::default(),
        away: Mutex::default(),
        acked: Mutex::default(),
    });
    let residents: Vec<_> = (0..clients).map(|number| tokio::spawn(Arc::clone(&town).live(number))).collect();
    let everybody = async |what: &str| {
        let began = Instant::now();
        while town.connected.load(Relaxed) < clients {
            assert!(began.elapsed() < 4 * PATIENCE, "{what}: {} of {clients}", town.connected.load(Relaxed));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    everybody("at the start").await;
    let normal = Duration::from_secs(if clients > 1_000 { 10 } else { 2 });
    tokio::time::sleep(normal).await; // what the start has left behind
    let (before, began) = (postgres_cpu(&host), Instant::now());
    tokio::time::sleep(normal).await;
    let normally = (postgres_cpu(&host) - before) / began.elapsed().as_secs_f64();
    for number in 0..2 {
        let (before, began) = (postgres_cpu(&host), Instant::now());
        town.nodes[number].sigterm();
        tokio::task::block_in_place(|| assert_eq!(town.nodes[number].wait().code(), Some(0)));
        let stopped = began.elapsed();
        tokio::task::block_in_place(|| town.nodes[number].start_again());
        everybody("after a restart").await;
        let took = began.elapsed();
        let used = (postgres_cpu(&host) - before) / took.as_secs_f64();
        println!(
            "node {number}: stopped after {stopped:?}, everybody back after {took:?}; PostgreSQL used {used:.2} \
            cores, normally {normally:.2}"
        );
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    town.finished.store(true, Relaxed);
    for ended in join_all(residents).await {
        ended.expect("nothing is missing, twice or out of order");
    }
    let mut away = town.away.lock().unwrap().clone();
    away.sort();
    assert!(away.len() >= clients, "{} of {clients} had to come back", away.len());
    let at = |percent: usize| away[(away.len() - 1) * percent / 100];
    println!(
        "away: P50 {:?}, P99 {:?}, longest {:?}; refused attempts: {:?}",
        at(50),
        at(99),
        at(100),
        town.refused.lock().unwrap()
    );
    let acked = town.acked.lock().unwrap().clone();
    for (room, id) in town.rooms.iter().enumerate() {
        let kept: BTreeMap<i64, String> = host
            .history(&town.users[room % (USERS / MEMBERS) * MEMBERS], id)
            .await
            .iter()
            .map(|message| (message["seq"].as_i64().unwrap(), message["content"].as_str().unwrap_or("").to_owned()))
            .collect();
        let mut keys: Vec<&String> = kept.values().filter(|key| key.contains('-')).collect();
        for ((_, seq), key) in acked.range((room, 0)..(room + 1, 0)) {
            assert_eq!(kept.get(seq), Some(key), "acknowledged as {seq} of room {room}");
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all, "none twice");
    }
    println!("{} messages acknowledged, none lost", acked.len());
    assert!(acked.len() >= clients / SENDS_ONE_IN);
}
