//! HTTP requests as RFC 9112 allows them: the form of the target, the Host header, and clients that close their sending
//! half.
//!
//! How: each test writes bytes to a TCP connection and checks the status. The port is shared by shards and control
//! plane.

use crate::support;
use crate::support::{PATIENCE, Raw, Server, User, server};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// Sends a request and reads the answer to its end. With `half_close`, the client closes its sending half first.
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

fn own_profile(target: &str, fields: &str, ann: &User) -> String {
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
        // The server compares the origin with the host of the target, which overrides the Host header.
        let head = head.replacen("Upgrade: ", &format!("Origin: http://{address}\r\nUpgrade: "), 1);
        let mut raw = Raw::connect(server).await;
        raw.write(head.as_bytes()).await.unwrap();
        let received = raw.head().await;
        assert!(received.starts_with("HTTP/1.1 101 "), "{scheme}: {received}");
    }
    let received = answer(server, &own_profile(&format!("http://{address}/users/me"), "Host: test\r\n", &ann), false);
    assert!(received.starts_with("HTTP/1.1 200 ") && received.contains(&ann.name), "{received}");
}

#[tokio::test]
async fn refuses_requests_that_do_not_name_one_host() {
    let server = server().await;
    let ann = server.register().await;
    let upgrade = Raw::upgrade_head(&ann, "veza.v1.json");
    for fields in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n"] {
        for request in [upgrade.replacen("Host: test\r\n", fields, 1), own_profile("/users/me", fields, &ann)] {
            let received = answer(server, &request, false);
            assert!(received.starts_with("HTTP/1.1 400 ") && received.contains("Host header"), "{request}\n{received}");
        }
        // Later requests of a connection reach the control plane without a shard.
        let first = "GET /health/live HTTP/1.1\r\nHost: test\r\n\r\n";
        let received = answer(server, &format!("{first}{}", own_profile("/users/me", fields, &ann)), false);
        assert!(received.starts_with("HTTP/1.1 200 ") && received.contains("}HTTP/1.1 400 "), "{received}");
    }
    let old = answer(server, "GET /health/live HTTP/1.0\r\n\r\n", false);
    assert!(old.starts_with("HTTP/1.0 200 ") || old.starts_with("HTTP/1.1 200 "), "HTTP/1.0 has no Host header: {old}");
}

#[tokio::test]
async fn answers_clients_that_close_their_sending_half() {
    let server = server().await;
    let ann = server.register().await;
    let body = format!(r#"{{"login":"{}","password":"{}"}}"#, ann.name, support::PASSWORD);
    let login = format!("POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for request in [login, own_profile("/users/me", "Host: test\r\n", &ann)] {
        let received = answer(server, &request, true);
        assert!(received.starts_with("HTTP/1.1 200 ") && received.contains(&ann.name), "{request}\n{received}");
    }
    let refused = answer(server, &own_profile("/users/me", "Host: a b\r\n", &ann), true);
    assert!(refused.starts_with("HTTP/1.1 400 "), "also when the shard refuses: {refused}");
}
