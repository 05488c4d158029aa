//! A backup that is made while the server works, restored into an empty folder, is the server as it was at one moment.
//! Damaged and hostile backups are refused, and the refusal names the file.
//!
//! How: one server is under load while its backup is made. A lock of the test holds `pg_dump` after the snapshot, until
//! files of the snapshot have been deleted. The damaged backups are copies of that one.

use super::file_buckets::Moto;
use super::starting::database_url;
use crate::support::app_codes::app_code;
use crate::support::{PASSWORD, PATIENCE, Server, User, text, unique, wait_until};
use age::secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The secret of the server is in `data_dir`, and so in the backup.
const SETTINGS: &[(&str, &str)] = &[("features.file_uploads", "true"), ("security.jwt_secret", "")];
const HALF: usize = 300_000;
const IN_BUCKET: &str = "s3://veza-files/kept";

/// A folder that goes with the test.
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

fn out(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The command succeeds. Returns what it prints.
#[track_caller]
pub fn succeeds(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", out(output));
    out(output)
}

/// The command fails with exit code 1, and says all of this.
#[track_caller]
pub fn fails(output: &Output, says: &[&str]) {
    let text = out(output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in says {
        assert!(text.contains(part), "{part:?} is missing: {text}");
    }
}

impl Server {
    pub async fn send_text(&self, user: &User, room: &str, content: &str) -> Value {
        self.ok(user, "send_message", json!({"conversation_id": room, "content": content})).await
    }

    pub async fn send_file(&self, user: &User, room: &str, name: &str, bytes: &[u8]) -> (i64, Value) {
        let (file, settled) = self.upload(user, room, name, bytes).await;
        assert_eq!(settled["state"], "ready", "{settled}");
        let message = json!({"conversation_id": room, "content": name, "attachments": [file]});
        (file, self.ok(user, "send_message", message).await)
    }

    pub async fn download(&self, user: &User, file: i64, name: &str) -> Vec<u8> {
        let url = format!("{}/files/{file}/{name}", self.base_url);
        let answer = reqwest::Client::new().get(url).bearer_auth(&user.token).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{name}");
        answer.bytes().await.unwrap().to_vec()
    }

    pub fn stored_contents(&self) -> Vec<PathBuf> {
        self.stored_files().into_iter().filter(|path| path.to_str().unwrap().contains("/blobs/")).collect()
    }
}

/// Messages without what a search or a later edit adds, by seq.
pub fn texts(history: &[Value]) -> BTreeMap<i64, String> {
    let entry = |message: &Value| (message["seq"].as_i64().unwrap(), text(&message["content"]).to_owned());
    history.iter().map(entry).collect()
}

/// Sends messages until it is stopped. Returns the newest acknowledged seq at any time, and the task.
fn load(server: &Arc<Server>, user: User, room: String, stop: Arc<AtomicBool>) -> tokio::task::JoinHandle<u64> {
    let server = Arc::clone(server);
    tokio::spawn(async move {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            server.send_text(&user, &room, &format!("load {sent}")).await;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sent
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_under_load_restores_the_server_of_one_moment() {
    let scratch = Scratch::new();
    let server = Arc::new(Server::start(2, SETTINGS));
    // The key of tokens is one that a rotation has made.
    succeeds(&server.run(&["keys", "rotate"]));
    server.sigterm();
    server.wait();
    server.start_again();
    let (ann, bob) = (server.register().await, server.register().await);
    let (_, enabled) = server.post("/auth/2fa/enable", Some(&bob.token), &json!({"password": PASSWORD})).await;
    let secret = text(&enabled["secret"]).to_owned();
    let confirm = json!({"code": app_code(&secret, 0)});
    assert_eq!(server.post("/auth/2fa/confirm", Some(&bob.token), &confirm).await.0, 200);

    let room = server.room(&[&ann, &bob]).await;
    for n in 0..20 {
        server.send_text(&ann, &room, &format!("before {n}")).await;
    }
    let (kept, kept_bytes) = (server.send_file(&ann, &room, "kept.txt", b"this stays").await.0, b"this stays");
    let (deleted, sent) = server.send_file(&ann, &room, "deleted.txt", b"deleted while the backup is made").await;
    let upload_bytes: Vec<u8> = (0..2 * HALF).map(|n| (n % 251) as u8).collect();
    let given = json!({"conversation_id": room, "name": "later.bin", "size": 2 * HALF});
    let unfinished = server.begin_upload(&ann, &given).await;
    assert_eq!(server.append_upload(&ann, unfinished, 0, &upload_bytes[..HALF]).await.status(), 204);

    let stop = Arc::new(AtomicBool::new(false));
    let loading = load(&server, bob.clone(), room.clone(), Arc::clone(&stop));
    let acknowledged = server.send_text(&ann, &room, "acknowledged before the backup").await["seq"].as_i64().unwrap();

    // pg_dump waits for this lock when it has its snapshot.
    let (database, locker) = (server.database().await, server.database().await);
    locker.batch_execute("BEGIN; LOCK TABLE public.conversation_invites IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let creating = {
        let (server, to) = (Arc::clone(&server), scratch.text("backups"));
        tokio::task::spawn_blocking(move || server.run(&["backup", "create", "--to", &to, "--name", "first"]))
    };
    wait_until(
        &database,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock')",
    )
    .await;
    server.ok(&ann, "delete_message", json!({"message_id": sent["message_id"]})).await;
    wait_until(&database, "SELECT EXISTS (SELECT FROM jobs WHERE kind = 'remove_blob')").await;
    // The runner takes the oldest job that it may take. A later one is done, so the removal of content waits.
    let given = json!({"conversation_id": room, "name": "no.txt", "size": 10});
    let cancelled = server.begin_upload(&ann, &given).await;
    assert_eq!(server.append_upload(&ann, cancelled, 0, b"12345").await.status(), 204);
    assert_eq!(server.send(&ann, "DELETE", &format!("/files/{cancelled}"), &[], vec![]).await.status(), 204);
    let path = server.data_dir.join(format!("files/uploads/{cancelled}"));
    let started = Instant::now();
    while path.exists() {
        assert!(started.elapsed() < PATIENCE, "the cancelled upload stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.stored_contents().len(), 2, "the snapshot still needs the deleted file");
    locker.batch_execute("ROLLBACK").await.unwrap();
    let created = creating.await.unwrap();
    let printed = succeeds(&created);
    stop.store(true, Ordering::Relaxed);
    let sent_under_load = loading.await.unwrap();
    let backup = scratch.text("backups/first");
    assert_eq!(String::from_utf8_lossy(&created.stdout).trim(), backup, "{printed}");
    // The hold has ended.
    wait_until(&database, "SELECT NOT EXISTS (SELECT FROM jobs WHERE kind = 'remove_blob')").await;
    assert_eq!(server.stored_contents().len(), 1);
    let source = texts(&server.history(&ann, &room).await);

    let verified = succeeds(&server.run(&["backup", "verify", &backup]));
    assert!(verified.contains("The backup is whole"), "{verified}");
    fails(&server.run(&["backup", "restore", &backup]), &["is not empty: it has", "choose another one"]);

    // The same with a database that has a URL: another login makes the backup, and the owner restores it.
    let url = database_url(&server);
    let external = scratch.text("backups/external");
    let create = ["backup", "create", "--to", &scratch.text("backups"), "--name", "external"];
    let writer = url.replace("veza@", "chat_writer@");
    fails(&server.run_over(&[("database.url", &writer)], &create), &["reads every row", "--database-url-file"]);
    let url_file = scratch.text("url");
    fs::write(&url_file, format!("{url}\n")).unwrap();
    let with_login = [&create[..], &["--database-url-file", &url_file]].concat();
    succeeds(&server.run_over(&[("database.url", &writer)], &with_login));
    let second =
        "CREATE DATABASE second OWNER chat_owner ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    database.batch_execute(second).await.unwrap();
    let url = url.replace("veza_chat", "second");
    let restore = |folder: &str| {
        let data_dir = scratch.text(folder);
        server.run_over(&[("database.url", &url), ("data_dir", &data_dir)], &["backup", "restore", &external])
    };
    assert!(succeeds(&restore("second")).contains("Restored and verified"));
    fails(&restore("third"), &["is not empty: it has the table public."]);
    assert!(!scratch.path("third").exists());

    let restored = Server::restored(2, SETTINGS, &["backup", "restore", &backup]);
    let history = texts(&restored.history(&ann, &room).await);
    let last = *history.keys().last().unwrap();
    assert!(last >= acknowledged, "what was acknowledged before is there");
    assert!(last < *source.keys().last().unwrap(), "{sent_under_load} messages under load, some after the snapshot");
    let deleted_seq = sent["seq"].as_i64().unwrap();
    for seq in 1..=last {
        // Only the deletion came after the snapshot.
        assert!(history.get(&seq) == source.get(&seq) || seq == deleted_seq, "seq {seq}");
    }
    assert_eq!(restored.download(&ann, kept, "kept.txt").await, kept_bytes);
    assert_eq!(restored.download(&ann, deleted, "deleted.txt").await, b"deleted while the backup is made");
    let next = restored.send_text(&ann, &room, "after the restore").await["seq"].as_i64().unwrap();
    assert_eq!(next, last + 1);
    restored.found_in_time(&ann, "acknowledged", 1).await;

    assert_eq!(restored.upload_offset(&ann, unfinished).await, HALF);
    assert_eq!(restored.append_upload(&ann, unfinished, HALF, &upload_bytes[HALF..]).await.status(), 204);
    assert_eq!(restored.settled(&ann, unfinished).await["state"], "ready");
    assert_eq!(restored.download(&ann, unfinished, "later.bin").await, upload_bytes);

    assert_eq!(restored.login(&ann).await.id, ann.id);
    let refresh = json!({"refresh_token": ann.refresh_token});
    let (status, answer) = restored.post("/auth/refresh", None, &refresh).await;
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = restored.post("/auth/login", None, &json!({"login": bob.name, "password": PASSWORD})).await;
    assert_eq!(status, 401, "{answer}");
    // A later code than the first one, also if less than a step has passed.
    let code = json!({"challenge": answer["challenge"], "totp_code": app_code(&secret, 1)});
    let (status, answer) = restored.post("/auth/2fa/verify", None, &code).await;
    assert_eq!(status, 200, "{answer}");
    let recorded = "SELECT count(*) = 1 FROM audit_logs WHERE action = 'create_backup'";
    assert!(restored.database().await.query_one(recorded, &[]).await.unwrap().get::<_, bool>(0));
    succeeds(&restored.run(&["audit", "verify"]));
}

/// A small server that has stopped, with a backup called `good`. An encrypted one called `sealed` and one in a bucket
/// were made while it ran.
struct Backups {
    server: Server,
    scratch: Scratch,
    moto: Moto,
    identity: String,
    /// Of a file's content.
    hash: String,
}

impl Backups {
    async fn make() -> Self {
        let scratch = Scratch::new();
        let moto = Moto::start().await;
        let endpoint = format!("http://{}", moto.address);
        let bucket = [
            ("files.s3_endpoint", endpoint.as_str()),
            ("files.s3_access_key_id", "testing"),
            ("files.s3_secret_access_key", "testing"),
        ];
        let server = Server::start(1, &[SETTINGS, &bucket].concat());
        let ann = server.register_as(&unique("Annegret")).await;
        let room = server.room(&[&ann]).await;
        server.send_file(&ann, &room, "plan.txt", b"the plan of the house").await;
        // Larger than a part of an upload to S3.
        let large: Vec<u8> = (0..9_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as u8).collect();
        server.send_file(&ann, &room, "large.bin", &large).await;
        let key = age::x25519::Identity::generate();
        let identity = scratch.text("identity");
        fs::write(&identity, format!("# a key of the test\n{}\n", key.to_string().expose_secret())).unwrap();
        let to = scratch.text("backups");
        let recipient = key.to_public().to_string();
        let sealed = ["backup", "create", "--to", &to, "--name", "sealed", "--recipient", &recipient];
        succeeds(&server.run(&sealed));
        let to_bucket = ["backup", "create", "--to", IN_BUCKET, "--name", "one"];
        succeeds(&server.run(&to_bucket));
        fails(&server.run(&to_bucket), &["is there already"]);
        server.sigterm();
        assert!(server.wait().success());
        // Also without a server: the private PostgreSQL runs for the command.
        succeeds(&server.run(&["backup", "create", "--to", &to, "--name", "good"]));
        assert_eq!(server.postmaster(), None);
        let hash = format!("{:x}", Sha256::digest(b"the plan of the house"));
        Self { server, scratch, moto, identity, hash }
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.path("backups").join(name)
    }

    fn verify(&self, name: &str, more: &[&str]) -> Output {
        let folder = self.folder(name);
        self.server.run(&[&["backup", "verify", folder.to_str().unwrap()], more].concat())
    }

    /// A copy of a backup, changed.
    fn changed(&self, from: &str, name: &str, change: impl FnOnce(&Path)) {
        let to = self.folder(name);
        let copied = std::process::Command::new("cp").arg("-a").arg(self.folder(from)).arg(&to).status().unwrap();
        assert!(copied.success());
        change(&to);
    }
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Changes the list of a backup, and its checksum in the manifest, as a stranger would.
fn forge(folder: &Path, from: &str, to: &str) {
    let list = fs::read_to_string(folder.join("list.jsonl")).unwrap();
    assert!(list.contains(from), "{list}");
    let list = list.replacen(from, to, 1);
    fs::write(folder.join("list.jsonl"), &list).unwrap();
    let mut manifest: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    manifest["list"] = json!({"size": list.len(), "sha256": format!("{:x}", Sha256::digest(&list))});
    fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[tokio::test]
async fn damaged_hostile_and_encrypted_backups_are_what_verify_says() {
    let backups = Backups::make().await;
    let blob = format!("files/{}/{}.1", &backups.hash[..2], backups.hash);
    assert!(backups.folder("good").join(&blob).exists(), "{:?}", files_below(&backups.folder("good")));

    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(backups.folder("good")), mode(backups.folder("good").join("keys/audit_key"))), (0o700, 0o600));

    // A damaged part is named.
    backups.changed("good", "flipped", |folder| {
        edit(&folder.join("database.dump"), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    });
    fails(&backups.verify("flipped", &[]), &["database.dump: its SHA-256 is another one"]);
    backups.changed("good", "truncated", |folder| {
        edit(&folder.join("database.dump"), |bytes| bytes.truncate(bytes.len() - 1));
    });
    fails(&backups.verify("truncated", &[]), &["database.dump: it has ", " bytes instead of "]);
    backups.changed("good", "missing", |folder| fs::remove_file(folder.join(&blob)).unwrap());
    fails(&backups.verify("missing", &["--checksums"]), &[&blob, "it is missing"]);
    backups.changed("good", "unlisted", |folder| edit(&folder.join("list.jsonl"), |bytes| bytes.truncate(20)));
    fails(&backups.verify("unlisted", &[]), &["list.jsonl: it has 20 bytes instead of"]);
    backups.changed("good", "partial", |folder| fs::remove_file(folder.join("manifest.json")).unwrap());
    fails(&backups.verify("partial", &[]), &["manifest.json: it is missing, so this is no complete backup"]);
    // Checksums that fit, and rows that need what is not there.
    backups.changed("good", "forged", |folder| {
        let line = fs::read_to_string(folder.join("list.jsonl")).unwrap();
        let line = line.lines().find(|line| line.contains(&blob)).unwrap().to_owned() + "\n";
        forge(folder, &line, "");
        edit(&folder.join("manifest.json"), |bytes| {
            let mut manifest: Value = serde_json::from_slice(bytes).unwrap();
            manifest["parts"] = json!(manifest["parts"].as_u64().unwrap() - 1);
            manifest["about"]["tables"]["users"] = json!(7);
            *bytes = manifest.to_string().into_bytes();
        });
    });
    let says = [&backups.hash, "is no whole part of the backup", "Table users has 1 rows, and the snapshot had 7"];
    fails(&backups.verify("forged", &[]), &says);

    // A hostile backup reads and writes nothing elsewhere.
    let target = backups.scratch.text("target");
    let over = [("data_dir", target.as_str())];
    for (name, path) in [("up", "../../target/x"), ("absolute", "/etc/passwd"), ("inside", "files/../keys/audit_key")] {
        backups.changed("good", name, |folder| forge(folder, &format!("\"{blob}\""), &format!("\"{path}\"")));
        let folder = backups.folder(name);
        let restore = ["backup", "restore", folder.to_str().unwrap()];
        fails(&backups.server.run_over(&over, &restore), &["list.jsonl, line", path, "is no name of a part"]);
        assert!(!Path::new(&target).exists());
    }
    // A backup that does not fit this version or configuration is refused before anything is restored.
    for (name, field, value, says) in [
        ("later", "migration", json!(9_999), "is of a later version of chat-server"),
        ("outside", "outside", json!(["security.jwt_secret"]), "security.jwt_secret of the server was in its"),
    ] {
        backups.changed("good", name, |folder| {
            edit(&folder.join("manifest.json"), |bytes| {
                let mut manifest: Value = serde_json::from_slice(bytes).unwrap();
                manifest["about"][field] = value;
                *bytes = manifest.to_string().into_bytes();
            });
        });
        let folder = backups.folder(name);
        fails(&backups.server.run_over(&over, &["backup", "restore", folder.to_str().unwrap()]), &[says]);
        assert!(!Path::new(&target).exists());
    }

    backups.changed("good", "linked", |folder| {
        fs::rename(folder.join(&blob), folder.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(folder.join("elsewhere"), folder.join(&blob)).unwrap();
    });
    fails(&backups.verify("linked", &["--checksums"]), &[&blob, "symbolic link"]);

    // Damaged content stops a restore until the operator accepts its loss. Then everything else is there.
    let missing = backups.folder("missing");
    let restore = ["backup", "restore", missing.to_str().unwrap()];
    fails(&backups.server.run_over(&over, &restore), &["it is missing", "--without-damaged-files"]);
    assert!(!Path::new(&target).exists(), "nothing was restored");
    let restored = backups.server.run_over(&over, &[&restore[..], &["--without-damaged-files"]].concat());
    fails(&restored, &[&format!("Content {}", backups.hash), "is missing", "a server starts on it"]);
    assert_eq!(mode(Path::new(&target).join("audit_key")), 0o600);
    fs::write(Path::new(&target).join("restore_unfinished"), "").unwrap();
    fails(&backups.server.run_over(&over, &["serve"]), &["was cut short", "restore again"]);

    // An encrypted backup tells nothing, and needs its identity.
    let sealed = files_below(&backups.folder("sealed"));
    for path in &sealed {
        let bytes = fs::read(path).unwrap();
        let shown = format!("{} {}", path.display(), String::from_utf8_lossy(&bytes));
        for secret in ["plan.txt", "Annegret", "jwt_secret", &backups.hash, "PGDMP"] {
            assert!(!shown.contains(secret), "{} shows {secret}", path.display());
        }
    }
    succeeds(&backups.verify("sealed", &["--checksums"]));
    fails(&backups.verify("sealed", &[]), &["is encrypted; give --identity"]);
    succeeds(&backups.verify("sealed", &["--identity", &backups.identity]));
    let other = backups.scratch.text("other");
    fs::write(&other, age::x25519::Identity::generate().to_string().expose_secret()).unwrap();
    fails(&backups.verify("sealed", &["--identity", &other]), &["cannot decrypt", "no key of --identity opens it"]);
    let wrong = ["backup", "create", "--to", &target, "--recipient", "age1nonsense"];
    assert_eq!(backups.server.run(&wrong).status.code(), Some(2));

    // A bucket is as good as a folder.
    let objects = backups.moto.listed("list-type=2", "Key").await;
    assert!(objects.contains(&"kept/one/manifest.json".to_owned()), "{objects:?}");
    let from_bucket = backups.scratch.text("from-bucket");
    let place = format!("{IN_BUCKET}/one");
    let restored = backups.server.run_over(&[("data_dir", &from_bucket)], &["backup", "restore", &place]);
    assert!(succeeds(&restored).contains("2 contents of files"), "{restored:?}");

    // The parts are files that the program `age` opens.
    let age = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-clients/age/age");
    let dump = backups.folder("sealed").join("parts/0000/0000000000.age");
    let opened = std::process::Command::new(age).args(["-d", "-i", &backups.identity]).arg(dump).output();
    let opened = opened.expect("age is missing: scripts/install-test-clients.sh installs it");
    assert!(opened.stdout.starts_with(b"PGDMP"), "{opened:?}");
}
