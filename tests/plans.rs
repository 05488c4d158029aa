//! No page of a history, a thread, a list or a search reads a table from one end to the other.
//!
//! How: a room of 60,000 messages and a thousand small ones, written by SQL; then every statement that a page is made of, as
//! the server sends it, in a session where PostgreSQL itself reports each plan that it executes, those inside of functions
//! too (`auto_explain`). Each is executed often enough for PostgreSQL to go over to a plan for any value. Before and after it
//! has statistics, since a young installation has none.
#![cfg(feature = "test-db")]

mod support;

use chat_server::storage::connect::READER_PLANS;
use chat_server::storage::sql;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use support::{Server, User};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls};

/// Tables that grow with what people say. The others are small here, where reading them whole is the right thing.
const LARGE: [&str; 8] = [
    "messages",
    "message_search",
    "message_mentions",
    "message_reactions",
    "thread_statistics",
    "thread_followers",
    "conversation_events",
    "conversation_members",
];

/// Writes what was said: `$1` in a large room, `$2` in a small one of its own each, by `$3` and `$4`.
const FILL: &str = "
WITH large AS (
    SELECT $1::bigint AS room, n AS seq FROM generate_series(2, 60001) n
), small AS (
    INSERT INTO conversations (id, kind, name, owner_id, last_seq)
    SELECT nextval('conversation_numbers') * 4 + 2, 'public_room', 'small ' || n, $2, 3 FROM generate_series(1, 1000) n
    RETURNING id
), members AS (
    INSERT INTO conversation_members (conversation_id, user_id, role)
    SELECT id, u, 'member' FROM small, unnest(ARRAY[$2::bigint, $3::bigint]) u
), said AS (
    SELECT room, seq FROM large
    UNION ALL SELECT id, n FROM small, generate_series(2, 3) n
)
INSERT INTO messages (conversation_id, seq, sender_id, content)
SELECT room, said.seq, CASE WHEN said.seq % 2 = 0 THEN $2 ELSE $3 END,
       'word' || (said.seq % 500) || ' common text of number ' || said.seq
           || CASE WHEN said.seq % 10 = 0 THEN ' @' || (SELECT username FROM users WHERE id = $2) ELSE '' END
           || CASE WHEN said.seq % 7 = 0 THEN ' https://example.org/' || said.seq ELSE '' END
  FROM said ORDER BY room, said.seq";

/// Replies, reactions, pins, edits and events of the large room.
const FILL_MORE: &str = "
UPDATE conversations SET last_seq = 62001 WHERE id = $room;
INSERT INTO messages (conversation_id, seq, sender_id, content, parent_message_id)
SELECT $room, 60001 + n, $ann, 'a reply', (SELECT id FROM messages WHERE conversation_id = $room AND seq = 2 + n % 300)
  FROM generate_series(1, 1000) n;
INSERT INTO conversation_events (conversation_id, seq, kind, actor_id, payload, mutation_id)
SELECT $room, 61001 + n, 'conversation_updated', $ann, '{\"slow_mode_s\": 0}', -n FROM generate_series(1, 1000) n;
INSERT INTO message_reactions (message_id, emoji, user_id, conversation_id)
SELECT id, ':ok:', $ann, $room FROM messages WHERE conversation_id = $room AND seq % 5 = 0;
INSERT INTO message_pins (conversation_id, message_id, pinned_by, seq)
SELECT $room, id, $ann, seq FROM messages WHERE conversation_id = $room AND seq % 2000 = 0;
INSERT INTO conversation_members (conversation_id, user_id)
SELECT c.id, u.id FROM conversations c, users u WHERE c.kind = 'public_room' ON CONFLICT DO NOTHING;";

struct Watched {
    client: Client,
    notices: UnboundedReceiver<String>,
}

impl Watched {
    /// A session as the server's readers have it, with every plan told.
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
             SET auto_explain.log_level = notice; SET client_min_messages = notice; SET jit = off; SET timezone = 'UTC'; \
             SET ROLE chat_app; SELECT set_config('app.user_id', '{user}', false)"
        );
        client.batch_execute(&setup).await.unwrap();
        Self { client, notices }
    }

    /// The plans of a statement, executed so often that PostgreSQL has gone over to the one for any value.
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

async fn no_table_is_read_whole(watched: &mut Watched, room: i64, ann: &User, when: &str) {
    let after = 30_000i64;
    let limit = 51i64;
    let message: i64 = {
        let row =
            watched.client.query_one("SELECT id FROM messages WHERE conversation_id = $1 AND seq = 2", &[&room]).await;
        row.unwrap().get(0)
    };
    let mut judge = async |what: &str, statement: &str, parameters: &[&(dyn ToSql + Sync)]| {
        let plans = watched.plans(statement, parameters).await;
        assert!(plans.len() >= 7, "{what}: PostgreSQL told {} plans", plans.len());
        for plan in plans {
            let whole = LARGE.iter().find(|table| plan.contains(&format!("Seq Scan on {table}")));
            assert_eq!(whole, None, "{what} {when}:\n{plan}");
        }
    };
    judge("the newest page", sql::MESSAGES_BEFORE, &[&room, &i64::MAX, &limit]).await;
    judge("a page before", sql::MESSAGES_BEFORE, &[&room, &after, &limit]).await;
    judge("a page after", sql::MESSAGES_AFTER, &[&room, &after, &limit]).await;
    judge("where a message is", sql::SEQ_OF_MESSAGE, &[&room, &message]).await;
    judge("a replay", sql::EVENTS_AFTER, &[&room, &61_500i64, &limit]).await;
    judge("conversations", sql::LIST_CONVERSATIONS, &[&0i64, &limit]).await;
    judge("members", sql::LIST_MEMBERS, &[&room, &0i64, &limit]).await;
    let in_room = |more: Value| {
        let mut arguments = json!({"conversation": room, "limit": 50});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    let found = |query: &str| json!({"query": query, "limit": 50});
    for (name, arguments) in [
        ("get_thread", json!({"message_id": message, "limit": 50})),
        ("get_thread", json!({"message_id": message, "limit": 50, "before_seq": 61_000})),
        ("list_threads", json!({"limit": 50})),
        ("list_pins", in_room(json!({}))),
        ("list_mentions", json!({"limit": 50})),
        ("list_mentions", in_room(json!({}))),
        ("list_reactions", json!({"message_id": message, "limit": 50})),
        ("list_edits", json!({"message_id": message})),
        ("search_messages", found("word77")),
        ("search_messages", found("common")),
        ("search_messages", found("\"number 4711\"")),
        ("search_messages", found("wor*")),
        ("search_messages", found("ord7")),
        ("search_messages", found("nowhere to be found")),
        ("search_messages", in_room(found("word77"))),
        ("search_messages", in_room(json!({"query": "common", "from_user_id": ann.id, "has": "link"}))),
        (
            "search_messages",
            json!({"query": "common", "limit": 50, "cursor_us": 4_000_000_000_000_000i64, "cursor_id": 5}),
        ),
    ] {
        judge(&format!("{name} {arguments}"), sql::LOOK_UP, &[&name, &arguments]).await;
    }
}

#[tokio::test]
async fn a_page_reads_what_it_shows() {
    let server = Server::start(1, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let number: i64 = room.strip_prefix("room_").unwrap().parse().unwrap();
    let database = server.database().await;
    for table in LARGE {
        // Or it would have statistics at a moment of its own choice.
        let alone = format!("ALTER TABLE {table} SET (autovacuum_enabled = off)");
        database.batch_execute(&alone).await.unwrap();
    }
    database.execute(FILL, &[&number, &ann.id, &bob.id]).await.unwrap();
    let more = FILL_MORE.replace("$room", &number.to_string()).replace("$ann", &ann.id.to_string());
    database.batch_execute(&more).await.unwrap();
    let index = "SELECT index_messages(id, 100000) FROM conversations";
    database.query(index, &[]).await.unwrap();
    let indexed: i64 = database.query_one("SELECT count(*) FROM message_search", &[]).await.unwrap().get(0);
    assert!(indexed > 60_000, "{indexed}");
    let mut watched = Watched::new(&server, ann.id).await;
    no_table_is_read_whole(&mut watched, number, &ann, "without statistics").await;
    database.batch_execute("ANALYZE").await.unwrap();
    let mut watched = Watched::new(&server, ann.id).await;
    no_table_is_read_whole(&mut watched, number, &ann, "with statistics").await;
}
