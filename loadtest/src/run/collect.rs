//! Puts what the threads measured together: second by second, and in all.
//!
//! A second is whole when every thread has handed it in; until then it waits here, so memory grows with the threads'
//! differences and not with the run. Only the per-second histograms for the .hlog stay, with two digits.

use super::gauge::Cores;
use crate::engine::recorder::{Findings, Interval, LATENCY_MAX_US};
use crate::result::Second;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

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
    waiting: BTreeMap<u32, (Interval, usize)>,
    /// Everything in all.
    pub total: Interval,
    /// Seconds that are whole.
    pub seconds: Vec<Second>,
    /// Their histograms.
    pub histograms: Vec<SecondHistograms>,
    /// CPU by thread.
    pub thread_cpu_ns: Vec<u64>,
    /// Findings beside latencies.
    pub findings: Findings,
    /// CPU and memory, by second.
    pub cores: BTreeMap<u32, Cores>,
    /// Acks by second, for the steps of a search.
    acks: BTreeMap<u32, (u64, Histogram<u64>)>,
    keep_acks: bool,
}

impl Collected {
    /// Nothing from `threads` threads, in `classes` classes. `keep_acks` keeps what [`acks`](Self::acks) answers.
    pub fn new(threads: usize, classes: usize, keep_acks: bool) -> Result<Self, String> {
        Ok(Self {
            threads,
            waiting: BTreeMap::new(),
            total: Interval::new(0, classes)?,
            seconds: Vec::new(),
            histograms: Vec::new(),
            thread_cpu_ns: vec![0; threads],
            findings: Findings::default(),
            cores: BTreeMap::new(),
            acks: BTreeMap::new(),
            keep_acks,
        })
    }

    /// A thread's second.
    pub fn add(&mut self, interval: Interval) -> Result<(), String> {
        if let Some(cpu_ns) = self.thread_cpu_ns.get_mut(interval.thread) {
            *cpu_ns += interval.cpu_ns;
        }
        let index = interval.index;
        match self.waiting.get_mut(&index) {
            Some((merged, count)) => {
                merged.merge(&interval)?;
                *count += 1;
            }
            None => drop(self.waiting.insert(index, (interval, 1))),
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

    /// Nothing more will come: what waits is as whole as it gets.
    pub fn end(&mut self) -> Result<(), String> {
        while let Some((_, (interval, _))) = self.waiting.pop_first() {
            self.whole(&interval)?;
        }
        Ok(())
    }

    fn whole(&mut self, interval: &Interval) -> Result<(), String> {
        self.total.merge(interval)?;
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
        self.histograms.push(SecondHistograms {
            at_s: interval.index,
            ack: sum(&interval.ack, 2)?,
            delivery: sum(&interval.delivery, 2)?,
        });
        if self.keep_acks {
            self.acks.insert(interval.index, (interval.tally.acked, ack));
        }
        Ok(())
    }

    /// The newest whole second.
    pub fn newest(&self) -> Option<u32> {
        self.histograms.last().map(|second| second.at_s)
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
        interval.thread = thread;
        interval.tally.acked = acked;
        for _ in 0..acked {
            interval.ack[0].saturating_record(100 * (u64::from(index) + 1));
        }
        interval
    }

    #[test]
    fn seconds_are_whole_when_every_thread_has_handed_them_in() {
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
}
