//! Time and randomness of a history: virtual milliseconds and one generator, both fixed by the seed.

use chat_server::shard::world::Clock;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// When histories begin, in seconds of Unix time.
pub const EPOCH_SECONDS: i64 = 1_800_000_000;

/// The virtual clock, shared by everything in a history.
#[derive(Clone)]
pub struct SimClock {
    started: Instant,
    now_ms: Rc<Cell<u64>>,
    random: Rc<RefCell<SmallRng>>,
}

impl SimClock {
    /// A clock at zero.
    #[must_use]
    pub fn new(seed: u64, started: Instant) -> Self {
        let random = Rc::new(RefCell::new(SmallRng::seed_from_u64(seed)));
        Self { started, now_ms: Rc::default(), random }
    }

    /// Milliseconds since the history began.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms.get()
    }

    /// Lets time pass.
    pub fn advance(&self, ms: u64) {
        self.now_ms.set(self.now_ms.get() + ms);
    }

    /// A number below `bound`.
    #[must_use]
    pub fn below(&self, bound: usize) -> usize {
        self.random.borrow_mut().random_range(0..bound.max(1))
    }

    /// True in `percent` of a hundred cases.
    #[must_use]
    pub fn chance(&self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.started + Duration::from_millis(self.now_ms.get())
    }

    fn utc(&self) -> OffsetDateTime {
        let epoch = OffsetDateTime::from_unix_timestamp(EPOCH_SECONDS).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        epoch + Duration::from_millis(self.now_ms.get())
    }

    fn random(&mut self) -> u64 {
        self.random.borrow_mut().next_u64()
    }
}
