//! The PostgreSQL floor stores what it measures, and nothing else.

use super::*;

#[test]
fn commits_what_it_measures_and_starts_from_empty_tables() {
    let store = Store::open(None).unwrap();
    let mut stored = Vec::new();
    for (form, connections, batch) in
        [(StatementForm::Known, 2, 7), (StatementForm::General, 2, 7), (StatementForm::Known, 3, 1)]
    {
        let shape = PostgresShape {
            form,
            connections,
            batch,
            rooms: 5,
            room_size: 3,
            content_bytes: 40,
            history: 0,
            warm_up_s: 0.0,
            seconds: 0.3,
            quiet: true,
        };
        let found = store.measure(&shape, &Interrupts::never()).unwrap();
        // Counted again from outside, in each room, and compared with the server's own numbers.
        let row = store
            .runtime
            .block_on(async {
                let client = store.embedded.superuser_target().connect_as_login().await.unwrap();
                let statement = "SELECT count(*), count(DISTINCT conversation_id), count(DISTINCT sender_id), \
                    (SELECT sum(last_seq)::bigint FROM conversations), sum(length(content))::bigint FROM messages";
                client.query_one(statement, &[]).await
            })
            .unwrap();
        let counted: i64 = row.get(0);
        assert!(found.rows > 0 && found.rows.is_multiple_of(batch as u64));
        assert_eq!(counted as u64, found.rows, "all that was measured, and nothing from before");
        assert!(row.get::<_, i64>(1) <= 5 && row.get::<_, i64>(2) <= 15);
        stored.push(counted);
        assert_eq!(row.get::<_, i64>(3), stored.iter().sum::<i64>(), "every row has taken its seq");
        assert_eq!(row.get::<_, i64>(4), counted * 40);
        assert_eq!(found.commit.count * batch as u64, found.rows);
    }
}

#[test]
fn measures_behind_a_history_and_shares_it_between_cases() {
    let store = Store::open(None).unwrap();
    let counts = "SELECT count(*), (SELECT sum(last_seq)::bigint FROM conversations), \
        (SELECT sum(message_count)::bigint FROM conversations), count(DISTINCT sender_id) FROM messages";
    let mut rows = 40_002;
    for batch in [7, 3] {
        let shape = PostgresShape {
            form: StatementForm::Known,
            connections: 2,
            batch,
            rooms: 2,
            room_size: 3,
            content_bytes: 4,
            history: 40_003,
            warm_up_s: 0.0,
            seconds: 0.2,
            quiet: true,
        };
        rows += store.measure(&shape, &Interrupts::never()).unwrap().rows as i64;
        let client = store.embedded.superuser_target();
        let row = store
            .runtime
            .block_on(async { client.connect_as_login().await.unwrap().query_one(counts, &[]).await.unwrap() });
        let found = (row.get::<_, i64>(0), row.get::<_, i64>(1), row.get::<_, i64>(2), row.get::<_, i64>(3));
        assert_eq!(found, (rows, rows, rows, 6));
    }
}
