//! Sessions that were revoked lately.
//!
//! A connection's session is looked up in PostgreSQL before the connection is opened. A revocation that is committed
//! after the look-up reaches the shards before the connection does, so each shard remembers it.

use crate::ids::SessionId;
use std::collections::{HashSet, VecDeque};

/// Sessions remembered. Far more than can be revoked while a look-up is under way; the oldest go first.
pub const REVOCATIONS_MAX: usize = 1 << 20;

/// The memory of revoked sessions.
#[derive(Debug, Default)]
pub struct Revocations {
    sessions: HashSet<SessionId>,
    /// When each may be forgotten, in milliseconds of the process's clock; ascending.
    expiries: VecDeque<(u64, SessionId)>,
}

impl Revocations {
    /// Remembers that `session` is revoked, until `until_ms`.
    pub fn revoke(&mut self, session: SessionId, until_ms: u64) {
        if self.sessions.insert(session) {
            self.expiries.push_back((until_ms, session));
        }
        if self.expiries.len() > REVOCATIONS_MAX {
            self.forget_oldest();
        }
    }

    /// Whether the session was revoked lately, as far as this shard knows. PostgreSQL knows for certain.
    #[must_use]
    pub fn contains(&self, session: SessionId) -> bool {
        self.sessions.contains(&session)
    }

    /// Forgets what has expired.
    pub fn sweep(&mut self, now_ms: u64) {
        while self.expiries.front().is_some_and(|(until_ms, _)| *until_ms <= now_ms) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, session)) = self.expiries.pop_front() {
            self.sessions.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_a_revocation_until_it_expires() {
        let mut revocations = Revocations::default();
        revocations.revoke(SessionId(1), 100);
        revocations.revoke(SessionId(1), 150);
        revocations.revoke(SessionId(2), 200);
        revocations.sweep(99);
        assert!(revocations.contains(SessionId(1)) && revocations.contains(SessionId(2)));
        revocations.sweep(150);
        assert!(!revocations.contains(SessionId(1)) && revocations.contains(SessionId(2)));
        revocations.sweep(200);
        assert!(revocations.sessions.is_empty() && revocations.expiries.is_empty());
    }

    #[test]
    fn forgets_the_oldest_beyond_its_bound() {
        let mut revocations = Revocations::default();
        for session in 0..=REVOCATIONS_MAX as i64 {
            revocations.revoke(SessionId(session), 1_000);
        }
        assert_eq!(revocations.sessions.len(), REVOCATIONS_MAX);
        assert!(!revocations.contains(SessionId(0)) && revocations.contains(SessionId(1)));
    }
}
