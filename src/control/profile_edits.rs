//! How often a user may change their profile: each change is announced in all of their conversations.
//!
//! Invariants:
//! - an edit beyond the limit is refused before PostgreSQL is asked to change anything;
//! - a user without an edit in the last minute has no entry, so the table grows only with edits that were accepted.

use super::problem::Problem;
use crate::error::{ErrorCode, Refusal};
use crate::ids::UserId;
use crate::limits::PROFILE_EDITS_PER_MINUTE;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_mins(1);
/// After an edit the user may make another one this much later, once the burst is used up.
const INTERVAL: Duration = Duration::from_millis(60_000 / PROFILE_EDITS_PER_MINUTE as u64);
/// The longest table that is not swept before it grows.
const UNSWEPT_MAX: usize = 1_024;

/// The users who edited their profile of late, each with the time at which the budget is full again.
#[derive(Default)]
pub(super) struct ProfileEdits {
    full_at: Mutex<HashMap<UserId, Instant>>,
}

impl ProfileEdits {
    /// Charges an edit of `user`.
    pub(super) fn charge(&self, user: UserId, now: Instant) -> Result<(), Problem> {
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= UNSWEPT_MAX {
            all.retain(|_, full_at| *full_at > now);
        }
        let full_at = all.get(&user).copied().unwrap_or(now).max(now);
        let excess = (full_at + INTERVAL).duration_since(now).saturating_sub(WINDOW);
        if !excess.is_zero() {
            let detail = format!(
                "You can change your profile {PROFILE_EDITS_PER_MINUTE} times a minute. Wait and send it again."
            );
            let details = serde_json::json!({
                "limiter": "profile_edits", "scope": "user", "limit": PROFILE_EDITS_PER_MINUTE, "window_ms": 60_000
            });
            let wait_ms = excess.as_millis() as u64 + 1;
            return Err(Refusal::new(ErrorCode::RateLimited, detail).retry_after(wait_ms).with_details(details).into());
        }
        all.insert(user, full_at + INTERVAL);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(edits.full_at.lock().unwrap().len() <= UNSWEPT_MAX);
    }
}
