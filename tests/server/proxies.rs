//! Reverse proxies: only those in `server.trusted_proxies` name the client's address.
//!
//! How: the test is the proxy, at 127.0.0.2 where the PROXY protocol is on. A sign-in records the client's address, and
//! `GET /auth/sessions` shows it.

use crate::support::{PASSWORD, PATIENCE, Server, User, server};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The address that the server records for a sign-in with these headers.
async fn recorded(server: &Server, user: &User, headers: &[(&str, &str)]) -> String {
    let client = reqwest::Client::new();
    let login = json!({"login": user.name, "password": PASSWORD});
    let mut request = client.post(format!("{}/auth/login", server.base_url)).json(&login);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let token = answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let (status, sessions) = server.request(reqwest::Method::GET, "/auth/sessions", Some(token), None).await;
    assert_eq!(status, 200, "{sessions}");
    let all = sessions["sessions"].as_array().or(sessions.as_array()).expect("sessions");
    let current = all.iter().find(|session| session["current"] == true).expect("the session of the request");
    current["ip"].as_str().unwrap().to_owned()
}

const CLAIMS: [(&str, &str); 2] = [("x-forwarded-for", "198.51.100.1, 203.0.113.9"), ("forwarded", "for=192.0.2.66")];

#[tokio::test]
async fn ignores_the_headers_of_untrusted_peers() {
    let ann = server().await.register().await;
    assert_eq!(recorded(server().await, &ann, &CLAIMS).await, "127.0.0.1");
    let server = Server::start(1, &[("server.trusted_proxies", "10.0.0.0/8,127.0.0.2")]);
    let ann = server.register().await;
    assert_eq!(recorded(&server, &ann, &CLAIMS).await, "127.0.0.1");
}

#[tokio::test]
async fn believes_the_last_untrusted_address_of_trusted_proxies() {
    let server = Server::start(1, &[("server.trusted_proxies", "10.0.0.0/8,127.0.0.1")]);
    let ann = server.register().await;
    for (value, address) in [
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("2001:db8::7", "2001:db8::7"),
        ("nonsense", "127.0.0.1"),
    ] {
        let headers = [("x-forwarded-for", value), CLAIMS[1]];
        assert_eq!(recorded(&server, &ann, &headers).await, address, "{value}");
    }
    assert_eq!(recorded(&server, &ann, &CLAIMS[1..]).await, "127.0.0.1", "this proxy does not write Forwarded");
}

#[tokio::test]
async fn reads_the_forwarded_header_if_the_proxies_write_it() {
    let settings = [("server.trusted_proxies", "127.0.0.1"), ("server.forwarded_header", "forwarded")];
    let server = Server::start(1, &settings);
    let ann = server.register().await;
    assert_eq!(recorded(&server, &ann, &CLAIMS).await, "192.0.2.66");
}

/// What the server answers to these bytes from `from`; empty if it closes the connection without an answer.
async fn answer_to(server: &Server, from: &str, pieces: &[&[u8]]) -> String {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        // The server may have closed the connection already.
        let _ = stream.write_all(piece).await;
        let _ = stream.flush().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("an answer or an end");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A PROXY header, version 2.
fn proxy_header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = (rest.len() as u16).to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, rest].concat()
}

/// A sign-in as a request of its own.
fn sign_in(user: &User) -> Vec<u8> {
    let body = json!({"login": user.name, "password": PASSWORD}).to_string();
    let head = format!(
        "POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nConnection: close\r\n\
         X-Forwarded-For: 198.51.100.7\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

#[tokio::test]
async fn takes_the_client_from_the_proxy_header_of_trusted_proxies() {
    let settings = [("server.trusted_proxies", "127.0.0.2"), ("server.proxy_protocol", "true")];
    let server = Server::start(2, &settings);
    let ann = server.register().await; // from 127.0.0.1, which is no proxy
    let v4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let mut v6 = [0; 36];
    v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    v6[15] = 7;
    let with_tlvs = [v4, &[0x04, 0, 2, 7, 7, 0x05, 0, 0]].concat();
    for (header, address) in [
        (proxy_header(0x21, 0x11, v4), "203.0.113.9"),
        (proxy_header(0x21, 0x11, &with_tlvs), "203.0.113.9"),
        (proxy_header(0x21, 0x21, &v6), "2001:db8::7"),
        // The connection is the proxy's own, or it does not know the client. The header of HTTP may be the client's.
        (proxy_header(0x20, 0x00, &[]), "127.0.0.2"),
        (proxy_header(0x21, 0x00, &[1, 2, 3]), "127.0.0.2"),
    ] {
        let request = sign_in(&ann);
        let whole = [&header[..], &request].concat();
        let pieces: [Vec<&[u8]>; 3] = [
            vec![&whole],
            vec![&header[..7], &header[7..], &request],
            vec![&header[..header.len() - 1], &whole[header.len() - 1..]],
        ];
        for pieces in pieces {
            let answer = answer_to(&server, "127.0.0.2", &pieces).await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
            assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
            let token: Value = serde_json::from_str(body).unwrap();
            let token = token["access_token"].as_str().unwrap();
            let (_, sessions) = server.request(reqwest::Method::GET, "/auth/sessions", Some(token), None).await;
            let all = sessions["sessions"].as_array().or(sessions.as_array()).unwrap();
            let current = all.iter().find(|session| session["current"] == true).unwrap();
            assert_eq!(current["ip"], json!(address));
        }
    }
}

#[tokio::test]
async fn closes_connections_with_a_false_proxy_header() {
    let settings = [("server.trusted_proxies", "127.0.0.2"), ("server.proxy_protocol", "true")];
    let server = Server::start(1, &settings);
    let request: &[u8] = b"GET /health HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    let v4: &[u8] = &[203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    let good = proxy_header(0x21, 0x11, v4);
    let mut lying = good.clone();
    lying[15] = 11;
    let mut huge = good.clone();
    huge[14..16].copy_from_slice(&[0xff, 0xff]);
    let cut_tlv = proxy_header(0x21, 0x11, &[v4, &[0x04, 0, 9, 7]].concat());
    let version_1 = b"PROXY TCP4 203.0.113.9 10.0.0.1 4660 80\r\n".to_vec();
    let twice = [&good[..], &good].concat();
    for header in [&lying, &huge, &cut_tlv, &version_1, &Vec::new(), &proxy_header(0x22, 0x11, v4)] {
        assert_eq!(answer_to(&server, "127.0.0.2", &[&[&header[..], request].concat()]).await, "");
    }
    // One header is taken off, and the next one is no request.
    assert!(!answer_to(&server, "127.0.0.2", &[&[&twice[..], request].concat()]).await.contains("200 OK"));
    // A peer that is no proxy may not name a client, and is served without a header.
    assert_eq!(answer_to(&server, "127.0.0.3", &[&[&good[..], request].concat()]).await, "");
    assert!(answer_to(&server, "127.0.0.3", &[request]).await.contains("200 OK"));
    assert!(answer_to(&server, "127.0.0.2", &[&[&good[..], request].concat()]).await.contains("200 OK"));
}
