//! What a command costs PostgreSQL does not depend on how much was said before.
//!
//! How: PostgreSQL's own counters (`pg_stat_user_indexes`, `pg_stat_user_tables`) say how many entries the server's
//! statements have read. The plans under test are made when the tables are empty, which is when they used to go wrong:
//! reading everything there is costs nothing then, and the plan is kept.
#![cfg(feature = "test-db")]

mod support;

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
