//! A reload applies what it can, names what needs a restart, and changes nothing when something is wrong. Signing keys
//! rotate without signing anybody out.
//!
//! How: servers of tests are configured by variables. What these tests change is in `config/default.toml` in the
//! server's working directory. Every change is looked at from a client's side, on a connection that was open before.

use crate::support::{
    Client, Format, PATIENCE, Server, User, closed, connect_error, signal, text, upgrade, wait_until,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;

type Opened = Result<WebSocketStream<TcpStream>, Error>;

const SETTINGS: &[(&str, &str)] = &[("server.environment", "production")];

/// Replaces the configuration file of a server.
fn write(server: &Server, text: &str) {
    let folder = server.data_dir.join("config");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("default.toml"), text).unwrap();
}

async fn open_from(server: &Server, user: &User, headers: &[(&str, &str)]) -> Opened {
    let bearer = format!("Bearer {}", user.token);
    let headers = [&[("Authorization", bearer.as_str())], headers].concat();
    upgrade(server, "/ws", &headers, None).await
}

async fn reload(server: &Server, admin: &User) -> Value {
    let (status, report) = server.post("/admin/reload", Some(&admin.token), &json!({})).await;
    assert_eq!(status, 200, "{report}");
    report
}

/// A server whose first user is its administrator by the file.
async fn administered() -> (Server, User) {
    let server = Server::start(2, SETTINGS);
    let admin = server.register().await;
    write(&server, &format!("[security]\nadmin_user_ids = [{}]", admin.id));
    hang_up(&server).await;
    (server, admin)
}

/// Sends SIGHUP and waits for its row of the audit trail.
async fn hang_up(server: &Server) {
    let database = server.database().await;
    let count = "SELECT count(*) FROM audit_logs WHERE action = 'reload_configuration'";
    let before: i64 = database.query_one(count, &[]).await.unwrap().get(0);
    signal(server.pid(), nix::sys::signal::Signal::SIGHUP);
    wait_until(&database, &format!("SELECT ({count}) > {before}")).await;
    // The settings follow the row. This passes them on the same way.
    wait_for(server, "the configuration was read again").await;
}

/// Waits until the log has these words: another thread writes it.
async fn wait_for(server: &Server, words: &str) {
    let started = Instant::now();
    while !server.log().contains(words) {
        assert!(started.elapsed() < PATIENCE, "{}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn applies_what_it_can_on_open_connections_and_names_the_rest() {
    let (server, admin) = administered().await;
    let (other, room) = (server.register().await, server.room(&[&admin]).await);
    let mut client = Client::all(&server, &admin, Format::Json).await;
    let long = json!({"conversation_id": room, "content": "eleven char"});
    client.ok("send_message", long.clone()).await;
    assert_eq!(server.post("/admin/reload", Some(&other.token), &json!({})).await.0, 403);
    assert_eq!(server.post("/admin/reload", None, &json!({})).await.0, 401);
    assert_eq!(reload(&server, &admin).await, json!({"applied": [], "restart_required": [], "rejected": []}));

    let new = format!(
        "[limits]\nmax_message_length = 10\nmax_connections = 77\n[logging]\nlevel = \"debug\"\n\
         [security]\nadmin_user_ids = [{}]\nallowed_origins = [\"https://other.example\"]\n",
        admin.id
    );
    write(&server, &new);
    let from_other = async || open_from(&server, &admin, &[("Origin", "https://other.example")]).await;
    assert_eq!(connect_error(from_other().await), 403);
    let report = reload(&server, &admin).await;
    let applied = json!(["limits.max_message_length", "logging.level", "security.allowed_origins"]);
    assert_eq!(report, json!({"applied": applied, "restart_required": ["limits.max_connections"], "rejected": []}));
    wait_for(&server, "need a restart").await;

    // Each shard takes its new settings before the next command that it gets after the answer has arrived.
    let started = Instant::now();
    while client.command("send_message", long.clone()).await.is_ok() {
        assert!(started.elapsed() < PATIENCE, "the open connection keeps its former limit");
    }
    assert_eq!(server.call(&admin, "send_message", long.clone()).await.unwrap_err()["code"], "too_large");
    let welcome =
        Client::all(&server, &other, Format::MessagePack).await.welcome["limits"]["max_message_length"].clone();
    assert_eq!(welcome, 10);
    assert!(from_other().await.is_ok());
    let row = "SELECT user_id, details FROM audit_logs WHERE action = 'reload_configuration' ORDER BY position DESC";
    let row = server.database().await.query(row, &[]).await.unwrap().remove(0);
    let details: Value = row.get(1);
    assert_eq!(row.get::<_, i64>(0), admin.id);
    let of = |when: &str| details[when]["limits.max_message_length"].clone();
    assert_eq!((of("before"), of("after")), (json!(4_000), json!(10)), "{details}");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_every_problem_is_named() {
    let (server, admin) = administered().await;
    let room = server.room(&[&admin]).await;
    let message = json!({"conversation_id": room, "content": "eleven char"});
    let both = format!(
        "[limits]\nmax_message_length = 10\nmax_frame_bytes = 1\n[security]\nadmin_user_ids = [{}]\n[nowhere]\na = 1",
        admin.id
    );
    for (text, key) in [(both.as_str(), "limits.max_frame_bytes"), ("[limits\nmax_message_length = 10", "")] {
        write(&server, text);
        let report = reload(&server, &admin).await;
        assert_eq!((&report["applied"], &report["restart_required"]), (&json!([]), &json!([])), "{report}");
        let problem = report["rejected"].as_array().unwrap().iter().find(|problem| problem["key"] == key);
        let problem = problem.unwrap_or_else(|| panic!("{report}"));
        assert!(
            text_of(problem, "origin").contains("default.toml") && !text_of(problem, "reason").is_empty(),
            "{report}"
        );
        server.ok(&admin, "send_message", message.clone()).await;
    }
    // Keys of a file that was damaged.
    write(&server, &format!("[limits]\nmax_message_length = 10\n[security]\nadmin_user_ids = [{}]", admin.id));
    std::fs::write(server.data_dir.join("jwt_keys"), "1700000000 a:AAAA\n").unwrap();
    let report = reload(&server, &admin).await;
    assert!(text_of(&report["rejected"][0], "reason").contains("jwt_keys, line 1: the key \"a\" must be"), "{report}");
    server.ok(&admin, "send_message", message).await;
    let rows = "SELECT count(*) FROM audit_logs WHERE action = 'reload_configuration' AND details ? 'rejected'";
    assert_eq!(server.database().await.query_one(rows, &[]).await.unwrap().get::<_, i64>(0), 3);
    server.must_run();
}

fn text_of<'a>(value: &'a Value, key: &str) -> &'a str {
    text(&value[key])
}

#[tokio::test]
async fn a_signal_makes_and_removes_administrators() {
    let (server, admin) = administered().await;
    let read = async |user: &User| server.request(Method::GET, "/admin/audit", Some(&user.token), None).await.0;
    assert_eq!(read(&admin).await, 200);
    let row = "SELECT user_id IS NULL, reason FROM audit_logs WHERE action = 'reload_configuration'";
    let row = server.database().await.query_one(row, &[]).await.unwrap();
    assert_eq!((row.get::<_, bool>(0), row.get::<_, String>(1)), (true, "SIGHUP".to_owned()));
    write(&server, "");
    hang_up(&server).await;
    let started = Instant::now();
    while read(&admin).await != 403 {
        assert!(started.elapsed() < PATIENCE, "still an administrator");
    }
}

/// The `kid` of an access token.
fn key_of(token: &str) -> String {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    text(&serde_json::from_slice::<Value>(&header).unwrap()["kid"]).to_owned()
}

fn keys(server: &Server, arguments: &[&str]) -> String {
    let done = server.run(&[&["keys"], arguments].concat());
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

#[tokio::test]
async fn a_new_key_signs_and_nobody_is_signed_out_unless_that_is_wanted() {
    let (server, admin) = administered().await;
    let first = key_of(&admin.token);
    assert_eq!(keys(&server, &["list"]), format!("{first}  signs and verifies\n"));
    let mut client = Client::all(&server, &admin, Format::Json).await;

    let said = keys(&server, &["rotate"]);
    assert!(said.contains("signs from the next reload on") && said.contains(&server.pid().to_string()), "{said}");
    let mode = std::fs::metadata(server.data_dir.join("jwt_keys")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(key_of(&server.login(&admin).await.token), first, "not before the reload");
    assert_eq!(reload(&server, &admin).await["applied"], json!(["data_dir/jwt_keys"]));
    let again = server.login(&admin).await;
    let second = key_of(&again.token);
    assert!(second != first && said.starts_with(&second), "{said}");
    let listed = keys(&server, &["list"]);
    assert!(listed.starts_with(&format!("{second}  signs and verifies\n{first}  verifies until ")), "{listed}");
    for user in [&admin, &again] {
        server.ok(user, "ping", json!({})).await;
        Client::all(&server, user, Format::Json).await.ok("ping", json!({})).await;
    }
    client.ok("ping", json!({})).await;

    keys(&server, &["rotate", "--now"]);
    assert_eq!(reload(&server, &again).await["applied"], json!(["data_dir/jwt_keys"]));
    assert_eq!(closed(&client.end().await), 4001, "a thief of the key keeps no open socket");
    for user in [&admin, &again] {
        assert_eq!(server.post("/ws-ticket", Some(&user.token), &json!({})).await.0, 401);
        assert_eq!(connect_error(open_from(&server, user, &[]).await), 401);
    }
    let refreshed = server.post("/auth/refresh", None, &json!({"refresh_token": admin.refresh_token})).await;
    assert_eq!(refreshed.0, 200, "{}", refreshed.1);
    let third = key_of(text(&refreshed.1["access_token"]));
    assert!(![&first, &second].contains(&&third));
    server.sigterm();
    server.wait();
    server.start_again();
    assert_eq!(server.post("/ws-ticket", Some(text(&refreshed.1["access_token"])), &json!({})).await.0, 200);
    assert!(keys(&server, &["list"]).starts_with(&format!("{third}  signs and verifies\n")));
}

#[tokio::test]
async fn servers_that_share_their_keys_have_them_in_the_configuration() {
    let (server, admin) = administered().await;
    let with = |keys: &str| format!("[security]\nadmin_user_ids = [{}]\njwt_keys = [{keys}]", admin.id);
    let (one, two) = ("\"one:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\"", "\"jwt_secret\"");
    write(&server, &with(&format!("{two}, {one}")));
    assert_eq!(reload(&server, &admin).await["applied"], json!(["security.jwt_keys"]));
    let first = key_of(&server.login(&admin).await.token);
    assert_eq!(first, key_of(&admin.token), "the new key only verifies at first");
    write(&server, &with(&format!("{one}, {two}")));
    reload(&server, &admin).await;
    let again = server.login(&admin).await;
    assert_eq!(key_of(&again.token), "one");
    server.ok(&admin, "ping", json!({})).await;
    let said = keys(&server, &["rotate"]);
    assert!(said.contains("as the last one, after one, jwt_secret, and reload every server"), "{said}");
    assert!(!said.contains("AQEBAQEB") && !server.data_dir.join("jwt_keys").exists(), "{said}");
    write(&server, &with(one));
    reload(&server, &again).await;
    assert_eq!(server.post("/ws-ticket", Some(&admin.token), &json!({})).await.0, 401, "its key was removed");
    server.ok(&again, "ping", json!({})).await;
}
