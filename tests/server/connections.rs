//! Connections: which requests get a connection and when the server closes it. A fault of a peer closes the connection
//! of that peer and no other.
//!
//! How: well-behaved peers are WebSocket clients. The others write bytes of their own (`support::Raw`), while a
//! bystander on the same server keeps sending messages. Tests of time limits start their own server with a short limit;
//! no result depends on the speed of the machine.

use crate::support::{
    Client, Format, Log, PATIENCE, Random, Raw, Received, Server, User, closed, connect_error, server, shards, signal,
    upgrade,
};
use futures_util::future::join_all;
use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::json;
use std::time::{Duration, Instant};

const WS: &str = "/ws?subscribe=none";

async fn status(server: &Server, target: &str, headers: &[(&str, &str)]) -> u16 {
    connect_error(upgrade(server, target, headers, None).await)
}

#[tokio::test]
async fn refuses_the_upgrade_without_a_valid_token() {
    let server = server().await;
    let ann = server.register().await;
    let ticket = server.ticket(&ann).await;
    let bearer = |token: &str| format!("Bearer {token}");
    assert_eq!(status(server, "/ws", &[]).await, 401);
    assert_eq!(status(server, "/", &[]).await, 401, "the root path is an endpoint too");
    let mut wrong = ann.token.clone();
    let last = if wrong.pop() == Some('A') { 'B' } else { 'A' };
    wrong.insert(wrong.len() - 5, last);
    for token in ["", "x", "a.b.c", wrong.as_str(), ticket.as_str(), ann.refresh_token.as_str()] {
        assert_eq!(status(server, "/ws", &[("authorization", &bearer(token))]).await, 401, "{token}");
    }
    assert_eq!(status(server, "/ws", &[("authorization", &ann.token)]).await, 401, "without a scheme");
    assert_eq!(status(server, &format!("/ws?ticket={}", ann.token), &[]).await, 401, "an access token is not a ticket");
    for target in ["/ws", "/", "/ws?conversation=room_6", "/ws?conversation=nonsense&subscribe=none"] {
        Client::open(server, &ann, Format::Json, target).await.ok("ping", json!({})).await;
    }
    let (logged_out, _) = server.request(Method::POST, "/auth/logout", Some(&ann.token), None).await;
    assert_eq!(logged_out, 204);
    assert_eq!(status(server, "/ws", &[("authorization", &bearer(&ann.token))]).await, 401, "the session has ended");
    assert_eq!(
        status(server, &format!("/ws?ticket={ticket}"), &[]).await,
        401,
        "the ticket belongs to the ended session"
    );
}

#[tokio::test]
async fn opens_one_connection_per_ticket() {
    let server = server().await;
    let ann = server.register().await;
    for _ in 0..5 {
        let target = format!("{WS}&ticket={}", server.ticket(&ann).await);
        let attempts = join_all((0..4).map(|_| upgrade(server, &target, &[], None))).await;
        let (opened, refused): (Vec<_>, Vec<_>) = attempts.into_iter().partition(Result::is_ok);
        assert_eq!(opened.len(), 1, "one of four concurrent upgrades succeeds");
        let refused: Vec<u16> = refused.into_iter().map(connect_error).collect();
        assert_eq!(refused, [401; 3]);
        let socket = opened.into_iter().next().unwrap().unwrap();
        let mut client = Client::welcomed(socket, Format::Json).await.unwrap();
        assert_eq!(client.welcome["user"]["id"], ann.id);
        client.ok("ping", json!({})).await;
        assert_eq!(status(server, &target, &[]).await, 401, "a used ticket stays used");
    }
}

#[tokio::test]
async fn refuses_upgrades_from_origins_that_are_not_allowed() {
    let server = Server::start(2, &[("security.allowed_origins", "https://chat.example.org,http://localhost:3000")]);
    let ann = server.register().await;
    let bearer = format!("Bearer {}", ann.token);
    for origin in ["https://evil.example.org", "http://chat.example.org", "https://chat.example.org.evil.org", "null"] {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        assert_eq!(status(&server, WS, &headers).await, 403, "{origin}");
        assert_eq!(status(&server, WS, &[("origin", origin)]).await, 403, "{origin}, without a token");
    }
    for origin in ["https://chat.example.org", "http://localhost:3000"] {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        assert!(upgrade(&server, WS, &headers, None).await.is_ok(), "{origin}");
    }
    assert!(
        upgrade(&server, WS, &[("authorization", &bearer)], None).await.is_ok(),
        "clients that are not browsers send no Origin"
    );
}

#[tokio::test]
async fn closes_connections_above_the_limit_per_user_and_frees_closed_ones() {
    let server = Server::start(4, &[("limits.max_connections_per_user", "5")]);
    let (ann, bob) = (server.register().await, server.register().await);
    let other_session = server.login(&ann).await;
    // The hints spread the connections over different shards; the limit counts all of them.
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
    // The server frees the slot when it has seen the close. The client cannot know when that is, so it retries.
    let started = Instant::now();
    while let Err(error) = Client::try_open(&server, &ann, Format::Json, WS).await {
        assert!(started.elapsed() < PATIENCE, "the slot of the closed connection is not freed: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn refuses_websockets_of_one_network_above_its_limit_and_frees_closed_ones() {
    let settings = [("limits.max_connections_per_network", "3"), ("server.trusted_proxies", "127.0.0.1")];
    let server = Server::start(4, &settings);
    let (ann, bob) = (server.register().await, server.register().await);
    let open = async |user: &User, target: &str, address: Option<&str>| {
        let bearer = format!("Bearer {}", user.token);
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(address.map(|address| ("x-forwarded-for", address)));
        upgrade(&server, target, &headers, None).await
    };
    // The hints spread the connections over different shards; the limit counts all of them, and an IPv6 /64 as one.
    let mut sockets = Vec::new();
    for (host, target) in ["/ws?conversation=room_6", "/ws?conversation=room_10", "/ws"].into_iter().enumerate() {
        let user = if host == 1 { &ann } else { &bob };
        sockets.push(open(user, target, Some(&format!("2001:db8::{host}"))).await.expect("below the limit"));
    }
    for user in [&ann, &bob] {
        assert_eq!(connect_error(open(user, WS, Some("2001:db8::9")).await), 503);
    }
    open(&ann, WS, Some("2001:db8:0:1::9")).await.expect("another network");
    let mut of_proxy = Vec::new();
    for _ in 0..5 {
        of_proxy.push(open(&ann, WS, None).await.expect("a trusted proxy carries many clients"));
    }
    let socket = sockets.pop().unwrap();
    Client::welcomed(socket, Format::Json).await.unwrap().close().await;
    let started = Instant::now();
    while let Err(error) = open(&ann, WS, Some("2001:db8::9")).await {
        assert!(started.elapsed() < PATIENCE, "the place of the closed connection is not freed: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn closes_the_connections_of_a_revoked_session_only() {
    let server = shards(4).await;
    let ann = server.register().await;
    let other = server.login(&ann).await;
    let targets = ["/ws", "/ws?conversation=room_6", "/ws?conversation=room_10", "/ws?conversation=room_14"];
    let mut revoked = Vec::new();
    for target in targets {
        revoked.push(Client::open(server, &ann, Format::Json, target).await);
    }
    let mut kept = Client::open(server, &other, Format::MessagePack, "/ws?conversation=room_6").await;
    assert_eq!(server.request(Method::POST, "/auth/logout", Some(&ann.token), None).await.0, 204);
    for client in &mut revoked {
        assert_eq!(closed(&client.end().await), 4002);
    }
    kept.ok("ping", json!({})).await;
    let last = server.login(&ann).await;
    let mut last_client = Client::none(server, &last, Format::Json).await;
    assert_eq!(server.request(Method::POST, "/auth/logout-all", Some(&other.token), None).await.0, 204);
    for client in [&mut kept, &mut last_client] {
        assert_eq!(closed(&client.end().await), 4002);
    }
}

#[tokio::test]
async fn closes_a_connection_when_its_access_token_expires() {
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
async fn closes_clients_that_stop_answering_pings() {
    // Long enough for a client on a busy machine to send its pong.
    let server = Server::start(2, &[("server.heartbeat_interval", "3s")]);
    let ann = server.register().await;
    let mut alive = Client::none(&server, &ann, Format::Json).await;
    assert_eq!(alive.welcome["heartbeat_ms"], 3_000);
    let silent = join_all((0..3).map(|_| async {
        let mut silent = Raw::upgraded(&server, &ann, "veza.v1.json").await;
        (silent.frame().await.map(|(opcode, _)| opcode), silent.close_code().await)
    }));
    // The WebSocket library answers pings while the client reads.
    let outcomes = tokio::select! {
        event = alive.next_event() => panic!("no event is expected: {event}"),
        outcomes = silent => outcomes,
    };
    assert_eq!(outcomes, [(Some(9), Some(4006)); 3]);
    alive.ok("ping", json!({})).await;
    assert!(alive.pings >= 1);
}

#[tokio::test]
async fn keeps_clients_after_the_server_was_suspended() {
    let server = Server::start(2, &[("server.heartbeat_interval", "2s")]);
    let ann = server.register().await;
    let mut clients = join_all((0..8).map(|_| Client::none(&server, &ann, Format::Json))).await;
    // As on a laptop that sleeps or a virtual machine that migrates: several heartbeats pass without any input.
    signal(server.pid(), Signal::SIGSTOP);
    tokio::time::sleep(Duration::from_secs(6)).await;
    signal(server.pid(), Signal::SIGCONT);
    join_all(clients.iter_mut().map(|client| async {
        // The first check after the pause must send a ping, and the next one must have received the answer.
        let before = client.pings;
        client.wait_for_pings(before + 2).await;
        client.ok("ping", json!({})).await;
    }))
    .await;
}

#[tokio::test]
async fn answers_408_to_requests_that_are_not_complete_in_time_and_closes_unused_connections() {
    let server = Server::start(2, &[("server.connection_timeout", "400ms")]);
    for beginning in ["", "GET /ws HTTP/1.1\r\nHost: test\r\nX-Slow: ", "POST /auth/login HTTP/1.1\r\n"] {
        let mut slow = Raw::connect(&server).await;
        slow.write(beginning.as_bytes()).await.unwrap();
        let answer = String::from_utf8(slow.rest().await).unwrap();
        let is_timeout = answer.starts_with("HTTP/1.1 408 ");
        assert!(if beginning.is_empty() { answer.is_empty() } else { is_timeout }, "{beginning:?}: {answer}");
    }
}

#[tokio::test]
async fn serves_http_and_websocket_on_one_port() {
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
    let mut bytewise = Raw::connect(server).await;
    for byte in request.as_bytes() {
        bytewise.write(&[*byte]).await.unwrap();
    }
    for raw in [&mut whole, &mut bytewise] {
        let answer = String::from_utf8(raw.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("access_token"), "{answer}");
    }

    // A handshake that arrives byte by byte, a first command in the packet of the handshake, a command in many
    // fragments.
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
async fn refuses_malformed_and_oversized_request_heads() {
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

/// Bytes that break the protocol after the upgrade, and the expected close code.
fn violations() -> Vec<(&'static str, Vec<u8>, u16)> {
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
        ("2,000 empty fragments", empty_fragments(), 1009),
        ("fragments of 80,000 bytes together", fragments_over_the_limit(), 1009),
        ("no mask", unmasked, 1002),
        ("a reserved bit", reserved, 1002),
        ("a reserved opcode", frame(true, 3, b""), 1002),
        ("a reserved control opcode", frame(true, 11, b""), 1002),
        ("a fragmented ping", frame(false, 9, b""), 1002),
        ("a ping of 126 bytes", frame(true, 9, &[0; 126]), 1002),
        ("a continuation without a first fragment", frame(true, 0, b"x"), 1002),
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
async fn closes_only_the_connection_that_violates_the_protocol() {
    // A server of its own, since other tests would add to its memory.
    let server = &Server::start(2, &[]);
    let (ann, eve) = (server.register().await, server.register().await);
    let room = server.room(&[&ann]).await;
    let mut bystander = Client::all(server, &ann, Format::Json).await;
    for (what, bytes, code) in violations() {
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
            // An unfinished frame that declares the largest allowed length.
            let _ = raw.write(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4]).await;
            drop(raw);
        }
    }
    for _ in 0..3 {
        let mut raw = Raw::upgraded(server, &eve, "veza.v1.json").await;
        let mut flood = Raw::client_frame(false, 1, b"");
        flood.extend(Raw::client_frame(false, 0, b"").repeat(1_000_000));
        // The server closes in the middle, so the rest of the write fails.
        let _ = raw.write(&flood).await;
        let code = raw.close_code().await;
        assert!(matches!(code, Some(1009) | None), "{code:?}");
    }
    bystander.ok("send_message", json!({"conversation_id": room, "content": "still here"})).await;
    server.must_run();
    let grown = server.resident_kib().saturating_sub(before);
    assert!(grown < 64 * 1_024, "{grown} KiB more than before");
    let last = violations().len() as i64 + 2;
    let mut log = Log::after([(room.as_str(), 1)]);
    bystander.follow(&mut log, &room, last).await;
}
