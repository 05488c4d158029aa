//! Connections: who gets one, how long it lives, and that a peer's fault ends that peer's connection and nothing else.
//!
//! How: well-behaved peers are WebSocket clients, the others write bytes of their own (`support::Raw`) while a bystander
//! on the same server goes on talking. Limits that take time are made short in the configuration of a server of the
//! test's own; nothing depends on how fast this machine is.
#![cfg(feature = "test-db")]

mod support;

use futures_util::future::join_all;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};
use support::{Client, Format, Random, Raw, Received, Server, User, closed, connect_error, server, signal, upgrade};

const WS: &str = "/ws?subscribe=none";

async fn status(server: &Server, target: &str, headers: &[(&str, &str)]) -> u16 {
    connect_error(upgrade(server, target, headers, None).await)
}

#[tokio::test]
async fn without_a_valid_token_there_is_no_upgrade() {
    let server = server().await;
    let ann = server.register().await;
    let ticket = server.ticket(&ann).await;
    let bearer = |token: &str| format!("Bearer {token}");
    assert_eq!(status(server, "/ws", &[]).await, 401);
    assert_eq!(status(server, "/", &[]).await, 401, "the root is an endpoint too");
    let mut wrong = ann.token.clone();
    let last = if wrong.pop() == Some('A') { 'B' } else { 'A' };
    wrong.insert(wrong.len() - 5, last);
    for token in ["", "x", "a.b.c", wrong.as_str(), ticket.as_str(), ann.refresh_token.as_str()] {
        assert_eq!(status(server, "/ws", &[("authorization", &bearer(token))]).await, 401, "{token}");
    }
    assert_eq!(status(server, "/ws", &[("authorization", &ann.token)]).await, 401, "no scheme");
    assert_eq!(status(server, &format!("/ws?ticket={}", ann.token), &[]).await, 401, "an access token is no ticket");
    for target in ["/ws", "/", "/ws?conversation=room_6", "/ws?conversation=nonsense&subscribe=none"] {
        Client::open(server, &ann, Format::Json, target).await.ok("ping", json!({})).await;
    }
    let (logged_out, _) = server.request(Method::POST, "/auth/logout", Some(&ann.token), None).await;
    assert_eq!(logged_out, 204);
    assert_eq!(status(server, "/ws", &[("authorization", &bearer(&ann.token))]).await, 401, "a session that has ended");
    assert_eq!(status(server, &format!("/ws?ticket={ticket}"), &[]).await, 401, "and its ticket");
}

#[tokio::test]
async fn a_ticket_opens_one_connection() {
    let server = server().await;
    let ann = server.register().await;
    for _ in 0..5 {
        let target = format!("{WS}&ticket={}", server.ticket(&ann).await);
        let tries = join_all((0..4).map(|_| upgrade(server, &target, &[], None))).await;
        let (opened, refused): (Vec<_>, Vec<_>) = tries.into_iter().partition(Result::is_ok);
        assert_eq!(opened.len(), 1, "of four at once one gets in");
        let refused: Vec<u16> = refused.into_iter().map(connect_error).collect();
        assert_eq!(refused, [401; 3]);
        let socket = opened.into_iter().next().unwrap().unwrap();
        let mut client = Client::welcomed(socket, Format::Json).await.unwrap();
        assert_eq!(client.welcome["user"]["id"], ann.id);
        client.ok("ping", json!({})).await;
        assert_eq!(status(server, &target, &[]).await, 401, "later, too");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_gets_nothing() {
    let server = Server::start(2, &[("security.allowed_origins", "https://chat.example.org,http://localhost:3000")]);
    let ann = server.register().await;
    let bearer = format!("Bearer {}", ann.token);
    for origin in ["https://evil.example.org", "http://chat.example.org", "https://chat.example.org.evil.org", "null"] {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        assert_eq!(status(&server, WS, &headers).await, 403, "{origin}");
        assert_eq!(status(&server, WS, &[("origin", origin)]).await, 403, "{origin}, whatever the token");
    }
    for origin in ["https://chat.example.org", "http://localhost:3000"] {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        assert!(upgrade(&server, WS, &headers, None).await.is_ok(), "{origin}");
    }
    assert!(upgrade(&server, WS, &[("authorization", &bearer)], None).await.is_ok(), "no browser sends none");
}

#[tokio::test]
async fn the_sixth_connection_of_a_user_is_closed_and_its_place_comes_back() {
    let server = Server::start(4, &[("limits.max_connections_per_user", "5")]);
    let (ann, bob) = (server.register().await, server.register().await);
    let other_session = server.login(&ann).await;
    // Hints put the connections on different shards: the count is the user's all the same.
    let targets = ["/ws?conversation=room_6", "/ws?conversation=room_10", "/ws", "/ws?conversation=dm_4", "/"];
    let mut clients = Vec::new();
    for (n, target) in targets.into_iter().enumerate() {
        let session = if n % 2 == 0 { &ann } else { &other_session };
        clients.push(Client::open(&server, session, Format::Json, target).await);
    }
    for session in [&ann, &other_session] {
        let bearer = format!("Bearer {}", session.token);
        let socket = upgrade(&server, WS, &[("authorization", &bearer)], None).await.expect("closed, not refused");
        let error = Client::welcomed(socket, Format::Json).await.err().expect("no welcome");
        assert!(error.contains("Closed(4004,"), "{error}");
    }
    for client in &mut clients {
        client.ok("ping", json!({})).await;
    }
    Client::none(&server, &bob, Format::Json).await.ok("ping", json!({})).await;
    clients.pop().unwrap().close().await;
    // The place is free when the server has seen the end, which nothing tells the client: it tries again.
    let mut again = Client::try_open(&server, &ann, Format::Json, WS).await;
    while again.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        again = Client::try_open(&server, &ann, Format::Json, WS).await;
    }
}

#[tokio::test]
async fn a_revoked_sessions_sockets_are_closed_and_no_others() {
    let server = support::shards(4).await;
    let ann = server.register().await;
    let other = server.login(&ann).await;
    let targets = ["/ws", "/ws?conversation=room_6", "/ws?conversation=room_10", "/ws?conversation=room_14"];
    let mut doomed = Vec::new();
    for target in targets {
        doomed.push(Client::open(server, &ann, Format::Json, target).await);
    }
    let mut spared = Client::open(server, &other, Format::MessagePack, "/ws?conversation=room_6").await;
    let started = Instant::now();
    assert_eq!(server.request(Method::POST, "/auth/logout", Some(&ann.token), None).await.0, 204);
    for client in &mut doomed {
        assert_eq!(closed(&client.end().await), 4002);
    }
    println!("closed {:?} after the logout was sent", started.elapsed());
    spared.ok("ping", json!({})).await;
    let last = server.login(&ann).await;
    let mut last_client = Client::none(server, &last, Format::Json).await;
    assert_eq!(server.request(Method::POST, "/auth/logout-all", Some(&other.token), None).await.0, 204);
    for client in [&mut spared, &mut last_client] {
        assert_eq!(closed(&client.end().await), 4002);
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let server = Server::start(2, &[("security.jwt_access_duration", "5s")]);
    let ann = server.register().await;
    let mut client = Client::none(&server, &ann, Format::Json).await;
    let end = client.end().await;
    assert_eq!(closed(&end), 4001);
    let Received::Closed(_, reason) = end else { unreachable!() };
    assert_eq!((&reason["code"], &reason["reconnect"]), (&json!("token_expired"), &json!(true)));
    let body = json!({"refresh_token": ann.refresh_token});
    let (status, refreshed) = server.post("/auth/refresh", None, &body).await;
    assert_eq!(status, 200, "{refreshed}");
    let renewed = User { token: refreshed["access_token"].as_str().unwrap().to_owned(), ..ann };
    Client::none(&server, &renewed, Format::Json).await;
}

#[tokio::test]
async fn who_answers_no_ping_is_closed_and_who_does_stays() {
    // Long enough that a client on a busy machine gets round to its pong.
    let server = Server::start(2, &[("server.heartbeat_interval", "3s")]);
    let ann = server.register().await;
    let mut alive = Client::none(&server, &ann, Format::Json).await;
    assert_eq!(alive.welcome["heartbeat_ms"], 3_000);
    let dead = join_all((0..3).map(|_| async {
        let mut dead = Raw::upgraded(&server, &ann, "veza.v1.json").await;
        (dead.frame().await.map(|(opcode, _)| opcode), dead.close_code().await)
    }));
    // A client that reads answers pings without being asked to.
    let outcomes = tokio::select! {
        event = alive.next_event() => panic!("nothing happens here: {event}"),
        outcomes = dead => outcomes,
    };
    assert_eq!(outcomes, [(Some(9), Some(4006)); 3]);
    alive.ok("ping", json!({})).await;
    assert!(alive.pings >= 1);
}

#[tokio::test]
async fn a_server_that_was_held_up_does_not_blame_its_clients() {
    let server = Server::start(2, &[("server.heartbeat_interval", "2s")]);
    let ann = server.register().await;
    let mut clients = join_all((0..8).map(|_| Client::none(&server, &ann, Format::Json))).await;
    // As a laptop that is closed, or a machine that is moved: several heartbeats pass, and nobody could be heard.
    signal(server.pid(), Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_secs(6)).await;
    signal(server.pid(), Signal::SIGCONT);
    join_all(clients.iter_mut().map(|client| async {
        tokio::select! {
            event = client.next_event() => panic!("nothing happens here: {event}"),
            () = tokio::time::sleep(Duration::from_secs(3)) => {}
        }
        assert!(client.pings > 0, "it was asked whether it is still there");
        client.ok("ping", json!({})).await;
    }))
    .await;
}

#[tokio::test]
async fn a_request_that_is_not_complete_in_time_is_answered_408() {
    let server = Server::start(2, &[("server.connection_timeout", "400ms")]);
    for beginning in ["", "GET /ws HTTP/1.1\r\nHost: test\r\nX-Slow: ", "POST /auth/login HTTP/1.1\r\n"] {
        let mut slow = Raw::connect(&server).await;
        slow.write(beginning.as_bytes()).await.unwrap();
        let answer = String::from_utf8(slow.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 408 "), "{beginning:?}: {answer}");
    }
}

#[tokio::test]
async fn one_port_speaks_http_and_websocket() {
    let server = server().await;
    let ann = server.register().await;
    let mut raw = Raw::connect(server).await;
    for _ in 0..3 {
        raw.write(b"GET /health HTTP/1.1\r\nHost: test\r\n\r\n").await.unwrap();
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        raw.skip(length.expect("a length")).await;
    }
    let body = json!({"login": ann.name, "password": "correct horse battery"}).to_string();
    let request = format!(
        "POST /auth/login HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let mut whole = Raw::connect(server).await;
    whole.write(request.as_bytes()).await.unwrap();
    let mut drops = Raw::connect(server).await;
    for byte in request.as_bytes() {
        drops.write(&[*byte]).await.unwrap();
    }
    for raw in [&mut whole, &mut drops] {
        let answer = String::from_utf8(raw.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("access_token"), "{answer}");
    }

    // The handshake one byte at a time; then one whose first command came in the same packet; then a command in pieces.
    let mut raw = Raw::connect(server).await;
    for byte in Raw::upgrade_head(&ann, "veza.v1.json").as_bytes() {
        raw.write(&[*byte]).await.unwrap();
    }
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    let ping = br#"{"type":"ping","id":1}"#;
    let mut raw = Raw::connect(server).await;
    let mut bytes = Raw::upgrade_head(&ann, "veza.v1.json").into_bytes();
    bytes.extend(Raw::client_frame(true, 1, ping));
    raw.write(&bytes).await.unwrap();
    let head = raw.head().await;
    assert!(head.to_lowercase().contains("sec-websocket-protocol: veza.v1.json\r\n"), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    let (_, welcome) = raw.frame().await.unwrap();
    assert!(welcome.starts_with(br#"{"type":"welcome""#));
    let (_, ack) = raw.frame().await.unwrap();
    assert!(ack.starts_with(br#"{"type":"ack","id":1"#), "{}", String::from_utf8_lossy(&ack));
    for (n, byte) in ping.iter().enumerate() {
        let opcode = u8::from(n == 0);
        for byte in Raw::client_frame(n + 1 == ping.len(), opcode, &[*byte]) {
            raw.write(&[byte]).await.unwrap();
        }
        raw.write(&Raw::client_frame(true, 9, b"between")).await.unwrap();
    }
    let mut pongs = 0;
    loop {
        match raw.frame().await.unwrap() {
            (10, payload) => pongs += usize::from(payload == b"between"),
            (1, ack) => break assert!(ack.starts_with(br#"{"type":"ack","id":1"#)),
            other => panic!("{other:?}"),
        }
    }
    assert!(pongs + 1 >= ping.len(), "{pongs} pongs");
}

#[tokio::test]
async fn a_head_that_is_none_is_refused() {
    let server = server().await;
    let ann = server.register().await;
    let good = Raw::upgrade_head(&ann, "veza.v1.json");
    let many = "X-Y: z\r\n".repeat(70);
    let upgrade = |change: &dyn Fn(String) -> String| change(good.clone()).into_bytes();
    let cases: Vec<(Vec<u8>, u16)> = vec![
        (format!("GET /ws HTTP/1.1\r\nHost: test\r\nX-Long: {}\r\n\r\n", "y".repeat(9_000)).into_bytes(), 431),
        (vec![b'A'; 9_000], 431),
        (format!("GET /ws HTTP/1.1\r\nHost: test\r\n{many}\r\n").into_bytes(), 431),
        (b"nonsense\r\n\r\n".to_vec(), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), 400),
        (upgrade(&|head| head.replace("Version: 13", "Version: 8")), 426),
        (upgrade(&|head| head.replace("dGhlIHNhbXBsZSBub25jZQ==", "short")), 400),
        (upgrade(&|head| head.replace("Sec-WebSocket-Key", "X-Key")), 400),
        (b"GET /nothing/here HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".to_vec(), 404),
    ];
    for (bytes, status) in cases {
        let mut raw = Raw::connect(server).await;
        raw.write(&bytes).await.unwrap();
        let answer = String::from_utf8_lossy(&raw.rest().await).into_owned();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
    }
}

/// Bytes after the upgrade, and the close code they earn.
fn offences() -> Vec<(&'static str, Vec<u8>, u16)> {
    let frame = Raw::client_frame;
    let declared = |length: u64| {
        let mut bytes = vec![0x81, 0xff];
        bytes.extend(length.to_be_bytes());
        bytes.extend([0; 64]);
        bytes
    };
    let empty_fragments = || {
        let mut bytes = frame(false, 1, b"");
        for _ in 0..2_000 {
            bytes.extend(frame(false, 0, b""));
        }
        bytes
    };
    let fragments_over_the_limit = || {
        let mut bytes = frame(false, 1, " ".repeat(40_000).as_bytes());
        bytes.extend(frame(true, 0, " ".repeat(40_000).as_bytes()));
        bytes
    };
    let mut unmasked = frame(true, 1, b"{}");
    unmasked[1] &= 0x7f;
    let mut reserved = frame(true, 1, b"{}");
    reserved[0] |= 0x40;
    let mut overlong = vec![0x81, 0xfe, 0, 5, 0, 0, 0, 0];
    overlong.extend(b"12345");
    vec![
        ("a declared length of 2^63", declared(1 << 63), 1002),
        ("a declared length of 2^64 - 1", declared(u64::MAX), 1002),
        ("a declared length of 2^40", declared(1 << 40), 1009),
        ("a byte more than 64 KiB", declared(65_537), 1009),
        ("empty fragments without end", empty_fragments(), 1009),
        ("fragments of 80,000 bytes together", fragments_over_the_limit(), 1009),
        ("no mask", unmasked, 1002),
        ("a reserved bit", reserved, 1002),
        ("a reserved opcode", frame(true, 3, b""), 1002),
        ("a reserved control opcode", frame(true, 11, b""), 1002),
        ("a fragmented ping", frame(false, 9, b""), 1002),
        ("a ping of 126 bytes", frame(true, 9, &[0; 126]), 1002),
        ("a continuation of nothing", frame(true, 0, b"x"), 1002),
        ("a message within a message", [frame(false, 1, b"x"), frame(true, 1, b"y")].concat(), 1002),
        ("a length in more bytes than needed", overlong, 1002),
        ("text that is not UTF-8", frame(true, 1, b"\xff\xfe"), 1007),
        ("a surrogate in UTF-8", frame(true, 1, b"\xed\xa0\x80"), 1007),
        ("a close frame of one byte", frame(true, 8, b"x"), 1002),
        ("a close code that may not be sent", frame(true, 8, &1005u16.to_be_bytes()), 1002),
        ("a close reason that is not UTF-8", frame(true, 8, b"\x03\xe8\xff"), 1007),
        ("binary on a JSON connection", frame(true, 2, b"\x80"), 1003),
    ]
}

#[tokio::test]
async fn an_offence_ends_the_offenders_connection_only() {
    let server = server().await;
    let (ann, eve) = (server.register().await, server.register().await);
    let room = server.room(&[&ann]).await;
    let mut bystander = Client::all(server, &ann, Format::Json).await;
    for (what, bytes, code) in offences() {
        let mut raw = Raw::upgraded(server, &eve, "veza.v1.json").await;
        raw.write(&bytes).await.unwrap();
        assert_eq!(raw.close_code().await, Some(code), "{what}");
        bystander.ok("send_message", json!({"conversation_id": room, "content": what})).await;
    }
    let before = server.resident_kib();
    let mut random = Random::new();
    for n in 0..200 {
        let mut raw = Raw::upgraded(server, &eve, "veza.v1.msgpack").await;
        let noise: Vec<u8> = (0..random.below(4_000)).map(|_| random.below(256) as u8).collect();
        let _ = raw.write(&noise).await;
        if n % 4 != 0 {
            // Too large, unfinished: what a decoder that trusts the length would reserve.
            let _ = raw.write(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4]).await;
            drop(raw);
        }
    }
    for _ in 0..3 {
        let mut raw = Raw::upgraded(server, &eve, "veza.v1.json").await;
        let mut flood = Raw::client_frame(false, 1, b"");
        flood.extend(Raw::client_frame(false, 0, b"").repeat(1_000_000));
        // The server closes in the middle; what is still written meets a closed socket.
        let _ = raw.write(&flood).await;
        let code = raw.close_code().await;
        assert!(matches!(code, Some(1009) | None), "{code:?}");
    }
    bystander.ok("send_message", json!({"conversation_id": room, "content": "still here"})).await;
    server.must_run();
    let grown = server.resident_kib().saturating_sub(before);
    println!("resident memory grew by {grown} KiB");
    assert!(grown < 64 * 1_024, "{grown} KiB more than before");
    let seen = offences().len() as i64 + 2;
    let mut log = support::Log::after([(room.as_str(), 1)]);
    bystander.follow(&mut log, &room, seen).await;
}
