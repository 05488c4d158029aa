//! Domains in a text, as readers and browsers would see them.

use super::fold::{imitates_latin, is_hidden, mixes_scripts};
use super::rule::Links;
use std::collections::HashSet;

/// Labels of a host that are compared, from its end.
const LABELS_MAX: usize = 8;
/// Longest host name (RFC 1035).
const HOST_BYTES_MAX: usize = 253;

/// A set of links, ready for use.
#[derive(Debug)]
pub struct LinkSet {
    block: HashSet<String>,
    allow: HashSet<String>,
    only_allowed: bool,
    lookalikes: bool,
}

/// A host in a text.
struct Host {
    name: String,
    /// It was written as a link: after `://`, or with `www.` at its beginning.
    is_link: bool,
}

impl LinkSet {
    /// Of the rule; the second value is a domain that is none.
    ///
    /// # Errors
    /// The text that is no domain.
    pub fn new(links: &Links) -> Result<Self, String> {
        let set = |domains: &[String]| domains.iter().map(|domain| normalised(domain)).collect::<Result<_, _>>();
        Ok(Self {
            block: set(&links.block)?,
            allow: set(&links.allow)?,
            only_allowed: links.only_allowed,
            lookalikes: links.lookalikes,
        })
    }

    /// Whether a host in the text matches.
    pub fn matches(&self, text: &str) -> bool {
        hosts(text).any(|host| {
            if has_suffix(&self.allow, &host.name) {
                return false;
            }
            has_suffix(&self.block, &host.name)
                || (self.only_allowed && host.is_link)
                || (self.lookalikes && is_lookalike(&host.name))
        })
    }
}

/// A domain of a rule: its labels in lower case, those of IDNA decoded.
fn normalised(domain: &str) -> Result<String, String> {
    let name = host_name(domain.trim().trim_start_matches("*."));
    let labels = name.split('.').count();
    let is_domain = !name.is_empty()
        && name.len() <= HOST_BYTES_MAX
        && labels <= LABELS_MAX
        && name.split('.').all(|label| !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || c == '-'));
    if is_domain { Ok(name) } else { Err(domain.to_owned()) }
}

/// Lower case, without a final dot, labels of IDNA decoded.
fn host_name(written: &str) -> String {
    let lower = written.trim_matches('.').to_lowercase();
    if !lower.contains("xn--") {
        return lower;
    }
    let decoded = lower.split('.').map(|label| {
        let decoded = label.strip_prefix("xn--").and_then(idna::punycode::decode_to_string);
        decoded.unwrap_or_else(|| label.to_owned())
    });
    decoded.collect::<Vec<_>>().join(".")
}

/// Whether the set has the host or a domain that it belongs to.
fn has_suffix(set: &HashSet<String>, host: &str) -> bool {
    if set.is_empty() {
        return false;
    }
    let starts = host.rmatch_indices('.').map(|(at, _)| at + 1).take(LABELS_MAX);
    set.contains(host) || starts.map(|at| &host[at..]).any(|suffix| set.contains(suffix))
}

/// Whether a label imitates Latin letters with those of another script.
fn is_lookalike(host: &str) -> bool {
    !host.is_ascii() && {
        let latin_end = host.rsplit('.').next().is_some_and(str::is_ascii);
        host.split('.').any(|label| mixes_scripts(label) || (latin_end && imitates_latin(label)))
    }
}

fn is_of_host(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '.' | '-' | '。' | '．' | '｡') || (is_hidden(c) && !c.is_ascii())
}

/// The hosts of a text: everything with a dot between letters, so also what is no link. A text without a dot costs one
/// search.
fn hosts(text: &str) -> impl Iterator<Item = Host> {
    let has_dot = memchr_dot(text);
    let mut rest = if has_dot { text } else { "" };
    let mut before = "";
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(is_of_host)?;
            let (skipped, from) = rest.split_at(start);
            let end = from.find(|c| !is_of_host(c)).unwrap_or(from.len());
            let (written, after) = from.split_at(end);
            rest = after;
            let after_scheme = skipped.ends_with("://") || (skipped == "@" && before.ends_with("://"));
            // The user name of an address is followed by the host.
            before = if after_scheme { "://" } else { "" };
            if written.len() > 4 * HOST_BYTES_MAX {
                continue;
            }
            let plain: String = written
                .chars()
                .filter(|c| !is_hidden(*c))
                .map(|c| if matches!(c, '。' | '．' | '｡') { '.' } else { c })
                .collect();
            let plain = plain.trim_matches(['.', '-']);
            if !plain.contains('.') || plain.len() > HOST_BYTES_MAX || plain.contains("..") {
                continue;
            }
            let name = host_name(plain);
            let is_link = after_scheme || name.starts_with("www.");
            return Some(Host { name, is_link });
        }
    })
}

fn memchr_dot(text: &str) -> bool {
    text.contains('.') || text.contains(['。', '．', '｡'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(links: &Links) -> LinkSet {
        LinkSet::new(links).unwrap()
    }

    #[test]
    fn finds_blocked_domains_however_they_are_written() {
        let set = set(&Links { block: vec!["evil.example".into(), "пример.рф".into()], ..Links::default() });
        for text in [
            "https://evil.example/x?y",
            "see EVIL.example.",
            "http://a.b.evil.example:8080",
            "https://good.example@evil.example/",
            "www.evil.example",
            "evil\u{200b}.example",
            "evil。example",
            "http://xn--e1afmkfd.xn--p1ai/",
        ] {
            assert!(set.matches(text), "{text}");
        }
        for text in ["notevil.example", "evil.example.org", "evil example", "evil", "a.b", "..", ""] {
            assert!(!set.matches(text), "{text}");
        }
    }

    #[test]
    fn allows_listed_domains_only() {
        let set = set(&Links { allow: vec!["ok.example".into()], only_allowed: true, ..Links::default() });
        assert!(!set.matches("https://ok.example/file.html and main.rs, e.g. this"));
        assert!(!set.matches("https://docs.ok.example"));
        assert!(set.matches("https://ok.example.org") && set.matches("www.other.example"));
        assert!(set.matches("https://ok.example@other.example"));
    }

    #[test]
    fn finds_domains_that_imitate_others() {
        let set = set(&Links { lookalikes: true, ..Links::default() });
        for text in ["https://pаypal.com", "http://xn--pypal-4ve.com/login", "аррӏе.com"] {
            assert!(set.matches(text), "{text}");
        }
        for text in ["https://paypal.com", "https://bücher.de", "https://пример.рф", "例え.jp", "яндекс.com"]
        {
            assert!(!set.matches(text), "{text}");
        }
    }

    #[test]
    fn refuses_texts_that_are_no_domains() {
        for bad in ["", "a b", "https://x.org", "a..b", &"a.".repeat(9)] {
            assert!(LinkSet::new(&Links { block: vec![bad.to_owned()], ..Links::default() }).is_err(), "{bad}");
        }
    }
}
