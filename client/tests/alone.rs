//! `veza` without a real server: exit statuses, passwords, retries. The fake server in this file gives the answers that
//! a test prescribes, or hangs up, and records the requests.
//!
//! `cargo test --workspace` builds `veza` for these tests, and `tests/terminal_client` in the workspace's root runs
//! it against the real server.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

enum Reply {
    Answer(u16, Value),
    HangUp,
}

/// A recorded request: path and body.
type Asked = (String, Value);

/// Answers one request per connection, in order, then stops listening.
fn fake_server(replies: Vec<Reply>) -> (String, Receiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (asked, requests) = channel();
    std::thread::spawn(move || {
        for reply in replies {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = asked.send(read_request(&stream));
            if let Reply::Answer(status, body) = reply {
                let body = body.to_string();
                let length = body.len();
                let head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                stream.write_all((head + &body).as_bytes()).unwrap();
            }
        }
    });
    (url, requests)
}

fn read_request(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let path = line().split(' ').nth(1).unwrap().to_owned();
    let mut length = 0;
    loop {
        let header = line().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (path, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn veza(home: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_veza"));
    for name in ["VEZA_SERVER", "VEZA_PROFILE", "VEZA_PASSWORD", "HTTP_PROXY", "http_proxy"] {
        command.env_remove(name);
    }
    let command = command.args(arguments).env("XDG_CONFIG_HOME", home);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Fails when the process has ended without reading; the status shows why.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn ends_with(output: &Output, status: i32) -> (String, String) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}\n{err}");
    (out.into_owned(), err.into_owned())
}

fn signed_in() -> Reply {
    let user = json!({"id": 1, "username": "ada", "display_name": "Ada"});
    let tokens = json!({"user": user, "access_token": "a", "refresh_token": "r", "expires_in": 3_600});
    Reply::Answer(200, tokens)
}

fn problem(status: u16, code: &str) -> Reply {
    Reply::Answer(status, json!({"status": status, "code": code, "detail": "words", "retry_after_ms": 1}))
}

#[test]
fn each_cause_has_its_exit_status() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    ends_with(&veza(home, &["dance"], ""), 2);
    let (_, err) = ends_with(&veza(home, &["list", "--server", "https://chat.example"], ""), 2);
    assert!(err.contains("TLS"), "{err}");
    ends_with(&veza(home, &["login", "ada", "--password", "on-the-command-line"], ""), 2);
    let (out, err) = ends_with(&veza(home, &["list"], ""), 3);
    assert!(out.is_empty() && err.contains("veza login"), "{err}");
    let (out, err) = ends_with(&veza(home, &["list", "--json"], ""), 3);
    assert!(out.is_empty());
    assert_eq!(serde_json::from_str::<Value>(&err).unwrap()["error"]["code"], "not_signed_in");

    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home, &login, "secret words\n"), 4);

    let (url, _) = fake_server(vec![problem(401, "unauthenticated")]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home, &login, "secret words\n"), 1);
    let (url, _) = fake_server(vec![Reply::Answer(502, json!("a proxy"))]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home, &login, "secret words\n"), 4);
    ends_with(&veza(home, &login, ""), 2);
}

#[test]
fn the_help_explains_the_exit_statuses() {
    let home = tempfile::tempdir().unwrap();
    let (help, _) = ends_with(&veza(home.path(), &["--help"], ""), 0);
    for words in ["0  done", "1  the server refused", "2  wrong usage", "3  not signed in", "4  the server cannot"] {
        assert!(help.contains(words), "{words:?} is missing in:\n{help}");
    }
    for command in ["send", "follow", "history", "login", "create", "search", "command"] {
        ends_with(&veza(home.path(), &[command, "--help"], ""), 0);
    }
}

#[test]
fn retries_a_message_with_the_same_key() {
    let home = tempfile::tempdir().unwrap();
    let ack = json!({"message_id": 7, "conversation_id": "room_6", "seq": 2, "duplicate": true});
    let (url, asked) = fake_server(vec![
        signed_in(),
        problem(503, "storage_unavailable"),
        Reply::HangUp,
        problem(503, "overloaded"),
        problem(504, "deadline_exceeded"),
        Reply::Answer(200, ack.clone()),
    ]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str(), "--json"];
    let (out, _) = ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["user"]["username"], "ada");
    assert!(!out.contains("token"), "the output contains no tokens: {out}");
    assert_eq!(asked.recv().unwrap().1["password"], "secret words");

    // Without --server, it uses the profile's server. The text comes from standard input.
    let (out, err) = ends_with(&veza(home.path(), &["send", "room_6", "--json"], "two\nlines\n"), 0);
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), ack);
    assert!(err.contains("trying again"), "{err}");
    let commands: Vec<Asked> = asked.try_iter().collect();
    assert_eq!(commands.len(), 5);
    for (path, command) in &commands {
        assert_eq!((path.as_str(), command), ("/api/commands", &commands[0].1), "every retry is identical");
    }
    let data = &commands[0].1["data"];
    assert_eq!((&data["conversation_id"], &data["content"]), (&json!("room_6"), &json!("two\nlines")));
    assert!((1..=64).contains(&data["client_message_id"].as_str().unwrap().len()), "{data}");
}

#[test]
fn does_not_retry_permanent_errors() {
    let home = tempfile::tempdir().unwrap();
    let (url, asked) = fake_server(vec![signed_in(), problem(403, "not_member"), problem(503, "overloaded")]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    ends_with(&veza(home.path(), &["send", "room_6", "hi"], ""), 1);
    ends_with(&veza(home.path(), &["send", "room_6", "hi", "--retry-for", "0"], ""), 1);
    // The server no longer listens.
    ends_with(&veza(home.path(), &["send", "room_6", "hi", "--retry-for", "0"], ""), 4);
    assert_eq!(asked.iter().count(), 3);
    ends_with(&veza(home.path(), &["send", "room_6"], "  \n"), 2);
}

#[test]
fn explains_commands_that_the_server_does_not_know() {
    let home = tempfile::tempdir().unwrap();
    let unknown = || problem(400, "unknown_command");
    let (url, _) = fake_server(vec![signed_in(), unknown(), unknown()]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    let (_, err) = ends_with(&veza(home.path(), &["rooms"], ""), 1);
    assert!(err.contains("no list of public rooms"), "{err}");
    let (_, err) = ends_with(&veza(home.path(), &["pin", "7"], ""), 1);
    assert!(err.contains("older than this client"), "{err}");
}

#[test]
fn server_text_cannot_control_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let evil = "\u{1b}[2J\u{1b}]0;owned\u{7}\u{9b}31m\u{8}\u{7f}\u{202e}\rrest";
    let sender = json!({"id": 2, "username": evil, "display_name": evil});
    let message = json!({"message_id": 7, "conversation_id": "room_6", "seq": 2, "sender": sender, "content": evil,
                         "reactions": [{"emoji": evil, "count": 1}], "created_at": evil});
    let page = || Reply::Answer(200, json!({"messages": [message], "has_more": false}));
    let refusal = || Reply::Answer(403, json!({"code": evil, "detail": evil}));
    let members = || Reply::Answer(200, json!({"members": [{"id": 2, "username": evil, "role": evil}]}));
    let (url, _) = fake_server(vec![signed_in(), page(), page(), refusal(), refusal(), members(), members()]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    for (command, status) in [("history", 0), ("join", 1), ("members", 0)] {
        for format in [&[][..], &["--json"]] {
            let output = veza(home.path(), &[&[command, "room_6"], format].concat(), "");
            let (out, err) = ends_with(&output, status);
            let shown = out + &err;
            assert!(shown.contains("rest"), "{shown:?}");
            let bad = shown.chars().find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
            assert_eq!(bad, None, "{shown:?}");
        }
    }
}

#[test]
fn each_subcommand_sends_the_command_of_the_protocol() {
    let home = tempfile::tempdir().unwrap();
    let ack = json!({"message_id": 7, "seq": 3, "emoji": "👍", "count": 1, "pinned": true, "messages": [],
                     "has_more": false, "conversation": {"id": "room_6", "name": "lobby"}});
    let cases = [
        (&["edit", "7", "other", "words"][..], "edit_message", json!({"message_id": 7, "content": "other words"})),
        (&["delete", "7"], "delete_message", json!({"message_id": 7})),
        (&["react", "7", "👍"], "add_reaction", json!({"message_id": 7, "emoji": "👍"})),
        (&["react", "7", "👍", "--remove"], "remove_reaction", json!({"message_id": 7, "emoji": "👍"})),
        (&["pin", "7"], "pin_message", json!({"message_id": 7, "pinned": true})),
        (&["pin", "7", "--remove"], "pin_message", json!({"message_id": 7, "pinned": false})),
        (&["rooms", "lob"], "list_public_rooms", json!({"query": "lob", "limit": 200})),
        (&["join", "room_6"], "join_conversation", json!({"conversation_id": "room_6"})),
        (&["leave", "room_6"], "leave_conversation", json!({"conversation_id": "room_6"})),
        (
            &["search", "a b*", "--in", "room_6", "--from", "2", "--limit", "3"],
            "search_messages",
            json!({"query": "a b*", "conversation_id": "room_6", "from_user_id": 2, "limit": 3}),
        ),
        (
            &["history", "room_6", "--before", "9", "--limit", "3"],
            "get_history",
            json!({"conversation_id": "room_6", "before_seq": 9, "limit": 3}),
        ),
        (
            &["create", "ops", "--kind", "private_room", "--description", "d", "--member", "2"],
            "create_conversation",
            json!({"kind": "private_room", "name": "ops", "description": "d", "member_ids": [2]}),
        ),
        (&["command", "ping", r#"{"x":1}"#], "ping", json!({"x": 1})),
    ];
    let replies = std::iter::once(signed_in()).chain(cases.iter().map(|_| Reply::Answer(200, ack.clone())));
    let (url, asked) = fake_server(replies.collect());
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    asked.recv().unwrap();
    for (arguments, kind, data) in cases {
        ends_with(&veza(home.path(), arguments, ""), 0);
        let expected = ("/api/commands".to_owned(), json!({"type": kind, "data": data}));
        assert_eq!(asked.recv().unwrap(), expected, "{arguments:?}");
    }
}

#[test]
fn search_highlights_the_matches() {
    let home = tempfile::tempdir().unwrap();
    let found = json!({"message_id": 7, "conversation_id": "room_6", "seq": 3, "content": "a big cat",
                       "sender": {"id": 2, "username": "bob"}, "highlight": "a big \u{e000}cat\u{e001}"});
    let answer = || Reply::Answer(200, json!({"messages": [found]}));
    let (url, _) = fake_server(vec![signed_in(), answer(), answer()]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    let (out, _) = ends_with(&veza(home.path(), &["search", "cat"], ""), 0);
    assert_eq!(out, "--:-- bob a big cat  7 room_6\n");
    let (out, _) = ends_with(&veza(home.path(), &["search", "cat", "--color", "always"], ""), 0);
    assert!(out.contains("a big \u{1b}[1mcat\u{1b}[0m"), "{out:?}");
}

#[test]
fn a_search_continues_after_short_pages() {
    let home = tempfile::tempdir().unwrap();
    let message = |id: i64| {
        json!({"message_id": id, "conversation_id": "room_6", "seq": id, "content": "cat",
                                   "sender": {"id": 2, "username": "bob"}, "highlight": "cat"})
    };
    let page =
        |messages: Value, cursor: Value| Reply::Answer(200, json!({"messages": messages, "next_cursor": cursor}));
    let pages = vec![
        signed_in(),
        page(json!([message(9)]), json!("90.9")),
        page(json!([]), json!("80.8")),
        page(json!([message(7)]), json!("70.7")),
    ];
    let (url, asked) = fake_server(pages);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    let (out, _) = ends_with(&veza(home.path(), &["search", "cat", "--limit", "2"], ""), 0);
    assert_eq!(out, "--:-- bob cat  9 room_6\n--:-- bob cat  7 room_6\n");
    let requests: Vec<Value> = asked.try_iter().skip(1).map(|(_, body)| body["data"].clone()).collect();
    let expected = [
        json!({"query": "cat", "limit": 2}),
        json!({"query": "cat", "limit": 1, "cursor": "90.9"}),
        json!({"query": "cat", "limit": 1, "cursor": "80.8"}),
    ];
    assert_eq!(requests, expected);
}

#[test]
fn sends_tokens_only_to_the_server_that_issued_them() {
    let home = tempfile::tempdir().unwrap();
    let (url, _) = fake_server(vec![signed_in()]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    let (other, asked) = fake_server(vec![Reply::Answer(200, json!({}))]);
    let (_, err) = ends_with(&veza(home.path(), &["whoami", "--server", other.as_str()], ""), 3);
    assert!(err.contains("--profile"), "{err}");
    assert!(asked.try_recv().is_err(), "it got no request");
    // Another profile has no session.
    ends_with(&veza(home.path(), &["whoami", "--profile", "other"], ""), 3);
}

#[test]
fn login_goes_to_the_server_of_the_profile() {
    let home = tempfile::tempdir().unwrap();
    let ended = [problem(401, "unauthenticated"), problem(401, "refresh_reused")];
    let signed_out = Reply::Answer(200, json!({}));
    let challenge = Reply::Answer(200, json!({"challenge": "abc", "difficulty": 8, "expires": "2026-12-01T00:00:00Z"}));
    let last = [signed_in(), signed_out, challenge, signed_in()];
    let replies = [signed_in(), signed_in()].into_iter().chain(ended).chain(last);
    let (url, asked) = fake_server(replies.collect());
    let login = ["login", "ada", "--password-stdin"];
    ends_with(&veza(home.path(), &[&login[..], &["--server", url.as_str()]].concat(), "secret words\n"), 0);
    // While the session lasts, after the server has ended it, and after signing out.
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    ends_with(&veza(home.path(), &["whoami"], ""), 3);
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    ends_with(&veza(home.path(), &["logout"], ""), 0);
    let register = ["register", "ada", "--email", "ada@example.com", "--password-stdin"];
    ends_with(&veza(home.path(), &register, "secret words\n"), 0);
    let requests: Vec<(String, Value)> = asked.iter().collect();
    let login = "/auth/login";
    let expected = [
        login,
        login,
        "/users/me",
        "/auth/refresh",
        login,
        "/auth/logout",
        "/auth/register/challenge",
        "/auth/register",
    ];
    assert_eq!(requests.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), expected);
    let proof = &requests.last().unwrap().1["proof"];
    assert!(proof["challenge"] == "abc" && proof["nonce"].is_string(), "{proof}");
}

#[test]
fn forgets_a_session_whose_refresh_token_is_invalid() {
    let home = tempfile::tempdir().unwrap();
    let (url, asked) = fake_server(vec![signed_in(), problem(401, "unauthenticated"), problem(401, "refresh_reused")]);
    let login = ["login", "ada", "--password-stdin", "--server", url.as_str()];
    ends_with(&veza(home.path(), &login, "secret words\n"), 0);
    ends_with(&veza(home.path(), &["whoami"], ""), 3);
    let paths: Vec<String> = asked.iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["/auth/login", "/users/me", "/auth/refresh"]);
    ends_with(&veza(home.path(), &["whoami"], ""), 3);
}
