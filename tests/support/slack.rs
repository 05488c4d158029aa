//! Exports of Slack. Each has the same few messages that tests look at, and many that are made of a seed.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// The file of an export, and where a program that downloads files puts it.
pub const FILE: &[u8] = b"the plan of the release";
pub const FILE_PATH: &str = "F0AAA/plan.txt";
const BEGIN: u64 = 1_700_000_000;

/// The files of an export with `many` made messages.
pub fn files(many: u64, seed: u64) -> BTreeMap<String, Value> {
    let mut files = BTreeMap::from([
        ("users.json".to_owned(), users()),
        ("channels.json".to_owned(), channels()),
        (
            "groups.json".to_owned(),
            json!([{"id": "G0SEC", "name": "secret", "created": BEGIN, "creator": "U0BOB", "is_archived": true,
                "members": ["U0BOB", "U0JANE"]}]),
        ),
        (
            "dms.json".to_owned(),
            json!([{"id": "D0AAA", "created": BEGIN, "members": ["U0JANE", "U0BOB"]},
                {"id": "D0SELF", "created": BEGIN, "members": ["U0BOB", "U0BOB"]}]),
        ),
        (
            "mpims.json".to_owned(),
            json!([{"id": "G0MPIM", "name": "mpdm-jane--bob--gone-1", "created": BEGIN, "creator": "U0JANE",
                "members": ["U0JANE", "U0BOB", "U0GONE"]}]),
        ),
        ("integration_logs.json".to_owned(), json!([{"service_id": "1"}])),
        ("general/2023-11-14.json".to_owned(), general()),
        ("general/2023-11-15.json".to_owned(), later()),
        ("secret/2023-11-14.json".to_owned(), json!([said("U0BOB", 10, "a *secret*")])),
        ("D0AAA/2023-11-14.json".to_owned(), json!([said("U0JANE", 20, "between us")])),
        ("D0SELF/2023-11-14.json".to_owned(), json!([said("U0BOB", 30, "a note")])),
        ("mpdm-jane--bob--gone-1/2023-11-14.json".to_owned(), json!([said("U0GONE", 40, "between three")])),
        ("deleted-channel/2023-11-14.json".to_owned(), json!([said("U0BOB", 50, "no such channel")])),
    ]);
    for day in 0..5 {
        let numbers = (0..many).filter(|n| n % 5 == day);
        let made: Vec<Value> = numbers.map(|n| made(n, seed)).collect();
        files.insert(format!("many/2023-12-0{}.json", day + 1), json!(made));
    }
    files
}

fn users() -> Value {
    let user = |id: &str, name: &str, shown: &str| {
        json!({"id": id, "team_id": "T0", "name": name, "deleted": false, "real_name": shown, "is_bot": false,
            "profile": {"display_name": "", "real_name": shown, "email": format!("{name}@example.org"),
                "title": "Engineer", "image_512": "https://a.example/512.png"}})
    };
    let mut jane = user("U0JANE", "jane.doe", "Jane Doe");
    jane["is_owner"] = true.into();
    let mut gone = user("U0GONE", "gone", "Gone");
    gone["deleted"] = true.into();
    let mut guest = user("U0GUEST", "guest1", "Guest");
    guest["is_restricted"] = true.into();
    let mut bot = user("U0BOT", "deploybot", "Deploy");
    bot["is_bot"] = true.into();
    bot["profile"]["bot_id"] = "B0DEP".into();
    json!([jane, user("U0BOB", "bob", "Bob Builder"), gone, guest, bot])
}

fn channels() -> Value {
    let everyone = json!(["U0JANE", "U0BOB", "U0GUEST"]);
    json!([
        {"id": "C0GEN", "name": "general", "created": BEGIN - 1_000, "creator": "U0JANE", "is_archived": false,
            "is_general": true, "members": everyone, "topic": {"value": "Work &amp; play"},
            "purpose": {"value": "For <@U0BOB>"}, "pins": [{"id": format!("{BEGIN}.000100"), "type": "C"}]},
        {"id": "C0MANY", "name": "many", "created": BEGIN, "creator": "U0GONE", "members": everyone,
            "topic": {"value": ""}, "purpose": {"value": ""}}])
}

fn said(user: &str, after: u64, words: &str) -> Value {
    json!({"type": "message", "user": user, "text": words, "ts": format!("{}.000100", BEGIN + after)})
}

fn with(mut message: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        message[name] = value.clone();
    }
    message
}

fn general() -> Value {
    let root = format!("{BEGIN}.000100");
    let joined = json!({"subtype": "channel_join"});
    json!([
        with(
            said(
                "U0JANE",
                0,
                "Welcome <@U0BOB> and <@U0JANE> &amp; <!here>: <https://example.org/a?b=1&amp;c=2|the *docs*>"
            ),
            &json!({"thread_ts": root, "reply_count": 3, "edited": {"user": "U0JANE",
                "ts": format!("{}.000000", BEGIN + 1)},
                "reactions": [{"name": "+1", "users": ["U0BOB", "U0GUEST"], "count": 3},
                    {"name": "party_parrot", "users": ["U0FAR"], "count": 1}]}),
        ),
        with(said("U0BOB", 1, "<@U0BOB> has joined the channel"), &joined),
        with(said("U0BOB", 2, "Thanks"), &json!({"thread_ts": root, "parent_user_id": "U0JANE"})),
        with(
            said("U0BOB", 3, "For all: see <#C0MANY|many>"),
            &json!({"thread_ts": root, "subtype": "thread_broadcast", "root": {"text": "Welcome"}}),
        ),
        with(
            said("", 4, "Build <https://ci.example/7|7> passed"),
            &json!({"subtype": "bot_message", "bot_id": "B0HOOK", "username": "Incoming Hook"}),
        ),
        with(said("", 5, "deployed"), &json!({"subtype": "bot_message", "bot_id": "B0DEP", "username": "x"})),
        with(said("U0BOB", 6, "waves"), &json!({"subtype": "me_message"})),
        with(
            said("U0BOB", 7, ""),
            &json!({"subtype": "file_share", "files": [{"id": "F0AAA", "name": "plan.txt", "mimetype": "text/plain",
                "size": FILE.len(), "mode": "hosted", "user": "U0BOB", "url_private": "https://files.example/F0AAA"}]}),
        ),
        with(
            said("U0BOB", 8, "doc"),
            &json!({"files": [{"id": "F0EXT", "title": "Sheet", "mode": "external",
                    "url_private": "https://d.example/s"},
                {"id": "F0OLD", "mode": "tombstone"},
                {"id": "F0LOST", "name": "lost.png", "size": 7, "mode": "hosted"}]}),
        ),
        with(
            said("U0FAR", 9, "hello from afar"),
            &json!({"team": "T9",
                "user_profile": {"name": "far.away", "real_name": "Far Away", "display_name": "far"}}),
        )
    ])
}

fn later() -> Value {
    let root = format!("{BEGIN}.000100");
    json!([
        with(said("U0GUEST", 90_000, "a late reply"), &json!({"thread_ts": root})),
        // The same broadcast in another file.
        with(
            said("U0BOB", 3, "For all: see <#C0MANY|many>"),
            &json!({"thread_ts": root, "subtype": "thread_broadcast"}),
        ),
        with(said("U0BOB", 90_001, "lost its thread"), &json!({"thread_ts": "1600000000.000100"})),
        with(
            said("USLACKBOT", 90_002, "This message was deleted."),
            &json!({"subtype": "tombstone", "hidden": true, "reply_count": 1,
                "thread_ts": format!("{}.000100", BEGIN + 90_002)}),
        ),
        with(said("U0BOB", 90_003, "still here"), &json!({"thread_ts": format!("{}.000100", BEGIN + 90_002)})),
        with(
            said("U0BOB", 90_004, ""),
            &json!({"blocks": [{"type": "section",
            "text": {"type": "mrkdwn", "text": "only *blocks*"}}]})
        ),
        with(said("U0BOB", 90_005, "x"), &json!({"ts": "yesterday"})),
        with(said("U0BOB", 90_006, "x"), &json!({"ts": 17})),
        said("U0BOB", 90_007, &"long words ".repeat(900)),
        said("U0BOB", 90_008, "  ")
    ])
}

fn made(n: u64, seed: u64) -> Value {
    let user = ["U0JANE", "U0BOB", "U0GUEST"][(n % 3) as usize];
    let at = (n * 7_919 + seed % 1_000_000) % 1_000;
    json!({"type": "message", "user": user, "text": format!("made {n} \\ \t \n é 👍 {}", "x".repeat((n % 50) as usize)),
        "ts": format!("{}.{:06}", BEGIN + 100_000 + at, n)})
}

/// Writes the files as a folder.
pub fn write_folder(path: &Path, files: &BTreeMap<String, Value>) {
    for (name, value) in files {
        let file = path.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, serde_json::to_vec_pretty(value).unwrap()).unwrap();
    }
}

/// Writes the files as a zip, in a folder of it.
pub fn write_zip(path: &Path, top: &str, files: &BTreeMap<String, Value>) {
    let mut zip = ZipWriter::new(File::create(path).unwrap());
    for (name, value) in files {
        zip.start_file(format!("{top}{name}"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&serde_json::to_vec_pretty(value).unwrap()).unwrap();
    }
    zip.finish().unwrap();
}
