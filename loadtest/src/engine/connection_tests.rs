//! Feeds bytes of a sound and of a faulty server to the whole receiving side of a connection with the Veza protocol. A
//! sound stream has no violation and is counted in full, no matter how it is split. Every fault is found under its
//! name, also where the fast path compares bytes before anything is decoded.

use super::super::recorder::Tally;
use super::*;
use crate::check::ClientIndex;
use crate::engine::flow::Flight;
use crate::engine::websocket::Outbox;
use crate::payload::{PayloadFormat, RunId, Sizes, Token};
use crate::protocol::veza::wire::Format;
use crate::protocol::veza::{Veza, VezaOptions, VezaProtocol, VezaState};
use crate::protocol::{Publish, System};
use crate::violations::ViolationKind;
use serde_json::{Value, json};
use std::sync::Arc;

const NOW_NS: u64 = 9_000_000;
const PLANNED_NS: u64 = 5_000_000;

/// Some connections to one room, in one thread.
struct Bench {
    system: Arc<Veza>,
    protocol: VezaProtocol,
    recorder: Recorder,
    inflater: Inflater,
    connections: Vec<Connection<VezaState>>,
    format: Format,
    compression: bool,
}

fn payload() -> PayloadFormat {
    PayloadFormat { run: RunId(7), sizes: Sizes::all(128) }
}

fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    if payload.len() < 126 {
        bytes.push(payload.len() as u8);
    } else {
        bytes.push(126);
        bytes.extend((payload.len() as u16).to_be_bytes());
    }
    bytes.extend(payload);
    bytes
}

fn deflated(message: &[u8]) -> Vec<u8> {
    let mut compress = flate2::Compress::new(flate2::Compression::fast(), false);
    let mut bytes = Vec::with_capacity(message.len() + 64);
    compress.compress_vec(message, &mut bytes, flate2::FlushCompress::Sync).expect("it compresses");
    bytes.truncate(bytes.len() - 4);
    bytes
}

impl Bench {
    /// `count` connections that are ready.
    fn new(count: u32, format: Format, compression: bool) -> Self {
        let options = VezaOptions { formats: vec![format], compression, checks: true };
        let system = Arc::new(Veza::new(vec!["room_1".into(), "room_2".into()], vec!["t".into()], payload(), options));
        let mut protocol = system.protocol();
        let rooms: Arc<[u32]> = Arc::from([0, 1]);
        let connections = (0..count)
            .map(|client| {
                let client = ClientIndex(client);
                let state = protocol.state(client, &rooms);
                let out = Outbox::new(1);
                let peer = Peer { client, user: 0, rooms: Arc::clone(&rooms), reopened: false, state, out };
                Connection::new(peer, false)
            })
            .collect();
        let recorder = Recorder::new(Arc::from([0_u8, 0]), 1).expect("histograms");
        let mut bench =
            Self { system, protocol, recorder, inflater: Inflater::default(), connections, format, compression };
        for client in 0..count as usize {
            let opening = bench.opening(client);
            assert!(bench.feed(client, &opening), "the upgrade is accepted");
            assert_eq!(bench.connections[client].phase, ConnectionPhase::Ready);
        }
        bench
    }

    /// Begins to open a connection and returns the server's first bytes.
    fn opening(&mut self, client: usize) -> Vec<u8> {
        let connection = &mut self.connections[client];
        let upgrade = self.protocol.upgrade(&connection.peer);
        connection.prepare("host:1", &upgrade);
        let mut bytes = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\
             Sec-WebSocket-Protocol: {}\r\n{}\r\n",
            websocket::accept_of(&connection.key),
            self.format.subprotocol(),
            if self.compression {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n"
            } else {
                ""
            },
        )
        .into_bytes();
        let rooms = [json!({"id": "room_1", "last_seq": 10}), json!({"id": "room_2", "last_seq": 0})];
        bytes.extend(self.frame(&json!({"type": "welcome", "data": {"conversations": rooms}})));
        bytes
    }

    /// A message of the server in wire format.
    fn frame(&self, message: &Value) -> Vec<u8> {
        let (opcode, bytes) = match self.format {
            Format::Json => (0x81, message.to_string().into_bytes()),
            Format::Msgpack => (0x82, rmp_serde::to_vec_named(message).expect("it packs")),
        };
        if self.compression { server_frame(opcode | 0x40, &deflated(&bytes)) } else { server_frame(opcode, &bytes) }
    }

    /// A connection sends a message to the first room; answers which.
    fn send(&mut self, client: usize) -> Token {
        let connection = &mut self.connections[client];
        let number = connection.flow.begin(Flight { room: 0, planned_ns: PLANNED_NS });
        let token = Token { client: ClientIndex(client as u32), number };
        let publish = Publish { token, room: 0, planned_ns: PLANNED_NS, repeated: false };
        self.protocol.publish(&mut connection.peer, publish);
        token
    }

    fn ack(&self, token: Token, seq: u64) -> Vec<u8> {
        self.frame(&json!({"type": "ack", "id": token.number, "data":
            {"message_id": 1000 + seq, "conversation_id": "room_1", "seq": seq, "duplicate": false}}))
    }

    fn event(&self, token: Token, seq: u64) -> Vec<u8> {
        self.frame(&event_of(token, seq))
    }

    /// Gives a connection bytes, as a socket would: what is unfinished comes again with the next. False when it is
    /// lost.
    fn feed(&mut self, client: usize, bytes: &[u8]) -> bool {
        let connection = &mut self.connections[client];
        let mut all = std::mem::take(&mut connection.partial);
        all.extend_from_slice(bytes);
        let digest = connection.digest(&mut self.protocol, &mut self.inflater, &mut self.recorder, NOW_NS, &all);
        connection.partial = all[digest.taken..].to_vec();
        digest.lost.is_none()
    }

    /// A message is sent by the first connection, acknowledged there, and reaches all but `without`.
    fn deliver(&mut self, seq: u64, without: Option<usize>) -> Token {
        let token = self.send(0);
        let ack = self.ack(token, seq);
        self.feed(0, &ack);
        let event = self.event(token, seq);
        for client in (0..self.connections.len()).filter(|client| Some(*client) != without) {
            self.feed(client, &event);
        }
        token
    }

    /// Ends the run: what was counted, and the kinds of violations with their counts.
    fn end(mut self) -> (Tally, Vec<(ViolationKind, u64)>) {
        for connection in &mut self.connections {
            self.protocol.sync(&mut connection.peer);
        }
        let mut violations = self.system.finish(true);
        violations.merge(self.recorder.findings.violations);
        (self.recorder.now.tally, violations.iter().map(|(kind, found)| (kind, found.count)).collect())
    }

    fn kinds(self) -> Vec<(ViolationKind, u64)> {
        self.end().1
    }
}

fn event_of(token: Token, seq: u64) -> Value {
    json!({"type": "message_created", "data": {"message_id": 1000 + seq, "conversation_id": "room_1", "seq": seq,
        "sender": {"id": 1}, "content": payload().write(token, PLANNED_NS)}})
}

const ALL_WIRES: [(Format, bool); 4] =
    [(Format::Json, false), (Format::Msgpack, false), (Format::Json, true), (Format::Msgpack, true)];

#[test]
fn accepts_and_counts_a_sound_stream() {
    for (format, compression) in ALL_WIRES {
        let mut bench = Bench::new(5, format, compression);
        for seq in 11..=40 {
            bench.deliver(seq, None);
        }
        assert!(!bench.system.settled(), "cursors are kept outside: only the first arrivals came to the checker");
        let (tally, kinds) = bench.end();
        assert_eq!((tally.delivered, tally.acked), (150, 30), "{format:?} {compression}");
        assert_eq!(kinds, [], "{format:?} {compression}");
    }
}

#[test]
fn decodes_the_same_at_every_split() {
    for (format, compression) in ALL_WIRES {
        let make = || {
            let mut bench = Bench::new(2, format, compression);
            bench.deliver(11, Some(1));
            // The second connection receives in pieces: a known event, a ping, its own ack and event, and another
            // room's.
            let mine = bench.send(1);
            let first = bench.event(Token { client: ClientIndex(0), number: 0 }, 11);
            let ack = bench.ack(mine, 12);
            let own = bench.event(mine, 12);
            let ping = server_frame(0x89, b"are you there");
            let other = bench.frame(&json!({"type": "member_joined", "data": {"conversation_id": "room_2", "seq": 1}}));
            (bench, [first, ping, ack, own.clone(), other].concat(), own)
        };
        let (whole, stream, own) = make();
        drop(whole);
        for cut in 0..=stream.len() {
            let (mut bench, stream, _) = make();
            bench.connections[1].peer.out.clear();
            assert!(bench.feed(1, &stream[..cut]) && bench.feed(1, &stream[cut..]), "cut at {cut}");
            let pong = bench.connections[1].peer.out.unwritten();
            assert_eq!((pong[0], pong.len()), (0x8a, 6 + 13), "cut at {cut}");
            bench.feed(0, &own);
            let other = bench.frame(&json!({"type": "member_joined", "data": {"conversation_id": "room_2", "seq": 1}}));
            bench.feed(0, &other);
            let (tally, kinds) = bench.end();
            assert_eq!((tally.delivered, tally.acked, tally.other_events), (4, 2, 2), "cut at {cut}");
            assert_eq!(kinds, [], "cut at {cut}");
        }
    }
}

#[test]
fn reports_a_missing_frame_as_gap_and_undelivered() {
    for (format, compression) in ALL_WIRES {
        let mut bench = Bench::new(3, format, compression);
        bench.deliver(11, None);
        bench.deliver(12, Some(2));
        bench.deliver(13, None);
        bench.deliver(14, None);
        assert_eq!(bench.kinds(), [(ViolationKind::Gap, 1), (ViolationKind::Undelivered, 1)]);
    }
}

#[test]
fn reports_a_frame_missing_at_the_end_as_undelivered() {
    let mut bench = Bench::new(3, Format::Json, false);
    bench.deliver(11, None);
    bench.deliver(12, Some(1));
    assert!(!bench.system.settled());
    assert_eq!(bench.kinds(), [(ViolationKind::Undelivered, 1)]);
}

#[test]
fn reports_a_repeated_frame_as_duplicate() {
    for (format, compression) in ALL_WIRES {
        let mut bench = Bench::new(3, format, compression);
        let token = bench.deliver(11, None);
        let again = bench.event(token, 11);
        bench.feed(2, &again);
        bench.deliver(12, None);
        bench.feed(2, &again);
        assert_eq!(bench.kinds(), [(ViolationKind::Duplicate, 2)]);
    }
}

#[test]
fn reports_swapped_known_frames_as_disorder() {
    for (format, compression) in ALL_WIRES {
        let mut bench = Bench::new(3, format, compression);
        let first = bench.deliver(11, Some(2));
        let second = bench.deliver(12, Some(2));
        let swapped = [bench.event(second, 12), bench.event(first, 11)].concat();
        bench.feed(2, &swapped);
        bench.deliver(13, None);
        assert_eq!(bench.kinds(), [(ViolationKind::Gap, 1), (ViolationKind::Disorder, 1)]);
    }
}

#[test]
fn reports_a_changed_byte_for_every_receiver() {
    let mut bench = Bench::new(4, Format::Json, false);
    let token = bench.deliver(11, Some(3));
    let content = payload().write(token, PLANNED_NS);
    let mut changed = bench.event(token, 11);
    let at = changed.windows(content.len()).position(|window| window == content.as_bytes()).expect("its content");
    changed[at + 100] ^= 1;
    bench.feed(3, &changed);
    assert_eq!(bench.kinds(), [(ViolationKind::Corrupted, 1)]);

    // The same for the first receiver: then no later comparison may find it sound.
    let mut bench = Bench::new(4, Format::Json, false);
    let token = bench.send(0);
    let ack = bench.ack(token, 11);
    bench.feed(0, &ack);
    for client in 0..4 {
        bench.feed(client, &changed);
    }
    assert_eq!(bench.kinds(), [(ViolationKind::Corrupted, 4)]);
}

#[test]
fn reports_another_event_under_a_known_number() {
    let mut bench = Bench::new(3, Format::Msgpack, false);
    bench.deliver(11, Some(2));
    let other = bench.send(0);
    let ack = bench.ack(other, 12);
    bench.feed(0, &ack);
    let mut wrong = event_of(other, 11);
    wrong["data"]["message_id"] = json!(1012);
    let wrong = bench.frame(&wrong);
    bench.feed(2, &wrong);
    let right = bench.event(other, 12);
    (0..3).for_each(|client| assert!(bench.feed(client, &right)));
    let kinds = bench.kinds();
    assert!(kinds.iter().any(|(kind, _)| *kind == ViolationKind::SeqReused), "{kinds:?}");
    assert!(kinds.iter().any(|(kind, _)| *kind == ViolationKind::CommittedTwice), "{kinds:?}");
}

#[test]
fn reports_an_own_event_before_its_ack_on_the_fast_path() {
    for (format, compression) in ALL_WIRES {
        let mut bench = Bench::new(3, format, compression);
        let token = bench.send(0);
        let event = bench.event(token, 11);
        // Others receive it first, so the sender's copy takes the fast path.
        bench.feed(1, &event);
        bench.feed(2, &event);
        bench.feed(0, &event);
        let ack = bench.ack(token, 11);
        bench.feed(0, &ack);
        assert_eq!(bench.kinds(), [(ViolationKind::EventBeforeAck, 1)]);
    }
}

#[test]
fn reports_a_phantom_for_every_receiver() {
    let mut bench = Bench::new(3, Format::Json, false);
    let event = bench.event(Token { client: ClientIndex(1), number: 77 }, 11);
    (0..3).for_each(|client| assert!(bench.feed(client, &event)));
    assert_eq!(bench.kinds(), [(ViolationKind::Phantom, 3)]);
}

#[test]
fn reports_commands_without_an_answer() {
    let mut bench = Bench::new(2, Format::Json, false);
    let token = bench.send(0);
    let event = bench.event(token, 11);
    bench.feed(1, &event);
    assert_eq!(bench.kinds(), [(ViolationKind::Undelivered, 1), (ViolationKind::Unanswered, 1)]);
}

#[test]
fn accepts_the_senders_own_form_of_an_event() {
    let mut bench = Bench::new(4, Format::Json, false);
    let token = bench.send(0);
    let ack = bench.ack(token, 11);
    bench.feed(0, &ack);
    let mut own = event_of(token, 11);
    own["data"]["client_message_id"] = json!("mine");
    let own = bench.frame(&own);
    let plain = bench.event(token, 11);
    for (client, frame) in [(0, &own), (1, &plain), (2, &own), (3, &plain)] {
        assert!(bench.feed(client, frame));
    }
    let (tally, kinds) = bench.end();
    assert_eq!((tally.delivered, kinds), (4, vec![]));
}

#[test]
fn resumes_from_the_cursor_of_the_fast_path() {
    let mut bench = Bench::new(2, Format::Json, false);
    for seq in 11..=20 {
        bench.deliver(seq, None);
    }
    bench.protocol.lost(&mut bench.connections[1].peer);
    bench.connections[1].close();
    bench.connections[1].peer.reopened = true;
    let missed: Vec<Token> = (21..=23).map(|seq| bench.deliver(seq, Some(1))).collect();
    let opening = bench.opening(1);
    bench.connections[1].peer.out.clear();
    assert!(bench.feed(1, &opening));
    let resume = bench.connections[1].peer.out.unwritten();
    let key: Vec<u8> = resume[2..6].to_vec();
    let plain: Vec<u8> = resume[6..].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    let command: Value = serde_json::from_slice(&plain).expect("a command");
    assert_eq!(command["data"]["cursors"], json!({"room_1": 20, "room_2": 0}));
    assert!(!bench.protocol.caught_up(&bench.connections[1].peer));
    // The replay lacks its last event, but the server sends caught_up.
    let replay = [bench.event(missed[0], 21), bench.event(missed[1], 22)].concat();
    assert!(bench.feed(1, &replay));
    for (room, seq) in [("room_1", 23), ("room_2", 0)] {
        let notice = bench.frame(&json!({"type": "caught_up", "data": {"conversation_id": room, "seq": seq}}));
        assert!(bench.feed(1, &notice));
    }
    assert!(bench.protocol.caught_up(&bench.connections[1].peer));
    assert_eq!(bench.kinds(), [(ViolationKind::Gap, 1), (ViolationKind::Undelivered, 1)]);
}

#[test]
fn assembles_fragments_and_closes_on_broken_ones() {
    let mut bench = Bench::new(2, Format::Json, false);
    let token = bench.deliver(11, Some(1));
    let event = event_of(token, 11).to_string().into_bytes();
    let parts = [server_frame(0x01, &event[..50]), server_frame(0x89, b""), server_frame(0x80, &event[50..])].concat();
    assert!(bench.feed(1, &parts));
    assert!(!bench.feed(1, &server_frame(0x80, b"of nothing")));
    let (tally, kinds) = bench.end();
    assert_eq!((tally.delivered, kinds), (2, vec![]));
}

#[test]
fn refuses_a_wrong_upgrade_with_a_reason() {
    let refused = |answer: &str| {
        let mut bench = Bench::new(1, Format::Json, false);
        bench.connections[0].close();
        bench.opening(0);
        let answer = answer.replace("ACCEPT", &websocket::accept_of(&bench.connections[0].key));
        let connection = &mut bench.connections[0];
        let digest =
            connection.digest(&mut bench.protocol, &mut bench.inflater, &mut bench.recorder, NOW_NS, answer.as_bytes());
        digest.lost.expect("refused")
    };
    let lost = refused("HTTP/1.1 401 Unauthorized\r\n\r\n{\"code\":\"unauthenticated\"}");
    assert!(lost.unauthorized && lost.reason.contains("unauthenticated"), "{lost:?}");
    let lost = refused("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: wrong\r\nSec-WebSocket-Protocol: veza.v1.json\r\n\r\n");
    assert!(lost.reason.contains("Sec-WebSocket-Accept"), "{lost:?}");
    let lost = refused("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: ACCEPT\r\n\r\n");
    assert!(lost.reason.contains("subprotocol"), "{lost:?}");
    let lost = refused(
        "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: ACCEPT\r\nSec-WebSocket-Protocol: veza.v1.json\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
    );
    assert!(lost.reason.contains("not offered"), "{lost:?}");
}

#[test]
fn uses_fresh_source_addresses_on_loopback() {
    let sources = Sources::random();
    let source = |address: &str, client| sources.of(address.parse().expect("an address"), client).map(u32::from);
    let first = source("127.0.0.1:1", 0).expect("this machine");
    assert_eq!(source("127.0.0.1:1", 7_999), Some(first));
    assert_eq!(source("127.0.0.1:1", 8_000), Some(first + 1));
    assert_eq!(source("192.0.2.1:1", 90_000), None);
    assert_eq!(source("[::1]:1", 90_000), None);
    let firsts: std::collections::HashSet<_> = (0..50).map(|_| Sources::random().first).collect();
    assert!(firsts.len() > 25 && firsts.iter().all(|first| first.is_loopback() && first.octets()[1] > 0));
    assert!(sources.of("127.0.0.1:1".parse().expect("an address"), u32::MAX).is_some_and(|last| last.is_loopback()));
}

#[test]
fn the_port_is_chosen_when_connecting_not_when_binding() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    let sources = Sources::random();
    let mut bench = Bench::new(1, Format::Json, false);
    let upgrade = Upgrade { path: "/".to_owned(), ..Upgrade::default() };
    bench.connections[0].open(address, sources, "localhost", &upgrade).expect("opened");
    let (_, from) = listener.accept().expect("a connection");
    assert_eq!(from.ip(), IpAddr::V4(sources.first));
    let socket = bench.connections[0].socket.as_ref().expect("a socket");
    assert!(nix::sys::socket::getsockopt(socket, sockopt::IpBindAddressNoPort).expect("an option"));
}
