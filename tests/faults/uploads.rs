//! Uploads across crashes: what was acknowledged is there, and the rest comes after it, once.
//!
//! How: `kill -9` between and within the requests of an upload, and while files are being checked.

use crate::support::{PATIENCE, Server};
use serde_json::json;
use std::time::{Duration, Instant};

const SIZE: usize = 40 * 1024 * 1024;

#[tokio::test]
async fn an_upload_survives_crashes_between_and_within_its_requests() {
    // The next process takes a killed process's job when its lease has ended.
    let server = Server::start(1, &[("features.file_uploads", "true")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let bytes: Vec<u8> = (0..SIZE as u32 / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let given = json!({"conversation_id": room, "name": "large.bin", "size": SIZE});
    let file = server.begin_upload(&ann, &given).await;
    let mut acknowledged = 0;
    let mut interrupted = 0;
    for round in 0..8_u64 {
        let at = server.upload_offset(&ann, file).await;
        assert!(at >= acknowledged && at <= SIZE, "{at} bytes after {acknowledged} were acknowledged");
        if at == SIZE {
            break;
        }
        let end = (at + 3 * 1024 * 1024).min(SIZE);
        assert_eq!(server.appending(&ann, file, at, bytes[at..end].to_vec()).send().await.unwrap().status(), 204);
        acknowledged = end;
        if round % 2 == 0 {
            // In the middle of the rest.
            let rest = server.appending(&ann, file, end, bytes[end..].to_vec());
            let sending = tokio::spawn(rest.send());
            tokio::time::sleep(Duration::from_millis(20 + 15 * round)).await;
            server.kill9();
            interrupted += usize::from(sending.await.unwrap().is_err());
        } else {
            server.kill9();
        }
        server.start_again();
    }
    assert!(interrupted > 0, "no request was interrupted");
    let at = server.upload_offset(&ann, file).await;
    if at < SIZE {
        assert_eq!(server.appending(&ann, file, at, bytes[at..].to_vec()).send().await.unwrap().status(), 204);
    }
    assert_eq!(server.settled(&ann, file).await["state"], "ready");
    let url = format!("{}/files/{file}/large.bin", server.base_url);
    let read = reqwest::Client::new().get(url).bearer_auth(&ann.token).send().await.unwrap();
    assert!(read.bytes().await.unwrap() == bytes, "the bytes come back equal");
}

#[tokio::test]
async fn a_client_that_is_cut_off_goes_on_where_it_was() {
    use tokio::io::AsyncWriteExt as _;
    let server = Server::start(1, &[("features.file_uploads", "true")]);
    let ann = server.register().await;
    let room = server.room(&[&ann]).await;
    let given = json!({"conversation_id": room, "name": "cut.bin", "size": 1_000_000});
    let file = server.begin_upload(&ann, &given).await;
    let head = |at: usize| {
        format!(
            "PATCH /files/{file} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\nupload-offset: {at}\r\n\
             content-type: application/offset+octet-stream\r\ncontent-length: {}\r\n\r\n",
            ann.token,
            1_000_000 - at
        )
    };
    let mut at = 0;
    for part in [1, 70_000, 300_000] {
        let mut socket = tokio::net::TcpStream::connect(server.address).await.unwrap();
        socket.write_all(head(at).as_bytes()).await.unwrap();
        socket.write_all(&vec![7; part]).await.unwrap();
        socket.flush().await.unwrap();
        drop(socket);
        let started = Instant::now();
        // The server may still be keeping what came.
        while server.upload_offset(&ann, file).await < at + part {
            assert!(started.elapsed() < PATIENCE, "{} of {}", server.upload_offset(&ann, file).await, at + part);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        at += part;
        assert_eq!(server.upload_offset(&ann, file).await, at);
    }
    // A client that is still connected and sends nothing is ended by the next request.
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    silent.write_all(head(at).as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let response = server.appending(&ann, file, at, vec![7; 1_000_000 - at]).send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(server.settled(&ann, file).await["state"], "ready");
}
