//! The text of a post: its message with the mentions in it, and the cards of programs.

use crate::import::written::{MarkedText, code_end};

/// Bytes of a name behind an @.
const NAME_BYTES_MAX: usize = 64;

const fn is_name(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_')
}

/// A text, in which names of users behind an @ become mentions. Code stays as it is.
pub(super) fn written(text: &str, is_user: impl Fn(&str) -> Option<i64>) -> MarkedText {
    let mut written = MarkedText::default();
    let bytes = text.as_bytes();
    // What is before `from` is written.
    let (mut from, mut at) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'`' => at = code_end(text, at),
            b'@' if at == 0 || !(is_name(bytes[at - 1]) || bytes[at - 1] == b'@') => {
                let length = bytes[at + 1..].iter().take(NAME_BYTES_MAX).take_while(|byte| is_name(**byte)).count();
                let (name, user) = longest_user(&text[at + 1..at + 1 + length], &is_user);
                if let Some(user) = user {
                    written.push_str(&text[from..at]);
                    written.push_mention(user, name);
                    from = at + 1 + name.len();
                }
                at += 1 + name.len();
            }
            _ => at += 1,
        }
    }
    written.push_str(&text[from..]);
    written
}

/// The user of a name, or of the name without the marks of a sentence behind it.
fn longest_user(name: &str, is_user: impl Fn(&str) -> Option<i64>) -> (&str, Option<i64>) {
    let mut shorter = name;
    loop {
        if let Some(user) = (!shorter.is_empty()).then(|| is_user(shorter)).flatten() {
            return (shorter, Some(user));
        }
        match shorter.strip_suffix(['.', '-', '_']) {
            Some(rest) => shorter = rest,
            None => return (name, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::written::MARK;

    #[test]
    fn names_of_users_become_mentions() {
        let is_user = |name: &str| ["jane.doe", "bob"].iter().position(|user| *user == name).map(|at| at as i64);
        for (given, kept, mentions) in [
            ("@jane.doe: hi", "\x02: hi", &["0/jane.doe"][..]),
            ("ask @bob. Or @jane.doe.", "ask \x02. Or \x02.", &["1/bob", "0/jane.doe"]),
            ("(@bob)@bob", "(\x02)\x02", &["1/bob", "1/bob"]),
            ("bob@bob.org x@bob", "bob@bob.org x@bob", &[]),
            ("@nobody @here @", "@nobody @here @", &[]),
            ("`@bob` ```x\n@bob``` @bob", "`@bob` ```x\n@bob``` \x02", &["1/bob"]),
            ("``` @bob", "``` \x02", &["1/bob"]),
            ("é@bob", "é\x02", &["1/bob"]),
        ] {
            let found = written(given, is_user);
            assert_eq!(
                (found.content.as_str(), found.mentions.as_slice()),
                (kept, &mentions.iter().map(|m| (*m).to_owned()).collect::<Vec<_>>()[..]),
                "{given}"
            );
            assert_eq!(found.content.matches(MARK).count(), mentions.len());
        }
    }
}
