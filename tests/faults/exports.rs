//! `chat-server export mattermost`: what it writes is what Mattermost's importer accepts, it is of one moment while the
//! server works, and another server that imports it has the same histories.
//!
//! How: two servers. The first one goes on while it is exported; the second one is empty.

use super::backup::{Scratch, fails, succeeds};
use super::imports::{arguments_of, conversation, import_of, require_order, sign_in};
use crate::support::{PASSWORD, Server, User, id_of, mattermost_schema, text};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

const SETTINGS: &[(&str, &str)] = &[("features.file_uploads", "true"), ("security.bcrypt_cost", "8")];

fn read_zip(path: &Path) -> (Vec<Value>, Vec<String>) {
    let mut zip = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let names = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    let mut text = String::new();
    zip.by_name("import.jsonl").unwrap().read_to_string(&mut text).unwrap();
    (parsed(&text), names)
}

fn parsed(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn create(server: &Server, owner: &User, data: Value) -> String {
    id_of(&server.ok(owner, "create_conversation", data).await)
}

async fn react(server: &Server, user: &User, message: &Value, emoji: &str) {
    let data = json!({"message_id": message["message_id"], "emoji": emoji});
    server.ok(user, "add_reaction", data).await;
}

/// The conversations whose histories are compared, by what a member of them calls them.
const COMPARED: [&str; 4] = ["Général ☕", "secret", "many members", "Bob B"];

/// Fills a server. Returns its three users that look at things.
async fn fill(server: &Server) -> [User; 3] {
    let (ann, bob, cid) =
        (server.register_as("Ann_X").await, server.register_as("bob").await, server.register_as("-cid").await);
    let (status, answer) = server
        .request(reqwest::Method::PATCH, "/users/me", Some(&bob.token), Some(&json!({"display_name": "Bob B"})))
        .await;
    assert_eq!(status, 200, "{answer}");
    let others = server.register_many(8).await;
    let ids = |users: &[&User]| users.iter().map(|user| user.id).collect::<Vec<_>>();
    let general = json!({"kind": "public_room", "name": "Général ☕", "description": "d".repeat(900)});
    let general = create(server, &ann, general).await;
    server.ok(&bob, "join_conversation", json!({"conversation_id": general})).await;
    server.ok(&cid, "join_conversation", json!({"conversation_id": general})).await;
    let members = ids(&[&bob, &cid]);
    let secret = create(server, &ann, json!({"kind": "private_room", "name": "secret", "member_ids": members})).await;
    create(server, &ann, json!({"kind": "private_room", "name": "Secret!", "member_ids": members})).await;
    let group = create(server, &ann, json!({"kind": "group", "name": "plans", "member_ids": members})).await;
    let everyone: Vec<i64> = others.iter().map(|user| user.id).chain([bob.id]).collect();
    let many = json!({"kind": "group", "name": "many members", "member_ids": everyone});
    let many = create(server, &ann, many).await;
    let direct = create(server, &ann, json!({"kind": "direct", "member_ids": [bob.id]})).await;

    let root = server.send_text(&ann, &general, "Welcome @bob\n\"quoted\" \\ é 👍").await;
    for n in 0..30 {
        let sender = [&ann, &bob, &cid][n % 3];
        server.send_text(sender, &general, &format!("line {n}")).await;
        if n % 4 == 0 {
            let reply = json!({"conversation_id": general, "content": format!("reply {n}"),
                "parent_message_id": root["message_id"]});
            server.ok(&bob, "send_message", reply).await;
        }
    }
    for (user, emoji) in [(&bob, "👍"), (&cid, "👍🏽"), (&cid, ":party_parrot:"), (&ann, "🇩🇪")] {
        react(server, user, &root, emoji).await;
    }
    server.ok(&ann, "pin_message", json!({"message_id": root["message_id"], "pinned": true})).await;
    let edited = server.send_text(&bob, &secret, "first thoughts").await;
    let edit = json!({"message_id": edited["message_id"], "content": "second thoughts"});
    server.ok(&bob, "edit_message", edit).await;
    let gone = server.send_text(&cid, &secret, "never seen again").await;
    server.ok(&cid, "delete_message", json!({"message_id": gone["message_id"]})).await;
    let lost = server.send_text(&cid, &secret, "deleted, with a reply").await;
    let reply =
        json!({"conversation_id": secret, "content": "what was that?", "parent_message_id": lost["message_id"]});
    server.ok(&ann, "send_message", reply).await;
    server.ok(&cid, "delete_message", json!({"message_id": lost["message_id"]})).await;
    server.send_file(&bob, &secret, "a/b plan.txt", b"the plan").await;
    let (file, _) = server.upload(&ann, &secret, "alone.txt", b"alone").await;
    let only = json!({"conversation_id": secret, "content": "", "attachments": [file]});
    server.ok(&ann, "send_message", only).await;
    server.send_text(&ann, &secret, &"word ".repeat(790)).await;
    for (place, sender) in [(&group, &cid), (&many, &bob), (&direct, &bob)] {
        server.send_text(sender, place, "hello there").await;
    }
    server.ok(&ann, "archive_conversation", json!({"conversation_id": many, "archived": true})).await;
    [ann, bob, cid]
}

/// What must be the same on both servers: of each message everything but ids. Joins and deleted messages are left out.
async fn histories(server: &Server, user: &User) -> Vec<(String, Vec<Value>)> {
    let mut histories = Vec::new();
    for name in COMPARED {
        let found = conversation(server, user, name).await;
        let history = server.history(user, text(&found["id"])).await;
        let live = |message: &&Value| message["message_type"] != "system" && message["deleted"] == false;
        let place = |id: &Value| {
            let root = history.iter().find(|message| message["message_id"] == *id);
            root.map(|root| if root["deleted"] == true { DELETED.into() } else { root["content"].clone() })
        };
        let mut compared = Vec::new();
        for message in history.iter().filter(live).filter(|message| message["content"] != DELETED) {
            let mut names = Vec::new();
            for file in message["attachments"].as_array().unwrap() {
                let id = file["file_id"].as_i64().unwrap();
                let settled = server.settled(user, id).await;
                let name = text(&settled["name"]).to_owned();
                let content = String::from_utf8(server.download(user, id, "x").await).unwrap();
                names.push(format!("{name}: {content}"));
            }
            let reactions: Vec<String> = message["reactions"]
                .as_array()
                .unwrap()
                .iter()
                .map(|reaction| format!("{} {}", text(&reaction["emoji"]), reaction["count"]))
                .collect();
            let sender = text(&message["sender"]["username"]).trim_start_matches("u-").trim_start_matches('-');
            compared.push(json!({
                "content": message["content"], "sender": sender.to_lowercase(), "pinned": message["pinned"],
                "created_at": message["created_at"], "edited_at": message["edited_at"], "files": names,
                "reactions": reactions, "mentions": message["mentions"].as_array().unwrap().len(),
                "parent": place(&message["parent_message_id"])}));
        }
        histories.push((name.to_owned(), compared));
    }
    histories
}

const DELETED: &str = "(message deleted)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_imported_elsewhere_has_the_same_histories() {
    let scratch = Scratch::new();
    let server = Server::start(1, SETTINGS);
    let [ann, ..] = fill(&server).await;
    let (zip, lines) = (scratch.text("out.zip"), scratch.text("out.jsonl"));
    let printed = succeeds(&server.run(&["export", "mattermost", "--files", "--team", "acme", &zip]));
    for part in ["groups became private channels", "deleted messages were left out", "have the text (message deleted)"]
    {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    fails(&server.run(&["export", "mattermost", &zip]), &["exists"]);
    let plain = succeeds(&server.run(&["export", "mattermost", &lines]));
    assert!(plain.contains("--files is not given"), "{plain}");
    for (wrong, says) in [(&["--team", "Not A Team", "x.zip"][..], "--team"), (&["x.tar"], ".zip or .jsonl")] {
        fails(&server.run(&[&["export", "mattermost"], wrong].concat()), &[says]);
    }
    let (exported, names) = read_zip(&scratch.path("out.zip"));
    mattermost_schema::check(&exported);
    mattermost_schema::check(&parsed(&fs::read_to_string(scratch.path("out.jsonl")).unwrap()));
    assert_eq!(names.iter().filter(|name| name.starts_with("data/files/")).count(), 2, "{names:?}");
    let row = "SELECT count(*) = 2 FROM audit_logs WHERE action = 'export'";
    assert!(server.database().await.query_one(row, &[]).await.unwrap().get::<_, bool>(0));

    let before = histories(&server, &ann).await;
    let other = Server::start(1, SETTINGS);
    other.kill9();
    import_of("mattermost", &other, &scratch, "veza", &zip, &[]);
    let database = other.database().await;
    require_order(&database).await;
    let again = import_of("mattermost", &other, &scratch, "veza", &zip, &[]);
    assert_eq!(
        again["tables"].as_array().unwrap().iter().map(|table| table["imported"].as_i64().unwrap()).sum::<i64>(),
        0
    );
    other.start_again();
    let hash = bcrypt::hash(PASSWORD, 4).unwrap();
    database.execute("UPDATE credentials SET password_hash = $1", &[&hash]).await.unwrap();
    let ann_there = sign_in(&other, "ann_x").await;
    let after = histories(&other, &ann_there).await;
    for ((name, ours), (_, theirs)) in before.iter().zip(&after) {
        assert!(!ours.is_empty(), "{name}");
        for (n, (our, their)) in ours.iter().zip(theirs).enumerate() {
            assert_eq!(our, their, "{name}, message {n}");
        }
        assert_eq!(ours.len(), theirs.len(), "{name}");
    }
    // The group of three is one there too; its name is in its description.
    let list = other.ok(&ann_there, "list_conversations", json!({"limit": 100})).await;
    let group = list["conversations"].as_array().unwrap().iter().find(|found| found["kind"] == "group").unwrap();
    assert_eq!((group["description"].as_str(), group["unread_count"].as_i64()), (Some("plans"), Some(1)), "{group}");
    fails(&other.run(&arguments_of("mattermost", "veza", &zip, &[])), &["Stop it first"]);
}
