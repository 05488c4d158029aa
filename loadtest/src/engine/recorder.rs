//! What one engine thread measures: counters and histograms, passed to the main thread every second.
//!
//! Invariants:
//! - a thread writes only to its own recorder, so a delivery needs no lock and no atomic;
//! - each latency is recorded once, in the interval in which it ends. Totals are sums of intervals, so the time line
//!   and the summary cannot disagree;
//! - latencies are in microseconds and saturate at [`LATENCY_MAX_US`]. A stall is recorded as at least that and never
//!   dropped.

use crate::violations::Violations;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;

/// Longest latency that histograms distinguish, microseconds: an hour.
pub const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Most error codes that are counted separately: a server that invents codes must not fill the memory.
const CODES_MAX: usize = 100;

/// An empty histogram of latencies.
pub fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).map_err(|error| format!("cannot make a histogram: {error}"))
}

/// Nanoseconds as a histogram counts them: whole microseconds, at least one.
pub fn microseconds(ns: u64) -> u64 {
    (ns / 1000).max(1)
}

/// Counters.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// Messages due by the plan.
    pub planned: u64,
    /// Messages written, repetitions not counted.
    pub sent: u64,
    /// Messages written again after a reconnection.
    pub resent: u64,
    /// Planned, never written.
    pub unsent: u64,
    /// Planned while the server had asked the connection to wait, and not written for that reason.
    pub held_back: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Messages refused.
    pub refused: u64,
    /// This run's messages that reached a subscriber.
    pub delivered: u64,
    /// Events that are not this run's messages.
    pub other_events: u64,
    /// Other commands answered.
    pub other_commands: u64,
    /// Connections lost.
    pub lost: u64,
    /// Connections restored.
    pub restored: u64,
    /// Times the server sent a connection `lagging`.
    pub lagging: u64,
    /// Times the server sent a connection `reset`.
    pub resets: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.planned += other.planned;
        self.sent += other.sent;
        self.resent += other.resent;
        self.unsent += other.unsent;
        self.held_back += other.held_back;
        self.acked += other.acked;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.other_events += other.other_events;
        self.other_commands += other.other_commands;
        self.lost += other.lost;
        self.restored += other.restored;
        self.lagging += other.lagging;
        self.resets += other.resets;
        self.received_bytes += other.received_bytes;
    }
}

/// The part of a run that an interval belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// Until the first load.
    Connecting,
    /// From the first planned send to the end of sending. Rates and shares of CPU cover only this part.
    Sending,
    /// Messages in flight arrive.
    Draining,
}

/// What one thread measured in one second, or in the part of it that belongs to one part of the run.
#[derive(Clone, Debug)]
pub struct Interval {
    /// Which part of the run it belongs to.
    pub part: Part,
    /// Which second since sending began.
    pub index: u32,
    /// Which thread measured it.
    pub thread: usize,
    /// What was counted.
    pub tally: Tally,
    /// Planned send → acknowledgement, by class of room.
    pub ack: Vec<Histogram<u64>>,
    /// Planned send → arrival at a subscriber, by class of room; the last is that of slow readers, when there are any.
    pub delivery: Vec<Histogram<u64>>,
    /// Planned send → written, of messages that no window delayed.
    pub send_lag: Histogram<u64>,
    /// CPU the thread used in it.
    pub cpu_ns: u64,
    /// Its length in nanoseconds.
    pub length_ns: u64,
}

impl Interval {
    /// An empty interval for `classes` classes.
    pub fn new(index: u32, classes: usize) -> Result<Self, String> {
        let by_class = || (0..classes).map(|_| histogram()).collect::<Result<Vec<_>, _>>();
        Ok(Self {
            part: Part::Connecting,
            index,
            thread: 0,
            tally: Tally::default(),
            ack: by_class()?,
            delivery: by_class()?,
            send_lag: histogram()?,
            cpu_ns: 0,
            length_ns: 0,
        })
    }

    /// Adds another's figures to these.
    pub fn merge(&mut self, other: &Self) -> Result<(), String> {
        self.tally += other.tally;
        self.cpu_ns += other.cpu_ns;
        let pairs = self.ack.iter_mut().zip(&other.ack);
        let pairs = pairs.chain(self.delivery.iter_mut().zip(&other.delivery));
        for (into, from) in pairs.chain([(&mut self.send_lag, &other.send_lag)]) {
            into.add(from).map_err(|error| format!("cannot merge histograms: {error}"))?;
        }
        Ok(())
    }
}

/// What a thread found apart from latencies, reported when it ends.
#[derive(Debug, Default)]
pub struct Findings {
    /// Error replies by code.
    pub errors: BTreeMap<String, u64>,
    /// Times of operations by name.
    pub operations: BTreeMap<&'static str, Histogram<u64>>,
    /// Violations that do not concern one room.
    pub violations: Violations,
}

impl Findings {
    /// Counts an error reply by its code.
    pub fn error(&mut self, code: &str) {
        let code = if self.errors.len() < CODES_MAX || self.errors.contains_key(code) { code } else { "(other)" };
        match self.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(code.to_owned(), 1)),
        }
    }

    /// Records the time of an operation.
    pub fn operation(&mut self, name: &'static str, took_ns: u64) {
        if !self.operations.contains_key(name)
            && let Ok(empty) = histogram()
        {
            self.operations.insert(name, empty);
        }
        if let Some(histogram) = self.operations.get_mut(name) {
            histogram.saturating_record(microseconds(took_ns));
        }
    }

    /// Adds another's findings to these.
    pub fn merge(&mut self, other: Self) -> Result<(), String> {
        for (code, count) in other.errors {
            *self.errors.entry(code).or_default() += count;
        }
        for (name, theirs) in other.operations {
            match self.operations.get_mut(name) {
                Some(ours) => ours.add(&theirs).map_err(|error| format!("cannot merge histograms: {error}"))?,
                None => drop(self.operations.insert(name, theirs)),
            }
        }
        self.violations.merge(other.violations);
        Ok(())
    }
}

/// One thread's recorder.
#[derive(Debug)]
pub struct Recorder {
    /// The current second.
    pub now: Interval,
    /// Everything apart from latencies.
    pub findings: Findings,
    class_of_room: Arc<[u8]>,
    slow_class: usize,
}

impl Recorder {
    /// A recorder for rooms of `classes` classes in total; the last one is for slow readers.
    pub fn new(class_of_room: Arc<[u8]>, classes: usize) -> Result<Self, String> {
        let slow_class = classes.saturating_sub(1);
        Ok(Self { now: Interval::new(0, classes)?, findings: Findings::default(), class_of_room, slow_class })
    }

    /// Ends the current interval, returns it, and begins number `index` of the given part.
    pub fn turn(&mut self, part: Part, index: u32) -> Result<Interval, String> {
        let next = Interval { part, ..Interval::new(index, self.now.ack.len())? };
        Ok(std::mem::replace(&mut self.now, next))
    }

    fn class(&self, room: u32) -> usize {
        self.class_of_room.get(room as usize).map_or(0, |class| usize::from(*class))
    }

    /// A message was acknowledged.
    #[inline]
    pub fn acked(&mut self, room: u32, took_ns: u64) {
        self.now.tally.acked += 1;
        let class = self.class(room);
        if let Some(histogram) = self.now.ack.get_mut(class) {
            histogram.saturating_record(microseconds(took_ns));
        }
    }

    /// A message was delivered.
    #[inline]
    pub fn delivered(&mut self, room: u32, slow: bool, took_ns: u64) {
        self.now.tally.delivered += 1;
        let class = if slow { self.slow_class } else { self.class(room) };
        if let Some(histogram) = self.now.delivery.get_mut(class) {
            histogram.saturating_record(microseconds(took_ns));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_add_up_and_classes_stay_apart() {
        let mut recorder = Recorder::new(Arc::from([0_u8, 1]), 3).expect("histograms");
        recorder.acked(1, 5_000);
        recorder.delivered(0, false, 7_000);
        recorder.delivered(0, true, 9_000_000);
        let mut first = recorder.turn(Part::Sending, 1).expect("histograms");
        assert_eq!((first.index, first.ack[1].max(), first.ack[0].len()), (0, 5, 0));
        assert_eq!([0, 1, 2].map(|class| first.delivery[class].len()), [1, 0, 1]);
        recorder.delivered(1, false, 1);
        let second = recorder.turn(Part::Sending, 2).expect("histograms");
        assert_eq!(second.delivery[1].max(), 1);
        first.merge(&second).expect("same bounds");
        assert_eq!((first.tally.delivered, first.tally.acked), (3, 1));
        assert_eq!(first.delivery[1].len(), 1);
    }

    #[test]
    fn invented_codes_are_bounded() {
        let mut findings = Findings::default();
        (0..500).for_each(|n| findings.error(&format!("code_{n}")));
        findings.error("code_7");
        assert_eq!((findings.errors["code_7"], findings.errors["(other)"]), (2, 400));
    }
}
