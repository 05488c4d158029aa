//! `chat-server import slack`: an export becomes a server whose users find what they wrote. Hostile exports fail and
//! change nothing, an import that is killed goes on, and a second one changes nothing.
//!
//! How: one server, which is killed, and whose PostgreSQL goes on. `CHAT_TEST_SEED` repeats a run.

use super::backup::{Scratch, fails};
use super::imports::{
    arguments_of, conversation, count, import_of, imported, kill_while_it_writes_messages, message, require_order,
    sign_in, state,
};
use crate::support::slack::{FILE, FILE_PATH, files, write_folder, write_zip};
use crate::support::{PASSWORD, Random, Server, text};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;

const KIND: &str = "slack";
const SETTINGS: &[(&str, &str)] = &[("features.file_uploads", "true"), ("security.bcrypt_cost", "8")];

async fn hostile_exports_fail_and_change_nothing(server: &Server, scratch: &Scratch) {
    let database = server.database().await;
    let before = state(&database).await;
    let refuses = |name: &str, says: &[&str]| {
        let says = [says, &["nothing was changed"]].concat();
        fails(&server.run(&arguments_of(KIND, "hostile", &scratch.text(name), &["--yes"])), &says);
    };
    fs::write(scratch.path("plain.json"), "[]").unwrap();
    refuses("plain.json", &["neither a zip nor a folder"]);
    fs::create_dir(scratch.path("none")).unwrap();
    refuses("none", &["no users.json"]);
    let good = "[{\"id\": \"U1\", \"name\": \"mallory\"}]";
    let deep = format!("[{{\"ts\": \"1.0\", \"attachments\": {}{}}}]", "[".repeat(5_000), "]".repeat(5_000));
    for (folder, file, bytes, says) in [
        (
            "cut",
            "general/2024-01-01.json",
            b"[{\"ts\": \"1.0\"".to_vec(),
            ["general/2024-01-01.json", "before its end"],
        ),
        ("latin", "channels.json", b"[{\"id\": \"\xe9\"}]".to_vec(), ["channels.json", "not UTF-8"]),
        ("object", "dms.json", b"{}".to_vec(), ["dms.json", "no list"]),
        ("broken", "general/2024-01-01.json", b"[{\"ts\": 1e999}]".to_vec(), ["item 1", "no JSON"]),
        ("deep", "general/2024-01-01.json", deep.into_bytes(), ["item 1", "recursion limit"]),
        ("two", "users.json.d/x.json", b"[] []".to_vec(), ["users.json.d/x.json", "behind the end"]),
    ] {
        let path = scratch.path(folder);
        fs::create_dir_all(path.join(file).parent().unwrap()).unwrap();
        fs::write(path.join("users.json"), good).unwrap();
        fs::write(path.join(file), bytes).unwrap();
        refuses(folder, &says);
    }
    std::os::unix::fs::symlink("/etc/passwd", scratch.path("none/users.json")).unwrap();
    refuses("none", &["has a link"]);
    write_zip(&scratch.path("slip.zip"), "../", &BTreeMap::from([("users.json".to_owned(), json!([]))]));
    refuses("slip.zip", &["leads out of it"]);
    let endless = fs::File::create(scratch.path("two/general.json")).unwrap();
    fs::create_dir(scratch.path("long")).unwrap();
    drop(endless);
    fs::write(scratch.path("long/users.json"), "[\"").unwrap();
    fs::OpenOptions::new().write(true).open(scratch.path("long/users.json")).unwrap().set_len(2 << 30).unwrap();
    refuses("long", &["users.json", "longer than 16 MiB"]);
    assert_eq!(state(&database).await, before);
}

async fn users_find_what_they_wrote(server: &Server) {
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    let set = "UPDATE credentials SET password_hash = $1 WHERE email LIKE '%@example.org'";
    server.database().await.execute(set, &[&hash]).await.unwrap();
    let (jane, bob) = (sign_in(server, "jane_doe").await, sign_in(server, "bob@example.org").await);
    let gone = json!({"login": "gone", "password": PASSWORD});
    assert_eq!(server.post("/auth/login", None, &gone).await.0, 401);

    let general = conversation(server, &jane, "general").await;
    assert_eq!((text(&general["role"]), general["unread_count"].as_i64()), ("owner", Some(0)), "{general}");
    assert_eq!(general["description"], "For @bob\nWork & play");
    let history = server.history(&jane, text(&general["id"])).await;
    let texts: Vec<&str> = history.iter().map(|found| text(&found["content"])).collect();
    let long = "long words ".repeat(900);
    let expected = [
        "Welcome @bob and @jane_doe & @here: [the *docs*](https://example.org/a?b=1&c=2)",
        "Thanks",
        "For all: see #many",
        "Build [7](https://ci.example/7) passed",
        "deployed",
        "waves",
        "",
        "doc\nSheet https://d.example/s",
        "hello from afar",
        "a late reply",
        "lost its thread",
        "",
        "still here",
        "only **blocks**",
    ];
    assert_eq!(texts[..expected.len()], expected);
    assert_eq!(texts[expected.len()..].concat(), long);
    let welcome = &history[0];
    assert_eq!((welcome["seq"].as_i64(), welcome["pinned"].as_bool()), (Some(1), Some(true)), "{welcome}");
    assert_eq!(text(&welcome["created_at"]), "2023-11-14T22:13:20.000Z");
    assert_eq!(text(&welcome["edited_at"]), "2023-11-14T22:13:21.000Z");
    assert_eq!(welcome["thread"]["reply_count"], 3);
    let reactions: Vec<(&str, i64)> = welcome["reactions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|reaction| (text(&reaction["emoji"]), reaction["count"].as_i64().unwrap()))
        .collect();
    assert_eq!(reactions, [("👍", 2), (":party_parrot:", 1)]);
    for reply in ["Thanks", "For all: see #many", "a late reply"] {
        assert_eq!(message(&history, reply)["parent_message_id"], welcome["message_id"], "{reply}");
    }
    assert_eq!(message(&history, "lost its thread")["parent_message_id"], Value::Null);
    assert_eq!(history[11]["deleted"], true);
    assert_eq!(message(&history, "still here")["parent_message_id"], history[11]["message_id"]);
    let senders: Vec<&str> = history.iter().map(|found| text(&found["sender"]["username"])).collect();
    assert_eq!((senders[3], senders[4], senders[8]), ("Incoming_Hook", "deploybot", "far_away"));
    let file = history[6]["attachments"][0]["file_id"].as_i64().unwrap_or_else(|| panic!("{}", history[6]));
    let settled = server.settled(&bob, file).await;
    assert_eq!((text(&settled["state"]), text(&settled["name"])), ("ready", "plan.txt"), "{settled}");
    assert_eq!(server.download(&bob, file, "plan.txt").await, FILE);

    let direct = conversation(server, &bob, "Jane Doe").await;
    assert_eq!(server.history(&bob, text(&direct["id"])).await[0]["content"], "between us");
    let secret = conversation(server, &bob, "secret").await;
    assert_eq!((text(&secret["kind"]), secret["archived"].as_bool()), ("private_room", Some(true)), "{secret}");
    let list = server.ok(&bob, "list_conversations", json!({"limit": 100})).await;
    let kinds: Vec<&str> = list["conversations"].as_array().unwrap().iter().map(|found| text(&found["kind"])).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "group").count(), 2, "{list}");
    let before = server.last_seq(&bob, text(&general["id"])).await;
    let answer = server.ok(&bob, "send_message", json!({"conversation_id": general["id"], "content": "and on"})).await;
    assert_eq!(answer["seq"].as_i64().unwrap(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exports_of_slack_become_conversations_that_go_on() {
    let (scratch, mut random) = (Scratch::new(), Random::new());
    let server = Server::start(1, SETTINGS);
    server.kill9(); // its PostgreSQL goes on
    hostile_exports_fail_and_change_nothing(&server, &scratch).await;

    let all = files(700, random.below(1 << 32));
    write_zip(&scratch.path("export.zip"), "Acme Slack export/", &all);
    write_folder(&scratch.path("export"), &all);
    let file = scratch.path("files").join(FILE_PATH);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, FILE).unwrap();
    let (zip, folder, downloads) = (scratch.text("export.zip"), scratch.text("export"), scratch.text("files"));

    let database = server.database().await;
    let before = state(&database).await;
    let planned = import_of(KIND, &server, &scratch, "old", &zip, &["--dry-run", "--files", &downloads]);
    assert_eq!(state(&database).await, before, "a dry run changed something");
    let complete = arguments_of(KIND, "old", &zip, &["--files", &downloads]);
    kill_while_it_writes_messages(&server, &complete).await;
    assert_ne!(state(&database).await["users"], before["users"], "nothing was committed before the kill");
    let resumed = import_of(KIND, &server, &scratch, "old", &zip, &["--files", &downloads]);
    for (table, name) in
        [("messages", "imported"), ("messages", "united"), ("messages", "rejected"), ("files", "imported")]
    {
        assert_eq!(count(&resumed, table, name), count(&planned, table, name), "{table} {name}");
    }
    assert_eq!((count(&resumed, "messages", "united"), count(&resumed, "files", "imported")), (1, 1));
    require_order(&database).await;
    let after = state(&database).await;
    for export in [&zip, &folder] {
        let again = import_of(KIND, &server, &scratch, "old", export, &["--files", &downloads]);
        assert_eq!((imported(&again), state(&database).await), (0, after.clone()), "{again}");
    }

    let rejected = resumed["rejected"].as_array().unwrap();
    for (reason, file, line) in [
        ("no conversation of the lists", "deleted-channel/2023-11-14.json", 1),
        ("its ts is no time", "general/2023-11-15.json", 7),
        ("invalid type: integer", "general/2023-11-15.json", 8),
        ("its text is empty", "general/2023-11-15.json", 10),
        ("not have its content any longer", "general/2023-11-14.json", 9),
        ("neither in the export nor in the folder", "general/2023-11-14.json", 9),
    ] {
        let row = rejected.iter().find(|row| text(&row["reason"]).contains(reason));
        let row = row.unwrap_or_else(|| panic!("{reason}: {rejected:?}"));
        assert_eq!(
            (text(&row["file"]), row["line"].as_i64()),
            (&*format!("Acme Slack export/{file}"), Some(line)),
            "{row}"
        );
    }
    let changed = planned["changed"].to_string();
    for change in [
        "'jane.doe' became jane_doe",
        "it was a guest",
        "it became 3 messages",
        "became a group with one member",
        "is not in users.json",
        "does not name all users of this reaction",
        "is not in the export; it stands alone",
        "none of its members manages it; jane_doe became its owner",
    ] {
        assert!(changed.contains(change), "{change}: {changed}");
    }
    let left = &resumed["not_imported"]["tables"];
    assert_eq!(left["messages of the subtype channel_join"], 1, "{left}");
    assert_eq!(left["file integration_logs.json"], 1, "{left}");

    server.start_again();
    users_find_what_they_wrote(&server).await;
}
