//! Merges what the threads measured, second by second and in total.
//!
//! A second is complete when every thread has reported it. Until then it waits here, so memory grows with the
//! differences between threads and not with the run. Only the per-second histograms for the .hlog stay, with two
//! digits.

use super::gauge::CoreUsage;
use crate::engine::recorder::{Findings, Interval, LATENCY_MAX_US, Part, Tally};
use crate::result::Second;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// A generator thread that used more of a core than this was the limit.
const BUSY_SHARE: f64 = 0.9;
const SECOND_NS: u64 = 1_000_000_000;

/// Both latencies of one second, with two digits.
#[derive(Debug, Clone)]
pub struct SecondHistograms {
    /// Seconds since sending began, at its start.
    pub at_s: u32,
    /// Acknowledgements.
    pub ack: Histogram<u64>,
    /// Deliveries.
    pub delivery: Histogram<u64>,
}

/// What is known so far.
#[derive(Debug)]
pub struct Collected {
    threads: usize,
    waiting: BTreeMap<(Part, u32), (Interval, usize)>,
    /// Everything in total.
    pub total: Interval,
    /// Counts of the time of sending, over which the processes' CPU is measured, too.
    pub window: Tally,
    /// Complete seconds of sending.
    pub seconds: Vec<Second>,
    /// Their histograms.
    pub histograms: Vec<SecondHistograms>,
    /// How busy the engine's threads were.
    pub busy: Busy,
    /// Findings apart from latencies.
    pub findings: Findings,
    /// CPU and memory, by second.
    pub cores: BTreeMap<u32, CoreUsage>,
    /// Acks by second, for the steps of a search.
    acks: BTreeMap<u32, (u64, Histogram<u64>)>,
    keep_acks: bool,
}

impl Collected {
    /// An empty collection for `threads` threads and `classes` classes. `keep_acks` keeps the acks per second for
    /// [`acks`](Self::acks).
    pub fn new(threads: usize, classes: usize, keep_acks: bool) -> Result<Self, String> {
        Ok(Self {
            threads,
            waiting: BTreeMap::new(),
            total: Interval::new(0, classes)?,
            seconds: Vec::new(),
            histograms: Vec::new(),
            busy: Busy::default(),
            window: Tally::default(),
            findings: Findings::default(),
            cores: BTreeMap::new(),
            acks: BTreeMap::new(),
            keep_acks,
        })
    }

    /// Adds one second of a thread.
    pub fn add(&mut self, interval: Interval) -> Result<(), String> {
        self.busy.add(&interval);
        let key = (interval.part, interval.index);
        match self.waiting.get_mut(&key) {
            Some((merged, count)) => {
                merged.merge(&interval)?;
                *count += 1;
            }
            None => drop(self.waiting.insert(key, (interval, 1))),
        }
        while let Some(entry) = self.waiting.first_entry() {
            if entry.get().1 < self.threads {
                break;
            }
            let (interval, _) = entry.remove();
            self.whole(&interval)?;
        }
        Ok(())
    }

    /// Nothing more will arrive: merges the seconds that are still incomplete.
    pub fn end(&mut self) -> Result<(), String> {
        while let Some((_, (interval, _))) = self.waiting.pop_first() {
            self.whole(&interval)?;
        }
        Ok(())
    }

    fn whole(&mut self, interval: &Interval) -> Result<(), String> {
        self.total.merge(interval)?;
        match interval.part {
            Part::Connecting => return Ok(()),
            Part::Sending => {}
            Part::Draining => return self.add_histograms(interval),
        }
        self.window += interval.tally;
        let ack = sum(&interval.ack, 3)?;
        let delivery = sum(&interval.delivery, 3)?;
        let at_s = f64::from(interval.index) + 1.0;
        self.seconds.push(Second {
            at_s,
            planned: interval.tally.planned,
            sent: interval.tally.sent,
            acked: interval.tally.acked,
            delivered: interval.tally.delivered,
            ack_p50_us: ack.value_at_quantile(0.5),
            ack_p99_us: ack.value_at_quantile(0.99),
            ack_max_us: ack.max(),
            delivery_p50_us: delivery.value_at_quantile(0.5),
            delivery_p99_us: delivery.value_at_quantile(0.99),
            delivery_max_us: delivery.max(),
            ..Second::default()
        });
        self.add_histograms(interval)?;
        if self.keep_acks {
            self.acks.insert(interval.index, (interval.tally.acked, ack));
        }
        Ok(())
    }

    fn add_histograms(&mut self, interval: &Interval) -> Result<(), String> {
        let (ack, delivery) = (sum(&interval.ack, 2)?, sum(&interval.delivery, 2)?);
        match self.histograms.last_mut() {
            // The second in which sending ended is reported twice: the part before and the part after.
            Some(last) if last.at_s == interval.index => {
                let merged = last.ack.add(&ack).and_then(|()| last.delivery.add(&delivery));
                merged.map_err(|error| format!("cannot merge histograms: {error}"))?;
            }
            _ => self.histograms.push(SecondHistograms { at_s: interval.index, ack, delivery }),
        }
        Ok(())
    }

    /// The newest complete second of sending.
    pub fn newest(&self) -> Option<u32> {
        self.seconds.last().map(|second| second.at_s as u32 - 1)
    }

    /// Acknowledgements in the given seconds: their number and their latency.
    pub fn acks(&self, seconds: std::ops::Range<u32>) -> Result<(u64, Histogram<u64>), String> {
        let mut count = 0;
        let mut all = crate::engine::recorder::histogram()?;
        for (acked, histogram) in self.acks.range(seconds).map(|(_, second)| second) {
            count += acked;
            all.add(histogram).map_err(|error| format!("cannot merge histograms: {error}"))?;
        }
        Ok((count, all))
    }

    /// The time line of the first `seconds` seconds, with CPU and memory.
    pub fn timeline(&self, seconds: f64) -> Vec<Second> {
        let within = self.seconds.iter().filter(|second| second.at_s <= seconds.ceil());
        let with_cores = |second: &Second| {
            let mut second = second.clone();
            if let Some(cores) = self.cores.get(&((second.at_s - 1.0) as u32)) {
                cores.put_into(&mut second);
            }
            second
        };
        within.map(with_cores).collect()
    }
}

/// How busy the engine's threads were in each second. A mean over the run would hide the seconds in which a thread was
/// the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Busy {
    /// Seconds of sending, counted for each thread.
    pub seconds: u32,
    /// Those in which the thread used more than [`BUSY_SHARE`] of a core.
    pub at_the_limit: u32,
    /// The most that a thread used in a second, in cores.
    pub most: f64,
}

impl Busy {
    fn add(&mut self, interval: &Interval) {
        // A fraction of a second is too short for a share.
        if interval.part != Part::Sending || interval.length_ns < SECOND_NS / 2 {
            return;
        }
        let share = interval.cpu_ns as f64 / interval.length_ns as f64;
        self.seconds += 1;
        self.at_the_limit += u32::from(share > BUSY_SHARE);
        self.most = self.most.max(share);
    }

    /// Whether the generator was the limit. One busy second may be chance, unless it was the only second.
    pub fn is_limit(&self) -> bool {
        self.at_the_limit > 0 && (self.at_the_limit > 1 || self.seconds == 1)
    }
}

/// Several histograms as one.
pub fn sum(histograms: &[Histogram<u64>], digits: u8) -> Result<Histogram<u64>, String> {
    let mut sum = Histogram::new_with_bounds(1, LATENCY_MAX_US, digits).map_err(|error| error.to_string())?;
    for histogram in histograms {
        sum.add(histogram).map_err(|error| format!("cannot merge histograms: {error}"))?;
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(index: u32, thread: usize, acked: u64) -> Interval {
        let mut interval = Interval::new(index, 1).expect("histograms");
        interval.part = Part::Sending;
        interval.thread = thread;
        interval.tally.acked = acked;
        for _ in 0..acked {
            interval.ack[0].saturating_record(100 * (u64::from(index) + 1));
        }
        interval
    }

    #[test]
    fn completes_a_second_when_every_thread_has_reported_it() {
        let mut collected = Collected::new(2, 1, true).expect("histograms");
        collected.add(interval(0, 0, 3)).expect("same bounds");
        collected.add(interval(1, 0, 5)).expect("same bounds");
        assert_eq!(collected.newest(), None);
        collected.add(interval(0, 1, 4)).expect("same bounds");
        assert_eq!((collected.newest(), collected.seconds[0].acked), (Some(0), 7));
        collected.end().expect("same bounds");
        assert_eq!((collected.seconds[1].acked, collected.total.tally.acked), (5, 12));
        let (count, latency) = collected.acks(1..2).expect("same bounds");
        assert_eq!((count, latency.len(), latency.max()), (5, 5, 200));
        assert_eq!(collected.timeline(1.0).len(), 1);
    }

    #[test]
    fn excludes_connecting_and_draining_from_the_window() {
        let mut collected = Collected::new(2, 1, true).expect("histograms");
        for (part, index, acked) in
            [(Part::Connecting, 0, 1), (Part::Sending, 0, 10), (Part::Sending, 1, 4), (Part::Draining, 1, 100)]
        {
            for thread in 0..2 {
                collected.add(Interval { part, ..interval(index, thread, acked) }).expect("same bounds");
            }
        }
        collected.end().expect("same bounds");
        assert_eq!((collected.window.acked, collected.total.tally.acked), (28, 230));
        let timeline = collected.timeline(1.5);
        assert_eq!(timeline.iter().map(|second| second.acked).sum::<u64>(), 28, "{timeline:?}");
        let lengths: Vec<_> = collected.histograms.iter().map(|second| (second.at_s, second.ack.len())).collect();
        assert_eq!(lengths, [(0, 20), (1, 208)], "latencies of the drain count, in their second");
        assert_eq!(collected.acks(1..2).expect("same bounds").0, 8);
    }

    #[test]
    fn shows_a_thread_at_its_limit_despite_a_low_mean() {
        let mut busy = Busy::default();
        let mut add = |part, cpu_ms: u64, length_ms: u64| {
            let (cpu_ns, length_ns) = (cpu_ms * 1_000_000, length_ms * 1_000_000);
            busy.add(&Interval { part, cpu_ns, length_ns, ..interval(0, 0, 0) });
            busy.is_limit()
        };
        assert!(!add(Part::Draining, 990, 1000), "not while draining");
        assert!(!add(Part::Sending, 10, 10), "too short to say");
        for _ in 0..20 {
            assert!(!add(Part::Sending, 100, 1000));
        }
        assert!(!add(Part::Sending, 950, 1000), "once may be chance");
        assert!(add(Part::Sending, 930, 1000));
        assert_eq!((busy.seconds, busy.at_the_limit), (22, 2));
    }
}
