//! Requests that never become complete. One address that sends many of them is refused, and everybody else is served.
//!
//! How: the attacker's sockets come from 127.0.0.1, the other client's from 127.0.0.2. They send a part of a request
//! and read what the server answers. The tests wait for answers, not for times.

use crate::support::{PATIENCE, Server};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

const ATTACKER: Ipv4Addr = Ipv4Addr::LOCALHOST;
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

async fn send(server: &Server, from: Ipv4Addr, bytes: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// The first bytes of the answer, which hold at least the head.
async fn answer(mut stream: TcpStream) -> String {
    let mut received = Vec::new();
    while !received.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut received)).await.expect("no answer");
        assert!(read.unwrap() > 0, "closed without an answer");
    }
    String::from_utf8(received).unwrap()
}

#[tokio::test]
async fn refuses_incomplete_heads_of_one_address_beyond_its_part() {
    let server = Server::start(1, &[("server.connection_timeout", "5m")]);
    let half = "GET /health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n";
    let mut attack = FuturesUnordered::new();
    for _ in 0..300 {
        attack.push(answer(send(&server, ATTACKER, half).await));
    }
    let mut other = send(&server, OTHER, half).await;
    for _ in 0..300 - 256 {
        let refused = attack.next().await.unwrap();
        assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After: "), "{refused}");
    }
    assert!(attack.next().now_or_never().is_none(), "256 may go on");
    other.write_all(b"\r\n").await.unwrap();
    assert!(answer(other).await.starts_with("HTTP/1.1 200 "));
    // The server serves complete heads from every network.
    let complete = send(&server, ATTACKER, &format!("{half}\r\n")).await;
    assert!(answer(complete).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn refuses_incomplete_bodies_of_one_address_beyond_its_part() {
    let server = Server::start(1, &[]);
    let half = "POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Length: 40000\r\n\r\n{";
    let mut attack = FuturesUnordered::new();
    for _ in 0..200 {
        attack.push(answer(send(&server, ATTACKER, half).await));
    }
    let refused = attack.next().await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("retry-after: "), "{refused}");
    let body = r#"{"login":"nobody","password":"wrong"}"#;
    for from in [OTHER, ATTACKER] {
        let head = format!("POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        let whole = send(&server, from, &format!("{head}{body}")).await;
        assert!(answer(whole).await.starts_with("HTTP/1.1 401 "), "{from}");
    }
}

#[tokio::test]
async fn ends_bodies_that_arrive_too_slowly() {
    let server = Server::start(1, &[]);
    let half = "POST /auth/login HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: 40000\r\n\r\n{";
    let (mut reader, mut writer) = send(&server, ATTACKER, half).await.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    });
    let mut received = String::new();
    // The connection may be reset after the answer, because the server does not read the rest of the body.
    while !received.contains('}') {
        let mut some = [0; 4_096];
        let read = tokio::time::timeout(PATIENCE, reader.read(&mut some)).await.expect("no answer").unwrap();
        assert!(read > 0, "closed: {received}");
        received.push_str(std::str::from_utf8(&some[..read]).unwrap());
    }
    drip.abort();
    assert!(received.starts_with("HTTP/1.1 408 ") && received.contains("too slowly"), "{received}");
}
