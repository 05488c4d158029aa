//! The rules of one scope, compiled: one automaton for all of its words, and the other rules beside it.

use super::fold::{fold, fold_leet};
use super::links::LinkSet;
use super::repeats::{RepeatMemory, fingerprint};
use super::rule::{Capitals, Definition, FilterRule, Keywords, Mentions, Repeats, RuleHead, Zalgo};
use super::signs::{self, ProtectedNames};
use super::tally::{OF_CONVERSATIONS, Tallies};
use crate::ids::ConversationId;
use crate::limits::{
    FILTER_CONVERSATION_REGEX_SIZE_BYTES_MAX, FILTER_CONVERSATION_RULES_MAX, FILTER_DOMAINS_MAX, FILTER_ID_BYTES_MAX,
    FILTER_KEYWORD_CHARS_MAX, FILTER_KEYWORD_MATCHES_MAX, FILTER_KEYWORDS_MAX, FILTER_PATTERN_BYTES_MAX,
    FILTER_REGEX_CACHE_BYTES_MAX, FILTER_REGEX_SIZE_BYTES_MAX, FILTER_REGEX_TEXT_BYTES_MAX, FILTER_REGEXES_MAX,
    FILTER_SERVER_RULES_MAX, FILTER_TEXT_BYTES_MAX, MUTE_SECONDS_MAX,
};
use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::{Regex, RegexBuilder};
use std::sync::Arc;

/// Roles that a rule may exempt, with everything above.
const ROLES: [&str; 5] = ["read_only", "member", "moderator", "admin", "owner"];

/// Why a set of rules is refused: the rule, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("rules[{index}]{}: {reason}", self.shown_id())]
pub struct RuleFault {
    /// The rule's position.
    pub index: usize,
    /// Its id.
    pub id: String,
    /// What is wrong.
    pub reason: String,
}

impl RuleFault {
    fn shown_id(&self) -> String {
        if self.id.is_empty() { String::new() } else { format!(" ({})", self.id) }
    }
}

/// Where a text appears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// A message.
    Message,
    /// A description or a bio.
    Description,
    /// The name of a conversation.
    RoomName,
    /// A user's name.
    UserName,
}

/// What a check knows beside the text.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where the text appears.
    pub field: Field,
    /// The conversation it is for, if there is one.
    pub conversation: Option<ConversationId>,
    /// What its author wrote lately.
    pub memory: Option<&'a RepeatMemory>,
    /// The time in seconds; only differences count.
    pub now_s: u64,
}

#[derive(Debug)]
enum TextCheck {
    Regex(Regex),
    Links(LinkSet),
    Mentions(Mentions),
    Repeats(Repeats),
    Capitals(Capitals),
    Zalgo(Zalgo),
    Invisible { overrides: bool },
    Names(ProtectedNames),
}

/// Words of several rules.
#[derive(Debug)]
struct Words {
    automaton: AhoCorasick,
    /// For each word its rule, and whether it matches whole words only.
    owners: Vec<(u16, bool)>,
}

/// The enabled rules of the server or of a conversation.
#[derive(Debug, Default)]
pub struct Rules {
    heads: Vec<Arc<RuleHead>>,
    plain: Option<Words>,
    leet: Option<Words>,
    checks: Vec<(u16, TextCheck)>,
    remembers: bool,
}

/// Collects the words of a scope.
#[derive(Default)]
struct Collected {
    words: Vec<String>,
    owners: Vec<(u16, bool)>,
}

impl Collected {
    fn build(self) -> Result<Option<Words>, String> {
        if self.words.is_empty() {
            return Ok(None);
        }
        let bytes: usize = self.words.iter().map(String::len).sum();
        // The fastest automaton needs up to a KiB for each byte of its words.
        let kind = if bytes <= 32 * 1024 { AhoCorasickKind::DFA } else { AhoCorasickKind::ContiguousNFA };
        let automaton = AhoCorasick::builder().kind(Some(kind)).build(&self.words).map_err(|e| e.to_string())?;
        Ok(Some(Words { automaton, owners: self.owners }))
    }
}

impl Words {
    fn find(&self, text: &str, mut found: impl FnMut(u16)) {
        let matches = self.automaton.find_overlapping_iter(text).take(FILTER_KEYWORD_MATCHES_MAX);
        for hit in matches {
            let (rule, whole) = self.owners[hit.pattern().as_usize()];
            let borders = || {
                let before = text[..hit.start()].chars().next_back().is_some_and(char::is_alphanumeric);
                let after = text[hit.end()..].chars().next().is_some_and(char::is_alphanumeric);
                !before && !after
            };
            if !whole || borders() {
                found(rule);
            }
        }
    }
}

impl Rules {
    /// Compiles the rules of the server, or those of a conversation.
    ///
    /// # Errors
    /// The first rule that cannot be used.
    pub fn compile(
        rules: &[FilterRule],
        conversation: Option<ConversationId>,
        tallies: &Tallies,
    ) -> Result<Self, RuleFault> {
        let most = conversation.map_or(FILTER_SERVER_RULES_MAX, |_| FILTER_CONVERSATION_RULES_MAX);
        if rules.len() > most {
            let reason = format!("At most {most} rules are allowed here. Remove some.");
            return Err(RuleFault { index: most, id: String::new(), reason });
        }
        let mut compiled = Self::default();
        let (mut plain, mut leet) = (Collected::default(), Collected::default());
        let mut room = Allowance::of(conversation);
        for (index, rule) in rules.iter().enumerate() {
            let fault = |reason: String| RuleFault { index, id: rule.id.clone(), reason };
            check_head(rule).map_err(fault)?;
            if rules[..index].iter().any(|other| other.id == rule.id) {
                return Err(fault("id: Another rule has this id. Choose another one.".to_owned()));
            }
            let at = compiled.heads.len() as u16;
            let check = match &rule.definition {
                Definition::Keywords(keywords) => {
                    let words = room.words(keywords).map_err(fault)?;
                    if rule.enabled {
                        let into = if keywords.leet { &mut leet } else { &mut plain };
                        into.owners.extend(words.iter().map(|_| (at, keywords.whole_words)));
                        into.words.extend(words);
                    }
                    None
                }
                other => Some(room.check(other).map_err(fault)?),
            };
            if rule.enabled {
                compiled.heads.push(Arc::new(head(rule, conversation, tallies)));
                compiled.remembers |= matches!(check, Some(TextCheck::Repeats(_)));
                compiled.checks.extend(check.map(|check| (at, check)));
            }
        }
        let too_many = |reason: String| RuleFault { index: 0, id: String::new(), reason };
        compiled.plain = plain.build().map_err(too_many)?;
        compiled.leet = leet.build().map_err(too_many)?;
        Ok(compiled)
    }

    /// Whether there is anything to check.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// Whether a rule needs the memory of what users wrote.
    #[must_use]
    pub fn remembers(&self) -> bool {
        self.remembers
    }

    /// Adds the rules that the text matches.
    pub(super) fn check(&self, text: &str, context: &Context<'_>, hits: &mut Vec<Arc<RuleHead>>) {
        if self.is_empty() || text.is_empty() {
            return;
        }
        let text = up_to(text, FILTER_TEXT_BYTES_MAX);
        let mut found = |rule: u16| {
            let head = &self.heads[usize::from(rule)];
            if !hits.iter().any(|hit| Arc::ptr_eq(hit, head)) {
                hits.push(Arc::clone(head));
            }
        };
        let mut folded = String::new();
        if self.plain.is_some() || self.leet.is_some() {
            fold(text, &mut folded);
            if let Some(words) = &self.plain {
                words.find(&folded, &mut found);
            }
            if let Some(words) = &self.leet {
                fold_leet(&mut folded);
                words.find(&folded, &mut found);
            }
        }
        for (rule, check) in &self.checks {
            if check.matches(text, context) {
                found(*rule);
            }
        }
    }
}

impl TextCheck {
    fn matches(&self, text: &str, context: &Context<'_>) -> bool {
        let is_prose = matches!(context.field, Field::Message | Field::Description);
        match self {
            Self::Regex(regex) => regex.is_match(up_to(text, FILTER_REGEX_TEXT_BYTES_MAX)),
            Self::Links(links) => links.matches(text),
            Self::Mentions(mentions) => is_prose && signs::mentions_more_than(text, mentions.max),
            Self::Repeats(repeats) => context.memory.is_some_and(|memory| {
                let mut folded = String::new();
                fold(text, &mut folded);
                fingerprint(&folded).is_some_and(|print| {
                    let within_s = u64::from(repeats.within_s);
                    let (count, conversations) = memory.count(print, context.conversation, context.now_s, within_s);
                    count >= repeats.count && conversations >= repeats.conversations
                })
            }),
            Self::Capitals(capitals) => is_prose && signs::is_shouted(text, capitals.percent, capitals.min_letters),
            Self::Zalgo(zalgo) => signs::is_zalgo(text, zalgo.marks_max),
            Self::Invisible { overrides } => signs::is_hidden_text(text, *overrides),
            Self::Names(names) => context.field == Field::UserName && names.is_imitated_by(text),
        }
    }
}

/// `\d` as the ten digits. Those of all scripts would make an expression many times larger.
fn with_plain_digits(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match (c, (c == '\\').then(|| rest.next()).flatten()) {
            ('\\', Some('d')) => plain.push_str("[0-9]"),
            (c, escaped) => plain.extend([c].into_iter().chain(escaped)),
        }
    }
    plain
}

/// The beginning of a text, on a boundary of its characters.
fn up_to(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes.min(text.len()))]
}

fn check_head(rule: &FilterRule) -> Result<(), String> {
    let id_is_fine = (1..=FILTER_ID_BYTES_MAX).contains(&rule.id.len())
        && rule.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'));
    if !id_is_fine {
        return Err(format!("id: Must be 1 to {FILTER_ID_BYTES_MAX} of a-z, 0-9, _ and -."));
    }
    if rule.exempt_from.as_deref().is_some_and(|role| !ROLES.contains(&role)) {
        return Err(format!("exempt_from: Must be null or one of {}.", ROLES.join(", ")));
    }
    if rule.mute_s.is_some_and(|seconds| !(1..=MUTE_SECONDS_MAX).contains(&seconds)) {
        return Err(format!("mute_s: Must be 1 to {MUTE_SECONDS_MAX}."));
    }
    Ok(())
}

fn head(rule: &FilterRule, conversation: Option<ConversationId>, tallies: &Tallies) -> RuleHead {
    let mutes = rule.action.mute_seconds() > 0;
    RuleHead {
        id: rule.id.clone(),
        conversation,
        action: rule.action,
        dry_run: rule.dry_run,
        exempt_from: rule.exempt_from.clone(),
        mute_s: rule.mute_s.filter(|_| mutes).unwrap_or(rule.action.mute_seconds()),
        tally: tallies.of(if conversation.is_some() { OF_CONVERSATIONS } else { &rule.id }),
    }
}

/// What a scope may still hold. Rules of conversations get a tenth: there can be many conversations.
struct Allowance {
    keywords: usize,
    regexes: usize,
    regex_bytes: usize,
    domains: usize,
}

impl Allowance {
    fn of(conversation: Option<ConversationId>) -> Self {
        let part = if conversation.is_some() { 10 } else { 1 };
        Self {
            keywords: FILTER_KEYWORDS_MAX / part,
            regexes: (FILTER_REGEXES_MAX / part).max(1),
            regex_bytes: conversation.map_or(FILTER_REGEX_SIZE_BYTES_MAX, |_| FILTER_CONVERSATION_REGEX_SIZE_BYTES_MAX),
            domains: FILTER_DOMAINS_MAX / part,
        }
    }

    fn take(left: &mut usize, many: usize, what: &str) -> Result<(), String> {
        match left.checked_sub(many) {
            Some(rest) => {
                *left = rest;
                Ok(())
            }
            None => Err(format!("Too many {what} in all rules together. Remove some.")),
        }
    }

    fn words(&mut self, keywords: &Keywords) -> Result<Vec<String>, String> {
        Self::take(&mut self.keywords, keywords.words.len(), "words")?;
        let mut words = Vec::with_capacity(keywords.words.len());
        for (at, word) in keywords.words.iter().enumerate() {
            let mut folded = String::new();
            fold(word.trim(), &mut folded);
            if keywords.leet {
                fold_leet(&mut folded);
            }
            if folded.is_empty() || folded.chars().count() > FILTER_KEYWORD_CHARS_MAX {
                return Err(format!("definition.words[{at}]: Must have 1 to {FILTER_KEYWORD_CHARS_MAX} characters."));
            }
            words.push(folded);
        }
        Ok(words)
    }

    fn check(&mut self, definition: &Definition) -> Result<TextCheck, String> {
        let positive = |value: u32, field: &str| match value {
            0 => Err(format!("definition.{field}: Must be at least 1.")),
            _ => Ok(()),
        };
        Ok(match definition {
            Definition::Keywords(_) => return Err("kind: Words are compiled together.".to_owned()),
            Definition::Regex(pattern) => {
                Self::take(&mut self.regexes, 1, "regular expressions")?;
                if pattern.pattern.len() > FILTER_PATTERN_BYTES_MAX {
                    return Err(format!("definition.pattern: Must have at most {FILTER_PATTERN_BYTES_MAX} bytes."));
                }
                let built = RegexBuilder::new(&with_plain_digits(&pattern.pattern))
                    .case_insensitive(!pattern.case_sensitive)
                    .size_limit(self.regex_bytes)
                    .dfa_size_limit(FILTER_REGEX_CACHE_BYTES_MAX)
                    .nest_limit(32)
                    .build();
                TextCheck::Regex(built.map_err(|error| match error {
                    regex::Error::CompiledTooBig(bytes) => format!(
                        "definition.pattern: The expression is larger than {bytes} bytes when it is compiled. Repeat \
                         less, or write \\w as [a-z]."
                    ),
                    error => {
                        let reason = error.to_string();
                        let last = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                        format!("definition.pattern: {last}.")
                    }
                })?)
            }
            Definition::Links(links) => {
                Self::take(&mut self.domains, links.block.len() + links.allow.len(), "domains")?;
                let set = LinkSet::new(links);
                TextCheck::Links(set.map_err(|bad| format!("definition: {bad:?} is not a domain like example.org."))?)
            }
            Definition::Mentions(mentions) => TextCheck::Mentions(mentions.clone()),
            Definition::Repeats(repeats) => {
                positive(repeats.within_s, "within_s")?;
                if !(2..=super::repeats::REPEATS_REMEMBERED as u32).contains(&repeats.count) {
                    return Err("definition.count: Must be 2 to 32.".to_owned());
                }
                TextCheck::Repeats(repeats.clone())
            }
            Definition::Capitals(capitals) => {
                positive(capitals.min_letters, "min_letters")?;
                TextCheck::Capitals(capitals.clone())
            }
            Definition::Zalgo(zalgo) => {
                positive(zalgo.marks_max, "marks_max")?;
                TextCheck::Zalgo(zalgo.clone())
            }
            Definition::Invisible(invisible) => TextCheck::Invisible { overrides: invisible.overrides },
            Definition::LookalikeNames(names) => {
                Self::take(&mut self.keywords, names.protected.len(), "words")?;
                TextCheck::Names(ProtectedNames::new(&names.protected))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_ascii() {
        for (pattern, plain) in
            [(r"\d+", "[0-9]+"), (r"[\d.]", "[[0-9].]"), (r"\\d\w", r"\\d\w"), ("é\\", "é\\"), ("", "")]
        {
            assert_eq!(with_plain_digits(pattern), plain);
        }
    }
}
