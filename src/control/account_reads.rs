//! Reads of accounts that are under way: `GET /users`, `/users/me`, `/users/{id}`, `/auth/sessions`, and the state of a
//! file.
//!
//! Invariants:
//! - a user has at most [`PER_USER_MAX`] of them under way; the next one is refused with `rate_limited` before
//!   PostgreSQL is asked anything. Otherwise one user could fill the queue for the connections of the accounts, and
//!   everybody else would wait behind that user;
//! - a place is freed when the request ends, however it ends.

use super::problem::Problem;
use crate::ids::UserId;
use crate::mesh::quota::{Quota, QuotaPlace, QuotaRefusal};

/// Most reads of one user under way. A browser opens six connections to a server.
pub(super) const PER_USER_MAX: usize = 8;
const TOO_MANY: QuotaRefusal = QuotaRefusal {
    limiter: "account_reads",
    scope: "user",
    detail: "Too many of your requests for profiles, sessions or files are under way. Wait for their answers.",
    retry_ms: 1_000,
};

/// Reads under way, by user.
pub(super) struct AccountReads(Quota<UserId>);

impl Default for AccountReads {
    fn default() -> Self {
        Self(Quota::new(PER_USER_MAX))
    }
}

impl AccountReads {
    /// A place for a read of `user`.
    pub(super) fn admit(&self, user: UserId) -> Result<QuotaPlace<UserId>, Problem> {
        Ok(self.0.admit_or(user, &TOO_MANY)?)
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
        assert!(reads.0.is_empty());
    }
}
