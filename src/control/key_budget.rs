//! How often a user may change something over HTTP that costs more than the change itself: a profile is announced in
//! all conversations of its user, and rules of the content filter are compiled by every shard. And how often a network
//! may read what needs no token.
//!
//! Invariants:
//! - a request beyond the limit is refused before PostgreSQL is asked for anything;
//! - who made no request in the last minute has no entry, so the table grows only with requests that were accepted.

use super::problem::Problem;
use crate::address::ClientNetwork;
use crate::budget::{self, Rate};
use crate::error::Refusal;
use crate::ids::UserId;
use crate::limits::{
    AVATAR_READS_PER_MINUTE, DECISIONS_PER_MINUTE, ERASURE_READS_PER_MINUTE, FILTER_EDITS_PER_MINUTE,
    HOOK_POSTS_PER_MINUTE, PROFILE_EDITS_PER_MINUTE, RELOADS_PER_MINUTE,
};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The longest table that is not swept before it grows.
const UNSWEPT_MAX: usize = 1_024;

/// The users or networks that did such a thing of late, each with the budget that it has spent.
pub(super) struct KeyBudget<K = UserId> {
    /// The name of the limit, what a key is (`user`, `address`), and what it may do, in the text of a refusal.
    names: (&'static str, &'static str, &'static str),
    per_minute: u32,
    rate: Rate,
    /// Process time begins here.
    began: Instant,
    spent: Mutex<HashMap<K, AtomicU64>>,
}

impl KeyBudget {
    /// The budget of profile edits.
    pub(super) fn of_profile_edits() -> Self {
        Self::new(("profile_edits", "user", "change your profile"), PROFILE_EDITS_PER_MINUTE)
    }

    /// The budget of replacements of filter rules.
    pub(super) fn of_filter_rules() -> Self {
        Self::new(("filter_rules", "user", "replace rules of the content filter"), FILTER_EDITS_PER_MINUTE)
    }

    /// The budget of reloads of the configuration.
    pub(super) fn of_reloads() -> Self {
        Self::new(("reloads", "user", "reload the configuration"), RELOADS_PER_MINUTE)
    }

    /// The budget of decisions about held texts.
    pub(super) fn of_decisions() -> Self {
        Self::new(("moderation", "user", "decide about a text"), DECISIONS_PER_MINUTE)
    }
}

impl KeyBudget<ClientNetwork> {
    /// The budget of reads of users' pictures.
    pub(super) fn of_avatar_reads() -> Self {
        Self::new(("avatar_reads", "address", "load pictures of people"), AVATAR_READS_PER_MINUTE)
    }

    /// The budget of looks at erasures.
    pub(super) fn of_erasure_reads() -> Self {
        Self::new(("erasure_reads", "address", "look at erasures"), ERASURE_READS_PER_MINUTE)
    }

    /// The budget of posts to incoming webhooks.
    pub(super) fn of_hook_posts() -> Self {
        Self::new(("hook_posts", "address", "post to webhooks"), HOOK_POSTS_PER_MINUTE)
    }
}

impl<K: Copy + Eq + Hash> KeyBudget<K> {
    fn new(names: (&'static str, &'static str, &'static str), per_minute: u32) -> Self {
        let rate = Rate::per_minute(per_minute);
        Self { names, per_minute, rate, began: Instant::now(), spent: Mutex::default() }
    }

    /// Charges a request of `key`.
    pub(super) fn charge(&self, key: K, now: Instant) -> Result<(), Problem> {
        let now_ns = self.ns(now);
        let mut all = self.spent();
        if all.len() >= UNSWEPT_MAX && !all.contains_key(&key) {
            all.retain(|_, spent| !budget::is_replenished(spent, now_ns));
        }
        self.rate.take(all.entry(key).or_default(), now_ns).map_err(|wait_ms| self.refusal(wait_ms))
    }

    /// Whether a request of `key` would be accepted, without charging it.
    pub(super) fn check(&self, key: K, now: Instant) -> Result<(), Problem> {
        let checked = self.spent().get(&key).map_or(Ok(()), |spent| self.rate.check(spent, self.ns(now)));
        checked.map_err(|wait_ms| self.refusal(wait_ms))
    }

    fn ns(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos() as u64
    }

    fn spent(&self) -> MutexGuard<'_, HashMap<K, AtomicU64>> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, wait_ms: u64) -> Problem {
        let (limit, (limiter, scope, change)) = (self.per_minute, self.names);
        let detail = format!("You can {change} {limit} times a minute. Wait and send it again.");
        let refusal = Refusal::rate_limited(detail, limiter, scope, u64::from(limit), 60_000);
        refusal.retry_after(wait_ms + 1).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const WINDOW: Duration = Duration::from_mins(1);
    const INTERVAL: Duration = Duration::from_millis(60_000 / PROFILE_EDITS_PER_MINUTE as u64);

    #[test]
    fn allows_a_burst_and_then_the_rate() {
        let (edits, now) = (KeyBudget::of_profile_edits(), Instant::now());
        let burst = (0..30).filter(|_| edits.charge(UserId(1), now).is_ok()).count();
        assert_eq!(burst, PROFILE_EDITS_PER_MINUTE as usize);
        let refused = edits.charge(UserId(1), now).unwrap_err();
        assert_eq!(edits.check(UserId(1), now).unwrap_err(), refused, "checking says the same");
        assert!(edits.check(UserId(2), now).is_ok() && edits.check(UserId(1), now + INTERVAL).is_ok());
        assert_eq!((refused.status.as_u16(), refused.code, refused.retry_after_ms), (429, "rate_limited", Some(6_001)));
        assert!(edits.charge(UserId(2), now).is_ok(), "others are not affected");
        assert!(edits.charge(UserId(1), now + INTERVAL).is_ok());
        assert!(edits.charge(UserId(1), now + INTERVAL).is_err());
    }

    #[test]
    fn forgets_users_whose_budget_is_full() {
        let (edits, now) = (KeyBudget::of_profile_edits(), Instant::now());
        for n in 0..5_000 {
            assert!(edits.charge(UserId(n), now + WINDOW * n as u32).is_ok());
        }
        assert!(edits.spent.lock().unwrap().len() <= UNSWEPT_MAX);
    }
}
