//! permessage-deflate: inflating never exceeds the limit, nothing survives a message, and what the server compresses
//! inflates to the same bytes.

#![no_main]

use chat_server::wire::ws::deflate::{Deflater, Inflater};
use libfuzzer_sys::fuzz_target;
use std::cell::RefCell;

thread_local! {
    static STREAMS: RefCell<(Inflater, Deflater)> = RefCell::default();
}

fuzz_target!(|data: &[u8]| {
    let [choice, bytes @ ..] = data else { return };
    let limit = 1 << (choice % 17);
    STREAMS.with_borrow_mut(|(inflater, deflater)| {
        let text = inflater.inflate(bytes, limit).ok();
        assert!(text.as_ref().is_none_or(|text| text.len() <= limit));
        // Which of its two faults a corrupt and too long message has depends on the size of the buffer.
        assert_eq!(text, Inflater::default().inflate(bytes, limit).ok());
        if let Some(compressed) = deflater.deflate(bytes, 9 + choice % 7) {
            assert_eq!(inflater.inflate(&compressed, bytes.len()).map(|text| &*text), Ok(bytes));
        }
    });
});
