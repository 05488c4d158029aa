//! Checks the fields of accounts. Each refusal names the field and the rule.
//!
//! Every text for PostgreSQL passes here first: it refuses a NUL byte with an error that would look like a fault of the
//! server.

use super::problem::Problem;
use crate::text::{self, Shape};
use std::borrow::Cow;

/// User names whose mention would notify a whole room.
const RESERVED: &[&str] = &["here", "room"];
/// Longest email address (RFC 5321 §4.5.3.1.3, less the angle brackets).
const EMAIL_CHARS_MAX: usize = 254;
const DISPLAY_NAME_CHARS_MAX: usize = 100;
const AVATAR_URL_CHARS_MAX: usize = 2_000;
const BIO_CHARS_MAX: usize = 500;
const SHORT_TEXT_CHARS_MAX: usize = 200;
const DEVICE_NAME_CHARS_MAX: usize = 200;
const QUERY_CHARS_MAX: usize = 100;

/// 3–50 of `[A-Za-z0-9_-]`, and none of [`RESERVED`].
pub fn username(text: &str) -> Result<&str, Problem> {
    let allowed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !allowed || !(3..=50).contains(&text.len()) {
        return Err(Problem::bad_request(
            "username: Must be 3 to 50 characters, only letters A-Z a-z, digits, _ and -.",
        ));
    }
    if RESERVED.iter().any(|reserved| text.eq_ignore_ascii_case(reserved)) {
        return Err(Problem::bad_request(format!(
            "username: The name {text} is reserved, because @{text} notifies a whole room. Choose another one."
        )));
    }
    Ok(text)
}

/// An address in NFC: one `@` with text on both sides. Only a message to it could prove more.
pub fn email(text: &str) -> Result<Cow<'_, str>, Problem> {
    let refused = || Err(Problem::bad_request("email: Must be an address like name@example.org."));
    let text = text::nfc(text);
    if text.chars().count() > EMAIL_CHARS_MAX {
        return Err(Problem::bad_request("email: Must have at most 254 characters."));
    }
    let Some((local, domain)) = text.split_once('@') else { return refused() };
    let spaced = text.chars().any(|c| c.is_whitespace() || c.is_control());
    let dots = domain.split('.').any(str::is_empty);
    if local.is_empty() || domain.contains('@') || dots || spaced { refused() } else { Ok(text) }
}

/// The visible name of a user.
pub fn display_name(text: &str) -> Result<Cow<'_, str>, Problem> {
    visible_name("display_name", text)
}

/// A visible name in NFC, in the field `field`: 1–100 characters after trimming, on one line.
pub fn visible_name<'t>(field: &str, text: &'t str) -> Result<Cow<'t, str>, Problem> {
    let text = text::nfc(text.trim());
    if text.is_empty() || text.chars().count() > DISPLAY_NAME_CHARS_MAX {
        return Err(Problem::bad_request(format!("{field}: Must have 1 to 100 characters.")));
    }
    text::check_visible(&text, Shape::Line).map_err(|fault| Problem::bad_request(format!("{field}: {fault}")))?;
    Ok(text)
}

/// A visible text on one line in NFC, in the field `field`: 1–200 characters after trimming.
pub fn short_text(field: &str, text: &str) -> Result<String, Problem> {
    let text = text::nfc(text.trim());
    if text.is_empty() || text.chars().count() > SHORT_TEXT_CHARS_MAX {
        return Err(Problem::bad_request(format!("{field}: Must have 1 to 200 characters.")));
    }
    text::check_visible(&text, Shape::Line).map_err(|fault| Problem::bad_request(format!("{field}: {fault}")))?;
    Ok(text.into_owned())
}

/// An http(s) URL of at most 2,000 characters. Other schemes (`javascript:`, `data:`) are refused, because clients put
/// the URL into a page.
pub fn avatar_url(text: &str) -> Result<Cow<'_, str>, Problem> {
    if text.chars().count() > AVATAR_URL_CHARS_MAX {
        return Err(Problem::bad_request("avatar_url: Must have at most 2000 characters."));
    }
    let host = ["https://", "http://"].iter().find_map(|scheme| {
        text.get(..scheme.len()).filter(|head| head.eq_ignore_ascii_case(scheme)).map(|_| &text[scheme.len()..])
    });
    let printable = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    match host {
        Some(host) if !host.is_empty() && !host.starts_with('/') && printable => Ok(text.into()),
        _ => Err(Problem::bad_request("avatar_url: Must be a URL that begins with https:// or http://.")),
    }
}

/// A visible text of 1–500 characters after trimming; line breaks are allowed.
pub fn bio(text: &str) -> Result<Cow<'_, str>, Problem> {
    let text = text.trim();
    if text.is_empty() || text.chars().count() > BIO_CHARS_MAX {
        return Err(Problem::bad_request("bio: Must have 1 to 500 characters. Send null to remove it."));
    }
    text::check_visible(text, Shape::Lines).map_err(|fault| Problem::bad_request(format!("bio: {fault}")))?;
    Ok(text.into())
}

/// The given name of a device, at most 200 characters; otherwise its `User-Agent`, cut.
pub fn device_name(given: Option<&str>, agent: Option<&str>) -> Result<String, Problem> {
    let Some(text) = given.map(str::trim).filter(|text| !text.is_empty()) else {
        let agent = agent.unwrap_or("unknown device");
        return Ok(agent.chars().filter(|c| !c.is_control()).take(DEVICE_NAME_CHARS_MAX).collect());
    };
    if text.chars().count() > DEVICE_NAME_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(Problem::bad_request(
            "device_name: Must have at most 200 characters, none of them control characters.",
        ));
    }
    Ok(text.to_owned())
}

/// A search text in NFC: 1–100 characters after trimming.
pub fn query(text: &str) -> Result<Cow<'_, str>, Problem> {
    let text = text::nfc(text.trim());
    if text.is_empty() || text.chars().count() > QUERY_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(Problem::bad_request("query: Must have 1 to 100 characters of a name."));
    }
    Ok(text)
}

/// Whether this can be a user name or an address. Otherwise no look-up is needed, and a NUL byte would make it fail.
pub fn could_be_login(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= EMAIL_CHARS_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_follow_the_contract() {
        for good in ["abc", "A-b_9", &"x".repeat(50)] {
            assert!(username(good).is_ok(), "{good}");
        }
        for bad in ["", "ab", &"x".repeat(51), "a b", "änn", "a.b", "a@b", "abc\0", "here", "ROOM", "Here"] {
            assert!(username(bad).is_err(), "{bad}");
        }
        assert!(username("heres").is_ok());
    }

    #[test]
    fn emails_have_two_sides() {
        for good in ["a@b", "ann.b+c@mail.example.org", "ü@exämple.de"] {
            assert!(email(good).is_ok(), "{good}");
        }
        let long = format!("{}@b.de", "x".repeat(250));
        for bad in ["", "a", "@b", "a@", "a@b@c", "a b@c", "a@b..c", "a@.b", "a@b.", "a@b\n", &long] {
            assert!(email(bad).is_err(), "{bad}");
        }
        let decomposed = std::str::from_utf8(b"u\xcc\x88@b.de").unwrap();
        assert_eq!(email(decomposed).unwrap().as_bytes(), b"\xc3\xbc@b.de");
    }

    #[test]
    fn names_and_urls_are_bounded_and_printable() {
        assert_eq!(display_name("  Ann  ").unwrap(), "Ann");
        let decomposed = std::str::from_utf8(b"Zoe\xcc\x88").unwrap();
        assert_eq!(display_name(decomposed).unwrap().as_bytes(), b"Zo\xc3\xab");
        for bad in ["", "  ", "a\nb", "a\0", "a\u{202e}b", "\u{200b}", "\u{3164}", "\u{2800}", &"ä".repeat(101)] {
            assert!(display_name(bad).is_err(), "{bad:?}");
        }
        for good in ["https://a/b.png", "HTTP://a"] {
            assert!(avatar_url(good).is_ok(), "{good}");
        }
        for bad in ["", "a", "ftp://a", "javascript:alert(1)", "https://", "https:///a", "https://a b", "é"] {
            assert!(avatar_url(bad).is_err(), "{bad}");
        }
        assert_eq!(bio(" line\nline ").unwrap(), "line\nline");
        for bad in ["", " ", "a\0", "\u{200b}", "a\u{2066}b", &"ä".repeat(501)] {
            assert!(bio(bad).is_err(), "{bad:?}");
        }
        assert_eq!(device_name(None, Some("curl/8")).unwrap(), "curl/8");
        assert_eq!(device_name(Some(" "), None).unwrap(), "unknown device");
        assert_eq!(device_name(None, Some(&"x".repeat(300))).unwrap().len(), 200);
        assert!(device_name(Some(&"x".repeat(201)), None).is_err());
        assert!(query(" ").is_err() && query("a\0").is_err() && query(" a ").unwrap() == "a");
    }
}
