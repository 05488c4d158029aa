//! The decoder at every split point, with byte literals next to what they mean.

use super::*;
use proptest::prelude::*;

#[derive(Debug, PartialEq, Eq, Clone)]
enum Seen {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Fault(CloseCode),
}

/// Feeds `bytes` in chunks of `step` and collects what comes out.
fn decode(bytes: &[u8], step: usize, max_message_bytes: usize, deflate: bool) -> Vec<Seen> {
    let mut decoder = Decoder::new(deflate);
    let mut inflater = Inflater::default();
    let mut seen = Vec::new();
    for chunk in bytes.chunks(step.max(1)) {
        let mut chunk = chunk.to_vec();
        let mut input = chunk.as_mut_slice();
        loop {
            let mut context = DecodeContext { max_message_bytes, inflater: &mut inflater };
            match decoder.next(&mut input, &mut context) {
                Ok(None) => break,
                Ok(Some(Incoming::Message(kind, payload))) => seen.push(Seen::Message(kind, payload.to_vec())),
                Ok(Some(Incoming::Ping(payload))) => seen.push(Seen::Ping(payload.to_vec())),
                Ok(Some(Incoming::Pong)) => seen.push(Seen::Pong),
                Ok(Some(Incoming::Close(code))) => seen.push(Seen::Close(code)),
                Err(fault) => {
                    seen.push(Seen::Fault(fault.code));
                    return seen;
                }
            }
        }
    }
    if decoder.message.is_none() && decoder.frame.is_none() && decoder.header_len == 0 {
        assert_eq!(
            (decoder.assembled.capacity(), decoder.control.is_some()),
            (0, false),
            "an idle decoder owns no memory"
        );
    }
    seen
}

/// A masked client frame.
fn client_frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let key = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first_byte];
    match payload.len() {
        n @ 0..=125 => frame.push(0x80 | n as u8),
        n @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend((n as u16).to_be_bytes());
        }
        n => {
            frame.push(0xff);
            frame.extend((n as u64).to_be_bytes());
        }
    }
    frame.extend(key);
    frame.extend(payload.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k));
    frame
}

#[test]
fn decodes_the_rfc_examples_at_every_split() {
    // RFC 6455 §5.7: a single-frame masked text message, "Hello".
    let hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    for step in 1..=hello.len() {
        assert_eq!(decode(&hello, step, 100, false), [Seen::Message(MessageKind::Text, b"Hello".to_vec())]);
    }
}

#[test]
fn control_frames_interleave_with_fragments() {
    let mut bytes = client_frame(0x01, b"Hel");
    bytes.extend(client_frame(0x89, b"?"));
    bytes.extend(client_frame(0x00, b""));
    bytes.extend(client_frame(0x8a, b""));
    bytes.extend(client_frame(0x80, b"lo"));
    bytes.extend(client_frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']));
    let expected = [
        Seen::Ping(b"?".to_vec()),
        Seen::Pong,
        Seen::Message(MessageKind::Text, b"Hello".to_vec()),
        Seen::Close(Some(1000)),
    ];
    for step in 1..=bytes.len() {
        assert_eq!(decode(&bytes, step, 100, false), expected, "step {step}");
    }
}

#[test]
fn violations_get_their_close_code() {
    let mut interrupted = client_frame(0x01, b"a");
    interrupted.extend(client_frame(0x81, b"b"));
    let unfinished_text = client_frame(0x81, &[0xce]);
    let mut early_bad_text = client_frame(0x81, &[b'a'; 100]);
    early_bad_text[6] = 0xff ^ early_bad_text[2]; // first payload byte becomes 0xff
    early_bad_text.truncate(8); // and most of the frame has not arrived yet
    for (name, bytes, code) in [
        ("no mask", vec![0x81, 0x01, b'a'], CloseCode::Protocol),
        ("rsv1 without deflate", client_frame(0xc1, b"a"), CloseCode::Protocol),
        ("rsv2", client_frame(0xa1, b"a"), CloseCode::Protocol),
        ("reserved opcode", client_frame(0x83, b"a"), CloseCode::Protocol),
        ("fragmented ping", client_frame(0x09, b"a"), CloseCode::Protocol),
        ("long ping", vec![0x89, 0xfe], CloseCode::Protocol),
        ("continuation of nothing", client_frame(0x80, b"a"), CloseCode::Protocol),
        ("message in message", interrupted, CloseCode::Protocol),
        ("half a close code", client_frame(0x88, &[3]), CloseCode::Protocol),
        ("reserved close code", client_frame(0x88, &[0x03, 0xed]), CloseCode::Protocol),
        ("close reason not UTF-8", client_frame(0x88, &[0x03, 0xe8, 0xff]), CloseCode::InvalidPayload),
        ("text ends inside a character", unfinished_text, CloseCode::InvalidPayload),
        ("text broken, frame unfinished", early_bad_text, CloseCode::InvalidPayload),
        ("declares 2^63", vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], CloseCode::Protocol),
        ("declares 2^64-1", vec![0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255], CloseCode::Protocol),
        ("declares 2^62", vec![0x82, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0], CloseCode::TooBig),
        ("not the shortest form", vec![0x82, 0xfe, 0, 5], CloseCode::Protocol),
        ("too big", vec![0x82, 0xfe, 0x10, 0], CloseCode::TooBig),
    ] {
        for step in [1, bytes.len()] {
            assert_eq!(decode(&bytes, step, 1_000, false).last(), Some(&Seen::Fault(code)), "{name}, step {step}");
        }
    }
}

#[test]
fn empty_fragments_are_charged() {
    let mut bytes = client_frame(0x01, b"");
    for _ in 0..1_000_000 {
        bytes.extend(client_frame(0x00, b""));
    }
    assert_eq!(decode(&bytes, 4_096, 65_536, false), [Seen::Fault(CloseCode::TooBig)]);
}

#[test]
fn a_fragmented_message_may_fill_the_limit_and_not_pass_it() {
    let mut bytes = client_frame(0x02, &[1; 999]);
    bytes.extend(client_frame(0x80, &[2; 1]));
    assert!(matches!(decode(&bytes, 7, 1_000, false)[..], [Seen::Message(..)]));
    assert_eq!(decode(&bytes, 7, 999, false), [Seen::Fault(CloseCode::TooBig)]);
}

#[test]
fn compressed_messages_inflate_at_every_split_and_stay_capped() {
    // RFC 7692 §7.2.3.1, in two fragments with a ping between.
    let mut bytes = client_frame(0x41, &[0xf2, 0x48, 0xcd]);
    bytes.extend(client_frame(0x89, b""));
    bytes.extend(client_frame(0x80, &[0xc9, 0xc9, 0x07, 0x00]));
    let expected = [Seen::Ping(vec![]), Seen::Message(MessageKind::Text, b"Hello".to_vec())];
    for step in 1..=bytes.len() {
        assert_eq!(decode(&bytes, step, 100, true), expected);
    }
    let bomb = super::super::deflate::Deflater::default().deflate(&vec![b' '; 1 << 20], 15).unwrap();
    assert_eq!(decode(&client_frame(0xc1, &bomb), 1 << 20, 65_536, true), [Seen::Fault(CloseCode::TooBig)]);
    let broken = client_frame(0xc1, &[0xff; 8]);
    assert_eq!(decode(&broken, 3, 65_536, true), [Seen::Fault(CloseCode::InvalidPayload)]);
}

proptest! {
    #[test]
    fn random_bytes_never_panic_and_splits_never_matter(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        step in 1usize..40,
        deflate: bool,
    ) {
        prop_assert_eq!(decode(&bytes, step, 128, deflate), decode(&bytes, 300, 128, deflate));
    }

    #[test]
    fn messages_survive_any_fragmentation(
        payload in proptest::collection::vec(any::<u8>(), 0..2_000),
        cuts in 1usize..64,
        step in 1usize..600,
    ) {
        let length = payload.len().div_ceil(cuts).max(1);
        let parts: Vec<&[u8]> = if payload.is_empty() { vec![&[]] } else { payload.chunks(length).collect() };
        let mut bytes = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let fin = if i + 1 == parts.len() { 0x80 } else { 0 };
            bytes.extend(client_frame(fin | if i == 0 { 2 } else { 0 }, part));
        }
        prop_assert_eq!(decode(&bytes, step, 8_192, false), [Seen::Message(MessageKind::Binary, payload)]);
    }
}

#[test]
fn knows_at_every_byte_whether_a_message_is_unfinished() {
    let frames = [
        client_frame(0x81, b"whole"),
        client_frame(0x01, b"first"),
        client_frame(0x89, b"ping"),
        client_frame(0x80, b"last"),
        client_frame(0x8a, b""),
    ];
    let bytes = frames.concat();
    let mut ends: Vec<usize> = Vec::new();
    for frame in &frames {
        ends.push(ends.last().copied().unwrap_or(0) + frame.len());
    }
    let between = [0, ends[0], ends[3], ends[4]];
    let mut decoder = Decoder::new(false);
    let mut inflater = Inflater::default();
    for (at, byte) in bytes.iter().enumerate() {
        assert_eq!(decoder.is_within_message(), !between.contains(&at), "before byte {at}");
        let mut chunk = [*byte];
        let mut input = chunk.as_mut_slice();
        let mut context = DecodeContext { max_message_bytes: 100, inflater: &mut inflater };
        let _ = decoder.next(&mut input, &mut context).unwrap();
    }
    assert!(!decoder.is_within_message());
}
