//! From the text of a value in an old system to a text that PostgreSQL reads as the type of a staged column.

use crate::text;
use std::borrow::Cow;
use time::{Date, Month};
use unicode_normalization::UnicodeNormalization as _;

/// Characters of a username.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 3..=50;
const DISPLAY_CHARS_MAX: usize = 100;
/// A username of which nothing is left.
const NAMELESS: &str = "user";

/// A whole number.
pub(super) fn number(given: &str) -> Option<i64> {
    let given = given.trim();
    let whole = given.strip_suffix(".0").unwrap_or(given);
    whole.parse().ok()
}

/// Yes or no, in the spellings of PostgreSQL and of programs.
pub(super) fn flag(given: &str) -> Option<bool> {
    match given.trim().to_ascii_lowercase().as_str() {
        "t" | "true" | "1" | "yes" | "y" | "on" => Some(true),
        "f" | "false" | "0" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

/// A time of ISO 8601 in the years 1 to 9999, as PostgreSQL writes it. A time without a zone is of UTC.
pub(super) fn timestamp(given: &str) -> Option<String> {
    let given = given.trim();
    let date = given.get(..10)?;
    let mut parts = date.split('-');
    let year: i32 = digits(parts.next()?, 4)?.try_into().ok()?;
    let month: u8 = digits(parts.next()?, 2)?.try_into().ok()?;
    let day: u8 = digits(parts.next()?, 2)?.try_into().ok()?;
    if parts.next().is_some() || year == 0 {
        return None;
    }
    Date::from_calendar_date(year, Month::try_from(month).ok()?, day).ok()?;
    let rest = &given[10..];
    if rest.is_empty() {
        return Some(format!("{date} 00:00:00+00"));
    }
    let rest = rest.strip_prefix([' ', 'T'])?;
    let clock = rest.get(..8)?;
    let mut fields = clock.split(':');
    let (hour, minute) = (digits(fields.next()?, 2)?, digits(fields.next()?, 2)?);
    let second = digits(fields.next()?, 2)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = &rest[8..];
    let mut fraction = String::new();
    if let Some(after) = rest.strip_prefix('.') {
        let length = after.bytes().take_while(u8::is_ascii_digit).count();
        if length == 0 {
            return None;
        }
        fraction = format!(".{}", &after[..length.min(6)]);
        rest = &after[length..];
    }
    Some(format!("{date} {clock}{fraction}{}", zone(rest)?))
}

/// The offset from UTC.
fn zone(given: &str) -> Option<String> {
    let given = given.trim_start();
    if ["", "Z", "UTC", "z"].contains(&given) {
        return Some("+00".to_owned());
    }
    let sign = given.chars().next().filter(|c| matches!(c, '+' | '-'))?;
    let parts: Vec<&str> = given[1..].split(':').collect();
    let numbers = match parts.as_slice() {
        [both] if both.len() == 4 && both.is_ascii() => vec![digits(&both[..2], 2)?, digits(&both[2..], 2)?],
        parts if parts.len() <= 3 => parts.iter().map(|part| digits(part, 2)).collect::<Option<_>>()?,
        _ => return None,
    };
    if numbers[0] > 15 || numbers[1..].iter().any(|number| *number > 59) {
        return None;
    }
    let text: Vec<String> = numbers.iter().map(|number| format!("{number:02}")).collect();
    Some(format!("{sign}{}", text.join(":")))
}

fn digits(given: &str, length: usize) -> Option<u32> {
    (given.len() == length && given.bytes().all(|byte| byte.is_ascii_digit())).then(|| given.parse().ok())?
}

/// A username of 3 to 50 letters, digits, hyphens and underscores. Letters lose their marks, and each other character
/// becomes an underscore.
pub(super) fn clean_name(given: &str) -> String {
    let letters = given.trim().nfkd().filter(|c| !unicode_normalization::char::is_combining_mark(*c));
    let allowed = letters.map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' });
    let mut name: String = allowed.take(*NAME_CHARS.end()).collect();
    if !name.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
        NAMELESS.clone_into(&mut name);
    }
    while name.len() < *NAME_CHARS.start() {
        name.push('_');
    }
    name
}

/// What people see: one line of at most 100 characters that show something.
pub(super) fn clean_display(given: &str) -> Option<String> {
    let given = text::nfc(given);
    let visible: String =
        given.chars().filter(|c| *c == ' ' || (!c.is_control() && text::shows_something(*c))).collect();
    let visible: Cow<'_, str> = text::nfc(visible.trim());
    let cut: String = visible.chars().take(DISPLAY_CHARS_MAX).collect();
    let cut = cut.trim();
    (!cut.is_empty()).then(|| cut.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_of_every_spelling() {
        for (given, read) in [
            ("2024-05-01 12:34:56.789012+00", "2024-05-01 12:34:56.789012+00"),
            ("2024-05-01 12:34:56", "2024-05-01 12:34:56+00"),
            ("2024-05-01T12:34:56Z", "2024-05-01 12:34:56+00"),
            ("2024-05-01 12:34:56.1234567-03:30", "2024-05-01 12:34:56.123456-03:30"),
            ("2024-05-01 12:34:56+0530", "2024-05-01 12:34:56+05:30"),
            ("2024-02-29", "2024-02-29 00:00:00+00"),
        ] {
            assert_eq!(timestamp(given).as_deref(), Some(read), "{given}");
        }
        for bad in [
            "",
            "now",
            "infinity",
            "-infinity",
            "2023-02-29 00:00:00",
            "2024-13-01 00:00:00",
            "0000-01-01 00:00:00",
            "2024-05-01 24:00:00",
            "2024-05-01 12:34",
            "0044-03-15 12:00:00 BC",
            "12024-05-01 00:00:00",
            "2024-05-01 12:34:56+99",
            "2024-05-01 12:34:56.",
            "é024-05-01 12:34:56",
        ] {
            assert_eq!(timestamp(bad), None, "{bad}");
        }
    }

    #[test]
    fn mends_usernames() {
        for (given, mended) in [
            ("ann", "ann"),
            ("Élodie", "Elodie"),
            ("a b.c", "a_b_c"),
            ("al", "al_"),
            ("日本", "user"),
            ("", "user"),
            ("x\u{0}y", "x_y"),
        ] {
            assert_eq!(clean_name(given), mended, "{given:?}");
        }
        assert_eq!(clean_name(&"x".repeat(80)).len(), 50);
    }

    #[test]
    fn shows_names_without_what_nobody_sees() {
        assert_eq!(clean_display("  Zoe\u{301}\u{202e}\n ").as_deref(), Some("Zo\u{e9}"));
        assert_eq!(clean_display(" \u{200b} "), None);
        assert_eq!(clean_display(&"é".repeat(200)).unwrap().chars().count(), 100);
    }

    #[test]
    fn reads_numbers_and_flags() {
        assert_eq!((number(" 12 "), number("-3"), number("1.5"), number("1e3")), (Some(12), Some(-3), None, None));
        assert_eq!(number("99999999999999999999"), None);
        assert_eq!((flag("t"), flag("FALSE"), flag("maybe")), (Some(true), Some(false), None));
    }
}
