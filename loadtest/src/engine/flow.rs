//! The messages of one connection: numbered, in flight until answered, or waiting for space in the window.
//!
//! Invariants:
//! - numbers count from 0 without gaps, so a number is a position in a ring and finding it costs nothing;
//! - the backlog is bounded by [`BACKLOG_MAX`]. If a plan outruns the server, further messages are counted as unsent
//!   and not stored.

use std::collections::VecDeque;

/// Longest backlog of one connection, messages.
pub const BACKLOG_MAX: usize = 1 << 17;

/// A message in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flight {
    /// The room's index.
    pub room: u32,
    /// Planned send time, nanoseconds on the engine's clock.
    pub planned_ns: u64,
}

/// The messages of one connection.
#[derive(Debug, Default)]
pub struct Flow {
    first: u32,
    slots: VecDeque<Option<Flight>>,
    waiting: usize,
    backlog: VecDeque<Flight>,
}

impl Flow {
    /// Puts a message in flight and returns its number.
    pub fn begin(&mut self, flight: Flight) -> u32 {
        let number = self.first + self.slots.len() as u32;
        self.slots.push_back(Some(flight));
        self.waiting += 1;
        number
    }

    /// Removes an answered message; `None` when no message of that number is in flight.
    pub fn finish(&mut self, number: u32) -> Option<Flight> {
        let at = number.checked_sub(self.first)? as usize;
        let flight = self.slots.get_mut(at)?.take()?;
        self.waiting -= 1;
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.first += 1;
        }
        Some(flight)
    }

    /// Whether a message is in flight.
    pub fn waits(&self, number: u32) -> bool {
        let at = number.checked_sub(self.first).map(|at| at as usize);
        at.and_then(|at| self.slots.get(at)).is_some_and(Option::is_some)
    }

    /// Messages in flight.
    pub fn in_flight(&self) -> usize {
        self.waiting
    }

    /// The messages in flight, oldest first.
    pub fn unanswered(&self) -> Vec<(u32, Flight)> {
        let numbers = self.first..;
        numbers.zip(&self.slots).filter_map(|(number, slot)| slot.map(|flight| (number, flight))).collect()
    }

    /// Adds a planned message to the backlog; false when it is full.
    pub fn wait(&mut self, flight: Flight) -> bool {
        let room = self.backlog.len() < BACKLOG_MAX;
        if room {
            self.backlog.push_back(flight);
        }
        room
    }

    /// Whether the backlog has messages.
    pub fn has_backlog(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// Removes the oldest message of the backlog.
    pub fn next_waiting(&mut self) -> Option<Flight> {
        self.backlog.pop_front()
    }

    /// Drops the backlog and returns its length.
    pub fn drop_backlog(&mut self) -> u64 {
        let count = self.backlog.len() as u64;
        self.backlog = VecDeque::new();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIGHT: Flight = Flight { room: 3, planned_ns: 5 };

    #[test]
    fn accepts_answers_in_any_order_and_once() {
        let mut flow = Flow::default();
        assert_eq!([flow.begin(FLIGHT), flow.begin(FLIGHT), flow.begin(FLIGHT)], [0, 1, 2]);
        assert_eq!(flow.finish(1), Some(FLIGHT));
        assert_eq!(flow.finish(1), None);
        assert_eq!(flow.finish(3), None);
        assert!(flow.waits(0) && !flow.waits(1) && flow.waits(2));
        assert_eq!(flow.unanswered().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(flow.finish(0), Some(FLIGHT));
        assert_eq!(flow.finish(0), None);
        assert_eq!((flow.in_flight(), flow.begin(FLIGHT)), (1, 3));
    }

    #[test]
    fn the_backlog_is_bounded_and_in_order() {
        let mut flow = Flow::default();
        for planned_ns in 0..BACKLOG_MAX as u64 {
            assert!(flow.wait(Flight { room: 0, planned_ns }));
        }
        assert!(!flow.wait(FLIGHT));
        assert_eq!(flow.next_waiting().map(|flight| flight.planned_ns), Some(0));
        assert_eq!(flow.drop_backlog(), BACKLOG_MAX as u64 - 1);
        assert!(!flow.has_backlog());
    }
}
