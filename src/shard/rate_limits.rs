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
//! Invariant: every frame of a client is charged to one of them. Otherwise its sender could keep a shard busy for free.

use crate::budget::Rate;
use crate::error::Refusal;
use crate::limits::{
    BUDGETS, CHANGES_PER_MESSAGE, EXCESS_PER_SIGNAL, Limits, MARKS_BURST_PART, MARKS_PER_MESSAGE, MARKS_PER_MINUTE_MIN,
    READS_BURST_PART, READS_PER_MESSAGE, READS_PER_MINUTE_MIN, REPLAYS_BURST_PART, REPLAYS_PER_MESSAGE,
    REPLAYS_PER_MINUTE_MIN, SIGNALS_BURST_PART, SIGNALS_PER_MESSAGE, SIGNALS_PER_MINUTE_MIN,
};
use std::sync::atomic::AtomicU64;

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

/// The limit of one budget.
pub(super) struct RateLimit {
    rate: Rate,
    per_minute: u32,
    /// The name of the budget in `details.limiter`.
    limiter: &'static str,
    /// What it counts, in the text of a refusal.
    counted: &'static str,
}

/// The limits of all budgets.
pub(super) struct RateLimits([RateLimit; BUDGETS]);

impl RateLimit {
    fn new(limiter: &'static str, counted: &'static str, per_minute: u32, burst_part: u32) -> Self {
        Self { rate: Rate::per_minute(per_minute).with_burst_part(burst_part), per_minute, limiter, counted }
    }

    /// Spends `cost` of the budget `tat`.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn spend(&self, tat: &AtomicU64, now_ns: u64, cost: u32) -> Result<(), Refusal> {
        self.rate.take_many(tat, now_ns, cost).map_err(|wait_ms| {
            let Self { per_minute, limiter, counted, .. } = self;
            let message = format!("At most {per_minute} {counted} a minute are allowed. Wait and send it again.");
            Refusal::rate_limited(message, limiter, "user", u64::from(*per_minute), 60_000).retry_after(wait_ms)
        })
    }
}

impl RateLimits {
    pub(super) fn new(limits: &Limits) -> Self {
        let messages = limits.max_messages_per_minute;
        let per_message = |times: u32, min: u32| messages.saturating_mul(times).max(min);
        let reads = per_message(READS_PER_MESSAGE, READS_PER_MINUTE_MIN);
        let marks = per_message(MARKS_PER_MESSAGE, MARKS_PER_MINUTE_MIN);
        let replays = per_message(REPLAYS_PER_MESSAGE, REPLAYS_PER_MINUTE_MIN);
        let signals = per_message(SIGNALS_PER_MESSAGE, SIGNALS_PER_MINUTE_MIN);
        let excess = signals.saturating_mul(EXCESS_PER_SIGNAL);
        Self([
            RateLimit::new("messages", "messages", messages, 1),
            RateLimit::new("changes", "changes other than messages", per_message(CHANGES_PER_MESSAGE, 1), 1),
            RateLimit::new("reads", "reads (a search counts as ten)", reads, READS_BURST_PART),
            RateLimit::new("marks", "read markers", marks, MARKS_BURST_PART),
            RateLimit::new("replays", "pages of missed events", replays, REPLAYS_BURST_PART),
            RateLimit::new("signals", "pings, signals and refused commands", signals, SIGNALS_BURST_PART),
            RateLimit::new("excess", "refused frames", excess, SIGNALS_BURST_PART),
        ])
    }

    pub(super) fn of(&self, budget: Budget) -> &RateLimit {
        &self.0[budget as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            let (limit, tat) = (limits.of(budget), AtomicU64::new(0));
            let passed = (0..2_000).take_while(|_| limit.spend(&tat, 1, 1).is_ok()).count();
            assert_eq!((passed, limit.per_minute), (burst, per_minute), "{budget:?}");
            let refusal = limit.spend(&tat, 1, 1).unwrap_err();
            assert!(refusal.retry_after_ms.is_some_and(|ms| ms > 0), "{refusal:?}");
            let details = *refusal.details.unwrap();
            assert_eq!(details["limiter"], format!("{budget:?}").to_lowercase());
            assert_eq!(
                (&details["scope"], &details["limit"], &details["window_ms"]),
                (&json!("user"), &json!(per_minute), &json!(60_000))
            );
        }
    }
}
