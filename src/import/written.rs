//! The text of a message of an export: what is kept of it, whom it mentions, and its parts if it is too long.
//!
//! A mention is one character, [`MARK`], in the text, and a name beside it: usernames are final only in the plan, which
//! replaces the marks. No text of an export can have a mark of its own, because control characters are left out.
//!
//! Pure, and linear in the length of the text.

/// Stands for a mention.
pub(super) const MARK: char = '\x02';
/// Characters of a message.
pub(super) const CHARS_MAX: usize = 4_000;
/// Characters that a mention can take.
const MENTION_CHARS: usize = 51;
/// A part ends at a line or a word, if one ends in its last characters.
const SEARCHED_CHARS: usize = 1_000;

/// A text with its mentions.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct MarkedText {
    /// The text, with a [`MARK`] for each mention.
    pub(super) content: String,
    /// For each mark the number of the user and the name for a user that is not imported: `17/ann`.
    pub(super) mentions: Vec<String>,
    /// Whether control characters were left out.
    pub(super) has_dropped: bool,
}

impl MarkedText {
    /// Appends text as it is, without control characters. A NUL stays: the row is rejected for it.
    pub(super) fn push_str(&mut self, text: &str) {
        for c in text.chars() {
            if c.is_control() && !matches!(c, '\n' | '\r' | '\t' | '\0') {
                self.has_dropped = true;
            } else {
                self.content.push(c);
            }
        }
    }

    /// Appends a mention.
    pub(super) fn push_mention(&mut self, user: i64, name: &str) {
        self.content.push(MARK);
        let name: String = name.chars().filter(|c| !c.is_whitespace() && !c.is_control() && *c != '/').collect();
        self.mentions.push(format!("{user}/{name}"));
    }

    /// Appends another text in lines of its own.
    pub(super) fn push_lines(&mut self, other: Self) {
        if !self.content.trim_end().is_empty() && !other.content.is_empty() {
            self.content.push('\n');
        }
        self.content.push_str(&other.content);
        self.mentions.extend(other.mentions);
        self.has_dropped |= other.has_dropped;
    }

    /// The text with names instead of marks, where mentions mean nothing.
    pub(super) fn into_plain(self) -> String {
        let mut names = self.mentions.iter().map(|mention| mention.split_once('/').map_or("", |(_, name)| name));
        let mut text = String::new();
        for c in self.content.chars() {
            if c == MARK {
                text.push('@');
                text.push_str(names.next().unwrap_or_default());
            } else {
                text.push(c);
            }
        }
        text
    }

    /// Whether a reader sees nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.content.trim().is_empty()
    }

    /// The parts that messages can have: one, unless the text is too long.
    pub(super) fn split(self) -> Vec<Self> {
        let length = |c: char| if c == MARK { MENTION_CHARS } else { 1 };
        if self.content.chars().map(length).sum::<usize>() <= CHARS_MAX {
            return vec![self];
        }
        let mut mentions = self.mentions.into_iter();
        let mut parts = Vec::new();
        let mut rest = self.content.as_str();
        while !rest.trim().is_empty() {
            let end = part_end(rest, length);
            let content = rest[..end].to_owned();
            rest = &rest[end..];
            let own: Vec<String> = mentions.by_ref().take(content.matches(MARK).count()).collect();
            // An empty part would be a message without text.
            if !content.trim().is_empty() {
                parts.push(Self { content, mentions: own, has_dropped: self.has_dropped });
            }
        }
        parts
    }
}

/// Where code ends that begins at a backtick.
pub(super) fn code_end(text: &str, at: usize) -> usize {
    let closed = ["```", "`"].into_iter().find_map(|fence| {
        let length = text[at..].strip_prefix(fence)?.find(fence)?;
        Some(at + fence.len() * 2 + length)
    });
    closed.unwrap_or_else(|| at + text[at..].bytes().take_while(|byte| *byte == b'`').count())
}

/// Where the first part of a text ends.
fn part_end(text: &str, length: impl Fn(char) -> usize) -> usize {
    let (mut chars, mut hard) = (0, text.len());
    let (mut line, mut word) = (None, None);
    for (at, c) in text.char_indices() {
        chars += length(c);
        if chars > CHARS_MAX {
            hard = at;
            break;
        }
        if chars > CHARS_MAX - SEARCHED_CHARS {
            let after = at + c.len_utf8();
            if c == '\n' {
                line = Some(after);
            } else if c == ' ' {
                word = Some(after);
            }
        }
    }
    if hard == text.len() { hard } else { line.or(word).unwrap_or(hard) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> MarkedText {
        let mut written = MarkedText::default();
        written.push_str(text);
        written
    }

    #[test]
    fn no_text_has_a_mark_of_its_own() {
        let mut written = plain("a\x02b\x07c\n\td");
        written.push_mention(7, "a b/c");
        assert_eq!((written.content.as_str(), written.mentions[0].as_str()), ("abc\n\td\x02", "7/abc"));
        assert!(written.has_dropped);
    }

    #[test]
    fn long_texts_become_parts_that_are_the_text() {
        for text in ["word ".repeat(3_000), "x".repeat(9_001), "é\n".repeat(5_000)] {
            let parts = plain(&text).split();
            assert!(parts.len() > 1 && parts.iter().all(|part| part.content.chars().count() <= CHARS_MAX));
            let whole: String = parts.iter().map(|part| part.content.as_str()).collect();
            assert_eq!(whole, text);
        }
        assert_eq!(plain(&"x".repeat(4_000)).split().len(), 1);
    }

    #[test]
    fn parts_keep_their_mentions() {
        let mut written = MarkedText::default();
        for n in 0..200 {
            written.push_str("hello ");
            written.push_mention(n, "ann");
        }
        let parts = written.split();
        assert!(parts.len() > 1);
        for part in &parts {
            assert_eq!(part.content.matches(MARK).count(), part.mentions.len());
        }
        assert_eq!(parts.iter().map(|part| part.mentions.len()).sum::<usize>(), 200);
    }
}
