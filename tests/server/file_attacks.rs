//! Attacks on uploads and downloads: by other users, by half requests, by deletions at the wrong moment.
//!
//! How: raw sockets where a client would not send such a thing; and the disk and the tables are looked at afterwards.

use crate::filter::{set_rules, words};
use crate::support::{PATIENCE, Raw, Server, User, wait_until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn start() -> Server {
    Server::start(2, &[("features.file_uploads", "true")])
}

/// The head of a request that brings bytes of an upload.
fn head(user: &User, file: i64, at: usize, length: usize) -> String {
    format!(
        "PATCH /files/{file} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\nupload-offset: {at}\r\n\
         content-type: application/offset+octet-stream\r\ncontent-length: {length}\r\n\r\n",
        user.token
    )
}

#[tokio::test]
async fn nobody_ends_or_continues_the_upload_of_another_user() {
    let server = start();
    let (ann, eve) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &eve]).await;
    let given = json!({"conversation_id": room, "name": "mine.bin", "size": 100_000});
    let file = server.begin_upload(&ann, &given).await;
    let mut half = Raw::connect(&server).await;
    half.write(head(&ann, file, 0, 100_000).as_bytes()).await.unwrap();
    half.write(&vec![7; 50_000]).await.unwrap();
    for _ in 0..3 {
        assert_eq!(server.append_upload(&eve, file, 0, b"evil").await.status(), 404);
        assert_eq!(server.send(&eve, "DELETE", &format!("/files/{file}"), &[], vec![]).await.status(), 404);
    }
    half.write(&vec![7; 50_000]).await.unwrap();
    assert!(half.head().await.starts_with("HTTP/1.1 204"), "the upload was not disturbed");
    assert_eq!(server.settled(&ann, file).await["state"], "ready");
}

#[tokio::test]
async fn a_checked_file_keeps_its_bytes() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (file, _) = server.upload(&ann, &room, "a.txt", b"checked").await;
    for offset in [0, 3, 7] {
        assert_eq!(server.append_upload(&ann, file, offset, b"evil").await.status(), 409);
    }
    let body = format!(
        "--x\r\ncontent-disposition: form-data; name=\"conversation_id\"\r\n\r\n{room}\r\n--x\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"b.txt\"\r\n\r\nchecked too\r\n--x--\r\n"
    );
    let fields = [("content-type", "multipart/form-data; boundary=x")];
    let formed: Value =
        server.send(&ann, "POST", "/files/simple", &fields, body.into_bytes()).await.json().await.unwrap();
    let formed = formed["file_id"].as_i64().unwrap();
    assert_eq!(server.append_upload(&ann, formed, 0, b"evil").await.status(), 409);
    assert_eq!(server.settled(&ann, formed).await["state"], "ready");
    for (file, name, expected) in [(file, "a.txt", "checked"), (formed, "b.txt", "checked too")] {
        let read = server.send(&ann, "GET", &format!("/files/{file}/{name}"), &[], vec![]).await;
        assert_eq!(read.bytes().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_form_without_end_takes_no_memory_and_leaves_nothing() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let request = |body: &str| {
        format!(
            "POST /files/simple HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\ncontent-length: 90000000\r\n\
             content-type: multipart/form-data; boundary=x\r\n\r\n{body}",
            ann.token
        )
    };
    // The head of a part that never ends: its parser would keep all of it.
    let mut endless = Raw::connect(&server).await;
    endless.write(request("--x\r\ncontent-disposition: form-data; name=\"").as_bytes()).await.unwrap();
    for _ in 0..40 {
        // The server may have answered and closed by then.
        let _ = endless.write(&[b'a'; 4_096]).await;
    }
    let answer = endless.head().await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // A client that goes in the middle of its file.
    let begun = format!(
        "--x\r\ncontent-disposition: form-data; name=\"conversation_id\"\r\n\r\n{room}\r\n--x\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"b.bin\"\r\n\r\n"
    );
    let mut half = Raw::connect(&server).await;
    half.write(request(&begun).as_bytes()).await.unwrap();
    half.write(&vec![7; 700_000]).await.unwrap();
    let database = server.database().await;
    wait_until(&database, "SELECT count(*) = 1 FROM files WHERE state = 'uploading'").await;
    drop(half);
    wait_until(&database, "SELECT count(*) = 0 FROM files").await;
    wait_until(&database, "SELECT sum(bytes) = 0 AND sum(files) = 0 FROM file_usage").await;
    server.stores(0).await;
}

#[tokio::test]
async fn deletions_do_not_give_back_the_hours_uploads() {
    let settings = [("features.file_uploads", "true"), ("files.uploads_per_hour", "3")];
    let server = Server::start(1, &settings);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let given = json!({"conversation_id": room, "name": "x", "size": 1});
    for _ in 0..3 {
        let file = server.begin_upload(&ann, &given).await;
        assert_eq!(server.send(&ann, "DELETE", &format!("/files/{file}"), &[], vec![]).await.status(), 204);
    }
    let refused = server.send(&ann, "POST", "/files", &[], given.to_string().into_bytes()).await;
    assert_eq!(refused.status(), 429);
}

#[tokio::test]
async fn a_link_ends_with_its_session_and_survives_any_name() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let (file, _) = server.upload(&ann, &room, "50% of #1?.txt", b"content").await;
    let linked: Value =
        server.send(&ann, "POST", &format!("/files/{file}/link"), &[], vec![]).await.json().await.unwrap();
    let link = format!("{}{}", server.base_url, linked["url"].as_str().unwrap());
    let read = reqwest::get(&link).await.unwrap();
    assert_eq!((read.status().as_u16(), read.bytes().await.unwrap().as_ref()), (200, &b"content"[..]));
    assert_eq!(server.send(&ann, "POST", "/auth/logout", &[], vec![]).await.status(), 204);
    assert_eq!(reqwest::get(&link).await.unwrap().status(), 404);
}

#[tokio::test]
async fn a_full_disk_refuses_uploads_and_nothing_else() {
    let settings = [("features.file_uploads", "true"), ("files.keep_free", "1125899906842624")];
    let server = Server::start(1, &settings);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let file = server.begin_upload(&ann, &json!({"conversation_id": room, "name": "x", "size": 5})).await;
    let refused = server.append_upload(&ann, file, 0, b"hello").await;
    let status = refused.status().as_u16();
    let problem: Value = refused.json().await.unwrap();
    assert_eq!((status, &problem["code"]), (503, &json!("storage_unavailable")));
    assert!(problem["detail"].as_str().unwrap().contains("disk is full"), "{problem}");
    assert_eq!(server.upload_offset(&ann, file).await, 0, "it can be continued");
    server.ok(&ann, "send_message", json!({"conversation_id": room, "content": "still here"})).await;
}

#[tokio::test]
async fn a_file_that_waits_for_its_check_can_be_deleted_and_leaves_nothing() {
    let settings =
        [("features.file_uploads", "true"), ("files.clamd", "unix:/nonexistent/clamd.ctl"), ("files.scan", "required")];
    let server = Server::start(1, &settings);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut files = Vec::new();
    for n in 0..3 {
        let file = server.begin_upload(&ann, &json!({"conversation_id": room, "name": "x", "size": 5})).await;
        assert_eq!(server.append_upload(&ann, file, 0, format!("file{n}").as_bytes()).await.status(), 204);
        files.push(file);
    }
    server.stores(3).await;
    let sent = server.ok(&ann, "send_message", json!({"conversation_id": room, "attachments": [files[0]]})).await;
    let database = server.database().await;
    wait_until(&database, "SELECT bool_or(expires_at = 'infinity') FROM files").await;
    // HEAD says no end of what a message has.
    let asked = server.send(&ann, "HEAD", &format!("/files/{}", files[0]), &[], vec![]).await;
    assert!(asked.status() == 200 && !asked.headers().contains_key("upload-expires"));
    server.ok(&ann, "delete_message", json!({"message_id": sent["message_id"]})).await;
    for file in &files[1..] {
        assert_eq!(server.send(&ann, "DELETE", &format!("/files/{file}"), &[], vec![]).await.status(), 204);
    }
    server.stores(0).await;
    wait_until(&database, "SELECT count(*) = 0 FROM jobs WHERE kind <> 'check_file'").await;
    wait_until(&database, "SELECT (SELECT count(*) FROM blobs) = 0 AND (SELECT sum(bytes) FROM file_usage) = 0").await;
}

/// The same content is uploaded and deleted by several users at the same time, for a while. A user who keeps the file
/// can read it.
#[tokio::test]
async fn content_that_a_file_needs_outlives_the_deletion_of_its_twins() {
    let server = Server::start(2, &[("features.file_uploads", "true"), ("files.uploads_per_hour", "1000")]);
    let users = [server.register().await, server.register().await, server.register().await];
    let room = server.room(&[&users[0], &users[1], &users[2]]).await;
    let began = Instant::now();
    for round in 0..12 {
        assert!(began.elapsed() < PATIENCE * 2);
        let kept = round % users.len();
        let work = users.iter().enumerate().map(async |(n, user)| {
            let (file, shown) = server.upload(user, &room, "same.txt", b"the same content").await;
            assert_eq!(shown["state"], "ready", "{shown}");
            if n != kept {
                let deleted = server.send(user, "DELETE", &format!("/files/{file}"), &[], vec![]).await;
                assert_eq!(deleted.status(), 204);
            }
            file
        });
        let files = futures_util::future::join_all(work).await;
        let path = format!("/files/{}/same.txt", files[kept]);
        let read = server.send(&users[kept], "GET", &path, &[], vec![]).await;
        assert_eq!(read.status(), 200, "round {round}: {}", server.log_tail());
        assert_eq!(read.bytes().await.unwrap(), "the same content");
        if round % 2 == 0 {
            server.stores(1).await;
        }
        let deleted =
            server.send(&users[kept], "DELETE", &format!("/files/{}", files[kept]), &[], vec![]).await.status();
        assert_eq!(deleted, 204);
    }
    server.stores(0).await;
    let database = server.database().await;
    wait_until(&database, "SELECT (SELECT count(*) FROM blobs) + (SELECT count(*) FROM jobs) = 0").await;
}

/// A reader who is removed while a long download runs receives no more of it.
#[tokio::test]
async fn a_download_ends_when_its_reader_loses_access() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let bytes = vec![7; 60_000_000];
    let (file, _) = server.upload(&ann, &room, "long.bin", &bytes).await;
    server.ok(&ann, "send_message", json!({"conversation_id": room, "attachments": [file]})).await;
    let mut reader = Raw::connect(&server).await;
    let request =
        format!("GET /files/{file}/long.bin HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n\r\n", bob.token);
    reader.write(request.as_bytes()).await.unwrap();
    reader.head().await;
    server.ok(&ann, "remove_member", json!({"conversation_id": room, "user_id": bob.id})).await;
    let (mut received, started) = (0, Instant::now());
    // Slower than the interval at which the server asks again, until it had to ask.
    while let Some(more) = reader.drop_some().await {
        received += more;
        if received > 1_000_000 && started.elapsed() < Duration::from_secs(7) {
            tokio::time::sleep(Duration::from_secs(7)).await;
        }
    }
    assert!(received < bytes.len(), "{received} bytes after the removal");
}

#[tokio::test]
async fn the_check_of_files_finds_what_is_missing_damaged_or_nobodys() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut files = Vec::new();
    for text in ["one", "two", "three"] {
        files.push(server.upload(&ann, &room, "a.txt", text.as_bytes()).await.0);
    }
    server.stores(3).await;
    let check = |options: &[&str]| {
        let output = server.run(&[&["files", "check"], options].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(&["--deep"]);
    assert!(code == Some(0) && text.contains("3 contents of 11 bytes checked: 0 findings"), "{text}");

    let stored = |size: u64| {
        let mut found = server.stored_files();
        found.retain(|path| std::fs::metadata(path).unwrap().len() == size);
        found
    };
    let (missing, damaged) = (stored(5).pop().unwrap(), stored(3).pop().unwrap());
    std::fs::remove_file(&missing).unwrap();
    std::fs::write(&damaged, "xyz").unwrap();
    let stray = damaged.with_file_name(format!("{}.99", damaged.file_stem().unwrap().to_str().unwrap()));
    std::fs::write(&stray, "stray").unwrap();
    let database = server.database().await;
    database.execute("UPDATE file_usage SET bytes = 7 WHERE user_id = 0", &[]).await.unwrap();
    let (code, text) = check(&[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("is missing. Files: {}.", files[2])), "{text}");
    assert!(text.contains("is stored, and no file needs it"), "{text}");
    assert!(text.contains("all users are counted as 3 with 7 bytes, and are 3 with 11"), "{text}");
    assert!(!text.contains("other bytes"), "sizes alone do not show it: {text}");
    let (code, text) = check(&["--deep", "--repair"]);
    assert!(code == Some(1) && text.contains("has other bytes than were checked"), "{text}");
    assert!(!stray.exists());
    let (_, text) = check(&[]);
    assert!(text.contains("1 findings, of which 0 were repaired"), "{text}");
}

#[tokio::test]
async fn the_check_of_files_finds_stray_uploads_and_those_that_have_lost_bytes() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let mut uploads = Vec::new();
    for name in ["whole.txt", "short.txt", "lost.txt", "empty.txt"] {
        let file = server.begin_upload(&ann, &json!({"conversation_id": room, "name": name, "size": 10})).await;
        if name != "empty.txt" {
            assert_eq!(server.append_upload(&ann, file, 0, b"12345").await.status(), 204);
        }
        uploads.push(file);
    }
    let check = |options: &[&str]| {
        let output = server.run(&[&["files", "check"], options].concat());
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(&[]);
    assert!(code == Some(0) && text.contains("0 findings"), "{text}");

    let folder = server.data_dir.join("files/uploads");
    std::fs::write(folder.join(uploads[1].to_string()), "123").unwrap();
    std::fs::remove_file(folder.join(uploads[2].to_string())).unwrap();
    let (stray, foreign) = (folder.join("999999"), folder.join("notes.txt"));
    std::fs::write(&stray, "stray").unwrap();
    std::fs::write(&foreign, "of somebody else").unwrap();
    let (code, text) = check(&[]);
    assert!(code == Some(1) && text.contains("3 findings, of which 0 were repaired"), "{text}");
    assert!(text.contains("uploads/999999 has 5 bytes, and no upload"), "{text}");
    for (file, bytes) in [(uploads[1], 3), (uploads[2], 0)] {
        assert!(text.contains(&format!("Upload {file} has {bytes} bytes on the disk, and 5 were")), "{text}");
    }
    let (code, text) = check(&["--repair"]);
    assert!(code == Some(1) && text.contains("3 findings, of which 1 were repaired"), "{text}");
    assert!(!stray.exists() && foreign.exists());
    assert_eq!(server.append_upload(&ann, uploads[0], 5, b"67890").await.status(), 204);
    assert_eq!(server.settled(&ann, uploads[0]).await["state"], "ready");
}

/// A held text names files of somebody else: neither the queue nor a moderator gets anything of them.
#[tokio::test]
async fn a_held_text_shows_nobody_the_files_of_others() {
    let server = start();
    let (ann, eve) = (server.register().await, server.register().await);
    let secret = server.room(&[&ann]).await;
    let (file, _) = server.upload(&ann, &secret, "salaries.txt", b"secret").await;
    let room = server.room(&[&eve]).await;
    set_rules(&server, &eve, &room, json!([words("later", "wait", "hold")])).await;
    let message = json!({"conversation_id": room, "content": "wait", "attachments": [file]});
    assert_eq!(server.call(&eve, "send_message", message).await.unwrap_err()["code"], "filtered");
    let queue: Value = server.send(&eve, "GET", "/moderation/queue", &[], vec![]).await.json().await.unwrap();
    assert_eq!(queue["items"].as_array().unwrap().len(), 1);
    assert!(!queue.to_string().contains("salaries"), "{queue}");
    assert_eq!(server.send(&eve, "GET", &format!("/files/{file}/x"), &[], vec![]).await.status(), 404);
    let database = server.database().await;
    wait_until(&database, "SELECT bool_and(files = '{}') FROM held_messages").await;
}

/// A film whose header claims more pixels than a number of PostgreSQL holds.
#[tokio::test]
async fn a_file_whose_properties_make_no_sense_does_not_wait_forever() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    // EBML of WebM with one video track of 2^32 - 1 × 2^32 - 1 pixels.
    let size = |bytes: Vec<u8>, id: &[u8]| [id, &[0x80 | bytes.len() as u8][..], &bytes].concat();
    let head = size(size(b"webm".to_vec(), &[0x42, 0x82]), &[0x1a, 0x45, 0xdf, 0xa3]);
    let wide = [size(vec![0xff; 4], &[0xb0]), size(vec![0xff; 4], &[0xba])].concat();
    let track = [size(vec![1], &[0xd7]), size(vec![1], &[0x83]), size(wide, &[0xe0])].concat();
    let tracks = size(size(track, &[0xae]), &[0x16, 0x54, 0xae, 0x6b]);
    let film = [head, size(tracks, &[0x18, 0x53, 0x80, 0x67])].concat();
    let (_, shown) = server.upload(&ann, &room, "film.webm", &film).await;
    assert!(shown["state"] != "scanning" && shown["width"].is_null(), "{shown}");
}

#[tokio::test]
async fn a_file_may_be_called_like_a_route() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    for name in ["link", "shares", "variants", "simple"] {
        let (file, _) = server.upload(&ann, &room, name, name.as_bytes()).await;
        let linked: Value =
            server.send(&ann, "POST", &format!("/files/{file}/link"), &[], vec![]).await.json().await.unwrap();
        let read = reqwest::get(format!("{}{}", server.base_url, linked["url"].as_str().unwrap())).await.unwrap();
        assert_eq!((read.status().as_u16(), read.text().await.unwrap().as_str()), (200, name));
    }
}
