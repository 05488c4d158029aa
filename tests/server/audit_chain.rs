//! `chat-server audit verify` finds every way to change the audit trail, and names the position.
//!
//! How: each test starts a server, makes rows over the wire, and then acts as an intruder with the rights of a
//! superuser, who switches the triggers off. A rewrite with new hashes, which fits in itself, is found by a checkpoint
//! that was kept elsewhere.

use crate::support::{Server, unique, wait_until};
use serde_json::json;
use std::path::PathBuf;
use std::time::Instant;
use tokio_postgres::Client as Database;

/// Exit code and printed text of `chat-server audit`.
fn audit(server: &Server, arguments: &[&str]) -> (i32, String) {
    let output = server.run(&[&["audit"], arguments].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), text + &String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn assert_whole(server: &Server, arguments: &[&str]) {
    let (code, text) = audit(server, &[&["verify"], arguments].concat());
    assert!(code == 0 && text.contains("The audit trail is whole"), "{code}: {text}");
}

/// Fails unless the verification finds something and says each of `parts`.
#[track_caller]
fn assert_found(server: &Server, arguments: &[&str], parts: &[&str]) {
    let (code, text) = audit(server, &[&["verify"], arguments].concat());
    assert!(code == 1 && parts.iter().all(|part| text.contains(part)), "{code}, expected {parts:?}: {text}");
}

/// A server with a few rows, and a database session of an intruder whom no trigger stops.
async fn tampered_with(settings: &[(&str, &str)]) -> (Server, Database) {
    let server = Server::start(1, settings);
    let (ann, bob) = (server.register().await, server.register().await);
    for _ in 0..4 {
        let room = server.room(&[&ann, &bob]).await;
        let ban = json!({"conversation_id": room, "user_id": bob.id, "reason": "spam"});
        server.ok(&ann, "ban_member", ban).await;
    }
    let database = server.database().await;
    database.batch_execute("SET session_replication_role = replica").await.unwrap();
    (server, database)
}

/// The statements of an intruder who makes every hash fit again.
const REHASH: &str = "DO $$
    DECLARE r audit_logs; v_previous bytea := decode(repeat('00', 32), 'hex');
    BEGIN
        FOR r IN SELECT * FROM audit_logs ORDER BY position LOOP
            r.previous_hash := v_previous;
            r.commitment := audit_commitment(r);
            r.hash := audit_hash(r);
            v_previous := r.hash;
            UPDATE audit_logs SET previous_hash = r.previous_hash, commitment = r.commitment, hash = r.hash
             WHERE position = r.position;
            UPDATE audit_head SET position = r.position, hash = r.hash;
        END LOOP;
    END $$";

#[tokio::test]
async fn finds_each_kind_of_tampering_and_names_the_position() {
    let (server, database) = tampered_with(&[("audit.checkpoint_interval", "1d")]).await;
    assert_whole(&server, &[]);
    // Each is undone afterwards: the rows are kept in a table of their own.
    database
        .batch_execute("CREATE TABLE kept AS TABLE audit_logs; CREATE TABLE kept_head AS TABLE audit_head")
        .await
        .unwrap();
    let swap = "UPDATE audit_logs SET position = CASE position WHEN 4 THEN 5 ELSE 4 END WHERE position IN (4, 5)";
    let insert = "INSERT INTO audit_logs SELECT position, created_at + interval '1 ms', user_id, 'sign_in', \
                  target_type, target_id, conversation_id, session_id, ip_address, device, reason, details, salt, \
                  commitment, previous_hash, hash FROM audit_logs WHERE position = 3";
    let contents = "UPDATE audit_logs a SET user_id = b.user_id, action = b.action, target_type = b.target_type, \
                    target_id = b.target_id FROM audit_logs b \
                    WHERE b.position = 9 - a.position AND a.position IN (4, 5)";
    for (tampering, found) in [
        ("UPDATE audit_logs SET user_id = 77 WHERE position = 4", "Position 4: the row was changed"),
        ("UPDATE audit_logs SET action = 'sign_in' WHERE position = 1", "Position 1: the row was changed"),
        (
            "UPDATE audit_logs SET created_at = created_at - interval '1 s' WHERE position = 4",
            "Position 4: it is older than the row before it",
        ),
        (
            "UPDATE audit_logs SET ip_address = '203.0.113.1' WHERE position = 4",
            "Position 4: the personal fields were changed",
        ),
        ("UPDATE audit_logs SET reason = 'none' WHERE position = 4", "Position 4: the personal fields were changed"),
        (
            "UPDATE audit_logs SET ip_address = NULL, device = NULL, reason = NULL, details = NULL, salt = NULL \
             WHERE position = 4",
            "Position 4 is without personal fields, and no erasure names this",
        ),
        ("DELETE FROM audit_logs WHERE position = 4", "Position 4 is missing"),
        ("DELETE FROM audit_logs WHERE position IN (1, 2)", "Positions 1 to 2 are missing"),
        (
            "DELETE FROM audit_logs WHERE position > 8",
            "Positions 9 to 10 are missing: the end of the chain was cut off",
        ),
        (
            "DELETE FROM audit_logs WHERE position > 8; UPDATE audit_head SET position = 8, \
             hash = (SELECT hash FROM audit_logs WHERE position = 8)",
            "",
        ),
        (swap, "Position 4: the row was changed"),
        (contents, "Position 5: the row was changed"),
        (insert, "Position 3: a row was inserted"),
        ("UPDATE audit_head SET hash = sha256('')", "audit_head states another hash"),
    ] {
        database.batch_execute(tampering).await.unwrap();
        // A truncation together with its head is found by a checkpoint only; see the next test.
        if found.is_empty() {
            assert_whole(&server, &[]);
        } else {
            assert_found(&server, &[], &[found]);
        }
        let restore = "DELETE FROM audit_logs; INSERT INTO audit_logs TABLE kept; \
                       UPDATE audit_head h SET position = k.position, hash = k.hash FROM kept_head k";
        database.batch_execute(restore).await.unwrap();
    }
    assert_whole(&server, &[]);
}

#[tokio::test]
async fn finds_a_full_rewrite_and_a_truncation_by_a_kept_checkpoint() {
    let (server, database) = tampered_with(&[("audit.checkpoint_interval", "1d")]).await;
    let (code, note) = audit(&server, &["checkpoint"]);
    assert!(code == 0 && note.lines().nth(1) == Some("10"), "{note}");
    let file: PathBuf = std::env::temp_dir().join(unique("checkpoint"));
    std::fs::write(&file, server.run(&["audit", "checkpoint"]).stdout).unwrap();
    let kept = ["--checkpoint", file.to_str().unwrap()];
    assert_whole(&server, &kept);
    let key = audit(&server, &["key"]).1;
    assert_whole(&server, &[kept[0], kept[1], "--key", key.lines().next().unwrap()]);

    // The stored checkpoint finds it too, until the intruder deletes it.
    database.batch_execute("CREATE TABLE kept AS TABLE audit_logs").await.unwrap();
    let rewrite = format!("UPDATE audit_logs SET user_id = 77 WHERE position = 4; {REHASH}");
    database.batch_execute(&rewrite).await.unwrap();
    assert_found(&server, &[], &["Position 10: the stored checkpoint of size 10 states the hash"]);
    database.batch_execute("DELETE FROM audit_checkpoints").await.unwrap();
    assert_whole(&server, &[]);
    assert_found(&server, &kept, &["Position 10: the checkpoint in", "Rows up to here were rewritten"]);

    let truncate = format!(
        "DELETE FROM audit_logs; INSERT INTO audit_logs TABLE kept; {REHASH};
                            DELETE FROM audit_logs WHERE position > 8; UPDATE audit_head SET position = 8,
                            hash = (SELECT hash FROM audit_logs WHERE position = 8)"
    );
    database.batch_execute(&truncate).await.unwrap();
    assert_whole(&server, &[]);
    assert_found(&server, &kept, &["Position 10: the checkpoint in", "but the chain ends at position 8"]);

    // Nobody without the key makes a checkpoint.
    let text = String::from_utf8(std::fs::read(&file).unwrap()).unwrap();
    std::fs::write(&file, text.replacen("\n10\n", "\n8\n", 1)).unwrap();
    assert_found(&server, &kept, &["its signature does not fit"]);
    std::fs::write(&file, "not a checkpoint").unwrap();
    assert_found(&server, &kept, &["this is not a checkpoint"]);
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn signs_the_end_of_the_chain_while_it_moves_and_verifies_a_stopped_server() {
    let server = Server::start(1, &[("audit.checkpoint_interval", "1s")]);
    let database = server.database().await;
    for _ in 0..2 {
        server.register().await;
        let signed =
            "SELECT coalesce((SELECT max(size) FROM audit_checkpoints) = (SELECT position FROM audit_head), false)";
        wait_until(&database, signed).await;
    }
    assert_whole(&server, &[]);
    drop(database);
    server.sigterm();
    server.wait();
    assert_whole(&server, &[]);
}

#[tokio::test]
async fn accepts_the_erasure_of_a_person_and_nothing_else() {
    let (server, database) = tampered_with(&[("audit.checkpoint_interval", "1d")]).await;
    let erase = "SELECT erase_audit_person(2, 2)";
    let file = std::env::temp_dir().join(unique("checkpoint"));
    std::fs::write(&file, server.run(&["audit", "checkpoint"]).stdout).unwrap();
    let kept = ["--checkpoint", file.to_str().unwrap()];
    let before = "SELECT count(*) FROM audit_logs WHERE user_id = 2 OR target_type = 'user' AND target_id = 2";
    let concerned: i64 = database.query_one(before, &[]).await.unwrap().get(0);
    assert!(concerned >= 5);
    let writer = server.target().config(chat_server::storage::connect::Role::Writer);
    let writer = chat_server::storage::connect::connect(&writer).await.unwrap();
    let refused = writer.query_one(erase, &[]).await.unwrap_err();
    assert_eq!(refused.code().unwrap().code(), "42501", "the server's own logins cannot erase: {refused}");
    assert_eq!(database.query_one(erase, &[]).await.unwrap().get::<_, i64>(0), concerned);
    assert_whole(&server, &kept);
    std::fs::remove_file(&file).unwrap();
    let left = "SELECT count(*) FROM audit_logs WHERE (user_id = 2 OR target_type = 'user' AND target_id = 2) \
                AND action <> 'erase_person' \
                AND coalesce(ip_address, device, reason, details::text, salt::text) IS NOT NULL";
    assert_eq!(database.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    let others = "SELECT count(*) FROM audit_logs WHERE action = 'register' AND ip_address IS NOT NULL";
    assert_eq!(database.query_one(others, &[]).await.unwrap().get::<_, i64>(0), 1, "those of others stay");
    // A second erasure finds nothing, and keeps the positions of the first.
    assert_eq!(database.query_one(erase, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_whole(&server, &[]);

    // Only the erased positions may lack their fields, and nothing can come back in their place.
    let more = "UPDATE audit_logs SET ip_address = NULL, device = NULL, reason = NULL, details = NULL, salt = NULL \
                WHERE position = 1";
    database.batch_execute(more).await.unwrap();
    assert_found(&server, &[], &["Position 1 is without personal fields"]);
    let forged = "ALTER TABLE audit_logs DROP CONSTRAINT audit_logs_check; \
                  UPDATE audit_logs SET ip_address = '203.0.113.1' WHERE position = 2";
    database.batch_execute(forged).await.unwrap();
    assert_found(&server, &[], &["Position 2: personal fields were added after the erasure"]);
}

#[tokio::test]
async fn refuses_no_change_while_the_partition_of_its_month_is_made() {
    let server = Server::start(1, &[]);
    let mut database = server.database().await;
    let month = "SELECT 'audit_logs_' || to_char(now() AT TIME ZONE 'UTC', 'YYYY_MM')";
    let partition: String = database.query_one(month, &[]).await.unwrap().get(0);
    database.batch_execute(&format!("DROP TABLE {partition}")).await.unwrap();
    server.register().await; // its row goes to the default partition
    let making = database.transaction().await.unwrap();
    making.query("SELECT make_audit_partitions(0)", &[]).await.unwrap();
    let registering = async {
        server.register().await;
    };
    let finish = async {
        let waits = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'audit_logs_default'::regclass";
        wait_until(&server.database().await, waits).await;
        making.commit().await.unwrap();
    };
    tokio::join!(registering, finish);
    assert_whole(&server, &[]);
    let moved = format!("SELECT count(*) FROM {partition}");
    assert_eq!(server.database().await.query_one(&moved, &[]).await.unwrap().get::<_, i64>(0), 2);
}

#[tokio::test]
async fn drops_old_months_behind_a_closing_checkpoint() {
    let (server, database) = tampered_with(&[("audit.checkpoint_interval", "1d"), ("audit.retention", "30d")]).await;
    let made = "SELECT count(*) >= 5 FROM pg_inherits WHERE inhparent = 'audit_logs'::regclass";
    wait_until(&database, made).await;
    let partitions = "SELECT string_agg(DISTINCT tableoid::regclass::text, ' ') FROM audit_logs";
    let now: String = database.query_one(partitions, &[]).await.unwrap().get(0);
    assert!(!now.contains("default") && !now.contains(' '), "rows are in the partition of their month: {now}");

    // Six rows of a year ago, whose month had no partition; the rest is of today.
    let age =
        format!("UPDATE audit_logs SET created_at = created_at - interval '400 days' WHERE position <= 6; {REHASH}");
    database.batch_execute(&age).await.unwrap();
    server.sigterm();
    server.wait();
    assert_whole(&server, &[]);
    let kept = server.run(&["audit", "checkpoint"]).stdout;
    server.start_again();
    let database = server.database().await;
    wait_until(&database, "SELECT min(position) = 7 FROM audit_logs").await;
    wait_until(&database, "SELECT count(*) = 1 FROM audit_checkpoints WHERE closing AND size = 6").await;
    let last = "SELECT count(*) = 1 FROM audit_logs WHERE action = 'drop_audit_partitions' AND user_id IS NULL";
    wait_until(&database, last).await;
    assert_whole(&server, &[]);
    let file = std::env::temp_dir().join(unique("checkpoint"));
    std::fs::write(&file, kept).unwrap();
    assert_whole(&server, &["--checkpoint", file.to_str().unwrap()]);
    std::fs::remove_file(&file).unwrap();

    // Without the signed closing, the same rows count as deleted. Another checkpoint cannot stand in for it.
    database.batch_execute("SET session_replication_role = replica").await.unwrap();
    database.batch_execute("DELETE FROM audit_logs WHERE position <= 8").await.unwrap();
    assert_found(&server, &[], &["Positions 7 to 8 are missing"]);
    database.batch_execute("UPDATE audit_checkpoints SET closing = NOT closing WHERE size <> 6").await.unwrap();
    assert_found(&server, &[], &["states another size or kind"]);
    database.batch_execute("DELETE FROM audit_checkpoints").await.unwrap();
    assert_found(&server, &[], &["Positions 1 to 8 are missing"]);
}

/// Measures; asserts no time. `CHAT_TEST_AUDIT_ROWS` is the number of rows, and `CHAT_TEST_AUDIT_BINARY` the program
/// that verifies them, such as `target/release/chat-server`.
#[tokio::test]
#[ignore = "fills a million rows, which takes minutes"]
async fn verifies_a_million_rows() {
    let server = Server::start(1, &[]);
    server.register().await;
    let rows = std::env::var("CHAT_TEST_AUDIT_ROWS").map_or(1_000_000, |rows| rows.parse::<u64>().unwrap());
    let database = server.database().await;
    database.batch_execute(&format!("SET bench.rows = {rows}")).await.unwrap();
    let started = Instant::now();
    database.batch_execute(include_str!("../../benches/audit_rows.sql")).await.unwrap();
    println!("{rows} rows appended in {:.1?}", started.elapsed());
    let program = std::env::var("CHAT_TEST_AUDIT_BINARY");
    let program = program.unwrap_or_else(|_| env!("CARGO_BIN_EXE_chat-server").to_owned());
    let program = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(program);
    for _ in 0..3 {
        let started = Instant::now();
        let output = server.run_with(&program, &["audit", "verify"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}");
        println!("verified in {:.1?}: {said}", started.elapsed());
    }
}
