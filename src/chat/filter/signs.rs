//! Rules about the shape of a text and not about its words: capitals, piled marks, invisible text, mentions, names.

use super::fold::{fold_leet, folded, imitates_latin, is_hidden, is_mark, mixes_scripts};
use crate::text::is_visible;
use std::collections::HashSet;

/// Hidden characters that a text may have, however short it is.
const HIDDEN_ALLOWED: usize = 8;
/// Longest user name in a mention.
const NAME_BYTES_MAX: usize = 50;

/// Whether more than `percent` of the letters are capitals, of at least `min_letters`.
pub fn is_shouted(text: &str, percent: u32, min_letters: u32) -> bool {
    let (mut upper, mut cased) = (0_u32, 0_u32);
    for c in text.chars() {
        let is_upper = c.is_uppercase();
        upper += u32::from(is_upper);
        cased += u32::from(is_upper || c.is_lowercase());
    }
    cased >= min_letters.max(1) && u64::from(upper) * 100 > u64::from(percent) * u64::from(cased)
}

/// Whether a character carries more than `marks_max` marks.
pub fn is_zalgo(text: &str, marks_max: u32) -> bool {
    if text.is_ascii() {
        return false;
    }
    let mut marks = 0;
    text.chars().any(|c| {
        marks = if is_mark(c) { marks + 1 } else { 0 };
        marks > marks_max
    })
}

/// Whether readers see nothing of the text, or less than what it hides; with `overrides` also a direction override.
pub fn is_hidden_text(text: &str, overrides: bool) -> bool {
    if text.is_ascii() {
        return !is_visible(text);
    }
    let (mut hidden, mut shown) = (0_usize, 0_usize);
    let mut in_flag = false;
    for c in text.chars() {
        if overrides && matches!(c, '\u{202d}' | '\u{202e}') {
            return true;
        }
        // Flags of regions are a black flag and tags.
        in_flag = c == '\u{1f3f4}' || (in_flag && matches!(c, '\u{e0020}'..='\u{e007f}'));
        // Joiners are part of emoji and of several scripts.
        match c {
            '\u{200c}' | '\u{200d}' | '\u{00ad}' => {}
            c if is_hidden(c) && !in_flag => hidden += 1,
            c => shown += usize::from(!c.is_whitespace()),
        }
    }
    !is_visible(text) || (hidden > HIDDEN_ALLOWED && hidden * 2 > shown)
}

/// Whether more than `max` different names are mentioned.
pub fn mentions_more_than(text: &str, max: u32) -> bool {
    let max = max as usize;
    if text.bytes().filter(|b| *b == b'@').count() <= max {
        return false;
    }
    let mut names = HashSet::new();
    for (at, _) in text.match_indices('@') {
        if text[..at].bytes().next_back().is_some_and(|b| b.is_ascii_alphanumeric()) {
            continue; // an e-mail address
        }
        let name = text[at + 1..].bytes().take(NAME_BYTES_MAX);
        let name: Vec<u8> = name
            .take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            .map(|b| b.to_ascii_lowercase())
            .collect();
        if !name.is_empty() && names.insert(name) && names.len() > max {
            return true;
        }
    }
    false
}

/// Names that only their exact spelling may have, folded.
#[derive(Debug)]
pub struct ProtectedNames(HashSet<String>, HashSet<String>);

fn skeleton(name: &str) -> String {
    let mut text = folded(name);
    fold_leet(&mut text);
    text.retain(char::is_alphanumeric);
    text
}

impl ProtectedNames {
    /// Of these names.
    pub fn new(names: &[String]) -> Self {
        Self(names.iter().map(|name| skeleton(name)).collect(), names.iter().map(|name| name.to_lowercase()).collect())
    }

    /// Whether the name imitates one: with letters of another script, or with signs for letters.
    pub fn is_imitated_by(&self, name: &str) -> bool {
        mixes_scripts(name)
            || (self.0.contains(&skeleton(name)) && !self.1.contains(&name.to_lowercase()))
            || (imitates_latin(name) && self.0.contains(&skeleton(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_capitals_against_letters_with_case() {
        assert!(is_shouted("BUY NOW!!! GREAT OFFER", 80, 10));
        for calm in ["OK", "NASA", "Buy now", "日本語日本語日本語", "", "ABC abc ABC abc"] {
            assert!(!is_shouted(calm, 80, 10), "{calm}");
        }
    }

    #[test]
    fn counts_marks_on_one_character() {
        let zalgo = format!("h{}i", "\u{301}".repeat(6));
        assert!(is_zalgo(&zalgo, 5) && !is_zalgo(&zalgo, 6));
        for ordinary in ["é", "e\u{301}\u{323}", "नमस्ते", "ที่นี่", "Tiếng Việt", "שָׁלוֹם", "👩‍👩‍👧"]
        {
            assert!(!is_zalgo(ordinary, 4), "{ordinary}");
        }
    }

    #[test]
    fn finds_text_that_readers_do_not_see() {
        for hidden in ["\u{200b}\u{200b}".to_owned(), format!("hi{}", "\u{e0061}".repeat(40)), "\u{2060}".repeat(20)] {
            assert!(is_hidden_text(&hidden, false), "{hidden:?}");
        }
        let flags = "\u{1f3f4}\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}".repeat(5);
        let khmer = "ខ្ញុំ\u{200b}ចង់\u{200b}ទៅ\u{200b}ផ្សារ";
        for shown in ["hi", "می‌خواهم", "👩‍👩‍👧", &flags, khmer, "a\u{202d}b\u{202c}"] {
            assert!(!is_hidden_text(shown, false), "{shown:?}");
        }
        assert!(is_hidden_text("a\u{202d}b\u{202c}", true) && !is_hidden_text("\u{202b}x\u{202c}", true));
    }

    #[test]
    fn counts_different_mentions() {
        assert!(mentions_more_than("@ann @bob @cid", 2));
        assert!(!mentions_more_than("@ann @ANN @ann hello", 2));
        assert!(!mentions_more_than("a@b.org c@d.org e@f.org", 2));
    }

    #[test]
    fn protects_names_from_imitation() {
        let names = ProtectedNames::new(&["admin".to_owned()]);
        for imitation in ["аdmin", "Adm1n", "ádmin", "a-d-m-i-n", "ａｄｍｉｎ"] {
            assert!(names.is_imitated_by(imitation), "{imitation}");
        }
        for own in ["admin", "Admin", "administrator", "Юлия", "Ada", "佐藤 Kei"] {
            assert!(!names.is_imitated_by(own), "{own}");
        }
    }
}
