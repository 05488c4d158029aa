//! The cost of a commit in PostgreSQL does not depend on the number of stored messages. A repeated change has no
//! effect. A claim takes one job.
//!
//! How: PostgreSQL's counters (`pg_stat_user_indexes`, `pg_stat_user_tables`) show how many entries the statements of
//! the server read. PostgreSQL plans these statements while the tables are empty and keeps the plans. A scan costs
//! nothing then, so a wrong plan shows only later.

use crate::support::{Client, Format, PATIENCE, Server, shards};
use chat_server::storage::connect::{Role, connect};
use chat_server::storage::sql;
use serde_json::json;
use std::time::{Duration, Instant};

/// Rows of the partitions of `messages` read so far through indexes and by scans, and rows inserted.
async fn read_and_written(database: &tokio_postgres::Client) -> (i64, i64, i64) {
    let counts = r"SELECT (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname ~ '^messages_\d+$'),
                          sum(seq_tup_read)::bigint, sum(n_tup_ins)::bigint
                     FROM pg_stat_user_tables WHERE relname ~ '^messages_\d+$'";
    let row = database.query_one(counts, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn commits_without_reading_earlier_messages() {
    const MESSAGES: i64 = 600;
    let server = Server::start(2, &[]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut client = Client::none(&server, &ann, Format::Json).await;
    for n in 0..MESSAGES {
        let message = json!({"conversation_id": room, "content": "as any other", "client_message_id": n.to_string()});
        assert_eq!(client.ok("send_message", message).await["duplicate"], false);
    }
    let database = server.database().await;
    // A session publishes its counters at most once a second, and only when it is used. So the loop repeats a message,
    // until the first repeat of a known sender is counted, and for three seconds: PostgreSQL also counts what it
    // undoes, as this attempt.
    let mut counted = read_and_written(&database).await;
    let started = Instant::now();
    let mut repeats = 0;
    while counted.2 <= MESSAGES || repeats < 15 {
        assert!(started.elapsed() < PATIENCE, "{counted:?}");
        repeats += 1;
        let again = json!({"conversation_id": room, "content": "as any other", "client_message_id": "0"});
        assert_eq!(client.ok("send_message", again).await["duplicate"], true);
        tokio::time::sleep(Duration::from_millis(200)).await;
        counted = read_and_written(&database).await;
    }
    let (by_index, by_scan, written) = counted;
    assert_eq!(written, MESSAGES + 1, "a further repeat inserts nothing");
    let stored: i64 = database.query_one("SELECT count(*) FROM messages", &[]).await.unwrap().get(0);
    assert_eq!(stored, MESSAGES);
    // A commit that reads all messages would add up to half the square of their number.
    assert!(
        by_index + by_scan < 10 * MESSAGES,
        "{by_index} index entries and {by_scan} scanned rows for {MESSAGES} messages"
    );
}

#[tokio::test]
async fn executes_a_change_once_when_it_is_submitted_again() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": "once"})).await;
    let number: i64 = created["conversation"]["id"].as_str().unwrap().strip_prefix("room_").unwrap().parse().unwrap();
    let message = json!({"conversation_id": format!("room_{number}"), "content": "first"});
    let message = server.ok(&ann, "send_message", message).await["message_id"].as_i64().unwrap();
    // The committer does this after it lost its connection: it submits the same batch with the same ids.
    let writer = connect(&server.target().config(Role::Writer)).await.unwrap();
    let kinds = vec!["join_conversation", "add_reaction", "edit_message", "delete_message", "remove_member"];
    let actors = vec![bob.id, bob.id, ann.id, ann.id, ann.id];
    let conversations = vec![number; kinds.len()];
    let ids: Vec<i64> = (1..=kinds.len() as i64).collect();
    let arguments = vec![
        json!({}),
        json!({"message_id": message, "emoji": "👍"}),
        json!({"message_id": message, "content": "second", "window_s": 0}),
        json!({"message_id": message}),
        json!({"user_id": bob.id}),
    ];
    let statement = "SELECT verdict, (outcome).* FROM apply_mutations($1, $2, $3, $4, $5)";
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let rows = writer.query(statement, &[&kinds, &conversations, &actors, &ids, &arguments]).await.unwrap();
        let read = |row: &tokio_postgres::Row| {
            let (verdict, events, result): (String, serde_json::Value, serde_json::Value) =
                (row.get("verdict"), row.get("events"), row.get("result"));
            let (gained, lost): (Option<Vec<i64>>, Option<Vec<i64>>) = (row.get("gained"), row.get("lost"));
            assert_eq!(verdict, "committed", "{result}");
            (events, result, gained, lost)
        };
        outcomes.push(rows.iter().map(read).collect::<Vec<_>>());
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[1][2].0[0]["payload"]["content"], "second", "the repeated outcome has the text of the edit");
    let members = server.ok(&ann, "list_members", json!({"conversation_id": format!("room_{number}")})).await;
    assert_eq!(
        members["members"].as_array().unwrap().len(),
        1,
        "the repeated join does not add the removed member: {members}"
    );
    let database = server.database().await;
    let kept = "SELECT count(*) FROM mutation_outcomes o WHERE o.outcome::text LIKE '%second%'";
    assert_eq!(database.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 0, "mutation_outcomes keeps no texts");
}

/// A job that is leased without being returned waits for the end of its lease, and nobody does it meanwhile.
#[tokio::test]
async fn a_claim_leases_the_one_job_that_it_returns_whatever_its_plan() {
    let server = shards(1).await;
    let writer = connect(&server.target().config(Role::Writer)).await.unwrap();
    // With these settings PostgreSQL joins by nested loops, as it also does once it has statistics of such a table.
    for plan in ["hashjoin", "mergejoin", "hashagg", "sort", "material", "memoize"] {
        writer.batch_execute(&format!("SET enable_{plan} = off")).await.unwrap();
    }
    let add = "INSERT INTO jobs (kind, subject, next_at) \
               SELECT 'test_claims', n::text, now() - interval '1 hour' + n * interval '1 s' \
               FROM generate_series(1, 30) n";
    writer.execute(add, &[]).await.unwrap();
    let leased = "SELECT count(*) FROM jobs WHERE kind = 'test_claims' AND leased_until IS NOT NULL";
    let (kinds, passed_over) = (vec!["test_claims"], Vec::<i64>::new());
    for claimed in 1..=30_i64 {
        let rows = writer.query(sql::jobs::CLAIM, &[&kinds, &passed_over, &60_i64]).await.unwrap();
        assert_eq!((rows.len(), rows[0].get::<_, &str>("subject")), (1, claimed.to_string().as_str()));
        assert_eq!(writer.query_one(leased, &[]).await.unwrap().get::<_, i64>(0), claimed);
    }
    writer.execute("DELETE FROM jobs WHERE kind = 'test_claims'", &[]).await.unwrap();
}
