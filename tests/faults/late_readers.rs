//! Late readers: a client that the server closed for reading too slowly still receives the close code 4003. Without it,
//! the client could not tell its own slowness from a broken network.
//!
//! How: a client with a small receive buffer stops reading while others flood its room. When the metrics count it as
//! closed, it waits longer than an ordinary close waits for its peer, and then reads everything.

use crate::support::{Client, Format, PATIENCE, Received, Server, closed};
use serde_json::json;
use std::time::{Duration, Instant};

const MESSAGES: usize = 5_000;

#[tokio::test]
async fn delivers_the_close_code_to_a_client_that_reads_late() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut late = Client::slow(&server, &bob, Format::Json, 4_096).await;
    let mut writer = Client::none(&server, &ann, Format::MessagePack).await;
    let content = "x".repeat(1_024);
    for n in 1..=MESSAGES {
        let id = writer.feed("send_message", json!({"conversation_id": room, "content": content})).await;
        if n % 100 == 0 {
            writer.flush().await;
            writer.reply(id).await.unwrap();
        }
    }
    let started = Instant::now();
    loop {
        let page = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap().text().await.unwrap();
        let counts: Vec<&str> = page.lines().filter(|line| line.contains("connections_closed_total{")).collect();
        if counts.iter().any(|line| line.contains("too_slow") && line.ends_with(" 1")) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "no client was closed as too slow: {counts:#?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    let mut received = 0;
    let end = loop {
        match late.receive().await {
            Received::Frame(_) => received += 1,
            end => break end,
        }
    };
    assert_eq!(closed(&end), 4003, "after {received} frames: {end:?}");
    assert!(received < MESSAGES, "the server discards the rest of the queue");
}
