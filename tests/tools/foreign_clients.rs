//! Foreign clients work with the server: Python's `websockets`, npm's `ws` and Chromium.
//!
//! How: each client connects, sends a message that our client must receive, receives our answer and closes with code
//! 1000. This runs with and without permessage-deflate, which all three offer. The scripts are in tests/foreign/. A
//! client that is not installed is a failure; its message has the command that installs it.

use crate::programs::{installed, program, project};
use crate::support::browser::SWITCHES;
use crate::support::{Client, Format, PATIENCE, Server, User, text};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::process::Command;

const ANSWER: &str = "received, 漢字 and 👋";

fn start(compression: bool, settings: &[(&str, &str)]) -> Server {
    let compression = ("features.compression", if compression { "true" } else { "false" });
    Server::start(2, &[&[compression], settings].concat())
}

/// A room with the user of the foreign client and our client.
struct Session {
    foreign: User,
    room: String,
    ours: Client,
}

impl Session {
    async fn new(server: &Server) -> Self {
        let (us, foreign) = (server.register().await, server.register().await);
        let room = server.room(&[&us, &foreign]).await;
        let ours = Client::all(server, &us, Format::MessagePack).await;
        Self { foreign, room, ours }
    }

    /// Waits for the message of the foreign client and answers it. Returns the seq of the answer.
    async fn answer(&mut self, content: &str) -> Value {
        let message = self.ours.event("message_created").await;
        assert_eq!((&message["content"], &message["sender"]["id"]), (&json!(content), &json!(self.foreign.id)));
        let data = json!({"conversation_id": self.room, "content": ANSWER});
        self.ours.ok("send_message", data).await["seq"].clone()
    }
}

/// Runs a script that connects, sends `content` and waits for [`ANSWER`]. Returns what it printed.
async fn run_script(server: &Server, mut command: Command, subprotocol: &str, content: &str) -> Value {
    let mut session = Session::new(server).await;
    let url = format!("ws://{}/ws", server.address);
    command.args([&url, &session.foreign.token, subprotocol, &session.room, content, ANSWER]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn();
    let output = tokio::time::timeout(2 * PATIENCE, child.unwrap().wait_with_output());
    let (output, seq) = tokio::join!(output, async {
        // When the script fails, its own output says more than this timeout.
        tokio::time::timeout(PATIENCE / 2, session.answer(content)).await
    });
    let output = output.expect("the script does not end").unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&printed["answer"], &printed["seq"]), (&json!(ANSWER), &seq.unwrap()));
    printed
}

#[tokio::test]
async fn works_with_python_websockets() {
    let python = installed("target/test-clients/python/bin/python");
    for (compression, extensions) in [(false, json!([])), (true, json!(["permessage-deflate"]))] {
        let server = start(compression, &[]);
        for format in Format::ALL {
            let mut command = Command::new(&python);
            command.arg(project("tests/foreign/client.py"));
            let content = "python sends: été, 漢字, 👋 ".repeat(20);
            let printed = run_script(&server, command, format.subprotocol(), content.trim()).await;
            assert_eq!(printed["extensions"], extensions, "{format:?}");
        }
    }
}

#[tokio::test]
async fn works_with_npm_ws() {
    let node = program(&["node", "nodejs"]);
    let modules = installed("target/test-clients/node/node_modules");
    for (compression, extensions) in [(false, json!([])), (true, json!(["permessage-deflate"]))] {
        let server = start(compression, &[]);
        let mut command = Command::new(&node);
        command.arg(project("tests/foreign/client.mjs")).arg(&modules);
        let printed = run_script(&server, command, "veza.v1.json", "node sends: été, 漢字, 👋").await;
        assert_eq!(printed["extensions"], extensions);
    }
}

/// Serves the page. Returns the body of the first POST to `/report`.
async fn serve_page(listener: &TcpListener, page: &str) -> Value {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let (head, body) = loop {
            if stream.read_buf(&mut request).await.unwrap() == 0 {
                break (String::new(), Vec::new());
            }
            let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
            if request.len() >= end + 4 + length.unwrap_or(0) {
                break (head, request[end + 4..].to_vec());
            }
        };
        let (status, answer) = match head.split_whitespace().nth(1) {
            Some("/") => ("200 OK", page),
            Some("/report") => ("204 No Content", ""),
            _ => ("404 Not Found", ""),
        };
        let response = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{answer}",
            answer.len()
        );
        let _ = stream.write_all(response.as_bytes()).await;
        if head.starts_with("post /report") {
            return serde_json::from_slice(&body).unwrap();
        }
    }
}

#[tokio::test]
async fn works_with_chromium() {
    let browser = program(&["chromium", "chromium-browser", "google-chrome", "chrome"]);
    // The origin of the page; another port is another origin.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    for (compression, allowed) in [(true, true), (false, true), (false, false)] {
        let origins = if allowed { origin.as_str() } else { "http://127.0.0.1:1" };
        let server = start(compression, &[("security.allowed_origins", origins), ("server.environment", "staging")]);
        let mut session = Session::new(&server).await;
        let content = "a page sends: été, 漢字, 👋";
        let url = format!("ws://{}/ws?ticket={}", server.address, server.ticket(&session.foreign).await);
        let parameters = json!({"url": url, "room": session.room, "content": content, "awaited": ANSWER}).to_string();
        let quoted = serde_json::to_string(&parameters).unwrap();
        let page = std::fs::read_to_string(project("tests/foreign/page.html")).unwrap();
        let page = page.replace("\"PARAMETERS\"", &quoted);

        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(&browser);
        command.args(SWITCHES).arg(format!("--user-data-dir={}", profile.path().display())).arg(format!("{origin}/"));
        let log = std::fs::File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("chromium.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let exchange = async {
            if allowed {
                tokio::join!(serve_page(&listener, &page), session.answer(content))
            } else {
                (serve_page(&listener, &page).await, Value::Null)
            }
        };
        let exchange = tokio::time::timeout(2 * PATIENCE, exchange).await;
        child.kill().await.unwrap();
        let (report, seq) = exchange.expect("no report from the page; see target/tmp/chromium.log");
        if allowed {
            assert_eq!((&report["answer"], &report["seq"]), (&json!(ANSWER), &seq), "{report}");
            assert_eq!((&report["code"], &report["wasClean"]), (&json!(1000), &json!(true)), "{report}");
            assert_eq!(report["subprotocol"], "veza.v1.json");
            assert_eq!(text(&report["extensions"]).contains("permessage-deflate"), compression, "{report}");
            assert_eq!(report["seen"].as_array().unwrap()[..3], ["welcome", "ack", "message_created"]);
        } else {
            assert_eq!((&report["seen"], &report["code"]), (&json!([]), &json!(1006)), "{report}");
        }
    }
}
