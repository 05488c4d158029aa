//! Faults: whatever dies, and whenever, an acknowledged message is there exactly once and nobody's stream has a gap.
//!
//! How: senders, each message with a `client_message_id` of its own, and readers run while the server or its PostgreSQL is
//! killed, stopped or told to end after a random number of acknowledgements. Afterwards everything that was not
//! acknowledged is sent again under the same id, and the history is compared with what every client holds.
//! `CHAT_TEST_CRASH_ROUNDS` sets how often the server is killed, `CHAT_TEST_SEED` repeats a run.
#![cfg(feature = "test-db")]

mod support;

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use support::{Client, Format, Log, Random, Received, Server, User, code, from_env, signal, text};

const USERS: usize = 4;
const WINDOW: usize = 20;
const LAST_WORDS: [&str; 2] = ["last-0", "last-1"];

struct Town {
    users: Vec<User>,
    rooms: Vec<String>,
}

impl Town {
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
        // By turns; the number is the key's last part.
        let number: usize = key.rsplit('-').next().unwrap().parse().unwrap();
        &self.rooms[number % self.rooms.len()]
    }

    fn message(&self, key: &str) -> serde_json::Value {
        json!({"conversation_id": self.room_of(key), "content": key, "client_message_id": key})
    }

    /// Every acknowledged message is in the history at its place, every other one that was sent at most once (exactly
    /// once after it was sent again), and there are no gaps.
    async fn check(&self, server: &Server, books: &[Book]) {
        for room in &self.rooms {
            let messages = server.history(&self.users[0], room).await;
            let mut places = BTreeMap::new();
            for (n, message) in messages.iter().enumerate() {
                assert_eq!(message["seq"], n + 2, "a gap in {room}");
                let key = text(&message["content"]).to_owned();
                let before = places.insert(key, message["seq"].as_i64().unwrap());
                assert_eq!(before, None, "{} is there twice", message["content"]);
            }
            let mut expected = 0;
            for book in books {
                for (key, seq) in book.acked.iter().filter(|(key, _)| self.room_of(key) == *room) {
                    assert_eq!(places.get(key), Some(seq), "{key} was acknowledged with this seq");
                    expected += 1;
                }
            }
            assert_eq!(places.len(), expected, "messages that nobody sent, or that were never acknowledged");
        }
    }
}

/// What one sender knows.
#[derive(Default)]
struct Book {
    next: usize,
    acked: BTreeMap<String, i64>,
    unknown: Vec<String>,
}

impl Book {
    fn acknowledged(&mut self, key: String, ack: &serde_json::Value) {
        let seq = ack["seq"].as_i64().unwrap();
        assert_eq!(self.acked.insert(key, seq), None);
    }

    /// Sends until the connection ends or `over` is set.
    async fn send_on(&mut self, server: &Server, town: &Town, number: usize, count: &AtomicU64, over: &AtomicBool) {
        let user = &town.users[number];
        let Ok(mut client) = Client::try_open(server, user, Format::ALL[number % 2], "/ws?subscribe=none").await else {
            return;
        };
        let mut waiting = VecDeque::new();
        let mut lost = false;
        while !lost {
            if !over.load(Ordering::Relaxed) {
                let key = format!("{number}-{}", self.next);
                self.next += 1;
                waiting.push_back((client.send("send_message", town.message(&key)).await, key));
                if waiting.len() < WINDOW {
                    continue;
                }
            }
            let Some((id, key)) = waiting.pop_front() else { return };
            match client.try_reply(id).await {
                Ok(Ok(ack)) => {
                    self.acknowledged(key, &ack);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Ok(Err(refusal)) => {
                    // The server was ending, or has lost its store: the sender may not know.
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
        // Acks that were read before the end still count.
        for (id, key) in waiting {
            match client.try_reply(id).await {
                Ok(Ok(ack)) => self.acknowledged(key, &ack),
                Ok(Err(_)) | Err(_) => self.unknown.push(key),
            }
        }
    }

    /// Sends again what is not known, under the same id, until it is.
    async fn settle(&mut self, server: &Server, town: &Town, number: usize) -> usize {
        let mut client = Client::none(server, &town.users[number], Format::Json).await;
        let mut already = 0;
        for key in std::mem::take(&mut self.unknown) {
            let ack = insist(&mut client, town, &key).await;
            already += usize::from(ack["duplicate"] == true);
            self.acknowledged(key, &ack);
        }
        already
    }
}

/// Sends a message until it is acknowledged; only refusals that say that it may be repeated are accepted.
async fn insist(client: &mut Client, town: &Town, key: &str) -> serde_json::Value {
    loop {
        match client.command("send_message", town.message(key)).await {
            Ok(ack) => return ack,
            Err(refusal) => {
                let code = code(&refusal);
                let temporary = ["storage_unavailable", "deadline_exceeded", "overloaded"];
                assert!(temporary.contains(&code.as_str()), "{key}: {refusal}");
                let wait = refusal["retry_after_ms"].as_u64().unwrap_or(200).min(1_000);
                tokio::time::sleep(Duration::from_millis(wait)).await;
            }
        }
    }
}

/// Resumes where the log ends and reads until the connection ends.
async fn listen_on(server: &Server, user: &User, format: Format, log: &mut Log) {
    let Ok(mut client) = Client::try_open(server, user, format, "/ws?subscribe=none").await else { return };
    client.send("resume", json!({"cursors": log.cursors()})).await;
    let end = client.end().await;
    assert!(!matches!(end, Received::Frame(_)));
    for event in client.take_events() {
        assert_ne!(event["type"], "reset");
        log.saw(&event);
    }
}

/// Resumes where the log ends and reads up to the end of every room.
async fn catch_up(server: &Server, town: &Town, user: &User, format: Format, log: &mut Log) {
    let mut client = Client::none(server, user, format).await;
    client.ok("resume", json!({"cursors": log.cursors()})).await;
    for room in &town.rooms {
        let last = server.last_seq(user, room).await;
        client.follow(log, room, last).await;
    }
}

async fn reached(count: &AtomicU64, least: u64, server: &Server) {
    while count.load(Ordering::Relaxed) < least {
        server.must_run();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_killed_server_has_lost_and_doubled_nothing() {
    let server = Server::start(4, &[]);
    let town = Town::new(&server).await;
    let mut random = Random::new();
    let mut books: Vec<Book> = (0..USERS).map(|_| Book::default()).collect();
    let mut logs = [town.log(), town.log()];
    let rounds = from_env("CHAT_TEST_CRASH_ROUNDS", 3);
    for round in 1..=rounds {
        let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let until = 50 + random.below(800);
        let [first, second] = &mut logs;
        let (senders, ..) = tokio::join!(
            join_all(books.iter_mut().enumerate().map(|(n, book)| book.send_on(&server, &town, n, &count, &over))),
            listen_on(&server, &town.users[0], Format::Json, first),
            listen_on(&server, &town.users[1], Format::MessagePack, second),
            async {
                reached(&count, until, &server).await;
                server.kill9();
            }
        );
        assert_eq!(senders.len(), USERS);
        let ready = server.start_again();
        let unknown: usize = books.iter().map(|book| book.unknown.len()).sum();
        let mut already = 0;
        for (number, book) in books.iter_mut().enumerate() {
            already += book.settle(&server, &town, number).await;
        }
        let acked: usize = books.iter().map(|book| book.acked.len()).sum();
        println!(
            "round {round}: killed after {until} acks, ready again after {ready:?}; of {unknown} unanswered {already} had \
             been committed; {acked} messages in all"
        );
        town.check(&server, &books).await;
        for (n, log) in logs.iter_mut().enumerate() {
            catch_up(&server, &town, &town.users[n], Format::ALL[n], log).await;
        }
    }
}

#[tokio::test]
async fn a_killed_postgresql_is_an_interruption_and_nothing_more() {
    let server = Server::start(2, &[]);
    let town = Town::new(&server).await;
    let pid = server.pid();
    let rounds = from_env("CHAT_TEST_POSTGRES_ROUNDS", 2);
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut listeners = Vec::new();
    for (n, format) in Format::ALL.into_iter().enumerate() {
        listeners.push(Client::all(&server, &town.users[n], format).await);
    }
    let talk = |number: usize| {
        let (server, town, count, over) = (&server, &town, &count, &over);
        async move {
            let mut client = Client::none(server, &town.users[number], Format::ALL[number % 2]).await;
            let mut book = Book::default();
            while !over.load(Ordering::Relaxed) {
                let key = format!("{number}-{}", book.next);
                book.next += 1;
                let ack = insist(&mut client, town, &key).await;
                book.acknowledged(key, &ack);
                count.fetch_add(1, Ordering::Relaxed);
            }
            book
        }
    };
    let faults = async {
        let mut random = Random::new();
        for round in 1..=rounds {
            let until = count.load(Ordering::Relaxed) + 50 + random.below(300);
            reached(&count, until, &server).await;
            let postmaster = server.postmaster().expect("a private PostgreSQL");
            signal(postmaster, Signal::SIGKILL);
            while server.postmaster().is_none_or(|now| now == postmaster) {
                server.must_run();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            println!("round {round}: PostgreSQL killed after {until} acks, and started again");
        }
        reached(&count, count.load(Ordering::Relaxed) + 200, &server).await;
        over.store(true, Ordering::Relaxed);
    };
    let talked = async {
        let (mut books, ()) = tokio::join!(join_all((0..USERS).map(talk)), faults);
        // The last words, one in each room, tell the readers that nothing more comes.
        let mut client = Client::none(&server, &town.users[0], Format::Json).await;
        for key in LAST_WORDS {
            let ack = insist(&mut client, &town, key).await;
            books[0].acknowledged(key.to_owned(), &ack);
        }
        books
    };
    let listen = |mut client: Client| {
        let mut log = town.log();
        async move {
            let mut over = 0;
            while over < LAST_WORDS.len() {
                let event = client.next_event().await;
                log.saw(&event);
                over += usize::from(LAST_WORDS.iter().any(|words| event["data"]["content"] == *words));
            }
        }
    };
    let (books, _) = tokio::join!(talked, join_all(listeners.into_iter().map(listen)));
    assert_eq!(server.pid(), pid);
    server.must_run();
    town.check(&server, &books).await;
}

/// Lets stopped processes go on, whatever happens to the test.
struct Stopped(Vec<i32>);

impl Stopped {
    fn all(server: &Server) -> Self {
        let processes = server.postgres_processes();
        assert!(!processes.is_empty());
        // The main process first: it would start new ones.
        for pid in &processes {
            signal(*pid, Signal::SIGSTOP);
        }
        Self(processes)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        for pid in &self.0 {
            signal(*pid, Signal::SIGCONT);
        }
    }
}

#[tokio::test]
async fn a_postgresql_that_hangs_is_reported_and_recovered_from() {
    let server = Server::start(2, &[]);
    let town = Town::new(&server).await;
    let mut reader = Client::all(&server, &town.users[1], Format::MessagePack).await;
    let mut client = Client::none(&server, &town.users[0], Format::Json).await;
    let mut book = Book::default();
    for n in 0..10 {
        let key = format!("0-{n}");
        let ack = insist(&mut client, &town, &key).await;
        book.acknowledged(key, &ack);
    }
    let stopped = Stopped::all(&server);
    let hang = tokio::time::sleep(Duration::from_secs(7));
    let mut waiting = Vec::new();
    for n in 10..30 {
        let key = format!("0-{n}");
        waiting.push((client.send("send_message", town.message(&key)).await, key));
    }
    let history = client.send("get_history", json!({"conversation_id": town.rooms[0]})).await;
    let answers_meanwhile = async {
        for _ in 0..10 {
            client.ok("ping", json!({})).await;
        }
        let mut refused = Vec::new();
        for (id, key) in waiting {
            let refusal = client.reply(id).await.expect_err("nothing can be committed");
            let code = code(&refusal);
            assert!(["storage_unavailable", "deadline_exceeded"].contains(&code.as_str()), "{refusal}");
            refused.push(key);
        }
        let refusal = client.reply(history).await.expect_err("nothing can be read");
        assert_eq!(code(&refusal), "storage_unavailable");
        let (status, _) = server.request(reqwest::Method::GET, "/health/live", None, None).await;
        assert_eq!(status, 200);
        refused
    };
    let ((), refused) = tokio::join!(hang, answers_meanwhile);
    drop(stopped);
    for key in refused {
        let ack = insist(&mut client, &town, &key).await;
        book.acknowledged(key, &ack);
    }
    server.must_run();
    town.check(&server, &[book]).await;
    let mut log = town.log();
    for room in &town.rooms {
        let last = server.last_seq(&town.users[0], room).await;
        reader.follow(&mut log, room, last).await;
    }
    reader.ok("get_history", json!({"conversation_id": town.rooms[0]})).await;
}

#[tokio::test]
async fn a_planned_stop_says_so_and_keeps_every_acknowledged_message() {
    let server = Server::start(4, &[]);
    let town = Town::new(&server).await;
    let mut books: Vec<Book> = (0..USERS).map(|_| Book::default()).collect();
    let (count, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut idle = Vec::new();
    for (n, target) in ["/ws", "/ws?conversation=room_6", "/ws?conversation=room_10"].into_iter().enumerate() {
        idle.push(Client::open(&server, &town.users[n], Format::ALL[n % 2], target).await);
    }
    let goodbyes = async {
        let mut logs = Vec::new();
        for client in &mut idle {
            let end = client.end().await;
            assert_eq!(support::closed(&end), 1001, "{end:?}");
            let mut log = town.log();
            let events = client.take_events();
            for event in &events {
                log.saw(event);
            }
            let goodbye = events.iter().find(|event| event["type"] == "going_away").expect("a goodbye first");
            assert!(goodbye["data"]["retry_after_ms"].as_u64().is_some(), "{goodbye}");
            logs.push(log);
        }
        logs
    };
    let (_, mut logs, ()) = tokio::join!(
        join_all(books.iter_mut().enumerate().map(|(n, book)| book.send_on(&server, &town, n, &count, &over))),
        goodbyes,
        async {
            reached(&count, 300, &server).await;
            server.sigterm();
        }
    );
    let status = server.wait();
    assert_eq!(status.code(), Some(0), "{status}\n{}", server.log_tail());
    assert_eq!(server.postmaster(), None, "the private PostgreSQL has ended with it");
    server.start_again();
    for (number, book) in books.iter_mut().enumerate() {
        book.settle(&server, &town, number).await;
    }
    town.check(&server, &books).await;
    for (n, log) in logs.iter_mut().enumerate() {
        catch_up(&server, &town, &town.users[n], Format::Json, log).await;
    }
}
