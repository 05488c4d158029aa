//! One rate limit of a user, scaled by the user's share: how it is spent, refused and explained. Pure.

use super::standing::{LimitReason, Share};
use crate::budget::Rate;
use crate::error::Refusal;
use serde::Serialize;
use std::sync::atomic::AtomicU64;

/// What a user may do per minute.
#[derive(Clone, Copy, Debug)]
pub struct UserLimit {
    rate: Rate,
    per_minute: u32,
    /// The name of the budget in `details.limiter`.
    limiter: &'static str,
    /// What it counts, in the text of a refusal.
    counted: &'static str,
}

/// One of a user's limits, as an administrator sees it.
#[derive(Serialize)]
pub struct ExplainedLimit {
    /// The name of the budget.
    pub limiter: &'static str,
    scope: &'static str,
    /// What it counts.
    counts: &'static str,
    /// The configured limit per minute.
    configured: u32,
    /// What the user has of it now, percent, and why.
    pub percent: u32,
    /// Why the user does not have 100 percent.
    pub reasons: Vec<&'static str>,
    /// The user's limit per minute now.
    pub limit: u32,
    window_ms: u64,
    /// What the user could send at once now.
    pub remaining: u64,
}

impl UserLimit {
    /// A limit that allows one part in `burst_part` of a minute at once.
    #[must_use]
    pub fn new(limiter: &'static str, counted: &'static str, per_minute: u32, burst_part: u32) -> Self {
        Self { rate: Rate::per_minute(per_minute).with_burst_part(burst_part), per_minute, limiter, counted }
    }

    /// Spends `cost` of the budget `tat`.
    ///
    /// # Errors
    /// The budget is used up.
    pub fn spend(&self, tat: &AtomicU64, share: Share, (now_ns, cost): (u64, u32)) -> Result<(), Refusal> {
        let taken = self.rate.scaled(share.percent).take_many(tat, now_ns, cost);
        taken.map_err(|wait_ms| self.refusal(share, wait_ms))
    }

    /// Spends what the user has spent elsewhere, whether it is there or not.
    pub fn charge(&self, tat: &AtomicU64, share: Share, (now_ns, count): (u64, u32)) {
        self.rate.scaled(share.percent).charge(tat, now_ns, count);
    }

    /// What administrators see of the budget `tat`.
    #[must_use]
    pub fn explain(&self, tat: &AtomicU64, share: Share, now_ns: u64) -> ExplainedLimit {
        ExplainedLimit {
            limiter: self.limiter,
            scope: "user",
            counts: self.counted,
            configured: self.per_minute,
            percent: share.percent,
            reasons: share.reasons.names(),
            limit: self.per_minute(share),
            window_ms: 60_000,
            remaining: self.rate.scaled(share.percent).remaining(tat, now_ns),
        }
    }

    fn per_minute(&self, share: Share) -> u32 {
        (u64::from(self.per_minute) * u64::from(share.percent) / 100).clamp(1, u64::from(u32::MAX)) as u32
    }

    fn refusal(&self, share: Share, wait_ms: u64) -> Refusal {
        let (allowed, counted) = (self.per_minute(share), self.counted);
        let message = match why_less(share) {
            None => format!("At most {allowed} {counted} a minute are allowed. Wait and send it again."),
            Some(why) => {
                format!("At most {allowed} {counted} a minute are allowed now, because {why}. Wait and send it again.")
            }
        };
        let mut refusal = Refusal::rate_limited(message, self.limiter, "user", u64::from(allowed), 60_000);
        if let Some(details) = refusal.details.as_mut().filter(|_| share.percent != 100) {
            details["percent"] = share.percent.into();
            details["reasons"] = share.reasons.names().into();
        }
        refusal.retry_after(wait_ms)
    }
}

/// Why a user has less than the configured limit, in the text of a refusal.
fn why_less(share: Share) -> Option<&'static str> {
    let reasons = [
        (LimitReason::Overload, "the server is overloaded"),
        (LimitReason::Slowed, "your account was slowed down for a while"),
        (LimitReason::Refusals, "you went on after many refusals"),
        (LimitReason::Reported, "administrators rejected several of your messages"),
    ];
    let less = share.percent < 100;
    reasons.into_iter().find(|(reason, _)| less && share.reasons.has(*reason)).map(|(_, why)| why)
}
