//! `chat-server import mattermost`: an export becomes a server whose users find what they wrote. Hostile exports fail
//! and change nothing, an import that is killed goes on, and a second one changes nothing.
//!
//! How: one server, which is killed, and whose PostgreSQL goes on. `CHAT_TEST_SEED` repeats a run.

use super::backup::{Scratch, fails};
use super::imports::{
    arguments_of, conversation, count, import_of, imported, kill_while_it_writes_messages, message, require_order,
    sign_in, state,
};
use crate::support::mattermost::{FILE, FILE_PATH, lines, write_lines, write_zip};
use crate::support::{PASSWORD, Random, Server, text};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Write as _;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

const KIND: &str = "mattermost";
const SETTINGS: &[(&str, &str)] = &[("features.file_uploads", "true"), ("security.bcrypt_cost", "8")];
const VERSION: &str = "{\"type\":\"version\",\"version\":1}\n";

fn zip_of(path: &std::path::Path, entries: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, bytes) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

/// Exports that do nothing but fail, and what the failure says.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let user = "{\"type\":\"user\",\"user\":{\"username\":\"mallory\"}}\n";
    let deep = format!("{VERSION}{user}{}", "[".repeat(100_000));
    vec![
        ("empty.jsonl", Vec::new(), "no line of the type version"),
        ("other.jsonl", b"{\"type\":\"user\"}\n".to_vec(), "first line must have the type version"),
        ("second.jsonl", b"{\"type\":\"version\",\"version\":2}\n".to_vec(), "only version 1"),
        ("cut.jsonl", format!("{VERSION}{user}{{\"type\":\"post\",\"po").into_bytes(), "line or item 3"),
        ("deep.jsonl", deep.into_bytes(), "line or item 3"),
        ("latin.jsonl", [VERSION.as_bytes(), b"{\"type\":\"Jos\xe9\"}\n"].concat(), "not UTF-8"),
        ("utf16.jsonl", b"\xff\xfe{\0\"\0".to_vec(), "not UTF-8"),
        (
            "huge.jsonl",
            format!("{VERSION}{{\"type\":\"post\",\"post\":{{\"create_at\":1e999}}}}\n").into_bytes(),
            "line",
        ),
    ]
}

async fn hostile_exports_fail_and_change_nothing(server: &Server, scratch: &Scratch) {
    let database = server.database().await;
    let before = state(&database).await;
    let refuses = |name: &str, says: &str| {
        fails(
            &server.run(&arguments_of(KIND, "hostile", &scratch.text(name), &["--yes"])),
            &[says, "nothing was changed"],
        );
    };
    for (name, bytes, says) in hostile() {
        fs::write(scratch.path(name), bytes).unwrap();
        refuses(name, says);
    }
    let mut long = File::create(scratch.path("long.jsonl")).unwrap();
    long.write_all(VERSION.as_bytes()).unwrap();
    long.set_len(2 << 30).unwrap();
    refuses("long.jsonl", "longer than 16 MiB");

    let good = VERSION.as_bytes();
    for (name, entries, says) in [
        ("slip.zip", &[("import.jsonl", good), ("../../etc/cron.d/x", b"x")][..], "leads out of it"),
        ("absolute.zip", &[("import.jsonl", good), ("/etc/passwd", b"x")], "leads out of it"),
        ("none.zip", &[("data/x", b"x")], "no file NAME.jsonl"),
        ("two.zip", &[("a.jsonl", good), ("b.jsonl", good)], "several files"),
        ("double.zip", &[("a.jsonl", good), ("./a.jsonl", good)], "same name"),
    ] {
        zip_of(&scratch.path(name), entries);
        refuses(name, says);
    }
    let mut link = ZipWriter::new(File::create(scratch.path("link.zip")).unwrap());
    link.start_file("import.jsonl", SimpleFileOptions::default()).unwrap();
    link.write_all(good).unwrap();
    link.add_symlink("data/x", "/etc/passwd", SimpleFileOptions::default()).unwrap();
    link.finish().unwrap();
    refuses("link.zip", "has a link");
    zip_of(&scratch.path("bomb.zip"), &[("import.jsonl", &vec![b'\n'; 100 << 20])]);
    refuses("bomb.zip", "No chat does that");
    let whole = fs::read(scratch.path("two.zip")).unwrap();
    fs::write(scratch.path("short.zip"), &whole[..whole.len() - 30]).unwrap();
    refuses("short.zip", "zip");
    assert_eq!(state(&database).await, before);
}

async fn users_find_what_they_wrote(server: &Server) {
    // An export has no passwords, so an operator sets them.
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let set = "UPDATE credentials SET password_hash = $1 WHERE email LIKE '%@example.org'";
    server.database().await.execute(set, &[&hash]).await.unwrap();
    let (jane, bob, cid) =
        (sign_in(server, "jane_doe").await, sign_in(server, "bob").await, sign_in(server, "cid@example.org").await);
    let gone = json!({"login": "gone", "password": PASSWORD});
    assert_eq!(server.post("/auth/login", None, &gone).await.0, 401);

    let square = conversation(server, &jane, "Town Square (Core Team)").await;
    assert_eq!(square["role"], "owner", "{square}");
    let history = server.history(&jane, text(&square["id"])).await;
    let texts: Vec<&str> = history.iter().map(|found| text(&found["content"])).collect();
    let expected = [
        "Welcome @bob and @jane_doe, see `@bob`",
        "Thanks",
        "",
        "Build 7 https://ci.example/7\npassed for @bob",
        "early",
        "one",
        "two",
        "picture.png",
    ];
    assert_eq!(texts, expected);
    let welcome = &history[0];
    assert_eq!(welcome["seq"], 1);
    assert_eq!((welcome["pinned"].as_bool(), text(&welcome["edited_at"])), (Some(true), "2024-01-02T09:00:01.500Z"));
    assert_eq!(text(&welcome["created_at"]), "2024-01-02T09:00:01.000Z");
    assert_eq!(welcome["mentions"].as_array().unwrap().len(), 2, "{welcome}");
    let reactions: Vec<&str> =
        welcome["reactions"].as_array().unwrap().iter().map(|reaction| text(&reaction["emoji"])).collect();
    assert_eq!(reactions, ["👍", ":party_parrot:"]);
    assert_eq!(welcome["thread"]["reply_count"], 2);
    assert_eq!(message(&history, "Thanks")["parent_message_id"], welcome["message_id"]);
    let file = history[2]["attachments"][0]["file_id"].as_i64().unwrap_or_else(|| panic!("{}", history[2]));
    let settled = server.settled(&bob, file).await;
    assert_eq!((text(&settled["state"]), text(&settled["name"])), ("ready", "minutes.txt"), "{settled}");
    assert_eq!(server.download(&bob, file, "minutes.txt").await, FILE);
    // Jane has seen everything, Bob too; Cid has read nothing of the private room.
    assert_eq!(square["unread_count"], 0);
    let ops = conversation(server, &cid, "Opérations 🛠").await;
    assert_eq!((text(&ops["kind"]), ops["unread_count"].as_i64()), ("private_room", Some(3)), "{ops}");
    let long = server.history(&cid, text(&ops["id"])).await;
    let long: String = long.iter().map(|part| text(&part["content"]).to_owned()).collect();
    assert_eq!(long, "long words ".repeat(900));

    let direct = conversation(server, &jane, "Bob Builder").await;
    assert_eq!((text(&direct["kind"]), direct["unread_count"].as_i64()), ("direct", Some(1)), "{direct}");
    let lines = server.history(&bob, text(&direct["id"])).await;
    assert_eq!((lines.len(), text(&lines[0]["content"])), (1, "between us"));
    let list = server.ok(&bob, "list_conversations", json!({"limit": 100})).await;
    let kinds: Vec<&str> = list["conversations"].as_array().unwrap().iter().map(|found| text(&found["kind"])).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "group").count(), 2, "{list}");
    assert_eq!(kinds.iter().filter(|kind| **kind == "direct").count(), 2, "{list}");
    let before = server.last_seq(&bob, text(&square["id"])).await;
    let answer = server.ok(&bob, "send_message", json!({"conversation_id": square["id"], "content": "and on"})).await;
    assert_eq!(answer["seq"].as_i64().unwrap(), before + 1);
    server.found_in_time(&cid, "Welcome", 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_of_mattermost_become_conversations_that_go_on() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let server = Server::start(1, SETTINGS);
    server.kill9(); // its PostgreSQL goes on
    hostile_exports_fail_and_change_nothing(&server, &scratch).await;

    let all = lines(700, random.below(1 << 32));
    write_zip(&scratch.path("export.zip"), &all);
    write_lines(&scratch.path("export.jsonl"), &all);
    let file = scratch.path("files").join(FILE_PATH);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, FILE).unwrap();
    let (zip, plain, files) = (scratch.text("export.zip"), scratch.text("export.jsonl"), scratch.text("files"));

    let database = server.database().await;
    let before = state(&database).await;
    let planned = import_of(KIND, &server, &scratch, "old", &zip, &["--dry-run"]);
    assert_eq!(state(&database).await, before, "a dry run changed something");
    kill_while_it_writes_messages(&server, &arguments_of(KIND, "old", &zip, &[])).await;
    assert_ne!(state(&database).await["users"], before["users"], "nothing was committed before the kill");
    let resumed = import_of(KIND, &server, &scratch, "old", &zip, &[]);
    for (table, name) in
        [("messages", "imported"), ("messages", "united"), ("messages", "rejected"), ("files", "imported")]
    {
        assert_eq!(count(&resumed, table, name), count(&planned, table, name), "{table} {name}");
    }
    // The thread that is there twice: its first message, and two replies.
    assert_eq!(count(&resumed, "messages", "united"), 3);
    assert_eq!(count(&resumed, "users", "present"), 6);
    require_order(&database).await;
    let after = state(&database).await;
    for (dump, more) in [(&zip, &[][..]), (&plain, &["--files", &files])] {
        let again = import_of(KIND, &server, &scratch, "old", dump, more);
        assert_eq!((imported(&again), state(&database).await), (0, after.clone()), "{again}");
    }

    let line_of = |report: &Value, part: &str| {
        let rejected = report["rejected"].as_array().unwrap();
        let row = rejected.iter().find(|row| text(&row["reason"]).contains(part));
        let row = row.unwrap_or_else(|| panic!("{part}: {rejected:?}")).clone();
        assert_eq!(row["file"], "import.jsonl", "{row}");
        row["line"].as_u64().unwrap() as usize - 1
    };
    assert_eq!(all[line_of(&resumed, "its room is unknown")]["post"]["channel"], "nowhere");
    assert_eq!(all[line_of(&resumed, "its text is empty")]["post"]["message"], "   ");
    assert_eq!(all[line_of(&resumed, "invalid type")]["post"]["create_at"], "yesterday");
    for reason in ["its author is unknown", "its user is unknown", "neither in the export nor in the folder"] {
        line_of(&resumed, reason);
    }
    let changed = planned["changed"].to_string();
    for change in [
        "'jane.doe' became jane_doe",
        "signed in through ldap",
        "it was a guest",
        "it became 3 messages",
        "became a group with one member",
        "the role admin of the whole server",
        "it became 'Town Square (Sales)'",
        "their names became its text",
    ] {
        assert!(changed.contains(change), "{change}: {changed}");
    }
    assert_eq!(resumed["not_imported"]["tables"]["posts of the type system_join_channel"], 1);

    server.start_again();
    users_find_what_they_wrote(&server).await;
}
