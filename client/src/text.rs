//! Sanitizes other people's text for a terminal.
//!
//! Invariant: the results contain no control characters (C0, DEL, C1). `ESC [` and U+009B begin sequences that move the
//! cursor, rename the window, or insert input. They contain no bidirectional controls either, which can make a line
//! look like another one. Otherwise a message could control the terminal of everyone who reads it. Replaced characters
//! stay visible.

use serde_json::Value;
use std::fmt::Write as _;

/// Whether a character must not reach the terminal.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn push(out: &mut String, c: char) {
    match c {
        '\t' => out.push(' '),
        // Unicode has symbols for these: ␛ for ESC.
        '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(c))),
        '\u{7f}' => out.push('␡'),
        c if is_hostile(c) => {
            let _ = write!(out, "<U+{:04X}>", u32::from(c)); // writing into a String cannot fail
        }
        c => out.push(c),
    }
}

/// Sanitizes text that belongs on one line: names, errors, everything except the content of a message.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut out, c));
    out
}

/// The sanitized lines of a message.
pub fn lines(text: &str) -> Vec<String> {
    text.replace("\r\n", "\n").split(['\n', '\u{2028}', '\u{2029}']).map(line).collect()
}

/// A value as JSON on one line. All characters that could control a terminal are escaped as `\u…`; JSON itself requires
/// that only below U+0020.
pub fn json(value: &Value) -> String {
    let plain = value.to_string();
    let mut out = String::with_capacity(plain.len());
    for c in plain.chars() {
        if is_hostile(c) {
            let _ = write!(out, "\\u{:04x}", u32::from(c)); // all of them are below U+10000
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const HOSTILE: &str = "a\u{1b}[2J\u{9b}31m\u{7}\u{7f}\u{202e}\u{2066}b\u{85}";

    #[test]
    fn replaces_everything_that_controls_a_terminal() {
        let shown = line(HOSTILE);
        assert_eq!(shown, "a␛[2J<U+009B>31m␇␡<U+202E><U+2066>b<U+0085>");
        for c in (0..=0x2_ffff).filter_map(char::from_u32).filter(|c| is_hostile(*c)) {
            assert!(!line(&c.to_string()).chars().any(is_hostile), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn messages_keep_their_lines_and_names_have_one() {
        assert_eq!(lines("a\r\nb\n\nc\u{2028}d\re"), ["a", "b", "", "c", "d␍e"]);
        assert_eq!(line("a\nb\tc"), "a␊b c");
        assert_eq!(line("Grüße 👩‍👩‍👧 שלום"), "Grüße 👩‍👩‍👧 שלום");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = json!({ "content": HOSTILE, "n": 1 });
        let text = super::json(&value);
        assert!(!text.chars().any(is_hostile), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
