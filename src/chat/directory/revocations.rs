//! Recently revoked sessions.
//!
//! The server looks a session up in PostgreSQL before it opens a connection. A revocation that is committed after this
//! look-up reaches the shards before the connection does, so each shard remembers it.

use crate::ids::SessionId;
use std::collections::{HashSet, VecDeque};

/// The number of remembered sessions, far more than can be revoked during a look-up. The oldest are dropped first.
pub const REVOCATIONS_MAX: usize = 1 << 20;

/// The revoked sessions that one shard remembers.
#[derive(Debug, Default)]
pub struct Revocations {
    sessions: HashSet<SessionId>,
    /// When each can be dropped, in milliseconds of the process's clock; ascending.
    expiries: VecDeque<(u64, SessionId)>,
}

impl Revocations {
    /// Records until `until_ms` that `session` is revoked.
    pub fn revoke(&mut self, session: SessionId, until_ms: u64) {
        if self.sessions.insert(session) {
            self.expiries.push_back((until_ms, session));
        }
        if self.expiries.len() > REVOCATIONS_MAX {
            self.forget_oldest();
        }
    }

    /// Whether this shard knows that the session is revoked. Only PostgreSQL knows for certain.
    #[must_use]
    pub fn contains(&self, session: SessionId) -> bool {
        self.sessions.contains(&session)
    }

    /// Drops expired entries.
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
