//! The audit trail records every change of rights, accounts and settings, with actor, address, device, target, reason,
//! and what was before and after. It records nothing else, and no message costs it anything.
//!
//! How: the tables below name every command and every route that changes something. The walk performs each over the
//! wire, as a WebSocket command and over HTTP, and compares the newest row of the actor. A new command or route in
//! neither table fails the test.

use crate::support::{Client, Format, PASSWORD, Server, User, id_of, server, unique};
use chat_server::storage::connect::{Role, connect};
use chat_server::wire::command::Command;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tokio_postgres::Client as Database;

const AUDITED: &[&str] = &[
    "accept_invitation",
    "archive_conversation",
    "ban_member",
    "block_user",
    "cancel_join_request",
    "create_conversation",
    "create_invite",
    "decide_join_request",
    "decline_invitation",
    "delete_message",
    "invite_member",
    "join_by_invite",
    "join_conversation",
    "leave_conversation",
    "mute_member",
    "pin_message",
    "remove_member",
    "request_to_join",
    "revoke_invite",
    "set_role",
    "transfer_ownership",
    "unban_member",
    "unblock_user",
    "update_conversation",
];

/// Commands without an audit row, and why.
const EXCLUDED: &[(&str, &[&str])] = &[
    ("a message is its own record", &["send_message"]),
    ("message_edits has the old text, and the conversation's log who changed it", &["edit_message"]),
    ("no right and no setting changes", &["add_reaction", "remove_reaction", "follow_thread"]),
    ("where a user reads and whether they are there", &["mark_read", "mark_thread_read", "set_presence", "typing"]),
    ("an answer in public is a message", &["run_command", "answer_command"]),
    ("of the connection", &["subscribe", "unsubscribe", "resume", "ping"]),
    (
        "a user reads their own conversations",
        &[
            "get_conversation",
            "get_history",
            "get_presence",
            "get_thread",
            "list_bans",
            "list_blocks",
            "list_conversations",
            "list_edits",
            "list_invitations",
            "list_invites",
            "list_join_requests",
            "list_members",
            "list_mentions",
            "list_pins",
            "list_public_rooms",
            "list_reactions",
            "list_threads",
            "search_messages",
        ],
    ),
];

/// An audit row, without what links the chain.
#[derive(Debug)]
pub struct Entry {
    pub action: String,
    pub target: (Option<String>, Option<i64>),
    pub conversation: Option<i64>,
    pub session: Option<i64>,
    pub address: Option<String>,
    pub device: Option<String>,
    pub reason: Option<String>,
    pub details: Option<Value>,
}

/// The documented query.
pub async fn entries_of(database: &Database, user: i64) -> Vec<Entry> {
    let query = "SELECT * FROM audit_logs WHERE user_id = $1 ORDER BY created_at DESC LIMIT 100";
    let rows = database.query(query, &[&user]).await.unwrap();
    let entry = |row: &tokio_postgres::Row| Entry {
        action: row.get("action"),
        target: (row.get("target_type"), row.get("target_id")),
        conversation: row.get("conversation_id"),
        session: row.get("session_id"),
        address: row.get("ip_address"),
        device: row.get("device"),
        reason: row.get("reason"),
        details: row.get("details"),
    };
    rows.iter().map(entry).collect()
}

pub async fn count_of(database: &Database, user: i64) -> i64 {
    database.query_one("SELECT count(*) FROM audit_logs WHERE user_id = $1", &[&user]).await.unwrap().get(0)
}

/// Whether `actual` has everything of `expected`.
fn covers(actual: &Value, expected: &Value) -> bool {
    match (actual, expected) {
        (Value::Object(actual), Value::Object(expected)) => {
            expected.iter().all(|(key, value)| covers(actual.get(key).unwrap_or(&Value::Null), value))
        }
        _ => actual == expected,
    }
}

pub fn number_of(conversation: &str) -> i64 {
    conversation.split_once('_').unwrap().1.parse().unwrap()
}

/// A user whose session has a device of a known name.
struct Person {
    user: User,
    device: String,
    session: i64,
    socket: Option<Client>,
}

impl Person {
    async fn new(server: &Server, database: &Database, over_socket: bool) -> Self {
        let registered = server.register().await;
        let device = unique("Laptop");
        let body = json!({"login": registered.name, "password": PASSWORD, "device_name": device});
        let (status, answer) = server.post("/auth/login", None, &body).await;
        assert_eq!(status, 200, "{answer}");
        let user = User::from_answer(&answer);
        let session = database.query_one("SELECT id FROM sessions WHERE device_name = $1", &[&device]).await.unwrap();
        let socket = Client::none(server, &user, Format::Json).await;
        Self { device, session: session.get(0), socket: over_socket.then_some(socket), user }
    }

    async fn send(&mut self, server: &Server, kind: &str, data: Value) -> Value {
        match &mut self.socket {
            None => server.ok(&self.user, kind, data).await,
            Some(socket) if kind == "typing" => {
                socket.send(kind, data).await;
                Value::Null
            }
            Some(socket) => socket.ok(kind, data).await,
        }
    }
}

/// What a row must say.
struct Expected<'a> {
    target: (&'a str, i64),
    conversation: Option<&'a str>,
    reason: Option<&'a str>,
    details: Value,
}

struct Walk<'a> {
    server: &'a Server,
    database: &'a Database,
    walked: BTreeSet<&'static str>,
}

impl Walk<'_> {
    async fn audited(&mut self, actor: &mut Person, kind: &'static str, data: Value, expected: Expected<'_>) -> Value {
        assert!(AUDITED.contains(&kind), "{kind}");
        self.walked.insert(kind);
        let before = count_of(self.database, actor.user.id).await;
        let answer = actor.send(self.server, kind, data).await;
        let newest = entries_of(self.database, actor.user.id).await.remove(0);
        assert_eq!(count_of(self.database, actor.user.id).await, before + 1, "{kind}: {newest:?}");
        assert_eq!(newest.action, kind, "{newest:?}");
        assert_eq!(newest.target, (Some(expected.target.0.to_owned()), Some(expected.target.1)), "{newest:?}");
        assert_eq!(newest.conversation, expected.conversation.map(number_of), "{newest:?}");
        assert_eq!((newest.session, newest.device.as_deref()), (Some(actor.session), Some(actor.device.as_str())));
        assert_eq!((newest.address.as_deref(), newest.reason.as_deref()), (Some("127.0.0.1"), expected.reason));
        let details = newest.details.as_ref().unwrap_or(&Value::Null);
        assert!(covers(details, &expected.details) && details["before"] != details["after"], "{kind}: {newest:?}");
        answer
    }

    async fn excluded(&mut self, actor: &mut Person, kind: &'static str, data: Value) -> Value {
        assert!(EXCLUDED.iter().any(|(_, kinds)| kinds.contains(&kind)) || kind == "delete_message", "{kind}");
        self.walked.insert(kind);
        let before = count_of(self.database, actor.user.id).await;
        let answer = actor.send(self.server, kind, data).await;
        assert_eq!(count_of(self.database, actor.user.id).await, before, "{kind} has an audit row");
        answer
    }
}

/// `{"before": …, "after": …}` of one key.
fn change(key: &str, before: impl Into<Value>, after: impl Into<Value>) -> Value {
    json!({"before": {key: before.into()}, "after": {key: after.into()}})
}

fn of_user<'a>(user: &Person, conversation: &'a str, details: Value) -> Expected<'a> {
    Expected { target: ("user", user.user.id), conversation: Some(conversation), reason: None, details }
}

fn of_room(room: &str, details: Value) -> Expected<'_> {
    Expected { target: ("conversation", number_of(room)), conversation: Some(room), reason: None, details }
}

async fn walk_rights(walk: &mut Walk<'_>, ann: &mut Person, bob: &mut Person, eve: &mut Person) {
    let name = unique("room");
    let create = json!({"kind": "public_room", "name": name, "member_ids": [bob.user.id]});
    let before = count_of(walk.database, ann.user.id).await;
    let room = id_of(&ann.send(walk.server, "create_conversation", create).await);
    walk.walked.insert("create_conversation");
    assert_eq!(count_of(walk.database, ann.user.id).await, before + 1);
    let created = entries_of(walk.database, ann.user.id).await.remove(0);
    let details = created.details.unwrap();
    let members = json!([ann.user.id, bob.user.id]);
    let after = json!({"kind": "public_room", "name": name, "members": members, "owner_id": ann.user.id});
    assert!(covers(&details, &json!({"before": null, "after": after})), "{details}");
    assert_eq!((created.action.as_str(), created.conversation), ("create_conversation", Some(number_of(&room))));

    let here = |mut data: Value| {
        data["conversation_id"] = json!(room);
        data
    };
    let eves = json!({"user_id": eve.user.id});
    let eves = || here(eves.clone());
    let joined = of_user(eve, &room, change("role", Value::Null, "member"));
    walk.audited(eve, "join_conversation", here(json!({})), joined).await;
    let mut data = eves();
    data["role"] = json!("moderator");
    walk.audited(ann, "set_role", data, of_user(eve, &room, change("role", "member", "moderator"))).await;
    let mut data = eves();
    data["duration_s"] = json!(60);
    walk.audited(ann, "mute_member", data, of_user(eve, &room, json!({"before": {"muted_until": null}}))).await;
    walk.audited(ann, "remove_member", eves(), of_user(eve, &room, change("role", "moderator", Value::Null))).await;
    walk.audited(ann, "invite_member", eves(), of_user(eve, &room, change("role", Value::Null, "member"))).await;
    let mut data = eves();
    data["reason"] = json!("spam");
    let mut expected = of_user(eve, &room, change("banned", false, true));
    expected.reason = Some("spam");
    walk.audited(ann, "ban_member", data, expected).await;
    walk.audited(ann, "unban_member", eves(), of_user(eve, &room, change("banned", true, false))).await;

    let renamed = here(json!({"name": "A new name", "slow_mode_s": 1}));
    let expected = of_room(&room, json!({"before": {"name": name, "slow_mode_s": 0}, "after": {"name": "A new name"}}));
    walk.audited(ann, "update_conversation", renamed, expected).await;
    let slow = here(json!({"slow_mode_s": 0}));
    walk.audited(ann, "update_conversation", slow, of_room(&room, change("slow_mode_s", 1, 0))).await;
    let expected = of_room(&room, json!({"before": {"invitation": null}, "after": {"invitation": {"max_uses": 3}}}));
    let made = walk.audited(ann, "create_invite", here(json!({"max_uses": 3})), expected).await;
    let code = json!({"code": made["invite"]["code"]});
    let joined = of_user(eve, &room, change("role", Value::Null, "member"));
    walk.audited(eve, "join_by_invite", code.clone(), joined).await;
    let expected = of_room(&room, json!({"before": {"invitation": {"uses": 1}}, "after": {"invitation": null}}));
    walk.audited(ann, "revoke_invite", here(code.clone()), expected).await;
    let shown = entries_of(walk.database, ann.user.id).await.remove(0).details.unwrap().to_string();
    assert!(!shown.contains(code["code"].as_str().unwrap()), "the code of an invitation lets its bearer in: {shown}");
    let left = of_user(eve, &room, change("role", "member", Value::Null));
    walk.audited(eve, "leave_conversation", here(json!({})), left).await;
    let bobs = here(json!({"user_id": bob.user.id}));
    let expected = of_user(bob, &room, change("owner_id", ann.user.id, bob.user.id));
    walk.audited(ann, "transfer_ownership", bobs, expected).await;
    let archived = of_room(&room, change("archived", false, true));
    walk.audited(bob, "archive_conversation", here(json!({})), archived).await;
}

/// Eve decides by herself who adds her to a room.
async fn walk_invitations(walk: &mut Walk<'_>, ann: &mut Person, eve: &mut Person) {
    let choice = json!({"group_invitations": "nobody"});
    assert_eq!(walk.server.request(Method::PATCH, "/users/me", Some(&eve.user.token), Some(&choice)).await.0, 200);
    let room = walk.server.room(&[&ann.user]).await;
    let here = json!({"conversation_id": room});
    for kind in ["decline_invitation", "accept_invitation"] {
        let data = json!({"conversation_id": room, "user_id": eve.user.id});
        walk.audited(ann, "invite_member", data, of_user(eve, &room, change("invited", false, true))).await;
        walk.audited(eve, kind, here.clone(), of_user(eve, &room, change("invited", true, false))).await;
    }
    let choice = json!({"group_invitations": "everyone"});
    assert_eq!(walk.server.request(Method::PATCH, "/users/me", Some(&eve.user.token), Some(&choice)).await.0, 200);
}

async fn walk_requests_and_blocks(walk: &mut Walk<'_>, ann: &mut Person, eve: &mut Person) {
    let room = walk.server.room(&[&ann.user]).await;
    let here = json!({"conversation_id": room});
    for accepted in [false, true] {
        let asked = of_user(eve, &room, change("requested", false, true));
        walk.audited(eve, "request_to_join", here.clone(), asked).await;
        let mut data = here.clone();
        (data["user_id"], data["accepted"]) = (json!(eve.user.id), json!(accepted));
        walk.audited(ann, "decide_join_request", data, of_user(eve, &room, change("requested", true, false))).await;
    }
    let left = of_user(eve, &room, change("role", "member", Value::Null));
    walk.audited(eve, "leave_conversation", here.clone(), left).await;
    eve.send(walk.server, "request_to_join", here.clone()).await;
    let cancelled = of_user(eve, &room, change("requested", true, false));
    walk.audited(eve, "cancel_join_request", here, cancelled).await;
    let eves = json!({"user_id": eve.user.id});
    for (kind, blocked) in [("block_user", true), ("unblock_user", false)] {
        let target = ("user", eve.user.id);
        let expected =
            Expected { target, conversation: None, reason: None, details: change("blocked", !blocked, blocked) };
        walk.audited(ann, kind, eves.clone(), expected).await;
    }
}

async fn walk_messages(walk: &mut Walk<'_>, ann: &mut Person, bob: &mut Person) {
    let room = walk.server.room(&[&ann.user, &bob.user]).await;
    let here = |mut data: Value| {
        data["conversation_id"] = json!(room);
        data
    };
    let of = |message: &Value, key: &str, value: Value| json!({"message_id": message, key: value});
    let sent = walk.excluded(bob, "send_message", here(json!({"content": "first"}))).await["message_id"].clone();
    let own = walk.excluded(bob, "send_message", here(json!({"content": "second"}))).await["message_id"].clone();
    walk.excluded(bob, "edit_message", of(&own, "content", json!("third"))).await;
    walk.excluded(bob, "add_reaction", of(&sent, "emoji", json!("👍"))).await;
    walk.excluded(bob, "remove_reaction", of(&sent, "emoji", json!("👍"))).await;
    walk.excluded(bob, "follow_thread", of(&sent, "following", json!(true))).await;
    walk.excluded(bob, "mark_thread_read", of(&sent, "seq", json!(5))).await;
    walk.excluded(bob, "mark_read", here(json!({"seq": 5}))).await;
    for (kind, data) in [
        ("get_conversation", here(json!({}))),
        ("get_history", here(json!({}))),
        ("list_members", here(json!({}))),
        ("list_bans", here(json!({}))),
        ("list_invitations", json!({})),
        ("list_invites", here(json!({}))),
        ("list_pins", here(json!({}))),
        ("get_thread", json!({"message_id": sent})),
        ("list_edits", json!({"message_id": own})),
        ("list_reactions", json!({"message_id": own})),
        ("list_conversations", json!({})),
        ("list_mentions", json!({})),
        ("list_blocks", json!({})),
        ("list_threads", json!({})),
        ("list_public_rooms", json!({})),
        ("list_join_requests", json!({})),
        ("search_messages", json!({"query": "first"})),
        ("get_presence", json!({"user_ids": [bob.user.id]})),
        ("set_presence", json!({"status": "busy"})),
        ("typing", here(json!({}))),
        ("ping", json!({})),
    ] {
        walk.excluded(ann, kind, data).await;
    }
    let message = sent.as_i64().unwrap();
    let of_message =
        |details| Expected { target: ("message", message), conversation: Some(&room), reason: None, details };
    let pinned = of_message(change("pinned", false, true));
    walk.audited(ann, "pin_message", of(&sent, "pinned", json!(true)), pinned).await;
    walk.excluded(bob, "delete_message", json!({"message_id": own})).await;
    let deleted = of_message(change("deleted", false, true));
    walk.audited(ann, "delete_message", json!({"message_id": sent}), deleted).await;
    if ann.socket.is_some() {
        walk.excluded(ann, "subscribe", here(json!({}))).await;
        walk.excluded(ann, "unsubscribe", here(json!({}))).await;
        walk.excluded(ann, "resume", json!({"cursors": {}})).await;
    }
}

#[tokio::test]
async fn records_every_command_that_changes_rights_or_settings() {
    let server = server().await;
    let database = server.database().await;
    let mut walk = Walk { server, database: &database, walked: BTreeSet::new() };
    for over_socket in [true, false] {
        let mut ann = Person::new(server, &database, over_socket).await;
        let mut bob = Person::new(server, &database, over_socket).await;
        let mut eve = Person::new(server, &database, over_socket).await;
        walk_rights(&mut walk, &mut ann, &mut bob, &mut eve).await;
        walk_invitations(&mut walk, &mut ann, &mut eve).await;
        walk_requests_and_blocks(&mut walk, &mut ann, &mut eve).await;
        walk_messages(&mut walk, &mut ann, &mut bob).await;
    }
    walk.walked.extend(["run_command", "answer_command"]); // by bot_commands.rs, which has a bot
    let excluded = EXCLUDED.iter().flat_map(|(_, kinds)| kinds.iter());
    let known: BTreeSet<&str> = AUDITED.iter().chain(excluded).copied().collect();
    let commands: BTreeSet<&str> = Command::NAMES.into_iter().collect();
    assert_eq!(known, commands, "each command is either audited or excluded for a reason");
    assert_eq!(walk.walked, commands, "commands that the walk does not perform");
}

#[tokio::test]
async fn shows_the_trail_to_administrators_and_records_each_read() {
    let server = Server::start(1, &[("security.admin_user_ids", "1")]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    for reason in ["spam", "more spam"] {
        let ban = json!({"conversation_id": room, "user_id": bob.id, "reason": reason});
        server.ok(&ann, "ban_member", ban).await;
        server.ok(&ann, "unban_member", json!({"conversation_id": room, "user_id": bob.id})).await;
    }
    let read = async |query: &str| {
        let (status, answer) =
            server.request(Method::GET, &format!("/admin/audit{query}"), Some(&ann.token), None).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let actions = |page: &Value| -> Vec<String> {
        page["entries"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap().to_owned()).collect()
    };
    let all = read("").await;
    let expected =
        ["unban_member", "ban_member", "unban_member", "ban_member", "create_conversation", "register", "register"];
    assert_eq!(actions(&all), expected);
    assert_eq!(all["next_cursor"], Value::Null);
    let ban = &all["entries"][1];
    assert_eq!(
        (&ban["reason"], &ban["user_id"], &ban["ip_address"]),
        (&json!("more spam"), &json!(ann.id), &json!("127.0.0.1"))
    );
    assert_eq!((&ban["conversation_id"], &ban["target"]), (&json!(room), &json!({"type": "user", "id": bob.id})));
    assert_eq!((&ban["details"]["after"]["banned"], &ban["erased"]), (&json!(true), &json!(false)));

    let first = read("?actor=1&action=ban_member&limit=1").await;
    let next = read(&format!("?actor=1&action=ban_member&limit=1&cursor={}", first["next_cursor"])).await;
    assert_eq!((&first["entries"][0]["reason"], &next["entries"][0]["reason"]), (&json!("more spam"), &json!("spam")));
    assert_eq!(actions(&read("?target=user:2").await).len(), 5, "four bans and the registration");
    let at = ban["created_at"].as_str().unwrap();
    assert_eq!(actions(&read(&format!("?to={at}&action=ban_member")).await).len(), 1);
    assert_eq!(actions(&read(&format!("?from={at}&action=ban_member")).await).len(), 1);
    assert_eq!(actions(&read("?action='%20OR%20true%20--").await).len(), 0);
    let reads = read("?action=read_audit&limit=4").await;
    assert_eq!(reads["entries"][3]["details"]["filter"]["target_id"], 2, "{reads}");
    assert_eq!(reads["entries"][0]["device"], all["entries"][6]["device"]);

    for wrong in ["limit=0", "limit=101", "target=user", "target=user:x", "from=yesterday", "actor=ann", "cursor=x"] {
        let (status, answer) =
            server.request(Method::GET, &format!("/admin/audit?{wrong}"), Some(&ann.token), None).await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("bad_request")), "{wrong}: {answer}");
    }
    let before = count_of(&server.database().await, bob.id).await;
    for (token, expected) in [(Some(bob.token.as_str()), (403, "forbidden")), (None, (401, "unauthenticated"))] {
        let (status, answer) = server.request(Method::GET, "/admin/audit", token, None).await;
        assert_eq!((status, answer["code"].as_str()), (expected.0, Some(expected.1)), "{answer}");
    }
    assert_eq!(count_of(&server.database().await, bob.id).await, before);
}

#[tokio::test]
async fn a_refused_change_has_no_row_and_a_message_touches_no_audit_table() {
    let server = Server::start(2, &[]);
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let database = server.database().await;
    let head = "SELECT position, xmin::text::bigint, (SELECT count(*) FROM audit_logs) FROM audit_head";
    let read = async || {
        let row = database.query_one(head, &[]).await.unwrap();
        [row.get::<_, i64>(0), row.get(1), row.get(2)]
    };
    let before = read().await;
    let mut client = Client::none(&server, &bob, Format::Json).await;
    for n in 0..100 {
        client.ok("send_message", json!({"conversation_id": room, "content": n.to_string()})).await;
    }
    client.ok("mark_read", json!({"conversation_id": room, "seq": 50})).await;
    let role = json!({"conversation_id": room, "user_id": ann.id, "role": "member"});
    assert_eq!(client.refused("set_role", role).await, "forbidden");
    assert_eq!(read().await, before, "position, version and number of rows");
    client.ok("leave_conversation", json!({"conversation_id": room})).await;
    assert_eq!(read().await[0], before[0] + 1);
}

#[tokio::test]
async fn lets_no_role_of_the_server_change_a_row() {
    let server = server().await;
    server.register().await;
    let attempts = [
        "INSERT INTO audit_logs SELECT * FROM audit_logs LIMIT 1",
        "UPDATE audit_logs SET user_id = 1",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs",
        "DELETE FROM audit_logs_default",
        "UPDATE audit_head SET position = 0",
        "DELETE FROM audit_checkpoints",
        "DROP TABLE audit_logs",
        "ALTER TABLE audit_logs DISABLE TRIGGER ALL",
        "SELECT * FROM audit_logs",
    ];
    for role in [Role::App, Role::Writer] {
        let client = connect(&server.target().config(role)).await.unwrap();
        for attempt in attempts {
            let error = client.batch_execute(attempt).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "42501", "{role:?} {attempt}: {error}");
        }
    }
    // Not even the owner or the superuser changes a row by mistake.
    for client in [connect(&server.target().config(Role::Owner)).await.unwrap(), server.database().await] {
        for attempt in ["UPDATE audit_logs SET reason = 'none'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"] {
            let error = client.batch_execute(attempt).await.unwrap_err();
            assert_eq!(error.code().unwrap().code(), "55000", "{attempt}: {error}");
        }
    }
}
