//! Rule sets: one database can have several, and a server installs, keeps and drops them.
//!
//! How: each test creates its own databases in the PostgreSQL of a shared server. Two tests run the real binary: one
//! for `migrate --plan`, one for two versions of the server on one database.

use crate::support::protocol::documents;
use crate::support::{Client, Format, Server, server, text, unique};
use chat_server::storage::connect::{Role, Target, connect};
use chat_server::storage::data_rights::RightsTables;
use chat_server::storage::rules::{RuleFile, RuleSet};
use chat_server::storage::{StorageError, installer, logins, migrate};
use chat_server::wire::command::changes::CHANGES;
use serde_json::json;
use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio_postgres::Client as Database;

const DAY: Duration = Duration::from_hours(24);
/// Adds a comment to the rules, which makes another set. Only test builds read this variable.
const RULES_COMMENT: &str = "CHAT_TEST_RULES_COMMENT";
/// Unanswered commands per connection.
const WINDOW: usize = 16;

/// Creates an empty database.
async fn empty_database(server: &Server) -> Target {
    let name = unique("rules");
    server.database().await.batch_execute(&format!("CREATE DATABASE {name} TEMPLATE template0")).await.unwrap();
    Target::embedded_as_superuser(&server.data_dir.join("postgres"), &name)
}

/// The URL of a database of the server.
fn url(server: &Server, name: &str) -> String {
    let socket = server.data_dir.join("postgres").display().to_string().replace('/', "%2F");
    format!("postgres://veza@{socket}/{name}")
}

/// Creates a migrated database.
pub async fn migrated_database(server: &Server) -> Target {
    let target = empty_database(server).await;
    migrate::migrate(&target).await.unwrap();
    target
}

/// The embedded set with one file changed.
fn edited(path: &str, edit: impl Fn(&str) -> String) -> RuleSet {
    let mut files = RuleSet::embedded().files().to_vec();
    let file = files.iter_mut().find(|file| file.path == path).unwrap_or_else(|| panic!("no {path}"));
    let text = edit(&file.text);
    assert_ne!(text, file.text, "{path} is not edited");
    file.text = text;
    RuleSet::new(files)
}

/// The first column of a query.
pub async fn column(database: &Database, query: &str) -> Vec<String> {
    database.query(query, &[]).await.unwrap_or_else(|e| panic!("{query}: {e:?}")).iter().map(|row| row.get(0)).collect()
}

async fn schemas(database: &Database) -> Vec<String> {
    column(database, "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'rules\\_%' ORDER BY 1").await
}

#[test]
fn every_mutation_has_a_function_and_a_permission() {
    let files = RuleSet::embedded().files();
    let permissions = files.iter().find(|file| file.path == "rules/permitted_member.sql").unwrap();
    let functions: BTreeSet<&str> = files.iter().filter_map(|file| file.name().strip_prefix("mutate_")).collect();
    let mut mutations: BTreeSet<&str> = CHANGES.iter().map(|change| change.name).collect();
    // The server's own.
    mutations.extend(["announce_profile", "announce_rejection", "filter_text", "settle_file", "clear_history"]);
    mutations.extend(["erase_messages", "erase_mention", "erase_reaction"]);
    assert_eq!(functions, mutations);
    for mutation in mutations {
        let name = format!("'{mutation}'");
        assert_eq!(permissions.text.matches(&name).count(), 1, "{mutation} in rules/permitted_member.sql");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_columns_of_the_message_view_are_the_documented_fields() {
    let view = format!(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = '{}.shown_messages'::regclass AND attnum > 0",
        RuleSet::embedded().name()
    );
    let columns: BTreeSet<String> = column(&server().await.database().await, &view).await.into_iter().collect();
    let message = &documents().asyncapi["components"]["schemas"]["Message"]["properties"];
    let fields: BTreeSet<String> = message.as_object().unwrap().keys().cloned().collect();
    assert_eq!(columns, fields);
}

/// The number of members that the triggers have counted in conversation 6.
async fn counted(database: &Database) -> i64 {
    let query = "SELECT coalesce(sum(member_count), 0)::bigint FROM conversation_statistics WHERE conversation_id = 6";
    database.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn installs_an_edited_file_as_another_set() {
    let target = migrated_database(server().await).await;
    let double = |text: &str| text.replace("s.member_count + excluded", "s.member_count + 2 * excluded");
    let other = edited("triggers/count_members.sql", double);
    assert_ne!(other.name(), RuleSet::embedded().name());
    assert!(installer::install(&target, &other).await.unwrap(), "it is new");
    assert!(!installer::install(&target, &other).await.unwrap(), "it is there already");

    let first = target.connect_as_login().await.unwrap();
    let second = target.clone().with_rules(&other).connect_as_login().await.unwrap();
    let set_up = "INSERT INTO users (id, username, display_name)
            SELECT n, 'anna' || n, 'Anna' FROM generate_series(1, 6) n;
        INSERT INTO conversations (id, kind, name) VALUES (6, 'public_room', 'room')";
    first.batch_execute(set_up).await.unwrap();
    let insert = |user: i64| format!("INSERT INTO conversation_members (conversation_id, user_id) VALUES (6, {user})");
    // Each session fires the triggers of its own set, each of them once.
    for (user, session, expected) in [(1, &first, 1), (2, &first, 2), (3, &second, 4), (4, &first, 5), (5, &second, 7)]
    {
        session.batch_execute(&insert(user)).await.unwrap();
        assert_eq!(counted(&first).await, expected, "after member {user}");
    }

    // Without a set, no trigger would count the member.
    for setting in ["RESET app.rules; SET app.rules = ''", "SET app.rules = 'rules_000000000000'"] {
        first.batch_execute(setting).await.unwrap();
        let error = first.batch_execute(&insert(6)).await.unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(
            error.message().contains("conversation_members can only be changed")
                && error.hint().unwrap().contains("SET app.rules")
        );
    }
    assert_eq!(counted(&second).await, 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn drops_sets_that_no_process_has_used_for_a_day() {
    let target = migrated_database(server().await).await;
    let database = target.connect_as_login().await.unwrap();
    let own = RuleSet::embedded();
    let set = |n: u32| edited("rules/refuse.sql", |text| format!("{text}-- {n}\n"));
    let (unused, used) = (set(1), set(2));
    for set in [&unused, &used] {
        installer::install(&target, set).await.unwrap();
    }
    let age = "UPDATE rule_sets SET last_used_at = now() - make_interval(hours => $2) WHERE name = $1";
    for (set, hours) in [(own, 100), (&unused, 25), (&used, 23)] {
        assert_eq!(database.execute(age, &[&set.name(), &hours]).await.unwrap(), 1);
    }

    // While a writer holds a lock on a table, the server drops nothing and does not delay the writer.
    database.batch_execute("BEGIN; LOCK TABLE messages IN ROW EXCLUSIVE MODE").await.unwrap();
    assert_eq!(installer::drop_unused(&target, own, DAY).await.unwrap(), Vec::<String>::new());
    database.batch_execute("COMMIT").await.unwrap();
    assert_eq!(schemas(&database).await.len(), 3);

    assert_eq!(installer::drop_unused(&target, own, DAY).await.unwrap(), [unused.name()]);
    let mut left = vec![own.name(), used.name()];
    left.sort_unstable();
    assert_eq!(schemas(&database).await, left);
    assert_eq!(column(&database, "SELECT name FROM rule_sets ORDER BY name").await, left);
    let orphans = "SELECT tgname::text FROM pg_trigger WHERE tgname LIKE '%' || $1";
    assert!(database.query(orphans, &[&unused.name()]).await.unwrap().is_empty(), "its triggers were dropped");

    // A set that was touched is in use again; one that is missing is installed again.
    assert!(installer::touch(&target, own).await.unwrap());
    assert!(!installer::touch(&target, &unused).await.unwrap());
    installer::maintain(&target, &unused).await.unwrap();
    assert!(installer::touch(&target, &unused).await.unwrap());
}

mod every_version {
    refinery::embed_migrations!("migrations/tables");
}

/// Creates a database as the version before partitions left it: tables up to 26, and a rule set with a trigger on
/// `messages`, a view of it, and a function that names the type of its rows.
async fn database_before_partitions(server: &Server) -> (Target, RuleSet) {
    let target = empty_database(server).await;
    let login = target.connect_as_login().await.unwrap();
    logins::prepare(&target, &login).await.unwrap();
    let mut owner = logins::connect_as(&target, Role::Owner).await.unwrap();
    let runner = every_version::migrations::runner().set_target(refinery::Target::Version(26));
    runner.run_async(&mut owner).await.unwrap();
    let view = "CREATE VIEW earlier WITH (security_invoker = true) AS SELECT id, content FROM messages;\n";
    let function = "CREATE FUNCTION first_letter(m messages) RETURNS text LANGUAGE sql STABLE AS $$\n\
        SELECT left((m).content, 1);\n$$;\n";
    let trigger = "CREATE FUNCTION count_messages() RETURNS trigger LANGUAGE plpgsql AS $$\nBEGIN\n    \
        INSERT INTO conversation_statistics AS s (conversation_id, message_count)\n    \
        SELECT conversation_id, count(*) FROM new_messages GROUP BY conversation_id\n    \
        ON CONFLICT (conversation_id) DO UPDATE SET message_count = s.message_count + excluded.message_count;\n    \
        RETURN NULL;\nEND $$;\n\n\
        CREATE TRIGGER count_messages_{set} AFTER INSERT ON messages\n    \
        REFERENCING NEW TABLE AS new_messages FOR EACH STATEMENT\n    \
        WHEN (current_setting('app.rules', true) = '{set}') EXECUTE FUNCTION count_messages();\n";
    let triggers = "triggers/count_messages.sql";
    let files = [("views/earlier.sql", view), ("read/first_letter.sql", function), (triggers, trigger)];
    let files = files.map(|(path, text)| RuleFile { path: path.to_owned(), text: text.to_owned() });
    let earlier = RuleSet::new(files.to_vec());
    installer::install(&target, &earlier).await.unwrap();
    (target, earlier)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_partitions_keeps_the_rules_of_the_version_before() {
    let (target, earlier) = database_before_partitions(server().await).await;
    let older = target.clone().with_rules(&earlier).connect_as_login().await.unwrap();
    let set_up = "INSERT INTO users (username, display_name) VALUES ('anna', 'Anna');
        INSERT INTO conversations (id, kind, name) VALUES (6, 'public_room', 'room');
        INSERT INTO conversation_members (conversation_id, user_id) SELECT 6, id FROM users";
    older.batch_execute(set_up).await.unwrap();
    let send = async |seq: i64| {
        let message = "INSERT INTO messages (conversation_id, seq, ordinal, client_message_id, sender_id, content)
            VALUES (6, $1, $1, $1::bigint::text, 1, 'text') RETURNING id";
        older.query_one(message, &[&seq]).await.unwrap().get::<_, i64>(0)
    };
    let seen = format!("SELECT count(*) FROM {}.earlier", earlier.name());
    let seen = async || older.query_one(&seen, &[]).await.unwrap().get::<_, i64>(0);
    send(1).await;
    migrate::migrate(&target).await.unwrap();
    // What was counted moves into the conversation's row.
    let moved = "SELECT message_count FROM conversations WHERE id = 6";
    assert_eq!(older.query_one(moved, &[]).await.unwrap().get::<_, i64>(0), 1);

    // A server of the version before goes on beside the new one, also in a range that the new one has begun.
    send(2).await;
    let tables = RightsTables::open(&target).await.unwrap();
    assert!(tables.begin_range(Duration::ZERO).await.unwrap());
    assert!(send(3).await >= 10_000_000_000);
    let counted = "SELECT message_count FROM conversation_statistics";
    assert_eq!((older.query_one(counted, &[]).await.unwrap().get::<_, i64>(0), seen().await), (3, 3));

    // While its rules name the type of the first range's rows, the range is emptied only.
    let cleared = "UPDATE conversations SET cleared_seq = 2 WHERE id = 6;
        UPDATE message_partitions SET closed_at = now() - interval '10 days' WHERE first_id = 0";
    older.batch_execute(cleared).await.unwrap();
    let limit = Some(5 * DAY);
    let state = "SELECT ARRAY[(SELECT count(*) FROM messages), (SELECT count(*) FROM message_partitions),
        (to_regclass('messages_0') IS NOT NULL)::int]";
    let state = async || older.query_one(state, &[]).await.unwrap().get::<_, Vec<i64>>(0);
    assert!(tables.drop_range(-1, limit).await.unwrap().is_some());
    assert_eq!((state().await, seen().await), (vec![1, 2, 1], 1));

    // When they are dropped, so is the range.
    let age = "UPDATE rule_sets SET last_used_at = now() - interval '25 hours' WHERE name = $1";
    older.execute(age, &[&earlier.name()]).await.unwrap();
    assert_eq!(installer::drop_unused(&target, RuleSet::embedded(), DAY).await.unwrap(), [earlier.name()]);
    assert!(tables.drop_range(-1, None).await.unwrap().is_some());
    assert_eq!(state().await, [1, 1, 0]);
    assert!(tables.drop_range(-1, None).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_the_file_that_postgresql_refuses_and_installs_nothing() {
    let target = migrated_database(server().await).await;
    let database = target.connect_as_login().await.unwrap();
    for (path, from, to, says) in [
        ("rules/refuse.sql", "RAISE EXCEPTION", "RAISE EXCEPTIONAL", "exceptional"),
        ("views/rfc3339.sql", "to_char(t", "to_char(nonsense", "nonsense"),
        ("views/shown_messages.sql", "m.message_type", "m.message_types", "message_types"),
        ("triggers/keep_edits.sql", "ON messages", "ON massages", "massages"),
    ] {
        let broken = edited(path, |text| text.replace(from, to));
        let error = installer::install(&target, &broken).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("migrations/functions/{path}: ")) && error.contains(says), "{error}");
        assert_eq!(schemas(&database).await, [RuleSet::embedded().name()]);
    }
    let missing = edited("views/shown_messages.sql", |text| text.replace("-- needs: ", "-- needs: nothing "));
    let error = installer::install(&target, &missing).await.unwrap_err().to_string();
    assert_eq!(error, "migrations/functions/views/shown_messages.sql: it needs nothing, which is not in the set");
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_a_database_of_an_earlier_development_version() {
    let target = migrated_database(server().await).await;
    let owner = connect(&target.config(Role::Owner)).await.unwrap();
    owner.batch_execute("UPDATE refinery_schema_history SET checksum = '1' WHERE version = 1").await.unwrap();
    owner.batch_execute("DELETE FROM refinery_schema_history WHERE version > 3").await.unwrap();
    let refusals = [
        migrate::migrate(&target).await.unwrap_err(),
        migrate::require_migrated(&target).await.unwrap_err(),
        migrate::plan(&target).await.unwrap_err(),
    ];
    for error in refusals {
        assert!(matches!(error, StorageError::Schema(_)), "{error}");
        let error = error.to_string();
        for part in
            ["an earlier development version", "V1__accounts", "empty database", "data_dir", "nothing was changed"]
        {
            assert!(error.contains(part), "{error}");
        }
    }
    assert_eq!(
        column(&owner, "SELECT version::text FROM refinery_schema_history ORDER BY version").await,
        ["1", "2", "3"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn accepts_a_database_of_a_newer_version() {
    let target = migrated_database(server().await).await;
    let owner = connect(&target.config(Role::Owner)).await.unwrap();
    let newer = "INSERT INTO refinery_schema_history \
                 SELECT 1000, 'newer', applied_on, '1' FROM refinery_schema_history WHERE version = 1";
    owner.batch_execute(newer).await.unwrap();
    migrate::migrate(&target).await.unwrap();
    assert_eq!(migrate::plan(&target).await.unwrap().tables, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_what_is_missing_without_auto_migrate() {
    let target = empty_database(server().await).await;
    let error = migrate::require_migrated(&target).await.unwrap_err().to_string();
    assert!(error.contains("V1__accounts") && error.contains("chat-server migrate"), "{error}");
    migrate::migrate(&target).await.unwrap();
    migrate::require_migrated(&target).await.unwrap();
    let owner = connect(&target.config(Role::Owner)).await.unwrap();
    owner.batch_execute("DELETE FROM rule_sets").await.unwrap();
    let error = migrate::require_migrated(&target).await.unwrap_err().to_string();
    assert!(error.contains(RuleSet::embedded().name()) && error.contains("chat-server migrate"), "{error}");
}

/// Runs `chat-server migrate` with these variables.
fn run_migrate(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHAT_SERVER__")) {
        command.env_remove(name);
    }
    command.arg("migrate").args(arguments).envs(variables.iter().copied()).current_dir(std::env::temp_dir());
    command.output().unwrap()
}

#[track_caller]
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn prints_planned_changes_and_changes_nothing() {
    let server = server().await;
    let target = empty_database(server).await;
    let database = target.connect_as_login().await.unwrap();
    let name = column(&database, "SELECT current_database()::text").await.remove(0);
    let url = url(server, &name);
    let url = ("CHAT_SERVER__DATABASE__URL", url.as_str());
    let set = RuleSet::embedded();
    let tables = "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'";

    let plan = printed(&run_migrate(&["--plan"], &[url]));
    assert!(plan.contains("+ V1__accounts") && plan.contains("migrations would be applied"), "{plan}");
    assert!(plan.contains(&format!("{} would be installed, {} files", set.name(), set.files().len())), "{plan}");
    assert_eq!(column(&database, tables).await, ["0"]);
    printed(&run_migrate(&[], &[url]));
    assert_ne!(column(&database, tables).await, ["0"]);
    let plan = printed(&run_migrate(&["--plan"], &[url]));
    assert!(
        plan.contains(&format!("{} is installed", set.name())) && plan.ends_with("Nothing would change.\n"),
        "{plan}"
    );

    // A newer version differs in its first file and would drop an unused set.
    let unused = edited("rules/refuse.sql", |text| format!("{text}-- unused\n"));
    installer::install(&target, &unused).await.unwrap();
    let age = "UPDATE rule_sets SET last_used_at = now() - interval '2 days', installed_at = now() - interval '2 days' \
               WHERE name = $1";
    database.execute(age, &[&unused.name()]).await.unwrap();
    let plan = printed(&run_migrate(&["--plan"], &[url, (RULES_COMMENT, "a newer version")]));
    let differing = format!("would be installed. Compared with {} ({},", set.name(), env!("CARGO_PKG_VERSION"));
    assert!(plan.contains(&differing) && plan.contains(&format!("  ~ {}\n", set.files()[0].path)), "{plan}");
    assert!(!plan.contains("  + "), "{plan}");
    assert!(plan.contains(&format!("would be dropped:\n  - {}\n", unused.name())), "{plan}");
    assert_eq!(schemas(&database).await.len(), 2);
    printed(&run_migrate(&[], &[url, (RULES_COMMENT, "a newer version")]));
    let left = schemas(&database).await;
    assert!(
        left.len() == 2 && left.contains(&set.name().to_owned()),
        "{left:?}: the newer one came, the unused one went"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_for_a_running_embedded_database_and_creates_none() {
    let server = server().await;
    let data_dir = |path: &Path| ("CHAT_SERVER__DATA_DIR", path.to_str().unwrap().to_owned());
    let (key, running) = data_dir(&server.data_dir);
    let plan = printed(&run_migrate(&["--plan"], &[(key, &running)]));
    assert!(plan.ends_with("Nothing would change.\n"), "{plan}");
    server.must_run();

    let nowhere = std::env::temp_dir().join(unique("chat-server-plan"));
    let (key, path) = data_dir(&nowhere);
    let plan = printed(&run_migrate(&["--plan"], &[(key, &path)]));
    assert!(plan.contains("+ V1__accounts"), "{plan}");
    assert!(!nowhere.exists(), "the plan has made {}", nowhere.display());
}

/// Messages that each of two senders sends.
const EACH: usize = 300;

/// Sends [`EACH`] messages, a few at a time, until the connection ends. Returns the acknowledged ones with their seq.
async fn send(client: &mut Client, room: &str, sender: &str, count: &AtomicUsize) -> Vec<(i64, String)> {
    let (mut waiting, mut acked) = (VecDeque::new(), Vec::new());
    for n in 0..EACH + WINDOW {
        if n < EACH {
            let content = format!("{sender}-{n}");
            let message = json!({"conversation_id": room, "content": content, "client_message_id": content});
            waiting.push_back((client.send("send_message", message).await, content));
        }
        if n >= WINDOW
            && let Some((id, content)) = waiting.pop_front()
        {
            match client.try_reply(id).await {
                Ok(Ok(ack)) => acked.push((ack["seq"].as_i64().unwrap(), content)),
                Ok(Err(refusal)) => panic!("{content}: {refusal}"),
                Err(_) => break,
            }
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
    acked
}

#[tokio::test(flavor = "multi_thread")]
async fn serves_one_database_with_two_versions_at_once() {
    let old = Server::start(2, &[]);
    let url = url(&old, "veza_chat");
    let settings = [("database.url", url.as_str()), ("database.shared", "true")];
    let new = Server::start_with(2, &settings, &[(RULES_COMMENT, "a newer version")]);
    let database = old.database().await;
    assert_eq!(schemas(&database).await.len(), 2, "each server has its own rules");

    let (anna, bert) = (old.register().await, new.register().await);
    let room = old.room(&[&anna, &bert]).await;
    let mut at_old = Client::none(&old, &anna, Format::Json).await;
    let mut at_new = Client::none(&new, &bert, Format::MessagePack).await;
    let (count, unused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let kill = async {
        while count.load(Ordering::Relaxed) < EACH / 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        old.kill9();
    };
    let (mut acked, by_new, ()) =
        tokio::join!(send(&mut at_old, &room, "old", &count), send(&mut at_new, &room, "new", &unused), kill);
    assert!(acked.len() >= EACH / 2);
    acked.extend(by_new);
    assert_eq!(
        acked.iter().filter(|(_, content)| content.starts_with("new")).count(),
        EACH,
        "the newer server still serves"
    );

    let history = new.history(&bert, &room).await;
    let seqs: Vec<i64> = history.iter().map(|message| message["seq"].as_i64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    for (seq, content) in &acked {
        let found: Vec<_> = history.iter().filter(|message| text(&message["content"]) == content).collect();
        assert_eq!(found.len(), 1, "{content} is in the log once");
        assert_eq!(found[0]["seq"], *seq, "{content} has the seq of its acknowledgement");
    }
    for sender in ["old", "new"] {
        let order: Vec<_> =
            history.iter().map(|message| text(&message["content"])).filter(|c| c.starts_with(sender)).collect();
        let sent: Vec<_> = (0..order.len()).map(|n| format!("{sender}-{n}")).collect();
        assert_eq!(order, sent, "the order of one sender");
    }
    // The triggers of both versions have counted each message once.
    let number = text(&json!(room)).trim_start_matches("room_").to_owned();
    let query = format!("SELECT message_count::text FROM conversations WHERE id = {number}");
    let counted = column(&database, &query).await;
    assert_eq!(counted, [history.iter().filter(|message| message["message_type"] == "text").count().to_string()]);
}
