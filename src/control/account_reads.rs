//! Reads of accounts that are under way: `GET /users`, `/users/me`, `/users/{id}` and `/auth/sessions`.
//!
//! Invariants:
//! - a user has at most [`PER_USER_MAX`] of them under way; the next one is refused with `rate_limited` before
//!   PostgreSQL is asked anything. Otherwise one user could fill the queue for the connections of the accounts, and
//!   everybody else would wait behind that user;
//! - a place is freed when the request ends, however it ends.

use super::problem::Problem;
use crate::error::Refusal;
use crate::ids::UserId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most reads of one user under way. A browser opens six connections to a server.
pub(super) const PER_USER_MAX: usize = 8;
/// What a refused client should wait before it asks again.
const RETRY_MS: u64 = 1_000;

/// Reads under way, by user; cloning shares them. A user without any has no entry.
#[derive(Clone, Default)]
pub(super) struct AccountReads {
    under_way: Arc<Mutex<HashMap<UserId, usize>>>,
}

/// The place of one read.
pub struct Place {
    reads: AccountReads,
    user: UserId,
}

impl AccountReads {
    /// A place for a read of `user`.
    pub(super) fn admit(&self, user: UserId) -> Result<Place, Problem> {
        let mut all = self.all();
        let count = all.entry(user).or_default();
        if *count >= PER_USER_MAX {
            let detail = "Too many requests for profiles and sessions are under way. Wait for their answers.";
            let refusal = Refusal::rate_limited(detail, "account_reads", "user", PER_USER_MAX as u64, 0);
            return Err(refusal.retry_after(RETRY_MS).into());
        }
        *count += 1;
        Ok(Place { reads: self.clone(), user })
    }

    fn all(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.reads.all();
        if let Some(count) = all.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                all.remove(&self.user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_each_user_and_frees_places() {
        let reads = AccountReads::default();
        let mut places: Vec<_> = (0..PER_USER_MAX).map(|_| reads.admit(UserId(1)).unwrap()).collect();
        let refused = reads.admit(UserId(1)).err().unwrap();
        assert_eq!((refused.status.as_u16(), refused.code, refused.retry_after_ms), (429, "rate_limited", Some(1_000)));
        assert!(reads.admit(UserId(2)).is_ok(), "others are not affected");
        places.pop();
        places.push(reads.admit(UserId(1)).unwrap());
        assert!(reads.admit(UserId(1)).is_err());
        drop(places);
        assert!(reads.all().is_empty());
    }
}
