//! Names of files: text that people read, and never a path. The store has names of its own.

use crate::text;

/// Characters of a name.
pub const CHARS_MAX: usize = 255;
/// A longer extension is not kept when a name is shortened.
const EXTENSION_CHARS_MAX: usize = 16;
/// The name of a file whose own name has nothing left.
const NAMELESS: &str = "file";

/// The name as it is stored and shown: without folders, control characters and characters that show nothing or reorder
/// others; at most [`CHARS_MAX`] characters, with the extension.
#[must_use]
pub fn cleaned(name: &str) -> String {
    let name = text::nfc(name);
    let base = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let visible: String =
        base.chars().filter(|c| !c.is_control() && (*c == ' ' || text::shows_something(*c))).collect();
    // A mark composes with the letter before it when what was between them is gone.
    let visible = text::nfc(&visible);
    let trimmed = visible.trim_matches(is_edge);
    if trimmed.is_empty() {
        return NAMELESS.to_owned();
    }
    let length = trimmed.chars().count();
    if length <= CHARS_MAX {
        return trimmed.to_owned();
    }
    let extension = extension(trimmed).filter(|extension| extension.chars().count() <= EXTENSION_CHARS_MAX);
    let tail = extension.map(|extension| format!(".{extension}")).unwrap_or_default();
    let kept = CHARS_MAX - tail.chars().count();
    let head: String = trimmed.chars().take(kept).collect();
    format!("{}{tail}", if tail.is_empty() { head.trim_end_matches(is_edge) } else { &head })
}

/// A name neither begins nor ends with these.
fn is_edge(c: char) -> bool {
    c == '.' || c.is_whitespace()
}

/// What follows the last full stop.
#[must_use]
pub fn extension(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    (!stem.is_empty() && !extension.is_empty()).then_some(extension)
}

/// The value of `Content-Disposition` (RFC 6266): the name in ASCII for old clients, and as it is.
#[must_use]
pub fn disposition(name: &str, is_attachment: bool) -> String {
    let kind = if is_attachment { "attachment" } else { "inline" };
    let ascii: String =
        name.chars().map(|c| if c.is_ascii() && !matches!(c, '"' | '\\' | '%') { c } else { '_' }).collect();
    // RFC 8187 §3.2.1, attr-char
    let encoded = percent_encoded(name, b"!#$&+-.^_`|~");
    format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

/// A name as one segment of a path: only the unreserved characters of RFC 3986 §2.3 stay.
#[must_use]
pub fn path_segment(name: &str) -> String {
    let mut segment = percent_encoded(name, b"-._~");
    // `/files/{id}/link` is something else.
    if matches!(&*segment, "link" | "shares") {
        segment.push('_');
    }
    segment
}

fn percent_encoded(name: &str, kept: &[u8]) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let digit = |four_bits: u8| char::from(b"0123456789ABCDEF"[usize::from(four_bits)]);
            encoded.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_has_no_folders_no_controls_and_nothing_that_deceives() {
        for (given, expected) in [
            ("report.pdf", "report.pdf"),
            ("../../etc/passwd", "passwd"),
            ("C:\\Windows\\system32\\cmd.exe", "cmd.exe"),
            ("a/b/", "file"),
            (".htaccess", "htaccess"),
            ("...", "file"),
            ("", "file"),
            ("\u{202e}gpj.exe", "gpj.exe"),
            ("in\u{200b}voice\u{2066}.pdf\u{2069}", "invoice.pdf"),
            ("a\0b\r\nc.txt", "abc.txt"),
            ("  spaces  .txt ", "spaces  .txt"),
            ("трафик 报告.txt", "трафик 报告.txt"),
            ("name. . .", "name"),
            (". .a", "a"),
            ("a.\u{3000}.", "a"),
            // Found by fuzzing: U+0008 kept the letter and its mark apart.
            ("a\u{8}\u{309}", "ả"),
        ] {
            assert_eq!(cleaned(given), expected, "{given:?}");
        }
        let long = cleaned(&format!("{}.tar.gz", "x".repeat(400)));
        assert!(extension(&long) == Some("gz") && long.chars().count() == CHARS_MAX);
        let cut = cleaned(&format!("{} {}", "x".repeat(CHARS_MAX - 1), "x".repeat(50)));
        assert_eq!(cut, "x".repeat(CHARS_MAX - 1), "no blank is left at the end");
    }

    #[test]
    fn the_disposition_cannot_be_broken_out_of() {
        let value = disposition("a\"; filename=evil.html; x=\"ü%41.pdf", true);
        assert_eq!(
            value,
            "attachment; filename=\"a_; filename=evil.html; x=___41.pdf\"; \
             filename*=UTF-8''a%22%3B%20filename%3Devil.html%3B%20x%3D%22%C3%BC%2541.pdf"
        );
    }

    #[test]
    fn a_name_becomes_one_segment_of_a_path() {
        assert_eq!((path_segment("link"), path_segment("shares")), ("link_".to_owned(), "shares_".to_owned()));
        assert_eq!(path_segment("a b/ü?#100%.pdf"), "a%20b%2F%C3%BC%3F%23100%25.pdf");
    }

    proptest! {
        #[test]
        fn every_name_becomes_a_short_visible_one(name in any::<String>()) {
            let cleaned = cleaned(&name);
            prop_assert!(!cleaned.is_empty() && cleaned.chars().count() <= CHARS_MAX);
            prop_assert!(!cleaned.contains(['/', '\\', '\0']) && !cleaned.starts_with('.'));
            prop_assert_eq!(super::cleaned(&cleaned), cleaned.clone(), "a clean name stays as it is");
            prop_assert!(disposition(&cleaned, false).chars().all(|c| matches!(c, ' '..='~')));
        }
    }
}
