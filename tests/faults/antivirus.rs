//! The virus scanner: what it finds is destroyed, what it has not seen is not served, and a scanner that does not look
//! at large files is not trusted.
//!
//! How: a real clamd, with the limits of deploy/clamd.conf and a signature database that the test writes. Files are
//! small to save time; `CHAT_TEST_SCAN_MB=100` tries those of the largest size that a server accepts by default.

use crate::support::{Client, Format, PATIENCE, Server, User, from_env, wait_until};
use reqwest::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes in a file that these servers accept.
fn size_max() -> usize {
    from_env("CHAT_TEST_SCAN_MB", 12) as usize * 1024 * 1024
}

/// A clamd of this test.
pub struct Clamd {
    folder: tempfile::TempDir,
    limits: String,
    child: Option<Child>,
}

impl Clamd {
    /// With these lines about sizes; it does not run yet.
    pub fn new(limits: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let eicar = hexadecimal(eicar().as_bytes());
        // Anywhere in a file of any type.
        let signatures = format!("Test.Eicar:0:*:{eicar}\nTest.Marker:0:*:{}\n", hexadecimal(b"veza-test-virus"));
        std::fs::write(folder.path().join("test.ndb"), signatures).unwrap();
        Self { folder, limits: limits.to_owned(), child: None }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("clamd.ctl")
    }

    pub fn start(&mut self) {
        let path = self.folder.path();
        let configuration = format!(
            "DatabaseDirectory {}\nLocalSocket {}\nFixStaleSocket yes\nForeground yes\nUser {}\n\
             TemporaryDirectory {}\n{}\n",
            path.display(),
            self.socket().display(),
            String::from_utf8_lossy(&Command::new("id").arg("-un").output().unwrap().stdout).trim(),
            path.display(),
            self.limits
        );
        std::fs::write(path.join("clamd.conf"), configuration).unwrap();
        let clamd = Path::new("/usr/sbin/clamd");
        assert!(clamd.exists(), "clamd is missing: scripts/install-test-clients.sh installs it");
        let mut command = Command::new(clamd);
        command.arg("--config-file").arg(path.join("clamd.conf")).stdin(Stdio::null()).stdout(Stdio::null());
        self.child = Some(command.stderr(Stdio::null()).spawn().unwrap());
        let started = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(started.elapsed() < PATIENCE, "clamd does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            let _ = std::fs::remove_file(self.socket());
        }
    }
}

impl Drop for Clamd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// In two parts, so that no scanner takes this program for the test file.
fn eicar() -> String {
    [r"X5O!P%@AP[4\PZX54(P^)7CC)7}$EICAR-STANDARD", "-ANTIVIRUS-TEST-FILE!$H+H*"].concat()
}

/// The lines of deploy/clamd.conf about sizes.
pub fn shipped_limits() -> String {
    let names = ["StreamMaxLength ", "MaxFileSize ", "MaxScanSize ", "AlertExceedsMax "];
    let lines = include_str!("../../deploy/clamd.conf").lines();
    let limits: Vec<&str> = lines.filter(|line| names.iter().any(|name| line.starts_with(name))).collect();
    assert_eq!(limits.len(), names.len());
    limits.join("\n")
}

fn start(clamd: &Clamd, scan: &str) -> Server {
    let address = format!("unix:{}", clamd.socket().display());
    Server::start(
        1,
        &[
            ("features.file_uploads", "true"),
            ("files.clamd", &address),
            ("files.scan", scan),
            ("limits.max_file_size", &size_max().to_string()),
            ("security.admin_user_ids", "1"),
        ],
    )
}

async fn upload(server: &Server, user: &User, room: &str, bytes: &[u8]) -> i64 {
    let given = json!({"conversation_id": room, "name": "file.bin", "size": bytes.len()});
    let file = server.begin_upload(user, &given).await;
    assert_eq!(server.append_upload(user, file, 0, bytes).await.status(), 204);
    file
}

async fn shown(server: &Server, user: &User, file: i64) -> Value {
    server.request(Method::GET, &format!("/files/{file}"), Some(&user.token), None).await.1
}

async fn content(server: &Server, user: &User, file: i64) -> u16 {
    server.send(user, "GET", &format!("/files/{file}/file.bin"), &[], vec![]).await.status().as_u16()
}

async fn antivirus(server: &Server) -> Value {
    reqwest::get(format!("{}/health", server.base_url)).await.unwrap().json::<Value>().await.unwrap()["checks"]
        ["antivirus"]
        .clone()
}

/// Whether a new connection learns that files are released only after a scan.
async fn welcome_says_scanned(server: &Server, user: &User) -> bool {
    Client::all(server, user, Format::Json).await.welcome["features"]["files_scanned"].as_bool().unwrap()
}

#[tokio::test]
async fn a_virus_at_the_end_of_a_large_file_is_destroyed_and_everybody_concerned_learns_it() {
    let mut clamd = Clamd::new(&shipped_limits());
    clamd.start();
    let server = start(&clamd, "required");
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut bytes = vec![b'.'; size_max()];
    let clean = upload(&server, &ann, &room, &bytes).await;
    let at = size_max() - 500;
    bytes[at..at + 15].copy_from_slice(b"veza-test-virus");
    let infected = upload(&server, &ann, &room, &bytes).await;
    let message = json!({"conversation_id": room, "content": "look", "attachments": [infected]});
    let _ = server.call(&ann, "send_message", message).await; // while it is scanned, or after
    assert_eq!(server.settled(&ann, clean).await["state"], "ready");
    let found = server.settled(&ann, infected).await;
    assert_eq!(found["state"], "infected");
    assert!(found["reason"].as_str().unwrap().contains("Test.Marker"), "{found}");
    assert_eq!((content(&server, &ann, clean).await, content(&server, &ann, infected).await), (200, 410));
    let database = server.database().await;
    let audited = "SELECT count(*) FROM audit_logs WHERE action = 'settle_file' AND target_type = 'file' \
                   AND target_id = $1 AND user_id = $2";
    assert_eq!(database.query_one(audited, &[&infected, &ann.id]).await.unwrap().get::<_, i64>(0), 1);
    let reported = format!(
        "SELECT count(*) = 1 FROM security_events WHERE event_type = 'infected_file' AND user_id = {} \
         AND severity = 'warning'",
        ann.id
    );
    wait_until(&database, &reported).await;
    let metrics = reqwest::get(format!("{}/metrics", server.base_url)).await.unwrap().text().await.unwrap();
    for line in ["chat_server_files_total{state=\"infected\"} 1", "chat_server_files_total{state=\"ready\"} 1"] {
        assert!(metrics.contains(line), "{line}");
    }
    let started = Instant::now();
    let left = |folder: &str| std::fs::read_dir(server.data_dir.join("files").join(folder)).unwrap().count();
    while left("uploads") > 0 {
        assert!(started.elapsed() < PATIENCE, "the infected bytes are still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(antivirus(&server).await["status"], "ok");
}

/// A PNG, with a virus behind it if `is_infected`.
fn picture(is_infected: bool) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(40, 30).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    let mut bytes = bytes.into_inner();
    bytes.extend(if is_infected { b"veza-test-virus".as_slice() } else { b"" });
    bytes
}

#[tokio::test]
async fn a_picture_of_a_user_is_scanned_before_it_is_accepted() {
    let mut clamd = Clamd::new(&shipped_limits());
    let server = start(&clamd, "required");
    let ann = server.register().await;
    let put = async |is_infected: bool| {
        let fields = [("content-type", "image/png")];
        let response = server.send(&ann, "PUT", "/users/me/avatar", &fields, picture(is_infected)).await;
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, problem) = put(false).await;
    assert_eq!((status, &problem["code"]), (503, &json!("storage_unavailable")), "{problem}");
    assert!(problem["retry_after_ms"].as_i64() > Some(0) && !problem.to_string().contains("clamd"), "{problem}");
    clamd.start();
    let started = Instant::now();
    let found = loop {
        let (status, problem) = put(true).await;
        if status != 503 {
            break (status, problem);
        }
        assert!(started.elapsed() < PATIENCE, "{problem}");
        // The scanner is asked again after some seconds; no more pictures than a user may send in that time.
        tokio::time::sleep(Duration::from_secs(2)).await;
    };
    assert_eq!((found.0, &found.1["code"]), (422, &json!("infected")), "{}", found.1);
    assert!(found.1["detail"].as_str().unwrap().contains("Test.Marker"), "{}", found.1);
    let database = server.database().await;
    let audited = "SELECT count(*) FROM audit_logs WHERE action = 'refuse_avatar' AND target_type = 'user' \
                   AND target_id = $1 AND user_id = $1 AND reason LIKE '%Test.Marker%'";
    assert_eq!(database.query_one(audited, &[&ann.id]).await.unwrap().get::<_, i64>(0), 1);
    wait_until(&database, "SELECT count(*) = 1 FROM security_events WHERE event_type = 'infected_file'").await;
    server.stores(0).await;
    wait_until(&database, "SELECT (SELECT count(*) FROM user_avatars) + (SELECT count(*) FROM blobs) = 0").await;
    let (status, profile) = put(false).await;
    assert_eq!(status, 200, "{profile}");
}

#[tokio::test]
async fn without_its_scanner_a_server_that_requires_one_serves_nothing_unscanned() {
    let mut clamd = Clamd::new(&shipped_limits());
    let server = start(&clamd, "required");
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let waiting = upload(&server, &ann, &room, b"harmless").await;
    let infected = upload(&server, &ann, &room, eicar().as_bytes()).await;
    let message = json!({"conversation_id": room, "attachments": [waiting]});
    server.ok(&ann, "send_message", message).await;
    let started = Instant::now();
    while antivirus(&server).await["status"] != "failing" {
        assert!(started.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(shown(&server, &ann, waiting).await["state"], "scanning");
    assert_eq!(content(&server, &ann, waiting).await, 409);
    assert!(welcome_says_scanned(&server, &ann).await, "nothing is released without a scan");
    clamd.start();
    assert_eq!(server.settled(&ann, waiting).await["state"], "ready", "released by itself");
    assert_eq!(server.settled(&ann, infected).await["state"], "infected");
    assert_eq!(content(&server, &ann, waiting).await, 200);
}

#[tokio::test]
async fn a_scanner_with_lower_limits_is_not_trusted() {
    let mut clamd = Clamd::new("StreamMaxLength 32M\nMaxFileSize 2M\nMaxScanSize 64M");
    clamd.start();
    let server = start(&clamd, "required");
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let file = upload(&server, &ann, &room, b"harmless").await;
    let started = Instant::now();
    loop {
        let seen = antivirus(&server).await;
        if seen["reason"].as_str().is_some_and(|reason| reason.contains("MaxFileSize")) {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{seen}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(shown(&server, &ann, file).await["state"], "scanning");
}

#[tokio::test]
async fn where_the_scan_is_optional_files_are_released_without_it() {
    let mut clamd = Clamd::new(&shipped_limits());
    let server = start(&clamd, "when_available");
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let file = upload(&server, &ann, &room, b"harmless").await;
    assert_eq!(server.settled(&ann, file).await["state"], "ready");
    assert!(!welcome_says_scanned(&server, &ann).await);
    clamd.start();
    let started = Instant::now();
    while !welcome_says_scanned(&server, &ann).await {
        assert!(started.elapsed() < PATIENCE, "the scanner is not used");
        let file = upload(&server, &ann, &room, b"harmless").await;
        server.settled(&ann, file).await; // each asks for the scanner again
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
