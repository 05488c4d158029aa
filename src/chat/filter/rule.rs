//! What administrators write: a rule, its definition, and what follows when it matches.

use super::action::FilterAction;
use super::tally::Tally;
use crate::ids::ConversationId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a rule looks for.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "definition", rename_all = "snake_case")]
pub enum Definition {
    /// One of these words.
    Keywords(Keywords),
    /// A regular expression of the crate `regex`, on the text as it was written.
    Regex(Pattern),
    /// Links to these domains.
    Links(Links),
    /// More mentions than this.
    Mentions(Mentions),
    /// The same text again and again, over all rooms of a user.
    Repeats(Repeats),
    /// Mostly capitals.
    Capitals(Capitals),
    /// Marks piled on one character.
    Zalgo(Zalgo),
    /// Text that readers do not see.
    Invisible(Invisible),
    /// Names that imitate other names.
    LookalikeNames(LookalikeNames),
}

/// Words, compared without case, accents and look-alikes.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keywords {
    /// The words or phrases.
    pub words: Vec<String>,
    /// A word matches only where no letter or digit is beside it.
    #[serde(default = "yes")]
    pub whole_words: bool,
    /// `0`, `3`, `$` and the like count as letters.
    #[serde(default)]
    pub leet: bool,
}

/// A regular expression.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// In the syntax of the crate `regex`: no look-around and no back-references.
    pub pattern: String,
    /// Whether case matters.
    #[serde(default)]
    pub case_sensitive: bool,
}

/// Domains; a domain stands for its subdomains too.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Links {
    /// Domains that match.
    pub block: Vec<String>,
    /// Domains that never match.
    pub allow: Vec<String>,
    /// Every link matches whose domain is not in `allow`.
    pub only_allowed: bool,
    /// Domains match that imitate others with letters of another script.
    pub lookalikes: bool,
}

/// A bound of mentions in one text.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mentions {
    /// Most different mentions.
    pub max: u32,
}

/// A bound of repeats.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repeats {
    /// The repeat that matches: 3 means the third message with the text.
    pub count: u32,
    /// Only if they are in so many conversations.
    #[serde(default = "one")]
    pub conversations: u32,
    /// Within this time, in seconds.
    pub within_s: u32,
}

/// A bound of capitals.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capitals {
    /// More than this part of the letters.
    pub percent: u32,
    /// Only in texts with at least so many letters.
    pub min_letters: u32,
}

/// A bound of combining marks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zalgo {
    /// Most marks on one character.
    pub marks_max: u32,
}

/// Invisible text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Invisible {
    /// Direction overrides (U+202D, U+202E) match too.
    pub overrides: bool,
}

/// Names that imitate others.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LookalikeNames {
    /// Names that only their exact spelling may have.
    pub protected: Vec<String>,
}

fn yes() -> bool {
    true
}

fn one() -> u32 {
    1
}

/// A rule as it is stored and sent.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct FilterRule {
    /// Its id: unique in its scope, 1–64 of `[a-z0-9_-]`.
    pub id: String,
    /// What it looks for.
    #[serde(flatten)]
    pub definition: Definition,
    /// What follows.
    pub action: FilterAction,
    /// Matches are only counted.
    #[serde(default)]
    pub dry_run: bool,
    /// Whether it is used.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Members with this role or a higher one are exempt.
    #[serde(default)]
    pub exempt_from: Option<String>,
    /// How long `slow` and `mute` mute, in seconds.
    #[serde(default)]
    pub mute_s: Option<i64>,
}

/// The part of a rule that a match needs.
#[derive(Clone, Debug)]
pub struct RuleHead {
    /// Its id.
    pub id: String,
    /// The conversation whose rule it is; none for one of the server.
    pub conversation: Option<ConversationId>,
    /// What follows.
    pub action: FilterAction,
    /// Matches are only counted.
    pub dry_run: bool,
    /// Members with this role or a higher one are exempt.
    pub exempt_from: Option<String>,
    /// How long its author is muted, in seconds.
    pub mute_s: i64,
    /// Counts its matches.
    pub tally: Arc<Tally>,
}
