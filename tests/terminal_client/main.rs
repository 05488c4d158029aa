//! The terminal client against the server: messages are stored once, the output matches the server's log, and
//! `veza follow` shows every event although the server is killed.
//!
//! How: `veza` runs as a process with its own configuration folder. It belongs to another package, which
//! `cargo test --workspace` and `cargo build -p veza-client` build.
#![cfg(feature = "test-db")]

mod files;
#[path = "../support/mod.rs"]
mod support;

use chat_server::limits::REPLAY_EVENTS_MAX;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use support::app_codes::{app_code, early_in_a_step};
use support::{Client, Format, PASSWORD, PATIENCE, Server, User, keys, server, signal, text, unique};

/// Below the limit of commands in flight per connection.
const FLOOD_WINDOW: usize = 200;

fn binary() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_chat-server")).with_file_name("veza");
    assert!(path.exists(), "{} is missing: cargo build -p veza-client (with the same --profile)", path.display());
    path
}

/// A user of the terminal client.
struct Person {
    name: String,
    home: tempfile::TempDir,
    url: String,
}

impl Person {
    /// Registers with the client.
    #[track_caller]
    fn register(server: &Server) -> Self {
        let name = unique("Term");
        let person = Self { name, home: tempfile::tempdir().unwrap(), url: server.base_url.clone() };
        let email = format!("{}@example.org", person.name);
        person.ok(&["register", &person.name, "--email", &email, "--password-stdin", "--server", &person.url]);
        person
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        for name in ["VEZA_SERVER", "VEZA_PROFILE", "VEZA_PASSWORD"] {
            command.env_remove(name);
        }
        command.args(arguments).env("XDG_CONFIG_HOME", self.home.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().unwrap()
    }

    /// Runs a command until it ends, with the password on its standard input.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut child = self.start(arguments);
        // Most commands do not read it.
        let _ = child.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes());
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn ends_with(&self, status: i32, arguments: &[&str]) -> (String, String) {
        let output = self.run(arguments);
        let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(status), "{arguments:?}\n{out}\n{err}");
        (out, err)
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.ends_with(0, arguments).0
    }

    /// Runs a command with `--json`; returns the objects that it prints.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        let out = self.ok(&[arguments, &["--json"]].concat());
        out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    #[track_caller]
    fn one(&self, arguments: &[&str]) -> Value {
        let mut all = self.json(arguments);
        assert_eq!(all.len(), 1, "{arguments:?}: {all:?}");
        all.remove(0)
    }

    /// Creates a public room.
    #[track_caller]
    fn room(&self) -> String {
        text(&self.one(&["create", &unique("lobby")])["id"]).to_owned()
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("veza/default.json")
    }

    fn saved(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file()).unwrap()).unwrap()
    }
}

/// A running `veza follow`.
struct Following {
    child: Child,
    lines: Receiver<String>,
    errors: Receiver<String>,
    seen: Vec<String>,
}

impl Following {
    fn start(person: &Person, arguments: &[&str]) -> Self {
        let mut child = person.start(arguments);
        let lines = forward(child.stdout.take().unwrap());
        let errors = forward(child.stderr.take().unwrap());
        Self { child, lines, errors, seen: Vec::new() }
    }

    /// Reads lines until one contains a text.
    #[track_caller]
    fn until(&mut self, words: &str) {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                let errors: Vec<String> = self.errors.try_iter().collect();
                panic!("{words:?} never came; seen: {:#?}; errors: {errors:#?}", self.seen);
            };
            let found = line.contains(words);
            self.seen.push(line);
            if found {
                return;
            }
        }
    }

    /// Waits for a line on standard error.
    #[track_caller]
    fn says(&mut self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(line) = self.errors.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if line.contains(words) {
                return;
            }
        }
        panic!("{words:?} was never said; seen: {:#?}", self.seen);
    }

    fn signal(&self, which: Signal) {
        signal(self.child.id() as i32, which);
    }

    /// Presses Ctrl-C; returns all lines shown.
    #[track_caller]
    fn interrupt(mut self) -> Vec<String> {
        self.signal(Signal::SIGINT);
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");
        let mut seen = std::mem::take(&mut self.seen);
        seen.extend(self.lines.iter());
        seen
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill(); // has ended, unless the test failed
        let _ = self.child.wait();
    }
}

fn forward(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

fn says(message: &Value) -> &str {
    text(&message["content"])
}

#[tokio::test]
async fn registers_signs_out_and_signs_in_again() {
    let server = server().await;
    let ada = Person::register(server);
    let mode = std::fs::metadata(ada.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only the owner can read the tokens");
    let me = ada.one(&["whoami"]);
    assert_eq!((keys(&me), &me["user"]["username"]), (vec!["profile", "server", "user"], &json!(ada.name)));
    assert!(ada.ok(&["whoami"]).starts_with(&ada.name));

    let before = ada.saved();
    ada.ok(&["logout"]);
    assert!(!ada.file().exists());
    ada.ends_with(3, &["whoami"]);
    let token = text(&before["access_token"]);
    let (status, _) = server.request(reqwest::Method::GET, "/users/me", Some(token), None).await;
    assert_eq!(status, 401, "the server has ended the session, too");

    ada.ok(&["login", &ada.name, "--password-stdin", "--server", &ada.url]);
    assert_eq!(ada.one(&["whoami"])["user"], me["user"]);
    let (out, err) = ada.ends_with(
        1,
        &[
            "register",
            &ada.name,
            "--email",
            "other@example.org",
            "--password-stdin",
            "--server",
            &ada.url,
            "--profile",
            "second",
            "--json",
        ],
    );
    assert!(out.is_empty());
    let error: Value = serde_json::from_str(&err).unwrap();
    assert_eq!((keys(&error), &error["error"]["code"]), (vec!["error"], &json!("conflict")), "the name is taken");
    ada.ends_with(3, &["whoami", "--profile", "second"]);
}

#[tokio::test]
async fn users_chat_in_a_room_and_a_key_is_stored_once() {
    let server = server().await;
    let (ada, bob) = (Person::register(server), Person::register(server));
    let name = unique("lobby");
    let room = ada.one(&["create", &name, "--description", "for all"]);
    let id = text(&room["id"]);
    assert_eq!((&room["kind"], &room["name"]), (&json!("public_room"), &json!(name)));
    assert_eq!(bob.one(&["join", id])["id"], room["id"]);
    let members = ada.json(&["members", &name]);
    assert_eq!(members.iter().map(|m| text(&m["username"])).collect::<Vec<_>>(), [&ada.name, &bob.name]);

    let first = ada.one(&["send", &name, "--key", "k", "Hello,", "Bob"]);
    let again = ada.one(&["send", id, "--key", "k", "Hello, Bob"]);
    assert_eq!((&first["duplicate"], &again["duplicate"]), (&json!(false), &json!(true)));
    assert_eq!((&first["message_id"], &first["seq"]), (&again["message_id"], &again["seq"]));
    let parent = first["message_id"].to_string();
    bob.ok(&["send", &name.to_uppercase(), "--reply-to", &parent, "Hello, Ada"]);
    let history = ada.json(&["history", id]);
    let joined = format!("{} joined", bob.name);
    assert_eq!(history.iter().map(says).collect::<Vec<_>>(), [joined.as_str(), "Hello, Bob", "Hello, Ada"]);
    assert_eq!(history[2]["parent_message_id"], first["message_id"]);
    let shown = bob.ok(&["history", &name]);
    assert!(shown.contains(&format!("{} Hello, Bob", ada.name)) && shown.contains(&format!("↪ {parent}")), "{shown}");

    let direct = ada.one(&["create", "--direct", &bob.name]);
    ada.ok(&["send", &format!("@{}", bob.name), "psst"]);
    assert_eq!(bob.json(&["history", text(&direct["id"])]).iter().map(says).collect::<Vec<_>>(), ["psst"]);

    let unread = || {
        let listed = bob.json(&["list"]);
        assert_eq!(listed.len(), 2);
        let room = listed.iter().find(|conversation| conversation["id"] == room["id"]).expect("the room");
        room["unread_count"].as_i64().unwrap()
    };
    ada.ok(&["send", &name, "one more"]);
    assert!(unread() > 0);
    bob.ok(&["read", &name]);
    assert_eq!(unread(), 0);
    let raw = bob.one(&["command", "get_conversation", &json!({"conversation_id": id}).to_string()]);
    assert_eq!(raw["conversation"]["id"], room["id"]);
    bob.ok(&["leave", &name]);
    assert_eq!(bob.json(&["list"]).len(), 1);
}

#[tokio::test]
async fn an_error_has_a_status_and_a_reason() {
    let server = server().await;
    let (ada, bob) = (Person::register(server), Person::register(server));
    let room = ada.room();
    let (out, err) = bob.ends_with(1, &["send", &room, "hi"]);
    assert!(out.is_empty() && err.contains("not_member"), "{err}");
    let (_, err) = bob.ends_with(1, &["history", &room, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&err).unwrap()["error"]["code"], "not_member");
    let (_, err) = bob.ends_with(1, &["follow", &room]);
    assert!(err.contains("not_member"), "{err}");
    bob.ends_with(1, &["send", "nowhere", "hi"]);
    bob.ends_with(1, &["command", "dance"]);
    bob.ends_with(2, &["command", "ping", "{"]);
    bob.ends_with(2, &["send", &room, ""]);
}

#[tokio::test]
async fn shows_a_history_of_several_pages_in_order() {
    let server = server().await;
    let ada = Person::register(server);
    let room = ada.room();
    let token = text(&ada.saved()["access_token"]).to_owned();
    let count = 450;
    for n in 1..=count {
        let data = json!({"conversation_id": room, "content": format!("message {n}")});
        let body = json!({"type": "send_message", "data": data});
        let (status, answer) = server.post("/api/commands", Some(&token), &body).await;
        assert_eq!(status, 200, "{answer}");
    }
    let numbers = |arguments: &[&str]| -> Vec<i64> {
        let messages = ada.json(&[&["history", &room], arguments].concat());
        messages.iter().map(|message| says(message).strip_prefix("message ").unwrap().parse().unwrap()).collect()
    };
    assert_eq!(numbers(&["--all"]), (1..=count).collect::<Vec<_>>());
    assert_eq!(numbers(&["--limit", "250"]), (count - 249..=count).collect::<Vec<_>>());
    assert_eq!(numbers(&[]), (count - 49..=count).collect::<Vec<_>>());
    // The first message has seq 2.
    assert_eq!(numbers(&["--before", "5", "--limit", "2"]), [2, 3]);
    assert_eq!(numbers(&["--before", "5", "--all"]), [1, 2, 3]);

    let mut head = ada.start(&["history", &room, "--all"]);
    drop(head.stdout.take());
    assert_eq!(head.wait().unwrap().code(), Some(0), "a reader that stops early is no error");
}

/// Removes the client's own colour sequences.
fn without_colours(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(0);
        if after[end..].starts_with('m') {
            rest = &after[end + 1..];
        } else {
            out.push('\u{1b}');
            rest = after;
        }
    }
    out + rest
}

#[tokio::test]
async fn a_message_cannot_control_the_terminal() {
    let server = server().await;
    let ada = Person::register(server);
    let token = text(&ada.saved()["access_token"]).to_owned();
    // The server refuses control characters in names (`client/tests/alone.rs` covers a server that does not).
    let hostile = "evil\u{202e}live\u{202c}";
    let call = async |kind: &str, data: Value| {
        let (status, answer) = server.post("/api/commands", Some(&token), &json!({"type": kind, "data": data})).await;
        assert_eq!(status, 200, "{answer}");
        answer
    };
    let name = format!("{}{hostile}", unique("room"));
    let room = call("create_conversation", json!({"kind": "public_room", "name": name})).await;
    let id = text(&room["conversation"]["id"]);
    // The server refuses most control characters in messages (`client/tests/alone.rs` covers a server that does not).
    // It accepts carriage returns and bidirectional text.
    let content = "evil \u{202e}drow\u{202c}\rover the first\r\nnext line";
    call("send_message", json!({"conversation_id": id, "content": content})).await;

    let harmless = |shown: &str| {
        let bad = shown.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(bad, None, "{shown:?}");
        assert!(shown.contains("evil"), "{shown:?}");
    };
    for colours in ["never", "always"] {
        for arguments in [&["history", id][..], &["list"]] {
            let shown = ada.ok(&[arguments, &["--color", colours]].concat());
            assert_eq!(shown.contains("\u{1b}["), colours == "always", "{shown:?}");
            harmless(&without_colours(&shown));
        }
    }
    assert!(!ada.ok(&["history", id]).contains('\u{1b}'), "a pipe is no terminal: no colours");
    let raw = ada.ok(&["history", id, "--json"]);
    harmless(&raw);
    assert_eq!(says(&serde_json::from_str(&raw).unwrap()), content, "for programs it is the text that was sent");

    let mut following = Following::start(&ada, &["follow", id, "--color", "never"]);
    following.until("next line");
    call("send_message", json!({"conversation_id": id, "content": "evil\r\u{202d}live\u{202c}"})).await;
    following.until("live");
    harmless(&following.interrupt().join("\n"));
}

#[test]
fn follows_a_conversation_across_a_killed_server() {
    let server = Server::start(2, &[]);
    let (ada, bob) = (Person::register(&server), Person::register(&server));
    let room = ada.room();
    bob.ok(&["join", &room]); // seq 2
    let say = |words: &str| drop(ada.ok(&["send", &room, words]));
    say("before 1");
    say("before 2");
    say("before 3");
    let mut json = Following::start(&bob, &["follow", &room, "--last", "2", "--json"]);
    let mut plain = Following::start(&bob, &["follow", &room, "--last", "2"]);
    json.until("before 3");
    plain.until("before 3");
    say("live 1");
    json.until("live 1");
    plain.until("live 1");

    // The server is killed while clients follow, and a message is sent while it is down.
    server.kill9();
    let mut sending = ada.start(&["send", &room, "--retry-for", "120", "into the dark"]);
    let waits = forward(sending.stderr.take().unwrap());
    assert!(waits.recv_timeout(PATIENCE).unwrap().contains("trying again"));
    server.start_again();
    assert_eq!(sending.wait().unwrap().code(), Some(0));
    say("live 2");
    for following in [&mut json, &mut plain] {
        following.says("reconnected, up to date");
        following.until("live 2");
        // The clients are stopped. After waking up they have to fetch what they missed.
        following.signal(Signal::SIGSTOP);
    }
    server.kill9();
    server.start_again();
    for n in 1..=5 {
        say(&format!("missed {n}"));
    }
    for following in [&json, &plain] {
        following.signal(Signal::SIGCONT);
    }
    json.until("missed 5");
    plain.until("missed 5");
    say("the end");
    json.until("the end");
    plain.until("the end");
    let mut expected = vec!["before 2", "before 3", "live 1", "into the dark", "live 2"];
    expected.extend(["missed 1", "missed 2", "missed 3", "missed 4", "missed 5", "the end"]);

    let events: Vec<Value> = json.interrupt().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events.iter().all(|event| keys(event) == ["data", "type"] && event["type"] == "message_created"));
    assert_eq!(events.iter().map(|event| says(&event["data"])).collect::<Vec<_>>(), expected);
    let seqs: Vec<i64> = events.iter().map(|event| event["data"]["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (5..5 + expected.len() as i64).collect::<Vec<_>>(), "each number once, in order");
    let shown = plain.interrupt();
    let of_ada: Vec<&String> = shown.iter().filter(|line| line.contains(&ada.name)).collect();
    assert_eq!(of_ada.len(), expected.len(), "{shown:#?}");
    for (line, words) in of_ada.iter().zip(&expected) {
        assert!(line.contains(words), "{words:?} expected: {line}");
    }
}

#[tokio::test]
async fn misses_no_message_when_too_far_behind_for_a_replay() {
    let server = server().await;
    let ada = Person::register(server);
    let room = ada.room();
    let saved = ada.saved();
    let user = User {
        id: saved["user"]["id"].as_i64().unwrap(),
        name: ada.name.clone(),
        token: text(&saved["access_token"]).to_owned(),
        refresh_token: String::new(),
    };
    // More events than the server replays.
    let count = REPLAY_EVENTS_MAX + 50;
    let mut client = Client::none(server, &user, Format::MessagePack).await;
    for from in (1..=count).step_by(FLOOD_WINDOW) {
        let mut waiting = Vec::new();
        for n in from..(from + FLOOD_WINDOW as i64).min(count + 1) {
            waiting
                .push(client.feed("send_message", json!({"conversation_id": room, "content": format!("n{n}")})).await);
        }
        client.flush().await;
        for id in waiting {
            client.reply(id).await.unwrap();
        }
    }
    let mut following = Following::start(&ada, &["follow", &room, "--after", "6", "--json"]);
    following.says("more was missed than the server replays");
    ada.ok(&["send", &room, "live"]);
    following.until("live");
    let seen: Vec<Value> = following.interrupt().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<i64> = seen.iter().map(|event| event["data"]["seq"].as_i64().unwrap()).collect();
    assert_eq!(seqs, (7..=count + 2).collect::<Vec<_>>(), "each number once, in order");

    // The client is ahead of the log, as after a restore from a backup. It continues from the end of the log.
    let mut following = Following::start(&ada, &["follow", &room, "--after", "1000000", "--json"]);
    following.says("the server's log is shorter than before");
    ada.ok(&["send", &room, "afterwards"]);
    following.until("afterwards");
    assert_eq!(following.interrupt().len(), 1);
}

#[tokio::test]
async fn renews_an_expired_token_and_uses_its_refresh_token_once() {
    let server = Server::start(1, &[("security.jwt_access_duration", "4s")]);
    let ada = Person::register(&server);
    let room = ada.room();
    let expired = async |token: &Value| {
        let started = Instant::now();
        while server.request(reqwest::Method::GET, "/users/me", Some(text(token)), None).await.0 != 401 {
            assert!(started.elapsed() < PATIENCE, "the token never expires");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Several processes at once: if two used the same refresh token, the session would be revoked.
    let before = ada.saved();
    expired(&before["access_token"]).await;
    let crowd: Vec<Child> = (0..6).map(|_| ada.start(&["whoami"])).collect();
    for child in crowd {
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let after = ada.saved();
    assert_ne!(before["refresh_token"], after["refresh_token"]);
    let mode = std::fs::metadata(ada.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "as private as before");

    // The token is valid by this machine's clock, and expired by the server's.
    expired(&after["access_token"]).await;
    let mut hopeful = ada.saved();
    hopeful["expires_at"] = json!(u32::MAX);
    std::fs::write(ada.file(), hopeful.to_string()).unwrap();
    ada.ok(&["whoami"]);
    assert_ne!(ada.saved()["refresh_token"], hopeful["refresh_token"]);

    // `veza follow` renews its tokens.
    let mut following = Following::start(&ada, &["follow", &room, "--after", "0", "--json"]);
    following.until("conversation_created");
    for round in 0..2 {
        let token = ada.saved()["refresh_token"].clone();
        let started = Instant::now();
        while ada.saved()["refresh_token"] == token {
            assert!(started.elapsed() < PATIENCE, "veza follow does not renew its token");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let words = format!("round {round}");
        ada.ok(&["send", &room, &words]);
        following.until(&words);
    }
    let seen = following.interrupt();
    assert_eq!(seen.len(), 3, "{seen:#?}");

    // After a sign-out everywhere, commands fail with the status for it.
    let (_, answer) = server.post("/auth/login", None, &json!({"login": ada.name, "password": PASSWORD})).await;
    let (status, _) = server.post("/auth/logout-all", Some(text(&answer["access_token"])), &json!({})).await;
    assert_eq!(status, 204);
    let (_, err) = ada.ends_with(3, &["list"]);
    assert!(err.contains("Sign in again"), "{err}");
    assert!(!ada.file().exists());
}

#[tokio::test]
async fn sets_two_factor_authentication_up_and_signs_in_with_codes() {
    let person = Person::register(server().await);
    early_in_a_step().await;
    // The password, and the code of the key that it prints.
    let mut child = person.start(&["two-factor", "on", "--password-stdin", "--json"]);
    let (mut input, mut output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
    writeln!(input, "{PASSWORD}").unwrap();
    let mut line = || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    };
    let secret = text(&line()["secret"]).to_owned();
    writeln!(input, "{}", app_code(&secret, -1)).unwrap();
    let codes = line()["backup_codes"].clone();
    assert!(child.wait().unwrap().success());
    assert_eq!(codes.as_array().unwrap().len(), 10);
    assert!(person.ok(&["two-factor", "status"]).contains("10 backup codes are left"));

    let with_input = |arguments: &[&str], second: &str| {
        let mut child = person.start(arguments);
        write!(child.stdin.take().unwrap(), "{PASSWORD}\n{second}").unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let login = ["login", &person.name, "--password-stdin"];
    let (status, error) = with_input(&login, "");
    assert!(status == Some(1) && error.contains("two_factor_required"), "{error}");
    let (status, error) = with_input(&login, &app_code(&secret, -1));
    assert!(status == Some(1) && error.contains("two_factor_invalid"), "a used code: {error}");
    let (status, error) = with_input(&login, &app_code(&secret, 0));
    assert_eq!(status, Some(0), "{error}");
    let (status, error) = with_input(&[&login[..], &["--backup-code"]].concat(), text(&codes[0]));
    assert_eq!(status, Some(0), "{error}");

    let (status, error) = with_input(&["2fa", "new-codes", "--password-stdin"], &app_code(&secret, 1));
    assert_eq!(status, Some(0), "{error}");
    let off = ["2fa", "off", "--password-stdin", "--backup-code"];
    let (status, error) = with_input(&off, text(&codes[1]));
    assert!(status == Some(1) && error.contains("two_factor_invalid"), "new codes have voided it: {error}");
    assert!(person.ok(&["two-factor", "status"]).contains("10 backup codes"));
}
