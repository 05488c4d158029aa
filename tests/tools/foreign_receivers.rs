//! The official libraries of Standard Webhooks, for Python and for npm, accept what the server signs.
//!
//! How: a script in tests/foreign/ receives deliveries, verifies each with the library, and prints the event. The same
//! library must refuse a delivery that another secret has signed, so that the test can fail.

use crate::programs::{installed, program, project};
use crate::support::{Server, User, text};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// A running script.
struct ForeignReceiver {
    port: String,
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl ForeignReceiver {
    async fn start(program: &Path, arguments: &[PathBuf]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.next_line().await.unwrap().expect("the script prints its port");
        Self { port, child, lines }
    }

    async fn start_three(program: &Path, arguments: &[PathBuf]) -> [Self; 3] {
        let start = || Self::start(program, arguments);
        [start().await, start().await, start().await]
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    async fn trust(&mut self, secret: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        input.write_all(format!("{secret}\n").as_bytes()).await.unwrap();
        assert_eq!(self.lines.next_line().await.unwrap().as_deref(), Some("ready"));
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(crate::support::PATIENCE, self.lines.next_line()).await;
        serde_json::from_str(&line.expect("nothing was delivered").unwrap().unwrap()).unwrap()
    }
}

async fn create(server: &Server, user: &User, url: &str, room: &str) -> Value {
    let body = json!({"url": url, "conversation_id": room, "ordered": true});
    let (status, created) = server.request(Method::POST, "/webhooks", Some(&user.token), Some(&body)).await;
    assert_eq!(status, 201, "{created}");
    created
}

async fn verifies(server: &Server, [mut good, mut other, mut newer]: [ForeignReceiver; 3]) {
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let webhook = create(server, &ann, &good.url(), &room).await;
    good.trust(text(&webhook["secret"])).await;
    create(server, &ann, &other.url(), &room).await;
    other.trust(text(&webhook["secret"])).await; // of another webhook
    let content = "Grüße, 漢字, 👋 and \"quotes\" \\";
    let sent = server.ok(&ann, "send_message", json!({"conversation_id": room, "content": content})).await;
    let received = good.next().await;
    let (event, id) = (&received["event"], format!("evt_{room}_{}", sent["seq"]));
    assert_eq!((&event["type"], &received["id"]), (&json!("message_created"), &json!(id)), "{received}");
    assert_eq!((&event["data"]["content"], &event["data"]["seq"]), (&json!(content), &sent["seq"]));
    let refused = other.next().await;
    assert!(refused["refused"].as_str().is_some_and(|why| why.contains("No matching signature found")), "{refused}");

    // While the secret is being rotated, the old one and the new one both verify.
    let rotate = format!("/webhooks/{}/rotate", webhook["id"]);
    let (status, rotated) = server.request(Method::POST, &rotate, Some(&ann.token), None).await;
    assert_eq!(status, 200, "{rotated}");
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "by both"})).await;
    let received = good.next().await;
    assert_eq!(received["event"]["data"]["content"], "by both", "{received}");
    newer.trust(text(&rotated["secret"])).await;
    let (path, body) = (format!("/webhooks/{}", webhook["id"]), json!({"url": newer.url()}));
    assert_eq!(server.request(Method::PATCH, &path, Some(&ann.token), Some(&body)).await.0, 200);
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "to the new secret"})).await;
    let received = newer.next().await;
    assert_eq!(received["event"]["data"]["content"], "to the new secret", "{received}");
}

#[tokio::test]
async fn the_official_libraries_verify_deliveries() {
    let settings = [("features.webhooks", "true"), ("webhooks.allowed_networks", "127.0.0.0/8")];
    let server = Server::start(1, &settings);
    let python = installed("target/test-clients/python/bin/python");
    let script = [project("tests/foreign/webhook_receiver.py")];
    verifies(&server, ForeignReceiver::start_three(&python, &script).await).await;
    let node = program(&["node", "nodejs"]);
    let script =
        [project("tests/foreign/webhook_receiver.mjs"), installed("target/test-clients/standardwebhooks/node_modules")];
    verifies(&server, ForeignReceiver::start_three(&node, &script).await).await;
}
