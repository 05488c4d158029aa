//! `chat-server import veza-legacy`: every mix of the legacy generations, in every format of a dump, becomes a server
//! whose users sign in with their old passwords and find what they wrote. Hostile dumps fail and change nothing, an
//! import that is killed goes on, and a second one changes nothing.
//!
//! How: one server, which is killed, and whose PostgreSQL goes on. The old databases are made there, dumped by
//! `pg_dump` and imported under names of their own. `CHAT_TEST_SEED` repeats a run.

use super::backup::{Scratch, fails, succeeds};
use crate::support::legacy::{FILE, LegacyDatabase, OTHER_NAMES};
use crate::support::{PASSWORD, Random, Server, User, text, wait_until};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Settings: everything but the files is as it comes.
const SETTINGS: &[(&str, &str)] = &[("features.file_uploads", "true"), ("security.bcrypt_cost", "8")];
/// The advisory lock at which a trigger of the test holds an import.
const GATE: i64 = 7_744;

fn file_hash() -> String {
    chat_server::files::content::ContentHash(Sha256::digest(FILE).into()).to_string()
}

/// Makes an old database, dumps it, and drops it.
async fn dump(server: &Server, old: &LegacyDatabase, options: &[&str], to: &Path) {
    let database = server.database().await;
    database.batch_execute("CREATE DATABASE legacy TEMPLATE template0 ENCODING 'UTF8'").await.unwrap();
    let folder = server.data_dir.join("postgres");
    let target = chat_server::storage::connect::Target::embedded_as_superuser(&folder, "legacy");
    let client = chat_server::storage::connect::connect(&target.login_config()).await.unwrap();
    client.batch_execute(&old.sql(&file_hash())).await.unwrap();
    drop(client);
    let programs = chat_server::backup::dump::DumpPrograms::find().unwrap();
    let mut pg_dump = Command::new(programs.folder().join("pg_dump"));
    let made = pg_dump.args(options).arg("--host").arg(&folder).args(["--username=veza", "--dbname=legacy", "--file"]);
    let made = made.arg(to).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    database.batch_execute("DROP DATABASE legacy WITH (FORCE)").await.unwrap();
}

fn arguments<'a>(source: &'a str, dump: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    arguments_of("veza-legacy", source, dump, more)
}

/// The arguments that import a dump of a server of this kind.
pub fn arguments_of<'a>(kind: &'a str, source: &'a str, dump: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["import", kind, "--source", source], more, &[dump]].concat()
}

fn read_report(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Imports a dump. Returns the report, whose sums must be right.
fn import(server: &Server, scratch: &Scratch, source: &str, dump: &str, more: &[&str]) -> Value {
    import_of("veza-legacy", server, scratch, source, dump, more)
}

/// The same for a server of this kind.
pub fn import_of(kind: &str, server: &Server, scratch: &Scratch, source: &str, dump: &str, more: &[&str]) -> Value {
    let report = scratch.text("report.json");
    let more = [more, &["--report", report.as_str()]].concat();
    succeeds(&server.run(&arguments_of(kind, source, dump, &more)));
    let report = read_report(&scratch.path("report.json"));
    for table in report["tables"].as_array().unwrap() {
        let count = |name: &str| table[name].as_i64().unwrap();
        let explained = count("imported") + count("present") + count("united") + count("rejected");
        assert_eq!(count("rows"), explained, "{table} of {report}");
    }
    let sums = report["checksums"].as_array().unwrap();
    assert_eq!(sums.is_empty(), report["dry_run"] == true, "{report}");
    for table in sums {
        assert_eq!((&table["equal"], &table["expected"]), (&json!(true), &table["found"]), "{report}");
    }
    report
}

pub fn count(report: &Value, table: &str, name: &str) -> i64 {
    let found = report["tables"].as_array().unwrap().iter().find(|found| found["table"] == table);
    found.unwrap_or_else(|| panic!("{table}: {report}"))[name].as_i64().unwrap()
}

pub fn imported(report: &Value) -> i64 {
    report["tables"].as_array().unwrap().iter().map(|table| table["imported"].as_i64().unwrap()).sum()
}

/// Everything that imports write, as one checksum for each table.
pub async fn state(database: &tokio_postgres::Client) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    for table in [
        "users",
        "credentials",
        "user_blocks",
        "conversations",
        "conversation_members",
        "conversation_statistics",
        "messages",
        "message_edits",
        "message_reactions",
        "message_mentions",
        "message_pins",
        "message_files",
        "files",
        "thread_statistics",
        "thread_followers",
        "import_ids",
        "import_runs",
        "audit_logs",
    ] {
        let sum = format!("SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {table} t");
        state.insert(table.to_owned(), database.query_one(&sum, &[]).await.unwrap().get(0));
    }
    state
}

/// The log of every conversation is 1, 2, 3 … in the order of times and ids, and the counters fit.
pub async fn require_order(database: &tokio_postgres::Client) {
    for (what, query) in [
        (
            "gaps",
            "SELECT count(*) FROM conversations c WHERE c.last_seq <> (SELECT count(*) FROM (
                SELECT seq FROM messages m WHERE m.conversation_id = c.id
                UNION SELECT seq FROM conversation_events e WHERE e.conversation_id = c.id) x)",
        ),
        (
            "messages out of order",
            "SELECT count(*) FROM messages a JOIN messages b ON b.conversation_id = a.conversation_id \
             AND b.seq = a.seq + 1
              WHERE (a.created_at, a.id) > (b.created_at, b.id)",
        ),
        (
            "wrong counters",
            "SELECT count(*) FROM conversations c JOIN conversation_statistics s ON s.conversation_id = c.id
              WHERE c.message_count <> (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id
                                           AND m.message_type <> 'system')
                 OR s.member_count <> (SELECT count(*) FROM conversation_members m WHERE m.conversation_id = c.id)
                 OR c.last_ordinal <> (SELECT count(*) FROM messages m WHERE m.conversation_id = c.id
                                          AND m.message_type <> 'system')",
        ),
        (
            "wrong threads",
            "SELECT count(*) FROM (SELECT parent_message_id AS root, count(*) FILTER (WHERE deleted_at IS NULL) AS n
                                     FROM messages WHERE parent_message_id IS NOT NULL GROUP BY 1) r
               LEFT JOIN thread_statistics t ON t.root_message_id = r.root
              WHERE coalesce(t.reply_count, 0) <> r.n",
        ),
        (
            "ids that a sequence would give again",
            "SELECT count(*) FROM message_ids m, user_ids u
              WHERE m.last_value < (SELECT max(id) FROM messages) OR u.last_value < (SELECT max(id) FROM users)",
        ),
    ] {
        let found: i64 = database.query_one(query, &[]).await.unwrap().get(0);
        assert_eq!(found, 0, "{what}");
    }
    let unforced = "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
          AND c.relname <> 'refinery_schema_history'";
    assert_eq!(database.query_one(unforced, &[]).await.unwrap().get::<_, i64>(0), 0, "row level security");
}

/// Dumps that do nothing but fail, and what the failure says.
fn hostile(scratch: &Scratch) -> Vec<(&'static str, Vec<u8>, Vec<&'static str>)> {
    let touch = scratch.text("touched");
    let head = "SET client_encoding = 'UTF8';\n";
    let users = "COPY public.users (id, username) FROM stdin;\n";
    let meta = format!("{head}\\! touch {touch}\n{users}1\tann\n\\.\n");
    let program = format!("{head}COPY public.users (id) FROM PROGRAM 'touch {touch}; echo 1';\n");
    let function = format!(
        "{head}CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ COPY (SELECT 1) TO PROGRAM 'touch {touch}' $$;\n\
         SELECT f();\nDO $$ BEGIN PERFORM f(); END $$;\n{users}1\tann\n"
    );
    let mut latin = users.as_bytes().to_vec();
    latin.extend_from_slice(b"1\tJos\xe9\n\\.\n");
    vec![
        ("meta.sql", meta.into_bytes(), vec!["line 2", "touch", "command of psql"]),
        ("program.sql", program.into_bytes(), vec!["line 2", "COPY with a program"]),
        ("function.sql", function.into_bytes(), vec!["line 7", "before its end"]),
        ("latin.sql", latin, vec!["line 2", "not UTF-8"]),
        ("crlf.sql", format!("{users}1\tann\n\\.\n").replace('\n', "\r\n").into_bytes(), vec!["line 1", "CR LF"]),
        ("cut.sql", format!("{users}1\tann\n2\tbo").into_bytes(), vec!["line 3", "before its end"]),
        ("gzip.sql", b"\x1f\x8b\x08\x00".to_vec(), vec!["compressed with gzip"]),
        ("custom.dump", b"PGDMP\x01\x0e\x00 and nothing else".to_vec(), vec!["pg_restore failed"]),
    ]
}

async fn hostile_dumps_fail_and_change_nothing(server: &Server, scratch: &Scratch) {
    let database = server.database().await;
    let before = state(&database).await;
    for (name, bytes, says) in hostile(scratch) {
        fs::write(scratch.path(name), bytes).unwrap();
        fails(&server.run(&arguments("hostile", &scratch.text(name), &["--yes"])), &says);
    }
    // A line of 2 GB that takes no room on the disk.
    let long = fs::File::create(scratch.path("long.sql")).unwrap();
    std::io::Write::write_all(&mut &long, b"COPY public.users (id, username) FROM stdin;\n1\t").unwrap();
    long.set_len(2 << 30).unwrap();
    fails(&server.run(&arguments("hostile", &scratch.text("long.sql"), &[])), &["line 2", "longer than 16 MiB"]);
    assert!(!scratch.path("touched").exists(), "a dump was executed");
    assert_eq!(state(&database).await, before);
    let staging = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = 'import_staging')";
    assert!(!database.query_one(staging, &[]).await.unwrap().get::<_, bool>(0));
}

/// Kills an import while it writes messages. What it has committed stays.
pub async fn kill_while_it_writes_messages(server: &Server, arguments: &[&str]) {
    let database = server.database().await;
    let gate = format!(
        "CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NULL; END $$;
         CREATE TRIGGER gate BEFORE INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION public.gate();
         SELECT pg_advisory_lock({GATE})"
    );
    database.batch_execute(&gate).await.unwrap();
    let mut child = server.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let waiting = format!("SELECT EXISTS (SELECT FROM pg_locks WHERE objid = {GATE} AND NOT granted)");
    wait_until(&database, &waiting).await;
    child.kill().unwrap();
    child.wait().unwrap();
    let end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE objid = 7744 AND NOT granted";
    database.query(end, &[]).await.unwrap();
    database.batch_execute("SELECT pg_advisory_unlock_all()").await.unwrap();
    wait_until(&database, "SELECT NOT EXISTS (SELECT FROM pg_locks WHERE objid = 7744)").await;
    database.batch_execute("DROP TRIGGER gate ON messages; DROP FUNCTION public.gate()").await.unwrap();
}

pub async fn sign_in(server: &Server, name: &str) -> User {
    let (status, answer) = server.post("/auth/login", None, &json!({"login": name, "password": PASSWORD})).await;
    assert_eq!(status, 200, "{name}: {answer}");
    User::from_answer(&answer)
}

/// The conversation of a user with this name; of a direct one, with the other's name.
pub async fn conversation(server: &Server, user: &User, name: &str) -> Value {
    let list = server.ok(user, "list_conversations", json!({"limit": 100})).await;
    let all = list["conversations"].as_array().unwrap();
    let named = all.iter().find(|found| found["name"].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name)));
    named.unwrap_or_else(|| panic!("{name}: {list}")).clone()
}

pub fn message<'m>(history: &'m [Value], content: &str) -> &'m Value {
    history.iter().find(|message| message["content"] == content).unwrap_or_else(|| panic!("{content}: {history:?}"))
}

/// What the users of the database with all generations find.
async fn users_find_what_they_wrote(server: &Server, prefix: &str) {
    let ann = sign_in(server, &format!("{prefix}_ann")).await;
    sign_in(server, &format!("{prefix}_ann@example.org")).await;
    let bob = sign_in(server, &format!("{prefix}_bob")).await;
    let carol = sign_in(server, &format!("{prefix}_carol")).await;
    let banned = json!({"login": format!("{prefix}_dan"), "password": PASSWORD});
    assert_eq!(server.post("/auth/login", None, &banned).await.0, 401);

    // A ban that was lifted is over, a mute that lasts is not, and one that has expired is.
    let fay = sign_in(server, &format!("{prefix}_fay")).await;
    let line = json!({"kind": "direct", "member_ids": [ann.id]});
    let refused = server.call(&fay, "create_conversation", line.clone()).await.unwrap_err();
    assert_eq!((text(&refused["code"]), refused["retry_after_ms"].is_u64()), ("muted", true), "{refused}");
    server.ok(&bob, "create_conversation", line).await;

    // The room of two generations is one, and so is the message that both have.
    let general = conversation(server, &ann, "general").await;
    let room = text(&general["id"]).to_owned();
    let history = server.history(&ann, &room).await;
    let hello: Vec<&Value> = history.iter().filter(|found| text(&found["content"]).starts_with("hello @")).collect();
    assert_eq!(hello.len(), 1, "{hello:?}");
    let hello = hello[0];
    assert_eq!((hello["seq"].as_i64(), hello["pinned"].as_bool()), (Some(1), Some(true)), "{hello}");
    assert_eq!(hello["created_at"], "2020-01-01T10:00:00.000Z", "{hello}");
    let mentioned = hello["mentions"].as_array().unwrap().len();
    assert_eq!(mentioned, 3, "Bob by the text, Carol by two tables, Ann by one of them: {hello}");
    let thumb = &hello["reactions"][0];
    assert_eq!((text(&thumb["emoji"]), thumb["count"].as_i64()), ("👍", Some(1)), "{hello}");
    assert_eq!(hello["thread"]["reply_count"], 1, "{hello}");
    let edited = message(&history, "second thoughts");
    assert_eq!(edited["parent_message_id"], hello["message_id"]);
    assert_eq!(edited["edited_at"], "2020-01-06T10:00:00.000Z", "{edited}");
    let edits = server.ok(&carol, "list_edits", json!({"message_id": edited["message_id"]})).await;
    assert_eq!(edits["edits"][0]["content"], "first thoughts", "{edits}");
    let deleted: Vec<&Value> = history.iter().filter(|found| found["deleted"] == true).collect();
    assert_eq!((deleted.len(), deleted[0]["content"].as_str()), (1, Some("")), "{deleted:?}");
    assert!(history.iter().all(|found| !["  ", "nobody wrote this", "no time"].contains(&text(&found["content"]))));
    let of_carol = conversation(server, &carol, "general").await;
    assert_eq!((text(&of_carol["role"]), of_carol["read_seq"].as_i64()), ("moderator", Some(1)), "{of_carol}");

    // A direct conversation has the lines of all generations, by time.
    let direct = conversation(server, &ann, &format!("{prefix}_bob")).await;
    let lines = server.history(&ann, text(&direct["id"])).await;
    let lines: Vec<&str> = lines.iter().map(|line| text(&line["content"])).collect();
    assert_eq!(lines, ["a direct line", "a third line"]);
    let other = conversation(server, &ann, &format!("{prefix}_carol")).await;
    assert_eq!((other["unread_count"].as_i64(), other["last_seq"].as_i64()), (Some(0), Some(1)), "{other}");

    // Threads have one level, edits their order, and the file its content.
    let team = text(&conversation(server, &bob, &format!("{prefix} team")).await["id"]).to_owned();
    let history = server.history(&bob, &team).await;
    let first = message(&history, "version three");
    for answer in ["an answer", "an answer to the answer"] {
        assert_eq!(message(&history, answer)["parent_message_id"], first["message_id"]);
    }
    let edits = server.ok(&bob, "list_edits", json!({"message_id": first["message_id"]})).await;
    let texts: Vec<&str> = edits["edits"].as_array().unwrap().iter().map(|edit| text(&edit["content"])).collect();
    assert_eq!(texts, ["version one", "version two"], "{edits}");
    let report = message(&history, "the report");
    let file = report["attachments"][0]["file_id"].as_i64().unwrap_or_else(|| panic!("{report}"));
    let settled = server.settled(&bob, file).await;
    assert_eq!((text(&settled["state"]), text(&settled["name"])), ("ready", "report.txt"), "{settled}");
    assert_eq!(server.download(&ann, file, "report.txt").await, FILE);

    // It goes on: numbers continue, and old texts are found.
    let before = server.last_seq(&bob, &team).await;
    let sent = server.ok(&bob, "send_message", json!({"conversation_id": team, "content": "and on"})).await;
    assert_eq!(sent["seq"].as_i64().unwrap(), before + 1);
    server.found_in_time(&carol, "second thoughts", 1).await;
    let stored = format!("SELECT password_hash FROM credentials WHERE user_id = {}", bob.id);
    let stored: String = server.database().await.query_one(&stored, &[]).await.unwrap().get(0);
    assert!(stored.starts_with("$argon2id$"), "{stored}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn legacy_dumps_become_conversations_that_go_on() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let server = Server::start(1, SETTINGS);
    let existing = server.register_as("Zoe_all").await;
    fails(&server.run(&arguments("x", "/dev/null", &[])), &["Stop it first"]);
    server.kill9(); // its PostgreSQL goes on
    hostile_dumps_fail_and_change_nothing(&server, &scratch).await;

    let password_hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let database = server.database().await;
    fs::create_dir_all(scratch.path("files/2024")).unwrap();
    fs::write(scratch.path("files/2024/report.txt"), FILE).unwrap();
    let files = scratch.text("files");
    for (n, (generations, options, renamed)) in [
        (vec![1], &["--format=plain"][..], &[][..]),
        (vec![2], &["--inserts"], &[]),
        (vec![3], &["--format=custom"], &[]),
        (vec![1, 2], &["--column-inserts", "--rows-per-insert=50"], &[]),
        (vec![2, 3], &["--format=tar"], &[]),
        (vec![1, 3], &["--format=directory"], &[]),
        (vec![1], &["--format=plain"], OTHER_NAMES),
    ]
    .into_iter()
    .enumerate()
    {
        let (prefix, seed) = (format!("mix{n}"), random.below(1 << 32));
        let old =
            LegacyDatabase { prefix, generations, messages: 200, seed, password_hash: password_hash.clone(), renamed };
        let path = scratch.path(&old.prefix);
        dump(&server, &old, options, &path).await;
        let report = import(&server, &scratch, &old.prefix, path.to_str().unwrap(), &["--files", &files]);
        assert!(imported(&report) > 200, "{report}");
        require_order(&database).await;
    }

    let generations = vec![1, 2, 3];
    let old =
        LegacyDatabase { prefix: "all".to_owned(), generations, messages: 500, seed: 1, password_hash, renamed: &[] };
    for (name, options) in [("all.sql", &["--format=plain"][..]), ("all.dump", &["--format=custom"])] {
        dump(&server, &old, options, &scratch.path(name)).await;
    }
    let (plain, custom) = (scratch.text("all.sql"), scratch.text("all.dump"));
    let before = state(&database).await;
    let planned = import(&server, &scratch, "all", &plain, &["--dry-run", "--files", &files]);
    assert_eq!(state(&database).await, before, "a dry run changed something");
    let complete = arguments("all", &custom, &["--files", &files]);
    kill_while_it_writes_messages(&server, &complete).await;
    assert_ne!(state(&database).await["users"], before["users"], "nothing was committed before the kill");
    let resumed = import(&server, &scratch, "all", &custom, &["--files", &files]);
    assert_eq!((count(&resumed, "users", "present"), count(&resumed, "messages", "present")), (4, 0));
    for (table, name) in [("messages", "imported"), ("messages", "united"), ("messages", "rejected")] {
        assert_eq!(count(&resumed, table, name), count(&planned, table, name), "{table} {name}");
    }
    // One line, and those made messages whose author is the same in both generations.
    assert_eq!(count(&resumed, "messages", "united"), 1 + 250);
    require_order(&database).await;
    let after = state(&database).await;
    let again = import(&server, &scratch, "all", &plain, &["--files", &files]);
    assert_eq!((imported(&again), state(&database).await), (0, after), "{again}");
    // Another database under the same name would get the users of this one.
    fails(&server.run(&arguments("all", &scratch.text("mix0"), &[])), &["another database", "--source"]);

    let reasons = resumed["rejected"].to_string();
    for reason in [
        "its author is unknown",
        "its room is unknown",
        "direct message to its author",
        "its text is empty",
        "it has no time",
        "longer than 4000 characters",
        "in another conversation",
        "that it replies to is unknown",
        "cannot block themselves",
        "its content is not in the folder",
        "its type 'telepathy'",
        "its message is deleted",
        "its user is unknown or was rejected",
    ] {
        assert!(reasons.contains(reason), "{reason}: {reasons}");
    }
    // The name of a user of this server is taken, so an old user gets another one, and none of them gets the other's
    // messages.
    let changed = planned["changed"].to_string();
    assert!(changed.contains("'Zoë.all' became Zoe_all_"), "{changed}");
    let own = format!("SELECT count(*) FROM conversation_members WHERE user_id = {}", existing.id);
    assert_eq!(database.query_one(&own, &[]).await.unwrap().get::<_, i64>(0), 0);

    let state_before = state(&database).await;
    let shown = migrate_at_a_terminal(&server, &scratch, "mix0");
    for part in ["% reading, ", "[##############################] 100 % ", "Nothing was left to import."] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert_eq!(state(&database).await, state_before, "a second run changes nothing");

    server.start_again();
    users_find_what_they_wrote(&server, "all").await;
}

/// Runs `scripts/migrate_data.sh` at a terminal, for a dump that was imported before. Returns what it shows. The build
/// is that of the tests: another one would take minutes.
fn migrate_at_a_terminal(server: &Server, scratch: &Scratch, dump: &str) -> String {
    let program = server.command(&[]);
    let cargo = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec '{}' \"$@\"\n",
        program.get_program().to_str().unwrap()
    );
    fs::create_dir(scratch.path("bin")).unwrap();
    fs::write(scratch.path("bin/cargo"), cargo).unwrap();
    fs::set_permissions(scratch.path("bin/cargo"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", scratch.text("bin"), std::env::var("PATH").unwrap());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/migrate_data.sh");
    // The path of the dump is relative to the folder of the caller.
    let typed = format!("{} {dump} --source {dump}", script.display());
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &typed, "/dev/null"]).current_dir(scratch.text("."));
    terminal.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?)))).env("PATH", path);
    let output = terminal.stdin(Stdio::null()).output().unwrap();
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}");
    shown
}
