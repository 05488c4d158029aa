//! Faults: after a crash of the server or of PostgreSQL, each acknowledged message is stored exactly once, and no
//! stream has a gap.
//!
//! How: senders and readers run while the test kills, stops or terminates the server or its PostgreSQL after a random
//! number of acks. Each message has its own `client_message_id`. Afterwards the senders repeat every message without an
//! ack under the same id, and the test compares the history with the acks and streams of all clients.
//! `CHAT_TEST_CRASH_ROUNDS` sets how often the server is killed, `CHAT_TEST_SEED` repeats a run.

use crate::support;
use crate::support::{Client, Format, Log, Random, Received, Server, User, code, from_env, signal, text};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const USERS: usize = 4;
const WINDOW: usize = 20;
/// The last message in each room.
const LAST_MESSAGES: [&str; 2] = ["last-0", "last-1"];

/// Users and their rooms.
struct Community {
    users: Vec<User>,
    rooms: Vec<String>,
}

impl Community {
    async fn new(server: &Server) -> Self {
        let mut users = Vec::new();
        for _ in 0..USERS {
            users.push(server.register().await);
        }
        let members: Vec<&User> = users.iter().collect();
        let rooms = vec![server.room(&members).await, server.room(&members).await];
        Self { users, rooms }
    }

    fn log(&self) -> Log {
        Log::after(self.rooms.iter().map(|room| (room.as_str(), 1)))
    }

    fn room_of(&self, key: &str) -> &str {
        // The rooms take turns; the number is the last part of the key.
        let number: usize = key.rsplit('-').next().unwrap().parse().unwrap();
        &self.rooms[number % self.rooms.len()]
    }

    fn message(&self, key: &str) -> serde_json::Value {
        json!({"conversation_id": self.room_of(key), "content": key, "client_message_id": key})
    }

    /// Fails unless the history has every acknowledged message at the acknowledged seq, nothing else, and no gap.
    async fn check(&self, server: &Server, ledgers: &[Ledger]) {
        for room in &self.rooms {
            let messages = server.history(&self.users[0], room).await;
            let mut seqs = BTreeMap::new();
            for (n, message) in messages.iter().enumerate() {
                assert_eq!(message["seq"], n + 2, "a gap in {room}");
                let key = text(&message["content"]).to_owned();
                let before = seqs.insert(key, message["seq"].as_i64().unwrap());
                assert_eq!(before, None, "{} is stored twice", message["content"]);
            }
            let mut expected = 0;
            for ledger in ledgers {
                for (key, seq) in ledger.acked.iter().filter(|(key, _)| self.room_of(key) == *room) {
                    assert_eq!(seqs.get(key), Some(seq), "{key} was acknowledged with this seq");
                    expected += 1;
                }
            }
            assert_eq!(seqs.len(), expected, "the history has messages that were not sent or not acknowledged");
        }
    }
}

/// What one sender knows about its messages.
#[derive(Default)]
struct Ledger {
    /// The number of the next message.
    next: usize,
    /// Key → seq.
    acked: BTreeMap<String, i64>,
    /// Sent, but not acknowledged.
    unknown: Vec<String>,
}

impl Ledger {
    fn record_ack(&mut self, key: String, ack: &serde_json::Value) {
        let seq = ack["seq"].as_i64().unwrap();
        assert_eq!(self.acked.insert(key, seq), None);
    }

    /// Sends until the connection ends or `finished` is set.
    async fn send_until_closed(
        &mut self,
        server: &Server,
        community: &Community,
        number: usize,
        count: &AtomicU64,
        finished: &AtomicBool,
    ) {
        let user = &community.users[number];
        let Ok(mut client) = Client::try_open(server, user, Format::ALL[number % 2], "/ws?subscribe=none").await else {
            return;
        };
        let mut waiting = VecDeque::new();
        let mut lost = false;
        while !lost {
            if !finished.load(Ordering::Relaxed) {
                let key = format!("{number}-{}", self.next);
                self.next += 1;
                waiting.push_back((client.send("send_message", community.message(&key)).await, key));
                if waiting.len() < WINDOW {
                    continue;
                }
            }
            let Some((id, key)) = waiting.pop_front() else { return };
            match client.try_reply(id).await {
                Ok(Ok(ack)) => {
                    self.record_ack(key, &ack);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Err(refusal)) => {
                    // The server is stopping or has lost PostgreSQL. The message may be stored.
                    let code = code(&refusal);
                    assert!(
                        ["storage_unavailable", "deadline_exceeded", "overloaded"].contains(&code.as_str()),
                        "{key}: {refusal}"
                    );
                    self.unknown.push(key);
                }
                Err(_) => {
                    self.unknown.push(key);
                    lost = true;
                }
            }
        }
        // Acks that arrived before the connection ended still count.
        for (id, key) in waiting {
            match client.try_reply(id).await {
                Ok(Ok(ack)) => self.record_ack(key, &ack),
                Ok(Err(_)) | Err(_) => self.unknown.push(key),
            }
        }
    }

    /// Repeats every message without an ack, under the same id. Returns how many were already stored.
    async fn resolve_unknown(&mut self, server: &Server, community: &Community, number: usize) -> usize {
        let mut client = Client::none(server, &community.users[number], Format::Json).await;
        let mut stored = 0;
        for key in std::mem::take(&mut self.unknown) {
            let ack = send_until_acked(&mut client, community, &key).await;
            stored += usize::from(ack["duplicate"] == true);
            self.record_ack(key, &ack);
        }
        stored
    }
}

/// Sends a message until it is acknowledged. Fails on errors that do not allow a retry.
async fn send_until_acked(client: &mut Client, community: &Community, key: &str) -> serde_json::Value {
    loop {
        match client.command("send_message", community.message(key)).await {
            Ok(ack) => return ack,
            Err(error) => {
                let code = code(&error);
                let temporary = ["storage_unavailable", "deadline_exceeded", "overloaded"];
                assert!(temporary.contains(&code.as_str()), "{key}: {error}");
                let wait = error["retry_after_ms"].as_u64().unwrap_or(200).min(1_000);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }
}

/// Resumes at the end of the log and reads until the connection ends.
async fn receive_until_closed(server: &Server, user: &User, format: Format, log: &mut Log) {
    let Ok(mut client) = Client::try_open(server, user, format, "/ws?subscribe=none").await else { return };
    client.send("resume", json!({"cursors": log.cursors()})).await;
    let end = client.end().await;
    assert!(!matches!(end, Received::Frame(_)));
    for event in client.take_events() {
        assert_ne!(event["type"], "reset");
        log.record(&event);
    }
}

/// Resumes at the end of the log and reads up to the last event of every room.
async fn catch_up(server: &Server, community: &Community, user: &User, format: Format, log: &mut Log) {
    let mut client = Client::none(server, user, format).await;
    client.ok("resume", json!({"cursors": log.cursors()})).await;
    for room in &community.rooms {
        let last = server.last_seq(user, room).await;
        client.follow(log, room, last).await;
    }
}

/// Waits until the senders have `least` acks.
async fn wait_for_acks(count: &AtomicU64, least: u64, server: &Server) {
    while count.load(Ordering::Relaxed) < least {
        server.must_run();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn stores_acknowledged_messages_exactly_once_when_the_server_is_killed() {
    let server = Server::start(4, &[]);
    let community = Community::new(&server).await;
    let mut random = Random::new();
    let mut ledgers: Vec<Ledger> = (0..USERS).map(|_| Ledger::default()).collect();
    let mut logs = [community.log(), community.log()];
    let rounds = from_env("CHAT_TEST_CRASH_ROUNDS", 3);
    for round in 1..=rounds {
        let (count, finished) = (AtomicU64::new(0), AtomicBool::new(false));
        let until = 50 + random.below(800);
        let [first, second] = &mut logs;
        let (senders, ..) = tokio::join!(
            join_all(
                ledgers
                    .iter_mut()
                    .enumerate()
                    .map(|(n, ledger)| ledger.send_until_closed(&server, &community, n, &count, &finished))
            ),
            receive_until_closed(&server, &community.users[0], Format::Json, first),
            receive_until_closed(&server, &community.users[1], Format::MessagePack, second),
            async {
                wait_for_acks(&count, until, &server).await;
                server.kill9();
            }
        );
        assert_eq!(senders.len(), USERS);
        let ready = server.start_again();
        let unknown: usize = ledgers.iter().map(|ledger| ledger.unknown.len()).sum();
        let mut stored = 0;
        for (number, ledger) in ledgers.iter_mut().enumerate() {
            stored += ledger.resolve_unknown(&server, &community, number).await;
        }
        let acked: usize = ledgers.iter().map(|ledger| ledger.acked.len()).sum();
        println!(
            "round {round}: killed after {until} acks, ready again after {ready:?}; {stored} of {unknown} messages \
             without an ack were stored; {acked} messages in all"
        );
        community.check(&server, &ledgers).await;
        for (n, log) in logs.iter_mut().enumerate() {
            catch_up(&server, &community, &community.users[n], Format::ALL[n], log).await;
        }
    }
}

#[tokio::test]
async fn loses_no_acknowledged_message_when_postgresql_is_killed() {
    let server = Server::start(2, &[]);
    let community = Community::new(&server).await;
    let pid = server.pid();
    let rounds = from_env("CHAT_TEST_POSTGRES_ROUNDS", 2);
    let (count, finished) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut readers = Vec::new();
    for (n, format) in Format::ALL.into_iter().enumerate() {
        readers.push(Client::all(&server, &community.users[n], format).await);
    }
    let send = |number: usize| {
        let (server, community, count, finished) = (&server, &community, &count, &finished);
        async move {
            let mut client = Client::none(server, &community.users[number], Format::ALL[number % 2]).await;
            let mut ledger = Ledger::default();
            while !finished.load(Ordering::Relaxed) {
                let key = format!("{number}-{}", ledger.next);
                ledger.next += 1;
                let ack = send_until_acked(&mut client, community, &key).await;
                ledger.record_ack(key, &ack);
                count.fetch_add(1, Ordering::Relaxed);
            }
            ledger
        }
    };
    let faults = async {
        let mut random = Random::new();
        for round in 1..=rounds {
            let until = count.load(Ordering::Relaxed) + 50 + random.below(300);
            wait_for_acks(&count, until, &server).await;
            let postmaster = server.postmaster().expect("a private PostgreSQL");
            signal(postmaster, Signal::SIGKILL);
            while server.postmaster().is_none_or(|now| now == postmaster) {
                server.must_run();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            println!("round {round}: PostgreSQL killed after {until} acks and started again");
        }
        wait_for_acks(&count, count.load(Ordering::Relaxed) + 200, &server).await;
        finished.store(true, Ordering::Relaxed);
    };
    let sending = async {
        let (mut ledgers, ()) = tokio::join!(join_all((0..USERS).map(send)), faults);
        // The last message in each room tells the readers that they have received everything.
        let mut client = Client::none(&server, &community.users[0], Format::Json).await;
        for key in LAST_MESSAGES {
            let ack = send_until_acked(&mut client, &community, key).await;
            ledgers[0].record_ack(key.to_owned(), &ack);
        }
        ledgers
    };
    let receive = |mut client: Client| {
        let mut log = community.log();
        async move {
            let mut last = 0;
            while last < LAST_MESSAGES.len() {
                let event = client.next_event().await;
                log.record(&event);
                last += usize::from(LAST_MESSAGES.iter().any(|content| event["data"]["content"] == *content));
            }
        }
    };
    let (ledgers, _) = tokio::join!(sending, join_all(readers.into_iter().map(receive)));
    assert_eq!(server.pid(), pid);
    server.must_run();
    community.check(&server, &ledgers).await;
}

/// Suspended processes, which continue when this is dropped.
struct Suspended(Vec<i32>);

impl Suspended {
    fn all(server: &Server) -> Self {
        let processes = server.postgres_processes();
        assert!(!processes.is_empty());
        // The main process first, since it would start new ones.
        for pid in &processes {
            signal(*pid, Signal::SIGSTOP);
        }
        Self(processes)
    }
}

impl Drop for Suspended {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal(*pid, Signal::SIGCONT);
        }
    }
}

#[tokio::test]
async fn answers_storage_unavailable_while_postgresql_hangs_and_recovers() {
    let server = Server::start(2, &[]);
    let community = Community::new(&server).await;
    let mut reader = Client::all(&server, &community.users[1], Format::MessagePack).await;
    let mut client = Client::none(&server, &community.users[0], Format::Json).await;
    let mut ledger = Ledger::default();
    for n in 0..10 {
        let key = format!("0-{n}");
        let ack = send_until_acked(&mut client, &community, &key).await;
        ledger.record_ack(key, &ack);
    }
    let suspended = Suspended::all(&server);
    let mut waiting = Vec::new();
    for n in 10..30 {
        let key = format!("0-{n}");
        waiting.push((client.send("send_message", community.message(&key)).await, key));
    }
    let history = client.send("get_history", json!({"conversation_id": community.rooms[0]})).await;
    for _ in 0..10 {
        client.ok("ping", json!({})).await;
    }
    let mut refused = Vec::new();
    for (id, key) in waiting {
        let error = client.reply(id).await.expect_err("PostgreSQL cannot commit");
        let code = code(&error);
        assert!(["storage_unavailable", "deadline_exceeded"].contains(&code.as_str()), "{error}");
        refused.push(key);
    }
    let error = client.reply(history).await.expect_err("PostgreSQL cannot read");
    assert_eq!(code(&error), "storage_unavailable");
    let (status, _) = server.request(reqwest::Method::GET, "/health/live", None, None).await;
    assert_eq!(status, 200);
    drop(suspended);
    for key in refused {
        let ack = send_until_acked(&mut client, &community, &key).await;
        ledger.record_ack(key, &ack);
    }
    server.must_run();
    community.check(&server, &[ledger]).await;
    let mut log = community.log();
    for room in &community.rooms {
        let last = server.last_seq(&community.users[0], room).await;
        reader.follow(&mut log, room, last).await;
    }
    reader.ok("get_history", json!({"conversation_id": community.rooms[0]})).await;
}

#[tokio::test]
async fn sends_going_away_on_sigterm_and_keeps_every_acknowledged_message() {
    let server = Server::start(4, &[]);
    let community = Community::new(&server).await;
    let mut ledgers: Vec<Ledger> = (0..USERS).map(|_| Ledger::default()).collect();
    let (count, finished) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut idle = Vec::new();
    for (n, target) in ["/ws", "/ws?conversation=room_6", "/ws?conversation=room_10"].into_iter().enumerate() {
        idle.push(Client::open(&server, &community.users[n], Format::ALL[n % 2], target).await);
    }
    let closing = async {
        let mut logs = Vec::new();
        for client in &mut idle {
            let end = client.end().await;
            assert_eq!(support::closed(&end), 1001, "{end:?}");
            let mut log = community.log();
            let events = client.take_events();
            for event in &events {
                log.record(event);
            }
            let notice =
                events.iter().find(|event| event["type"] == "going_away").expect("going_away before the close");
            assert!(notice["data"]["retry_after_ms"].as_u64().is_some(), "{notice}");
            logs.push(log);
        }
        logs
    };
    let (_, mut logs, ()) = tokio::join!(
        join_all(
            ledgers
                .iter_mut()
                .enumerate()
                .map(|(n, ledger)| ledger.send_until_closed(&server, &community, n, &count, &finished))
        ),
        closing,
        async {
            wait_for_acks(&count, 300, &server).await;
            server.sigterm();
        }
    );
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{status}\n{}", server.log_tail());
    assert_eq!(server.postmaster(), None, "the server stops its private PostgreSQL");
    server.start_again();
    for (number, ledger) in ledgers.iter_mut().enumerate() {
        ledger.resolve_unknown(&server, &community, number).await;
    }
    community.check(&server, &ledgers).await;
    for (n, log) in logs.iter_mut().enumerate() {
        catch_up(&server, &community, &community.users[n], Format::Json, log).await;
    }
}
