//! Requests as RFC 9112 allows them, on the one port that a shard and the control plane share: the form of the target, the
//! host, and a client that closes its sending half.
//!
//! How: bytes on a TCP connection, and the status of the answer.
#![cfg(feature = "test-db")]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use support::{PATIENCE, Raw, Server, User, server};

/// The answer to these bytes, read to its end; with `half_close`, the client says at once that it sends no more.
fn answer(server: &Server, request: &str, half_close: bool) -> String {
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    if half_close {
        stream.shutdown(Shutdown::Write).unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn me(target: &str, fields: &str, ann: &User) -> String {
    format!("GET {target} HTTP/1.1\r\n{fields}Authorization: Bearer {}\r\nConnection: close\r\n\r\n", ann.token)
}

#[tokio::test]
async fn accepts_targets_in_absolute_form() {
    let server = server().await;
    let ann = server.register().await;
    let address = server.address;
    for scheme in ["ws", "http", "WS"] {
        let head =
            Raw::upgrade_head(&ann, "veza.v1.json").replacen("GET /ws", &format!("GET {scheme}://{address}/ws"), 1);
        // The origin is compared with the target's host, which overrides the Host header.
        let head = head.replacen("Upgrade: ", &format!("Origin: http://{address}\r\nUpgrade: "), 1);
        let mut raw = Raw::connect(server).await;
        raw.write(head.as_bytes()).await.unwrap();
        let answered = raw.head().await;
        assert!(answered.starts_with("HTTP/1.1 101 "), "{scheme}: {answered}");
    }
    let answered = answer(server, &me(&format!("http://{address}/users/me"), "Host: test\r\n", &ann), false);
    assert!(answered.starts_with("HTTP/1.1 200 ") && answered.contains(&ann.name), "{answered}");
}

#[tokio::test]
async fn refuses_requests_that_do_not_name_one_host() {
    let server = server().await;
    let ann = server.register().await;
    let upgrade = Raw::upgrade_head(&ann, "veza.v1.json");
    for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n"] {
        for request in [upgrade.replacen("Host: test\r\n", fields, 1), me("/users/me", fields, &ann)] {
            let answered = answer(server, &request, false);
            assert!(answered.starts_with("HTTP/1.1 400 ") && answered.contains("Host header"), "{request}\n{answered}");
        }
        // Later requests of a connection reach the control plane without a shard.
        let first = "GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n";
        let answered = answer(server, &format!("{first}{}", me("/users/me", fields, &ann)), false);
        assert!(answered.starts_with("HTTP/1.1 200 ") && answered.contains("}HTTP/1.1 400 "), "{answered}");
    }
    let old = answer(server, "GET /health/live HTTP/1.0\r\n\r\n", false);
    assert!(old.starts_with("HTTP/1.0 200 ") || old.starts_with("HTTP/1.1 200 "), "HTTP/1.0 knows no Host: {old}");
}

#[tokio::test]
async fn answers_clients_that_close_their_sending_half() {
    let server = server().await;
    let ann = server.register().await;
    let body = format!(r#"{{"login":"{}","password":"{}"}}"#, ann.name, support::PASSWORD);
    let login = format!("POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for request in [login, me("/users/me", "Host: test\r\n", &ann)] {
        let answered = answer(server, &request, true);
        assert!(answered.starts_with("HTTP/1.1 200 ") && answered.contains(&ann.name), "{request}\n{answered}");
    }
    let refused = answer(server, &me("/users/me", "Host: a b\r\n", &ann), true);
    assert!(refused.starts_with("HTTP/1.1 400 "), "a shard's own refusal too: {refused}");
}
