//! A server restarts on a socket that a service manager keeps: no client is refused, and nothing acknowledged is lost.
//!
//! How: the test keeps the socket, as systemd does for a unit with a `.socket`, and hands it to each process. Clients
//! connect all the time, each for one request, while the server stops and starts again three times.

use crate::support::{Client, Format, HANDS_OVER, PATIENCE, Server, User, closed, code, unique};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

const RESTARTS: usize = 3;

/// What the clients share with the test.
struct Handover {
    server: Server,
    done: AtomicBool,
    answered: AtomicUsize,
    acknowledged: AtomicUsize,
}

impl Handover {
    /// Asks over and over, each time on a connection of its own.
    async fn ask(self: Arc<Self>) {
        let client = reqwest::Client::builder().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap();
        while !self.done.load(Relaxed) {
            let answer = client.get(format!("{}/health/live", self.server.base_url)).send().await;
            assert_eq!(answer.expect("the connection is neither refused nor reset").status(), 200);
            self.answered.fetch_add(1, Relaxed);
        }
    }

    /// Sends over and over. Returns what was acknowledged, by its number.
    async fn send(self: Arc<Self>, user: User, room: String) -> BTreeMap<i64, String> {
        let mut acked = BTreeMap::new();
        let mut open = None;
        let mut key = unique("m");
        while !self.done.load(Relaxed) {
            let Some(client) = &mut open else {
                // A server that stops closes those that come last without a welcome.
                open = Client::try_open(&self.server, &user, Format::Json, "/ws").await.ok();
                continue;
            };
            let message = json!({"conversation_id": room, "content": key, "client_message_id": key});
            let id = client.send("send_message", message).await;
            match client.try_reply(id).await {
                Ok(Ok(ack)) => {
                    self.acknowledged.fetch_add(1, Relaxed);
                    acked.insert(ack["seq"].as_i64().unwrap(), std::mem::replace(&mut key, unique("m")));
                }
                Ok(Err(refusal)) => assert_eq!(code(&refusal), "overloaded", "{refusal}"),
                Err(end) => {
                    assert_eq!(closed(&end), 1001, "{end:?}");
                    open = None;
                }
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        acked
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_refused_while_the_server_restarts() {
    let server = Server::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), 2, &[]);
    let began = Instant::now();
    while !server.log().contains("using the socket of the service manager") {
        assert!(began.elapsed() < PATIENCE, "{}", server.log_tail()); // another thread writes it
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let town = Arc::new(Handover {
        server,
        done: AtomicBool::default(),
        answered: AtomicUsize::default(),
        acknowledged: AtomicUsize::default(),
    });
    let asking: Vec<_> = (0..2).map(|_| tokio::spawn(Arc::clone(&town).ask())).collect();
    let sending = tokio::spawn(Arc::clone(&town).send(ann.clone(), room.clone()));
    for _ in 0..RESTARTS {
        let (answered, acknowledged) = (town.answered.load(Relaxed), town.acknowledged.load(Relaxed));
        while town.answered.load(Relaxed) < answered + 50 || town.acknowledged.load(Relaxed) < acknowledged + 5 {
            assert!(!sending.is_finished() && asking.iter().all(|asking| !asking.is_finished()), "it has failed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        town.server.sigterm();
        tokio::task::block_in_place(|| {
            assert_eq!(town.server.wait().code(), Some(0), "{}", town.server.log_tail());
            std::thread::sleep(Duration::from_millis(200)); // nobody accepts
            town.server.start_again();
        });
    }
    town.done.store(true, Relaxed);
    for asking in asking {
        asking.await.unwrap();
    }
    let acked = sending.await.unwrap();
    let kept: BTreeMap<i64, String> = town
        .server
        .history(&ann, &room)
        .await
        .into_iter()
        .filter_map(|message| Some((message["seq"].as_i64()?, message["content"].as_str()?.to_owned())))
        .collect();
    for (seq, key) in &acked {
        assert_eq!(kept.get(seq), Some(key), "acknowledged as {seq}");
    }
    let texts: BTreeSet<&String> = kept.values().collect();
    assert_eq!(texts.len(), kept.len(), "none twice");
}

#[test]
fn a_socket_that_does_not_listen_is_refused_with_what_to_do() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let refused = std::process::Command::new("/bin/sh")
        .args(["-c", HANDS_OVER, env!("CARGO_BIN_EXE_chat-server"), "serve"])
        .env("CHAT_SERVER__DATA_DIR", folder.path())
        .current_dir(folder.path())
        .stdin(std::os::fd::OwnedFd::from(socket))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("no listening TCP socket"), "{said}");
    assert!(said.contains("ListenStream="), "{said}");
}
