//! The content filter in a history: the rules, the words that clients write, and what the model of PostgreSQL remembers
//! of texts that match (`mutate_filter_text` and the moderators' queue).
//!
//! A quarter of the histories have rules. Their clients write each word of [`word`] in turn. Checked:
//! - no text enters a log that a rule refuses, or holds and no moderator has approved;
//! - `filtered` names the rule of the text, and says that it is held only if it is kept for a moderator;
//! - a text that is only flagged, or whose author is exempt, is never refused with it. Whether a flagged text is listed
//!   is not checked: its record may be lost when a lane is full.

use chat_server::chat::filter::FilterRuleSet;
use chat_server::chat::filter::compiled::Rules;
use chat_server::chat::filter::rule::FilterRule;
use chat_server::chat::filter::tally::Tallies;
use chat_server::ids::{ConversationId, UserId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const REFUSED: &str = "forbidden";
const HELD: &str = "offer";
const FLAGGED: &str = "odd";
/// A rule refuses it, and exempts members.
const EXEMPT: &str = "quoted";

/// The rules of the filtered histories.
#[must_use]
pub fn rules() -> Arc<FilterRuleSet> {
    let rule = |id: &str, word: &str, action: &str, exempt_from: Option<&str>| {
        json!({"id": id, "kind": "keywords", "definition": {"words": [word]}, "action": action,
               "exempt_from": exempt_from})
    };
    let rules = json!([
        rule("refuses", REFUSED, "refuse", None),
        rule("holds", HELD, "hold", None),
        rule("flags", FLAGGED, "flag", None),
        rule("exempts", EXEMPT, "refuse", Some("member")),
    ]);
    let rules: Vec<FilterRule> = serde_json::from_value(rules).unwrap_or_default();
    let server = Arc::new(Rules::compile(&rules, None, &Tallies::default()).unwrap_or_default());
    Arc::new(FilterRuleSet { version: 1, server, ..FilterRuleSet::default() })
}

/// What a client writes in its message of this number, beside the rest.
#[must_use]
pub fn word(number: u64) -> &'static str {
    match number % 8 {
        1 => REFUSED,
        3 => HELD,
        5 => FLAGGED,
        7 => EXEMPT,
        _ => "",
    }
}

/// A text's place: its conversation, its author, its key.
pub type TextPlace = (ConversationId, UserId, String);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum TextState {
    Held,
    Flagged,
    Approved,
    Rejected,
}

/// The texts that PostgreSQL remembers.
#[derive(Default)]
pub struct Moderation {
    texts: BTreeMap<TextPlace, (TextState, String)>,
    /// The answers that it gave, and `sent` for an approved text in a log.
    pub played: BTreeSet<String>,
    /// A text that the log should not have.
    pub fault: Option<String>,
}

impl Moderation {
    /// `mutate_filter_text`.
    pub fn decide(&mut self, place: (ConversationId, UserId), arguments: &Value) -> Value {
        let decided = self.decision(place, arguments);
        self.played.extend(decided["action"].as_str().map(str::to_owned));
        decided
    }

    /// Every role in the model is `member`, so a rule that exempts a role exempts the author.
    fn decision(&mut self, place: (ConversationId, UserId), arguments: &Value) -> Value {
        let text = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        let place = (place.0, place.1, text("key"));
        if let Some((state, _)) = self.texts.get(&place) {
            let (rule, action) = match state {
                TextState::Held => ("holds", "hold"),
                TextState::Rejected => ("holds", "refuse"),
                TextState::Flagged => ("flags", "pass"),
                TextState::Approved => ("holds", "pass"),
            };
            return json!({ "rule": rule, "is_repeat": true, "action": action });
        }
        let mut hits = arguments["hits"].as_array().into_iter().flatten();
        let Some(hit) = hits.find(|hit| hit["exempt_from"].is_null()) else { return json!({ "action": "pass" }) };
        let state = match hit["action"].as_str() {
            Some("hold") => Some(TextState::Held),
            Some("flag") => Some(TextState::Flagged),
            _ => None,
        };
        if let Some(state) = state {
            self.texts.insert(place, (state, text("text")));
        }
        json!({ "rule": hit["rule"], "action": hit["action"] })
    }

    /// A text enters the log.
    pub fn stores(&mut self, place: &TextPlace, content: &str) {
        let state = self.texts.get(place).map(|(state, _)| *state);
        let has = |word: &str| content.split(' ').any(|part| part == word);
        let rule = if has(REFUSED) {
            "refuses"
        } else if has(HELD) && state != Some(TextState::Approved) {
            "holds"
        } else {
            if state == Some(TextState::Approved) {
                self.played.insert("sent".to_owned());
            }
            return;
        };
        self.fault = Some(format!("{} is in the log of {}, although the rule {rule} matches it", place.2, place.0));
    }

    /// A moderator decides about the oldest held text. Returns its place and the text.
    pub fn review(&mut self, approves: bool) -> Option<(TextPlace, String)> {
        let mut texts = self.texts.iter_mut();
        let (place, (state, content)) = texts.find(|(_, (state, _))| *state == TextState::Held)?;
        *state = if approves { TextState::Approved } else { TextState::Rejected };
        Some((place.clone(), content.clone()))
    }

    /// What is wrong with a `filtered` refusal of the message of this number.
    #[must_use]
    pub fn refusal_fault(&self, place: &TextPlace, number: u64, details: &Value) -> Option<String> {
        let state = self.texts.get(place).map(|(state, _)| *state);
        let is_held = details["held"] == true;
        let (rule, is_right) = match word(number) {
            REFUSED => ("refuses", !is_held),
            HELD if is_held => ("holds", state.is_some()),
            HELD => ("holds", state == Some(TextState::Rejected)),
            _ => ("none", false),
        };
        let is_right = is_right && details["rule"] == rule;
        (!is_right).then(|| format!("{} was refused with {details}; PostgreSQL has {state:?} of it", place.2))
    }
}
