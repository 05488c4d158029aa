//! Benchmarks of the parts of the hot path, in user space: `cargo bench --bench hot_path`.
//!
//! The figures are elapsed times, so compare only runs on the same machine (`--save-baseline` and `--baseline` of
//! criterion). `loadtest` measures whole messages, with the kernel, next to a minimal baseline.

use chat_server::chat::filter::FilterRuleSet;
use chat_server::chat::filter::compiled::{Context, Field, Rules};
use chat_server::chat::filter::tally::Tallies;
use chat_server::chat::subscribers::{Fit, Mode, Room, Subscriber};
use chat_server::ids::{ConnId, ConversationId, MessageId, Seq, ShardId, UserId};
use chat_server::latency::LatencyHistogram;
use chat_server::limits::Limits;
use chat_server::mesh::log_watch::LogWatch;
use chat_server::mesh::record::{MessageRecord, Sender};
use chat_server::wire::json::JsonReader;
use chat_server::wire::ws::decoder::DecodeContext;
use chat_server::wire::ws::deflate::Inflater;
use chat_server::wire::ws::peer::{Peer, PeerEvent};
use chat_server::wire::{Format, command, event};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

/// A masked client frame.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u8::try_from(payload.len()) {
        Ok(length @ 0..126) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 + 126);
            frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
    }
    let key = [0x12, 0x34, 0x56, 0x78];
    frame.extend_from_slice(&key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn command_frame(format: Format) -> Vec<u8> {
    let value = json!({"type": "send_message", "id": 7, "data": {
        "conversation_id": "room_6", "content": "x".repeat(128), "client_message_id": "c-0001"}});
    match format {
        Format::Json => masked(1, value.to_string().as_bytes()),
        Format::MessagePack => masked(2, &rmp_serde::to_vec_named(&value).unwrap()),
    }
}

fn record() -> MessageRecord {
    let sender =
        Sender { id: UserId(42), username: "ada".to_owned(), display_name: "Ada Lovelace".to_owned(), role: None };
    let room = ConversationId::from_number(6).unwrap();
    let created_at = "2025-01-01T00:00:00.000Z".to_owned();
    MessageRecord {
        content: "x".repeat(128),
        ..MessageRecord::new(MessageId(123_456), room, Seq(4_711), sender, created_at)
    }
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("frame to command");
    let limits = Limits::default();
    for format in Format::ALL {
        let frame = command_frame(format);
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("{format:?}"), |b| {
            let (mut peer, mut inflater, mut json) = (Peer::new(false), Inflater::default(), JsonReader::default());
            b.iter_batched_ref(
                || frame.clone(),
                |bytes| {
                    let mut input = bytes.as_mut_slice();
                    let mut context = DecodeContext { max_message_bytes: 65_536, inflater: &mut inflater };
                    match peer.next(&mut input, &mut context) {
                        Some(PeerEvent::Message(_, payload)) => {
                            let parsed = command::parse(payload, format, &mut json, &limits);
                            assert!(black_box(parsed).command.is_ok());
                        }
                        other => panic!("{other:?}"),
                    }
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("event to frame");
    let record = record();
    for format in Format::ALL {
        group.bench_function(format!("{format:?}"), |b| {
            b.iter(|| event::encode(format, "message_created", None, black_box(&record)).unwrap());
        });
    }
    group.finish();
}

fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("cursor of each subscriber");
    for size in [10_u32, 1_000, 10_000] {
        group.throughput(Throughput::Elements(size.into()));
        group.bench_function(format!("room of {size}"), |b| {
            let mut room = Room::default();
            for slot in 0..size {
                let conn = ConnId::new(ShardId(0), 0, slot);
                let (cursor, mode) = (Seq(0), Mode::Live);
                room.subscribe(Subscriber {
                    conn,
                    user: UserId(1),
                    cursor,
                    member_at: Seq(0),
                    mode,
                    announce: false,
                    must_read: false,
                    format: Format::Json,
                    deflate_bits: 0,
                });
            }
            let mut seq = Seq(0);
            b.iter(|| {
                seq = seq.next();
                for subscriber in room.subscribers() {
                    assert_eq!(subscriber.fit(seq), Fit::Next);
                    subscriber.advance(seq);
                }
            });
        });
    }
    group.finish();
}

fn record_latency(c: &mut Criterion) {
    let histogram = LatencyHistogram::default();
    c.bench_function("record a latency", |b| {
        b.iter(|| histogram.record(black_box(Duration::from_micros(1_234)), 1));
    });
}

/// The rules of a new server, and one rule with 1,000 words.
fn filter_rules() -> FilterRuleSet {
    let words: Vec<String> = (0..1_000_u32).map(|n| format!("w{:x}rd{n}", n.wrapping_mul(2_654_435_761))).collect();
    let rules = json!([
        {"id": "words", "kind": "keywords", "definition": {"words": words}, "action": "hold"},
        {"id": "invisible", "kind": "invisible", "definition": {}, "action": "refuse"},
        {"id": "marks", "kind": "zalgo", "definition": {"marks_max": 8}, "action": "refuse"},
        {"id": "mentions", "kind": "mentions", "definition": {"max": 50}, "action": "refuse"},
        {"id": "domains", "kind": "links", "definition": {"lookalikes": true}, "action": "flag"},
    ]);
    let rules: Vec<_> = serde_json::from_value(rules).unwrap();
    let server = Arc::new(Rules::compile(&rules, None, &Tallies::default()).unwrap());
    FilterRuleSet { server, ..FilterRuleSet::default() }
}

fn filter(c: &mut Criterion) {
    let mut group = c.benchmark_group("content filter, 1,000 words");
    let rules = filter_rules();
    let ordinary =
        "Good morning, @ada! The release of Monday is ready; see https://www.example.org/notes for the list.";
    let russian = "Доброе утро! Отчёт за понедельник уже готов, посмотрите, пожалуйста, до обеда.";
    for (name, text) in [
        ("a message of 100 bytes", ordinary.to_owned()),
        ("a Russian message", russian.to_owned()),
        ("4,000 letters", "w1rd ".repeat(800)),
        ("4,000 characters with marks", "a\u{301}".repeat(2_000)),
        ("4,000 dots", "a.".repeat(2_000)),
    ] {
        let context = Context { field: Field::Message, conversation: None, memory: None, now_s: 0 };
        group.bench_function(name, |b| b.iter(|| rules.check(black_box(&text), &context).hits.len()));
    }
    group.finish();
}

/// What a commit pays for webhooks, for each conversation of its batch.
fn webhooks(c: &mut Criterion) {
    let mut group = c.benchmark_group("a commit noted for webhooks");
    group.throughput(Throughput::Elements(1));
    for (name, is_on) in [("nobody listens", false), ("somebody listens", true)] {
        let watch = LogWatch::default();
        watch.set_on(is_on);
        let mut noted = 0_u64;
        group.bench_function(name, |b| {
            b.iter(|| {
                watch.note(black_box(6));
                noted += 1;
                // As often as 100,000 messages per second fill it between two looks.
                if is_on && noted.is_multiple_of(10_000) {
                    black_box(watch.take());
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode, fan_out, record_latency, filter, webhooks);
criterion_main!(benches);
