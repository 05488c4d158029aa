//! Reads are shared fairly: a flood of one user's is refused or waits, and nobody else is refused anything for it.
//!
//! How: the first server has the configuration's default budgets, the second has none worth mentioning, so that what
//! protects the others there is the scheduler of reads alone. Slow reads are made by a lock that the test holds.
#![cfg(feature = "test-db")]

mod support;

use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use support::{Client, Format, PATIENCE, Server, User, code, text};

/// As many as a connection may have in flight.
const IN_FLIGHT: usize = 256;

/// A server with the budgets that the configuration gives by default.
fn with_default_budgets() -> Server {
    Server::start(2, &[("limits.max_messages_per_minute", "60"), ("limits.max_connections_per_user", "5")])
}

/// What a web client asks for when it starts and opens a room.
async fn open_a_room(client: &mut Client, room: &str) {
    let of_room = json!({"conversation_id": room});
    for (kind, data) in [
        ("list_conversations", json!({})),
        ("list_blocks", json!({})),
        ("list_join_requests", json!({})),
        ("list_mentions", json!({})),
        ("get_history", of_room.clone()),
        ("list_members", of_room.clone()),
        ("list_pins", of_room.clone()),
        ("list_threads", of_room),
    ] {
        client.ok(kind, data).await;
    }
}

/// Keeps asking until `flood.abort()`; every refusal must name the budget or the bound, and when to try again.
async fn flood(mut client: Client, kind: &'static str, data: Value) -> ! {
    let mut waiting: Vec<i64> = Vec::new();
    loop {
        while waiting.len() < IN_FLIGHT {
            waiting.push(client.feed(kind, data.clone()).await);
        }
        client.flush().await;
        for id in waiting.drain(..) {
            if let Err(refusal) = client.reply(id).await {
                let code = code(&refusal);
                assert!(["rate_limited", "overloaded", "storage_unavailable"].contains(&code.as_str()), "{refusal}");
                assert!(refusal["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{refusal}");
            }
        }
    }
}

#[tokio::test]
async fn ordinary_use_never_meets_the_budget_of_reads_and_a_flood_does() {
    let server = with_default_budgets();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut client = Client::all(&server, &ann, Format::Json).await;
    for _ in 0..10 {
        open_a_room(&mut client, &room).await;
    }
    for _ in 0..60 {
        client.ok("get_history", json!({"conversation_id": room})).await; // half a minute of two a second, at once
    }
    let mut refused = Vec::new();
    let ids = join_ids(&mut client, 250, "get_history", &json!({"conversation_id": room})).await;
    for id in ids {
        refused.extend(client.reply(id).await.err());
    }
    assert!(!refused.is_empty(), "390 reads at once are more than the budget of 300");
    for refusal in &refused {
        assert_eq!(code(refusal), "rate_limited");
        assert!(text(&refusal["message"]).contains("1200 reads"), "it names the budget: {refusal}");
        assert!(refusal["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{refusal}");
    }
    let message = json!({"conversation_id": room, "content": "other budgets are untouched"});
    client.ok("send_message", message).await;
    // Over HTTP the budget is the same; a search costs ten times what a page does.
    let searches = join_all((0..60).map(|_| server.call(&ann, "search_messages", json!({"query": "budgets"})))).await;
    let refused: Vec<Value> = searches.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty() && refused.iter().all(|refusal| code(refusal) == "rate_limited"), "{refused:?}");
}

/// Sends `count` commands of one kind without waiting.
async fn join_ids(client: &mut Client, count: usize, kind: &str, data: &Value) -> Vec<i64> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.feed(kind, data.clone()).await);
    }
    client.flush().await;
    ids
}

#[tokio::test]
async fn floods_of_reads_refuse_nobody_else() {
    let server = Server::start(1, &[("limits.max_connections_per_user", "5")]);
    let (ann, eve, mal) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann]).await;
    let den = server.room(&[&eve, &mal]).await;
    for n in 0..20 {
        let content = format!("word{n} {}", "a-".repeat(1_000));
        server.ok(&eve, "send_message", json!({"conversation_id": den, "content": content})).await;
        server.ok(&ann, "send_message", json!({"conversation_id": room, "content": content})).await;
    }
    let mut floods = Vec::new();
    for user in [&eve, &mal] {
        for (kind, data) in [
            ("search_messages", json!({"query": "word"})),
            ("list_conversations", json!({})),
            ("list_members", json!({"conversation_id": den})),
        ] {
            let client = Client::none(&server, user, Format::Json).await;
            floods.push(tokio::spawn(flood(client, kind, data)));
        }
    }
    for n in 0..20 {
        let mut client = Client::all(&server, &ann, Format::MessagePack).await;
        let page = client.ok("get_history", json!({"conversation_id": room})).await;
        assert_eq!(page["messages"].as_array().unwrap().len(), 20 + n);
        let sent = json!({"conversation_id": room, "content": format!("beside the flood {n}")});
        client.ok("send_message", sent).await;
        client.ok("search_messages", json!({"query": "flood"})).await;
        client.close().await;
    }
    for flood in &floods {
        assert!(!flood.is_finished(), "a flood met an answer that it should not have");
        flood.abort();
    }
    let (_, page) = metrics(&server).await;
    for queue in ["reads_catch_up", "reads_page", "reads_search", "reads_administration", "commits", "admissions"] {
        assert!(page.contains(&format!("chat_server_queue_length{{queue=\"{queue}\"}}")), "{queue}");
        assert!(page.contains(&format!("chat_server_queue_oldest_seconds{{queue=\"{queue}\"}}")), "{queue}");
    }
}

async fn metrics(server: &Server) -> (u16, String) {
    let answer = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Statements of readers that are under way in PostgreSQL.
async fn active_reads(database: &tokio_postgres::Client) -> i64 {
    let active = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'veza chat_app' AND state = 'active'";
    database.query_one(active, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_read_that_runs_out_of_time_is_refused_and_its_statement_ends() {
    let server = Server::start(1, &[]);
    let users: Vec<User> = join_all((0..3).map(|_| server.register())).await;
    let room = server.room(&users.iter().collect::<Vec<_>>()).await;
    let mut clients = Vec::new();
    for user in &users {
        clients.push(Client::none(&server, user, Format::Json).await);
    }
    let mut locker = server.database().await;
    let database = server.database().await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut asked = Vec::new();
    for client in &mut clients {
        // Some wait for the lock and more wait for their turn: both run out of time.
        asked.push(join_ids(client, 4, "get_history", &json!({"conversation_id": room})).await);
    }
    for (client, ids) in clients.iter_mut().zip(asked) {
        for id in ids {
            let refusal = client.reply(id).await.unwrap_err();
            assert_eq!(code(&refusal), "storage_unavailable", "{refusal}");
            assert!(refusal["retry_after_ms"].as_u64().is_some(), "{refusal}");
        }
    }
    let started = std::time::Instant::now();
    while active_reads(&database).await > 0 {
        assert!(started.elapsed() < PATIENCE, "statements that nobody waits for go on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lock.rollback().await.unwrap();
    clients[0].ok("get_history", json!({"conversation_id": room})).await;
}
