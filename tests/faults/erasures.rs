//! An erased person does not come back: not with a restored backup, nor when the server dies in the middle, nor from
//! Redis and the other nodes.
//!
//! How: a backup is made before an erasure and restored after it. The ledger beside the backup erases again.

use super::backup::{Scratch, succeeds};
use super::cluster::{Cluster, wait_for_metric};
use crate::support::redis::Redis;
use crate::support::{Client, Format, PASSWORD, PATIENCE, Server, User, text, unique, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

const SETTINGS: &[(&str, &str)] = &[("security.jwt_secret", "")];

async fn erase(server: &Server, user: &User) -> Value {
    let proof = json!({"password": PASSWORD});
    let (status, requested) = server.request(Method::DELETE, "/users/me", Some(&user.token), Some(&proof)).await;
    assert_eq!(status, 202, "{requested}");
    requested
}

async fn completed(server: &Server, erasure: &Value) {
    let started = Instant::now();
    loop {
        let path = format!("/erasures/{}", text(erasure));
        let (_, state) = server.request(Method::GET, &path, None, None).await;
        if state["state"] == "completed" {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{state}: {}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
}

/// Tables that have a text somewhere.
async fn tables_with(server: &Server, marker: &str) -> Vec<String> {
    let database = server.database().await;
    let tables = "SELECT relname::text FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace \
        AND c.relkind = 'r' ORDER BY relname";
    let mut found = Vec::new();
    for row in database.query(tables, &[]).await.unwrap() {
        let table: String = row.get(0);
        let rows = format!("SELECT count(*) FROM {table} t WHERE t::text ILIKE '%' || $1 || '%'");
        if database.query_one(&rows, &[&marker]).await.unwrap().get::<_, i64>(0) > 0 {
            found.push(table);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_backup_does_not_bring_an_erased_person_back() {
    let scratch = Scratch::new();
    let server = Server::start(1, SETTINGS);
    let marker = unique("Zq8").replace(['-', '_'], "");
    let (ann, eve) = (server.register().await, server.register_as(&format!("{marker}_e")).await);
    let room = server.room(&[&ann, &eve]).await;
    server.send_text(&eve, &room, &format!("{marker} wrote")).await;
    server.send_file(&eve, &room, &format!("{marker}.txt"), marker.as_bytes()).await;
    std::fs::create_dir(scratch.path("kept")).unwrap();
    let kept = scratch.text("kept");
    succeeds(&server.run(&["backup", "create", "--to", &kept, "--name", "before"]));

    // Somebody who is not in the backup, and whose number the restored server gives to another person.
    let dan = server.register().await;
    let of_dan = erase(&server, &dan).await;
    let of_eve = erase(&server, &eve).await;
    completed(&server, &of_dan["erasure_id"]).await;
    completed(&server, &of_eve["erasure_id"]).await;
    assert_eq!(tables_with(&server, &marker).await, Vec::<String>::new());
    server.sigterm();
    server.wait();

    let before = scratch.text("kept/before");
    let restored = Server::restored(1, SETTINGS, &["backup", "restore", &before]);
    let (status, _) = restored.post("/auth/login", None, &json!({"login": eve.name, "password": PASSWORD})).await;
    assert_eq!(status, 401, "the person cannot sign in, from the start on");
    completed(&restored, &of_eve["erasure_id"]).await;
    assert_eq!(tables_with(&restored, &marker).await, Vec::<String>::new());
    restored.stores(0).await;
    succeeds(&restored.run(&["audit", "verify"]));

    let zoe = restored.register().await;
    assert_eq!(zoe.id, dan.id, "the number is given again");
    restored.sigterm();
    restored.wait();
    restored.start_again();
    let zoe = restored.login(&zoe).await;
    restored.ok(&zoe, "list_conversations", json!({})).await;

    // A ledger that was changed stops the server, and says where.
    restored.sigterm();
    restored.wait();
    let ledger = restored.data_dir.join("erasures.jsonl");
    let lines = std::fs::read_to_string(&ledger).unwrap();
    std::fs::write(&ledger, lines.replacen("user_id", "user_ld", 1)).unwrap();
    let refused = restored.run(&[]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("erasures.jsonl, line 1"), "{said}");
    std::fs::write(&ledger, lines).unwrap();
    restored.start_again();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_survives_kills_and_waits_for_a_hold() {
    let server = Server::start(1, SETTINGS);
    let marker = unique("Zq9").replace(['-', '_'], "");
    let (ann, eve) = (server.register().await, server.register_as(&format!("{marker}_e")).await);
    let rooms = [server.room(&[&ann, &eve]).await, server.room(&[&ann, &eve]).await];
    let kept = server.room(&[&ann, &eve]).await;
    for number in 0..120 {
        server.send_text(&eve, &rooms[number % 2], &format!("{marker} {number}")).await;
    }
    server.send_text(&eve, &kept, &format!("{marker} on hold")).await;
    let database = server.database().await;
    let held = "INSERT INTO legal_holds (conversation_id, reason, created_by) \
        SELECT conversation_id, 'a case', 1 FROM messages WHERE content LIKE '%on hold'";
    database.execute(held, &[]).await.unwrap();
    let erasure = erase(&server, &eve).await["erasure_id"].clone();
    for _ in 0..3 {
        server.kill9();
        server.wait();
        server.start_again();
    }
    let database = server.database().await;
    let texts = "SELECT (SELECT count(*) = 1 FROM messages WHERE content LIKE '%on hold') \
        AND (SELECT count(*) = 0 FROM messages WHERE content LIKE '%' || (SELECT username FROM erasures) || '%') \
        AND (SELECT count(*) = 1 FROM messages WHERE sender_id = 2 AND message_type <> 'system' \
            AND deleted_at IS NULL)";
    wait_until(&database, texts).await;
    let (_, state) = server.request(Method::GET, &format!("/erasures/{}", text(&erasure)), None, None).await;
    assert_eq!(state["state"], "running", "{state}");
    // Nobody takes the name while texts that mention it are searched.
    let body = json!({"username": eve.name, "email": "other@example.org", "password": PASSWORD});
    assert_eq!(server.post("/auth/register", None, &body).await.0, 409);
    database.execute("UPDATE legal_holds SET released_at = now(), released_by = 1", &[]).await.unwrap();
    database.execute("UPDATE jobs SET next_at = now() WHERE kind = 'erase_person'", &[]).await.unwrap();
    completed(&server, &erasure).await;
    assert_eq!(tables_with(&server, &marker).await, Vec::<String>::new());
    let (_, done) = server.request(Method::GET, &format!("/erasures/{}", text(&erasure)), None, None).await;
    assert_eq!(done["removed"]["messages"], 121, "{done}");
    for room in &rooms {
        let history = server.history(&ann, room).await;
        let seqs: Vec<i64> = history.iter().map(|message| message["seq"].as_i64().unwrap()).collect();
        assert!(seqs.is_sorted() && history.iter().all(|message| message["content"] != marker), "{history:#?}");
        assert_eq!(history.iter().filter(|message| message["deleted"] == true).count(), 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_and_the_other_nodes_forget_an_erased_person() {
    let redis = Redis::start_on(Ipv4Addr::LOCALHOST.into(), &["--rdbcompression", "no"]);
    let cluster = Cluster::start(2, Some(&redis.url()));
    let (one, other) = cluster.pair();
    for node in [one, other] {
        wait_for_metric(node, "chat_server_redis_up", |up| up > 0.5).await;
    }
    let marker = unique("Zq8").replace(['-', '_'], "");
    let (ann, eve) = (one.register().await, one.register_as(&format!("{marker}_e")).await);
    let room = one.room(&[&ann, &eve]).await;
    let mut anns = Client::all(other, &ann, Format::Json).await;
    let mut eves = Client::all(one, &eve, Format::Json).await;
    let watched = anns.ok("get_presence", json!({"user_ids": [eve.id]})).await;
    assert_eq!(watched["presence"][0]["user_id"], eve.id, "{watched}");
    eves.ok("set_presence", json!({"status": "busy", "status_text": format!("{marker} is away")})).await;
    eves.ok("send_message", json!({"conversation_id": room, "content": format!("{marker} wrote")})).await;
    let heard = anns.event_where("message_created", |data| data["sender"]["id"] == eve.id).await;
    assert!(text(&heard["content"]).contains(&marker));

    let erasure = erase(one, &eve).await["erasure_id"].clone();
    completed(one, &erasure).await;
    let tombstone = anns.event_where("message_deleted", |data| data["message_id"] == heard["message_id"]).await;
    assert_eq!(tombstone["conversation_id"], room);
    for node in [one, other] {
        let history = node.history(&ann, &room).await;
        assert!(!serde_json::to_string(&history).unwrap().contains(&marker), "{history:?}");
        let path = format!("/users/{}", eve.id);
        let (status, profile) = node.request(Method::GET, &path, Some(&ann.token), None).await;
        assert!(!profile.to_string().contains(&marker), "{status} {profile}");
    }
    // All that Redis has, as it would write it to a disk.
    let scratch = Scratch::new();
    let started = Instant::now();
    let found = loop {
        assert!(redis.ask(&["--rdb", &scratch.text("all.rdb")]).status.success());
        let all = std::fs::read(scratch.path("all.rdb")).unwrap();
        assert!(all.starts_with(b"REDIS"), "{} bytes", all.len());
        let found = all.windows(marker.len()).any(|part| part == marker.as_bytes());
        if !found || started.elapsed() > PATIENCE {
            break found;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert!(!found, "{}", redis.answer(&["KEYS", "*"]));

    // The other node's ledger has the erasure too, from the database: a backup that is made there knows of it.
    let ledger = || std::fs::read_to_string(other.data_dir.join("erasures.jsonl")).unwrap_or_default();
    while !ledger().contains(text(&erasure)) {
        assert!(started.elapsed() < 2 * PATIENCE, "{}", ledger());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
