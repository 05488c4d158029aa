//! Data rights: what is erased is gone everywhere, what stays says why, and everybody else converges.
//!
//! How: a person leaves a marker in everything that the server stores: names, texts, files, devices, webhooks. After
//! the erasure every row of every table and every stored file is searched for it.

use crate::avatars::png;
use crate::file_shares::share;
use crate::filter::{set_rules, words};
use crate::support::{Client, Format, PASSWORD, PATIENCE, Server, User, id_of, text, unique, upgrade};
use chat_server::audit::note::AuditPublicKey;
use chat_server::ids::ConversationId;
use chat_server::storage::sql::data_rights::catalogue::{CataloguedTable, Fate, TABLES};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio_postgres::Client as Database;

/// The tables of the server that keep rows; partitions are parts of theirs.
async fn tables(database: &Database) -> BTreeSet<String> {
    let tables = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition \
          AND c.relname <> 'refinery_schema_history'";
    database.query(tables, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn every_column_is_in_the_catalogue() {
    let database = crate::support::server().await.database().await;
    let catalogued: BTreeSet<String> = TABLES.iter().map(|table| table.name.to_owned()).collect();
    assert_eq!(tables(&database).await, catalogued, "a new table needs an entry in catalogue.rs");
    for table in TABLES {
        let columns = "SELECT attname::text FROM pg_attribute \
            WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
        let columns: BTreeSet<String> =
            database.query(columns, &[&table.name]).await.unwrap().iter().map(|row| row.get(0)).collect();
        let given = [table.exported, table.withheld, table.impersonal].concat();
        let known: BTreeSet<String> = given.iter().map(|column| (*column).to_owned()).collect();
        assert_eq!(columns, known, "{}: every column has one entry", table.name);
        assert_eq!(given.len(), known.len(), "{}: a column has two entries", table.name);
        let personal = [table.exported, table.withheld].concat();
        assert!(table.cleared.iter().all(|column| personal.contains(column)), "{}: {:?}", table.name, table.cleared);
        assert_eq!(table.rows.is_empty(), table.fate == Fate::Impersonal, "{}", table.name);
        let needs_reason = !table.withheld.is_empty() || matches!(table.fate, Fate::Kept | Fate::Cleared);
        assert!(!needs_reason || !table.why.is_empty(), "{}: say why", table.name);
    }
}

/// Rows that have a text somewhere, as `table: row`.
async fn rows_with(database: &Database, marker: &str) -> Vec<String> {
    let mut found = Vec::new();
    for table in tables(database).await {
        let rows = format!("SELECT left(t::text, 300) FROM {table} t WHERE t::text ILIKE '%' || $1 || '%'");
        let rows = database.query(&rows, &[&marker]).await.unwrap();
        found.extend(rows.iter().map(|row| format!("{table}: {}", row.get::<_, String>(0))));
    }
    found
}

/// How many rows of a table are of a person.
async fn rows_of(database: &Database, table: &CataloguedTable, user: &User) -> i64 {
    let of_person = table.rows.replace("$1", &user.id.to_string());
    let rows = format!("SELECT count(*) FROM {} t WHERE {of_person}", table.name);
    database.query_one(&rows, &[]).await.unwrap().get(0)
}

async fn erase(server: &Server, user: &User, proof: &Value) -> (u16, Value) {
    server.request(Method::DELETE, "/users/me", Some(&user.token), Some(proof)).await
}

/// The state of an erasure when it is completed.
async fn completed(server: &Server, requested: &Value) -> Value {
    let started = Instant::now();
    loop {
        let (status, state) = server.request(Method::GET, text(&requested["status_url"]), None, None).await;
        assert_eq!(status, 200, "{state}");
        if state["state"] == "completed" {
            return state;
        }
        assert!(started.elapsed() < PATIENCE, "{state}: {}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
}

async fn send(server: &Server, user: &User, conversation: &str, content: &str) -> Value {
    let data = json!({"conversation_id": conversation, "content": content, "client_message_id": unique(&user.name)});
    server.ok(user, "send_message", data).await
}

/// What [`leave_traces`] made.
struct Traces {
    /// A room with everybody.
    room: String,
    /// The direct conversation with the friend.
    direct: String,
    /// Proves the person's second factor, once.
    backup_code: Value,
}

/// The settings of servers on which a person can leave traces everywhere.
const SETTINGS: &[(&str, &str)] = &[("features.webhooks", "true"), ("files.public_links", "true")];

/// Leaves a marker in everything that a person can write, and a row in every table that has some of persons.
async fn leave_traces(server: &Server, eve: &User, friend: &User, marker: &str) -> Traces {
    let profile = json!({"display_name": format!("{marker} shown"), "bio": format!("about {marker}"),
        "avatar_url": format!("https://example.org/{marker}.png")});
    let (status, answer) = server.request(Method::PATCH, "/users/me", Some(&eve.token), Some(&profile)).await;
    assert_eq!(status, 200, "{answer}");
    let sign_in = json!({"login": eve.name, "password": PASSWORD, "device_name": format!("{marker}'s phone")});
    assert_eq!(server.post("/auth/login", None, &sign_in).await.0, 200);

    let dan = server.register().await;
    let room = server.room(&[friend, eve, &dan]).await;
    let direct = json!({"kind": "direct", "member_ids": [eve.id]});
    let direct = id_of(&server.ok(friend, "create_conversation", direct).await);
    // Nobody else is in it.
    let own = json!({"kind": "private_room", "name": format!("{marker} notes"), "description": format!("of {marker}")});
    let own = id_of(&server.ok(eve, "create_conversation", own).await);
    for conversation in [&room, &direct, &own] {
        for number in 0..3 {
            send(server, eve, conversation, &format!("{marker} wrote {number}")).await;
        }
    }
    let sent = send(server, eve, &room, &format!("{marker} first")).await;
    let edit = json!({"message_id": sent["message_id"], "content": format!("{marker} second")});
    server.ok(eve, "edit_message", edit).await;
    let deleted = send(server, eve, &room, &format!("{marker} deleted")).await;
    server.ok(eve, "delete_message", json!({"message_id": deleted["message_id"]})).await;

    // Others name the person.
    let mention = send(server, friend, &room, &format!("thanks @{}, and @{}'s code", eve.name, eve.name)).await;
    let edit = json!({"message_id": mention["message_id"], "content": format!("dear @{}, `@{}`", eve.name, eve.name)});
    server.ok(friend, "edit_message", edit).await;
    send(server, friend, &direct, &format!("@{}: hello", eve.name)).await;
    let reply = json!({"conversation_id": room, "content": "a reply", "client_message_id": unique("r"),
        "parent_message_id": sent["message_id"]});
    server.ok(friend, "send_message", reply).await;
    let reaction = json!({"message_id": mention["message_id"], "emoji": "👍"});
    server.ok(eve, "add_reaction", reaction).await;

    // Files: one with a message, and one without; and a public link.
    let content = format!("{marker} in a file").into_bytes();
    let (file, _) = server.upload(eve, &room, &format!("{marker}.txt"), &content).await;
    let with_file = json!({"conversation_id": room, "content": "", "attachments": [file],
        "client_message_id": unique("f")});
    server.ok(eve, "send_message", with_file).await;
    server.upload(eve, &own, &format!("{marker} unsent.txt"), &[&content[..], b"!"].concat()).await;

    // What waits: a request to join, an invitation, a text that a moderator must see.
    let closed = server.room(&[friend]).await;
    server.ok(eve, "request_to_join", json!({"conversation_id": closed, "text": format!("{marker} asks")})).await;
    server.ok(eve, "create_invite", json!({"conversation_id": own})).await;
    server.ok(eve, "block_user", json!({"user_id": server.register().await.id})).await;
    set_rules(server, friend, &room, json!([words("held", "offer", "hold")])).await;
    let held = json!({"conversation_id": room, "content": format!("{marker} offer"), "client_message_id": unique("h")});
    server.call(eve, "send_message", held).await.unwrap_err();
    let held = json!({"conversation_id": room, "content": format!("offer for @{}", eve.name)});
    server.call(&dan, "send_message", held).await.unwrap_err();
    // A room that does not exist is asked like one that does.
    server
        .ok(eve, "request_to_join", json!({"conversation_id": "room_999998", "text": format!("{marker} asks")}))
        .await;

    // Webhooks, and a bot.
    let webhook = json!({"url": format!("https://{marker}.example.org/{marker}")});
    let (status, answer) = server.request(Method::POST, "/webhooks", Some(&eve.token), Some(&webhook)).await;
    assert_eq!(status, 201, "{answer}");
    let incoming = json!({"conversation_id": own, "name": format!("{marker} bot")});
    let (status, answer) = server.request(Method::POST, "/incoming-webhooks", Some(&eve.token), Some(&incoming)).await;
    assert_eq!(status, 201, "{answer}");

    let bot = json!({"username": format!("{marker}-bot"), "display_name": format!("{marker} helper")});
    let (status, bot) = server.post("/bots", Some(&eve.token), &bot).await;
    assert_eq!(status, 201, "{bot}");
    let path = format!("/bots/{}", bot["user_id"]);
    let token = json!({"name": format!("{marker} token"), "scopes": ["write"]});
    let (status, token) = server.post(&format!("{path}/tokens"), Some(&eve.token), &token).await;
    assert_eq!(status, 201, "{token}");
    let commands = json!({"commands": [{"name": "help", "description": format!("ask {marker}")}]});
    let (status, answer) =
        server.request(Method::PUT, &format!("{path}/commands"), Some(&eve.token), Some(&commands)).await;
    assert_eq!(status, 200, "{answer}");

    // A ban with a reason, by a moderator of another room.
    let other = server.room(&[friend, eve]).await;
    let ban = json!({"conversation_id": other, "user_id": eve.id, "reason": format!("because of {marker}")});
    server.ok(friend, "ban_member", ban).await;

    // A public link, and pictures.
    assert_eq!(share(server, eve, file, json!({})).await.0, 201);
    server.avatar(eve, "image/png", png([200, 0, 0])).await;
    server.upload(eve, &own, &format!("{marker}.png"), &png([0, 200, 0])).await;

    // An invitation that is not answered, a room left while muted, and what the server found out.
    let asked = json!({"group_invitations": "nobody"});
    assert_eq!(server.request(Method::PATCH, "/users/me", Some(&eve.token), Some(&asked)).await.0, 200);
    let (another, left) = (server.room(&[friend]).await, server.room(&[&dan]).await);
    server.ok(friend, "invite_member", json!({"conversation_id": another, "user_id": eve.id})).await;
    let database = server.database().await;
    let found = format!(
        "INSERT INTO conversation_restrictions VALUES ({}, {id}, 'member', now() + interval '1 day');
         WITH event AS (
             INSERT INTO security_events (severity, event_type, user_id, details, dedupe_key)
             VALUES ('warning', 'test', {id}, '{{\"name\": \"{marker}\"}}', '{marker}') RETURNING id
         )
         INSERT INTO account_responses (user_id, response, reason, event_id, ends_at)
         SELECT {id}, 'slow_down', 'test', id, now() FROM event",
        ConversationId::parse(&left).unwrap().number(),
        id = eve.id
    );
    database.batch_execute(&found).await.unwrap();

    // The changed profile is announced in every conversation, which adds events.
    let announced = format!(
        "SELECT NOT EXISTS (SELECT FROM conversation_members m JOIN users u ON u.id = m.user_id
                             WHERE u.id = {} AND m.profile_version < u.profile_version)",
        eve.id
    );
    crate::support::wait_until(&database, &announced).await;

    // A second factor, a sign-in that is not completed, a ticket, and a copy of everything.
    let guarded = server.guard(eve.clone()).await;
    let sign_in = json!({"login": eve.name, "password": PASSWORD, "device_name": format!("{marker}'s tablet")});
    assert_eq!(server.post("/auth/login", None, &sign_in).await.0, 401);
    let ticket = server.ticket(eve).await;
    drop(upgrade(server, &format!("/ws?ticket={ticket}"), &[], None).await.unwrap());
    let (status, copy) = server.post("/users/me/exports", Some(&eve.token), &json!({"password": PASSWORD})).await;
    assert_eq!(status, 202, "{copy}");
    Traces { room, direct, backup_code: json!(guarded.backup_codes[0]) }
}

#[tokio::test]
async fn an_erased_person_is_in_no_table_and_no_file() {
    let server = Server::start(2, SETTINGS);
    let database = server.database().await;
    let marker = unique("Zq7").replace(['-', '_'], "");
    let (ann, eve) = (server.register().await, server.register_as(&format!("{marker}_e")).await);
    let Traces { room, direct, backup_code } = leave_traces(&server, &eve, &ann, &marker).await;
    server.found_in_time(&ann, &marker, 10).await;
    let found = rows_with(&database, &marker).await;
    for table in ["users", "messages", "message_search", "conversation_events", "mutation_outcomes", "audit_logs"] {
        assert!(
            found.iter().any(|row| row.starts_with(&format!("{table}: "))),
            "nothing to erase in {table}: {found:#?}"
        );
    }
    let mut without_rows = Vec::new();
    for table in TABLES.iter().filter(|table| table.fate == Fate::Gone) {
        if rows_of(&database, table, &eve).await == 0 {
            without_rows.push(table.name);
        }
    }
    assert_eq!(without_rows, [""; 0], "leave_traces must leave rows in every table");

    let mut watching = Client::all(&server, &ann, Format::MessagePack).await;
    let seq = server.last_seq(&ann, &room).await;
    let (status, problem) = erase(&server, &eve, &json!({"password": "wrong password"})).await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("forbidden")), "{problem}");
    let proof = json!({"password": PASSWORD, "backup_code": backup_code});
    let (status, requested) = erase(&server, &eve, &proof).await;
    assert_eq!(status, 202, "{requested}");
    assert_eq!(server.request(Method::GET, "/users/me", Some(&eve.token), None).await.0, 401);
    let done = completed(&server, &requested).await;

    assert_eq!(rows_with(&database, &marker).await, Vec::<String>::new(), "{done}");
    for table in TABLES.iter().filter(|table| table.fate == Fate::Gone) {
        assert_eq!(rows_of(&database, table, &eve).await, 0, "rows are left in {}", table.name);
    }
    server.stores(0).await;
    let found = server.ok(&ann, "search_messages", json!({"query": marker})).await;
    assert_eq!(found["messages"], json!([]));

    // The receipt names what was removed, and anybody with the key of the audit trail can verify it.
    let key = String::from_utf8(server.run(&["audit", "key"]).stdout).unwrap();
    let receipt = text(&done["receipt"]);
    let (origin, stated) = AuditPublicKey::from_text(&key).unwrap().open_note(receipt).unwrap();
    assert!(origin.starts_with("veza-chat/erasure/"), "{receipt}");
    let stated: Value = serde_json::from_str(&stated).unwrap();
    assert_eq!((&stated["erasure"], &stated["user_id"]), (&requested["erasure_id"], &json!(eve.id)));
    for (kind, count) in
        [("messages", 12), ("mentions", 2), ("reactions", 1), ("files", 2), ("webhooks", 1), ("rooms", 1)]
    {
        assert_eq!(stated["removed"][kind], count, "{kind}: {stated}");
    }
    let verified = server.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{verified:?}");

    // Everybody who watched, and everybody who was away, sees the same. The log has no gap.
    let (mut seqs, mut events) = (Vec::new(), Vec::new());
    let end = server.last_seq(&ann, &room).await;
    while seqs.last() != Some(&end) {
        let event = watching.next_event().await;
        if event["data"]["conversation_id"] == room
            && let Some(seq) = event["data"]["seq"].as_i64()
        {
            seqs.push(seq);
            events.push(event);
        }
    }
    assert_eq!(seqs, (seq + 1..=end).collect::<Vec<_>>());
    let left = events.iter().find(|event| event["type"] == "member_left").unwrap();
    assert_eq!(left["data"]["user"]["username"], format!("deleted-{}", eve.id));
    let history = server.history(&ann, &room).await;
    let dear = format!("dear @deleted-{0}, `@deleted-{0}`", eve.id);
    assert!(history.iter().any(|message| message["content"] == dear), "{history:#?}");
    assert!(history.iter().any(|message| message["content"] == "a reply"));
    let others = server.ok(&ann, "get_conversation", json!({"conversation_id": direct})).await;
    assert_eq!(others["conversation"]["last_seq"], server.last_seq(&ann, &direct).await);
    assert!(server.history(&ann, &direct).await.iter().any(|m| m["content"] == format!("@deleted-{}: hello", eve.id)));

    // The name is free now, the number is not, and nobody can take the new name.
    let (status, again) = server.post("/auth/login", None, &json!({"login": eve.name, "password": PASSWORD})).await;
    assert_eq!(status, 401, "{again}");
    let another = server.register_as(&eve.name).await;
    assert_ne!(another.id, eve.id);
    let name = format!("deleted-{}", another.id);
    let body = json!({"username": name, "email": "d@example.org", "password": PASSWORD});
    assert_eq!(server.post("/auth/register", None, &body).await.0, 400);
}

/// The archive of a new copy.
async fn copy_of(server: &Server, user: &User) -> Vec<u8> {
    let proof = json!({"password": PASSWORD});
    let (status, requested) = server.post("/users/me/exports", Some(&user.token), &proof).await;
    assert_eq!(status, 202, "{requested}");
    let started = Instant::now();
    let ready = loop {
        let path = text(&requested["status_url"]);
        let (status, state) = server.request(Method::GET, path, Some(&user.token), None).await;
        assert_eq!(status, 200, "{state}");
        if state["state"] == "ready" {
            break state;
        }
        assert!(started.elapsed() < PATIENCE, "{state}: {}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let url = text(&ready["archive_url"]);
    // In two parts, as after a download that was cut short.
    let first = server.send(user, "GET", url, &[("range", "bytes=0-99")], vec![]).await;
    assert_eq!(first.status(), 206);
    let rest = server.send(user, "GET", url, &[("range", "bytes=100-")], vec![]).await;
    assert_eq!(rest.status(), 206);
    let archive = [first.bytes().await.unwrap(), rest.bytes().await.unwrap()].concat();
    assert_eq!(json!(archive.len()), ready["size"]);
    archive
}

#[tokio::test]
async fn a_person_gets_a_copy_of_everything() {
    let server = Server::start(2, SETTINGS);
    let database = server.database().await;
    let marker = unique("Zq6").replace(['-', '_'], "");
    let (ann, eve) = (server.register().await, server.register_as(&format!("{marker}_e")).await);
    let Traces { room, direct, backup_code } = leave_traces(&server, &eve, &ann, &marker).await;
    let only_anns = send(&server, &ann, &room, "<only of ann>").await;
    let (status, problem) = server.post("/users/me/exports", Some(&eve.token), &json!({"password": "wrong"})).await;
    assert_eq!((status, problem["code"].as_str()), (403, Some("forbidden")), "{problem}");
    let archive = copy_of(&server, &eve).await;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy.zip");
    std::fs::write(&path, &archive).unwrap();
    // With a program that others made.
    let unpacked = std::process::Command::new("python3")
        .args(["-m", "zipfile", "-e", path.to_str().unwrap(), folder.path().to_str().unwrap()])
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for table in TABLES.iter().filter(|table| table.fate != Fate::Impersonal && !table.exported.is_empty()) {
        let lines = read(&format!("data/{}.jsonl", table.name));
        let rows: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let stored = rows_of(&database, table, &eve).await;
        // One request of each kind.
        let stored = if table.name == "conversation_join_requests" { 2 } else { stored };
        let moves = ["data_exports", "audit_logs", "sessions", "webhook_deliveries"].contains(&table.name);
        assert!(moves || rows.len() as i64 == stored, "{}: {stored} rows, and {} copied", table.name, rows.len());
        let columns: BTreeSet<&str> = table.exported.iter().copied().collect();
        for row in &rows {
            assert_eq!(row.as_object().unwrap().keys().map(String::as_str).collect::<BTreeSet<_>>(), columns);
        }
    }
    let everything: String = TABLES
        .iter()
        .filter(|table| table.fate != Fate::Impersonal && !table.exported.is_empty())
        .map(|table| read(&format!("data/{}.jsonl", table.name)))
        .collect();
    for secret in ["argon2", "sealed", "token_hash", "<only of ann>"] {
        assert!(!everything.contains(secret), "{secret}");
    }
    let page = read(&format!("conversations/{room}.html"));
    assert!(page.contains(&format!("{marker} second")) && !page.contains("only of ann"), "{page}");
    assert!(read(&format!("conversations/{direct}.html")).contains(&format!("{marker} wrote 2")));
    assert!(read("index.html").contains(&format!("{marker} shown")));
    let files = std::fs::read_dir(folder.path().join("files")).unwrap();
    assert_eq!(files.count(), 3, "the file of a message, and the unsent ones");
    assert!(only_anns["seq"].is_number());

    assert!(audited(&database, &eve).await.contains("request_export"));

    // Nobody else gets it, and it goes with its person.
    let (_, list) = server.request(Method::GET, "/users/me/exports", Some(&eve.token), None).await;
    let url = list["exports"][0]["archive_url"].clone();
    assert_eq!(server.send(&ann, "GET", text(&url), &[], vec![]).await.status(), 404);
    let proof = json!({"password": PASSWORD, "backup_code": backup_code});
    let (_, requested) = erase(&server, &eve, &proof).await;
    completed(&server, &requested).await;
    server.stores(0).await;
    assert!(audited(&database, &eve).await.contains("request_erasure"));
}

/// The actions of the audit trail by a user, each once.
async fn audited(database: &Database, user: &User) -> BTreeSet<String> {
    let actions = "SELECT DISTINCT action FROM audit_logs WHERE user_id = $1";
    database.query(actions, &[&user.id]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Makes the messages of a conversation up to a seq a year old, and runs the job of retention.
async fn grow_old(database: &Database, room: &str, to_seq: i64) {
    let room = ConversationId::parse(room).unwrap().number();
    let age =
        "UPDATE messages SET created_at = created_at - interval '366 days' WHERE conversation_id = $1 AND seq <= $2";
    database.execute(age, &[&room, &to_seq]).await.unwrap();
    run_retention(database).await;
}

/// Waits until the job of retention has ended that was begun last.
pub(super) async fn retention_ends(database: &Database) {
    let waits = "SELECT EXISTS (SELECT FROM jobs WHERE kind = 'apply_retention' AND leased_until IS NULL \
        AND next_at > now())";
    crate::support::wait_until(database, waits).await;
}

/// Runs the job of retention now.
pub(super) async fn run_retention(database: &Database) {
    let run = "INSERT INTO jobs (kind, subject) VALUES ('apply_retention', 'all') \
        ON CONFLICT (kind, subject) DO UPDATE SET next_at = now()";
    database.execute(run, &[]).await.unwrap();
}

#[tokio::test]
async fn retention_removes_old_messages_and_clients_start_over() {
    let settings = [("retention.messages", "1000days"), ("security.admin_user_ids", "1")];
    let server = Server::start(2, &settings);
    let database = server.database().await;
    let (admin, ann, bob) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut sent = Vec::new();
    for number in 0..30 {
        sent.push(send(&server, if number % 2 == 0 { &ann } else { &bob }, &room, &format!("text {number}")).await);
    }
    let (file, _) = server.upload(&ann, &room, "old.txt", b"old content").await;
    let with_file = json!({"conversation_id": room, "content": "old file", "attachments": [file],
        "client_message_id": unique("f")});
    let with_file = server.ok(&ann, "send_message", with_file).await;
    server.ok(&bob, "add_reaction", json!({"message_id": sent[3]["message_id"], "emoji": "👍"})).await;
    server.ok(&ann, "pin_message", json!({"message_id": sent[4]["message_id"], "pinned": true})).await;
    for number in 30..60 {
        sent.push(send(&server, if number % 2 == 0 { &ann } else { &bob }, &room, &format!("text {number}")).await);
    }
    server.found_in_time(&bob, "old", 1).await;
    let old_seq = with_file["seq"].as_i64().unwrap();

    // A hold keeps everything.
    let hold = json!({"conversation_id": room, "reason": "case 7"});
    assert_eq!(server.post("/admin/holds", Some(&ann.token), &hold).await.0, 403);
    let (status, hold) = server.post("/admin/holds", Some(&admin.token), &hold).await;
    assert_eq!(status, 201, "{hold}");
    let data = json!({"conversation_id": room, "retention_days": 30});
    assert_eq!(server.call(&bob, "update_conversation", data.clone()).await.unwrap_err()["code"], "forbidden");
    let changed = server.ok(&ann, "update_conversation", data).await;
    assert_eq!(changed["conversation"]["retention_days"], 30, "{changed}");
    grow_old(&database, &room, old_seq).await;
    let mut watching = Client::all(&server, &bob, Format::Json).await;
    retention_ends(&database).await;
    assert_eq!(server.history(&bob, &room).await.len(), 61);
    let (_, holds) = server.request(Method::GET, "/admin/holds", Some(&admin.token), None).await;
    assert_eq!((&holds["holds"][0]["reason"], &holds["holds"][0]["released_at"]), (&json!("case 7"), &Value::Null));

    // Without it, the old ones go with everything that belongs to them.
    let path = format!("/admin/holds/{}", hold["id"]);
    assert_eq!(server.request(Method::DELETE, &path, Some(&admin.token), None).await.0, 204);
    let cleared = watching.event_where("conversation_updated", |event| event["cleared_seq"].is_number()).await;
    let cleared_seq = cleared["cleared_seq"].as_i64().unwrap();
    assert!(cleared_seq >= old_seq && cleared_seq < sent[30]["seq"].as_i64().unwrap(), "{cleared}");
    server.stores(0).await;
    let history = server.history(&bob, &room).await;
    assert_eq!((history.len(), &history[0]["content"]), (30, &json!("text 30")));
    server.found_in_time(&bob, "old", 0).await;
    for table in ["message_reactions", "message_pins", "message_files", "files"] {
        let rows: i64 = database.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0);
        assert_eq!(rows, 0, "{table}");
    }
    let shown = server.ok(&bob, "get_conversation", json!({"conversation_id": room})).await["conversation"].clone();
    assert_eq!((&shown["cleared_seq"], &shown["unread_count"]), (&json!(cleared_seq), &json!(15)), "{shown}");

    // A client that was away since before starts over; one that was away since later catches up.
    let mut late = Client::none(&server, &ann, Format::MessagePack).await;
    late.ok("subscribe", json!({"conversation_id": room, "after_seq": 5})).await;
    let reset = late.event("reset").await;
    assert_eq!(reset["last_seq"], server.last_seq(&ann, &room).await);
    let next = send(&server, &bob, &room, "after the reset").await;
    assert_eq!(late.event("message_created").await["seq"], next["seq"]);
    let mut later = Client::none(&server, &ann, Format::Json).await;
    later.ok("subscribe", json!({"conversation_id": room, "after_seq": cleared_seq})).await;
    assert_eq!(later.event("message_created").await["content"], "text 30");

    // A second run finds nothing, and the log does not grow by it.
    let last = server.last_seq(&ann, &room).await;
    run_retention(&database).await;
    retention_ends(&database).await;
    assert_eq!(server.last_seq(&ann, &room).await, last);
    // The server's own limit holds where a conversation has none: in direct ones too.
    let direct =
        id_of(&server.ok(&ann, "create_conversation", json!({"kind": "direct", "member_ids": [bob.id]})).await);
    let first = send(&server, &ann, &direct, "old hello").await;
    send(&server, &ann, &direct, "hello").await;
    let age = "UPDATE messages SET created_at = created_at - interval '1001 days' WHERE id = $1";
    database.execute(age, &[&first["message_id"].as_i64().unwrap()]).await.unwrap();
    run_retention(&database).await;
    let started = Instant::now();
    while server.history(&bob, &direct).await.len() != 1 {
        assert!(started.elapsed() < PATIENCE, "{}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // An administrator erases somebody, and nobody else does.
    let path = format!("/admin/users/{}", bob.id);
    assert_eq!(server.request(Method::DELETE, &path, Some(&ann.token), None).await.0, 403);
    let (status, requested) = server.request(Method::DELETE, &path, Some(&admin.token), None).await;
    assert_eq!(status, 202, "{requested}");
    completed(&server, &requested).await;
    let actions = audited(&database, &admin).await;
    for action in ["create_hold", "read_holds", "release_hold", "request_erasure", "erase_person"] {
        assert!(actions.contains(action), "{action}: {actions:?}");
    }
    let verified = server.run(&["audit", "verify"]);
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test]
async fn a_hold_of_somebody_else_keeps_what_they_received_and_erasures_do_not_undo_each_other() {
    let server = Server::start(2, &[("security.admin_user_ids", "1")]);
    let database = server.database().await;
    let marker = unique("Zq5").replace(['-', '_'], "");
    let admin = server.register().await;
    let mut people = Vec::new();
    for number in 0..6 {
        people.push(server.register_as(&format!("{marker}_{number}")).await);
    }
    // Their names stand together in the events of one log.
    let room = server.room(&people.iter().collect::<Vec<_>>()).await;
    let (suspect, judy) = (server.register().await, &people[0]);
    let direct = json!({"kind": "direct", "member_ids": [judy.id]});
    let direct = id_of(&server.ok(&suspect, "create_conversation", direct).await);
    send(&server, judy, &direct, &format!("{marker} evidence")).await;
    let hold = json!({"user_id": suspect.id, "reason": "case 8"});
    let (status, hold) = server.post("/admin/holds", Some(&admin.token), &hold).await;
    assert_eq!(status, 201, "{hold}");
    let mut requested = Vec::new();
    for person in &people {
        requested.push(erase(&server, person, &json!({"password": PASSWORD})).await.1);
    }
    for requested in &requested[1..] {
        completed(&server, requested).await;
    }
    assert_eq!(server.history(&suspect, &direct).await[0]["content"], format!("{marker} evidence"));
    let path = format!("/admin/holds/{}", hold["id"]);
    assert_eq!(server.request(Method::DELETE, &path, Some(&admin.token), None).await.0, 204);
    completed(&server, &requested[0]).await;
    assert_eq!(rows_with(&database, &marker).await, Vec::<String>::new(), "{room}");
}
