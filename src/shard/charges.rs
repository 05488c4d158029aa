//! Charges commands and frames to the budgets of their user. The budgets belong to the user, so another connection does
//! not refill them. What frames cost that no other budget pays for:
//!
//! ```text
//!   signals left ──► served        none left ──► refused with rate_limited        excess used up too ──► closed (4005)
//! ```
//!
//! A frame costs as much as reading it does: one for each KiB, and three as excess if it is longer than 4 KiB.
//! Otherwise a client could keep a shard busy with a few hundred long frames that are refused, or that cost next to
//! nothing.

use super::Shard;
use super::rate_limits::Budget;
use super::requests::{Origin, PendingCommand};
use super::world::{Clock as _, World};
use crate::error::Refusal;
use crate::ids::{ConnId, UserId};
use crate::mesh::asked::LimitsQuestion;
use crate::mesh::nodes::SpentBudgets;
use crate::mesh::port::Lanes as _;
use crate::mesh::standing::{FILTERED_WEIGHT, LimitReason, MarkedUsers, UserBudgets};
use std::sync::Arc;

impl<W: World> Shard<W> {
    /// Charges a command that costs no change and no read.
    pub(super) fn may_signal(&mut self, asked: &PendingCommand, user: UserId) -> Result<(), Refusal> {
        self.spend(asked, user, Budget::Signals, asked.kib)
    }

    /// Charges a command to a budget of its user.
    pub(super) fn spend(
        &mut self,
        asked: &PendingCommand,
        user: UserId,
        which: Budget,
        cost: u32,
    ) -> Result<(), Refusal> {
        let Some(budgets) = self.budgets_behind(asked, user) else { return Ok(()) };
        self.spend_of(user, &budgets, which, cost)
    }

    /// Spends, and sees to it that other nodes learn of it.
    fn spend_of(&mut self, user: UserId, budgets: &Arc<UserBudgets>, which: Budget, cost: u32) -> Result<(), Refusal> {
        self.rate_limits.spend(budgets, which, &self.settings.overload, (self.now_ns(), cost))?;
        if self.lanes.has_nodes() && budgets.note_spent(which as usize, cost) {
            self.spenders.push((user, Arc::clone(budgets)));
        }
        Ok(())
    }

    /// What users of this shard have spent on another node.
    pub(super) fn spent_elsewhere(&mut self, spent: Vec<SpentBudgets>) {
        for SpentBudgets { user, spent, is_bot } in spent {
            let budgets = self.budgets_of(user);
            if is_bot {
                budgets.set_is_bot(true);
            }
            self.rate_limits.charge(&budgets, &spent, &self.settings.overload, self.now_ns());
        }
    }

    /// The content filter refused a text of a user.
    pub(super) fn note_filtered(&mut self, asked: &PendingCommand, user: UserId) {
        if let Some(budgets) = self.budgets_behind(asked, user) {
            budgets.note_refusal(self.now_ns(), FILTERED_WEIGHT);
        }
    }

    /// The budgets that a command is charged to; none once its connection has ended.
    fn budgets_behind(&mut self, asked: &PendingCommand, user: UserId) -> Option<Arc<UserBudgets>> {
        match &asked.origin {
            Origin::Connection(conn) => self.connections.session(*conn).map(|session| Arc::clone(&session.budgets)),
            // HTTP commands come to the user's shard, which keeps the budgets.
            Origin::Http(_) | Origin::Invocation(..) => Some(self.budgets_of(user)),
        }
    }

    /// The budgets of a user of this shard, with what is known of the account now.
    pub(super) fn budgets_of(&mut self, user: UserId) -> Arc<UserBudgets> {
        let budgets = self.directory.users.budgets(user);
        budgets.set_marks(self.marked_users.of(user));
        if self.live.factor_policy.admins.contains(&user) {
            budgets.add(LimitReason::Administrator);
        }
        budgets
    }

    /// An account that is old enough is trusted.
    pub(super) fn trust_if_old(&mut self, budgets: &UserBudgets, created_at: i64) {
        if created_at + self.live.limits.trusted_after_s <= self.clock.utc().unix_timestamp() {
            budgets.add(LimitReason::Trusted);
        }
    }

    /// The marks of all users were read again.
    pub(super) fn mark_users(&mut self, marked: Arc<MarkedUsers>) {
        self.marked_users = marked;
        let marked = &self.marked_users;
        self.directory.users.mark(|user| marked.of(user));
    }

    /// Answers an administrator with the budgets of a user.
    pub(super) fn explain_limits(&mut self, question: LimitsQuestion) {
        let LimitsQuestion { user, created_at, reply } = question;
        let budgets = self.budgets_of(user);
        self.trust_if_old(&budgets, created_at);
        let overload = &self.settings.overload;
        let share = budgets.share(self.now_ns());
        let explained = serde_json::json!({
            "standing": { "percent": share.percent, "reasons": share.reasons.names() },
            "overload": { "commits": overload.commits(), "pages": overload.pages(), "catch_up": overload.catch_up() },
            "limits": self.rate_limits.explain(&budgets, overload, self.now_ns()),
        });
        reply(Ok(explained.to_string().into_bytes()));
    }

    /// Charges a frame of a connection that is this large.
    pub(super) fn charge(&mut self, conn: ConnId, which: Budget, kib: u32) -> Result<(), Refusal> {
        let Some(session) = self.connections.session(conn) else { return Ok(()) };
        let (user, budgets) = (session.user, Arc::clone(&session.budgets));
        self.spend_of(user, &budgets, which, kib)
    }
}

/// The size of a frame in KiB, rounded up, as the budgets count it.
pub(super) fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX).max(1)
}
