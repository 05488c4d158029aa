//! How often a user may change their profile: each change is announced in all of their conversations.
//!
//! Invariants:
//! - an edit beyond the limit is refused before PostgreSQL is asked to change anything;
//! - a user without an edit in the last minute has no entry, so the table grows only with edits that were accepted.

use super::problem::Problem;
use crate::budget::{self, Rate};
use crate::error::Refusal;
use crate::ids::UserId;
use crate::limits::PROFILE_EDITS_PER_MINUTE;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The longest table that is not swept before it grows.
const UNSWEPT_MAX: usize = 1_024;

/// The users who edited their profile of late, each with the budget that they have spent.
pub(super) struct ProfileEdits {
    rate: Rate,
    /// Process time begins here.
    began: Instant,
    spent: Mutex<HashMap<UserId, AtomicU64>>,
}

impl Default for ProfileEdits {
    fn default() -> Self {
        Self { rate: Rate::per_minute(PROFILE_EDITS_PER_MINUTE), began: Instant::now(), spent: Mutex::default() }
    }
}

impl ProfileEdits {
    /// Charges an edit of `user`.
    pub(super) fn charge(&self, user: UserId, now: Instant) -> Result<(), Problem> {
        let now_ns = now.saturating_duration_since(self.began).as_nanos() as u64;
        let mut all = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= UNSWEPT_MAX {
            all.retain(|_, spent| !budget::is_replenished(spent, now_ns));
        }
        self.rate.take(all.entry(user).or_default(), now_ns).map_err(|wait_ms| {
            let limit = PROFILE_EDITS_PER_MINUTE;
            let detail = format!("You can change your profile {limit} times a minute. Wait and send it again.");
            let refusal = Refusal::rate_limited(detail, "profile_edits", "user", u64::from(limit), 60_000);
            refusal.retry_after(wait_ms + 1).into()
        })
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
        let (edits, now) = (ProfileEdits::default(), Instant::now());
        let burst = (0..30).filter(|_| edits.charge(UserId(1), now).is_ok()).count();
        assert_eq!(burst, PROFILE_EDITS_PER_MINUTE as usize);
        let refused = edits.charge(UserId(1), now).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.code, refused.retry_after_ms), (429, "rate_limited", Some(6_001)));
        assert!(edits.charge(UserId(2), now).is_ok(), "others are not affected");
        assert!(edits.charge(UserId(1), now + INTERVAL).is_ok());
        assert!(edits.charge(UserId(1), now + INTERVAL).is_err());
    }

    #[test]
    fn forgets_users_whose_budget_is_full() {
        let (edits, now) = (ProfileEdits::default(), Instant::now());
        for n in 0..5_000 {
            assert!(edits.charge(UserId(n), now + WINDOW * n as u32).is_ok());
        }
        assert!(edits.spent.lock().unwrap().len() <= UNSWEPT_MAX);
    }
}
