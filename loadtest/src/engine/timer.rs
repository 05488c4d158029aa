//! Waking at a planned time: a timerfd next to the sockets, because the time-outs of epoll are whole milliseconds.
//!
//! The agenda is a heap of what to do with which connection, and when.

use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

/// A timer that makes a descriptor readable.
#[derive(Debug)]
pub struct Timer {
    descriptor: OwnedFd,
    armed_ns: u64,
}

impl Timer {
    /// Creates a timer that is not armed.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self { descriptor: timerfd_create(TimerfdClockId::Monotonic, flags)?, armed_ns: u64::MAX })
    }

    /// Its descriptor, to wait for.
    pub fn raw(&self) -> i32 {
        self.descriptor.as_raw_fd()
    }

    /// Arms it for `at_ns`, which is after `now_ns`. This costs nothing if it is already armed for that time.
    pub fn arm(&mut self, now_ns: u64, at_ns: u64) -> io::Result<()> {
        if at_ns == self.armed_ns {
            return Ok(());
        }
        let pause_ns = at_ns.saturating_sub(now_ns).clamp(1, 3_600_000_000_000);
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec { tv_sec: (pause_ns / 1_000_000_000) as i64, tv_nsec: (pause_ns % 1_000_000_000) as i64 };
        let once = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.descriptor, TimerfdTimerFlags::empty(), &once)?;
        self.armed_ns = at_ns;
        Ok(())
    }

    /// Makes the descriptor unreadable again after the timer has fired.
    pub fn clear(&mut self) -> io::Result<()> {
        self.armed_ns = u64::MAX;
        let mut count = [0; 8];
        match rustix::io::read(&self.descriptor, &mut count) {
            Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A planned action on a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Wake {
    /// Connect again.
    Retry,
    /// Give up the attempt with this number, unless it has succeeded.
    GiveUp(u32),
    /// Send again.
    Release,
    /// Stop reading.
    Pause,
    /// Read again.
    Unpause,
    /// Disconnect it.
    Cut,
}

/// Planned actions, ordered by time.
#[derive(Debug, Default)]
pub struct Agenda {
    heap: BinaryHeap<Reverse<(u64, u32, Wake)>>,
}

impl Agenda {
    /// Adds an action.
    pub fn add(&mut self, at_ns: u64, slot: u32, wake: Wake) {
        self.heap.push(Reverse((at_ns, slot, wake)));
    }

    /// The time of the next action.
    pub fn next_ns(&self) -> u64 {
        self.heap.peek().map_or(u64::MAX, |Reverse((at_ns, ..))| *at_ns)
    }

    /// Removes the next action that is due.
    pub fn due(&mut self, now_ns: u64) -> Option<(u32, Wake)> {
        if self.next_ns() > now_ns {
            return None;
        }
        self.heap.pop().map(|Reverse((_, slot, wake))| (slot, wake))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_in_order_and_never_early() {
        let mut agenda = Agenda::default();
        agenda.add(30, 1, Wake::Retry);
        agenda.add(10, 2, Wake::Cut);
        assert_eq!((agenda.next_ns(), agenda.due(9)), (10, None));
        assert_eq!(agenda.due(40), Some((2, Wake::Cut)));
        assert_eq!(agenda.due(40), Some((1, Wake::Retry)));
        assert_eq!((agenda.next_ns(), agenda.due(u64::MAX - 1)), (u64::MAX, None));
    }

    #[test]
    fn a_timer_goes_off_once() {
        let mut timer = Timer::new().expect("a timer");
        timer.arm(0, 1).expect("armed");
        let mut count = [0; 8];
        let read = loop {
            match rustix::io::read(&timer.descriptor, &mut count) {
                Err(Errno::AGAIN) => std::thread::yield_now(),
                other => break other,
            }
        };
        assert_eq!((read, u64::from_ne_bytes(count)), (Ok(8), 1));
        timer.clear().expect("an empty timer is no error");
    }
}
