//! Recent changes of memberships and blocks, which the answer of a read may not contain.
//!
//! The answer of a read shows the state when the read ran. Before the shard acts on it, it checks here what changed
//! since the read was sent. If there were too many changes, [`RecentChanges::forgot_since`] is true, and the shard
//! reads again.

use crate::ids::UserId;
use crate::mesh::event::MembershipChange;
use std::collections::VecDeque;

/// How long a change is remembered: longer than the deadline of any read.
pub const RECENT_MS: u64 = 2 * crate::limits::READ_DEADLINE_MS;
/// Changes remembered per shard, 40 bytes each.
pub const RECENT_CHANGES_MAX: usize = 65_536;
/// Blocks remembered per shard for signals. They are searched for each signal.
const RECENT_BLOCKS_MAX: usize = 1_024;

#[derive(Clone, Copy, Debug)]
enum RecentChange {
    Membership(MembershipChange),
    /// One of two users blocked the other, so neither may see the other's presence.
    Blocked(UserId, UserId),
}

/// The recent changes that one shard remembers.
#[derive(Debug, Default)]
pub struct RecentChanges {
    changes: VecDeque<(u64, RecentChange)>,
    /// The blocks among them.
    blocks: VecDeque<(u64, UserId, UserId)>,
    /// The time of the newest block that was dropped early.
    forgot_blocks_ms: Option<u64>,
    /// The time of the newest change that was dropped early, if any.
    forgot_ms: Option<u64>,
}

impl RecentChanges {
    /// Records that a user joined or left a conversation.
    pub fn membership(&mut self, change: MembershipChange, now_ms: u64) {
        self.push(RecentChange::Membership(change), now_ms);
    }

    /// Records that one of two users blocked the other.
    pub fn blocked(&mut self, one: UserId, other: UserId, now_ms: u64) {
        self.push(RecentChange::Blocked(one, other), now_ms);
        let oldest = now_ms.saturating_sub(RECENT_MS);
        while self.blocks.front().is_some_and(|(at, ..)| *at < oldest) {
            self.blocks.pop_front();
        }
        if self.blocks.len() >= RECENT_BLOCKS_MAX
            && let Some((at, ..)) = self.blocks.pop_front()
        {
            self.forgot_blocks_ms = Some(at);
        }
        self.blocks.push_back((now_ms, one, other));
    }

    /// Users whom `user` has blocked since `since_ms`, or who have blocked them; none if this shard had to forget one
    /// of the recent blocks.
    #[must_use]
    pub fn blocked_with(&self, user: UserId, since_ms: u64) -> Option<Vec<UserId>> {
        self.forgot_blocks_ms.is_none_or(|at| at < since_ms).then(|| {
            let recent = self.blocks.iter().rev().take_while(|(at, ..)| *at >= since_ms);
            let with = |(_, one, other): &(u64, UserId, UserId)| match user {
                user if user == *one => Some(*other),
                user if user == *other => Some(*one),
                _ => None,
            };
            recent.filter_map(with).collect()
        })
    }

    fn push(&mut self, change: RecentChange, now_ms: u64) {
        let oldest = now_ms.saturating_sub(RECENT_MS);
        while self.changes.front().is_some_and(|(at, _)| *at < oldest) {
            self.changes.pop_front();
        }
        if self.changes.len() >= RECENT_CHANGES_MAX
            && let Some((at, _)) = self.changes.pop_front()
        {
            self.forgot_ms = Some(at);
        }
        // In order, even if the callers' times differ by a turn: they are searched from the newest on.
        let newest = self.changes.back().map_or(now_ms, |(at, _)| now_ms.max(*at));
        self.changes.push_back((newest, change));
    }

    /// Whether a change since `since_ms` was dropped early. Then only a newer read shows the state.
    #[must_use]
    pub fn forgot_since(&self, since_ms: u64) -> bool {
        self.forgot_ms.is_some_and(|at| at >= since_ms)
    }

    /// Whether this change was received since `since_ms`.
    #[must_use]
    pub fn knows_membership(&self, change: MembershipChange, since_ms: u64) -> bool {
        let mut recent = self.changes.iter().rev().take_while(|(at, _)| *at >= since_ms);
        recent.any(|(_, known)| matches!(known, RecentChange::Membership(known) if *known == change))
    }

    /// The user's recent changes of membership, oldest first.
    pub fn memberships_of(&self, user: UserId) -> impl Iterator<Item = MembershipChange> + '_ {
        self.changes.iter().filter_map(move |(_, change)| match change {
            RecentChange::Membership(change) if change.user == user => Some(*change),
            RecentChange::Membership(_) | RecentChange::Blocked(..) => None,
        })
    }

    /// Whether a change since `since_ms` may end `watcher`'s permission to see one of `watched`.
    #[must_use]
    pub fn may_hide(&self, watcher: UserId, users: &[UserId], since_ms: u64) -> bool {
        let concerns = |one: &UserId, other: &UserId| *one == watcher && users.contains(other);
        self.forgot_since(since_ms)
            || self.changes.iter().rev().take_while(|(at, _)| *at >= since_ms).any(|(_, change)| match change {
                RecentChange::Blocked(one, other) => concerns(one, other) || concerns(other, one),
                RecentChange::Membership(change) => {
                    !change.gained && (change.user == watcher || users.contains(&change.user))
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{ConversationId, Seq};

    fn change(user: i64, gained: bool) -> MembershipChange {
        let conversation = ConversationId::from_number(6).unwrap();
        MembershipChange { user: UserId(user), conversation, seq: Seq(1), gained }
    }

    #[test]
    fn knows_what_may_hide_a_user_since_a_read() {
        let mut recent = RecentChanges::default();
        recent.blocked(UserId(1), UserId(2), 10);
        recent.membership(change(3, true), 11);
        recent.membership(change(4, false), 12);
        let hides = |watcher, watched: i64, since| recent.may_hide(UserId(watcher), &[UserId(watched)], since);
        assert!(hides(1, 2, 10) && hides(2, 1, 10), "a block hides both ways");
        assert!(!hides(1, 2, 11), "the read was made after the block");
        assert!(!hides(1, 3, 10), "a join hides no user");
        assert!(hides(1, 4, 12) && hides(4, 1, 12), "who leaves may not see the others, nor be seen");
        assert!(!hides(1, 5, 0));
    }

    #[test]
    fn knows_a_change_that_it_has_received() {
        let mut recent = RecentChanges::default();
        recent.membership(change(1, true), 10);
        assert!(recent.knows_membership(change(1, true), 10));
        assert!(!recent.knows_membership(change(1, false), 10) && !recent.knows_membership(change(1, true), 11));
    }

    #[test]
    fn knows_whom_a_recent_block_concerns() {
        let mut recent = RecentChanges::default();
        recent.blocked(UserId(1), UserId(2), 10);
        assert_eq!(recent.blocked_with(UserId(1), 10), Some(vec![UserId(2)]));
        assert_eq!(recent.blocked_with(UserId(2), 10), Some(vec![UserId(1)]));
        assert_eq!(recent.blocked_with(UserId(3), 10), Some(vec![]));
        assert_eq!(recent.blocked_with(UserId(1), 11), Some(vec![]), "PostgreSQL was asked after the block");
        for other in 0..RECENT_BLOCKS_MAX as i64 {
            recent.blocked(UserId(4), UserId(10 + other), 20);
        }
        assert_eq!(recent.blocked_with(UserId(3), 10), None, "a forgotten block may concern anybody");
        assert_eq!(recent.blocked_with(UserId(3), 11), Some(vec![]));
    }

    #[test]
    fn reports_changes_that_it_had_to_forget() {
        let mut recent = RecentChanges::default();
        for _ in 0..RECENT_CHANGES_MAX {
            recent.membership(change(1, true), 5);
        }
        assert!(!recent.forgot_since(0));
        recent.membership(change(2, true), 6);
        assert!(recent.forgot_since(5) && !recent.forgot_since(6));
        assert!(recent.may_hide(UserId(8), &[UserId(9)], 5));
        assert_eq!(recent.memberships_of(UserId(2)).count(), 1);
        recent.membership(change(3, true), 6 + RECENT_MS);
        assert_eq!(recent.changes.len(), 2, "old changes are dropped");
    }
}
