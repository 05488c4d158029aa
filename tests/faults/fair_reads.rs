//! Fair reads: the server refuses or delays a flood of reads of one user, and refuses no command of other users.
//!
//! How: one server has the default rate limits. Others have limits so high that only the scheduler of reads protects
//! ordinary users. The tests hold locks to make reads slow.

use crate::support::{Client, Format, PATIENCE, Server, User, code, text};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

/// The number of commands that a connection may have in flight.
const IN_FLIGHT: usize = 256;

/// A server with the default rate limits.
fn start_with_default_limits() -> Server {
    Server::start(2, &[("limits.max_messages_per_minute", "60"), ("limits.max_connections_per_user", "5")])
}

/// The reads of a web client that starts and opens a room.
async fn read_as_web_client(client: &mut Client, room: &str) {
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

/// Sends commands until it is aborted. Every refusal must have a code of overload and a time to retry.
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
async fn limits_the_reads_of_a_flood_and_not_of_ordinary_use() {
    let server = start_with_default_limits();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut client = Client::all(&server, &ann, Format::Json).await;
    for _ in 0..10 {
        read_as_web_client(&mut client, &room).await;
    }
    for _ in 0..60 {
        client.ok("get_history", json!({"conversation_id": room})).await; // as many as in half a minute at two a second
    }
    let mut refused = Vec::new();
    let ids = send_many(&mut client, 250, "get_history", &json!({"conversation_id": room})).await;
    for id in ids {
        refused.extend(client.reply(id).await.err());
    }
    assert!(!refused.is_empty(), "390 reads at once exceed the limit of 300");
    for refusal in &refused {
        assert_eq!(code(refusal), "rate_limited");
        assert!(text(&refusal["message"]).contains("1200 reads"), "the message has the limit: {refusal}");
        assert!(refusal["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{refusal}");
    }
    let message = json!({"conversation_id": room, "content": "other limits are not used up"});
    client.ok("send_message", message).await;
    // The limit also holds over HTTP. A search counts as ten reads.
    let searches = join_all((0..60).map(|_| server.call(&ann, "search_messages", json!({"query": "budgets"})))).await;
    let refused: Vec<Value> = searches.into_iter().filter_map(Result::err).collect();
    assert!(!refused.is_empty() && refused.iter().all(|refusal| code(refusal) == "rate_limited"), "{refused:?}");
}

/// Sends `count` commands without waiting for replies. Returns their ids.
async fn send_many(client: &mut Client, count: usize, kind: &str, data: &Value) -> Vec<i64> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.feed(kind, data.clone()).await);
    }
    client.flush().await;
    ids
}

#[tokio::test]
async fn refuses_no_command_of_others_during_floods_of_reads() {
    let server = Server::start(1, &[("limits.max_connections_per_user", "5")]);
    let (ann, eve, mal) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann]).await;
    let other = server.room(&[&eve, &mal]).await;
    for n in 0..20 {
        let content = format!("word{n} {}", "a-".repeat(1_000));
        server.ok(&eve, "send_message", json!({"conversation_id": other, "content": content})).await;
        server.ok(&ann, "send_message", json!({"conversation_id": room, "content": content})).await;
    }
    let mut floods = Vec::new();
    for user in [&eve, &mal] {
        for (kind, data) in [
            ("search_messages", json!({"query": "word"})),
            ("list_conversations", json!({})),
            ("list_members", json!({"conversation_id": other})),
        ] {
            let client = Client::none(&server, user, Format::Json).await;
            floods.push(tokio::spawn(flood(client, kind, data)));
        }
    }
    for n in 0..20 {
        let mut client = Client::all(&server, &ann, Format::MessagePack).await;
        let page = client.ok("get_history", json!({"conversation_id": room})).await;
        assert_eq!(page["messages"].as_array().unwrap().len(), 20 + n);
        let sent = json!({"conversation_id": room, "content": format!("during the flood {n}")});
        client.ok("send_message", sent).await;
        client.ok("search_messages", json!({"query": "flood"})).await;
        client.close().await;
    }
    for flood in &floods {
        assert!(!flood.is_finished(), "a flood received an unexpected answer");
        flood.abort();
    }
    let (_, page) = metrics(&server).await;
    for queue in ["reads_catch_up", "reads_page", "reads_search", "reads_administration", "commits", "admissions"] {
        assert!(page.contains(&format!("chat_server_queue_length{{queue=\"{queue}\"")), "{queue}");
        assert!(page.contains(&format!("chat_server_queue_oldest_seconds{{queue=\"{queue}\"")), "{queue}");
    }
}

#[tokio::test]
async fn bounds_the_cost_of_a_search_before_it_starts() {
    let server = Server::start(1, &[]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let content = "a-".repeat(2_000);
    let sent = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": content})).await;
    let late = format!("{} the needle is here {}", "hay ".repeat(400), "straw ".repeat(300));
    let other = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": late})).await;
    for phrase in ["a-".repeat(20), "a-".repeat(90), "a ".repeat(90), format!("a {}", "a-".repeat(60))] {
        for query in [format!("\"{}\"", phrase.trim()), phrase.trim().to_owned()] {
            let found = server.found_in_time(&ann, &query, 1).await;
            assert_eq!(found["messages"][0]["message_id"], sent["message_id"], "{query}");
            let shown = text(&found["messages"][0]["highlight"]);
            assert!(shown.contains('\u{e000}') && shown.chars().count() < 1_000, "{query}: {shown}");
        }
    }
    let found = server.found_in_time(&ann, "\"needle is\"", 1).await;
    assert_eq!(found["messages"][0]["message_id"], other["message_id"]);
    let shown = text(&found["messages"][0]["highlight"]);
    assert!(shown.contains("\u{e000}needle\u{e001}"), "the highlight shows a match late in the text: {shown}");
    // PostgreSQL gets a bounded number of words to match and to highlight.
    let database = server.database().await;
    let newest = "SELECT name FROM rule_sets LIMIT 1";
    let rules: String = database.query_one(newest, &[]).await.unwrap().get(0);
    database.batch_execute(&format!("SET search_path = {rules}, public")).await.unwrap();
    let sizes = "SELECT numnode(search_words($1)), numnode(highlight_words(search_words($1)))";
    for query in ["a-".repeat(100), format!("\"{}\"", "ab-".repeat(60)), format!("\"{}\"", "a b ".repeat(50))] {
        let row = database.query_one(sizes, &[&query]).await.unwrap();
        let (matched, marked): (i32, i32) = (row.get(0), row.get(1));
        assert!(matched <= 2 * 17 && marked <= 2 * 10, "{query}: {matched} and {marked} nodes");
    }
}

/// The value of a metric without labels.
async fn gauge(server: &Server, name: &str) -> f64 {
    let (_, page) = metrics(server).await;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

#[tokio::test]
async fn skips_or_truncates_messages_that_cannot_be_indexed() {
    let server = Server::start(
        1,
        &[
            ("limits.max_message_length", "300000"),
            ("limits.max_frame_bytes", "4000000"),
            ("limits.max_outbound_queue_bytes", "16000000"),
        ],
    );
    let ann = server.register().await;
    let (room, other) = (server.room(&[&ann]).await, server.room(&[&ann]).await);
    let database = server.database().await;
    database.batch_execute("ALTER TABLE message_search ADD CONSTRAINT odd CHECK (text <> 'poison')").await.unwrap();
    // Distinct letters with spaces between them. Their tsvector would exceed one megabyte.
    let letters = (0..149_000_u32).filter_map(|n| char::from_u32(0x2_0000 + n % 42_000));
    let huge: String = letters.flat_map(|letter| [letter, ' ']).collect();
    let mut client = Client::none(&server, &ann, Format::Json).await;
    for content in ["first", "poison", &huge, "last"] {
        client.ok("send_message", json!({"conversation_id": room, "content": content})).await;
    }
    client.ok("send_message", json!({"conversation_id": other, "content": "elsewhere"})).await;
    for query in ["first", "last", "elsewhere", "\u{20000}"] {
        server.found_in_time(&ann, query, 1).await;
    }
    server.found_in_time(&ann, "poison", 0).await;
    assert!((gauge(&server, "chat_server_search_passed_over_total").await - 1.0).abs() < f64::EPSILON);
    let started = std::time::Instant::now();
    while gauge(&server, "chat_server_search_lag_seconds").await > 0.0 {
        assert!(started.elapsed() < PATIENCE, "the index does not catch up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.log().lines().filter(|line| line.contains("cannot be indexed")).count(), 1);
}

#[tokio::test]
async fn reports_the_lag_of_the_search_index() {
    let server = Server::start(1, &[]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut locker = server.database().await;
    let lock = locker.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE message_search IN ACCESS EXCLUSIVE MODE").await.unwrap();
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "unseen"})).await;
    let started = std::time::Instant::now();
    while gauge(&server, "chat_server_search_lag_seconds").await < 1.0 {
        assert!(started.elapsed() < PATIENCE, "the lag does not grow");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    lock.rollback().await.unwrap();
    server.found_in_time(&ann, "unseen", 1).await;
}

async fn metrics(server: &Server) -> (u16, String) {
    let answer = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// The number of statements of readers that PostgreSQL executes.
async fn active_reads(database: &tokio_postgres::Client) -> i64 {
    let active = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'veza chat_app' AND state = 'active'";
    database.query_one(active, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn refuses_reads_at_their_deadline_and_cancels_their_statements() {
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
    let mut pending = Vec::new();
    for client in &mut clients {
        // Some wait for the lock, the others for a connection. All reach their deadline.
        pending.push(send_many(client, 4, "get_history", &json!({"conversation_id": room})).await);
    }
    for (client, ids) in clients.iter_mut().zip(pending) {
        for id in ids {
            let refusal = client.reply(id).await.unwrap_err();
            assert_eq!(code(&refusal), "storage_unavailable", "{refusal}");
            assert!(refusal["retry_after_ms"].as_u64().is_some(), "{refusal}");
        }
    }
    let started = std::time::Instant::now();
    while active_reads(&database).await > 0 {
        assert!(started.elapsed() < PATIENCE, "statements of refused reads still run");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    lock.rollback().await.unwrap();
    clients[0].ok("get_history", json!({"conversation_id": room})).await;
}
