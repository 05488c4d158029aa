//! How many HTTP requests a signed-in user may send. Requests about files have a budget of their own: an upload and a
//! page with pictures need many of them.
//!
//! Invariants:
//! - a request beyond the budget is refused after its token was verified, and before its session is looked up.
//!   Otherwise a flood from one user would cost PostgreSQL a query for each request, and others would wait behind it;
//! - a user who sent nothing of late has no entry. Every entry belongs to a user whose token was valid;
//! - a session that was found to have ended is remembered for a while, and its requests are neither charged nor looked
//!   up. Otherwise a thief whose session was revoked could use its owner's budget up until the token expires.
//!
//! A user has a part of the limit, by standing and load, as for commands ([`crate::mesh::standing`]). The account's age
//! is known once a session was looked up.

use crate::error::Refusal;
use crate::ids::{SessionId, UserId};
use crate::limits::{
    FILE_REQUESTS_PER_MESSAGE, FILE_REQUESTS_PER_MINUTE_MIN, Limits, REQUESTS_BURST_PART, REQUESTS_PER_MESSAGE,
    REQUESTS_PER_MINUTE_MIN,
};
use crate::mesh::overload::Overload;
use crate::mesh::standing::{LimitReason, MarkedUsers, Share, UserBudgets};
use crate::mesh::user_limit::{ExplainedLimit, UserLimit};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The longest table that is not swept before it grows.
const UNSWEPT_MAX: usize = 1_024;
/// How long a session counts as ended without another look.
const ENDED_FOR: Duration = Duration::from_mins(1);
/// Ended sessions that are remembered. More are looked up.
const ENDED_MAX: usize = 10_000;

/// What a request is about. The numbers are the budgets of [`UserBudgets`] that are used here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RequestKind {
    /// The bytes of a file: an upload, a link, a download.
    File = 1,
    /// Anything else.
    Other = 0,
}

impl RequestKind {
    /// Every kind.
    pub(super) const ALL: [Self; 2] = [Self::Other, Self::File];

    /// Of a request to this route.
    pub(super) fn of(route: &str) -> Self {
        if route.starts_with("/files/{id}") { Self::File } else { Self::Other }
    }
}

/// The budgets of all users.
pub(super) struct RequestBudget {
    overload: Arc<Overload>,
    /// Process time begins here.
    began: Instant,
    /// Locked by one thread only, and never across an `await`.
    known: Mutex<KnownUsers>,
}

/// What the configuration says of them.
struct RequestLimits {
    /// By kind.
    limits: [UserLimit; 2],
    /// Those of bots.
    of_bots: [UserLimit; 2],
    adaptive: bool,
    trusted_after_s: i64,
    admins: Vec<UserId>,
}

impl RequestLimits {
    fn new(limits: &Limits, admins: Vec<UserId>) -> Self {
        Self {
            limits: Self::of_messages(limits.max_messages_per_minute),
            of_bots: Self::of_messages(limits.bot_messages_per_minute),
            adaptive: limits.adaptive,
            trusted_after_s: limits.trusted_after_s,
            admins,
        }
    }

    /// The limits of users who may send so many messages a minute.
    fn of_messages(messages: u32) -> [UserLimit; 2] {
        let per_minute = |each: u32, least: u32| messages.saturating_mul(each).max(least);
        let others = per_minute(REQUESTS_PER_MESSAGE, REQUESTS_PER_MINUTE_MIN);
        let of_files = per_minute(FILE_REQUESTS_PER_MESSAGE, FILE_REQUESTS_PER_MINUTE_MIN);
        [
            UserLimit::new("requests", "HTTP requests", others, REQUESTS_BURST_PART),
            UserLimit::new("file_requests", "requests about files", of_files, REQUESTS_BURST_PART),
        ]
    }

    fn of(&self, budgets: &UserBudgets) -> &[UserLimit; 2] {
        if budgets.is_bot() { &self.of_bots } else { &self.limits }
    }

    fn share(&self, user: UserId, budgets: &UserBudgets, overload: &Overload, now_ns: u64) -> Share {
        budgets.set_administers(self.admins.contains(&user));
        if !self.adaptive {
            return budgets.fixed_share();
        }
        // The look-ups of sessions wait for the same PostgreSQL as pages do.
        budgets.share(now_ns).under(overload.pages())
    }
}

struct KnownUsers {
    limits: RequestLimits,
    users: HashMap<UserId, UserBudgets>,
    marked: Arc<MarkedUsers>,
    /// Since when sessions are known to have ended.
    ended: HashMap<SessionId, Instant>,
}

impl RequestBudget {
    pub(super) fn new(limits: &Limits, admins: Vec<UserId>, overload: Arc<Overload>) -> Self {
        let limits = RequestLimits::new(limits, admins);
        let known = KnownUsers { limits, users: HashMap::new(), marked: Arc::default(), ended: HashMap::new() };
        Self { overload, began: Instant::now(), known: Mutex::new(known) }
    }

    /// The configuration was loaded again.
    pub(super) fn replace(&self, limits: &Limits, admins: Vec<UserId>) {
        self.known().limits = RequestLimits::new(limits, admins);
    }

    /// Charges a request of a person.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn charge(&self, kind: RequestKind, user: UserId, now: Instant) -> Result<(), Refusal> {
        self.charge_as(kind, (user, false), now)
    }

    /// Charges a request of a user, who is a bot or not.
    ///
    /// # Errors
    /// The budget is used up.
    pub(super) fn charge_as(
        &self,
        kind: RequestKind,
        (user, is_bot): (UserId, bool),
        now: Instant,
    ) -> Result<(), Refusal> {
        let now_ns = self.ns(now);
        let mut known = self.known();
        let KnownUsers { limits, users, marked, .. } = &mut *known;
        if users.len() >= UNSWEPT_MAX && !users.contains_key(&user) {
            users.retain(|_, budgets| !budgets.is_replenished(now_ns));
        }
        let budgets = users.entry(user).or_default();
        budgets.set_marks(marked.of(user));
        budgets.set_is_bot(is_bot);
        let (limit, tat) = (&limits.of(budgets)[kind as usize], budgets.tat(kind as usize));
        let spent = limit.spend(tat, limits.share(user, budgets, &self.overload, now_ns), (now_ns, 1));
        spent.inspect_err(|_| budgets.note_refusal(now_ns, 1))
    }

    /// A session was looked up, and has ended.
    pub(super) fn note_ended(&self, session: SessionId, now: Instant) {
        let ended = &mut self.known().ended;
        if ended.len() >= ENDED_MAX {
            ended.retain(|_, at| now.saturating_duration_since(*at) < ENDED_FOR);
        }
        if ended.len() < ENDED_MAX {
            ended.insert(session, now);
        }
    }

    /// Whether a session is known to have ended.
    pub(super) fn has_ended(&self, session: SessionId, now: Instant) -> bool {
        self.known().ended.get(&session).is_some_and(|at| now.saturating_duration_since(*at) < ENDED_FOR)
    }

    /// A session of `user` was looked up: the account is so many seconds old.
    pub(super) fn note_age(&self, user: UserId, age_s: i64) {
        let known = self.known();
        if age_s >= known.limits.trusted_after_s
            && let Some(budgets) = known.users.get(&user)
        {
            budgets.add(LimitReason::Trusted);
        }
    }

    /// The marks of all users were read again.
    pub(super) fn mark(&self, marked: Arc<MarkedUsers>) {
        self.known().marked = marked;
    }

    /// The limit of a user whose account is so many seconds old.
    pub(super) fn explain(&self, kind: RequestKind, user: UserId, age_s: i64, now: Instant) -> ExplainedLimit {
        let now_ns = self.ns(now);
        let known = self.known();
        let unused = UserBudgets::default();
        let budgets = known.users.get(&user).unwrap_or(&unused);
        budgets.set_marks(known.marked.of(user));
        if age_s >= known.limits.trusted_after_s {
            budgets.add(LimitReason::Trusted);
        }
        let share = known.limits.share(user, budgets, &self.overload, now_ns);
        known.limits.of(budgets)[kind as usize].explain(budgets.tat(kind as usize), share, now_ns)
    }

    fn ns(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_nanos() as u64
    }

    fn known(&self) -> MutexGuard<'_, KnownUsers> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::overload::Work;
    use crate::mesh::standing::Reasons;
    use serde_json::json;

    fn budget() -> RequestBudget {
        RequestBudget::new(&Limits::default(), vec![UserId(1)], Arc::default())
    }

    fn burst(budget: &RequestBudget, user: i64, now: Instant) -> usize {
        (0..2_000).take_while(|_| budget.charge(RequestKind::Other, UserId(user), now).is_ok()).count()
    }

    #[test]
    fn a_user_has_a_burst_and_then_the_rate() {
        let (budget, now) = (budget(), Instant::now());
        assert_eq!(burst(&budget, 2, now), 300);
        let refusal = budget.charge(RequestKind::Other, UserId(2), now).unwrap_err();
        let expected = json!({"limiter": "requests", "scope": "user", "limit": 600, "window_ms": 60_000});
        assert_eq!(refusal.details.as_deref(), Some(&expected));
        assert_eq!(refusal.retry_after_ms, Some(50));
        assert!(budget.charge(RequestKind::Other, UserId(3), now).is_ok(), "others are not affected");
        assert!(budget.charge(RequestKind::Other, UserId(2), now + Duration::from_millis(50)).is_ok());
        assert!(budget.charge(RequestKind::Other, UserId(2), now + Duration::from_millis(50)).is_err());
        let files = (0..9_000).take_while(|_| budget.charge(RequestKind::File, UserId(2), now).is_ok()).count();
        assert_eq!(files, 3_000, "an upload goes on");
    }

    #[test]
    fn standing_and_load_scale_the_budget() {
        let (budget, now) = (budget(), Instant::now());
        assert_eq!(burst(&budget, 1, now), 600, "an administrator");
        budget.charge(RequestKind::Other, UserId(2), now).unwrap();
        budget.note_age(UserId(2), 8 * 86_400);
        assert_eq!(burst(&budget, 2, now), 598, "an older account");
        let slowed = Reasons::default().with(LimitReason::Slowed);
        budget.mark(Arc::new(MarkedUsers { version: 1, marks: [(UserId(3), slowed)].into() }));
        assert_eq!(burst(&budget, 3, now), 75);
        let explained = json!(budget.explain(RequestKind::Other, UserId(3), 0, now));
        assert_eq!((&explained["limit"], &explained["reasons"]), (&json!(150), &json!(["slowed"])));
        budget.overload.set(Work::Pages, 50);
        assert_eq!(burst(&budget, 4, now), 150);
        budget.replace(&Limits { adaptive: false, ..Limits::default() }, vec![UserId(1)]);
        let fixed = budget;
        assert_eq!((burst(&fixed, 5, now), fixed.explain(RequestKind::Other, UserId(3), 0, now).limit), (300, 150));
    }

    #[test]
    fn knows_requests_about_files() {
        for route in ["/files/{id}", "/files/{id}/link", "/files/{id}/{name}", "/files/{id}/variants/{kind}"] {
            assert_eq!(RequestKind::of(route), RequestKind::File, "{route}");
        }
        for route in ["/files", "/files/simple", "/users/me", ""] {
            assert_eq!(RequestKind::of(route), RequestKind::Other, "{route}");
        }
    }

    #[test]
    fn remembers_ended_sessions_for_a_minute() {
        let (budget, now) = (budget(), Instant::now());
        budget.note_ended(SessionId(7), now);
        assert!(budget.has_ended(SessionId(7), now + ENDED_FOR / 2) && !budget.has_ended(SessionId(8), now));
        assert!(!budget.has_ended(SessionId(7), now + ENDED_FOR));
        for n in 0..2 * ENDED_MAX as i64 {
            budget.note_ended(SessionId(n), now + ENDED_FOR);
        }
        assert_eq!(budget.known().ended.len(), ENDED_MAX);
        assert!(budget.has_ended(SessionId(0), now + ENDED_FOR));
    }

    #[test]
    fn forgets_users_whose_budget_is_full() {
        let (budget, now) = (budget(), Instant::now());
        for n in 0..5_000 {
            budget.charge(RequestKind::Other, UserId(n), now + Duration::from_secs(1) * n as u32).unwrap();
        }
        assert!(budget.known().users.len() <= UNSWEPT_MAX);
    }
}
