//! What a text that people write may contain: messages, names, descriptions, statuses, bios. One rule for all of them.
//!
//! Text is stored as it was written, and clients escape it when they show it, so markup is not checked here.
//! It refuses only characters that deceive readers:
//! - control characters, which move the cursor of a terminal and break a list of names into lines;
//! - direction controls that reach beyond the text: an embedding, override or isolate that is not closed in its order
//!   reorders what follows it on the page (UAX 9; "Trojan Source", CVE-2021-42574);
//! - texts without anything visible: such a name cannot be clicked, and such a message is an empty line.
//!
//! Pure, and linear in the length of the text.

use std::borrow::Cow;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Open embeddings and isolates; renderers ignore deeper ones (UAX 9, BD2).
const DIRECTION_DEPTH_MAX: usize = 125;

/// Whether a text may have line breaks and tabs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Names and statuses: everything on one line.
    Line,
    /// Messages, descriptions, bios.
    Lines,
}

/// Why a text is refused: what is wrong with it, and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextFault {
    /// A control character.
    #[error("The text contains the control character U+{0:04X}. Remove it.")]
    Control(u32),
    /// A line break or tab in a text of one line.
    #[error("The text must be on one line. Replace the line break or tab (U+{0:04X}) with a space.")]
    LineBreak(u32),
    /// A direction control without its counterpart.
    #[error(
        "The text contains the direction control U+{0:04X} without its counterpart. Close U+202A, U+202B, U+202D and \
         U+202E with U+202C, and U+2066, U+2067 and U+2068 with U+2069, innermost first, or remove them."
    )]
    Direction(u32),
    /// Nothing that a reader sees.
    #[error("The text contains nothing visible. Write at least one visible character.")]
    Invisible,
}

/// Checks characters and directions. An empty text passes.
///
/// # Errors
/// The first fault.
pub fn check(text: &str, shape: Shape) -> Result<(), TextFault> {
    let mut open: Vec<Direction> = Vec::new();
    for c in text.chars() {
        let code = u32::from(c);
        match c {
            '\t' | '\n' | '\r' | '\u{2028}' | '\u{2029}' if shape == Shape::Line => {
                return Err(TextFault::LineBreak(code));
            }
            '\t' | '\n' | '\r' => {}
            c if c.is_control() => return Err(TextFault::Control(code)),
            '\u{202a}' | '\u{202b}' | '\u{202d}' | '\u{202e}' => open.push(Direction::Embedding(code)),
            '\u{2066}'..='\u{2068}' => open.push(Direction::Isolate(code)),
            '\u{202c}' if !matches!(open.pop(), Some(Direction::Embedding(_))) => {
                return Err(TextFault::Direction(code));
            }
            '\u{2069}' if !matches!(open.pop(), Some(Direction::Isolate(_))) => return Err(TextFault::Direction(code)),
            _ => {}
        }
        if open.len() > DIRECTION_DEPTH_MAX {
            return Err(TextFault::Direction(code));
        }
    }
    match open.pop() {
        Some(Direction::Embedding(code) | Direction::Isolate(code)) => Err(TextFault::Direction(code)),
        None => Ok(()),
    }
}

/// The same, and something must be visible.
///
/// # Errors
/// The first fault.
pub fn check_visible(text: &str, shape: Shape) -> Result<(), TextFault> {
    check(text, shape)?;
    if is_visible(text) { Ok(()) } else { Err(TextFault::Invisible) }
}

/// Whether a reader sees anything of this text.
#[must_use]
pub fn is_visible(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace() && shows_something(c))
}

/// Whether a reader sees this character, or the space that it takes.
#[must_use]
pub fn shows_something(c: char) -> bool {
    !c.is_control() && !is_blank(c)
}

/// The text in Normalization Form C, in which canonically equivalent texts are equal byte by byte (UAX 15).
#[must_use]
pub fn nfc(text: &str) -> Cow<'_, str> {
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => Cow::Borrowed(text),
        IsNormalized::No | IsNormalized::Maybe => Cow::Owned(text.nfc().collect()),
    }
}

/// Something open, with the code point that opened it.
enum Direction {
    Embedding(u32),
    Isolate(u32),
}

/// Characters that show nothing: `Default_Ignorable_Code_Point` of `DerivedCoreProperties.txt`, whose ranges include
/// what Unicode reserves for the future; and the few blank ones that are not in it.
fn is_blank(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        // The blank Braille pattern, the musical null note head, and the marks around interlinear annotations.
        | '\u{2800}' | '\u{1d159}' | '\u{fff9}'..='\u{fffb}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_what_people_write() {
        for text in [
            "<script>alert(1)</script>",
            "'; DROP TABLE x; --",
            "שלום \u{202b}x\u{202c}",
            "\u{2067}a \u{202a}b\u{202c}\u{2069} c",
            "\u{200e}LRM and RLM\u{200f} need no counterpart",
            "👩‍👩‍👧",
        ] {
            assert_eq!(check_visible(text, Shape::Line), Ok(()), "{text:?}");
        }
        assert_eq!(check_visible("a\n\tb\r\n", Shape::Lines), Ok(()));
        assert_eq!(check("", Shape::Line), Ok(()));
    }

    #[test]
    fn refuses_control_characters_and_names_them() {
        for (bytes, code) in [
            (&b"\x1b[2J"[..], 0x1b),
            (b"a\x07", 0x07),
            (b"a\x7f", 0x7f),
            (b"a\0b", 0),
            (b"a\xc2\x9bb", 0x9b), // CSI, a control character of Latin-1
        ] {
            let text = std::str::from_utf8(bytes).unwrap();
            for shape in [Shape::Line, Shape::Lines] {
                assert_eq!(check(text, shape), Err(TextFault::Control(code)), "{text:?}");
            }
        }
        for (bytes, code) in [(&b"a\nb"[..], 0x0a), (b"a\rb", 0x0d), (b"\t", 0x09), (b"a\xe2\x80\xa8b", 0x2028)] {
            let text = std::str::from_utf8(bytes).unwrap();
            assert_eq!(check(text, Shape::Line), Err(TextFault::LineBreak(code)), "{text:?}");
            assert_eq!(check(text, Shape::Lines), Ok(()), "{text:?}");
        }
    }

    #[test]
    fn refuses_directions_that_do_not_match_and_close() {
        for (bytes, code) in [
            (&b"a\xe2\x80\xaeb"[..], 0x202e),           // an override that is not closed
            (b"\xe2\x80\xac x \xe2\x80\xae y", 0x202c), // closed before it is opened
            (b"\xe2\x80\xae a \xe2\x81\xa9", 0x2069),   // an override closed like an isolate
            (b"\xe2\x81\xa6 a \xe2\x80\xac", 0x202c),   // an isolate closed like an embedding
            (b"\xe2\x81\xa7\xe2\x80\xab\xe2\x81\xa9\xe2\x80\xac", 0x2069), // crossed
            (b"\xe2\x80\xaa\xe2\x80\xaa\xe2\x80\xac", 0x202a), // one of two closed
            (b"a\xe2\x81\xa9", 0x2069),                 // closed, never opened
        ] {
            let text = std::str::from_utf8(bytes).unwrap();
            assert_eq!(check(text, Shape::Lines), Err(TextFault::Direction(code)), "{text:?}");
        }
        let deep = |depth: usize| "\u{2066}".repeat(depth) + "x" + &"\u{2069}".repeat(depth);
        assert_eq!(check(&deep(125), Shape::Line), Ok(()));
        assert!(check(&deep(126), Shape::Line).is_err());
    }

    #[test]
    fn something_must_be_visible() {
        for bytes in [
            &b"\xe2\x80\x8b"[..],        // U+200B zero width space
            b"\xe3\x85\xa4",             // U+3164 Hangul filler
            b"\xe2\xa0\x80",             // U+2800 blank Braille pattern
            b"\xc2\xa0 \xe3\x80\x80",    // no-break and ideographic spaces
            b"\xc2\xad",                 // soft hyphen
            b"\xef\xb8\x8f",             // a variation selector alone
            b"\xe2\x81\xa6\xe2\x81\xa9", // an isolate of nothing
            b"\xf3\xa0\x81\xa1",         // a tag character
            b"",
        ] {
            let text = std::str::from_utf8(bytes).unwrap();
            assert_eq!(check_visible(text, Shape::Line), Err(TextFault::Invisible), "{text:?}");
        }
        for text in ["a", ".", "\u{301}", "❤\u{fe0f}", "\u{200b}x"] {
            assert!(is_visible(text), "{text:?}");
        }
    }

    #[test]
    fn canonically_equivalent_texts_become_equal() {
        let forms = |bytes: &'static [u8]| nfc(std::str::from_utf8(bytes).unwrap());
        assert_eq!(forms(b"Zoe\xcc\x88"), forms(b"Zo\xc3\xab"));
        assert_eq!(forms(b"\xe2\x84\xab"), forms(b"A\xcc\x8a"), "the Ångström sign");
        assert_eq!(forms(b"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab"), forms(b"\xed\x95\x9c"), "한");
        assert!(matches!(nfc("plain"), Cow::Borrowed(_)));
    }

    #[test]
    fn faults_have_instructions() {
        for (fault, words) in [
            (TextFault::Control(0x1b), "U+001B. Remove it."),
            (TextFault::LineBreak(0x0a), "(U+000A) with a space"),
            (TextFault::Direction(0x202e), "U+202E without its counterpart. Close"),
        ] {
            assert!(fault.to_string().contains(words), "{fault}");
        }
    }
}
