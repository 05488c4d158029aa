//! The detectors of what users read and write: mass mentions, mass reading, evasion of the content filter.
//!
//! How: a server of its own for each test, whose first user is an administrator. Most tests first do what ordinary
//! users do, and then check that only the attack was found.

use super::security_events::{events, found};
use crate::support::{PATIENCE, Server, User};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Instant;

async fn say(server: &Server, user: &User, room: &str, content: &str) -> Result<Value, Value> {
    server.call(user, "send_message", json!({"conversation_id": room, "content": content})).await
}

#[tokio::test]
async fn finds_mentions_of_many_people_and_of_whole_conversations() {
    let server = Server::start(2, &[("security.admin_user_ids", "1")]);
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob, &eve]).await;
    // People whose accounts nobody uses.
    let people = format!(
        "WITH u AS (INSERT INTO users (username, display_name)
                    SELECT format('crowd-%s', n), 'One of many' FROM generate_series(1, 60) n RETURNING id)
         INSERT INTO conversation_members (conversation_id, user_id, role, joined_seq)
         SELECT {}, u.id, 'member', 1 FROM u",
        room.trim_start_matches("room_")
    );
    server.database().await.batch_execute(&people).await.unwrap();
    let crowd = |from: usize, to: usize| (from..=to).map(|n| format!("@crowd-{n}")).collect::<Vec<_>>().join(" ");

    // One mention of everybody, and a few of the same people again and again.
    say(&server, &ann, &room, "@room lunch").await.unwrap();
    for _ in 0..5 {
        say(&server, &ann, &room, &crowd(1, 40)).await.unwrap();
    }
    say(&server, &eve, &room, &crowd(1, 55)).await.unwrap();
    let mentions = found(&server, &ann, "mass_mentions").await;
    assert_eq!(mentions.len(), 1, "{mentions:?}");
    assert_eq!((&mentions[0]["user_id"], &mentions[0]["details"]["people"]), (&json!(eve.id), &json!(50)));
    for _ in 0..9 {
        say(&server, &ann, &room, "@room lunch is ready").await.unwrap();
    }
    let started = Instant::now();
    loop {
        let mentions = found(&server, &ann, "mass_mentions").await;
        if mentions.len() == 2 {
            let newest = (&mentions[0]["user_id"], &mentions[0]["details"]["mentions_of_all"]);
            break assert_eq!(newest, (&json!(ann.id), &json!(10)));
        }
        assert!(started.elapsed() < PATIENCE, "{mentions:?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let nobody: [Value; 0] = [];
    assert_eq!(events(&server, &ann, &format!("?user={}", bob.id)).await, nobody);
}

#[tokio::test]
async fn finds_a_user_who_reads_everything() {
    // A budget of reads that does not stop the reader first.
    let settings = [("security.admin_user_ids", "1"), ("limits.max_messages_per_minute", "100000")];
    let server = Server::start(2, &settings);
    let (ann, eve) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &eve]).await;
    say(&server, &ann, &room, "hello").await.unwrap();
    // A search counts as ten pages.
    for n in 0..299 {
        server.ok(&eve, "search_messages", json!({"query": format!("hello {n}")})).await;
    }
    for _ in 0..9 {
        server.ok(&eve, "get_history", json!({"conversation_id": room, "limit": 10})).await;
    }
    let nobody: [Value; 0] = [];
    assert_eq!(events(&server, &ann, "").await, nobody, "2,999 pages");
    server.ok(&eve, "search_messages", json!({"query": "hello"})).await;
    let reading = found(&server, &ann, "mass_reading").await;
    assert_eq!((reading.len(), &reading[0]["user_id"]), (1, &json!(eve.id)));
    assert_eq!(reading[0]["severity"], "warning");
}

#[tokio::test]
async fn finds_texts_that_are_varied_until_the_filter_lets_them_pass() {
    let server = Server::start(2, &[("security.admin_user_ids", "1")]);
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob, &eve]).await;
    let rule = |id: &str, word: &str| {
        let words = json!({"words": [word]});
        json!({"rules": [{"id": id, "kind": "keywords", "definition": words, "action": "refuse"}]})
    };
    // Ann's room refuses what Bob always writes. That says nothing about him.
    for (path, rules) in [
        (format!("/conversations/{room}/filter-rules"), rule("nonsense", "bananas")),
        ("/admin/filter-rules".to_owned(), rule("pills", "pills")),
    ] {
        let (status, answer) = server.request(Method::PUT, &path, Some(&ann.token), Some(&rules)).await;
        assert_eq!(status, 200, "{answer}");
    }
    for word in ["bananas", "pills"] {
        let started = Instant::now();
        while say(&server, &ann, &room, word).await.is_ok() {
            assert!(started.elapsed() < PATIENCE, "the rules do not apply");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    for n in 0..12 {
        assert_eq!(say(&server, &bob, &room, &format!("bananas number {n}")).await.unwrap_err()["code"], "filtered");
    }
    for text in ["buy cheap pills here", "buy cheap pills here now", "get cheap pills over here"] {
        assert_eq!(say(&server, &eve, &room, text).await.unwrap_err()["code"], "filtered");
    }
    say(&server, &eve, &room, "sorry, what is wrong with that?").await.unwrap();
    say(&server, &eve, &room, "buy cheap p ill s here").await.unwrap();
    let evasion = found(&server, &ann, "filter_evasion").await;
    assert_eq!((evasion.len(), &evasion[0]["user_id"]), (1, &json!(eve.id)), "{evasion:?}");
    assert_eq!(evasion[0]["details"]["a_variant_passed"], true);
    assert!(!evasion[0].to_string().contains("cheap"), "the texts stay where they are: {evasion:?}");
}
