//! The two nodes of compose.yaml behind its proxy: one is killed and one is replaced, and clients notice a reconnection
//! at most.
//!
//! How: the nodes run on this machine with the environment that compose.yaml gives them; only the addresses of other
//! services and what is not here (clamd) are replaced. `HAProxy` runs with deploy/compose/haproxy.cfg, whose addresses
//! are replaced too. It is started like a server, so that the clients of the tests can use it as one.

use crate::containers::postgresql;
use crate::manifests::{client, environment, image_environment, secrets, text};
use crate::support::redis::Redis;
use crate::support::{Client, Format, Server, User};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

/// The environment of a node, on this machine.
fn on_this_machine(database: &str, redis: &Redis, data_dir: &Path) -> BTreeMap<String, String> {
    let mut variables = image_environment();
    // The test gives each server an address, and needs no port for operators.
    variables.retain(|name, _| !name.ends_with("_ADDR"));
    variables.extend(environment("chat-1", &secrets()));
    let replaced = [
        ("DATABASE__URL", database.to_owned()),
        ("CLUSTER__REDIS_URL", redis.url()),
        ("SERVER__TRUSTED_PROXIES", "127.0.0.1".to_owned()),
        ("FILES__CLAMD", String::new()),
        ("FILES__SCAN", "off".to_owned()),
        ("DATA_DIR", data_dir.to_str().unwrap().to_owned()),
    ];
    for (name, value) in replaced {
        let former = variables.insert(format!("CHAT_SERVER__{name}"), value);
        assert!(former.is_some(), "compose.yaml does not set {name} any more");
    }
    variables
}

fn node(variables: &BTreeMap<String, String>) -> Server {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    Server::start_first(1, &[], &variables)
}

/// `HAProxy` in front of the nodes, as a server whose address is that of the proxy.
fn proxy(nodes: &[Server; 2], folder: &Path) -> Server {
    let mut config = text("deploy/compose/haproxy.cfg");
    let status = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for (from, to) in [
        ("bind :8080", "bind \"${CHAT_SERVER__SERVER__BIND_ADDR}\"".to_owned()),
        ("127.0.0.1:8081", status),
        // The test may open fewer files than a container of compose.yaml.
        ("maxconn 100000", "maxconn 1000".to_owned()),
        (" resolvers docker init-addr libc,none", String::new()),
        ("chat-1:8080", nodes[0].address.to_string()),
        ("chat-2:8080", nodes[1].address.to_string()),
    ] {
        assert!(config.contains(from), "haproxy.cfg has no {from} any more");
        config = config.replace(from, &to);
    }
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, config).unwrap();
    let program = client("haproxy/haproxy");
    // An argument for `chat-server` follows, which the shell ignores.
    let start = "LD_LIBRARY_PATH=\"${0%/*}/lib\" exec \"$0\" -f \"$1\"";
    let launcher = ["sh", "-c", start, program.to_str().unwrap(), file.to_str().unwrap()];
    Server::start_by(launcher.map(str::to_owned).to_vec(), 1, &[], &[])
}

/// Sends messages through the proxy. Every one must be acknowledged, whatever the nodes do.
async fn send(proxy: &Server, user: &User, room: &str, texts: std::ops::Range<usize>) {
    for number in texts {
        let message =
            json!({"conversation_id": room, "content": number.to_string(), "client_message_id": format!("{number}")});
        proxy.ok(user, "send_message", message).await;
    }
}

async fn receives(client: &mut Client, texts: std::ops::Range<usize>) {
    for number in texts {
        assert_eq!(client.event("message_created").await["content"], number.to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_proxy_survive_a_killed_node_and_a_replaced_one() {
    let (_host, database) = postgresql().await;
    let (redis, folder) = (Redis::start(), tempfile::tempdir().unwrap());
    let variables = on_this_machine(&database, &redis, &folder.path().join("data"));
    // One after the other, as in compose.yaml.
    let nodes = [node(&variables), node(&variables)];
    let proxy = proxy(&nodes, folder.path());

    let (ann, bob) = (proxy.register().await, proxy.register().await);
    let room = proxy.room(&[&ann, &bob]).await;
    let mut through = Client::all(&proxy, &bob, Format::Json).await;
    let [mut first, mut second] =
        [Client::all(&nodes[0], &bob, Format::Json).await, Client::all(&nodes[1], &bob, Format::MessagePack).await];
    send(&proxy, &ann, &room, 0..10).await;
    for client in [&mut through, &mut first, &mut second] {
        receives(client, 0..10).await;
    }
    // Both nodes have the content of files.
    let (file, shown) = proxy.upload(&ann, &room, "notes.txt", b"the content of a file").await;
    assert_eq!(shown["state"], "ready", "{shown}");
    proxy.ok(&ann, "send_message", json!({"conversation_id": room, "content": "10", "attachments": [file]})).await;
    for node in &nodes {
        let answer = node.send(&bob, "GET", &format!("/files/{file}/notes.txt"), &[], vec![]).await;
        assert_eq!((answer.status().as_u16(), answer.text().await.unwrap().as_str()), (200, "the content of a file"));
    }
    receives(&mut second, 10..11).await;

    // The proxy may not have noticed yet: it tries the other node.
    nodes[0].kill9();
    send(&proxy, &ann, &room, 11..21).await;
    receives(&mut second, 11..21).await;
    let mut again = Client::open(&proxy, &bob, Format::Json, "/ws?subscribe=none").await;
    again.ok("subscribe", json!({"conversation_id": room, "after_seq": 5})).await;
    let caught_up = again.event("message_created").await;
    assert_eq!(caught_up["seq"], 6, "{caught_up}");

    // A rolling upgrade: the first node is back, the second one stops as planned.
    nodes[0].start_again();
    nodes[1].sigterm();
    send(&proxy, &ann, &room, 21..31).await;
    assert_eq!(nodes[1].wait().code(), Some(0), "{}", nodes[1].log_tail());
    send(&proxy, &ann, &room, 31..41).await;
    nodes[1].start_again();
    send(&proxy, &ann, &room, 41..51).await;

    let history = proxy.history(&bob, &room).await;
    let contents: Vec<&Value> =
        history.iter().map(|message| &message["content"]).filter(|text| text.is_string()).collect();
    let texts: Vec<&str> =
        contents.iter().filter_map(|text| text.as_str()).filter(|text| text.parse::<u32>().is_ok()).collect();
    assert!(
        texts.iter().copied().eq((0..51).map(|n| n.to_string()).collect::<Vec<_>>().iter().map(String::as_str)),
        "{texts:?}"
    );
}
