//! Counts of matches by rule. A rule keeps its counts when the rules are loaded again.

use super::action::FilterAction;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Rules with a count of their own. Beyond, they share the count `other`, so that labels stay bounded.
const TALLIES_MAX: usize = 256;
/// The label of all rules of conversations: their administrators must not make labels.
pub const OF_CONVERSATIONS: &str = "conversation";
const OTHER: &str = "other";

/// The label of matches that were only counted.
pub const DRY_RUN: &str = "dry_run";

/// The matches of one rule. Shards add on a match, which is rare, so one atomic for all of them is no burden.
#[derive(Debug, Default)]
pub struct Tally {
    by_action: [AtomicU64; FilterAction::ALL.len()],
    dry: AtomicU64,
}

impl Tally {
    /// A match that was acted upon.
    pub fn acted(&self, action: FilterAction) {
        self.by_action[action as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A match of a dry run.
    pub fn dry_run(&self) {
        self.dry.fetch_add(1, Ordering::Relaxed);
    }

    /// The counts with their labels.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let acted = FilterAction::ALL.iter().zip(&self.by_action);
        let acted = acted.map(|(action, count)| (action.as_str(), count.load(Ordering::Relaxed)));
        acted.chain(std::iter::once((DRY_RUN, self.dry.load(Ordering::Relaxed))))
    }
}

/// All counts of the process; cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Tallies(Arc<Mutex<BTreeMap<String, Arc<Tally>>>>);

impl Tallies {
    /// The count of a rule of the server, or of all rules of conversations.
    #[must_use]
    pub fn of(&self, label: &str) -> Arc<Tally> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let label = if all.len() < TALLIES_MAX || all.contains_key(label) { label } else { OTHER };
        Arc::clone(all.entry(label.to_owned()).or_default())
    }

    /// Every count with its label.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Arc<Tally>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(label, tally)| (label.clone(), Arc::clone(tally))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_beyond_the_bound_share_a_count() {
        let tallies = Tallies::default();
        for n in 0..TALLIES_MAX + 10 {
            tallies.of(&format!("rule-{n}")).acted(FilterAction::Refuse);
        }
        assert_eq!(tallies.all().len(), TALLIES_MAX + 1);
        tallies.of("rule-0").acted(FilterAction::Refuse);
        let count = |label: &str| tallies.of(label).counts().find(|(name, _)| *name == "refuse").unwrap().1;
        assert_eq!((count("rule-0"), count("a new one")), (2, 10));
    }
}
