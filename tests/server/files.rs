//! Files: uploads that go on where they stopped, names and types that deceive nobody, and access that ends at once.
//!
//! How: an upload goes over HTTP as tus 1.0 says; the log and the notices come over a WebSocket.

use crate::filter::{set_rules, words};
use crate::support::{Client, Format, PATIENCE, Server, User, wait_until};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use std::time::Instant;

fn start() -> Server {
    Server::start(2, &[("features.file_uploads", "true")])
}

fn picture(width: u32, height: u32) -> Vec<u8> {
    let mut out = std::io::Cursor::new(Vec::new());
    image::RgbImage::new(width, height).write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

fn field(headers: &HeaderMap, name: &str) -> String {
    headers[name].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_upload_goes_on_at_its_offset_and_comes_back_equal() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let file =
        server.begin_upload(&ann, &json!({"conversation_id": room, "name": "numbers.bin", "size": bytes.len()})).await;
    let mut at = 0;
    for length in [1, 5_000_000, 300_000, bytes.len()] {
        let end = (at + length).min(bytes.len());
        let response = server.append_upload(&ann, file, at, &bytes[at..end]).await;
        assert_eq!((response.status().as_u16(), field(response.headers(), "upload-offset")), (204, end.to_string()));
        at = end;
        let head = server.send(&ann, "HEAD", &format!("/files/{file}"), &[], vec![]).await;
        assert_eq!(field(head.headers(), "upload-offset"), at.to_string());
        assert_eq!(field(head.headers(), "upload-length"), bytes.len().to_string());
    }
    assert_eq!(server.append_upload(&ann, file, at, b"").await.status(), 409, "it is complete");
    let shown = server.settled(&ann, file).await;
    assert_eq!((&shown["state"], &shown["media_type"]), (&json!("ready"), &json!("application/octet-stream")));
    let path = format!("/files/{file}/numbers.bin");
    assert_eq!(server.send(&bob, "GET", &path, &[], vec![]).await.status(), 404, "no message has it");

    let mut subscriber = Client::all(&server, &bob, Format::Json).await;
    let sent = server.ok(&ann, "send_message", json!({"conversation_id": room, "attachments": [file]})).await;
    let event = subscriber.event("message_created").await;
    let expected = json!([{"file_id": file, "name": "numbers.bin", "media_type": "application/octet-stream",
        "size": bytes.len(), "state": "ready"}]);
    assert_eq!((&event["attachments"], &event["content"]), (&expected, &json!("")));
    let page = server.ok(&bob, "get_history", json!({"conversation_id": room})).await;
    let found = page["messages"].as_array().unwrap().iter().find(|m| m["message_id"] == sent["message_id"]).unwrap();
    assert_eq!(found["attachments"], expected);

    let whole = server.send(&bob, "GET", &path, &[], vec![]).await;
    let tag = field(whole.headers(), "etag");
    assert_eq!(field(whole.headers(), "x-content-type-options"), "nosniff");
    assert!(field(whole.headers(), "content-security-policy").contains("sandbox"));
    assert!(field(whole.headers(), "content-disposition").starts_with("attachment"));
    assert!(whole.bytes().await.unwrap() == bytes);
    let part = server.send(&bob, "GET", &path, &[("range", "bytes=4000000-4000007")], vec![]).await;
    assert_eq!(
        (part.status().as_u16(), field(part.headers(), "content-range")),
        (206, format!("bytes 4000000-4000007/{}", bytes.len()))
    );
    assert_eq!(part.bytes().await.unwrap(), bytes[4_000_000..4_000_008]);
    let same = server.send(&bob, "GET", &path, &[("if-none-match", &tag)], vec![]).await;
    assert_eq!(same.status(), 304);
    let head = server.send(&bob, "HEAD", &path, &[], vec![]).await;
    assert_eq!(field(head.headers(), "content-length"), bytes.len().to_string());
    let beyond = server.send(&bob, "GET", &path, &[("range", "bytes=12000000-")], vec![]).await;
    assert_eq!(beyond.status(), 416);
}

#[tokio::test]
async fn speaks_tus() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let options = server.send(&ann, "OPTIONS", "/files", &[], vec![]).await;
    assert_eq!(field(options.headers(), "tus-extension"), "creation,expiration,checksum,termination");
    assert_eq!(field(options.headers(), "tus-max-size"), (100 * 1024 * 1024).to_string());
    let metadata = format!("filename aGkudHh0,filetype dGV4dC9wbGFpbg==,conversation_id {}", base64(&room));
    let fields = [("tus-resumable", "1.0.0"), ("upload-length", "5"), ("upload-metadata", &*metadata)];
    let created = server.send(&ann, "POST", "/files", &fields, vec![]).await;
    assert_eq!(created.status(), 201);
    let at = field(created.headers(), "location");
    let file: i64 = at.rsplit('/').next().unwrap().parse().unwrap();
    let patch = |offset: &'static str, checksum: &'static str| {
        let fields = [
            ("content-type", "application/offset+octet-stream"),
            ("upload-offset", offset),
            ("upload-checksum", checksum),
        ];
        let (server, ann, at) = (&server, &ann, &at);
        async move { server.send(ann, "PATCH", at, &fields, b"hello".to_vec()).await }
    };
    assert_eq!(patch("0", "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=").await.status(), 460);
    assert_eq!(patch("0", "md5 AAAAAAAAAAAAAAAAAAAAAA==").await.status(), 400);
    assert_eq!(patch("3", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=").await.status(), 409);
    let head = server.send(&ann, "HEAD", &at, &[], vec![]).await;
    assert_eq!(field(head.headers(), "upload-offset"), "0", "nothing of the wrong bodies was kept");
    assert!(field(head.headers(), "upload-expires").ends_with("GMT"));
    assert_eq!(patch("0", "sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=").await.status(), 204);
    assert_eq!(server.settled(&ann, file).await["media_type"], "text/plain");
    for (fields, status) in [
        (vec![("tus-resumable", "0.2.2"), ("upload-length", "5")], 412),
        (vec![("upload-length", "-1")], 400),
        (vec![("upload-length", "9223372036854775808"), ("upload-metadata", &*metadata)], 413),
        (vec![("upload-length", "104857601"), ("upload-metadata", &*metadata)], 413),
        (vec![("upload-length", "5")], 400),
        (vec![("upload-length", "5"), ("upload-metadata", "conversation_id %%%")], 400),
        (vec![("upload-defer-length", "1"), ("upload-metadata", &*metadata)], 400),
    ] {
        let response = server.send(&ann, "POST", "/files", &fields, vec![]).await;
        assert_eq!(response.status(), status, "{fields:?}");
    }
    assert_eq!(server.send(&ann, "PATCH", &at, &[("upload-offset", "0")], vec![]).await.status(), 415);
    assert_eq!(server.send(&bob, "HEAD", &at, &[], vec![]).await.status(), 404, "of another user");
    assert_eq!(server.send(&bob, "DELETE", &at, &[], vec![]).await.status(), 404);
    assert_eq!(server.send(&ann, "DELETE", &at, &[], vec![]).await.status(), 204);
    assert_eq!(server.send(&ann, "HEAD", &at, &[], vec![]).await.status(), 404);
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[tokio::test]
async fn a_form_uploads_a_file_in_one_request() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let form = |first: &str, second: &str| format!("--x\r\n{first}\r\n--x\r\n{second}\r\n--x--\r\n").into_bytes();
    let place = format!("content-disposition: form-data; name=\"conversation_id\"\r\n\r\n{room}");
    let file = "content-disposition: form-data; name=\"file\"; filename=\"../../etc/h\u{202e}i.txt\"\r\n\
                content-type: text/plain\r\n\r\nhello";
    let fields = [("content-type", "multipart/form-data; boundary=x")];
    let response = server.send(&ann, "POST", "/files/simple", &fields, form(&place, file)).await;
    assert_eq!(response.status(), 201);
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["name"], "hi.txt");
    let id = answer["file_id"].as_i64().unwrap();
    assert_eq!(server.settled(&ann, id).await["size"], 5);
    let read = server.send(&ann, "GET", &format!("/files/{id}/hi.txt"), &[], vec![]).await;
    assert_eq!(field(read.headers(), "content-type"), "text/plain; charset=utf-8");
    assert!(field(read.headers(), "content-disposition").starts_with("inline"));
    assert_eq!(read.bytes().await.unwrap(), "hello");
    for body in [form(file, &place), form(&place, "content-disposition: form-data; name=\"other\"\r\n\r\nx"), vec![]] {
        let response = server.send(&ann, "POST", "/files/simple", &fields, body).await;
        assert_eq!(response.status(), 400);
    }
}

#[tokio::test]
async fn what_is_not_what_it_claims_fails_and_its_uploader_learns_why() {
    let server = start();
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let png = picture(256, 128);
    let bomb = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x01\x86\xa0\0\x01\x86\xa0\x08\x06\0\0\0";
    let mut notices = Client::all(&server, &ann, Format::MessagePack).await;
    let program = "application/vnd.microsoft.portable-executable";
    let wrong = |extension: &str, media_type: &str| {
        let reason = "wrong_extension";
        json!({"reason": reason, "extension": extension, "media_type": media_type})
    };
    for (name, bytes, media_type, failure) in [
        ("a.png", &png[..], "image/png", Value::Null),
        ("b.pdf", b"MZ\x90\0\x03", program, wrong("pdf", program)),
        ("c.png", b"<script>alert(1)</script>", "text/plain", wrong("png", "text/plain")),
        ("d.html", b"<script>alert(1)</script>", "text/html", Value::Null),
        ("e.png", bomb, "image/png", json!({"reason": "too_many_pixels", "width": 100_000, "height": 100_000})),
        ("f.txt", b"", "text/plain", Value::Null),
    ] {
        let state = if failure.is_null() { "ready" } else { "failed" };
        let (file, shown) = server.upload(&ann, &room, name, bytes).await;
        assert_eq!(shown.get("failure").unwrap_or(&Value::Null), &failure, "{name}");
        assert_eq!((&shown["media_type"], &shown["state"]), (&json!(media_type), &json!(state)), "{name}: {shown}");
        let notice = notices.event("file_updated").await;
        assert_eq!((&notice["file"]["file_id"], &notice["file"]["state"]), (&json!(file), &json!(state)));
        assert_eq!(notice["reason"].is_string(), state == "failed", "{notice}");
        assert_eq!(notice.get("failure").unwrap_or(&Value::Null), &failure, "{name}");
        let read = server.send(&ann, "GET", &format!("/files/{file}/{name}"), &[], vec![]).await;
        assert_eq!(read.status(), if state == "ready" { 200 } else { 404 }, "{name}");
        if name == "d.html" {
            assert!(field(read.headers(), "content-disposition").starts_with("attachment"));
        }
        if name == "a.png" {
            assert_eq!((&shown["width"], &shown["height"]), (&json!(256), &json!(128)));
        }
        if state == "failed" {
            let message = json!({"conversation_id": room, "content": "x", "attachments": [file]});
            assert_eq!(server.call(&ann, "send_message", message).await.unwrap_err()["code"], "not_found");
        }
    }
    let wrong = json!({"conversation_id": room, "name": "x", "size": 1, "sha256": "00".repeat(32)});
    let file = server.begin_upload(&ann, &wrong).await;
    assert_eq!(server.append_upload(&ann, file, 0, b"x").await.status(), 204);
    let shown = server.settled(&ann, file).await;
    assert!(shown["state"] == "failed" && shown["reason"].as_str().unwrap().contains("SHA-256"), "{shown}");
    assert_eq!(shown["failure"], json!({"reason": "wrong_hash"}));
}

#[tokio::test]
async fn access_ends_with_the_message_and_the_membership_and_nothing_is_left() {
    let server = start();
    let (ann, bob, eve) = (server.register().await, server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let (file, _) = server.upload(&ann, &room, "plan.txt", b"a secret plan").await;
    let (twin, _) = server.upload(&ann, &room, "copy.txt", b"a secret plan").await;
    let sent = server
        .ok(&ann, "send_message", json!({"conversation_id": room, "content": "see", "attachments": [file, twin]}))
        .await;
    let path = format!("/files/{file}/plan.txt");
    assert_eq!(server.send(&eve, "GET", &path, &[], vec![]).await.status(), 404);
    let linked: Value =
        server.send(&bob, "POST", &format!("/files/{file}/link"), &[], vec![]).await.json().await.unwrap();
    let link = format!("{}{}", server.base_url, linked["url"].as_str().unwrap());
    let by_link = async |link: &str| reqwest::get(link).await.unwrap().status().as_u16();
    assert_eq!(by_link(&link).await, 200);
    assert_eq!(by_link(&link.replace("sig=", "sig=1")).await, 404);
    assert_eq!(by_link(&link.replace(&format!("/files/{file}/"), &format!("/files/{twin}/"))).await, 404);
    assert_eq!(reqwest::get(link.split('?').next().unwrap()).await.unwrap().status(), 401);

    server.ok(&bob, "leave_conversation", json!({"conversation_id": room})).await;
    assert_eq!(server.send(&bob, "GET", &path, &[], vec![]).await.status(), 404);
    assert_eq!(by_link(&link).await, 404, "a link is no more than its user's permission");
    assert_eq!(server.send(&ann, "GET", &path, &[], vec![]).await.status(), 200);
    let deleted = server.send(&ann, "DELETE", &format!("/files/{file}"), &[], vec![]).await;
    assert_eq!(deleted.status(), 409, "{}", server.log_tail());

    server.ok(&ann, "delete_message", json!({"message_id": sent["message_id"]})).await;
    assert_eq!(server.send(&ann, "GET", &path, &[], vec![]).await.status(), 404);
    server.stores(0).await;
    let database = server.database().await;
    let nothing_is_left = "SELECT NOT EXISTS (SELECT FROM files) AND NOT EXISTS (SELECT FROM blobs) \
                           AND NOT EXISTS (SELECT FROM jobs) AND (SELECT sum(bytes) = 0 FROM file_usage)";
    wait_until(&database, nothing_is_left).await;
}

#[tokio::test]
async fn a_message_takes_only_files_of_its_sender_in_its_conversation() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let (room, other) = (server.room(&[&ann, &bob]).await, server.room(&[&ann]).await);
    let (mine, _) = server.upload(&ann, &room, "a.txt", b"1").await;
    let (elsewhere, _) = server.upload(&ann, &other, "b.txt", b"2").await;
    let (his, _) = server.upload(&bob, &room, "c.txt", b"3").await;
    let unfinished = server.begin_upload(&ann, &json!({"conversation_id": room, "name": "d", "size": 9})).await;
    for (attachments, expected) in [
        (json!([elsewhere]), "not_found"),
        (json!([mine, his]), "not_found"),
        (json!([unfinished]), "not_found"),
        (json!([999_999_999]), "not_found"),
        (json!([mine, mine]), "bad_request"),
        (json!([0]), "bad_request"),
        (json!("x"), "bad_request"),
        (json!((1..12).collect::<Vec<_>>()), "bad_request"),
    ] {
        let message = json!({"conversation_id": room, "content": "x", "attachments": attachments});
        let refused = server.call(&ann, "send_message", message).await.unwrap_err();
        assert_eq!(refused["code"], expected, "{attachments}: {refused}");
    }
    assert_eq!(
        server.call(&ann, "send_message", json!({"conversation_id": room})).await.unwrap_err()["code"],
        "bad_request"
    );
    let key = json!({"conversation_id": room, "attachments": [mine], "client_message_id": "once"});
    let first = server.ok(&ann, "send_message", key.clone()).await;
    assert_eq!(server.ok(&ann, "send_message", key).await["message_id"], first["message_id"]);
    let page = server.ok(&bob, "get_history", json!({"conversation_id": room})).await;
    assert_eq!(page["messages"].as_array().unwrap().last().unwrap()["attachments"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn uploads_are_bounded_per_user_and_need_the_right_to_write() {
    let server = Server::start(
        2,
        &[
            ("features.file_uploads", "true"),
            ("files.unfinished_uploads", "3"),
            ("files.uploads_per_hour", "5"),
            ("files.user_quota", "1000"),
        ],
    );
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let begin = async |user: &User, size: i64| {
        let given = json!({"conversation_id": room, "name": "x", "size": size}).to_string();
        let response = server.send(user, "POST", "/files", &[], given.into_bytes()).await;
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap())
    };
    let refused = begin(&ann, 1_001).await.1;
    assert_eq!((&refused["code"], &refused["details"]["reason"]), (&json!("quota_exceeded"), &json!("user_quota")));
    assert_eq!(begin(&ann, i64::MAX).await.1["details"]["reason"], "too_large");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (status, answer) = begin(&ann, 10).await;
        assert_eq!(status, 201, "{answer}");
        ids.push(answer["file_id"].as_i64().unwrap());
    }
    let (status, refused) = begin(&ann, 10).await;
    assert!(status == 429 && refused["detail"].as_str().unwrap().contains("unfinished"), "{refused}");
    assert_eq!(refused["details"], json!({"reason": "too_many_unfinished"}));
    let long = server.append_upload(&ann, ids[0], 0, b"more than ten").await;
    assert_eq!(long.json::<Value>().await.unwrap()["details"], json!({"reason": "too_many_bytes"}));
    assert_eq!(begin(&bob, 10).await.0, 201, "others are not affected");
    for id in ids {
        assert_eq!(server.send(&ann, "DELETE", &format!("/files/{id}"), &[], vec![]).await.status(), 204);
    }
    assert_eq!((begin(&ann, 1).await.0, begin(&ann, 1).await.0), (201, 201));
    assert_eq!(begin(&ann, 1).await.1["details"], json!({"reason": "too_many_uploads"}));
    server.ok(&ann, "mute_member", json!({"conversation_id": room, "user_id": bob.id, "duration_s": 600})).await;
    assert_eq!(begin(&bob, 10).await.1["code"], "muted");
    server.ok(&ann, "remove_member", json!({"conversation_id": room, "user_id": bob.id})).await;
    assert!(matches!(begin(&bob, 10).await.1["code"].as_str(), Some("not_found" | "not_member")));
}

/// In PostgreSQL; the places are counted in `control::jobs`. The server takes no jobs of this kind.
#[tokio::test]
async fn jobs_of_users_who_have_enough_running_are_passed_over() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let database = server.database().await;
    let add = "INSERT INTO jobs (kind, subject, owner_id, next_at) \
               SELECT 'test', n::text, CASE WHEN n < 4 THEN 7 WHEN n = 4 THEN 8 END, to_timestamp(n) \
                 FROM generate_series(1, 5) n";
    database.execute(add, &[]).await.unwrap();
    let claim = async |passed_over: &[i64]| {
        let sql = "SELECT subject FROM claim_job(ARRAY['test'], $1, 60)";
        let rows = database.query(sql, &[&passed_over]).await.unwrap();
        rows.first().map(|row| row.get::<_, String>(0))
    };
    assert_eq!(claim(&[]).await.as_deref(), Some("1"));
    assert_eq!(claim(&[7]).await.as_deref(), Some("4"));
    assert_eq!(claim(&[7, 8]).await.as_deref(), Some("5"), "a job of no user is never passed over");
    assert_eq!(claim(&[7]).await, None);
    assert_eq!(claim(&[8]).await.as_deref(), Some("2"));

    // A check belongs to its uploader.
    let hold = "CREATE FUNCTION pg_temp_hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                NEW.next_at := 'infinity'; RETURN NEW; END $$; \
                CREATE TRIGGER hold BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION pg_temp_hold()";
    database.batch_execute(hold).await.unwrap();
    let file = server.begin_upload(&bob, &json!({"conversation_id": room, "name": "x", "size": 1})).await;
    assert_eq!(server.append_upload(&bob, file, 0, b"x").await.status(), 204);
    let owner = "SELECT owner_id FROM jobs WHERE kind = 'check_file' AND subject = $1";
    let row = database.query_one(owner, &[&file.to_string()]).await.unwrap();
    assert_eq!(row.get::<_, Option<i64>>(0), Some(bob.id));
}

#[tokio::test]
async fn nothing_is_uploaded_where_the_feature_is_off() {
    let server = Server::start(1, &[("features.file_uploads", "false")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let given = json!({"conversation_id": room, "name": "x", "size": 1}).to_string();
    let response = server.send(&ann, "POST", "/files", &[], given.into_bytes()).await;
    assert_eq!(response.status(), 403);
    let message = json!({"conversation_id": room, "content": "x", "attachments": [1]});
    assert_eq!(server.call(&ann, "send_message", message).await.unwrap_err()["code"], "forbidden");
}

#[tokio::test]
async fn an_edit_removes_files_and_adds_none() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let (first, _) = server.upload(&ann, &room, "first.txt", b"1").await;
    let (second, _) = server.upload(&ann, &room, "second.txt", b"2").await;
    let (other, _) = server.upload(&ann, &room, "other.txt", b"3").await;
    let mut subscriber = Client::all(&server, &bob, Format::Json).await;
    let sent = json!({"conversation_id": room, "content": "two", "attachments": [first, second]});
    let message = server.ok(&ann, "send_message", sent).await["message_id"].clone();
    let edit = async |data: Value| server.call(&ann, "edit_message", data).await;
    for (data, code) in [
        (json!({"message_id": message, "content": "x", "attachments": [first, other]}), "bad_request"),
        (json!({"message_id": message, "content": "", "attachments": []}), "bad_request"),
        (json!({"message_id": message, "attachments": []}), "bad_request"),
        (json!({"message_id": message, "content": "x", "attachments": [first, first]}), "bad_request"),
    ] {
        assert_eq!(edit(data.clone()).await.unwrap_err()["code"], code, "{data}");
    }
    let unchanged =
        edit(json!({"message_id": message, "content": "two", "attachments": [second, first]})).await.unwrap();
    assert_eq!(unchanged["edited_at"], Value::Null);
    edit(json!({"message_id": message, "content": "one", "attachments": [second]})).await.unwrap();
    let event = subscriber.event("message_edited").await;
    assert_eq!((&event["content"], event["attachments"].as_array().unwrap().len()), (&json!("one"), 1));
    assert_eq!(event["attachments"][0]["file_id"], json!(second));
    let read =
        async |file: i64| server.send(&bob, "GET", &format!("/files/{file}/x"), &[], vec![]).await.status().as_u16();
    assert_eq!((read(first).await, read(second).await), (404, 200));
    edit(json!({"message_id": message, "attachments": [second]})).await.unwrap();
    assert_eq!(subscriber.event("message_edited").await["content"], "");
    edit(json!({"message_id": message, "content": "text only", "attachments": []})).await.unwrap();
    assert_eq!(subscriber.event("message_edited").await["attachments"], json!([]));
    assert_eq!(read(second).await, 404);
    server.stores(1).await; // the other one
}

#[tokio::test]
async fn the_search_finds_names_of_files_and_pictures() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let png = picture(256, 128);
    let (report, _) = server.upload(&ann, &room, "Quarterly Report.txt", b"1").await;
    let (picture, _) = server.upload(&ann, &room, "sunset", &png).await;
    for (content, files) in [("see", vec![report]), ("", vec![picture]), ("a report without file", vec![])] {
        let message = json!({"conversation_id": room, "content": content, "attachments": files});
        server.ok(&ann, "send_message", message).await;
    }
    let search = async |data: Value, expected: usize| {
        let started = Instant::now();
        loop {
            let page = server.ok(&bob, "search_messages", data.clone()).await;
            let found = page["messages"].as_array().or_else(|| page["items"].as_array()).unwrap().clone();
            // The index follows the messages.
            if found.len() == expected {
                return found;
            }
            assert!(started.elapsed() < PATIENCE, "{data}: {page}");
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    search(json!({"query": "report"}), 2).await;
    let found = search(json!({"query": "report", "has": "file"}), 1).await;
    assert_eq!(found[0]["attachments"][0]["file_id"], json!(report));
    let found = search(json!({"query": "sunset", "has": "image"}), 1).await;
    assert_eq!(found[0]["attachments"][0]["file_id"], json!(picture));
    search(json!({"query": "quarterly", "has": "image"}), 0).await;
    server
        .ok(&ann, "edit_message", json!({"message_id": found[0]["message_id"], "content": "gone", "attachments": []}))
        .await;
    search(json!({"query": "sunset"}), 0).await;
}

#[tokio::test]
async fn lists_the_messages_with_files_page_by_page_without_a_query() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let (other, secret) = (server.room(&[&ann, &bob]).await, server.room(&[&ann]).await);
    let png = picture(64, 64);
    let mut sent = Vec::new();
    for (author, place, name) in [
        (&ann, &room, "one.txt"),
        (&bob, &room, "two.png"),
        (&ann, &other, "three.txt"),
        (&ann, &secret, "four.txt"),
        (&ann, &room, "five.png"),
        (&ann, &room, "gone.txt"),
    ] {
        let bytes = if name.ends_with("png") { &png[..] } else { name.as_bytes() };
        let (file, _) = server.upload(author, place, name, bytes).await;
        let message = json!({"conversation_id": place, "content": format!("here is {name}"), "attachments": [file]});
        let ack = server.ok(author, "send_message", message).await;
        sent.push(ack["message_id"].as_i64().unwrap());
        server.ok(author, "send_message", json!({"conversation_id": place, "content": "no file"})).await;
    }
    server.ok(&ann, "delete_message", json!({"message_id": sent[5]})).await;
    let indexed = "SELECT NOT EXISTS (SELECT FROM messages m LEFT JOIN search_progress p USING (conversation_id) \
                   WHERE m.seq > coalesce(p.indexed_seq, 0))";
    wait_until(&server.database().await, indexed).await;
    let all = async |user: &User, mut data: Value| {
        let mut found = Vec::new();
        loop {
            let page = server.ok(user, "search_messages", data.clone()).await;
            for message in page["messages"].as_array().unwrap() {
                assert_eq!(message["highlight"], message["content"]);
                found.push(sent.iter().position(|id| message["message_id"] == *id).unwrap() + 1);
            }
            match page.get("next_cursor") {
                None => return found,
                Some(cursor) => data["cursor"] = cursor.clone(),
            }
        }
    };
    for (data, expected) in [
        (json!({"has": "file"}), vec![5, 3, 2, 1]),
        (json!({"has": "file", "limit": 1}), vec![5, 3, 2, 1]),
        (json!({"has": "file", "query": "", "conversation_id": room, "limit": 2}), vec![5, 2, 1]),
        (json!({"has": "image", "query": null, "limit": 1}), vec![5, 2]),
        (json!({"has": "file", "from_user_id": bob.id}), vec![2]),
        (json!({"has": "file", "before": "2020-01-01T00:00:00Z"}), vec![]),
        (json!({"has": "image", "conversation_id": other}), vec![]),
        // Words, as before.
        (json!({"has": "file", "query": "three"}), vec![3]),
        // A query without a word is not a list.
        (json!({"has": "file", "query": "'*"}), vec![]),
    ] {
        assert_eq!(all(&bob, data.clone()).await, expected, "{data}");
    }
    assert_eq!(all(&ann, json!({"has": "file"})).await, [5, 4, 3, 2, 1]);
    let refused = server.call(&bob, "search_messages", json!({"has": "file", "conversation_id": secret})).await;
    assert_eq!(refused.unwrap_err()["code"], "not_found");
}

/// Approves the only text of the queue.
async fn approve_held(server: &Server, moderator: &User) {
    let queue: Value = server.send(moderator, "GET", "/moderation/queue", &[], vec![]).await.json().await.unwrap();
    assert_eq!(queue["items"].as_array().unwrap().len(), 1, "{queue}");
    let approve = format!("/moderation/queue/{}/approve", queue["items"][0]["id"]);
    assert_eq!(server.send(moderator, "POST", &approve, &[], vec![]).await.status(), 200);
}

#[tokio::test]
async fn an_approved_edit_removes_the_files_that_it_was_sent_to_remove() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    set_rules(&server, &ann, &room, json!([words("later", "wait", "hold")])).await;
    let mut files = Vec::new();
    for name in ["one.txt", "two.txt", "three.txt"] {
        files.push(server.upload(&bob, &room, name, name.as_bytes()).await.0);
    }
    let sent = json!({"conversation_id": room, "content": "three files", "attachments": files});
    let message = server.ok(&bob, "send_message", sent).await["message_id"].clone();
    let edit = async |content: &str, kept: Option<&[i64]>| {
        let mut data = json!({"message_id": message, "content": content});
        if let Some(kept) = kept {
            data["attachments"] = json!(kept);
        }
        server.call(&bob, "edit_message", data).await
    };
    let shown = async || {
        let page = server.ok(&ann, "get_history", json!({"conversation_id": room})).await;
        let last = page["messages"].as_array().unwrap().last().unwrap().clone();
        let files: Vec<i64> =
            last["attachments"].as_array().unwrap().iter().map(|file| file["file_id"].as_i64().unwrap()).collect();
        (last["content"].as_str().unwrap().to_owned(), files)
    };
    let held = edit("two of them wait", Some(&[files[0], files[1]])).await.unwrap_err();
    assert!(held["code"] == "filtered" && held["details"]["held"] == true, "{held}");
    assert_eq!(shown().await, ("three files".to_owned(), files.clone()), "nothing changes before the approval");
    // Another edit removes a file that the held one keeps.
    edit("without the first", Some(&files[1..])).await.unwrap();
    approve_held(&server, &ann).await;
    assert_eq!(shown().await, ("two of them wait".to_owned(), vec![files[1]]));
    let read = server.send(&ann, "GET", &format!("/files/{}/x", files[2]), &[], vec![]).await;
    assert_eq!(read.status(), 404, "the removed file is gone");

    edit("the text alone may wait", None).await.unwrap_err();
    approve_held(&server, &ann).await;
    assert_eq!(
        shown().await,
        ("the text alone may wait".to_owned(), vec![files[1]]),
        "an edit without a list keeps all"
    );
    edit("wait without any", Some(&[])).await.unwrap_err();
    approve_held(&server, &ann).await;
    assert_eq!(shown().await, ("wait without any".to_owned(), vec![]));
}

#[tokio::test]
async fn a_held_message_keeps_its_files() {
    let server = start();
    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    set_rules(&server, &ann, &room, json!([words("later", "wait", "hold")])).await;
    let (file, _) = server.upload(&bob, &room, "held.txt", b"held").await;
    let message = json!({"conversation_id": room, "content": "please wait", "attachments": [file]});
    let refused = server.call(&bob, "send_message", message).await.unwrap_err();
    assert!(refused["code"] == "filtered" && refused["details"]["held"] == true, "{refused}");
    let queue: Value = server.send(&ann, "GET", "/moderation/queue", &[], vec![]).await.json().await.unwrap();
    assert_eq!(queue["items"][0]["attachments"][0]["name"], "held.txt", "{queue}");
    let read =
        async |user: &User| server.send(user, "GET", &format!("/files/{file}/x"), &[], vec![]).await.status().as_u16();
    assert_eq!(read(&ann).await, 200, "the moderator looks at it");
    let carl = server.register().await;
    server.ok(&ann, "invite_member", json!({"conversation_id": room, "user_id": carl.id})).await;
    assert_eq!(read(&carl).await, 404, "other members do not");
    assert_eq!(server.send(&bob, "DELETE", &format!("/files/{file}"), &[], vec![]).await.status(), 409);
    let approve = format!("/moderation/queue/{}/approve", queue["items"][0]["id"]);
    assert_eq!(server.send(&ann, "POST", &approve, &[], vec![]).await.status(), 200);
    let page = server.ok(&ann, "get_history", json!({"conversation_id": room})).await;
    let last = page["messages"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["content"], &last["attachments"][0]["file_id"]), (&json!("please wait"), &json!(file)));
}
