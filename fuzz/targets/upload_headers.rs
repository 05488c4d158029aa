//! What an upload says about itself: `Upload-Metadata`, `Upload-Checksum` and the name of the file, one on each line. A
//! name becomes one that is no path and shows what it is; a clean name stays as it is.

#![no_main]

use chat_server::files::{name, tus};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    if let Ok(pairs) = tus::metadata(line()) {
        assert!(pairs.len() <= 16);
    }
    let _ = tus::checksum(line());
    let cleaned = name::cleaned(line());
    assert!(!cleaned.is_empty() && cleaned.chars().count() <= name::CHARS_MAX);
    assert!(!cleaned.contains(['/', '\\', '\0', '\r', '\n']) && !cleaned.starts_with('.'));
    assert_eq!(name::cleaned(&cleaned), cleaned);
    for encoded in [name::disposition(&cleaned, true), name::path_segment(&cleaned)] {
        assert!(encoded.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    }
    assert!(!name::path_segment(&cleaned).contains(['/', '?', '#', '&', '"']));
});
