//! The messages between the main thread and the workers, and the clock that they share.

use super::recorder::{Findings, Interval};
use super::schedule::Pace;
use std::time::Instant;

/// Commands of the main thread to a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    /// Send at this pace from now on.
    Load(Pace),
    /// Send nothing new; wait for what is in flight.
    Drain,
    /// Close and end. `complete` is false when the run was interrupted: what is in flight is then no violation.
    Finish { complete: bool },
}

/// Reports of a worker to the main thread.
#[derive(Debug)]
pub enum WorkerReport {
    /// One more connection is ready, for the first time.
    Ready,
    /// The run cannot continue.
    Failed(String),
    /// The server no longer accepts a user's credentials.
    Unauthorized(u32),
    /// A second has passed.
    Interval(Box<Interval>),
    /// The thread is done.
    Done(Box<Findings>),
}

/// The engine's clock: nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that starts at zero.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Now.
    pub fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
