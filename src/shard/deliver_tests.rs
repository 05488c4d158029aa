//! The fan-out without sockets: what each connection is sent is read back, frame by frame.

use super::*;
use crate::chat::subscribers::Room;
use crate::ids::{SessionId, ShardId};
use crate::wire::ws::encoder;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};

/// What each connection was sent, frame by frame.
#[derive(Default)]
struct Sent {
    bytes: HashMap<ConnId, Vec<u8>>,
    full: Option<ConnId>,
}

impl Outbox for Sent {
    fn queued_bytes(&self, conn: ConnId) -> usize {
        if self.full == Some(conn) { usize::MAX / 2 } else { 0 }
    }

    fn send(&mut self, conn: ConnId, chunk: Chunk) {
        self.bytes.entry(conn).or_default().extend_from_slice(chunk.bytes());
    }
}

impl Sent {
    /// The data of all events that a connection was sent.
    fn events(&self, conn: ConnId) -> Vec<Value> {
        let mut bytes = self.bytes.get(&conn).map_or(&[][..], Vec::as_slice);
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let payload = encoder::payload_of(bytes);
            // The events below are short enough for the smallest and the next header.
            let (header, length) = match bytes[1] {
                126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                length => (2, usize::from(length)),
            };
            events.push(serde_json::from_slice::<Value>(&payload[..length]).unwrap()["data"].clone());
            bytes = &bytes[header + length..];
        }
        events
    }
}

fn conn(n: u32) -> ConnId {
    ConnId::new(ShardId(0), 0, n)
}

fn session(n: u32) -> Session {
    Session::new(conn(n), UserId(i64::from(n % 5)), SessionId(1), Format::Json, None)
}

fn event(seq: Option<i64>, sender: Option<i64>, mark: usize) -> Arc<EncodedEvent> {
    let data = json!({ "seq": seq, "mark": mark });
    let frame = event::encode(Format::Json, "message_created", None, &data).unwrap();
    Arc::new(EncodedEvent {
        conversation: ConversationId::from_number(6).unwrap(),
        seq: seq.map(Seq),
        kind: "message_created".into(),
        frames: [Some(Arc::from(frame)), None],
        sender_key: sender.map(|user| (UserId(user), "key".into())),
        except_user: None,
        except_connection: None,
        received_at: Instant::now(),
        published_at: Instant::now(),
    })
}

fn subscriber(n: u32, cursor: i64) -> Subscriber {
    Subscriber { conn: conn(n), cursor: Seq(cursor), phase: Phase::Live, announce: false, must_read: false, format: 1 }
}

/// One slice, as the shard serves it.
fn serve(room: &mut Room, backlog: &mut Backlog, sent: &mut Sent, most: usize) -> Option<ConnId> {
    let (slice, next) = room.slice(backlog.next, most);
    let mut deflater = Deflater::default();
    let mut serving = Serving::new(&mut backlog.events, sent, &mut deflater, 1 << 20);
    for subscriber in slice {
        let session = session(subscriber.conn.slot());
        assert_eq!(serving.serve(subscriber, &session), Served::Done);
    }
    next
}

proptest! {
    /// Events with and without a seq come, slices of any size are served, subscribers come and go: whoever stays is sent
    /// every numbered event since it came, in order, once; what passes at most once; its own with its key. The backlog
    /// ends empty.
    #[test]
    fn everybody_who_stays_is_sent_everything_once(
        actions in proptest::collection::vec((0u8..9, 0u32..40), 1..300),
    ) {
        let (mut room, mut backlog, mut sent) = (Room::default(), Backlog::default(), Sent::default());
        let mut joined: BTreeMap<u32, i64> = BTreeMap::new();
        let mut seq = 0;
        for (mark, (action, n)) in actions.into_iter().enumerate() {
            match action {
                0..=2 => {
                    seq += 1;
                    room.saw(Seq(seq));
                    backlog.push(event(Some(seq), (action == 2).then_some(i64::from(n % 5)), mark));
                }
                3 => backlog.push(event(None, None, mark)),
                4 if !joined.contains_key(&n) => {
                    joined.insert(n, seq);
                    sent.bytes.remove(&conn(n));
                    room.subscribe(subscriber(n, seq));
                }
                5 => {
                    joined.remove(&n);
                    room.unsubscribe(conn(n));
                }
                _ => {
                    let next = serve(&mut room, &mut backlog, &mut sent, n as usize + 1);
                    backlog.pass(next);
                }
            }
        }
        for _ in 0..2 {
            let next = serve(&mut room, &mut backlog, &mut sent, usize::MAX);
            backlog.pass(next);
        }
        prop_assert!(backlog.events.is_empty());
        prop_assert_eq!(backlog.bytes, 0);
        for (n, since) in joined {
            let events = sent.events(conn(n));
            let numbered: Vec<i64> = events.iter().filter_map(|e| e["seq"].as_i64()).collect();
            prop_assert_eq!(numbered, (since + 1..=seq).collect::<Vec<_>>());
            let mut marks: Vec<u64> = events.iter().filter_map(|e| e["mark"].as_u64()).collect();
            marks.sort_unstable();
            prop_assert!(marks.windows(2).all(|pair| pair[0] != pair[1]), "something came twice: {marks:?}");
        }
    }
}

#[test]
fn the_senders_copies_carry_its_key_and_nobody_elses() {
    let (mut room, mut backlog, mut sent) = (Room::default(), Backlog::default(), Sent::default());
    for n in 0..10 {
        room.subscribe(subscriber(n, 0));
    }
    for seq in 1..=3 {
        backlog.push(event(Some(seq), (seq == 2).then_some(3), 0));
    }
    serve(&mut room, &mut backlog, &mut sent, usize::MAX);
    for n in 0..10 {
        let keys: Vec<bool> = sent.events(conn(n)).iter().map(|e| e.get("client_message_id").is_some()).collect();
        assert_eq!(keys, [false, n % 5 == 3, false], "connection {n}");
    }
}

#[test]
fn a_full_queue_and_a_gap_are_told_apart() {
    let (mut room, mut backlog) = (Room::default(), Backlog::default());
    let mut sent = Sent { full: Some(conn(1)), ..Sent::default() };
    for n in 0..3 {
        room.subscribe(subscriber(n, i64::from(n == 2) * -5));
    }
    backlog.push(event(Some(1), None, 0));
    let mut deflater = Deflater::default();
    let mut serving = Serving::new(&mut backlog.events, &mut sent, &mut deflater, 1 << 20);
    let served: Vec<Served> = room
        .subscribers()
        .iter_mut()
        .map(|subscriber| serving.serve(subscriber, &session(subscriber.conn.slot())))
        .collect();
    assert_eq!(served, [Served::Done, Served::QueueFull, Served::FellBehind]);
}

#[test]
fn a_backlog_is_full_by_events_and_by_bytes() {
    let mut backlog = Backlog::default();
    for seq in 1..BACKLOG_EVENTS_MAX as i64 {
        backlog.push(event(Some(seq), None, 0));
        assert!(!backlog.is_full());
    }
    backlog.push(event(Some(BACKLOG_EVENTS_MAX as i64), None, 0));
    assert!(backlog.is_full());
    let mut backlog = Backlog { bytes: BACKLOG_BYTES_MAX - 1, ..Backlog::default() };
    backlog.push(event(Some(1), None, 0));
    assert!(backlog.is_full());
}
