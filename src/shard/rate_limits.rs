//! A user's rate limits: one budget for each kind of work that a client can cause. Pure.
//!
//! | budget | charged for |
//! |---|---|
//! | messages | `send_message`, and edits with a new text |
//! | changes | every other change, `set_presence`, `get_presence`, `typing` over HTTP |
//! | reads | pages, look-ups, searches, the heads of `subscribe` and `resume` |
//! | marks | `mark_read` and `mark_thread_read`: an ordinary client sends one for most messages that it shows |
//! | replays | pages of the log that `subscribe` and `resume` request |
//! | signals | `ping`, `unsubscribe`, `typing`, control frames, and refused frames |
//! | excess | frames beyond the budgets above; when it is used up too, the connection is closed with 4005 |
//!
//! A user has a part of each limit, see [`crate::mesh::standing`]. While the server is overloaded, everybody has a
//! smaller part of what waits, see [`crate::mesh::overload`]. An overload of the store does not shrink signals, which
//! do not reach it.
//!
//! A frame that is refused, or that costs signals or a read, costs at least one for each KiB of it (`charges`);
//! as excess, one of more than 4 KiB costs three.
//!
//! Invariant: every frame of a client is charged to one of them. Otherwise its sender could keep a shard busy for free.

use crate::error::Refusal;
use crate::limits::{
    BUDGETS, CHANGES_PER_MESSAGE, EXCESS_PER_SIGNAL, Limits, MARKS_BURST_PART, MARKS_PER_MESSAGE, MARKS_PER_MINUTE_MIN,
    READS_BURST_PART, READS_PER_MESSAGE, READS_PER_MINUTE_MIN, REPLAYS_BURST_PART, REPLAYS_PER_MESSAGE,
    REPLAYS_PER_MINUTE_MIN, SIGNALS_BURST_PART, SIGNALS_PER_MESSAGE, SIGNALS_PER_MINUTE_MIN,
};
use crate::mesh::overload::Overload;
use crate::mesh::standing::{Share, UserBudgets};
use crate::mesh::user_limit::{ExplainedLimit, UserLimit};

/// A budget of a user; its index among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Budget {
    Messages = 0,
    Changes = 1,
    Reads = 2,
    Marks = 3,
    Replays = 4,
    Signals = 5,
    Excess = 6,
}

const _: () = assert!(Budget::Excess as usize + 1 == BUDGETS);

impl Budget {
    /// Every budget, in index order.
    const ALL: [Self; BUDGETS] =
        [Self::Messages, Self::Changes, Self::Reads, Self::Marks, Self::Replays, Self::Signals, Self::Excess];

    /// The part of this budget, percent, that the server can serve now.
    fn served(self, overload: &Overload) -> u32 {
        match self {
            Self::Messages | Self::Changes | Self::Marks => overload.commits(),
            Self::Reads => overload.pages(),
            Self::Replays => overload.catch_up(),
            Self::Signals | Self::Excess => 100,
        }
    }
}

/// The limits of all budgets.
pub(super) struct RateLimits {
    limits: [UserLimit; BUDGETS],
    /// Those of bots that sign in.
    of_bots: [UserLimit; BUDGETS],
    adaptive: bool,
}

impl RateLimits {
    pub(super) fn new(settings: &Limits) -> Self {
        let of = Self::of_messages;
        let (people, bots) = (settings.max_messages_per_minute, settings.bot_messages_per_minute);
        Self { limits: of(people), of_bots: of(bots), adaptive: settings.adaptive }
    }

    /// The limits of users who may send so many messages a minute.
    fn of_messages(messages: u32) -> [UserLimit; BUDGETS] {
        let per_message = |times: u32, min: u32| messages.saturating_mul(times).max(min);
        let reads = per_message(READS_PER_MESSAGE, READS_PER_MINUTE_MIN);
        let marks = per_message(MARKS_PER_MESSAGE, MARKS_PER_MINUTE_MIN);
        let replays = per_message(REPLAYS_PER_MESSAGE, REPLAYS_PER_MINUTE_MIN);
        let signals = per_message(SIGNALS_PER_MESSAGE, SIGNALS_PER_MINUTE_MIN);
        let excess = signals.saturating_mul(EXCESS_PER_SIGNAL);
        [
            UserLimit::new("messages", "messages", messages, 1),
            UserLimit::new("changes", "changes other than messages", per_message(CHANGES_PER_MESSAGE, 1), 1),
            UserLimit::new("reads", "reads (a search counts as ten)", reads, READS_BURST_PART),
            UserLimit::new("marks", "read markers", marks, MARKS_BURST_PART),
            UserLimit::new("replays", "pages of missed events", replays, REPLAYS_BURST_PART),
            UserLimit::new("signals", "pings, signals and refused commands", signals, SIGNALS_BURST_PART),
            UserLimit::new("excess", "refused frames", excess, SIGNALS_BURST_PART),
        ]
    }

    fn limit(&self, user: &UserBudgets, which: Budget) -> &UserLimit {
        let limits = if user.is_bot() { &self.of_bots } else { &self.limits };
        &limits[which as usize]
    }

    fn share(&self, user: &UserBudgets, which: Budget, overload: &Overload, now_ns: u64) -> Share {
        if !self.adaptive {
            return user.fixed_share();
        }
        user.share(now_ns).under(which.served(overload))
    }

    /// Spends `cost` of a budget of `user`.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn spend(
        &self,
        user: &UserBudgets,
        which: Budget,
        overload: &Overload,
        (now_ns, cost): (u64, u32),
    ) -> Result<(), Refusal> {
        let share = self.share(user, which, overload, now_ns);
        let spent = self.limit(user, which).spend(user.tat(which as usize), share, (now_ns, cost));
        spent.inspect_err(|_| user.note_refusal(now_ns, 1))
    }

    /// Spends what a user has spent on another node.
    pub(super) fn charge(&self, user: &UserBudgets, spent: &[u32; BUDGETS], overload: &Overload, now_ns: u64) {
        for (which, count) in Budget::ALL.into_iter().zip(spent).filter(|(_, count)| **count > 0) {
            let share = self.share(user, which, overload, now_ns);
            self.limit(user, which).charge(user.tat(which as usize), share, (now_ns, *count));
        }
    }

    /// All limits of a user.
    pub(super) fn explain(&self, user: &UserBudgets, overload: &Overload, now_ns: u64) -> Vec<ExplainedLimit> {
        let explained = |which: Budget| {
            let share = self.share(user, which, overload, now_ns);
            self.limit(user, which).explain(user.tat(which as usize), share, now_ns)
        };
        Budget::ALL.into_iter().map(explained).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::CommitQueue;
    use crate::mesh::overload::Work;
    use crate::mesh::standing::{LimitReason, Reasons};
    use serde_json::json;

    #[test]
    fn names_limiter_scope_limit_and_window_in_every_refusal() {
        let limits = RateLimits::new(&Limits::default());
        for (budget, burst, per_minute) in [
            (Budget::Messages, 60, 60),
            (Budget::Changes, 300, 300),
            (Budget::Reads, 300, 1_200),
            (Budget::Marks, 60, 300),
            (Budget::Replays, 1_500, 6_000),
            (Budget::Signals, 400, 6_000),
            (Budget::Excess, 1_200, 18_000),
        ] {
            let (user, overload) = (UserBudgets::default(), Overload::default());
            let spend = || limits.spend(&user, budget, &overload, (1, 1));
            let passed = (0..2_000).take_while(|_| spend().is_ok()).count();
            assert_eq!(passed, burst, "{budget:?}");
            let refusal = spend().unwrap_err();
            assert!(refusal.retry_after_ms.is_some_and(|ms| ms > 0), "{refusal:?}");
            let details = *refusal.details.unwrap();
            assert_eq!(details["limiter"], format!("{budget:?}").to_lowercase());
            assert_eq!(
                (&details["scope"], &details["limit"], &details["window_ms"]),
                (&json!("user"), &json!(per_minute), &json!(60_000))
            );
        }
    }

    #[test]
    fn bots_have_limits_of_their_own() {
        let limits = RateLimits::new(&Limits::default());
        let (bot, overload) = (UserBudgets::default(), Overload::default());
        bot.set_is_bot(true);
        let spend = || limits.spend(&bot, Budget::Messages, &overload, (1, 1));
        assert_eq!((0..1_000).take_while(|_| spend().is_ok()).count(), 300);
        assert_eq!(spend().unwrap_err().details.unwrap()["limit"], 300);
    }

    #[test]
    fn says_why_somebody_has_less_and_when_to_come_back() {
        let limits = RateLimits::new(&Limits::default());
        let (user, overload) = (UserBudgets::default(), Overload::default());
        user.set_account(Reasons::default().with(LimitReason::Slowed));
        let spend = |now_ns| limits.spend(&user, Budget::Messages, &overload, (now_ns, 1));
        let now_ns = 1_000_000_000_000;
        assert_eq!((0..100).take_while(|_| spend(now_ns).is_ok()).count(), 15);
        let refusal = spend(now_ns).unwrap_err();
        assert!(refusal.message.contains("15 messages a minute") && refusal.message.contains("slowed down"));
        let details = refusal.details.as_deref().unwrap();
        assert_eq!((&details["limit"], &details["percent"]), (&json!(15), &json!(25)));
        assert_eq!(details["reasons"], json!(["slowed"]));
        assert_eq!(spend(now_ns + refusal.retry_after_ms.unwrap() * 1_000_000), Ok(()));
    }

    #[test]
    fn an_overload_shrinks_the_budgets_of_what_waits_and_no_other() {
        let limits = RateLimits::new(&Limits::default());
        let (user, overload) = (UserBudgets::default(), Overload::default());
        user.set_account(Reasons::default().with(LimitReason::Trusted));
        overload.set(Work::Commits(CommitQueue::Others), 50);
        overload.set(Work::Pages, 20);
        let explained = limits.explain(&user, &overload, 5);
        let shown: Vec<_> = explained.iter().map(|limit| (limit.limiter, limit.limit, limit.remaining)).collect();
        let expected = [
            ("messages", 30, 30),
            ("changes", 150, 150),
            ("reads", 240, 60),
            ("marks", 150, 30),
            ("replays", 12_000, 3_000),
            ("signals", 12_000, 800),
            ("excess", 36_000, 2_400),
        ];
        assert_eq!(shown, expected);
        assert_eq!(explained[2].reasons, ["trusted", "overload"]);
        let off = RateLimits::new(&Limits { adaptive: false, ..Limits::default() });
        let percents =
            |user| -> Vec<u32> { off.explain(user, &overload, 5).iter().map(|limit| limit.percent).collect() };
        assert_eq!(percents(&user), [100; BUDGETS]);
        user.add(LimitReason::Slowed);
        assert_eq!(percents(&user), [25; BUDGETS], "a response to a security event acts anyway");
    }
}
