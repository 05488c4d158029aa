//! What a command costs PostgreSQL does not depend on how much was said before.
//!
//! How: PostgreSQL's own counters (`pg_stat_user_indexes`, `pg_stat_user_tables`) say how many entries the server's
//! statements have read. The plans under test are made when the tables are empty, which is when they used to go wrong:
//! reading everything there is costs nothing then, and the plan is kept.
#![cfg(feature = "test-db")]

mod support;

use chat_server::storage::connect::{Role, connect};
use serde_json::json;
use std::time::Duration;
use support::{Client, Format, Server};

/// Entries of messages read so far, by index look-ups and by reading the table, and rows written.
async fn read_and_written(database: &tokio_postgres::Client) -> (i64, i64, i64) {
    let counts = "SELECT (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'messages'), \
                         (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'messages'), \
                         (SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'messages')";
    let row = database.query_one(counts, &[]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[tokio::test]
async fn a_commit_reads_no_more_when_more_was_said() {
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
    // A session adds up its counters once a second at most, when it has something to do or has been idle for long.
    let mut counted = read_and_written(&database).await;
    while counted.2 < MESSAGES {
        let again = json!({"conversation_id": room, "content": "as any other", "client_message_id": "0"});
        assert_eq!(client.ok("send_message", again).await["duplicate"], true);
        tokio::time::sleep(Duration::from_millis(200)).await;
        counted = read_and_written(&database).await;
    }
    let (by_index, by_scan, written) = counted;
    assert_eq!(written, MESSAGES, "a repeat writes nothing");
    // Reading everything, once for each message, would be half the square of their number.
    assert!(by_index + by_scan < 10 * MESSAGES, "{by_index} entries and {by_scan} rows read for {MESSAGES} messages");
}

#[tokio::test]
async fn a_change_that_is_submitted_again_is_not_done_again() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let created = server.ok(&ann, "create_conversation", json!({"kind": "public_room", "name": "once"})).await;
    let number: i64 = created["conversation"]["id"].as_str().unwrap().strip_prefix("room_").unwrap().parse().unwrap();
    let message = json!({"conversation_id": format!("room_{number}"), "content": "first"});
    let message = server.ok(&ann, "send_message", message).await["message_id"].as_i64().unwrap();
    // As the committer does after it has lost its connection: the same run with the same keys.
    let writer = connect(&server.target().config(Role::Writer)).await.unwrap();
    let kinds = vec!["join_conversation", "add_reaction", "edit_message", "delete_message", "remove_member"];
    let actors = vec![bob.id, bob.id, ann.id, ann.id, ann.id];
    let places = vec![number; kinds.len()];
    let ids: Vec<i64> = (1..=kinds.len() as i64).collect();
    let arguments = vec![
        json!({}),
        json!({"message_id": message, "emoji": "👍"}),
        json!({"message_id": message, "content": "second", "window_s": 0}),
        json!({"message_id": message}),
        json!({"user_id": bob.id}),
    ];
    let run = "SELECT verdict, events, result, gained, lost FROM apply_mutations($1, $2, $3, $4, $5)";
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        let rows = writer.query(run, &[&kinds, &places, &actors, &ids, &arguments]).await.unwrap();
        let read = |row: &tokio_postgres::Row| {
            let (verdict, events, result): (String, serde_json::Value, serde_json::Value) =
                (row.get(0), row.get(1), row.get(2));
            let (gained, lost): (Option<Vec<i64>>, Option<Vec<i64>>) = (row.get(3), row.get(4));
            assert_eq!(verdict, "committed", "{result}");
            (events, result, gained, lost)
        };
        outcomes.push(rows.iter().map(read).collect::<Vec<_>>());
    }
    assert_eq!(outcomes[0], outcomes[1]);
    assert_eq!(outcomes[1][2].0[0]["payload"]["content"], "second", "who hears of it now hears what was written");
    let members = server.ok(&ann, "list_members", json!({"conversation_id": format!("room_{number}")})).await;
    assert_eq!(members["members"].as_array().unwrap().len(), 1, "removed is removed: {members}");
    let database = server.database().await;
    let kept = "SELECT count(*) FROM mutation_outcomes o WHERE o.outcome::text LIKE '%second%'";
    assert_eq!(database.query_one(kept, &[]).await.unwrap().get::<_, i64>(0), 0, "texts are not kept there");
}
