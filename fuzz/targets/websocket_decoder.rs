//! WebSocket frames: the same bytes give the same messages at every split, and no message exceeds the limit.

#![no_main]

use chat_server::wire::ws::MessageKind;
use chat_server::wire::ws::close::CloseCode;
use chat_server::wire::ws::decoder::{DecodeContext, Decoder, Incoming};
use chat_server::wire::ws::deflate::Inflater;
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    static INFLATER: RefCell<Inflater> = RefCell::default();
}

#[derive(PartialEq, Eq, Debug)]
enum Seen {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Fault(CloseCode),
}

fn decode(bytes: &[u8], step: usize, max_message_bytes: usize, deflate: bool) -> Vec<Seen> {
    let mut decoder = Decoder::new(deflate);
    let mut seen = Vec::new();
    INFLATER.with_borrow_mut(|inflater| {
        for chunk in bytes.chunks(step) {
            let mut chunk = chunk.to_vec();
            let mut input = chunk.as_mut_slice();
            loop {
                let mut context = DecodeContext { max_message_bytes, inflater };
                match decoder.next(&mut input, &mut context) {
                    Ok(None) => break,
                    Ok(Some(Incoming::Message(kind, payload))) => {
                        assert!(payload.len() <= max_message_bytes);
                        assert!(kind != MessageKind::Text || std::str::from_utf8(payload).is_ok());
                        seen.push(Seen::Message(kind, payload.to_vec()));
                    }
                    Ok(Some(Incoming::Ping(payload))) => seen.push(Seen::Ping(payload.to_vec())),
                    Ok(Some(Incoming::Pong)) => seen.push(Seen::Pong),
                    Ok(Some(Incoming::Close(code))) => seen.push(Seen::Close(code)),
                    Err(fault) => {
                        seen.push(Seen::Fault(fault.code));
                        return;
                    }
                }
            }
        }
    });
    seen
}

fuzz_target!(|data: &[u8]| {
    let [choice, step, bytes @ ..] = data else { return };
    let (deflate, limit) = (choice & 1 == 1, 16 << ((choice >> 1) % 9));
    let whole = decode(bytes, bytes.len().max(1), limit, deflate);
    assert_eq!(whole, decode(bytes, usize::from(*step).max(1), limit, deflate));
});
