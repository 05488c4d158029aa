//! Overload: what part of every user's budget the server can serve now, measured by how long work waits. Pure, but for
//! the shared gauges.
//!
//! ```text
//!   I/O shard: work leaves a queue ──► WaitWindow (min of the waits in half a second) ──► Overload ──► shards: budgets
//! ```
//!
//! The minimum of the waits tells a standing queue from a burst, as in `CoDel` (RFC 8289 §3): a burst drains, and
//! the work at its end has waited for a moment only. Where everything waits longer than [`TARGET`], more arrives than
//! can be done. Then the budgets shrink step by step until work waits no longer, and grow back when there is room.
//!
//! Invariants:
//! - a user with many waiting requests does not shrink the budgets of others: a window counts only if several users had
//!   to wait, since the queues serve users in turn;
//! - a quiet server never stays shrunk: a window without waiting work grows the budgets, and so does a pause.

use super::admissions::AdmissionPace;
use crate::ids::UserId;
use crate::latency::{CommitQueue, Count};
use crate::limits::COMMIT_WAIT_MAX_MS;
use std::time::{Duration, Instant};

/// Work that waits longer than this, all of it, stands in a queue.
pub const TARGET: Duration = Duration::from_millis(50);
/// How long a window is observed before the budgets change.
const WINDOW: Duration = Duration::from_millis(500);
/// Windows without any work after which nothing of an earlier overload counts.
const PAUSE: Duration = Duration::from_secs(5);
/// Different users who must have waited.
const USERS_MIN: usize = 4;
/// The budgets are multiplied by this many hundredths for each window with a standing queue…
const SHRINK_PERCENT: u32 = 80;
/// … and grow by this many after each window without one.
const GROW_PERCENT: u32 = 10;
/// They never shrink below this.
pub const PERCENT_MIN: u32 = 20;

const QUEUES: usize = CommitQueue::ALL.len();

/// What is measured apart, and what the budgets of it are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Changes of this queue.
    Commits(CommitQueue),
    /// Pages of histories, lists and the like.
    Pages,
    /// Subscriptions and the missed events of clients that were away.
    CatchUp,
}

/// The measured shares of all kinds of work, in percent. One thread writes it: the I/O shard.
#[derive(Debug)]
pub struct Overload {
    percents: [Count; QUEUES + 2],
    /// How long a change would wait that comes now, in microseconds, by [`CommitQueue`].
    commit_waits_us: [Count; QUEUES],
    /// How fast clients can be admitted.
    pub admissions: AdmissionPace,
}

impl Default for Overload {
    fn default() -> Self {
        let full = || {
            let share = Count::default();
            share.set(100);
            share
        };
        Self {
            percents: std::array::from_fn(|_| full()),
            commit_waits_us: Default::default(),
            admissions: AdmissionPace::default(),
        }
    }
}

impl Overload {
    fn of(&self, work: Work) -> &Count {
        &self.percents[match work {
            Work::Commits(queue) => queue as usize,
            Work::Pages => QUEUES,
            Work::CatchUp => QUEUES + 1,
        }]
    }

    /// Only the I/O shard may call it.
    pub fn set(&self, work: Work, percent: u32) {
        self.of(work).set(u64::from(percent));
    }

    /// Only the I/O shard may call it.
    pub fn set_commit_wait(&self, queue: CommitQueue, wait: Duration) {
        self.commit_waits_us[queue as usize].set(wait.as_micros() as u64);
    }

    /// How long a change that comes now would wait for its statement, as far as what waits and what the last
    /// statements took can tell.
    fn commit_wait(&self, queue: CommitQueue) -> Duration {
        Duration::from_micros(self.commit_waits_us[queue as usize].get())
    }

    /// Whether a change that comes now must be refused.
    #[must_use]
    pub fn is_commit_wait_too_long(&self, queue: CommitQueue) -> bool {
        self.commit_wait(queue) > Duration::from_millis(COMMIT_WAIT_MAX_MS)
    }

    /// What part of their budgets for changes users have now, percent.
    #[must_use]
    pub fn commits(&self) -> u32 {
        self.percents[..QUEUES].iter().map(Count::get).min().unwrap_or(100) as u32
    }

    /// The same for pages.
    #[must_use]
    pub fn pages(&self) -> u32 {
        self.of(Work::Pages).get() as u32
    }

    /// The same for catching up.
    #[must_use]
    pub fn catch_up(&self) -> u32 {
        self.of(Work::CatchUp).get() as u32
    }
}

/// Finds standing queues among the waits of one kind of work.
#[derive(Clone, Debug)]
pub struct WaitWindow {
    began: Instant,
    least: Duration,
    /// The first different users of the window.
    users: [Option<UserId>; USERS_MIN],
    percent: u32,
}

impl WaitWindow {
    /// Nothing has waited yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { began: now, least: Duration::MAX, users: [None; USERS_MIN], percent: 100 }
    }

    /// Nothing waits. Returns the share of the budgets when it has grown: an overload ends with a pause.
    pub fn idle(&mut self, now: Instant) -> Option<u32> {
        let ended = self.percent < 100 && now.saturating_duration_since(self.began) >= PAUSE;
        ended.then(|| {
            *self = Self::new(now);
            self.percent
        })
    }

    /// Work of `user` leaves the queue after it has waited for `waited`. Returns the share of the budgets when a window
    /// has ended.
    pub fn observe(&mut self, user: UserId, waited: Duration, now: Instant) -> Option<u32> {
        let observed = now.saturating_duration_since(self.began);
        let ended = (observed >= WINDOW).then(|| {
            let is_standing = self.least > TARGET && self.users.iter().all(Option::is_some);
            self.percent = match () {
                () if observed >= PAUSE => 100,
                () if is_standing => (self.percent * SHRINK_PERCENT / 100).max(PERCENT_MIN),
                () => (self.percent + GROW_PERCENT).min(100),
            };
            *self = Self { percent: self.percent, ..Self::new(now) };
            self.percent
        });
        self.least = self.least.min(waited);
        if !self.users.contains(&Some(user))
            && let Some(free) = self.users.iter_mut().find(|known| known.is_none())
        {
            *free = Some(user);
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(10);

    /// Observes work for `seconds`, each of `users` in turn, and returns the last share.
    fn observed(window: &mut WaitWindow, now: &mut Instant, seconds: u64, users: i64, waited: Duration) -> u32 {
        let mut last = window.percent;
        for n in 0..seconds as i64 * 100 {
            *now += STEP;
            last = window.observe(UserId(n % users), waited, *now).unwrap_or(last);
        }
        last
    }

    #[test]
    fn shrinks_the_budgets_while_everything_waits_and_grows_them_back() {
        let mut now = Instant::now();
        let mut window = WaitWindow::new(now);
        let (late, prompt) = (Duration::from_millis(200), Duration::from_millis(3));
        assert_eq!(observed(&mut window, &mut now, 2, 50, prompt), 100);
        assert_eq!(observed(&mut window, &mut now, 1, 50, late), 80, "a first window may have begun before");
        assert_eq!(observed(&mut window, &mut now, 1, 50, late), 51);
        assert_eq!(observed(&mut window, &mut now, 60, 50, late), PERCENT_MIN, "and never below");
        assert_eq!(observed(&mut window, &mut now, 1, 50, prompt), 40, "ten more for each window");
        assert_eq!(observed(&mut window, &mut now, 8, 50, prompt), 100);
    }

    #[test]
    fn one_prompt_piece_of_work_in_a_window_shows_that_the_queue_does_not_stand() {
        let mut now = Instant::now();
        let mut window = WaitWindow::new(now);
        for n in 0..1_000 {
            now += STEP;
            let waited = if n % 40 == 0 { Duration::ZERO } else { Duration::from_secs(2) };
            assert!(window.observe(UserId(n % 9), waited, now).is_none_or(|percent| percent == 100));
        }
    }

    #[test]
    fn three_users_with_long_queues_of_their_own_do_not_shrink_the_budgets_of_others() {
        let mut now = Instant::now();
        let mut window = WaitWindow::new(now);
        assert_eq!(observed(&mut window, &mut now, 10, 3, Duration::from_secs(4)), 100);
        assert!(observed(&mut window, &mut now, 10, 4, Duration::from_secs(4)) < 100);
    }

    #[test]
    fn a_pause_ends_an_overload() {
        let mut now = Instant::now();
        let mut window = WaitWindow::new(now);
        observed(&mut window, &mut now, 20, 50, Duration::from_secs(1));
        now += PAUSE;
        assert_eq!(window.observe(UserId(1), Duration::from_secs(1), now), Some(100));
    }

    #[test]
    fn a_queue_without_work_does_not_stay_shrunk() {
        let mut now = Instant::now();
        let mut window = WaitWindow::new(now);
        observed(&mut window, &mut now, 20, 50, Duration::from_secs(1));
        assert_eq!(window.idle(now), None);
        assert_eq!((window.idle(now + PAUSE), window.idle(now + PAUSE)), (Some(100), None));
    }

    #[test]
    fn the_slower_queue_decides() {
        let overload = Overload::default();
        assert_eq!((overload.commits(), overload.pages(), overload.catch_up()), (100, 100, 100));
        overload.set(Work::Commits(CommitQueue::Others), 40);
        overload.set(Work::Pages, 60);
        overload.set(Work::CatchUp, 70);
        assert_eq!((overload.commits(), overload.pages(), overload.catch_up()), (40, 60, 70));
        overload.set(Work::Commits(CommitQueue::Conversations), 30);
        assert_eq!(overload.commits(), 30);
    }
}
