//! The adapter reports what a faulty peer does: the tests feed it bytes of a relay and compare the violations.

use super::super::codec::relay::Relay;
use super::*;
use crate::engine::flow::Flight;
use crate::payload::{RunId, Sizes, Token};
use std::collections::BTreeSet;

fn format() -> PayloadFormat {
    PayloadFormat { run: RunId(0xabc), sizes: Sizes::all(80) }
}
const ROOM: u32 = 7;

/// Records what a protocol reports.
#[derive(Default)]
struct Notes {
    waiting: BTreeSet<u32>,
    lines: Vec<String>,
    violations: Violations,
}

impl Sink for Notes {
    fn ready(&mut self) {
        self.lines.push("ready".to_owned());
    }
    fn acked(&mut self, number: u32) -> Option<Flight> {
        self.waiting.remove(&number).then_some(Flight { room: ROOM, planned_ns: 0 })
    }
    fn refused(&mut self, number: u32, _code: &str, _retry_after_ms: Option<u64>) -> Option<Flight> {
        self.acked(number)
    }
    fn waits(&self, number: u32) -> bool {
        self.waiting.contains(&number)
    }
    fn delivered(&mut self, room: u32, planned_ns: u64) {
        self.lines.push(format!("delivered in {room}, planned {planned_ns}"));
    }
    fn other_event(&mut self) {
        self.lines.push("other".to_owned());
    }
    fn operation(&mut self, _name: &'static str, _started_ns: u64) {}
    fn error(&mut self, _code: &str) {}
    fn lagging(&mut self) {}
    fn reset(&mut self) {}
    fn going_away(&mut self, _retry_after_ms: Option<u64>) {}
    fn violation(&mut self, kind: ViolationKind, describe: impl FnOnce() -> String) {
        self.violations.note(kind, describe);
    }
    fn fail(&mut self, reason: String) {
        self.lines.push(format!("failed: {reason}"));
    }
}

struct Bench {
    system: Arc<Adapter<Relay>>,
    protocol: AdapterProtocol<Relay>,
    peer: Peer<State<Relay>>,
    notes: Notes,
}

impl Bench {
    /// One connection in one room.
    fn new() -> Self {
        let system = Arc::new(Adapter::new(1, format()));
        let mut protocol = system.protocol();
        let rooms: Arc<[u32]> = Arc::from([ROOM]);
        let state = protocol.state(ClientIndex(0), &rooms);
        let peer = Peer { client: ClientIndex(0), user: 0, rooms, reopened: false, state, out: Outbox::new(1) };
        let mut bench = Self { system, protocol, peer, notes: Notes::default() };
        bench.protocol.opened(&mut bench.peer, &mut bench.notes);
        bench.hear(r#"{"t":"joined"}"#);
        assert_eq!(bench.notes.lines.pop().as_deref(), Some("ready"));
        bench
    }

    fn hear(&mut self, text: &str) {
        let message = Message { text: true, payload: text.as_bytes(), frame: &[] };
        self.protocol.message(&mut self.peer, message, &mut self.notes);
    }

    fn hear_all(&mut self, frames: &[&str]) {
        for frame in frames {
            self.hear(frame);
        }
    }

    /// Message `number` is published and acknowledged; returns the frame that delivers it.
    fn send(&mut self, number: u32) -> String {
        let token = Token { client: ClientIndex(0), number };
        let planned_ns = u64::from(number) + 100;
        self.notes.waiting.insert(number);
        self.protocol.publish(&mut self.peer, Publish { token, room: ROOM, planned_ns, repeated: false });
        self.hear(&format!(r#"{{"t":"ack","token":"{number}"}}"#));
        let payload = format().write(token, planned_ns);
        format!(r#"{{"t":"message","room":"{ROOM}","token":"{number}","payload":"{payload}"}}"#)
    }

    /// All violations, found on the way and at the end.
    fn end(mut self) -> Violations {
        self.protocol.sync(&mut self.peer);
        self.notes.violations.merge(self.system.finish(true));
        self.notes.violations
    }
}

#[test]
fn accepts_a_correct_peer() {
    let mut bench = Bench::new();
    for number in 0..3 {
        let frame = bench.send(number);
        bench.hear(&frame);
    }
    assert_eq!(bench.notes.lines[2], "delivered in 7, planned 102");
    bench.protocol.sync(&mut bench.peer);
    assert!(bench.system.settled());
    assert_eq!(bench.end().total(), 0);
}

#[test]
fn every_fault_of_a_peer_is_reported() {
    type Fault = fn(&mut Bench, &str, &str);
    let faults: [(ViolationKind, Fault); 6] = [
        (ViolationKind::Undelivered, |bench, first, _| bench.hear(first)),
        (ViolationKind::Duplicate, |bench, first, second| bench.hear_all(&[first, first, second])),
        (ViolationKind::Disorder, |bench, first, second| bench.hear_all(&[second, first])),
        (ViolationKind::Corrupted, |bench, first, second| {
            bench.hear(first);
            bench.hear(&second.replace("the", "teh").replace("over", "0ver").replace("a ", "b "));
        }),
        (ViolationKind::Phantom, |bench, first, second| {
            bench.hear(&first.replace(r#""room":"7""#, r#""room":"8""#));
            bench.hear(second);
        }),
        (ViolationKind::UnexpectedReply, |bench, first, second| {
            bench.hear_all(&[first, second]);
            bench.hear(r#"{"t":"ack","token":"9"}"#);
        }),
    ];
    for (kind, fault) in faults {
        let mut bench = Bench::new();
        let (first, second) = (bench.send(0), bench.send(1));
        fault(&mut bench, &first, &second);
        assert_eq!(bench.end().count(kind), 1, "{kind:?}");
    }
}

#[test]
fn a_message_without_an_answer_is_reported() {
    let mut bench = Bench::new();
    let token = Token { client: ClientIndex(0), number: 0 };
    bench.protocol.publish(&mut bench.peer, Publish { token, room: ROOM, planned_ns: 1, repeated: false });
    assert_eq!(bench.end().count(ViolationKind::Unanswered), 1);
}

#[test]
fn closes_a_connection_with_invalid_bytes() {
    let mut bench = Bench::new();
    bench.hear("what?");
    assert!(bench.notes.lines[0].starts_with("failed"));
    assert_eq!(bench.end().count(ViolationKind::Protocol), 1);
}
