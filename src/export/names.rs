//! Names that Mattermost allows, from ours.
//!
//! | ours | there |
//! |---|---|
//! | a username | in lower case; with `u` before it if it does not begin with a letter |
//! | a room's name | its letters and digits in lower case, with hyphens between words; at most 64 |
//!
//! A name that is taken or reserved gets the id behind it.

use std::collections::HashSet;
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// Characters of names there.
const NAME_CHARS_MAX: usize = 64;
const RESERVED_USERS: [&str; 6] = ["all", "channel", "here", "matterbot", "system", "boards"];
const RESERVED_TEAMS: [&str; 17] = [
    "admin",
    "api",
    "boards",
    "channel",
    "claim",
    "error",
    "files",
    "help",
    "landing",
    "login",
    "mfa",
    "oauth",
    "playbooks",
    "plug",
    "plugins",
    "post",
    "signup",
];
/// Channels that every team has, and that are public.
const DEFAULT_CHANNELS: [&str; 2] = ["town-square", "off-topic"];

/// Names that are taken.
#[derive(Default)]
pub(super) struct Taken(HashSet<String>);

impl Taken {
    fn free(&mut self, wanted: &str, id: i64) -> String {
        let (mut name, mut round) = (wanted.to_owned(), 0);
        while !self.0.insert(name.clone()) {
            let ending = if round == 0 { format!("-{id}") } else { format!("-{id}-{round}") };
            let kept: String = wanted.chars().take(NAME_CHARS_MAX - ending.len()).collect();
            name = format!("{}{ending}", kept.trim_end_matches(['-', '_']));
            round += 1;
        }
        name
    }

    /// The name of a user.
    pub(super) fn user(&mut self, ours: &str, id: i64) -> String {
        let lower = ours.to_ascii_lowercase();
        let mut name = if lower.starts_with(|c: char| c.is_ascii_lowercase()) { lower } else { format!("u{lower}") };
        if RESERVED_USERS.contains(&name.as_str()) {
            name = format!("{name}-{id}");
        }
        self.free(&name, id)
    }

    /// The name of a room.
    pub(super) fn channel(&mut self, ours: &str, id: i64, is_public: bool) -> String {
        let mut name = slug(ours);
        if name.is_empty() {
            name = format!("room-{id}");
        } else if !is_public && DEFAULT_CHANNELS.contains(&name.as_str()) {
            name = format!("{name}-{id}");
        }
        self.free(&name, id)
    }
}

/// Letters and digits in lower case, with a hyphen for everything between them.
fn slug(ours: &str) -> String {
    let mut slug = String::new();
    for c in ours.nfkd().filter(|c| !is_combining_mark(*c)) {
        let c = c.to_ascii_lowercase();
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if c == '_' && !slug.is_empty() && !slug.ends_with(['_', '-']) {
            slug.push('_');
        } else if !slug.is_empty() && !slug.ends_with(['_', '-']) {
            slug.push('-');
        }
        if slug.len() == NAME_CHARS_MAX {
            break;
        }
    }
    slug.trim_end_matches(['-', '_']).to_owned()
}

/// Whether Mattermost allows a name of a team.
#[must_use]
pub fn is_team_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (2..=NAME_CHARS_MAX).contains(&name.len())
        && name.bytes().all(is_allowed)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !RESERVED_TEAMS.iter().any(|reserved| name.starts_with(reserved))
}

/// A text of at most so many characters, and whether it was cut.
pub(super) fn cut(text: &str, chars_max: usize) -> (String, bool) {
    match text.char_indices().nth(chars_max) {
        None => (text.to_owned(), false),
        Some((end, _)) => (text[..end].to_owned(), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_mattermost_allows() {
        let mut users = Taken::default();
        for (ours, theirs) in
            [("Zoe_All", "zoe_all"), ("-dash", "u-dash"), ("u-dash", "u-dash-7"), ("all", "all-7"), ("42", "u42")]
        {
            assert_eq!(users.user(ours, 7), theirs);
        }
        let mut rooms = Taken::default();
        for (ours, theirs) in [
            ("Général ☕", "general"),
            ("general", "general-7"),
            ("General", "general-7-1"),
            ("日本", "room-7"),
            ("a__b  c!", "a_b-c"),
            ("Town Square", "town-square"),
        ] {
            assert_eq!(rooms.channel(ours, 7, true), theirs, "{ours}");
        }
        assert_eq!(Taken::default().channel("Town Square", 7, false), "town-square-7");
        assert_eq!(Taken::default().channel(&"x".repeat(100), 7, true).len(), 64);
        for (name, is_allowed) in [("veza", true), ("a", false), ("admin", false), ("-a", false), ("Veza", false)] {
            assert_eq!(is_team_name(name), is_allowed, "{name}");
        }
    }

    #[test]
    fn long_names_that_clash_stay_short() {
        let mut rooms = Taken::default();
        let names: Vec<String> = (0..3).map(|_| rooms.channel(&"x".repeat(100), 123, true)).collect();
        assert!(names.iter().all(|name| name.len() <= 64) && names[0] != names[1] && names[1] != names[2], "{names:?}");
    }
}
