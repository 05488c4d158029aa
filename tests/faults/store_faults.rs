//! Faults of PostgreSQL: while it cannot execute a command, the server answers `storage_unavailable` and never a final
//! error. Readiness has the reason, and the log stays short. A broken invariant of the server stops the process.
//!
//! How: each test breaks the private PostgreSQL of its own server through a superuser connection and repairs it.

use crate::support::{Client, Format, PATIENCE, Server, User, code, signal, text};
use chat_server::storage::accounts::Accounts;
use chat_server::storage::connect::Role;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Waits until /health/ready has this status. Returns its reason for the store.
async fn wait_for_readiness(server: &Server, wanted: u16) -> String {
    let started = Instant::now();
    loop {
        let (status, answer) = server.request(reqwest::Method::GET, "/health/ready", None, None).await;
        if status == wanted {
            return answer["checks"]["storage"]["reason"].as_str().unwrap_or_default().to_owned();
        }
        assert!(started.elapsed() < PATIENCE, "not {wanted}: {answer}\n{}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The number of log lines that contain `part`.
fn lines_with(server: &Server, part: &str) -> usize {
    server.log().lines().filter(|line| line.contains(part)).count()
}

#[track_caller]
fn assert_unavailable(refusal: &Value) {
    assert_eq!(code(refusal), "storage_unavailable", "{refusal}");
    assert!(refusal["retry_after_ms"].as_u64().is_some_and(|ms| ms > 0), "{refusal}");
}

async fn room_of_one(server: &Server) -> (User, String) {
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    (ann, room)
}

#[tokio::test]
async fn answers_storage_unavailable_while_a_right_is_missing() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let mut client = Client::none(&server, &ann, Format::Json).await;
    let message = |n: usize| json!({"conversation_id": room, "content": "hello", "client_message_id": n.to_string()});
    client.ok("send_message", message(0)).await;
    let database = server.database().await;
    database.batch_execute("REVOKE INSERT ON messages FROM chat_writer").await.unwrap();
    let began = Instant::now();
    for n in 1..300 {
        assert_unavailable(&client.command("send_message", message(n)).await.unwrap_err());
    }
    let reason = wait_for_readiness(&server, 503).await;
    assert!(reason.contains("refuses writes") && reason.contains("permission denied"), "{reason}");
    let lines = lines_with(&server, "PostgreSQL refused");
    assert!((1..=2 + began.elapsed().as_secs() as usize).contains(&lines), "{lines} lines in {:?}", began.elapsed());
    database.batch_execute("GRANT INSERT ON messages TO chat_writer").await.unwrap();
    wait_for_readiness(&server, 200).await; // by a probe, since clients do not send to a server that is not ready
    assert_eq!(client.ok("send_message", message(1)).await["duplicate"], false, "the refused message was not stored");
}

#[tokio::test]
async fn is_not_ready_while_a_table_is_locked() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let mut database = server.database().await;
    let lock = database.transaction().await.unwrap();
    lock.batch_execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let reason = wait_for_readiness(&server, 503).await;
    assert!(reason.contains("has not answered a write"), "{reason}");
    lock.rollback().await.unwrap();
    wait_for_readiness(&server, 200).await;
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "again"})).await;
}

#[tokio::test]
async fn allows_a_retry_of_an_edit_that_met_a_full_disk() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let sent = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "first"})).await;
    let edit = json!({"message_id": sent["message_id"], "content": "second"});
    let database = server.database().await;
    let full = "CREATE FUNCTION disk_full() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$; \
                CREATE TRIGGER disk_full BEFORE UPDATE ON messages FOR EACH ROW EXECUTE FUNCTION disk_full();";
    database.batch_execute(full).await.unwrap();
    assert_unavailable(&server.call(&ann, "edit_message", edit.clone()).await.unwrap_err());
    database.batch_execute("DROP TRIGGER disk_full ON messages").await.unwrap();
    server.ok(&ann, "edit_message", edit).await;
}

#[tokio::test]
async fn refuses_only_the_message_that_cannot_be_stored() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let database = server.database().await;
    database.batch_execute("ALTER TABLE messages ADD CONSTRAINT odd CHECK (content <> 'odd')").await.unwrap();
    let mut client = Client::none(&server, &ann, Format::Json).await;
    let mut ids = Vec::new();
    for n in 0..60 {
        let content = if n % 20 == 7 { "odd" } else { "even" };
        ids.push(client.feed("send_message", json!({"conversation_id": room, "content": content})).await);
    }
    client.flush().await;
    for (n, id) in ids.into_iter().enumerate() {
        match client.reply(id).await {
            Ok(_) => assert_ne!(n % 20, 7),
            Err(refusal) => assert_eq!((n % 20, code(&refusal).as_str()), (7, "bad_request"), "{refusal}"),
        }
    }
    assert_eq!(wait_for_readiness(&server, 200).await, "");
}

#[tokio::test]
async fn answers_no_final_error_when_connections_are_terminated() {
    const ROUNDS: usize = 25;
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let sent = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "0"})).await;
    let message = sent["message_id"].clone();
    let stop = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for task in 0..4 {
        // Connected before the first connection is terminated.
        let mut client = Client::none(&server, &ann, Format::Json).await;
        let (stop, room, message) = (Arc::clone(&stop), room.clone(), message.clone());
        tasks.push(tokio::spawn(async move {
            let (mut done, mut refused) = (0, 0);
            let mut message = message;
            while !stop.load(Ordering::Relaxed) {
                let (kind, data) = match task {
                    // A message can be edited 50 times: the edits go on with a new one before that.
                    0 if done % 40 == 39 => {
                        ("send_message", json!({"conversation_id": room, "content": format!("{done}")}))
                    }
                    0 => ("edit_message", json!({"message_id": message, "content": format!("{done}")})),
                    1 => ("send_message", json!({"conversation_id": room, "content": format!("{done}")})),
                    2 => ("get_history", json!({"conversation_id": room})),
                    _ => ("list_conversations", json!({})),
                };
                match client.command(kind, data).await {
                    Ok(ack) => {
                        done += 1;
                        if kind == "send_message" {
                            message = ack["message_id"].clone();
                        }
                    }
                    Err(refusal) => {
                        let code = code(&refusal);
                        assert!(["storage_unavailable", "deadline_exceeded"].contains(&&*code), "{kind}: {refusal}");
                        refused += 1;
                    }
                }
            }
            (done, refused)
        }));
    }
    let database = server.database().await;
    for _ in 0..ROUNDS {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE application_name LIKE 'veza %' AND pid <> pg_backend_pid()";
        database.query_one(kill, &[]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        let (done, _) = task.await.unwrap();
        assert!(done > 0, "the server refused everything");
    }
}

/// Bodies for `commit_messages` and `apply_mutations` whose rows do not belong to the mutations, and what the server
/// logs about a run of one. `{input}` is the first parameter of the function.
const WRONG_ANSWERS: [(&str, &str); 3] = [
    ("RETURN;", "0 rows for 1 mutations"),
    (
        "FOR i IN 1 .. cardinality({input}) + 1 LOOP ord := i; verdict := 'not_member'; RETURN NEXT; END LOOP;",
        "2 rows for 1 mutations",
    ),
    (
        "FOR i IN 1 .. cardinality({input}) LOOP ord := i + 1; verdict := 'not_member'; RETURN NEXT; END LOOP;",
        "row 1 of 1 is for mutation 2",
    ),
];

/// The same for `commit_known`, with the ends of what the server logs.
const WRONG_KNOWN_ANSWERS: [(&str, &str); 2] = [
    ("created_at := now(); rooms := p_room;", "have the seqs []"),
    ("created_at := now(); rooms := p_room; seqs := ARRAY[99]; message_ids := ARRAY[9];", "have the seqs [99]"),
];

#[tokio::test]
async fn stops_the_process_on_an_answer_whose_rows_do_not_fit() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let sent = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "kept"})).await;
    // Replies always take the general form.
    let reply = json!({"conversation_id": room, "content": "lost?", "parent_message_id": sent["message_id"]});
    let commands = [
        ("commit_messages", "p_conversation", "send_message", reply),
        ("apply_mutations", "p_kind", "edit_message", json!({"message_id": sent["message_id"], "content": "changed?"})),
    ];
    let mut stops = 0;
    for (function, input, kind, data) in commands {
        for (body, reason) in WRONG_ANSWERS {
            stops += 1;
            stops_with(&server, (&ann, kind, &data), function, &body.replace("{input}", input), (reason, stops)).await;
        }
    }
    let message = json!({"conversation_id": room, "content": "lost?"});
    for (body, reason) in WRONG_KNOWN_ANSWERS {
        // A restarted server knows nobody.
        server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "kept"})).await;
        stops += 1;
        stops_with(&server, (&ann, "send_message", &message), "commit_known", body, (reason, stops)).await;
    }
    let history = server.ok(&ann, "get_history", json!({"conversation_id": room})).await;
    let texts: Vec<&str> = history["messages"].as_array().unwrap().iter().map(|m| text(&m["content"])).collect();
    assert_eq!(texts, ["kept"; 1 + WRONG_KNOWN_ANSWERS.len()]);
}

/// Gives a function another body, sends a command that needs it, and starts the server again, which must have stopped
/// for a reason and as often as is expected.
async fn stops_with(
    server: &Server,
    (user, kind, data): (&User, &str, &Value),
    function: &str,
    body: &str,
    (reason, stops): (&str, usize),
) {
    let database = server.database().await;
    let definition = format!("SELECT pg_get_functiondef(p.oid) FROM pg_proc p WHERE p.proname = '{function}'");
    let right: String = database.query_one(&definition, &[]).await.unwrap().get(0);
    let head = &right[..right.find("AS $").unwrap()];
    // The function keeps its oid, so that prepared statements call the new body.
    database.batch_execute(&format!("{head} AS $f$ BEGIN {body} END $f$")).await.unwrap();
    let mut client = Client::none(server, user, Format::Json).await;
    client.send(kind, data.clone()).await;
    let status = server.wait();
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{function}: {body}: {status}");
    let reason = format!("{reason}: this is a fault of the server's");
    assert!(server.log_tail().contains(&reason), "{function}: {body}: {}", server.log_tail());
    assert_eq!(lines_with(server, "this is a fault of the server's"), stops, "{}", server.log_tail());
    database.batch_execute(&right).await.unwrap();
    server.start_again();
}

/// Moves a file of the private PostgreSQL away, without which no process of it starts, until this is dropped.
struct Hidden {
    file: PathBuf,
    away: PathBuf,
}

impl Hidden {
    fn new(server: &Server, name: &str) -> Self {
        let file = server.data_dir.join("postgres").join(name);
        let away = file.with_extension("hidden");
        std::fs::rename(&file, &away).unwrap();
        Self { file, away }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        std::fs::rename(&self.away, &self.file).unwrap();
    }
}

/// Waits until postgres.log has `count` failed starts, each of which wrote `reason` in it.
fn wait_for_starts(server: &Server, reason: &str, count: usize) {
    let began = Instant::now();
    loop {
        let log = std::fs::read_to_string(server.data_dir.join("postgres.log")).unwrap_or_default();
        let starts = log.matches(reason).count();
        if starts >= count {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{starts} starts: {log}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The server starts PostgreSQL again at once, and then after at least 100, 200, 400, 800 and 1,600 ms.
const SIXTH_RESTART: Duration = Duration::from_millis(3_100);

#[tokio::test]
async fn restarts_a_private_postgresql_with_backoff() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let hidden = Hidden::new(&server, "PG_VERSION");
    let began = Instant::now();
    for pid in server.postgres_processes() {
        signal(pid, Signal::SIGKILL);
    }
    wait_for_starts(&server, "is not a valid data directory", 6);
    assert!(began.elapsed() >= SIXTH_RESTART, "six restarts in {:?}", began.elapsed());
    let reason = wait_for_readiness(&server, 503).await;
    assert!(reason.contains("connection"), "{reason}");
    assert!(lines_with(&server, "the private PostgreSQL has ended") >= 1, "{}", server.log_tail());
    drop(hidden);
    wait_for_readiness(&server, 200).await;
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "again"})).await;
}

#[tokio::test]
async fn starts_a_private_postgresql_with_backoff() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    server.sigterm();
    server.wait();
    let hidden = Hidden::new(&server, "global/pg_control");
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| server.start_again());
        wait_for_starts(&server, "could not find the database system", 1 + 6);
        assert!(began.elapsed() >= SIXTH_RESTART, "six restarts in {:?}", began.elapsed());
        assert!(lines_with(&server, "the private PostgreSQL has ended") >= 1, "{}", server.log_tail());
        drop(hidden);
    });
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "again"})).await;
}

#[tokio::test]
async fn reserves_connections_for_writers_when_postgresql_has_few() {
    // The first server provides PostgreSQL. The second uses a database of it that allows ten connections: nine for what
    // does not read (the lock, three writers, the indexer, four for accounts), and one for readers.
    let host = Server::start(1, &[]);
    let database = host.database().await;
    let create = "CREATE DATABASE second ENCODING 'UTF8' TEMPLATE template0 OWNER chat_owner CONNECTION LIMIT 10";
    database.batch_execute(create).await.unwrap();
    let socket = host.data_dir.join("postgres");
    let url = format!("postgresql:///second?host={}&user=chat_owner", text(&json!(socket)));
    let server = Server::start(1, &[("database.url", &url), ("database.max_connections", "20")]);
    let users = [server.register().await, server.register().await, server.register().await];
    let room = server.room(&users.iter().collect::<Vec<_>>()).await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'second'";
    for round in 0..3 {
        let mut clients = Vec::new();
        for user in &users {
            clients.push(Client::none(&server, user, Format::Json).await);
        }
        database.query_one(kill, &[]).await.unwrap(); // all connections are opened again at once
        let mut pending = Vec::new();
        for client in &mut clients {
            for _ in 0..30 {
                pending.push(client.feed("get_history", json!({"conversation_id": room})).await);
            }
            client.flush().await;
        }
        wait_for_readiness(&server, 200).await;
        for (n, client) in clients.iter_mut().enumerate() {
            let sent = json!({"conversation_id": room, "content": format!("{round} {n}")});
            client.ok("send_message", sent).await;
            let page = client.ok("get_history", json!({"conversation_id": room})).await;
            assert!(page["messages"].as_array().is_some_and(|messages| !messages.is_empty()));
        }
    }
}

#[tokio::test]
async fn keeps_outcomes_of_changes_by_age_and_number() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let database = server.database().await;
    let fill = format!(
        "INSERT INTO mutation_outcomes (mutation_id, actor_id, outcome, created_at) \
         SELECT n, {}, '{{}}', now() - n * interval '1 second' FROM generate_series(1, 105000) n",
        ann.id
    );
    database.batch_execute(&fill).await.unwrap();
    let count = || async { database.query_one("SELECT count(*) FROM mutation_outcomes", &[]).await.unwrap().get(0) };
    let before: i64 = count().await;
    let sweep = chat_server::storage::sql::accounts::SWEEP_MUTATION_OUTCOMES;
    let kept_max = 100_000_i64;
    assert!(database.execute(sweep, &[&1_000_i64, &kept_max]).await.unwrap() <= 1_000, "a batch is bounded");
    while database.execute(sweep, &[&5_000_i64, &kept_max]).await.unwrap() > 0 {}
    let kept: i64 = count().await;
    assert!(
        before > 105_000 && kept <= 86_401 + 2,
        "{kept} of {before} rows left, of which 86,400 are no older than a day"
    );
    let newest = "SELECT count(*) FROM mutation_outcomes WHERE created_at > now() - interval '1 hour'";
    assert!(database.query_one(newest, &[]).await.unwrap().get::<_, i64>(0) >= 3_500, "the newest rows stay");
    let many = "INSERT INTO mutation_outcomes (mutation_id, actor_id, outcome) \
                SELECT -n, $1, '{}' FROM generate_series(1, 60000) n";
    database.execute(many, &[&ann.id]).await.unwrap();
    while database.execute(sweep, &[&5_000_i64, &kept_max]).await.unwrap() > 0 {}
    let kept: i64 = count().await;
    assert!((100_000..=100_001).contains(&kept), "{kept} rows, of which 100,000 may stay");
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "still here"})).await;
}

#[tokio::test]
async fn sweeps_outcomes_until_it_has_caught_up() {
    let server = Server::start(1, &[]);
    let (ann, room) = room_of_one(&server).await;
    let database = server.database().await;
    let fill = "INSERT INTO mutation_outcomes (mutation_id, actor_id, outcome, created_at) \
                SELECT -n, $1, '{}', now() - n * interval '1 second' FROM generate_series(1, 5000) n";
    database.execute(fill, &[&ann.id]).await.unwrap();
    let before: i64 = database.query_one("SELECT count(*) FROM mutation_outcomes", &[]).await.unwrap().get(0);
    let accounts = Accounts::new(server.target().pool(Role::Writer, 1).unwrap());
    // 250 batches of 20 rows.
    let removed = accounts.sweep_outcomes(100, 20).await.unwrap();
    let kept: i64 = database.query_one("SELECT count(*) FROM mutation_outcomes", &[]).await.unwrap().get(0);
    assert_eq!(removed as i64, before - kept);
    assert!((100..=101).contains(&kept), "{kept} rows of {before}, of which 100 may stay");
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "still here"})).await;
}
