//! Under an overload everybody has a part of the limits, until work does not wait any longer.
//!
//! How: a lock of the table of messages holds reads or changes up, as a slow PostgreSQL would. Everything that waited
//! has waited for as long as the lock was held.

use crate::support::{Client, Format, PATIENCE, Server, User};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A little more than the server's window.
const WINDOW: Duration = Duration::from_millis(650);

async fn percent(server: &Server, admin: &User, work: &str) -> i64 {
    let path = format!("/admin/users/{}/limits", admin.id);
    let (status, shown) = server.request(Method::GET, &path, Some(&admin.token), None).await;
    assert_eq!(status, 200, "{shown}");
    shown["overload"][work].as_i64().unwrap()
}

/// Sends ten commands of each client while the table is locked; all of them are answered after that.
async fn held_up(server: &Server, clients: &mut [Client], command: &str, data: &Value) {
    let mut database = server.database().await;
    let lock = database.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // PostgreSQL holds this one up; what follows waits behind it.
    let first = clients[0].feed(command, data.clone()).await;
    clients[0].flush().await;
    tokio::time::sleep(WINDOW / 2).await;
    let sent = join_all(clients.iter_mut().map(|client| async {
        let mut ids = Vec::new();
        for _ in 0..10 {
            ids.push(client.feed(command, data.clone()).await);
        }
        client.flush().await;
        (client, ids)
    }));
    let mut sent = sent.await;
    tokio::time::sleep(WINDOW * 2).await;
    lock.rollback().await.unwrap();
    sent[0].1.push(first);
    for (client, ids) in &mut sent {
        for id in ids.drain(..) {
            client.reply(id).await.unwrap();
        }
    }
}

#[tokio::test]
async fn budgets_shrink_while_work_waits_and_grow_back() {
    let server = Server::start(2, &[("security.admin_user_ids", "1"), ("limits.max_messages_per_minute", "600")]);
    let ann = server.register().await;
    let users = server.register_many(16).await;
    let room = server.room(&users.iter().collect::<Vec<_>>()).await;
    let mut clients = Vec::new();
    for user in &users {
        clients.push(Client::none(&server, user, Format::Json).await);
    }
    let send = json!({"conversation_id": room, "content": "x"});
    let read = json!({"conversation_id": room});
    for (work, command, data) in [("commits", "send_message", &send), ("pages", "get_history", &read)] {
        assert_eq!(percent(&server, &ann, work).await, 100);
        held_up(&server, &mut clients, command, data).await;
        tokio::time::sleep(WINDOW).await;
        // Ends the window. The reads of the first clients have taken long, so theirs do not count.
        let last = clients.last_mut().unwrap();
        last.ok(command, data.clone()).await;
        let shrunk = percent(&server, &ann, work).await;
        // How often they shrink depends on how many windows the machine takes for the answers.
        assert!((20..100).contains(&shrunk), "{work}: {shrunk} %");
        let page = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap().text().await.unwrap();
        assert!(page.contains(&format!("chat_server_budget_percent{{work=\"{work}\"}} {shrunk}")), "{page}");
        let started = Instant::now();
        while percent(&server, &ann, work).await < 100 {
            assert!(started.elapsed() < PATIENCE);
            tokio::time::sleep(WINDOW).await;
            last.ok(command, data.clone()).await;
        }
    }
}
