//! Request heads: the end is the same at every split, and no field of a request can add a line to the response of a
//! handshake.

#![no_main]

use chat_server::wire::SUBPROTOCOLS;
use chat_server::wire::ws::handshake::Upgrade;
use chat_server::wire::ws::head::{HeadProgress, HeadScanner, RequestHead, is_host, origin_authority};
use libfuzzer_sys::fuzz_target;

fn scan(bytes: &[u8], step: usize) -> HeadProgress {
    let mut scanner = HeadScanner::default();
    let mut end = 0;
    loop {
        end = (end + step).min(bytes.len());
        let progress = scanner.scan(&bytes[..end]);
        if progress != HeadProgress::Incomplete || end == bytes.len() {
            return progress;
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let [step, bytes @ ..] = data else { return };
    let whole = scan(bytes, bytes.len().max(1));
    let HeadProgress::Complete(end) = whole else { return };
    assert_eq!(scan(bytes, usize::from(*step).max(1)), whole);
    let Ok(head) = RequestHead::parse(&bytes[..end]) else { return };
    assert!(!head.path().contains('?'));
    let _ = (head.query("ticket"), head.query("conversation"), head.wants_websocket());
    if let Some(origin) = head.single("origin").and_then(origin_authority) {
        assert!(is_host(origin.as_bytes()));
    }
    if let Ok(upgrade) = Upgrade::negotiate(&head, &SUBPROTOCOLS, true) {
        let response = upgrade.response(&SUBPROTOCOLS);
        let (fields, rest) = response.split_once("\r\n\r\n").expect("a response with an end");
        assert!(rest.is_empty());
        assert!(fields.lines().count() <= 6, "{response}");
    }
});
