//! Query plans: no page of a history, a thread, a list or a search scans a large table.
//!
//! How: SQL fills a room with 100,000 messages, of which 40 have files, and a thousand small rooms. The test then
//! executes every statement of a page as the server sends it. With `auto_explain`, PostgreSQL reports each plan that it
//! executes, also inside functions. Each statement runs often enough for PostgreSQL to switch to a generic plan. The
//! test runs before and after `ANALYZE`, since a new installation has no statistics.

use crate::support::{Server, User};
use chat_server::storage::connect::READER_PLANS;
use chat_server::storage::sql;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// Tables that grow with the number of messages. The other tables are small here, so scanning them is correct.
const LARGE: [&str; 9] = [
    "messages",
    "message_search",
    "message_files",
    "message_mentions",
    "message_reactions",
    "thread_statistics",
    "thread_followers",
    "conversation_events",
    "conversation_members",
];

/// Inserts messages of users `$2` and `$3` into the large room `$1`, and into a thousand small rooms.
const FILL: &str = "
WITH large AS (
    SELECT $1::bigint AS room, n AS seq FROM generate_series(2, 100001) n
), small AS (
    INSERT INTO conversations (id, kind, name, owner_id, last_seq, last_ordinal)
    SELECT nextval('conversation_numbers') * 4 + 2, 'public_room', 'small ' || n, $2, 3, 2
      FROM generate_series(1, 1000) n
    RETURNING id
), members AS (
    INSERT INTO conversation_members (conversation_id, user_id, role)
    SELECT id, u, 'member' FROM small, unnest(ARRAY[$2::bigint, $3::bigint]) u
), added AS (
    SELECT room, seq FROM large
    UNION ALL SELECT id, n FROM small, generate_series(2, 3) n
)
INSERT INTO messages (conversation_id, seq, ordinal, client_message_id, sender_id, content)
SELECT room, added.seq, added.seq - 1, 'filled-' || added.seq, CASE WHEN added.seq % 2 = 0 THEN $2 ELSE $3 END,
       'word' || (added.seq % 500) || ' common text of number ' || added.seq
           || CASE WHEN added.seq % 10 = 0 THEN ' @' || (SELECT username FROM users WHERE id = $2) ELSE '' END
           || CASE WHEN added.seq % 7 = 0 THEN ' https://example.org/' || added.seq ELSE '' END
  FROM added ORDER BY room, added.seq";

/// Replies, reactions, pins, edits and events of the large room.
const FILL_MORE: &str = "
UPDATE conversations SET last_seq = 102001, last_ordinal = 101000 WHERE id = $room;
INSERT INTO messages (conversation_id, seq, ordinal, client_message_id, sender_id, content, parent_message_id)
SELECT $room, 100001 + n, 100000 + n, 'reply-' || n, $ann, 'a reply',
       (SELECT id FROM messages WHERE conversation_id = $room AND seq = 2 + n % 300)
  FROM generate_series(1, 1000) n;
INSERT INTO conversation_events (conversation_id, seq, kind, actor_id, payload, mutation_id)
SELECT $room, 101001 + n, 'conversation_updated', $ann, '{\"slow_mode_s\": 0}', -n FROM generate_series(1, 1000) n;
WITH added AS (
    INSERT INTO files (conversation_id, uploader_id, name, size, declared_type, expires_at)
    SELECT $room, $ann, 'a.png', 0, 'image/png', 'infinity' RETURNING id)
INSERT INTO message_files (message_id, position, conversation_id, file_id)
SELECT m.id, 0, $room, added.id FROM messages m, added WHERE m.conversation_id = $room AND m.seq % 2500 = 0;
INSERT INTO message_reactions (message_id, emoji, user_id, conversation_id)
SELECT id, ':ok:', $ann, $room FROM messages WHERE conversation_id = $room AND seq % 5 = 0;
INSERT INTO message_pins (conversation_id, message_id, pinned_by, seq)
SELECT $room, id, $ann, seq FROM messages WHERE conversation_id = $room AND seq % 2000 = 0;
INSERT INTO conversation_members (conversation_id, user_id)
SELECT c.id, u.id FROM conversations c, users u WHERE c.kind = 'public_room' ON CONFLICT DO NOTHING;";

/// A database session that reports every plan.
struct Session {
    client: Client,
    notices: UnboundedReceiver<String>,
}

impl Session {
    /// Opens a session with the settings of the server's readers, on which PostgreSQL reports every plan.
    async fn new(server: &Server, user: i64) -> Self {
        let mut config = server.target().login_config();
        config.options(format!("{}{READER_PLANS}", config.get_options().unwrap_or_default()));
        let (client, mut connection) = config.connect(NoTls).await.unwrap();
        let (sender, notices) = unbounded_channel();
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message {
                    let _ = sender.send(notice.message().to_owned());
                }
            }
        });
        let setup = format!(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; \
             SET auto_explain.log_level = notice; SET client_min_messages = notice; SET jit = off; \
             SET timezone = 'UTC'; \
             SET ROLE chat_app; SELECT set_config('app.user_id', '{user}', false)"
        );
        client.batch_execute(&setup).await.unwrap();
        Self { client, notices }
    }

    /// The plans of a statement, which runs until PostgreSQL uses a generic plan.
    async fn plans(&mut self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<String> {
        let prepared = self.client.prepare(statement).await.unwrap();
        for _ in 0..7 {
            self.client.query(&prepared, parameters).await.unwrap();
        }
        self.client.simple_query("SELECT 'the end'").await.unwrap();
        let mut plans = Vec::new();
        loop {
            let notice = self.notices.recv().await.unwrap();
            if notice.contains("the end") {
                return plans;
            }
            plans.push(notice);
        }
    }
}

async fn check_that_no_large_table_is_scanned(session: &mut Session, room: i64, ann: &User, when: &str) {
    let after = 30_000i64;
    let limit = 51i64;
    let message: i64 = {
        let row =
            session.client.query_one("SELECT id FROM messages WHERE conversation_id = $1 AND seq = 2", &[&room]).await;
        row.unwrap().get(0)
    };
    let mut check = async |what: &str, statement: &str, parameters: &[&(dyn ToSql + Sync)]| {
        let plans = session.plans(statement, parameters).await;
        assert!(plans.len() >= 7, "{what}: PostgreSQL reported {} plans", plans.len());
        for plan in plans {
            let scanned = LARGE.iter().find(|table| plan.contains(&format!("Seq Scan on {table}")));
            assert_eq!(scanned, None, "{what} {when}:\n{plan}");
        }
    };
    check("the newest page", sql::MESSAGES_BEFORE, &[&room, &i64::MAX, &limit]).await;
    check("a page before", sql::MESSAGES_BEFORE, &[&room, &after, &limit]).await;
    check("a page after", sql::MESSAGES_AFTER, &[&room, &after, &limit]).await;
    check("where a message is", sql::SEQ_OF_MESSAGE, &[&room, &message]).await;
    check("a replay", sql::EVENTS_AFTER, &[&room, &101_500i64, &limit]).await;
    check("conversations", sql::LIST_CONVERSATIONS, &[&0i64, &limit]).await;
    check("members", sql::LIST_MEMBERS, &[&room, &0i64, &limit]).await;
    let in_room = |more: Value| {
        let mut arguments = json!({"conversation": room, "limit": 50});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let search = |query: &str| json!({"query": query, "limit": 50});
    for (name, arguments) in [
        ("get_thread", json!({"message_id": message, "limit": 50})),
        ("get_thread", json!({"message_id": message, "limit": 50, "before_seq": 101_000})),
        ("list_threads", json!({"limit": 50})),
        ("list_pins", in_room(json!({}))),
        ("list_mentions", json!({"limit": 50})),
        ("list_mentions", in_room(json!({}))),
        ("list_reactions", json!({"message_id": message, "limit": 50})),
        ("list_edits", json!({"message_id": message})),
        ("search_messages", search("word77")),
        ("search_messages", search("common")),
        ("search_messages", search("\"number 4711\"")),
        ("search_messages", search("wor*")),
        ("search_messages", search("ord7")),
        ("search_messages", search("nowhere to be found")),
        ("search_messages", in_room(search("word77"))),
        ("search_messages", in_room(json!({"query": "common", "from_user_id": ann.id, "has": "link"}))),
        (
            "search_messages",
            json!({"query": "common", "limit": 50, "cursor_us": 4_000_000_000_000_000i64, "cursor_id": 5}),
        ),
    ] {
        check(&format!("{name} {arguments}"), sql::LOOK_UP, &[&name, &arguments]).await;
    }
    // Without a query: one of the indexes that have only messages with files.
    for more in [json!({}), json!({"conversation": room}), json!({"from_user_id": ann.id}), json!({"has": "image"})] {
        let mut arguments = json!({"has": "file", "limit": 50});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let plans = session.plans(sql::LOOK_UP, &[&"search_messages", &arguments]).await;
        let compared: Vec<&String> = plans.iter().filter(|plan| plan.contains("on message_search_0 x")).collect();
        assert!(!compared.is_empty());
        for plan in compared {
            assert!(
                plan.contains("Index Scan Backward using message_search_0_files_by_"),
                "{arguments} {when}:\n{plan}"
            );
        }
    }
}

/// Rows of messages that the session's transaction has fetched so far.
const FETCHED: &str = r"SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint FROM pg_stat_xact_user_tables
    WHERE relname ~ '^messages_\d+$'";
/// What is unread, counted message by message.
const UNREAD: &str = "SELECT count(*) FROM messages m JOIN conversation_members x USING (conversation_id)
    WHERE x.user_id = $1 AND m.conversation_id = $2 AND m.seq > x.read_seq AND m.sender_id <> x.user_id
      AND m.deleted_at IS NULL AND m.message_type <> 'system'";

/// The large room has 101,000 unread messages for a user who wrote none of them, and half as many for one who did.
async fn unread_messages_are_counted_without_reading_them(session: &Session, room: i64, user: &User) {
    let client = &session.client;
    client.batch_execute("BEGIN").await.unwrap();
    client.query_one("SELECT set_config('app.user_id', $1, true)", &[&user.id.to_string()]).await.unwrap();
    let before: i64 = client.query_one(FETCHED, &[]).await.unwrap().get(0);
    let page = client.query(sql::LIST_CONVERSATIONS, &[&(room - 1), &51i64]).await.unwrap();
    let after: i64 = client.query_one(FETCHED, &[]).await.unwrap().get(0);
    let shown: Value = page[0].get(1);
    let counted: i64 = client.query_one(UNREAD, &[&user.id, &room]).await.unwrap().get(0);
    client.batch_execute("COMMIT").await.unwrap();
    assert_eq!((page.len(), page[0].get::<_, i64>(0)), (51, room));
    assert_eq!(shown["unread_count"], json!(counted), "{shown}");
    assert!(counted > 45_000, "{counted} are unread");
    assert!(after - before <= 300, "a page of 51 conversations fetched {} messages", after - before);
}

#[tokio::test]
async fn reads_every_page_without_scanning_a_large_table() {
    let server = Server::start(1, &[]);
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob, &eve]).await;
    let number: i64 = room.strip_prefix("room_").unwrap().parse().unwrap();
    let database = server.database().await;
    for table in LARGE {
        // Autovacuum would add statistics at an unknown time.
        let partition = if ["messages", "message_search"].contains(&table) { "_0" } else { "" };
        let off = format!("ALTER TABLE {table}{partition} SET (autovacuum_enabled = off)");
        database.batch_execute(&off).await.unwrap();
    }
    database.execute(FILL, &[&number, &ann.id, &bob.id]).await.unwrap();
    let more = FILL_MORE.replace("$room", &number.to_string()).replace("$ann", &ann.id.to_string());
    database.batch_execute(&more).await.unwrap();
    let index = "SELECT index_messages(id, 100000) FROM conversations";
    database.query(index, &[]).await.unwrap();
    let indexed: i64 = database.query_one("SELECT count(*) FROM message_search", &[]).await.unwrap().get(0);
    assert!(indexed > 100_000, "{indexed}");
    let mut session = Session::new(&server, ann.id).await;
    check_that_no_large_table_is_scanned(&mut session, number, &ann, "without statistics").await;
    database.batch_execute("ANALYZE").await.unwrap();
    let mut session = Session::new(&server, ann.id).await;
    check_that_no_large_table_is_scanned(&mut session, number, &ann, "with statistics").await;

    // Some are deleted, and the indexes have the messages that every member sees.
    let delete = format!(
        "UPDATE messages SET deleted_at = now(), content = '' WHERE conversation_id = {number} AND seq % 600 IN (1, 2)"
    );
    database.batch_execute(&delete).await.unwrap();
    database.batch_execute("VACUUM (ANALYZE) messages").await.unwrap();
    for user in [&ann, &bob, &eve] {
        unread_messages_are_counted_without_reading_them(&session, number, user).await;
    }
}
