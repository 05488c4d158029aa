//! What may be said at all. Text is stored as it was written; clients escape it when they show it, so the filter has
//! no business with markup. It refuses only what no reader can see for what it is.

use crate::error::{ErrorCode, Refusal};

/// Checks a message's text.
///
/// # Errors
/// `content_rejected` with the reason.
pub fn check(content: &str) -> Result<(), Refusal> {
    let refused = |words| Err(Refusal::new(ErrorCode::ContentRejected, words));
    if content.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        return refused("data.content: control characters other than line breaks and tabs are not allowed");
    }
    // Overrides that are never closed turn the rest of the page around ("Trojan Source", CVE-2021-42574).
    let depth = content.chars().fold(0i32, |depth, c| match c {
        '\u{202a}'..='\u{202b}' | '\u{202d}'..='\u{202e}' | '\u{2066}'..='\u{2068}' => depth + 1,
        '\u{202c}' | '\u{2069}' => depth - 1,
        _ => depth,
    });
    if depth > 0 {
        return refused("data.content: a text direction override is not closed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_may_write_what_they_like() {
        for text in ["<script>alert(1)</script>", "a\n\tb", "'; DROP TABLE x; --", "שלום \u{202b}x\u{202c}", "👩‍👩‍👧"]
        {
            assert_eq!(check(text), Ok(()));
        }
        for text in ["\u{1b}[2J", "a\u{202e}b"] {
            assert!(check(text).is_err());
        }
    }
}
