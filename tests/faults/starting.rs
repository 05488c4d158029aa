//! Start and stop of the server: what two servers cannot share, what the machine must provide, and what the operator
//! reads when something is missing.
//!
//! How: servers that must start run under [`Server`]. For servers that must refuse, the tests run a child process and
//! read its standard error.

use crate::support::{Client, Format, PATIENCE, Raw, Server, closed};
use serde_json::json;
use std::net::SocketAddr;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs a server that must refuse to start with exit code 1. Returns its standard error. A server that starts
/// nevertheless is stopped after a while.
#[track_caller]
pub fn refusal(address: SocketAddr, ulimit: Option<u32>, settings: &[(&str, &str)]) -> String {
    let data_dir = tempfile::tempdir().unwrap();
    let limit = ulimit.map(|files| format!("ulimit -n {files}; ")).unwrap_or_default();
    let mut command = Command::new("/bin/sh");
    command.args(["-c", &format!("{limit}exec timeout 120 \"$0\" serve"), env!("CARGO_BIN_EXE_chat-server")]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CHAT_SERVER__")) {
        command.env_remove(name);
    }
    for (key, value) in settings {
        command.env(format!("CHAT_SERVER__{}", key.to_uppercase().replace('.', "__")), value);
    }
    command.env("CHAT_SERVER__SERVER__BIND_ADDR", address.to_string());
    command.env("CHAT_SERVER__DATA_DIR", data_dir.path().join("data"));
    let child = command.current_dir(data_dir.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    stderr
}

/// The URL of the private PostgreSQL of `server`.
pub fn database_url(server: &Server) -> String {
    let directory = server.data_dir.join("postgres").to_str().unwrap().replace('/', "%2F");
    format!("postgresql://veza@{directory}/veza_chat")
}

pub fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn refuses_a_port_that_another_server_has() {
    let server = Server::start(2, &[]);
    let error = refusal(server.address, None, &[]);
    let owner = format!("chat-server (process {})", server.pid());
    assert!(error.contains(&server.address.to_string()) && error.contains(&owner), "{error}");
    server.must_run();
}

#[tokio::test]
async fn refuses_a_database_that_another_server_uses_unless_it_is_shared() {
    let server = Server::start(1, &[]);
    let url = database_url(&server);
    let error = refusal(free_address(), None, &[("database.url", &url)]);
    assert!(error.contains(&server.address.to_string()), "the other server is named: {error}");
    assert!(error.contains("database.shared = true"), "{error}");

    let second = Server::start(1, &[("database.url", &url), ("database.shared", "true")]);
    let ann = server.register().await;
    assert!(second.login(&ann).await.id == ann.id, "both servers use one database");
    drop(second);
    server.must_run();
}

#[tokio::test]
async fn reserves_the_database_again_after_its_connection_is_lost() {
    let server = Server::start(1, &[]);
    let database = server.database().await;
    let holder = "SELECT l.pid FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = 1986361953 AND l.granted";
    let first: i32 = database.query_one(holder, &[]).await.unwrap().get(0);
    database.execute("SELECT pg_terminate_backend($1)", &[&first]).await.unwrap();
    let started = Instant::now();
    loop {
        server.must_run();
        let now = database.query_opt(holder, &[]).await.unwrap().map(|row| row.get::<_, i32>(0));
        if now.is_some_and(|pid| pid != first) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "no server has reserved the database");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    refusal(free_address(), None, &[("database.url", &database_url(&server))]);
    server.register().await;
}

#[test]
fn refuses_to_start_with_too_few_descriptors_and_says_how_many_are_needed() {
    let error = refusal(free_address(), Some(256), &[]);
    let needed: u32 = error
        .split_once("needs at least ")
        .and_then(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .unwrap_or_else(|| panic!("{error}"));
    assert!(needed > 256 && error.contains("256 files"), "{error}");
}

#[test]
fn names_host_and_reason_once_when_postgresql_cannot_be_reached() {
    let settings = [("database.url", "postgresql://chat:s3cret@127.0.0.1:1/veza"), ("logging.level", "info")];
    let error = refusal(free_address(), None, &settings);
    assert_eq!(error.matches("127.0.0.1:1").count(), 1, "{error}");
    assert!(error.contains("Connection refused") && !error.contains("s3cret"), "{error}");
    let silent = refusal(free_address(), None, &[settings[0], ("logging.level", "off")]);
    assert_eq!(silent.matches("127.0.0.1:1").count(), 1, "also without a log: {silent}");
}

/// How many files the process has open.
fn open_files(server: &Server) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

#[tokio::test]
async fn holds_more_websockets_than_the_process_may_open_files() {
    const FILES: usize = 800;
    let limited =
        ["/bin/sh", "-c", &format!("ulimit -n {FILES}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_chat-server")];
    let settings = [("limits.max_connections", "1500"), ("limits.max_connections_per_network", "1500")];
    let server = Server::start_by(limited.map(str::to_owned).to_vec(), 2, &settings, &[]);
    let users = [server.register().await, server.register().await];
    let before = open_files(&server);
    let connect = async || {
        let mut clients = Vec::new();
        for number in 0..FILES + 200 {
            clients.push(Client::none(&server, &users[number % 2], Format::ALL[number / 2 % 2]).await);
        }
        clients
    };
    let mut clients = connect().await;
    assert!(open_files(&server) < before + 50, "{} files, {before} before", open_files(&server));
    for client in &mut clients {
        client.ok("ping", json!({})).await;
    }
    let (status, _) = server.request(reqwest::Method::GET, "/health/ready", None, None).await;
    assert_eq!(status, 200);
    // Half of them say goodbye, the others are cut off. Then as many have room again.
    let cut = clients.split_off(clients.len() / 2);
    drop(cut);
    for client in clients {
        client.close().await;
    }
    let mut clients = connect().await;
    server.sigterm();
    for client in &mut clients {
        assert_eq!(closed(&client.end().await), 1001, "a stop says goodbye to all of them");
    }
    assert!(server.wait().success());
}

#[tokio::test]
async fn answers_health_checks_when_it_is_full() {
    let server = Server::start(1, &[("limits.max_connections", "3"), ("server.connection_timeout", "5m")]);
    let ann = server.register().await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(Client::none(&server, &ann, Format::Json).await);
    }
    for _ in 0..3 {
        for path in ["/health/live", "/health/ready"] {
            let (status, _) = server.request(reqwest::Method::GET, path, None, None).await;
            assert_eq!(status, 200, "{path}");
        }
        let (status, problem) = server.request(reqwest::Method::GET, "/users/me", Some(&ann.token), None).await;
        assert_eq!((status, problem["code"].as_str()), (503, Some("overloaded")), "{problem}");
    }
    let mut refused = Raw::connect(&server).await;
    refused.write(Raw::upgrade_head(&ann, "veza.v1.json").as_bytes()).await.unwrap();
    let head = refused.head().await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    // Refused and idle connections leave the reserve free.
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut raw = Raw::connect(&server).await;
        raw.write(Raw::upgrade_head(&ann, "veza.v1.json").as_bytes()).await.unwrap();
        silent.push(raw);
    }
    let (status, _) = server.request(reqwest::Method::GET, "/health/live", None, None).await;
    assert_eq!(status, 200);
    open.pop().unwrap().ok("ping", json!({})).await;
}

#[tokio::test]
async fn writes_the_last_lines_of_the_log_when_a_stop_is_cut_short() {
    let server = Server::start(1, &[("server.shutdown_timeout", "100ms")]);
    let ann = server.register().await;
    // This client never closes its half, so the shard waits for it longer than the whole stop may take.
    let _silent = Raw::upgraded(&server, &ann, "veza.v1.json").await;
    server.sigterm();
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log_tail();
    assert!(log.contains("server.shutdown_timeout has passed"), "{log}");
    server.start_again();
}

/// Runs shell commands. Returns what they print.
#[track_caller]
fn shell(commands: &str) -> String {
    let output = Command::new("/bin/sh").args(["-c", commands]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{commands}\n{text}\n{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test]
async fn runs_the_commands_of_the_banner_twice() {
    let server = Server::start(1, &[]);
    let log = server.log_tail();
    let commands: Vec<&str> = log.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    assert_eq!(commands.len(), 4, "{log}");
    for time in ["first", "second"] {
        let printed = shell(&commands.join("\n"));
        assert!(printed.contains("\"message_id\":"), "{time} time: {printed}");
    }
}

/// The shell commands of a section of README.md, with the address of a server.
fn readme_commands(heading: &str, address: SocketAddr) -> String {
    let readme = include_str!("../../README.md");
    let (_, rest) = readme.split_once(&format!("\n## {heading}\n")).expect("the section exists");
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.collect::<String>().replace("127.0.0.1:8080", &address.to_string())
}

#[tokio::test]
async fn runs_the_commands_of_the_readme_twice() {
    let server = Server::start(1, &[]);
    let commands = readme_commands("Five minutes", server.address);
    for time in ["first", "second"] {
        let printed = shell(&commands);
        // Each run creates a room, so its messages are new; nothing is refused.
        let sent = printed.matches("\"duplicate\":false").count();
        assert!(sent > 0 && sent == printed.matches("\"message_id\":").count(), "{time} time: {printed}");
        assert!(!printed.contains("\"code\":"), "{time} time: {printed}");
    }
}
