//! Messages in several partitions read as messages of one table. When retention drops the oldest partition, its
//! messages are gone, and everything else stays as it was.
//!
//! How: the tests begin new ranges of ids between messages, as the job of retention does, and make the first one old.

use super::data_rights::{retention_ends, run_retention};
use crate::support::{Client, Format, Log, Server, User, unique, wait_until};
use chat_server::storage::data_rights::RightsTables;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_postgres::Client as Database;

const SETTINGS: [(&str, &str); 2] = [("retention.messages", "1000days"), ("security.admin_user_ids", "1")];

/// Begins the next range of ids.
async fn begin_range(server: &Server) {
    let tables = RightsTables::open(&server.target()).await.unwrap();
    assert!(tables.begin_range(Duration::ZERO).await.unwrap());
    assert!(!tables.begin_range(Duration::ZERO).await.unwrap(), "the new range has no messages");
}

/// Makes the first messages of the oldest partition, `most` of them, older than retention allows. If these are all, the
/// range has ended as long ago.
async fn grow_old(database: &Database, most: i64) {
    let oldest = "SELECT first_id / 10000000000 FROM message_partitions ORDER BY first_id LIMIT 1";
    let number: i64 = database.query_one(oldest, &[]).await.unwrap().get(0);
    let age = format!(
        "WITH oldest AS (SELECT id FROM messages_{number} ORDER BY id LIMIT {most})
         UPDATE messages_{number} m SET created_at = created_at - interval '1001 days'
           FROM oldest o WHERE o.id = m.id"
    );
    database.execute(&age, &[]).await.unwrap();
    let young: i64 = database
        .query_one(&format!("SELECT count(*) FROM messages_{number} WHERE created_at > now() - interval '1 day'"), &[])
        .await
        .unwrap()
        .get(0);
    let ended = if young == 0 { "closed_at - interval '1001 days'" } else { "closed_at" };
    let begun = format!(
        "UPDATE message_partitions SET closed_at = {ended}, opened_at = opened_at - interval '1001 days'
          WHERE first_id = {number} * 10000000000"
    );
    database.execute(&begun, &[]).await.unwrap();
    run_retention(database).await;
}

async fn wait_until_dropped(database: &Database, number: i64) {
    let gone = format!(
        "SELECT to_regclass('public.messages_{number}') IS NULL
            AND to_regclass('public.message_search_{number}') IS NULL
            AND NOT EXISTS (SELECT FROM message_partitions WHERE first_id = {number} * 10000000000)"
    );
    wait_until(database, &gone).await;
}

fn seqs(page: &Value) -> Vec<i64> {
    page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_i64().unwrap()).collect()
}

/// All seqs, read in pages of seven to one side.
async fn paged(reader: &mut Client, room: &str, backward: bool) -> Vec<i64> {
    let (mut all, mut at) = (Vec::new(), if backward { i64::from(u32::MAX) } else { 0 });
    loop {
        let key = if backward { "before_seq" } else { "after_seq" };
        let page = reader.ok("get_history", json!({"conversation_id": room, key: at, "limit": 7})).await;
        let found = seqs(&page);
        at = if backward { found.first() } else { found.last() }.copied().unwrap_or(at);
        if backward {
            all.splice(0..0, found);
        } else {
            all.extend(found);
        }
        if page["has_more"] == false {
            return all;
        }
    }
}

async fn unread(server: &Server, user: &User) -> i64 {
    let list = server.ok(user, "list_conversations", json!({})).await;
    list["conversations"][0]["unread_count"].as_i64().unwrap()
}

#[tokio::test]
async fn reads_and_drops_partitions_without_a_gap() {
    const EACH: i64 = 60;
    let server = Server::start(2, &SETTINGS);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut client = Client::none(&server, &ann, Format::Json).await;
    let mut sent: Vec<Value> = Vec::new();
    for n in 0..3 * EACH {
        if n > 0 && n % EACH == 0 {
            begin_range(&server).await;
        }
        let parent = (n == EACH + 1 || n == 2 * EACH + 1).then(|| sent[EACH as usize].clone());
        let message = json!({"conversation_id": room, "content": format!("number {n}"), "parent_message_id": parent,
                             "client_message_id": format!("key {n}")});
        let ack = client.ok("send_message", message.clone()).await;
        assert_eq!(ack["duplicate"], false);
        sent.push(ack["message_id"].clone());
        if n % EACH == 1 {
            // Some of the log's entries are no messages.
            let described = json!({"conversation_id": room, "description": format!("after number {n}")});
            server.ok(&ann, "update_conversation", described).await;
            assert_eq!(client.ok("send_message", message).await["duplicate"], true);
        }
    }
    let in_tables = "SELECT count(DISTINCT tableoid) FROM messages";
    let database = server.database().await;
    assert_eq!(database.query_one(in_tables, &[]).await.unwrap().get::<_, i64>(0), 3);

    // A repeat is recognised in the range before the present one.
    let repeat = json!({"conversation_id": room, "content": "again", "client_message_id": format!("key {EACH}")});
    let ack = client.ok("send_message", repeat).await;
    assert_eq!((&ack["duplicate"], &ack["message_id"]), (&json!(true), &sent[EACH as usize]));

    // Pages in both directions, around a message beside a boundary, a thread over two partitions.
    let mut reader = Client::none(&server, &bob, Format::Json).await;
    let (forward, backward) = (paged(&mut reader, &room, false).await, paged(&mut reader, &room, true).await);
    assert_eq!(forward.len(), 3 * EACH as usize);
    assert_eq!(forward, backward);
    let near = json!({"conversation_id": room, "around_message_id": sent[EACH as usize], "limit": 10});
    let near = reader.ok("get_history", near).await;
    let around: Vec<&Value> = near["messages"].as_array().unwrap().iter().map(|m| &m["message_id"]).collect();
    let expected: Vec<&Value> = sent[EACH as usize - 5..EACH as usize + 5].iter().collect();
    assert_eq!(around, expected);
    let thread = reader.ok("get_thread", json!({"message_id": sent[EACH as usize], "limit": 10})).await;
    assert_eq!(thread["messages"].as_array().unwrap().len(), 2, "{thread}");
    assert_eq!(thread["root"]["thread"]["reply_count"], 2, "{thread}");

    // A replay of the whole log has no gap.
    let last = server.last_seq(&ann, &room).await;
    let mut log = Log::after([(room.as_str(), 0)]);
    reader.ok("subscribe", json!({"conversation_id": room, "after_seq": 0})).await;
    reader.follow(&mut log, &room, last).await;

    // Unread counts from a marker in each partition: far behind, they are differences of ordinals.
    assert_eq!(unread(&server, &bob).await, 3 * EACH);
    for read in [EACH / 2, EACH + EACH / 2, 2 * EACH + EACH / 2] {
        let marker = forward[read as usize - 1];
        server.ok(&bob, "mark_read", json!({"conversation_id": room, "seq": marker})).await;
        assert_eq!(unread(&server, &bob).await, 3 * EACH - read);
    }

    // Edits and deletions find their message in any partition.
    for n in [3, EACH + 3, 2 * EACH + 3] {
        let id = &sent[n as usize];
        server.ok(&ann, "edit_message", json!({"message_id": id, "content": "edited"})).await;
        server.ok(&ann, "delete_message", json!({"message_id": id})).await;
    }

    // The oldest partition is dropped. A member who has read nothing has the messages unread that are left.
    let eve = server.register().await;
    let invite = server.ok(&ann, "create_invite", json!({"conversation_id": room})).await;
    let code = invite["invite"]["code"].clone();
    server.ok(&eve, "join_by_invite", json!({"code": code})).await;
    let unmark = "UPDATE conversation_members SET read_seq = 0 WHERE user_id = $1";
    database.execute(unmark, &[&eve.id]).await.unwrap();
    grow_old(&database, i64::MAX).await;
    wait_until_dropped(&database, 0).await;
    let kept: Vec<i64> = forward[EACH as usize..].to_vec();
    let left = paged(&mut reader, &room, true).await;
    assert_eq!(left[..kept.len()], kept, "system messages follow");
    assert_eq!(paged(&mut reader, &room, false).await, left);
    assert_eq!(unread(&server, &eve).await, 2 * EACH - 2, "two of them are deleted");
    let after = json!({"conversation_id": room, "content": "after"});
    assert_eq!(server.ok(&ann, "send_message", after).await["duplicate"], false);

    // While a part of a range is old, all of it stays. Then it goes as the first one did.
    let left = paged(&mut reader, &room, true).await;
    grow_old(&database, EACH / 2).await;
    retention_ends(&database).await;
    assert_eq!(paged(&mut reader, &room, true).await, left);
    grow_old(&database, i64::MAX).await;
    wait_until_dropped(&database, 1).await;
    let left = paged(&mut reader, &room, true).await;
    assert_eq!(left[..EACH as usize], forward[2 * EACH as usize..]);
    assert_eq!(paged(&mut reader, &room, false).await, left);
    assert_eq!(unread(&server, &eve).await, EACH, "one is deleted, and one came");
}

#[tokio::test]
async fn a_legal_hold_keeps_a_partition_that_retention_would_drop() {
    const EACH: i64 = 4;
    let server = Server::start(2, &SETTINGS);
    let database = server.database().await;
    let (admin, ann, bob) = (server.register().await, server.register().await, server.register().await);
    let rooms = [server.room(&[&ann, &bob]).await, server.room(&[&ann, &bob]).await];
    let mut first = Value::Null;
    for n in 0..2 * EACH {
        if n == EACH {
            begin_range(&server).await;
        }
        for room in &rooms {
            let message = json!({"conversation_id": room, "content": format!("number {n} needle"),
                                 "client_message_id": unique("m")});
            let ack = server.ok(&ann, "send_message", message).await;
            if n == 0 {
                first = ack["message_id"].clone(); // that of the room on hold comes last
            }
        }
    }
    server.ok(&bob, "add_reaction", json!({"message_id": first, "emoji": "👍"})).await;
    server.ok(&ann, "edit_message", json!({"message_id": first, "content": "number 0 needle, edited"})).await;
    let reply = json!({"conversation_id": rooms[1], "content": "a reply", "parent_message_id": first});
    server.ok(&bob, "send_message", reply).await;
    let (file, _) = server.upload(&ann, &rooms[1], "old.txt", b"old content").await;
    let with_file = json!({"conversation_id": rooms[1], "content": "with a file", "attachments": [file]});
    let with_file = server.ok(&ann, "send_message", with_file).await["message_id"].as_i64().unwrap();
    let move_file = "UPDATE message_files SET message_id = $2 WHERE message_id = $1";
    database.execute(move_file, &[&with_file, &first.as_i64().unwrap()]).await.unwrap();
    server.found_in_time(&bob, "needle", 2 * 2 * EACH as usize).await;

    // An import can make a room without an owner.
    let number: i64 = rooms[0].strip_prefix("room_").unwrap().parse().unwrap();
    let leave = "UPDATE conversations SET owner_id = NULL WHERE id = $1";
    database.execute(leave, &[&number]).await.unwrap();
    let hold = json!({"conversation_id": rooms[1], "reason": "case 7"});
    let (status, hold) = server.post("/admin/holds", Some(&admin.token), &hold).await;
    assert_eq!(status, 201, "{hold}");
    grow_old(&database, i64::MAX).await;
    let deleted = "SELECT NOT EXISTS (SELECT FROM messages_0 m JOIN conversations c ON c.id = m.conversation_id
        WHERE c.cleared_seq > 0)";
    wait_until(&database, &format!("{deleted} AND EXISTS (SELECT FROM conversations WHERE cleared_seq > 0)")).await;
    assert_eq!(server.history(&bob, &rooms[0]).await.len(), EACH as usize);
    assert_eq!(server.history(&bob, &rooms[1]).await.len(), 2 * EACH as usize + 2, "the reply and the file, too");

    let path = format!("/admin/holds/{}", hold["id"]);
    assert_eq!(server.request(Method::DELETE, &path, Some(&admin.token), None).await.0, 204);
    // A transaction that reads meanwhile delays the drop, and nobody waits for it.
    let reader = server.database().await;
    reader.batch_execute("BEGIN; SELECT FROM message_search LIMIT 1").await.unwrap();
    run_retention(&database).await;
    wait_until(&database, "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhdetachpending)").await;
    assert_eq!(server.history(&bob, &rooms[0]).await.len(), EACH as usize);
    while !server.log().contains("old messages were not dropped") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    reader.batch_execute("COMMIT").await.unwrap();
    run_retention(&database).await;
    wait_until_dropped(&database, 0).await;
    for table in ["message_reactions", "message_edits", "thread_statistics", "message_files", "files"] {
        let rows: i64 = database.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
        assert_eq!(rows, 0, "{table}");
    }
    let counted = "SELECT array_agg(message_count ORDER BY id) = '{4, 6}' FROM conversations";
    wait_until(&database, counted).await;
    for (room, left) in rooms.iter().zip([EACH, EACH + 2]) {
        assert_eq!(server.history(&bob, room).await.len(), left as usize);
        let shown = server.ok(&bob, "get_conversation", json!({"conversation_id": room})).await;
        assert!((0..=left).contains(&shown["conversation"]["unread_count"].as_i64().unwrap()), "{shown}");
    }
    server.found_in_time(&bob, "needle", 2 * EACH as usize).await;
    // What is left can be answered, changed and searched; the next range begins as any other.
    begin_range(&server).await;
    server.ok(&bob, "send_message", json!({"conversation_id": rooms[0], "content": "after the drop"})).await;
    assert_eq!(server.history(&ann, &rooms[0]).await.len(), EACH as usize + 1);
    server.sigterm();
    server.wait();
    server.start_again();
    assert_eq!(server.history(&ann, &rooms[1]).await.len(), EACH as usize + 2);
}

#[tokio::test]
async fn ids_that_an_import_has_kept_stay_in_the_first_range() {
    const KEPT: i64 = 25_000_000_000;
    let server = Server::start(1, &SETTINGS);
    let database = server.database().await;
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let message = json!({"conversation_id": room, "content": "the first of a thread"});
    let first = server.ok(&ann, "send_message", message).await["message_id"].as_i64().unwrap();
    let reply = json!({"conversation_id": room, "content": "reply", "parent_message_id": first});
    server.ok(&bob, "send_message", reply).await;
    // The first message has a larger id than its reply.
    for (table, column) in [
        ("messages", "id"),
        ("messages", "parent_message_id"),
        ("thread_statistics", "root_message_id"),
        ("thread_followers", "root_message_id"),
    ] {
        let keep = format!("UPDATE {table} SET {column} = $1 WHERE {column} = $2");
        database.execute(&keep, &[&KEPT, &first]).await.unwrap();
    }
    for _ in 0..2 {
        let thread = server.ok(&ann, "get_thread", json!({"message_id": KEPT, "limit": 10})).await;
        assert_eq!(thread["messages"][0]["content"], "reply", "{thread}");
        assert_eq!(thread["unread_count"], 1, "{thread}");
        assert_eq!(server.history(&bob, &room).await.len(), 2);
        let ranges = "SELECT count(*) FROM message_partitions";
        if database.query_one(ranges, &[]).await.unwrap().get::<_, i64>(0) == 1 {
            begin_range(&server).await;
        }
    }
    let next = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "next"})).await;
    // Holds of years can keep as many ranges as there can be. The present one grows then, and the log says so.
    let many = "INSERT INTO message_partitions (first_id, opened_at, closed_at)
        SELECT n * 10000000000, now(), now() FROM generate_series(1000, 1061) n";
    database.execute(many, &[]).await.unwrap();
    let tables = RightsTables::open(&server.target()).await.unwrap();
    let refusal = tables.begin_range(Duration::ZERO).await.unwrap_err();
    assert!(refusal.to_string().contains("64 ranges"), "{refusal}");
    database.execute("DELETE FROM message_partitions WHERE first_id >= 10000000000000", &[]).await.unwrap();
    assert!(next["message_id"].as_i64().unwrap() >= 30_000_000_000, "{next}");
    let late = json!({"conversation_id": room, "content": "late reply", "parent_message_id": KEPT});
    server.ok(&bob, "send_message", late).await;
    let thread = server.ok(&ann, "get_thread", json!({"message_id": KEPT, "limit": 10})).await;
    assert_eq!(thread["messages"].as_array().unwrap().len(), 2, "{thread}");
    assert_eq!(server.history(&bob, &room).await.len(), 4);
}

#[tokio::test]
async fn large_ids_in_the_first_range_hide_nothing() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "before"})).await;
    // As after an import that has kept its ids.
    server.database().await.execute("SELECT setval('message_ids', 30000000000)", &[]).await.unwrap();
    for text in ["first", "second"] {
        server.ok(&ann, "send_message", json!({"conversation_id": room, "content": text})).await;
    }
    let history = server.history(&bob, &room).await;
    let texts: Vec<&str> = history.iter().filter_map(|message| message["content"].as_str()).collect();
    assert!(["before", "first", "second"].iter().all(|text| texts.contains(text)), "{history:?}");
    let page = json!({"conversation_id": room, "before_seq": history.last().unwrap()["seq"], "limit": 1});
    let page = server.ok(&bob, "get_history", page).await;
    assert_eq!(page["messages"][0]["content"], "first");
}
