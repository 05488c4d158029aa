//! WebSocket handshakes that no browser and no library sends: repeated or malformed fields, and lines that end with LF
//! alone.
//!
//! How: each test writes bytes to a TCP connection. The same handshake without the fault is accepted.

use crate::support::{Raw, Server, User, server};

/// The head of the answer to a handshake with these fields added.
async fn answer(server: &Server, user: &User, change: impl Fn(&str) -> Vec<u8>) -> String {
    let mut raw = Raw::connect(server).await;
    raw.write(&change(&Raw::upgrade_head(user, "veza.v1.json"))).await.unwrap();
    raw.head().await
}

fn with_fields(head: &str, fields: &[u8]) -> Vec<u8> {
    let head = head.strip_suffix("\r\n").unwrap().as_bytes();
    [head, fields, b"\r\n"].concat()
}

#[tokio::test]
async fn refuses_origins_that_are_repeated_or_malformed() {
    let server = server().await;
    let ann = server.register().await;
    let own = format!("Origin: http://{}\r\n", server.address);
    let host = server.address.to_string();
    let with_host = |fields: &[u8]| {
        let fields = fields.to_vec();
        let host = host.clone();
        move |head: &str| with_fields(&head.replacen("Host: test", &format!("Host: {host}"), 1), &fields)
    };
    for good in ["", own.as_str()] {
        let head = answer(server, &ann, with_host(good.as_bytes())).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{good:?}: {head}");
    }
    for bad in [
        format!("{own}{own}").into_bytes(),
        format!("{own}Origin: https://evil.example\r\n").into_bytes(),
        b"Origin: https://evil.example\r\norigin: https://evil.example\r\n".to_vec(),
        b"Origin: https://evil.example\xff\r\n".to_vec(),
        b"Origin:\r\n".to_vec(),
        b"Origin: null\r\n".to_vec(),
        format!("Origin: evil://user@{host}\r\n").into_bytes(),
        format!("Origin: https://evil.example http://{host}\r\n").into_bytes(),
        // In development, pages of this machine may connect. These only look like one.
        b"Origin: http://localhost:1@evil.example\r\n".to_vec(),
        b"Origin: http://localhost:80:evil.example\r\n".to_vec(),
        b"Origin: http://[::1]evil.example\r\n".to_vec(),
    ] {
        let shown = String::from_utf8_lossy(&bad).into_owned();
        let head = answer(server, &ann, with_host(&bad)).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{shown:?}: {head}");
    }
}

#[tokio::test]
async fn refuses_repeated_tokens_instead_of_using_a_ticket_beside_them() {
    let server = server().await;
    let ann = server.register().await;
    let ticket = server.ticket(&ann).await;
    let twice = |head: &str| {
        let head = head.replacen("subscribe=none", &format!("subscribe=none&ticket={ticket}"), 1);
        with_fields(&head, b"Authorization: Bearer another\r\n")
    };
    let head = answer(server, &ann, twice).await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
}

#[tokio::test]
async fn refuses_handshakes_whose_lines_end_with_lf_alone() {
    type Change = fn(&str) -> String;
    let server = server().await;
    let ann = server.register().await;
    let changes: [(&str, Change); 4] = [
        ("every line", |head| head.replace("\r\n", "\n")),
        ("the request line", |head| head.replacen("\r\n", "\n", 1)),
        ("the last field", |head| head.replacen("\r\n\r\n", "\n\r\n", 1)),
        ("the empty line", |head| head.replacen("\r\n\r\n", "\r\n\n", 1)),
    ];
    for (name, change) in changes {
        let head = answer(server, &ann, |head| change(head).into_bytes()).await;
        assert!(head.starts_with("HTTP/1.1 400 "), "{name}: {head}");
    }
    // RFC 9112 section 2.2 permits it for other requests, and hyper accepts it: on the first request of a connection,
    // which a shard reads, and on the next one, which it does not.
    let request = "GET /health/live HTTP/1.1\nHost: test\n\n";
    let mut raw = Raw::connect(server).await;
    raw.write(format!("{request}{}", request.replacen("\n\n", "\nConnection: close\n\n", 1)).as_bytes()).await.unwrap();
    for _ in 0..2 {
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        raw.skip(length.expect("a length")).await;
    }
}
