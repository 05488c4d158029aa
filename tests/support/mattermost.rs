//! Exports of Mattermost in its bulk format, as `mmctl export` writes them. Each has the same few lines that tests look
//! at, and many posts that are made of a seed.

use serde_json::{Value, json};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The attachment of an export, and where it is.
pub const FILE: &[u8] = b"the minutes of the meeting";
pub const FILE_PATH: &str = "20240102/teams/noteam/channels/c/users/u/f/minutes.txt";
/// The time of the first post.
pub const BEGIN: i64 = 1_704_186_000_000;

/// Lines of an export with `many` made posts.
pub fn lines(many: u64, seed: u64) -> Vec<Value> {
    let mut lines = vec![
        json!({"type": "version", "version": 1, "info": {"generator": "mattermost-server", "version": "10.5.0",
            "created": "2024-05-01T10:00:00Z"}}),
        json!({"type": "role", "role": {"name": "custom_role", "permissions": ["read_channel"]}}),
        json!({"type": "emoji", "emoji": {"name": "party_parrot", "image": "data/emoji/x/image"}}),
        json!({"type": "team", "team": {"name": "core", "display_name": "Core Team", "type": "O"}}),
        json!({"type": "team", "team": {"name": "sales", "display_name": "Sales", "type": "I"}}),
    ];
    for (team, name, display, kind) in [
        ("core", "town-square", "Town Square", "O"),
        ("sales", "town-square", "Town Square", "O"),
        ("core", "ops", "Opérations 🛠", "P"),
        ("core", "many", "Many", "O"),
    ] {
        lines.push(json!({"type": "channel", "channel": {"team": team, "name": name, "display_name": display,
            "type": kind, "header": "", "purpose": "About work"}}));
    }
    lines
        .push(json!({"type": "channel", "channel": {"team": "core", "name": "old", "display_name": "Old", "type": "O",
        "header": "", "purpose": "", "deleted_at": BEGIN + 900_000}}));
    lines.extend(users());
    lines.push(json!({"type": "bot", "bot": {"username": "deploy-bot", "display_name": "Deploy", "owner": "jane.doe",
        "description": "", "delete_at": 0}}));
    lines.extend(posts());
    lines.extend((0..many).map(|n| made(n, seed)));
    lines.extend(directs());
    lines
}

fn users() -> Vec<Value> {
    let channel = |name: &str, roles: &str, viewed: i64| {
        json!({"name": name, "roles": roles, "notify_props": {"desktop": "default", "mark_unread": "all"},
            "favorite": false, "last_viewed_at": viewed})
    };
    let user = |name: &str, teams: Value| {
        json!({"type": "user", "user": {"username": name, "email": format!("{name}@example.org"), "auth_service": "",
            "nickname": "", "first_name": "", "last_name": "", "position": "", "roles": "system_user",
            "locale": "en", "delete_at": 0, "teams": teams}})
    };
    let everything = json!([{"name": "core", "roles": "team_user team_admin", "channels": [
            channel("town-square", "channel_user", BEGIN + 10_000), channel("ops", "channel_user channel_admin", 0),
            channel("many", "channel_user", BEGIN * 2), channel("old", "channel_user", 0)]},
        {"name": "sales", "roles": "team_user", "channels": [channel("town-square", "channel_user", 0)]}]);
    let some = json!([{"name": "core", "roles": "team_user", "channels": [
        channel("town-square", "channel_user", BEGIN * 2), channel("ops", "channel_user", 0),
        channel("many", "channel_user", BEGIN * 2)]}]);
    let mut jane = user("jane.doe", everything);
    jane["user"]["nickname"] = "Jane 🐦".into();
    jane["user"]["roles"] = "system_user system_admin".into();
    let mut bob = user("bob", some.clone());
    bob["user"]["first_name"] = "Bob".into();
    bob["user"]["last_name"] = "Builder".into();
    bob["user"]["auth_service"] = "ldap".into();
    bob["user"]["auth_data"] = "cn=bob".into();
    let mut gone = user("gone", json!([]));
    gone["user"]["delete_at"] = json!(BEGIN + 5_000);
    let mut guest = user("guest1", json!([]));
    guest["user"]["roles"] = "system_guest".into();
    vec![jane, bob, user("cid", some), gone, guest]
}

fn post(channel: &str, user: &str, message: &str, after: i64) -> Value {
    json!({"type": "post", "post": {"team": "core", "channel": channel, "user": user, "message": message, "props": {},
        "create_at": BEGIN + after, "edit_at": 0, "reactions": [], "replies": []}})
}

fn posts() -> Vec<Value> {
    let mut thread = post("town-square", "jane.doe", "Welcome @bob and @jane.doe, see `@bob`", 1_000);
    thread["post"]["is_pinned"] = true.into();
    thread["post"]["edit_at"] = json!(BEGIN + 1_500);
    thread["post"]["flagged_by"] = json!(["bob"]);
    thread["post"]["reactions"] = json!([
        {"user": "bob", "create_at": BEGIN + 2_000, "emoji_name": "+1"},
        {"user": "cid", "create_at": BEGIN + 2_001, "emoji_name": "party_parrot"},
        {"user": "nobody", "create_at": BEGIN + 2_001, "emoji_name": "+1"}]);
    thread["post"]["thread_followers"] = json!([{"user": "bob", "last_viewed": 0, "unread_mentions": 0}]);
    thread["post"]["replies"] = json!([
        {"user": "bob", "message": "Thanks", "create_at": BEGIN + 3_000, "edit_at": 0, "reactions": [
            {"user": "jane.doe", "create_at": BEGIN + 3_500, "emoji_name": "heart"}]},
        {"user": "gone", "message": "", "create_at": BEGIN + 4_000, "attachments": [{"path": FILE_PATH}]},
        {"user": "nobody", "message": "from nowhere", "create_at": BEGIN + 4_500}]);
    let mut joined = post("town-square", "bob", "bob joined the channel.", 500);
    joined["post"]["type"] = "system_join_channel".into();
    let mut card = post("town-square", "deploy-bot", "", 6_000);
    card["post"]["type"] = "slack_attachment".into();
    card["post"]["props"] = json!({"attachments": [{"title": "Build 7", "title_link": "https://ci.example/7",
        "text": "passed for @bob"}], "from_bot": "true"});
    let mut lost = post("town-square", "bob", "", 9_000);
    lost["post"]["attachments"] = json!([{"path": "lost/picture.png"}]);
    let mut elsewhere = post("nowhere", "bob", "no such channel", 9_000);
    elsewhere["post"]["team"] = "core".into();
    let mut sales = post("town-square", "jane.doe", "Only for sales", 9_500);
    sales["post"]["team"] = "sales".into();
    let mut late = post("town-square", "bob", "x", 0);
    late["post"]["create_at"] = "yesterday".into();
    vec![
        thread.clone(),
        joined,
        card,
        // The same post again, two posts in one millisecond, and one out of the order of times.
        thread,
        post("town-square", "bob", "one", 8_000),
        post("town-square", "bob", "two", 8_000),
        post("town-square", "cid", "early", 7_000),
        lost,
        elsewhere,
        sales,
        late,
        post("town-square", "cid", "   ", 9_100),
        post("ops", "jane.doe", &"long words ".repeat(900), 9_200),
    ]
}

fn made(n: u64, seed: u64) -> Value {
    let user = ["jane.doe", "bob", "cid"][(n % 3) as usize];
    let at = (n * 7_919 + seed % 1_000_000) % 1_000 * 60_000;
    let message = format!("made {n} \\ \t \n é 👍 {}", "x".repeat((n % 50) as usize));
    let mut post = post("many", user, &message, 1_000_000 + at as i64);
    if n.is_multiple_of(7) {
        post["post"]["replies"] = json!([{"user": "bob", "message": format!("reply to {n}"),
            "create_at": BEGIN + 1_000_000 + at as i64 + 1_000}]);
    }
    post
}

fn directs() -> Vec<Value> {
    let direct = |members: Value, user: &str, message: &str, after: i64| {
        json!({"type": "direct_post", "direct_post": {"channel_members": members, "user": user, "message": message,
            "create_at": BEGIN + after, "flagged_by": null, "reactions": null, "replies": null, "attachments": null}})
    };
    vec![
        json!({"type": "direct_channel", "direct_channel": {"participants": [
            {"username": "jane.doe", "last_viewed_at": BEGIN}, {"username": "bob", "last_viewed_at": BEGIN * 2}],
            "favorited_by": ["bob"], "header": ""}}),
        json!({"type": "direct_channel", "direct_channel": {"members": ["bob", "cid", "jane.doe"], "header": "Plans"}}),
        json!({"type": "direct_channel", "direct_channel": {"members": ["bob", "bob"], "header": ""}}),
        direct(json!(["jane.doe", "bob"]), "bob", "between us", 20_000),
        direct(json!(["jane.doe", "bob", "cid"]), "cid", "between three", 21_000),
        direct(json!(["bob", "bob"]), "bob", "a note", 22_000),
        direct(json!(["cid", "bob"]), "cid", "without a line of its own", 23_000),
    ]
}

/// Writes the lines as a file.
pub fn write_lines(path: &Path, lines: &[Value]) {
    let mut file = File::create(path).unwrap();
    for line in lines {
        writeln!(file, "{line}").unwrap();
    }
}

/// Writes the lines and the attachment as a zip.
pub fn write_zip(path: &Path, lines: &[Value]) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    zip.start_file("import.jsonl", SimpleFileOptions::default()).unwrap();
    for line in lines {
        writeln!(zip, "{line}").unwrap();
    }
    zip.add_directory("data/", SimpleFileOptions::default()).unwrap();
    zip.start_file(format!("data/{FILE_PATH}"), SimpleFileOptions::default()).unwrap();
    zip.write_all(FILE).unwrap();
    zip.finish().unwrap();
}
