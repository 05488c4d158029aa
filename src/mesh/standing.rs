//! A user's budgets and standing: what part of the configured limits the user has now, and why. Pure.
//!
//! | standing | part of the limits |
//! |---|---|
//! | an account from its first day on | 100 % |
//! | older than `limits.trusted_after`, and administrators of the server | 200 % |
//! | administrators rejected several of its texts lately | 50 % |
//! | slowed down after a security event | 25 % |
//! | it goes on after many refusals | 50 %, then 25 %, for minutes |
//!
//! The smallest of them counts. Invariants:
//! - a client that waits as `retry_after_ms` says keeps its limits: a refusal weighs little, and only more than a
//!   thousand in a row shrink a budget;
//! - reconnecting changes nothing: the user's shard keeps this, and all connections of the user share it.

use crate::budget;
use crate::ids::UserId;
use crate::limits::BUDGETS;
use std::collections::HashMap;
use std::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};

/// What one refusal adds to the time that a user's refusals take to be forgotten.
const REFUSAL_NS: u64 = 100_000_000;
/// What a text that the content filter refuses adds.
pub const FILTERED_WEIGHT: u64 = 10;
/// From this much on, budgets are halved: 1,500 refusals.
const MANY_REFUSALS_NS: u64 = 1_500 * REFUSAL_NS;
/// From this much on, a quarter is left.
const FLOOD_REFUSALS_NS: u64 = 3_000 * REFUSAL_NS;
/// More is not remembered: ten minutes.
const REFUSALS_NS_MAX: u64 = 6_000 * REFUSAL_NS;

/// What a response to a security event leaves.
const SLOWED_PERCENT: u32 = 25;

/// Users with marks that the server remembers at once. More are in the table only.
pub const MARKED_MAX: usize = 10_000;

/// Why a user's part is not 100 %.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LimitReason {
    /// The account is old enough.
    Trusted = 1,
    /// It administers the server.
    Administrator = 2,
    /// Administrators rejected texts of it.
    Reported = 4,
    /// An automatic response to a security event.
    Slowed = 8,
    /// It goes on after refusals.
    Refusals = 16,
    /// The server has more to do than it can.
    Overload = 32,
}

impl LimitReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::Trusted, Self::Administrator, Self::Reported, Self::Slowed, Self::Refusals, Self::Overload];

    /// As answers name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trusted => "trusted",
            Self::Administrator => "administrator",
            Self::Reported => "reported",
            Self::Slowed => "slowed",
            Self::Refusals => "refusals",
            Self::Overload => "overload",
        }
    }
}

/// A set of reasons.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reasons(u8);

impl Reasons {
    /// The same set with one more.
    #[must_use]
    pub const fn with(self, reason: LimitReason) -> Self {
        Self(self.0 | reason as u8)
    }

    /// The same set with one more, if the condition holds.
    #[must_use]
    pub const fn with_if(self, reason: LimitReason, holds: bool) -> Self {
        if holds { self.with(reason) } else { self }
    }

    /// The same set without what [`MarkedUsers`] has.
    #[must_use]
    pub const fn without_marks(self) -> Self {
        Self(self.0 & !(LimitReason::Reported as u8 | LimitReason::Slowed as u8))
    }

    /// The same set without one.
    #[must_use]
    pub const fn without(self, reason: LimitReason) -> Self {
        Self(self.0 & !(reason as u8))
    }

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether it is one of them.
    #[must_use]
    pub const fn has(self, reason: LimitReason) -> bool {
        self.0 & reason as u8 != 0
    }

    /// Their names.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        LimitReason::ALL.into_iter().filter(|reason| self.has(*reason)).map(LimitReason::as_str).collect()
    }
}

/// What part of the limits a user has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    /// Percent.
    pub percent: u32,
    /// Why.
    pub reasons: Reasons,
}

impl Share {
    /// The configured limits.
    pub const FULL: Self = Self { percent: 100, reasons: Reasons(0) };

    /// The same under an overload that leaves so many percent. Nobody has more than the configured limits then.
    #[must_use]
    pub fn under(self, overload_percent: u32) -> Self {
        if overload_percent >= 100 {
            return self;
        }
        let percent = (self.percent.min(100) * overload_percent / 100).max(1);
        Self { percent, reasons: self.reasons.with(LimitReason::Overload) }
    }
}

/// The users whose budgets are shrunk by what PostgreSQL knows of them, as it was last read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MarkedUsers {
    /// A newer reading has a higher number.
    pub version: u64,
    /// [`LimitReason::Reported`] and [`LimitReason::Slowed`], by user.
    pub marks: HashMap<UserId, Reasons>,
}

impl MarkedUsers {
    /// The marks of a user.
    #[must_use]
    pub fn of(&self, user: UserId) -> Reasons {
        self.marks.get(&user).copied().unwrap_or_default()
    }
}

/// A user's budgets, which the user's connections on all shards share.
#[derive(Debug, Default)]
pub struct UserBudgets {
    /// Theoretical arrival times, see [`budget`].
    tats: [AtomicU64; BUDGETS],
    /// What was spent on this node since it was last published to other nodes.
    unpublished: [AtomicU32; BUDGETS],
    /// Whether a shard has listed this user to publish it.
    is_listed: AtomicBool,
    /// When the user's refusals are forgotten, in nanoseconds of the process's clock.
    refusals: AtomicU64,
    /// Until when the user may open no connection, on the same clock.
    kept_out: AtomicU64,
    /// [`Reasons`] of the account.
    account: AtomicU8,
    /// Whether the user is a bot that signs in, which has limits of its own.
    is_bot: AtomicBool,
}

impl UserBudgets {
    /// One of the budgets.
    #[must_use]
    pub fn tat(&self, which: usize) -> &AtomicU64 {
        &self.tats[which]
    }

    /// Counts what was spent, to be published to other nodes. Returns true if no shard has listed the user for that:
    /// the caller must do so.
    #[must_use]
    pub fn note_spent(&self, which: usize, count: u32) -> bool {
        self.unpublished[which].fetch_add(count, Relaxed);
        !self.is_listed.swap(true, AcqRel)
    }

    /// What was spent since the last call.
    pub fn take_unpublished(&self) -> [u32; BUDGETS] {
        // In this order: what is spent from here on lists the user again, even if it is taken below.
        self.is_listed.store(false, Release);
        self.unpublished.each_ref().map(|spent| spent.swap(0, AcqRel))
    }

    /// A command of the user was refused.
    pub fn note_refusal(&self, now_ns: u64, weight: u64) {
        // Two shards may do so at once, and one of the two may be lost: it weighs a thousandth of what has an effect.
        let end = self.refusals.load(Relaxed).max(now_ns) + weight * REFUSAL_NS;
        self.refusals.store(end.min(now_ns + REFUSALS_NS_MAX), Relaxed);
    }

    /// A connection of the user was closed for flooding: no other may be opened before this time.
    pub fn keep_out_until(&self, until_ns: u64) {
        self.kept_out.fetch_max(until_ns, Relaxed);
    }

    /// Whether the user may open no connection now.
    #[must_use]
    pub fn is_kept_out(&self, now_ns: u64) -> bool {
        !budget::is_replenished(&self.kept_out, now_ns)
    }

    /// What is known of the account.
    pub fn set_account(&self, reasons: Reasons) {
        self.account.store(reasons.0, Relaxed);
    }

    /// What [`MarkedUsers`] has of the account; what else is known of it stays.
    pub fn set_marks(&self, marks: Reasons) {
        self.set_account(self.account().without_marks().and(marks));
    }

    /// Whether the account administers the server; what else is known of it stays.
    pub fn set_administers(&self, administers: bool) {
        let others = self.account().without(LimitReason::Administrator);
        self.set_account(others.with_if(LimitReason::Administrator, administers));
    }

    /// Whether the user is a bot that signs in.
    pub fn set_is_bot(&self, is_bot: bool) {
        self.is_bot.store(is_bot, Relaxed);
    }

    /// Whether the user is a bot that signs in.
    #[must_use]
    pub fn is_bot(&self) -> bool {
        self.is_bot.load(Relaxed)
    }

    /// One more thing is known of the account.
    pub fn add(&self, reason: LimitReason) {
        self.set_account(self.account().with(reason));
    }

    /// What is known of the account.
    #[must_use]
    pub fn account(&self) -> Reasons {
        Reasons(self.account.load(Relaxed))
    }

    /// The user's part of the limits, without that of an overload.
    #[must_use]
    pub fn share(&self, now_ns: u64) -> Share {
        let refusals_ns = self.refusals.load(Relaxed).saturating_sub(now_ns);
        let reasons = self.account().with_if(LimitReason::Refusals, refusals_ns >= MANY_REFUSALS_NS);
        let percent = match () {
            () if reasons.has(LimitReason::Slowed) || refusals_ns >= FLOOD_REFUSALS_NS => SLOWED_PERCENT,
            () if reasons.has(LimitReason::Reported) || reasons.has(LimitReason::Refusals) => 50,
            () if reasons.has(LimitReason::Trusted) || reasons.has(LimitReason::Administrator) => 200,
            () => 100,
        };
        Share { percent, reasons }
    }

    /// The user's part where limits do not adapt: only a response to a security event shrinks them. Without it, such a
    /// response would have no effect.
    #[must_use]
    pub fn fixed_share(&self) -> Share {
        let slowed = Reasons::default().with(LimitReason::Slowed);
        if self.account().has(LimitReason::Slowed) {
            Share { percent: SLOWED_PERCENT, reasons: slowed }
        } else {
            Share::FULL
        }
    }

    /// Whether nothing would change if it was forgotten.
    #[must_use]
    pub fn is_replenished(&self, now_ns: u64) -> bool {
        self.tats.iter().chain([&self.refusals, &self.kept_out]).all(|tat| budget::is_replenished(tat, now_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_standing_has_its_part() {
        let none = Reasons::default();
        for (reasons, percent) in [
            (none, 100),
            (none.with(LimitReason::Trusted), 200),
            (none.with(LimitReason::Administrator), 200),
            (none.with(LimitReason::Trusted).with(LimitReason::Reported), 50),
            (none.with(LimitReason::Slowed), 25),
            (none.with(LimitReason::Slowed).with(LimitReason::Reported).with(LimitReason::Trusted), 25),
        ] {
            let budgets = UserBudgets::default();
            budgets.set_account(reasons);
            assert_eq!(budgets.share(5), Share { percent, reasons });
        }
    }

    #[test]
    fn what_is_spent_is_published_once_by_one_shard() {
        let budgets = UserBudgets::default();
        assert!(budgets.note_spent(0, 2), "the first shard lists the user");
        assert!(!budgets.note_spent(1, 3) && !budgets.note_spent(0, 1));
        let spent = budgets.take_unpublished();
        assert_eq!((spent[0], spent[1], spent[2]), (3, 3, 0));
        assert_eq!(budgets.take_unpublished(), [0; BUDGETS]);
        assert!(budgets.note_spent(6, 1));
    }

    #[test]
    fn a_thousand_refusals_shrink_the_budgets_for_minutes() {
        let second = 1_000_000_000;
        let (budgets, start) = (UserBudgets::default(), 7 * second);
        for _ in 0..1_499 {
            budgets.note_refusal(start, 1);
        }
        assert_eq!(budgets.share(start).percent, 100);
        budgets.note_refusal(start, 1);
        assert_eq!((budgets.share(start).percent, budgets.share(start).reasons.names()), (50, vec!["refusals"]));
        assert_eq!(budgets.share(start + second).percent, 100, "and are forgotten by ten a second");
        budgets.note_refusal(start, 2_000);
        assert_eq!(budgets.share(start).percent, 25);
        budgets.note_refusal(start, u64::MAX / REFUSAL_NS / 2);
        assert_eq!(budgets.share(start + 299 * second).percent, 25, "five minutes");
        assert_eq!(budgets.share(start + 301 * second).percent, 50);
        assert_eq!(budgets.share(start + 451 * second).percent, 100);
        assert!(!budgets.is_replenished(start + 599 * second) && budgets.is_replenished(start + 601 * second));
    }

    #[test]
    fn a_client_that_waits_between_refusals_keeps_its_limits() {
        let (budgets, second) = (UserBudgets::default(), 1_000_000_000);
        for n in 0..10_000 {
            budgets.note_refusal(n * second, 1);
            assert_eq!(budgets.share(n * second).percent, 100);
        }
    }

    #[test]
    fn an_overload_leaves_everybody_a_part_and_nobody_more() {
        let trusted = Share { percent: 200, reasons: Reasons::default().with(LimitReason::Trusted) };
        assert_eq!(trusted.under(100), trusted);
        assert_eq!((trusted.under(80).percent, trusted.under(80).reasons.names()), (80, vec!["trusted", "overload"]));
        assert_eq!(Share { percent: 25, ..Share::FULL }.under(20).percent, 5);
        assert_eq!(Share { percent: 1, ..Share::FULL }.under(20).percent, 1);
    }
}
