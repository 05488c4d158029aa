//! Content in a bucket is the same as in a folder, also if the bucket is away, or the server dies while it stores.
//!
//! How: moto, an S3 server, behind a relay of the test. The relay can be closed, and can stop within a request.

use super::starting::{free_address, refusal};
use crate::support::{PATIENCE, Server, User, wait_until};
use chat_server::files::content::{ContentHash, ContentName};
use chat_server::files::store::Store;
use chat_server::files::store::bucket::{Bucket, BucketSettings};
use chat_server::files::store::disk::DiskThreads;
use chat_server::files::store::folder::Folder;
use futures_util::StreamExt as _;
use serde_json::json;
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub const BUCKET: &str = "veza-files";
/// Bytes of a part of large content, and of a file with two and a half of them.
const PART: usize = 8 * 1024 * 1024;
pub const LARGE: usize = PART * 5 / 2;

/// An S3 server of this test.
pub struct Moto {
    child: Child,
    pub address: SocketAddr,
}

impl Moto {
    pub async fn start() -> Self {
        let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients/python/bin/python");
        let address = free_address();
        let mut command = Command::new(python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &address.port().to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("moto is missing: scripts/install-test-clients.sh installs it");
        let mut moto = Self { child, address };
        let started = Instant::now();
        while TcpStream::connect(address).await.is_err() {
            let ended = moto.child.try_wait().unwrap();
            assert!(ended.is_none(), "moto has ended: scripts/install-test-clients.sh installs it");
            assert!(started.elapsed() < PATIENCE, "moto does not listen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let made = reqwest::Client::new().put(format!("http://{address}/{BUCKET}")).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        moto
    }

    /// What the elements of this name contain in the answer to a query of the bucket.
    pub async fn listed(&self, query: &str, element: &str) -> Vec<String> {
        let answer = reqwest::get(format!("http://{}/{BUCKET}?{query}", self.address)).await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        let text = answer.text().await.unwrap();
        let rests = text.split(&format!("<{element}>")).skip(1).map(str::to_owned).collect::<Vec<_>>();
        rests.iter().map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
    }

    /// The names of all objects.
    pub async fn objects(&self) -> Vec<String> {
        self.listed("list-type=2", "Key").await
    }

    /// Uploads in parts that were neither completed nor ended.
    async fn unfinished(&self) -> Vec<String> {
        self.listed("uploads", "UploadId").await
    }

    /// Waits until there are so many.
    pub async fn has(&self, count: usize) {
        let started = Instant::now();
        while self.objects().await.len() != count {
            assert!(started.elapsed() < PATIENCE, "{:?}", self.objects().await);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Passes bytes on to the S3 server.
struct Relay {
    pub address: SocketAddr,
    to: SocketAddr,
    seen: Arc<Seen>,
    listening: Option<JoinHandle<()>>,
}

/// What a relay has passed on, and when it stops.
struct Seen {
    /// Bytes for the S3 server.
    sent: AtomicUsize,
    /// As many are passed on. The next ones wait.
    most: AtomicUsize,
    /// Whether bytes wait.
    waits: AtomicBool,
}

impl Relay {
    async fn start(to: SocketAddr) -> Self {
        let seen = Seen { sent: 0.into(), most: usize::MAX.into(), waits: false.into() };
        let mut relay = Self { address: free_address(), to, seen: Arc::new(seen), listening: None };
        relay.open().await;
        relay
    }

    async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        let (to, seen) = (self.to, Arc::clone(&self.seen));
        self.listening = Some(tokio::spawn(async move {
            // They end with this task.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(pass(client, to, Arc::clone(&seen)));
            }
        }));
    }

    /// Refuses connections, and cuts those that there are.
    async fn close(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await;
        }
    }

    /// Stops after so many more bytes for the S3 server.
    fn stop_after(&self, bytes: usize) {
        self.seen.most.store(self.seen.sent.load(Ordering::SeqCst) + bytes, Ordering::SeqCst);
    }

    async fn has_stopped(&self) {
        let started = Instant::now();
        while !self.seen.waits.load(Ordering::SeqCst) {
            assert!(started.elapsed() < PATIENCE, "{} bytes were sent", self.seen.sent.load(Ordering::SeqCst));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

async fn pass(client: TcpStream, to: SocketAddr, seen: Arc<Seen>) {
    let Ok(server) = TcpStream::connect(to).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let requests = async {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            while seen.sent.load(Ordering::SeqCst) + n > seen.most.load(Ordering::SeqCst) {
                seen.waits.store(true, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            seen.sent.fetch_add(n, Ordering::SeqCst);
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    let answers = tokio::io::copy(&mut from_server, &mut to_client);
    // The end of either ends the connection.
    tokio::select! { () = requests => {}, _ = answers => {} }
}

/// Files in the bucket of this endpoint.
pub fn settings(endpoint: &str) -> Vec<(&'static str, String)> {
    [
        ("features.file_uploads", "true"),
        ("files.scan", "off"),
        ("files.store", "s3"),
        ("files.s3_bucket", BUCKET),
        ("files.s3_prefix", "chat/"),
        ("files.s3_endpoint", endpoint),
        ("files.s3_access_key_id", "test"),
        ("files.s3_secret_access_key", "a secret of the test"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .into()
}

async fn start() -> (Moto, Relay, Server) {
    let moto = Moto::start().await;
    let relay = Relay::start(moto.address).await;
    let settings = settings(&format!("http://{}", relay.address));
    let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, &**value)).collect();
    let server = tokio::task::block_in_place(|| Server::start(1, &settings));
    (moto, relay, server)
}

/// Bytes that differ everywhere, so that a wrong range is noticed.
pub fn bytes(size: usize) -> Vec<u8> {
    (0..=size as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(size).collect()
}

async fn read(server: &Server, user: &User, file: i64, range: Option<&str>) -> (u16, Vec<u8>) {
    let fields: Vec<_> = range.iter().map(|range| ("range", *range)).collect();
    let response = server.send(user, "GET", &format!("/files/{file}/f.bin"), &fields, vec![]).await;
    (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
}

/// The message with these files.
async fn sent(server: &Server, user: &User, room: &str, files: &[i64]) -> i64 {
    let message = json!({"conversation_id": room, "attachments": files});
    server.ok(user, "send_message", message).await["message_id"].as_i64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_in_a_bucket_come_back_equal_are_stored_once_and_leave_nothing() {
    let (moto, _relay, server) = start().await;
    assert_eq!(moto.objects().await, Vec::<String>::new(), "the probe leaves nothing");
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (large, small) = (bytes(LARGE), bytes(1_000));
    let mut files = Vec::new();
    for content in [&large, &small, &large] {
        let (file, settled) = server.upload(&ann, &room, "f.bin", content).await;
        assert_eq!(settled["state"], "ready", "{settled}: {}", server.log_tail());
        let (status, whole) = read(&server, &ann, file, None).await;
        assert!((status, &whole) == (200, content), "{status}, {} bytes", whole.len());
        files.push(file);
    }
    let objects = moto.objects().await;
    assert_eq!(objects.len(), 2, "the same content is one object: {objects:?}");
    assert!(objects.iter().all(|name| name.starts_with("chat/blobs/") && name.len() > 80), "{objects:?}");
    // Across the border of two parts.
    let (from, to) = (PART - 10, PART + 9);
    let (status, part) = read(&server, &ann, files[0], Some(&format!("bytes={from}-{to}"))).await;
    assert_eq!((status, &*part), (206, &large[from..=to]));
    server.stores(0).await; // nothing is left of the uploads

    let check = |options: &[&str]| {
        let output = tokio::task::block_in_place(|| server.run(&[&["files", "check"], options].concat()));
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(&["--deep"]);
    assert!(code == Some(0) && text.contains(": 0 findings"), "{text}");
    let stray = format!("{}.77", "ab".repeat(32));
    let address = format!("http://{}/{BUCKET}/chat/blobs/ab/ab/{stray}", moto.address);
    reqwest::Client::new().put(address).body("x").send().await.unwrap();
    let (code, text) = check(&["--repair"]);
    assert!(code == Some(0) && text.contains(&stray), "{text}");
    assert_eq!(moto.objects().await, objects, "what no file needs is removed, and nothing else");

    let first = sent(&server, &ann, &room, &files[..2]).await;
    let second = sent(&server, &ann, &room, &files[2..]).await;
    server.ok(&ann, "delete_message", json!({"message_id": first})).await;
    moto.has(1).await;
    assert_eq!(read(&server, &ann, files[2], None).await.0, 200, "the other file still has the content");
    server.ok(&ann, "delete_message", json!({"message_id": second})).await;
    moto.has(0).await;
    assert_eq!(moto.unfinished().await, Vec::<String>::new());
    server.stores(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_of_a_user_is_in_the_bucket_until_it_is_replaced() {
    let (moto, mut relay, server) = start().await;
    let ann = server.register().await;
    let put = async |shade: u8| {
        let mut bytes = std::io::Cursor::new(Vec::new());
        let picture = image::RgbImage::from_pixel(40, 30, image::Rgb([shade, 0, 0]));
        picture.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
        let fields = [("content-type", "image/png")];
        let response = server.send(&ann, "PUT", "/users/me/avatar", &fields, bytes.into_inner()).await;
        (response.status().as_u16(), response.json::<serde_json::Value>().await.unwrap())
    };
    let at = async |url: &str| reqwest::get(format!("{}{url}", server.base_url)).await.unwrap().status().as_u16();
    let (status, first) = put(10).await;
    assert_eq!(status, 200, "{first}");
    let first = first["avatar_url"].as_str().unwrap();
    assert_eq!(at(first).await, 200);
    moto.has(1).await;
    let (_, second) = put(200).await;
    let second = second["avatar_url"].as_str().unwrap();
    moto.has(1).await;
    assert_eq!((at(first).await, at(second).await), (404, 200));
    // While the bucket is away, the user keeps the picture.
    relay.close().await;
    let (status, problem) = put(90).await;
    assert_eq!((status, &problem["code"]), (503, &json!("storage_unavailable")), "{problem}");
    assert_eq!(at(second).await, 503);
    relay.open().await;
    assert_eq!(at(second).await, 200);
    let removed = server.send(&ann, "DELETE", "/users/me/avatar", &[], vec![]).await;
    assert_eq!((removed.status().as_u16(), at(second).await), (200, 404));
    // What was named while the bucket was away is looked at later. This is later.
    let database = server.database().await;
    database.execute("UPDATE jobs SET next_at = now(), leased_until = NULL", &[]).await.unwrap();
    moto.has(0).await;
    server.stores(0).await;
    wait_until(&database, "SELECT (SELECT count(*) FROM blobs) + (SELECT count(*) FROM jobs) = 0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_its_bucket_is_away_files_wait_and_nothing_else_suffers() {
    let (moto, mut relay, server) = start().await;
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (stored, settled) = server.upload(&ann, &room, "f.bin", &bytes(5_000)).await;
    assert_eq!(settled["state"], "ready");

    relay.close().await;
    let content = bytes(7_000);
    let waiting = server.begin_upload(&ann, &json!({"conversation_id": room, "name": "f.bin", "size": 7_000})).await;
    assert_eq!(server.append_upload(&ann, waiting, 0, &content).await.status(), 204);
    let started = Instant::now();
    while !server.log().contains("the bucket of the files cannot be used") {
        assert!(started.elapsed() < PATIENCE, "{}", server.log_tail());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // However long it is away: nothing that was acknowledged is given up.
    let database = server.database().await;
    database.execute("UPDATE jobs SET attempts = 1000, next_at = now(), leased_until = NULL", &[]).await.unwrap();
    wait_until(&database, "SELECT bool_and(attempts > 1000 AND leased_until IS NULL) FROM jobs").await;
    assert!(server.log().contains("files.s3_endpoint"), "the log names the key: {}", server.log_tail());
    let shown = server.send(&ann, "GET", &format!("/files/{waiting}"), &[], vec![]).await;
    assert_eq!(shown.json::<serde_json::Value>().await.unwrap()["state"], "scanning");
    assert_eq!(read(&server, &ann, stored, None).await.0, 503);
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "still here"})).await;
    let ready = reqwest::get(format!("{}/health/ready", server.base_url)).await.unwrap();
    assert_eq!(ready.status(), 200);

    relay.open().await;
    assert_eq!(server.settled(&ann, waiting).await["state"], "ready", "it is released by itself");
    assert!(read(&server, &ann, waiting, None).await == (200, content));
    assert!(read(&server, &ann, stored, None).await == (200, bytes(5_000)));
    moto.has(2).await;
    server.stores(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_while_it_stores_content_ends_what_it_began() {
    let (moto, mut relay, server) = start().await;
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let content = bytes(LARGE);
    // In the second part.
    relay.stop_after(PART * 3 / 2);
    let file = server.begin_upload(&ann, &json!({"conversation_id": room, "name": "f.bin", "size": LARGE})).await;
    assert_eq!(server.append_upload(&ann, file, 0, &content).await.status(), 204);
    relay.has_stopped().await;
    server.kill9();
    assert_eq!(moto.unfinished().await.len(), 1, "it died in the middle");
    assert_eq!(moto.objects().await, Vec::<String>::new(), "an object is there only when it is complete");
    relay.close().await;
    relay.stop_after(usize::MAX / 2);
    relay.open().await;
    tokio::task::block_in_place(|| server.start_again());
    assert_eq!(moto.unfinished().await, Vec::<String>::new(), "it ends what it began, before it begins again");
    assert_eq!(server.settled(&ann, file).await["state"], "ready");
    assert!(read(&server, &ann, file, None).await == (200, content));
    moto.has(1).await;
    assert_eq!(moto.unfinished().await, Vec::<String>::new());
    server.stores(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_can_be_repeated_and_only_missing_content_is_not_found() {
    let moto = Moto::start().await;
    let data_dir = tempfile::tempdir().unwrap();
    let threads = DiskThreads::new().unwrap();
    let store_of = |bucket: &str| {
        let settings = BucketSettings {
            bucket: bucket.to_owned(),
            prefix: "chat/".to_owned(),
            region: "us-east-1".to_owned(),
            endpoint: Some(format!("http://{}", moto.address)),
            access_key_id: "test".to_owned(),
            secret_access_key: "test".to_owned(),
        };
        let folder = Folder::open(data_dir.path(), 0).unwrap();
        Store::in_bucket(folder, Bucket::new(settings).unwrap(), threads.disk())
    };
    let store = store_of(BUCKET);
    let name = |number| ContentName { hash: ContentHash([0xab; 32]), number };
    let from = data_dir.path().join("work/made");
    for content in [bytes(LARGE), bytes(100)] {
        let name = name(content.len() as i64);
        std::fs::write(&from, &content).unwrap();
        store.take(from.clone(), name).await.unwrap();
        assert!(!from.exists());
        store.take(from.clone(), name).await.unwrap();
        let mut copied = Vec::new();
        store.open(name).await.unwrap().read_to_end(&mut copied).unwrap();
        assert!(copied == content);
        assert_eq!(store.size(name).await.unwrap(), Some(content.len() as u64));
        assert_eq!(std::fs::read_dir(data_dir.path().join("work")).unwrap().count(), 0);
    }
    for _ in 0..2 {
        store.remove_content(name(100)).await.unwrap();
    }
    let missing = |outcome: std::io::Result<()>| outcome.unwrap_err().kind() == ErrorKind::NotFound;
    assert!(missing(store.open(name(100)).await.map(drop)));
    assert!(missing(store.read(name(100), 0..10).await.map(drop)));
    assert!(missing(store.take(from.clone(), name(100)).await));
    assert_eq!(store.size(name(100)).await.unwrap(), None);
    let elsewhere = store_of("another");
    assert!(!missing(elsewhere.read(name(100), 0..10).await.map(drop)), "the bucket is missing, not the content");
    assert!(elsewhere.remove_content(name(100)).await.is_err());

    // More than a page of names, of which some are not ours.
    let client = reqwest::Client::new();
    let mut expected = vec![name(LARGE as i64)];
    expected.extend((1..=1_100).map(name));
    let puts = futures_util::stream::iter(expected[1..].to_vec())
        .map(|name| client.put(format!("http://{}/{BUCKET}/chat/blobs/ab/ab/{name}", moto.address)).body("x").send());
    puts.buffer_unordered(8).for_each(|put| async move { assert!(put.unwrap().status().is_success()) }).await;
    for foreign in ["chat/blobs/ab/ab/readme", &format!("chat/blobs/ab/cd/{}", name(1)), "chat/blobs/ac/x"] {
        client.put(format!("http://{}/{BUCKET}/{foreign}", moto.address)).body("x").send().await.unwrap();
    }
    let mut found = store.contents(0xab).await.unwrap();
    found.sort_by_key(|name| name.number);
    expected.sort_by_key(|name| name.number);
    assert!(found == expected, "{} of {}", found.len(), expected.len());
    assert_eq!(store.contents(0xac).await.unwrap(), []);
    tokio::task::block_in_place(move || drop(threads));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unusable_bucket_refuses_the_start_and_names_the_key() {
    let moto = Moto::start().await;
    let refused = |endpoint: &str, bucket: &str| {
        let mut settings = settings(endpoint);
        settings
            .iter_mut()
            .filter(|(key, _)| *key == "files.s3_bucket")
            .for_each(|(_, value)| bucket.clone_into(value));
        let settings: Vec<_> = settings.iter().map(|(key, value)| (*key, &**value)).collect();
        tokio::task::block_in_place(|| refusal(free_address(), None, &settings))
    };
    let endpoint = format!("http://{}", moto.address);
    let wrong = refused(&endpoint, "another");
    assert!(wrong.contains("NoSuchBucket") && wrong.contains("correct files.s3_bucket"), "{wrong}");
    let away = refused(&format!("http://{}", free_address()), BUCKET);
    assert!(away.contains("files.s3_endpoint") && away.contains("refused"), "{away}");
    assert!(!wrong.contains("a secret of the test") && !away.contains("a secret of the test"));
}
