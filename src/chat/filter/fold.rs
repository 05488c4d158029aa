//! One reading of a text for comparisons: NFKC, without case, accents and invisible characters, and with look-alikes of
//! other scripts as the Latin letters that they imitate.
//!
//! Words of a rule and texts are folded by the same function, so a fold that is too coarse can only find too much.
//! The cost is linear: an ASCII byte is one table look-up, any other character a few.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{canonical_combining_class, is_combining_mark};

/// Folds `text` into `out`, which is cleared first.
pub fn fold(text: &str, out: &mut String) {
    out.clear();
    out.reserve(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = rest.bytes().position(|b| !b.is_ascii()).unwrap_or(rest.len());
        out.extend(rest[..ascii].bytes().map(|b| char::from(b.to_ascii_lowercase())));
        rest = &rest[ascii..];
        let other = rest.bytes().position(|b| b.is_ascii()).unwrap_or(rest.len());
        for c in rest[..other].nfkd() {
            if is_hidden(c) || canonical_combining_class(c) != 0 || is_variation(c) {
                continue;
            }
            for lower in c.to_lowercase() {
                out.push(look_alike(lower).unwrap_or(lower));
            }
        }
        rest = &rest[other..];
    }
}

/// A folded text as a new string.
#[must_use]
pub fn folded(text: &str) -> String {
    let mut out = String::new();
    fold(text, &mut out);
    out
}

/// Replaces digits and signs that stand for letters, in a folded text. Every offset stays valid.
pub fn fold_leet(folded: &mut String) {
    // ASCII becomes ASCII, so the text stays UTF-8; going through the bytes keeps the buffer.
    let mut bytes = std::mem::take(folded).into_bytes();
    for byte in &mut bytes {
        *byte = match *byte {
            b'0' => b'o',
            b'1' | b'!' | b'|' | b'l' => b'i',
            b'3' => b'e',
            b'4' | b'@' => b'a',
            b'5' | b'$' => b's',
            b'7' | b'+' => b't',
            b'8' => b'b',
            other => other,
        };
    }
    *folded = String::from_utf8(bytes).unwrap_or_default();
}

/// Characters that show nothing and that ordinary text does not need between letters.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

fn is_variation(c: char) -> bool {
    matches!(c, '\u{fe00}'..='\u{fe0f}')
}

/// Whether the character is a mark that is drawn over or under another one.
#[must_use]
pub fn is_mark(c: char) -> bool {
    !c.is_ascii() && is_combining_mark(c)
}

/// The Latin letter that a lower-case letter of another script looks like (UTS 39, the pairs of letters in use).
#[must_use]
pub fn look_alike(c: char) -> Option<char> {
    Some(match c {
        'а' | 'α' | 'ɑ' => 'a',
        'в' | 'β' | 'ь' => 'b',
        'с' | 'ϲ' => 'c',
        'ԁ' | 'ɗ' => 'd',
        'е' | 'ё' | 'є' | 'ε' => 'e',
        'ց' | 'ɡ' => 'g',
        'н' | 'һ' | 'հ' => 'h',
        'і' | 'ї' | 'ι' | 'ı' | 'ӏ' => 'i',
        'ј' | 'ϳ' => 'j',
        'к' | 'κ' => 'k',
        'ⅼ' => 'l',
        'м' => 'm',
        'п' | 'η' | 'ո' => 'n',
        'о' | 'ο' | 'օ' | 'σ' => 'o',
        'р' | 'ρ' => 'p',
        'ԛ' => 'q',
        'г' => 'r',
        'ѕ' => 's',
        'т' | 'τ' => 't',
        'υ' | 'ս' => 'u',
        'ѵ' | 'ν' => 'v',
        'ԝ' | 'ω' => 'w',
        'х' | 'χ' => 'x',
        'у' | 'γ' => 'y',
        'ᴢ' => 'z',
        _ => return None,
    })
}

/// A script with letters that look like those of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Script {
    Latin,
    Other,
}

fn script(c: char) -> Option<Script> {
    match c {
        'a'..='z' | 'A'..='Z' | '\u{00c0}'..='\u{024f}' | '\u{1e00}'..='\u{1eff}' => Some(Script::Latin),
        // Greek, Cyrillic, Armenian, Cherokee.
        '\u{0370}'..='\u{058f}'
        | '\u{13a0}'..='\u{13ff}'
        | '\u{1c80}'..='\u{1c8f}'
        | '\u{1f00}'..='\u{1fff}'
        | '\u{a640}'..='\u{a69f}'
        | '\u{ab70}'..='\u{abbf}' => Some(Script::Other),
        _ => None,
    }
}

/// Whether one word mixes Latin letters with those of a script that looks like Latin. Japanese, Chinese and Korean
/// names mix scripts too, but none of those can be mistaken for another.
#[must_use]
pub fn mixes_scripts(text: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric()).any(|word| {
        let mut scripts = word.chars().filter_map(script);
        scripts.next().is_some_and(|first| scripts.any(|script| script != first))
    })
}

/// Whether every letter of the word belongs to another script and looks like a Latin letter.
#[must_use]
pub fn imitates_latin(word: &str) -> bool {
    let mut letters = word.chars().filter(|c| c.is_alphabetic()).peekable();
    letters.peek().is_some()
        && letters.all(|c| script(c) == Some(Script::Other) && c.to_lowercase().all(|c| look_alike(c).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_case_accents_forms_and_look_alikes() {
        for (text, expected) in [
            ("Spam", "spam"),
            ("ＳＰＡＭ", "spam"),
            ("sp\u{200b}a\u{ad}m", "spam"),
            ("ṡṗàḿ", "spam"),
            ("ѕрам", "spam"),
            ("𝓼𝓹𝓪𝓶", "spam"),
            ("Straße", "straße"),
            ("日本語", "日本語"),
            ("", ""),
        ] {
            assert_eq!(folded(text), expected, "{text:?}");
        }
    }

    #[test]
    fn leet_keeps_every_offset() {
        let mut text = folded("V14GR4 für 5$");
        let before = text.len();
        fold_leet(&mut text);
        assert_eq!((text.as_str(), text.len()), ("viagra fur ss", before));
    }

    #[test]
    fn knows_words_that_mix_scripts_that_look_alike() {
        for mixed in ["аdmin", "pаypal", "Αdam", "x Юlia y"] {
            assert!(mixes_scripts(mixed), "{mixed}");
        }
        for pure in ["admin", "Юлия Smith", "Tシャツ", "Zoë", "李Lee", "한Kim", "Ελένη", "", "µTorrent"]
        {
            assert!(!mixes_scripts(pure), "{pure}");
        }
        assert!(imitates_latin("аррӏе") && !imitates_latin("яндекс") && !imitates_latin("apple"));
    }
}
