//! Tests the fan-out without sockets: it reads back, frame by frame, what each connection received.

use super::backlog::{BACKLOG_BYTES_MAX, BACKLOG_EVENTS_MAX, Backlog};
use super::outbox::{Behind, Outbox};
use super::{Rooms, SLICE_MAX, SLICE_MIN, fan_out};
use crate::chat::subscribers::{Mode, Room, Subscriber};
use crate::ids::{ConnId, ConversationId, Seq, ShardId, UserId};
use crate::mesh::event::EncodedEvent;
use crate::wire::{Format, event};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Clone)]
struct Bytes(Rc<[u8]>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self(bytes.to_vec().into())
    }
}

/// The bytes that each connection received, and the connections that fell behind.
#[derive(Default)]
struct Sent {
    bytes: HashMap<ConnId, Vec<u8>>,
    full: Option<ConnId>,
    behind: Vec<(ConnId, Behind)>,
    receipts: u64,
    send_time: Duration,
}

impl Outbox for Sent {
    type Chunk = Bytes;

    fn queued_bytes(&self, conn: ConnId) -> usize {
        if self.full == Some(conn) { usize::MAX / 2 } else { 0 }
    }

    fn send_time(&self) -> Duration {
        self.send_time
    }

    fn send(&mut self, conn: ConnId, chunk: Bytes) {
        self.bytes.entry(conn).or_default().extend_from_slice(chunk.as_ref());
    }

    fn compress(&mut self, _: &[u8], _: Format, _: u8) -> Option<Vec<u8>> {
        None
    }

    fn fell_behind(&mut self, conn: ConnId, _: ConversationId, why: Behind) {
        self.behind.push((conn, why));
    }

    fn slice_served(&mut self, receipts: impl Iterator<Item = (Instant, u64)>, _: u64) {
        self.receipts += receipts.map(|(_, receivers)| receivers).sum::<u64>();
    }
}

impl Sent {
    /// The data of all events that a connection received.
    fn events(&self, conn: ConnId) -> Vec<Value> {
        let mut bytes = self.bytes.get(&conn).map_or(&[][..], Vec::as_slice);
        let mut events = Vec::new();
        while !bytes.is_empty() {
            // The events below are short enough for the smallest and the next header.
            let (header, length) = match bytes[1] {
                126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
                length => (2, usize::from(length)),
            };
            let (payload, rest) = bytes[header..].split_at(length);
            events.push(serde_json::from_slice::<Value>(payload).unwrap()["data"].clone());
            bytes = rest;
        }
        events
    }
}

fn conversation() -> ConversationId {
    ConversationId::from_number(6).unwrap()
}

fn conn(n: u32) -> ConnId {
    ConnId::new(ShardId(0), 0, n)
}

fn event(seq: Option<i64>, sender: Option<i64>, mark: usize) -> Arc<EncodedEvent> {
    let data = json!({ "seq": seq, "mark": mark });
    let frame = event::encode(Format::Json, "message_created", None, &data).unwrap();
    Arc::new(EncodedEvent {
        conversation: conversation(),
        seq: seq.map(Seq),
        kind: "message_created".into(),
        frames: [Some(Arc::from(frame)), None],
        sender_key: sender.map(|user| (UserId(user), "key".into())),
        except_user: None,
        about: None,
        departure: None,
        except_connection: None,
        received_at: Instant::now(),
        published_at: Instant::now(),
    })
}

fn subscriber(n: u32, cursor: i64) -> Subscriber {
    Subscriber {
        conn: conn(n),
        user: UserId(i64::from(n % 5)),
        cursor: Seq(cursor),
        member_at: Seq(0),
        mode: Mode::Live,
        announce: false,
        must_read: false,
        format: Format::Json,
        deflate_bits: 0,
    }
}

/// One slice, as [`Rooms`] serves it.
fn serve(room: &mut Room, backlog: &mut Backlog<Bytes>, sent: &mut Sent, most: usize) -> Option<ConnId> {
    let (slice, next) = room.slice(backlog.next, most);
    fan_out::serve(conversation(), backlog, slice, 1 << 20, sent);
    next
}

proptest! {
    /// Events with and without a seq come, slices of any size are served, subscribers join and leave. A subscriber that
    /// stays gets every numbered event since it joined, in order, once; a signal at most once. The backlog ends empty.
    #[test]
    fn sends_everything_once_to_subscribers_that_stay(
        actions in proptest::collection::vec((0u8..9, 0u32..40), 1..300),
    ) {
        let (mut room, mut backlog, mut sent) = (Room::default(), Backlog::default(), Sent::default());
        let mut joined: BTreeMap<u32, i64> = BTreeMap::new();
        let mut seq = 0;
        for (mark, (action, n)) in actions.into_iter().enumerate() {
            match action {
                0..=2 => {
                    seq += 1;
                    room.observe(Seq(seq));
                    backlog.push(event(Some(seq), (action == 2).then_some(i64::from(n % 5)), mark), Vec::new());
                }
                3 => backlog.push(event(None, None, mark), Vec::new()),
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
        prop_assert!(backlog.events.is_empty() && sent.behind.is_empty());
        for (n, since) in joined {
            let events = sent.events(conn(n));
            let numbered: Vec<i64> = events.iter().filter_map(|e| e["seq"].as_i64()).collect();
            prop_assert_eq!(numbered, (since + 1..=seq).collect::<Vec<_>>());
            let mut marks: Vec<u64> = events.iter().filter_map(|e| e["mark"].as_u64()).collect();
            marks.sort_unstable();
            prop_assert!(marks.windows(2).all(|pair| pair[0] != pair[1]), "an event came twice: {marks:?}");
        }
    }
}

#[test]
fn sends_the_senders_key_only_to_the_senders_connections() {
    let (mut room, mut backlog, mut sent) = (Room::default(), Backlog::default(), Sent::default());
    for n in 0..10 {
        room.subscribe(subscriber(n, 0));
    }
    for seq in 1..=3 {
        backlog.push(event(Some(seq), (seq == 2).then_some(3), 0), Vec::new());
    }
    serve(&mut room, &mut backlog, &mut sent, usize::MAX);
    for n in 0..10 {
        let keys: Vec<bool> = sent.events(conn(n)).iter().map(|e| e.get("client_message_id").is_some()).collect();
        assert_eq!(keys, [false, n % 5 == 3, false], "connection {n}");
    }
    assert_eq!(sent.receipts, 30);
}

#[test]
fn distinguishes_a_full_queue_from_a_gap() {
    let (mut room, mut backlog) = (Room::default(), Backlog::default());
    let mut sent = Sent { full: Some(conn(1)), ..Sent::default() };
    for n in 0..3 {
        room.subscribe(subscriber(n, i64::from(n == 2) * -5));
    }
    backlog.push(event(Some(1), None, 0), Vec::new());
    serve(&mut room, &mut backlog, &mut sent, usize::MAX);
    assert_eq!(sent.behind, [(conn(1), Behind::QueueFull), (conn(2), Behind::Gap)]);
    let modes: Vec<Mode> = room.subscribers().iter().map(|subscriber| subscriber.mode).collect();
    assert_eq!(modes, [Mode::Live, Mode::CatchingUp, Mode::CatchingUp]);
}

#[test]
fn serves_a_large_room_for_a_bounded_time_and_smaller_ones_in_between() {
    let (large, small) = (conversation(), ConversationId::from_number(10).unwrap());
    for (send_us, served) in [(0, SLICE_MAX), (3, 100), (1_000, SLICE_MIN)] {
        let mut rooms = Rooms::<Bytes>::new(1 << 20);
        let mut sent = Sent { send_time: Duration::from_micros(send_us), ..Sent::default() };
        for slot in 0..300 {
            rooms.subscribe(subscriber(slot, 0), large);
        }
        let of_small: Vec<u32> = (1_000..1_000 + SLICE_MIN as u32).collect();
        for slot in &of_small {
            rooms.subscribe(subscriber(*slot, 0), small);
        }
        rooms.receive(event(Some(1), None, 0), Vec::new(), &mut sent);
        assert!(rooms.fan_out(&mut sent), "more is left");
        assert_eq!(sent.bytes.len(), served, "{send_us} µs");
        let mut of_the_other = event(Some(1), None, 0);
        Arc::get_mut(&mut of_the_other).unwrap().conversation = small;
        rooms.receive(of_the_other, Vec::new(), &mut sent);
        rooms.fan_out(&mut sent);
        assert!(of_small.iter().all(|slot| sent.bytes.contains_key(&conn(*slot))), "{send_us} µs");
        assert!(sent.bytes.len() < 300, "{send_us} µs: the large room was not finished before");
        while rooms.fan_out(&mut sent) {}
        assert_eq!((sent.bytes.len(), rooms.have_backlog()), (300 + SLICE_MIN, false));
    }
}

#[test]
fn bounds_a_backlog_by_events_and_by_bytes() {
    let mut backlog = Backlog::<Bytes>::default();
    for seq in 1..BACKLOG_EVENTS_MAX as i64 {
        backlog.push(event(Some(seq), None, 0), Vec::new());
        assert!(!backlog.is_full());
    }
    backlog.push(event(Some(BACKLOG_EVENTS_MAX as i64), None, 0), Vec::new());
    assert!(backlog.is_full());

    let mut backlog = Backlog::<Bytes>::default();
    let mut large = event(Some(1), None, 0);
    Arc::get_mut(&mut large).unwrap().frames[0] = Some(Arc::from(vec![0; BACKLOG_BYTES_MAX - 1]));
    backlog.push(large, Vec::new());
    assert!(!backlog.is_full());
    backlog.push(event(Some(2), None, 0), Vec::new());
    assert!(backlog.is_full());
}

#[test]
fn reports_interest_again_when_the_lane_was_full() {
    let mut rooms = Rooms::<Bytes>::new(1 << 20);
    rooms.subscribe(subscriber(1, 0), conversation());
    assert_eq!(rooms.next_interest(), Some((conversation(), Format::Json.bit())));
    assert_eq!(rooms.next_interest(), None);
    rooms.interest_not_sent(conversation());
    assert_eq!(rooms.next_interest(), Some((conversation(), Format::Json.bit())));
    rooms.unsubscribe(conn(1), conversation());
    assert_eq!(rooms.next_interest(), Some((conversation(), 0)));
    rooms.interest_not_sent(conversation());
    assert_eq!(rooms.next_interest(), Some((conversation(), 0)), "a report of no interest is not lost either");
    assert_eq!(rooms.next_interest(), None);
}
