//! Who may type where: the owner shard's record of recent restrictions.
//!
//! 1. A connection's home shard asks PostgreSQL whether the user may be seen typing, and from whom a block hides it.
//!    It keeps the answer for [`TYPING_PERMISSION_MS`].
//! 2. The owner shard of the conversation publishes the signal, unless a mute, a role or a departure that was committed
//!    after the question may forbid it.
//!
//! Invariant: the owner remembers a restriction for longer than an answer is kept. Otherwise a muted member is still
//! seen typing.

use crate::ids::{ConversationId, UserId};
use crate::limits::TYPING_PERMISSION_MS;
use std::collections::HashMap;

/// Restrictions that an owner shard remembers, 32 bytes each.
const RESTRICTIONS_MAX: usize = 16_384;

/// Mutes, changed roles, departures and archived conversations of the last seconds.
#[derive(Debug, Default)]
pub struct RecentRestrictions {
    /// When the last one was committed: of one member, or with no user of everybody.
    changed_ms: HashMap<(ConversationId, Option<UserId>), u64>,
    /// The time of the newest restriction that was dropped early, if any.
    forgot_ms: Option<u64>,
}

impl RecentRestrictions {
    /// Records that a member, or with no user every member, may have lost the right to send.
    pub fn restrict(&mut self, conversation: ConversationId, user: Option<UserId>, now_ms: u64) {
        if self.changed_ms.len() >= RESTRICTIONS_MAX {
            self.changed_ms.retain(|_, changed| *changed + 2 * TYPING_PERMISSION_MS > now_ms);
            if self.changed_ms.len() >= RESTRICTIONS_MAX {
                self.changed_ms.clear();
                self.forgot_ms = Some(now_ms);
            }
        }
        self.changed_ms.insert((conversation, user), now_ms);
    }

    /// Whether an answer of PostgreSQL to a question at `asked_ms` still holds.
    #[must_use]
    pub fn may_type(&self, conversation: ConversationId, user: UserId, asked_ms: u64) -> bool {
        let is_older = |changed: Option<&u64>| changed.is_none_or(|changed| *changed < asked_ms);
        is_older(self.changed_ms.get(&(conversation, Some(user))))
            && is_older(self.changed_ms.get(&(conversation, None)))
            && is_older(self.forgot_ms.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn voids_the_answers_from_before_a_restriction() {
        let mut recent = RecentRestrictions::default();
        let [room, other] = [6, 10].map(|number| ConversationId::from_number(number).unwrap());
        let (ann, bob) = (UserId(1), UserId(2));
        recent.restrict(room, Some(ann), 100);
        assert!(!recent.may_type(room, ann, 99) && !recent.may_type(room, ann, 100));
        assert!(recent.may_type(room, ann, 101) && recent.may_type(room, bob, 99) && recent.may_type(other, ann, 99));
        recent.restrict(room, None, 200);
        assert!(!recent.may_type(room, bob, 200) && recent.may_type(other, bob, 200));
    }

    #[test]
    fn permits_nothing_that_it_had_to_forget() {
        let mut recent = RecentRestrictions::default();
        let room = ConversationId::from_number(6).unwrap();
        for user in 0..=RESTRICTIONS_MAX as i64 {
            recent.restrict(room, Some(UserId(user)), 100);
        }
        assert_eq!(recent.changed_ms.len(), 1);
        assert!(!recent.may_type(room, UserId(1), 100) && recent.may_type(room, UserId(1), 101));
    }
}
