//! Reads that are under way: of accounts (`GET /users`, `/users/me`, `/users/{id}`, `/auth/sessions`, the state of a
//! file), and downloads, which are counted apart because they last.
//!
//! Invariants:
//! - a user has at most [`PER_USER_MAX`] reads and [`DOWNLOADS_MAX`] downloads under way; the next one is refused with
//!   `rate_limited` before PostgreSQL is asked anything about it. Otherwise one user could fill the queue for the
//!   connections of the accounts, and everybody else would wait behind that user;
//! - a place is freed when the request ends, however it ends.

use super::problem::Problem;
use crate::error::Refusal;
use crate::ids::UserId;
use crate::mesh::quota::{Quota, QuotaPlace};

/// Most reads of one user under way. A browser opens six connections to a server.
pub(super) const PER_USER_MAX: usize = 8;
/// Most downloads of one user under way, from all devices.
const DOWNLOADS_MAX: usize = 24;
/// What a refused client should wait before it asks again.
const RETRY_MS: u64 = 1_000;

/// Reads under way, by user.
pub(super) struct AccountReads {
    limiter: &'static str,
    max: usize,
    under_way: Quota<UserId>,
}

impl AccountReads {
    pub(super) fn of_accounts() -> Self {
        Self { limiter: "account_reads", max: PER_USER_MAX, under_way: Quota::new(PER_USER_MAX) }
    }

    pub(super) fn of_downloads() -> Self {
        Self { limiter: "downloads", max: DOWNLOADS_MAX, under_way: Quota::new(DOWNLOADS_MAX) }
    }

    /// A place for a read of `user`.
    pub(super) fn admit(&self, user: UserId) -> Result<QuotaPlace<UserId>, Problem> {
        self.under_way.admit(user).ok_or_else(|| {
            let detail =
                "Too many of your requests for profiles, sessions or files are under way. Wait for their answers.";
            Refusal::rate_limited(detail, self.limiter, "user", self.max as u64, 0).retry_after(RETRY_MS).into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_each_user_and_frees_places() {
        let reads = AccountReads::of_accounts();
        let mut places: Vec<_> = (0..PER_USER_MAX).map(|_| reads.admit(UserId(1)).unwrap()).collect();
        let refused = reads.admit(UserId(1)).err().unwrap();
        assert_eq!((refused.status.as_u16(), refused.code, refused.retry_after_ms), (429, "rate_limited", Some(1_000)));
        assert!(reads.admit(UserId(2)).is_ok(), "others are not affected");
        places.pop();
        places.push(reads.admit(UserId(1)).unwrap());
        assert!(reads.admit(UserId(1)).is_err());
        drop(places);
        assert!(reads.under_way.is_empty());
    }
}
