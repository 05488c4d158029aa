//! Decides which read runs next. Pure: every method takes the time and returns what to do; no I/O, no clock.
//!
//! ```text
//!   offer ──► class ──► user ──► take ──► runs on a connection ──► finish
//!      │        4       ring       └──► too late: refused without a look at PostgreSQL
//!      └──► refused: too many wait
//! ```
//!
//! 1. A read waits in the queue of its user within its class. A class is a ring of the users who may run another read,
//!    so a user with 256 waiting reads delays a user with one by one read.
//! 2. [`Shares`] bounds what runs at once: of each class, of one user within a class, and of everything but catch-up.
//!    Some connections are therefore always left for admissions and catch-up, and some for pages.
//! 3. Among the classes that may run another read, each is served in proportion to its weight.
//! 4. A user whose reads have taken much time lately, or who has many waiting, is *heavy* and waits in a second ring of
//!    its class. All heavy users together may run few reads at once, whatever their classes. While other users read, a
//!    connection that ran a heavy read also pauses for twice as long before it runs the next one. So statements that
//!    take long, however few, leave the cores to everybody else.
//!
//! Invariants:
//! - a queued read is returned exactly once, by [`ReadQueue::take`] or [`ReadQueue::expire`]. Otherwise its client
//!   waits forever, or an answer has no recipient;
//! - every read that is taken to run is reported by [`ReadQueue::finish`] once. Otherwise its connection stays unused;
//! - what waits is bounded per user and in total, so a flood is refused and does not fill the memory.

use crate::ids::UserId;
use crate::mesh::read_class::ReadClass;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

/// Classes, as an array's length.
const CLASSES: usize = ReadClass::ALL.len();
/// Weight of each class among those that may run, in index order.
const WEIGHTS: [u64; CLASSES] = [8, 8, 2, 1];
/// A multiple of every weight: what one read moves its class's clock by is this divided by the weight.
const CLOCK_STEP: u64 = 8;
/// A user may use this part of one connection's time without being heavy.
const LIGHT_PART: u32 = 4;
/// The time that a user may use at once without being heavy, times [`LIGHT_PART`].
const LIGHT_BURST: Duration = Duration::from_millis(400);
/// Reads that a user may have waiting in a class without being heavy: more than any client sends when it starts.
const LIGHT_WAITING: usize = 24;
/// While heavy users wait, one read in so many is theirs at least.
const HEAVY_TURN: u32 = 8;
/// The pause after a heavy user's read, in times that the read took, and its maximum: other heavy users wait as well.
const HEAVY_PAUSE: u32 = 2;
const HEAVY_PAUSE_MAX: Duration = Duration::from_secs(1);
/// The longest time that a user stays heavy after the last read.
const DEBT_MAX: Duration = Duration::from_secs(30);
/// Reads of one user that run at once, by class.
const RUNNING_PER_USER: [usize; CLASSES] = [4, 2, 1, 1];

/// How many reads may run at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shares {
    /// Of all classes together: the connections there are.
    pub total: usize,
    /// Of all classes but catch-up together.
    pub without_catch_up: usize,
    /// Of each class, in index order.
    pub by_class: [usize; CLASSES],
    /// Of all heavy users together.
    pub heavy: usize,
}

impl Shares {
    /// The most connections worth having to a PostgreSQL that shares a machine with `cores` with this server. More
    /// reads at once would slow each other and the commits down, and finish no earlier.
    #[must_use]
    pub const fn local_connections(cores: usize) -> usize {
        2 * cores + 2
    }

    /// The shares of `connections`, on a machine with `cores`. PostgreSQL usually runs on the same machine: more pages
    /// at once than it has cores for would make each of them slower and none of them earlier.
    #[must_use]
    pub fn of(connections: usize, cores: usize) -> Self {
        let total = connections.max(1);
        // With one connection the classes take turns; with more, a quarter is kept for each of the two sides.
        let reserved = if total > 1 { (total / 4).max(1) } else { 0 };
        let without_catch_up = total - reserved;
        let pages = without_catch_up.min((2 * cores).max(4));
        let search = (cores / 2).clamp(1, (total / 4).max(1));
        let administration = (total / 8).max(1);
        let heavy = (cores / 2).clamp(1, pages);
        Self { total, without_catch_up, by_class: [total - reserved, pages, search, administration], heavy }
    }
}

/// What may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// What one user's commands ask for.
    pub per_user: usize,
    /// What all users' commands ask for.
    pub commanded: usize,
    /// Of everything, admissions and replays included.
    pub total: usize,
}

/// A read and what the scheduler needs to know of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiting<T> {
    /// The queue it waits in.
    pub class: ReadClass,
    /// The user whose read it is.
    pub user: UserId,
    /// A command asks for it; otherwise the server does, to let a client in or to bring it up to date.
    pub commanded: bool,
    /// When it arrived.
    pub since: Instant,
    /// When nobody waits for it any more.
    pub deadline: Instant,
    /// The read.
    pub read: T,
}

/// Why a read was not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// Its user has too many waiting.
    User,
    /// Everybody together has.
    Everybody,
}

/// What [`ReadQueue::take`] returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next<T> {
    /// Run it, then call [`ReadQueue::finish`].
    Run(Waiting<T>),
    /// Its deadline has passed: refuse it. It has no connection to return.
    TooLate(Waiting<T>),
}

/// One user within a class. It is in one of the class's rings while it has something waiting and may run another read.
struct OfUser<T> {
    waiting: VecDeque<Waiting<T>>,
    running: usize,
    /// Of those, the reads that count as heavy.
    running_heavy: usize,
    in_ring: bool,
}

impl<T> Default for OfUser<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), running: 0, running_heavy: 0, in_ring: false }
    }
}

/// One class.
struct OfClass<T> {
    users: HashMap<UserId, OfUser<T>>,
    ring: VecDeque<UserId>,
    /// Heavy users: moved here from the ring when their turn comes.
    heavy_ring: VecDeque<UserId>,
    waiting: usize,
    running: usize,
    /// Reads that were taken since the last one of a heavy user.
    since_heavy: u32,
    /// Start-time fair queueing: grows by the inverse of the weight with each read; the smallest goes first.
    clock: u64,
}

impl<T> Default for OfClass<T> {
    fn default() -> Self {
        Self {
            users: HashMap::new(),
            ring: VecDeque::new(),
            heavy_ring: VecDeque::new(),
            waiting: 0,
            running: 0,
            since_heavy: 0,
            clock: 0,
        }
    }
}

impl<T> OfClass<T> {
    /// Moves heavy users at the head of the ring into theirs, and those at the head of theirs back when they are heavy
    /// no more.
    fn sort_out(&mut self, used_much: impl Fn(UserId) -> bool) {
        let users = &self.users;
        let is_heavy =
            |user: UserId| used_much(user) || users.get(&user).is_some_and(|entry| entry.waiting.len() > LIGHT_WAITING);
        while let Some(user) = self.ring.pop_front_if(|user| is_heavy(*user)) {
            self.heavy_ring.push_back(user);
        }
        while let Some(user) = self.heavy_ring.pop_front_if(|user| !is_heavy(*user)) {
            self.ring.push_back(user);
        }
    }

    /// Whether the next read is to be a heavy user's; none when nothing may run.
    fn next_is_heavy(&self, heavy_may_run: bool) -> Option<bool> {
        let heavy = heavy_may_run && !self.heavy_ring.is_empty();
        match (self.ring.is_empty(), heavy) {
            (true, false) => None,
            (true, true) => Some(true),
            (false, false) => Some(false),
            (false, true) => Some(self.since_heavy >= HEAVY_TURN - 1),
        }
    }
}

/// The scheduler of reads.
pub struct ReadQueue<T> {
    shares: Shares,
    bounds: Bounds,
    classes: [OfClass<T>; CLASSES],
    /// Waiting reads that commands ask for, of each user who has any, over all classes; and their sum.
    commanded_by: HashMap<UserId, usize>,
    commanded: usize,
    /// Reads of heavy users that run, of all classes.
    running_heavy: usize,
    /// The ends of the pauses after reads of heavy users: each keeps one of the reads that they may run.
    heavy_pauses: Vec<Instant>,
    /// When a read of a user who is not heavy was last taken to run.
    light_taken: Option<Instant>,
    /// Until when a user's reads of late are paid for, at [`LIGHT_PART`] of one connection (GCRA, as `budget`).
    paid_until: HashMap<UserId, Instant>,
    /// The clock of the class that was served last: a class that was idle starts here and not at its old time.
    clock: u64,
}

impl<T> ReadQueue<T> {
    /// An empty queue.
    #[must_use]
    pub fn new(shares: Shares, bounds: Bounds) -> Self {
        let classes = std::array::from_fn(|_| OfClass::default());
        Self {
            shares,
            bounds,
            classes,
            commanded_by: HashMap::new(),
            commanded: 0,
            running_heavy: 0,
            heavy_pauses: Vec::new(),
            light_taken: None,
            paid_until: HashMap::new(),
            clock: 0,
        }
    }

    /// The number of connections changed. What runs already goes on.
    pub fn set_shares(&mut self, shares: Shares) {
        self.shares = shares;
    }

    /// How many reads may run at once now.
    #[must_use]
    pub fn shares(&self) -> Shares {
        self.shares
    }

    /// Queues a read.
    ///
    /// # Errors
    /// The read, and what is full.
    pub fn offer(&mut self, waiting: Waiting<T>) -> Result<(), (Waiting<T>, Full)> {
        let user = waiting.user;
        let total: usize = self.classes.iter().map(|class| class.waiting).sum();
        if total >= self.bounds.total || (waiting.commanded && self.commanded >= self.bounds.commanded) {
            return Err((waiting, Full::Everybody));
        }
        if waiting.commanded {
            let of_user = self.commanded_by.get(&user).copied().unwrap_or(0);
            if of_user >= self.bounds.per_user {
                return Err((waiting, Full::User));
            }
            self.commanded_by.insert(user, of_user + 1);
            self.commanded += 1;
        }
        let most = RUNNING_PER_USER[waiting.class as usize];
        let class = &mut self.classes[waiting.class as usize];
        if class.waiting == 0 {
            class.clock = class.clock.max(self.clock);
        }
        class.waiting += 1;
        let entry = class.users.entry(user).or_default();
        entry.waiting.push_back(waiting);
        if !entry.in_ring && entry.running < most {
            entry.in_ring = true;
            class.ring.push_back(user);
        }
        Ok(())
    }

    /// The next read that may run, or one that is too late; none while nothing waits or nothing more may run.
    pub fn take(&mut self, now: Instant) -> Option<Next<T>> {
        let running: usize = self.classes.iter().map(|class| class.running).sum();
        let others = running - self.classes[ReadClass::CatchUp as usize].running;
        if running >= self.shares.total {
            return None;
        }
        let paid_until = &self.paid_until;
        let used_much = |user: UserId| paid_until.get(&user).is_some_and(|at| *at > now + LIGHT_BURST);
        for class in &mut self.classes {
            class.sort_out(used_much);
        }
        self.heavy_pauses.retain(|ends| *ends > now);
        let heavy_may_run = self.running_heavy + self.heavy_pauses.len() < self.shares.heavy;
        let ready = ReadClass::ALL.into_iter().filter(|class| {
            let at = *class as usize;
            let of_class = &self.classes[at];
            let has_room = *class == ReadClass::CatchUp || others < self.shares.without_catch_up;
            let may_run = of_class.next_is_heavy(heavy_may_run).is_some();
            has_room && of_class.running < self.shares.by_class[at] && may_run
        });
        let at = ready.min_by_key(|class| self.classes[*class as usize].clock)? as usize;
        let class = &mut self.classes[at];
        let heavy = class.next_is_heavy(heavy_may_run)?;
        let user = if heavy { class.heavy_ring.pop_front()? } else { class.ring.pop_front()? };
        let entry = class.users.get_mut(&user)?;
        let waiting = entry.waiting.pop_front()?;
        let is_late = waiting.deadline <= now;
        if !is_late {
            entry.running += 1;
            class.running += 1;
            class.since_heavy = if heavy { 0 } else { class.since_heavy.saturating_add(1) };
            if heavy {
                entry.running_heavy += 1;
                self.running_heavy += 1;
            } else {
                self.light_taken = Some(now);
            }
            self.clock = class.clock;
            class.clock += CLOCK_STEP / WEIGHTS[at];
        }
        entry.in_ring = !entry.waiting.is_empty() && entry.running < RUNNING_PER_USER[at];
        if entry.in_ring {
            class.ring.push_back(user);
        } else if entry.waiting.is_empty() && entry.running == 0 {
            class.users.remove(&user);
        }
        class.waiting -= 1;
        self.forget(&waiting);
        Some(if is_late { Next::TooLate(waiting) } else { Next::Run(waiting) })
    }

    /// A read that was taken to run has ended after `took`, however it did.
    pub fn finish(&mut self, class: ReadClass, user: UserId, took: Duration, now: Instant) {
        if !took.is_zero() {
            let paid_until = self.paid_until.entry(user).or_insert(now);
            *paid_until = ((*paid_until).max(now) + took * LIGHT_PART).min(now + DEBT_MAX);
        }
        let most = RUNNING_PER_USER[class as usize];
        let class = &mut self.classes[class as usize];
        let Some(entry) = class.users.get_mut(&user).filter(|entry| entry.running > 0) else { return };
        entry.running -= 1;
        class.running -= 1;
        // It may be another of the user's reads than the heavy one: as many count as heavy as run, at most.
        if entry.running_heavy > entry.running {
            entry.running_heavy -= 1;
            self.running_heavy -= 1;
            if self.light_taken.is_some_and(|at| at + took >= now) {
                self.heavy_pauses.push(now + (took * HEAVY_PAUSE).min(HEAVY_PAUSE_MAX));
            }
        }
        if entry.waiting.is_empty() {
            if entry.running == 0 {
                class.users.remove(&user);
            }
        } else if !entry.in_ring && entry.running < most {
            entry.in_ring = true;
            class.ring.push_back(user);
        }
    }

    /// Takes out everything whose deadline has passed. Looks at all that waits: call it a few times a second.
    pub fn expire(&mut self, now: Instant) -> Vec<Waiting<T>> {
        let mut late = Vec::new();
        self.paid_until.retain(|_, at| *at > now);
        for class in &mut self.classes {
            if class.waiting == 0 {
                continue;
            }
            let before = late.len();
            for entry in class.users.values_mut() {
                if entry.waiting.iter().any(|waiting| waiting.deadline <= now) {
                    let all = std::mem::take(&mut entry.waiting);
                    let (expired, kept): (Vec<_>, Vec<_>) = all.into_iter().partition(|w| w.deadline <= now);
                    late.extend(expired);
                    entry.waiting = kept.into();
                }
            }
            if late.len() == before {
                continue;
            }
            class.waiting -= late.len() - before;
            let users = &mut class.users;
            for ring in [&mut class.ring, &mut class.heavy_ring] {
                ring.retain(|user| {
                    let Some(entry) = users.get_mut(user) else { return false };
                    entry.in_ring = !entry.waiting.is_empty();
                    entry.in_ring
                });
            }
            users.retain(|_, entry| entry.running > 0 || !entry.waiting.is_empty());
        }
        for waiting in &late {
            self.forget(waiting);
        }
        late
    }

    /// A read does not wait any more.
    fn forget(&mut self, waiting: &Waiting<T>) {
        if !waiting.commanded {
            return;
        }
        self.commanded -= 1;
        if let Some(of_user) = self.commanded_by.get_mut(&waiting.user) {
            *of_user -= 1;
            if *of_user == 0 {
                self.commanded_by.remove(&waiting.user);
            }
        }
    }

    /// Reads of a class that wait, and how long the oldest of them has.
    #[must_use]
    pub fn waiting(&self, class: ReadClass, now: Instant) -> (usize, Duration) {
        let class = &self.classes[class as usize];
        // A user's queue is in order of arrival.
        let oldest = class.users.values().filter_map(|entry| entry.waiting.front()).map(|waiting| waiting.since).min();
        (class.waiting, oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)))
    }

    /// Whether the read that [`ReadQueue::take`] has just returned at this time is of a user who is not heavy.
    #[must_use]
    pub fn took_light(&self, now: Instant) -> bool {
        self.light_taken == Some(now)
    }

    /// When the next pause of heavy users ends, if one of their reads waits for it. Call [`ReadQueue::take`] again
    /// then, even if no read arrives or ends before.
    #[must_use]
    pub fn pause_ends(&self, now: Instant) -> Option<Instant> {
        let waits = self.classes.iter().any(|class| !class.heavy_ring.is_empty());
        self.heavy_pauses.iter().copied().filter(|ends| waits && *ends > now).min()
    }
}

#[cfg(test)]
#[path = "read_queue_tests.rs"]
mod tests;
