//! The messages between the main thread and the workers, and the clock that they share.

use super::recorder::{Findings, Interval};
use super::schedule::Pace;
use std::time::Instant;

/// What the main thread tells a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    /// Send by this pace from now on.
    Load(Pace),
    /// Send nothing new; bring in what is under way.
    Drain,
    /// Close and end. What has not arrived by now never will, unless the run was cut short.
    Finish { complete: bool },
}

/// What a worker tells the main thread.
#[derive(Debug)]
pub enum Event {
    /// One more connection is ready, for the first time.
    Ready,
    /// The run can't go on.
    Failed(String),
    /// The server does not accept a user's credentials any more.
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
