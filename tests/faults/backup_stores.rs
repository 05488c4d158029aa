//! Backups of a server whose files are in a bucket, and of a cluster of two nodes; and backups that share content.
//!
//! How: moto is the bucket, of the files only. Restored files go below another prefix of it. While the backup of the
//! cluster is made, both nodes write. A lock of the test holds `pg_dump` after its snapshot, and a file is deleted
//! then.

use super::backup::{Scratch, fails, succeeds, texts};
use super::file_buckets::{BUCKET, LARGE, Moto, bytes, settings};
use super::starting::database_url;
use crate::support::{PATIENCE, Server, User, wait_until};
use chat_server::files::store::bucket::{Bucket, BucketSettings};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A server with these settings over those of a server with the bucket.
fn over<'a>(bucket: &'a [(&'static str, String)], more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    bucket.iter().map(|(key, value)| (*key, &**value)).chain(more.iter().copied()).collect()
}

fn manifest(scratch: &Scratch, name: &str) -> Value {
    serde_json::from_slice(&fs::read(scratch.path(name).join("manifest.json")).unwrap()).unwrap()
}

async fn objects_below(moto: &Moto, prefix: &str) -> Vec<String> {
    moto.objects().await.into_iter().filter(|name| name.starts_with(prefix)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_in_a_bucket_are_in_the_backup_and_restored_into_any_store() {
    let (moto, scratch) = (Moto::start().await, Scratch::new());
    let bucket = settings(&format!("http://{}", moto.address));
    let server = Server::start(1, &over(&bucket, &[("security.jwt_secret", "")]));
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    // More than one part of an upload to S3, and the same content twice.
    let (large, small) = (bytes(LARGE), bytes(1_000));
    let mut files = Vec::new();
    for (name, content) in [("large.bin", &large), ("again.bin", &large), ("small.bin", &small)] {
        let (file, sent) = server.send_file(&ann, &room, name, content).await;
        files.push((file, name, content, sent["message_id"].clone()));
    }
    let half = LARGE / 2;
    let given = json!({"conversation_id": room, "name": "later.bin", "size": LARGE});
    let unfinished = server.begin_upload(&ann, &given).await;
    assert_eq!(server.append_upload(&ann, unfinished, 0, &large[..half]).await.status(), 204);

    let (to, backup) = (scratch.text("backups"), scratch.text("backups/first"));
    succeeds(&server.run(&["backup", "create", "--to", &to, "--name", "first"]));
    let about = manifest(&scratch, "backups/first")["about"].clone();
    assert_eq!((&about["store"], &about["files"], &about["uploads"]), (&json!("s3"), &json!(2), &json!(1)), "{about}");
    assert!(succeeds(&server.run(&["backup", "verify", &backup])).contains("The backup is whole"));
    let restore = ["backup", "restore", &backup];
    let same = scratch.text("same");
    fails(&server.run_over(&[("data_dir", &same)], &restore), &["the store of files is not empty", "files.s3_prefix"]);

    let original = objects_below(&moto, "chat/").await;
    assert_eq!(original.len(), 2, "{original:?}");
    for more in [("files.s3_prefix", "restored/"), ("files.store", "folder")] {
        let restored = Server::restored(1, &over(&bucket, &[("security.jwt_secret", ""), more]), &restore);
        for (file, name, content, _) in &files {
            assert!(restored.download(&ann, *file, name).await == **content, "{more:?}: {name}");
        }
        assert_eq!(restored.upload_offset(&ann, unfinished).await, half);
        assert_eq!(restored.append_upload(&ann, unfinished, half, &large[half..]).await.status(), 204);
        assert_eq!(restored.settled(&ann, unfinished).await["state"], "ready");
        let checked = restored.run(&["files", "check", "--deep"]);
        assert!(succeeds(&checked).contains(": 0 findings"), "{checked:?}");
        // The same content is stored once, also that of the upload.
        let is_bucket = more.0 == "files.s3_prefix";
        let stored = (objects_below(&moto, "restored/").await.len(), restored.stored_contents().len());
        assert_eq!(stored, if is_bucket { (2, 0) } else { (1, 2) }, "{more:?}");
        restored.ok(&ann, "delete_message", json!({"message_id": files[2].3})).await;
        let database = restored.database().await;
        wait_until(&database, "SELECT count(*) = 1 FROM blobs").await;
        moto.has(3).await;
        assert_eq!(objects_below(&moto, "chat/").await, original, "the other server has its own");
    }

    // What the bucket has lost is named. Everything else is in the backup.
    let settings = BucketSettings {
        bucket: BUCKET.to_owned(),
        prefix: "chat/".to_owned(),
        region: "us-east-1".to_owned(),
        endpoint: Some(format!("http://{}", moto.address)),
        access_key_id: "test".to_owned(),
        secret_access_key: "test".to_owned(),
    };
    let lost = original[0].strip_prefix("chat/").unwrap();
    Bucket::new(settings).unwrap().remove_object(lost).await.unwrap();
    let lost = lost.rsplit('/').next().unwrap();
    let created = server.run(&["backup", "create", "--to", &to, "--name", "second"]);
    fails(&created, &[&format!("Content {lost} is missing"), "complete except for this content"]);
    let about = manifest(&scratch, "backups/second")["about"].clone();
    assert_eq!((&about["files"], about["lost"].as_array().map(Vec::len)), (&json!(1), Some(1)), "{about}");
}

/// Sends messages with this word until it is stopped.
fn write(
    server: &Arc<Server>,
    user: &User,
    room: &str,
    word: &'static str,
    stop: &Arc<AtomicBool>,
) -> tokio::task::JoinHandle<u64> {
    let (server, user, room, stop) = (Arc::clone(server), user.clone(), room.to_owned(), Arc::clone(stop));
    tokio::spawn(async move {
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            server.send_text(&user, &room, &format!("{word} {sent}")).await;
            sent += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        sent
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_on_one_node_is_one_moment_of_both() {
    let (moto, scratch) = (Moto::start().await, Scratch::new());
    let bucket = settings(&format!("http://{}", moto.address));
    let one = Arc::new(Server::start(1, &over(&bucket, &[("database.shared", "true")])));
    let url = database_url(&one);
    let more = [("database.url", url.as_str()), ("database.shared", "true")];
    let two = Arc::new(Server::start(1, &over(&bucket, &more)));
    let (ann, bob) = (one.register().await, one.register().await);
    let room = one.room(&[&ann, &bob]).await;
    let contents = [bytes(5_000), bytes(6_000), bytes(7_000)];
    let (first, _) = one.send_file(&ann, &room, "one.bin", &contents[0]).await;
    let (second, _) = two.send_file(&bob, &room, "two.bin", &contents[1]).await;
    let (deleted, deleted_message) = one.send_file(&ann, &room, "deleted.bin", &contents[2]).await;

    let stop = Arc::new(AtomicBool::new(false));
    let writing = [write(&one, &ann, &room, "one", &stop), write(&two, &bob, &room, "two", &stop)];
    let mut acknowledged = Vec::new();
    for (server, user) in [(&one, &ann), (&two, &bob), (&one, &bob), (&two, &ann)] {
        acknowledged.push(server.send_text(user, &room, "acknowledged before").await["seq"].as_i64().unwrap());
    }

    let (database, locker) = (one.database().await, one.database().await);
    locker.batch_execute("BEGIN; LOCK TABLE public.conversation_invites IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let creating = {
        let (two, to) = (Arc::clone(&two), scratch.text("backups"));
        tokio::task::spawn_blocking(move || two.run(&["backup", "create", "--to", &to, "--name", "both"]))
    };
    wait_until(
        &database,
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'pg_dump' AND wait_event_type = 'Lock')",
    )
    .await;
    // The node that does not make the backup must keep the content too, although it goes on with later jobs.
    one.ok(&ann, "delete_message", json!({"message_id": deleted_message["message_id"]})).await;
    wait_until(&database, "SELECT EXISTS (SELECT FROM jobs WHERE kind = 'remove_blob')").await;
    for (server, user) in [(&one, &ann), (&two, &bob)] {
        let given = json!({"conversation_id": room, "name": "no.txt", "size": 10});
        let cancelled = server.begin_upload(user, &given).await;
        assert_eq!(server.append_upload(user, cancelled, 0, b"12345").await.status(), 204);
        assert_eq!(server.send(user, "DELETE", &format!("/files/{cancelled}"), &[], vec![]).await.status(), 204);
        let path = server.data_dir.join(format!("files/uploads/{cancelled}"));
        let started = Instant::now();
        while path.exists() {
            assert!(started.elapsed() < PATIENCE, "the cancelled upload stays");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(moto.objects().await.len(), 3, "the snapshot still needs the deleted file");
    locker.batch_execute("ROLLBACK").await.unwrap();
    let printed = succeeds(&creating.await.unwrap());
    stop.store(true, Ordering::Relaxed);
    for written in writing {
        assert!(written.await.unwrap() > 0);
    }
    moto.has(2).await;
    let source = texts(&one.history(&ann, &room).await);
    assert_eq!(texts(&two.history(&bob, &room).await), source);

    let backup = scratch.text("backups/both");
    assert!(succeeds(&two.run(&["backup", "verify", &backup])).contains("The backup is whole"), "{printed}");
    let restore = ["backup", "restore", &backup];
    let restored = Server::restored(1, &over(&bucket, &[("files.s3_prefix", "restored/")]), &restore);
    let history = texts(&restored.history(&ann, &room).await);
    let last = *history.keys().last().unwrap();
    assert!(acknowledged.iter().all(|seq| *seq <= last), "what either node acknowledged before is there: {last}");
    assert!(last < *source.keys().last().unwrap(), "and not what they wrote later");
    let deleted_seq = deleted_message["seq"].as_i64().unwrap();
    for seq in 1..=last {
        // Only the deletion came after the snapshot.
        assert!(history.get(&seq) == source.get(&seq) || seq == deleted_seq, "seq {seq}");
    }
    for word in ["one ", "two "] {
        assert!(history.values().any(|text| text.starts_with(word)), "{word}");
    }
    for (file, name, content) in
        [(first, "one.bin", &contents[0]), (second, "two.bin", &contents[1]), (deleted, "deleted.bin", &contents[2])]
    {
        assert!(restored.download(&ann, file, name).await == *content, "{name}");
    }
    succeeds(&restored.run(&["audit", "verify"]));
    let next = restored.send_text(&bob, &room, "after the restore").await["seq"].as_i64().unwrap();
    assert_eq!(next, last + 1);
}

/// The file of a content in a backup, by the number of its inode.
fn file_of(scratch: &Scratch, backup: &str, content: &[u8]) -> Option<u64> {
    let hash = format!("{:x}", Sha256::digest(content));
    let folder = scratch.path("backups").join(backup).join("files").join(&hash[..2]);
    let found =
        fs::read_dir(folder).ok()?.flatten().find(|entry| entry.file_name().to_str().unwrap().starts_with(&hash));
    found.map(|entry| entry.metadata().unwrap().ino())
}

#[tokio::test]
async fn backups_in_one_folder_share_content_and_none_needs_another() {
    let scratch = Scratch::new();
    let server = Server::start(1, &[("features.file_uploads", "true"), ("files.scan", "off")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let contents: Vec<Vec<u8>> = (0..3_u8).map(|n| vec![n + b'a'; 400_000]).collect();
    let mut files = Vec::new();
    let to = scratch.text("backups");
    let create = |name: &str| server.run(&["backup", "create", "--to", &to, "--name", name]);
    let verify = |name: &str| server.run(&["backup", "verify", scratch.path("backups").join(name).to_str().unwrap()]);
    let file = |backup: &str, n: usize| file_of(&scratch, backup, &contents[n]);
    for (n, backup) in ["one", "two"].into_iter().enumerate() {
        files.push(server.send_file(&ann, &room, &format!("{n}.txt"), &contents[n]).await.0);
        succeeds(&create(backup));
    }
    assert!(file("one", 0).is_some() && file("one", 1).is_none() && file("two", 1).is_some());
    assert_eq!(file("two", 0), file("one", 0), "it is stored once");
    assert!(succeeds(&verify("two")).contains("The backup is whole"));

    // Damage of a shared file is found in each backup that has it, and does not spread to the next one.
    let hash = format!("{:x}", Sha256::digest(&contents[0]));
    let shared = scratch.path("backups").join("two/files").join(&hash[..2]);
    let shared = fs::read_dir(shared).unwrap().next().unwrap().unwrap().path();
    let mut bytes = contents[0].clone();
    bytes[200_000] ^= 1;
    fs::write(&shared, bytes).unwrap();
    for damaged in ["one", "two"] {
        fails(&verify(damaged), &[&hash, "its SHA-256 is another one"]);
    }
    files.push(server.send_file(&ann, &room, "2.txt", &contents[2]).await.0);
    assert!(succeeds(&create("three")).contains("of which"));
    assert_ne!(file("three", 0), file("two", 0));
    assert_eq!(file("three", 1), file("two", 1));
    assert!(succeeds(&verify("three")).contains("The backup is whole"));

    // The removal of backups takes nothing from another one.
    for removed in ["one", "two"] {
        fs::remove_dir_all(scratch.path("backups").join(removed)).unwrap();
    }
    let three = scratch.text("backups/three");
    assert!(succeeds(&verify("three")).contains("The backup is whole"));
    let restored = Server::restored(1, &[("features.file_uploads", "true")], &["backup", "restore", &three]);
    for (n, file) in files.iter().enumerate() {
        assert!(restored.download(&ann, *file, &format!("{n}.txt")).await == contents[n]);
    }

    // What the server has lost is still named.
    let stored = server.stored_contents();
    let lost = stored.iter().find(|path| path.to_str().unwrap().contains(&hash)).unwrap();
    fs::write(lost, vec![b'x'; contents[0].len()]).unwrap();
    fails(&create("four"), &[&hash, "has other bytes than were checked"]);
    assert_eq!((file("four", 0), file("four", 1)), (None, file("three", 1)));
}
