//! The content filter: which texts are refused, held for a moderator or flagged. Pure: no I/O, no clock.
//!
//! The text itself is stored and shown as it was written. A rule only decides what follows. Rules belong to the server
//! or to a conversation; [`FilterRuleSet`] has all of them, compiled, and every shard has a reference to the same one.
//!
//! | file | does |
//! |---|---|
//! | [`rule`] | what administrators write |
//! | [`action`] | what follows when a rule matches |
//! | [`compiled`] | the rules of one scope, ready for use |
//! | [`fold`] | one reading of a text for comparisons |
//! | [`links`] | domains in a text |
//! | [`signs`] | capitals, piled marks, invisible text, mentions, names |
//! | [`repeats`] | what a user wrote lately |
//! | [`tally`] | counts of matches by rule |
//! | [`written`] | every text that users write, and whether the rules check it |
//!
//! Invariants:
//! - the cost of a check is bounded for every text and every set that compiles: it is linear in the text, and regular
//!   expressions (RE2 class, of bounded size) see its first part only. Otherwise one message could stop a shard;
//! - a set is never changed, only replaced. Otherwise a shard could see half of a change.

pub mod action;
pub mod compiled;
pub mod fold;
pub mod links;
pub mod repeats;
pub mod rule;
pub mod signs;
pub mod tally;
pub mod written;

use crate::ids::ConversationId;
use compiled::{Context, Rules};
use repeats::{RepeatMemory, fingerprint};
use rule::RuleHead;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// The memory of one user, made when a rule needs it.
pub type SharedRepeats = Arc<OnceLock<Box<RepeatMemory>>>;

/// The rules of one conversation. Unchanged ones are shared by the sets before and after a change.
pub type ConversationRules = Arc<Rules>;

/// The rules that a text matches, the most severe action first.
#[derive(Clone, Debug, Default)]
pub struct FilterVerdict {
    /// Rules that are acted upon.
    pub hits: Vec<Arc<RuleHead>>,
}

/// All rules of the server, compiled.
#[derive(Debug, Default)]
pub struct FilterRuleSet {
    /// Rises with every change.
    pub version: u64,
    /// For every text.
    pub server: Arc<Rules>,
    /// For the texts of one conversation.
    pub conversations: HashMap<ConversationId, ConversationRules>,
}

impl FilterRuleSet {
    /// Checks a text. Counts the matches of dry runs.
    #[must_use]
    pub fn check(&self, text: &str, context: &Context<'_>) -> FilterVerdict {
        let mut hits = Vec::new();
        self.server.check(text, context, &mut hits);
        if let Some(rules) = context.conversation.and_then(|conversation| self.conversations.get(&conversation)) {
            rules.check(text, context, &mut hits);
        }
        if !hits.is_empty() {
            hits.retain(|hit: &Arc<RuleHead>| {
                if hit.dry_run {
                    hit.tally.dry_run();
                }
                !hit.dry_run
            });
            hits.sort_by_key(|hit| Reverse(hit.action));
        }
        FilterVerdict { hits }
    }

    /// Whether texts in this conversation must be remembered.
    #[must_use]
    pub fn remembers(&self, conversation: ConversationId) -> bool {
        self.server.remembers() || self.conversations.get(&conversation).is_some_and(|rules| rules.remembers())
    }
}

/// Remembers a text of a user for the rules about repeats.
pub fn remember(memory: &RepeatMemory, text: &str, conversation: ConversationId, now_s: u64) {
    if let Some(print) = fingerprint(&fold::folded(text)) {
        memory.remember(print, Some(conversation), now_s);
    }
}

#[cfg(test)]
mod tests;
