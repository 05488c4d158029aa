//! The rules of the content filter: loads and compiles them, and gives them to the shards.
//!
//! PostgreSQL has the rules. This task looks for changes once a second, and at once after a change through this server.
//! So a change applies within a second, also one that another server on the same database has made.
//!
//! Invariant: a set that does not load leaves the old one in force. A rule that does not compile, which only an edit of
//! the table can cause, is left out and logged.

use super::problem::Problem;
use crate::chat::filter::action::FilterAction;
use crate::chat::filter::compiled::{Context, Rules};
use crate::chat::filter::rule::FilterRule;
use crate::chat::filter::tally::Tallies;
use crate::chat::filter::written::checked_texts;
use crate::chat::filter::{ConversationRules, FilterRuleSet};
use crate::error::{ErrorCode, Refusal};
use crate::faults::warn_limited;
use crate::ids::{ConversationId, UserId};
use crate::storage::filter::FilterStore;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};

pub use super::ports::FilterPort;

/// How often the task looks for changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(800);

/// Looks between two sweeps of old rows: about a minute.
const LOOKS_PER_SWEEP: u32 = 75;

/// The rules of each scope as they were loaded.
type Loaded = HashMap<Option<ConversationId>, Vec<Value>>;

/// The parts of [`ContentFilter`].
pub struct FilterParts {
    /// The tables.
    pub store: FilterStore,
    /// The shards.
    pub port: Arc<dyn FilterPort>,
    /// `security.content_filtering`.
    pub is_on: bool,
}

/// The content filter of the control plane; cloning shares it.
#[derive(Clone)]
pub struct ContentFilter(Arc<Inner>);

struct Inner {
    parts: FilterParts,
    tallies: Tallies,
    rules: watch::Sender<Arc<FilterRuleSet>>,
    loaded: Mutex<Loaded>,
    changed: Notify,
}

impl std::fmt::Debug for ContentFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ContentFilter").finish_non_exhaustive()
    }
}

impl ContentFilter {
    /// Without rules; [`Self::load`] loads them.
    #[must_use]
    pub fn new(parts: FilterParts) -> Self {
        let (rules, _) = watch::channel(Arc::default());
        let (tallies, loaded, changed) = (Tallies::default(), Mutex::default(), Notify::new());
        Self(Arc::new(Inner { parts, tallies, rules, loaded, changed }))
    }

    /// The tables.
    pub(super) fn store(&self) -> &FilterStore {
        &self.0.parts.store
    }

    /// The shards.
    pub(super) fn port(&self) -> &dyn FilterPort {
        &*self.0.parts.port
    }

    /// The counts of matches.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        self.0.tallies.clone()
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<FilterRuleSet> {
        Arc::clone(&self.0.rules.borrow())
    }

    /// Loads the rules. Scopes whose rules have not changed are not compiled again.
    ///
    /// # Errors
    /// Failures of PostgreSQL.
    pub async fn load(&self) -> Result<Arc<FilterRuleSet>, Refusal> {
        if !self.0.parts.is_on {
            return Ok(self.rules());
        }
        let mut stored = Loaded::new();
        for (conversation, rule) in self.store().all().await? {
            stored.entry(conversation).or_default().push(rule);
        }
        let mut loaded = self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.rules();
        let is_known =
            |scope: Option<ConversationId>, rules: &[Value]| loaded.get(&scope).is_some_and(|old| old == rules);
        let mut set = FilterRuleSet { version: before.version + 1, ..FilterRuleSet::default() };
        for (scope, rules) in &stored {
            let known = is_known(*scope, rules);
            match scope {
                None if known => set.server = Arc::clone(&before.server),
                None => set.server = Arc::new(self.compile_stored(rules, None)),
                Some(id) => {
                    let kept = before.conversations.get(id).filter(|_| known).cloned();
                    let compiled = || Arc::new(self.compile_stored(rules, Some(*id)));
                    let rules: ConversationRules = kept.unwrap_or_else(compiled);
                    set.conversations.insert(*id, rules);
                }
            }
        }
        *loaded = stored;
        let set = Arc::new(set);
        self.0.rules.send_replace(Arc::clone(&set));
        Ok(set)
    }

    /// Compiles stored rules, without those that do not compile.
    fn compile_stored(&self, stored: &[Value], scope: Option<ConversationId>) -> Rules {
        let mut rules: Vec<FilterRule> = Vec::new();
        for rule in stored {
            match serde_json::from_value(rule.clone()) {
                Ok(rule) => rules.push(rule),
                Err(error) => {
                    warn_limited!(?scope, id = %rule["id"], %error, "a rule of the content filter is not readable");
                }
            }
        }
        loop {
            match Rules::compile(&rules, scope, &self.0.tallies) {
                Ok(compiled) => return compiled,
                Err(fault) => {
                    warn_limited!(?scope, %fault, "a rule of the content filter does not compile");
                    if fault.index >= rules.len() {
                        rules.truncate(fault.index);
                    } else {
                        rules.remove(fault.index);
                    }
                    if rules.is_empty() {
                        return Rules::default();
                    }
                }
            }
        }
    }

    /// Applies a change of the rules now.
    pub(super) fn rules_changed(&self) {
        self.0.changed.notify_one();
    }

    /// Looks for changes until the runtime ends.
    pub async fn run(self) {
        if !self.0.parts.is_on {
            return;
        }
        let mut seen = self.store().version().await.ok();
        let mut looks = 0_u32;
        loop {
            looks += 1;
            if looks.is_multiple_of(LOOKS_PER_SWEEP)
                && let Err(refusal) = self.store().sweep().await
            {
                tracing::debug!("old matches of the content filter could not be removed: {refusal}");
            }
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let Ok(version) = self.store().version().await else { continue };
            if seen == Some(version) {
                continue;
            }
            if let Ok(rules) = self.load().await {
                seen = Some(version);
                self.port().publish(rules);
            }
        }
    }

    /// Checks a text of a user's profile: a field of a route, as [`checked_texts`] lists them.
    ///
    /// # Errors
    /// A rule refuses it.
    pub(super) async fn check_profile(
        &self,
        user: Option<UserId>,
        (route, field): (&'static str, &'static str),
        text: &str,
    ) -> Result<(), Problem> {
        let listed = checked_texts(route).find(|(known, ..)| *known == field);
        let Some((_, place, _)) = listed else { return Ok(()) };
        let context = Context { field: place, conversation: None, memory: None, now_s: 0 };
        let verdict = self.rules().check(text, &context);
        let Some(hit) = verdict.hits.first() else { return Ok(()) };
        // No moderator decides about names, and nobody can be muted.
        let action = if hit.action == FilterAction::Flag { FilterAction::Flag } else { FilterAction::Refuse };
        hit.tally.acted(action);
        if let Err(refusal) = self.store().record_hit(user, &hit.id, action.as_str()).await {
            warn_limited!(%refusal, rule = hit.id, "a match of the content filter could not be recorded");
        }
        if action == FilterAction::Flag {
            return Ok(());
        }
        let message = format!("{field}: The rule {} does not allow this text. Choose another one.", hit.id);
        Err(Refusal::new(ErrorCode::Filtered, message).with_details(json!({"rule": hit.id})).into())
    }
}

/// Checks rules that an administrator sends.
///
/// # Errors
/// The first rule that is refused.
pub(super) fn validate(rules: &[FilterRule], scope: Option<ConversationId>) -> Result<(), Problem> {
    // With counts of its own: labels of rules that are refused are not kept.
    Rules::compile(rules, scope, &Tallies::default()).map(drop).map_err(|fault| Problem::bad_request(fault.to_string()))
}
