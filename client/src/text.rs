//! Other people's text, made harmless for a terminal.
//!
//! Invariant: nothing that this module returns holds a control character (C0, DEL, C1: `ESC [` and U+009B begin the
//! sequences that move the cursor, retitle the window or answer as if typed), nor a character that turns the direction
//! of writing (with which a line can be made to read as another). If one got through, a message could control the
//! terminal of everybody who reads it. What is replaced stays visible.

use serde_json::Value;
use std::fmt::Write as _;

/// Whether a character may not reach the terminal as it is.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

fn push(out: &mut String, c: char) {
    match c {
        '\t' => out.push(' '),
        // Unicode has pictures of these: ␛ for ESC.
        '\0'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(c))),
        '\u{7f}' => out.push('␡'),
        c if is_hostile(c) => {
            let _ = write!(out, "<U+{:04X}>", u32::from(c)); // writing into a String cannot fail
        }
        c => out.push(c),
    }
}

/// On one line: for names, refusals, and whatever else is not the content of a message.
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut out, c));
    out
}

/// A message's lines.
pub fn lines(text: &str) -> Vec<String> {
    text.replace("\r\n", "\n").split(['\n', '\u{2028}', '\u{2029}']).map(line).collect()
}

/// A value as JSON on one line. The same value as ever, but what a terminal could obey stands as `\u…`: JSON itself
/// demands that only below U+0020.
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
    fn nothing_that_a_terminal_obeys_is_left() {
        let shown = line(HOSTILE);
        assert_eq!(shown, "a␛[2J<U+009B>31m␇␡<U+202E><U+2066>b<U+0085>");
        for c in (0..=0x2_ffff).filter_map(char::from_u32).filter(|c| is_hostile(*c)) {
            assert!(!line(&c.to_string()).chars().any(is_hostile), "U+{:04X}", u32::from(c));
        }
    }

    #[test]
    fn a_message_keeps_its_lines_and_a_name_has_one() {
        assert_eq!(lines("a\r\nb\n\nc\u{2028}d\re"), ["a", "b", "", "c", "d␍e"]);
        assert_eq!(line("a\nb\tc"), "a␊b c");
        assert_eq!(line("Grüße 👩‍👩‍👧 שלום"), "Grüße 👩‍👩‍👧 שלום");
    }

    #[test]
    fn json_says_the_same_without_the_characters() {
        let value = json!({ "content": HOSTILE, "n": 1 });
        let text = super::json(&value);
        assert!(!text.chars().any(is_hostile), "{text:?}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
