//! The first bytes of a file, and before a line break its name and its declared type: what is shown inline can carry no
//! script, and a type that is served is never one that a page of the same origin would use.

#![no_main]

use chat_server::files::kind;
use libfuzzer_sys::fuzz_target;
use std::io::Cursor;

fuzz_target!(|bytes: &[u8]| {
    let (given, content) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (&[][..], bytes),
    };
    let given = String::from_utf8_lossy(given);
    let (name, declared) = given.split_once('|').unwrap_or((&given, ""));
    let head = &content[..content.len().min(kind::HEAD_BYTES)];
    let found = kind::found(head, head.len() == content.len(), name);
    let _ = kind::check(found, name, Some(declared), &["image/*".to_owned(), "text/plain".to_owned()]);
    if let Ok(Some((width, height))) = kind::dimensions(found, &mut Cursor::new(content)) {
        assert!(width > 0 && height > 0 && u64::from(width) * u64::from(height) <= 100_000_000);
    }
    let served = kind::served_type(found);
    // By its parts, because "openxmlformats" names office documents.
    let mut parts = served.split(['/', '+', '.', '-']);
    let active = parts.find(|part| ["html", "svg", "xml", "javascript", "css", "json"].contains(part));
    assert_eq!(active, None, "{found} is served as {served}");
});
