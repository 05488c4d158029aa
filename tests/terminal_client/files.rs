//! Files in the terminal: transfers go on after the server and the client were killed, and the bytes stay the same.

use crate::Person;
use crate::support::{PATIENCE, Server};
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_sent_and_saved_across_a_killed_server_and_client() {
    let server = Server::start(2, &[("features.file_uploads", "true")]);
    let (ada, bob) = (Person::register(&server), Person::register(&server));
    let room = ada.room();
    bob.ok(&["join", &room]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let content: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(path("numbers.bin"), &content).unwrap();
    std::fs::write(path("notes.txt"), "hello").unwrap();

    // The first client is killed while it sends; the next one goes on where it stopped.
    let database = server.database().await;
    let received = async || {
        let row = database.query_one("SELECT coalesce(max(received), 0)::bigint, count(*)::bigint FROM files", &[]);
        let row = row.await.unwrap();
        (row.get::<_, i64>(0), row.get::<_, i64>(1))
    };
    let mut first = ada.start(&["send", &room, "--file", &path("numbers.bin"), "numbers"]);
    let started = Instant::now();
    while received().await.0 < 2_000_000 {
        assert!(started.elapsed() < PATIENCE, "nothing arrives");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(received().await.0 < content.len() as i64, "the first client was too fast");
    let mut second =
        ada.start(&["send", &room, "--file", &path("numbers.bin"), "--file", &path("notes.txt"), "numbers"]);
    server.kill9();
    server.start_again();
    assert_eq!(second.wait().unwrap().code(), Some(0));
    assert_eq!(received().await, (content.len() as i64, 2), "each file was uploaded once");

    let history = bob.json(&["history", &room]);
    let message = history.last().unwrap();
    let files = message["attachments"].as_array().unwrap();
    assert_eq!((&files[0]["name"], &files[1]["name"]), (&json!("numbers.bin"), &json!("notes.txt")));
    let shown = bob.ok(&["history", &room]);
    assert!(shown.contains(" numbers.bin, 20.0 MB]") && shown.contains(" notes.txt, 5 bytes]"), "{shown}");

    // A download goes on too, and replaces nothing.
    let id = files[0]["file_id"].to_string();
    std::fs::write(path(&format!(".veza-{id}.part")), &content[..1_000]).unwrap();
    let saved = bob.one(&["download", &id, folder.path().join("copy.bin").to_str().unwrap()]);
    assert_eq!(saved["size"], content.len());
    assert!(std::fs::read(path("copy.bin")).unwrap() == content, "the bytes are those of the file");
    let (_, err) = bob.ends_with(2, &["download", &id, folder.path().to_str().unwrap()]);
    assert!(err.contains("numbers.bin exists"), "{err}");
    let eve = Person::register(&server);
    let (_, err) = eve.ends_with(1, &["download", &id, &path("eve.bin")]);
    assert!(err.contains("not_found") && !folder.path().join("eve.bin").exists(), "{err}");

    // What the check refuses is not sent.
    std::fs::write(path("evil.png"), b"MZ\x90\0").unwrap();
    let (_, err) = ada.ends_with(1, &["send", &room, "--file", &path("evil.png")]);
    assert!(err.contains("evil.png") && err.contains(".png"), "{err}");
    let (_, err) = ada.ends_with(2, &["send", &room, "--file", folder.path().to_str().unwrap()]);
    assert!(err.contains("is not a file"), "{err}");
    let sent = ada.one(&["send", &room, "--file", &path("notes.txt")]);
    assert_eq!(bob.json(&["history", &room]).last().unwrap()["message_id"], sent["message_id"]);
}
