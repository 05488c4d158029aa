//! The activity of each of the last seconds, as differences of counters that only grow.
//!
//! Pure: the time is an argument, and the owner of a [`Sampler`] calls [`Sampler::sample`] once a second.
//!
//! Invariants:
//! - **bounded**: it keeps [`SECONDS`] samples, and only the non-zero buckets of a histogram's difference, in 8 bytes
//!   each. Under full load that is some 7 KiB a second: memory grows by 2 MiB in the first five minutes and then stays;
//! - **exact**: the histogram of a window is the sum of its samples' differences. So percentiles cover all events of
//!   the window and are not averages of percentiles;
//! - **never too low**: a percentile is the upper bound of its bucket, at most 1/16 above the exact value.

use super::super::observed::Observed;
use crate::error::ErrorCode;
use crate::latency::{BUCKETS, LatencyStage, RunReason, SizeHistogram, upper_bound_ns};
use crate::mesh::counters::{CloseGroup, MessageOutcome, ShardCounters};
use serde::Serialize;
use std::collections::VecDeque;

/// Samples that are kept: five minutes.
pub const SECONDS: usize = 300;
/// Windows of the percentiles, in samples; 0 means since the start.
pub const WINDOWS: [usize; 4] = [10, 60, SECONDS, 0];
/// Percentiles, in thousandths of a percent.
pub const PERCENTILES: [u32; 14] =
    [10_000, 25_000, 50_000, 75_000, 90_000, 95_000, 97_500, 99_000, 99_500, 99_750, 99_900, 99_950, 99_975, 99_990];
/// The columns of a shard in a sample; all but the first are differences.
pub const SHARD_COLUMNS: [&str; 8] =
    ["connections", "opened", "committed", "delivered", "cross_core", "bytes_in", "bytes_out", "refusals"];
/// Stages whose distribution over time is kept for the heat map.
pub const HEAT_STAGES: [LatencyStage; 3] = [LatencyStage::Ack, LatencyStage::Delivery, LatencyStage::Commit];
/// Buckets that make one row of the heat map: a quarter of a power of two.
const ROW_BUCKETS: usize = 4;

/// Upper bounds of the heat map's rows, nanoseconds.
pub fn row_bounds_ns() -> Vec<u64> {
    (0..BUCKETS).skip(ROW_BUCKETS - 1).step_by(ROW_BUCKETS).map(upper_bound_ns).collect()
}

/// Non-zero buckets: index and count.
type Sparse = Vec<(usize, u64)>;
/// The same as it is kept: no bucket has an index above 2^16, and none grows by 2^32 within a second.
type Kept = Box<[(u16, u32)]>;

fn kept(sparse: &Sparse) -> Kept {
    sparse.iter().map(|(bucket, count)| (*bucket as u16, u32::try_from(*count).unwrap_or(u32::MAX))).collect()
}

/// One second.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Its end, milliseconds since 1970.
    at: u64,
    /// Its length, which under load is more than a second.
    ms: u64,
    /// Per shard, see [`SHARD_COLUMNS`].
    shards: Vec<[u64; SHARD_COLUMNS.len()]>,
    /// Statements that committed, mutations in them, the most in one.
    batches: [u64; 3],
    /// Statements by the reason for which they began, in the order of [`RunReason::ALL`].
    reasons: [u64; RunReason::ALL.len()],
    /// Per stage of [`HEAT_STAGES`]: row, count, row, count …
    heat: [Vec<u64>; HEAT_STAGES.len()],
    /// Refusals: index of the code, count.
    errors: Sparse,
    /// Connections that ended: index of the reason, count.
    closed: Sparse,
    #[serde(skip)]
    stages: [Kept; LatencyStage::ALL.len()],
}

/// All counters at one moment.
struct Reading {
    shards: Vec<[u64; SHARD_COLUMNS.len()]>,
    stages: [Vec<u64>; LatencyStage::ALL.len()],
    batch_sizes: Vec<u64>,
    mutations: u64,
    reasons: [u64; RunReason::ALL.len()],
    errors: Vec<u64>,
    closed: Vec<u64>,
}

impl Reading {
    fn of(observed: &Observed) -> Self {
        let stages = LatencyStage::ALL.map(|stage| {
            let threads = observed.shards.iter().map(|shard| &shard.stages).chain([&observed.storage.stages]);
            let mut counts = vec![0; BUCKETS];
            for thread in threads {
                for (sum, count) in counts.iter_mut().zip(thread.of(stage).counts()) {
                    *sum += count;
                }
            }
            counts
        });
        let over_shards =
            |count: &dyn Fn(&ShardCounters) -> u64| observed.shards.iter().map(|shard| count(shard)).sum();
        Self {
            shards: observed.shards.iter().map(|shard| columns(shard)).collect(),
            stages,
            batch_sizes: observed.storage.batch_sizes.counts(),
            mutations: observed.storage.batch_sizes.sum(),
            reasons: RunReason::ALL.map(|reason| observed.storage.reasons.of(reason)),
            errors: ErrorCode::ALL.iter().map(|code| over_shards(&|shard| shard.errors(*code))).collect(),
            closed: CloseGroup::ALL.iter().map(|group| over_shards(&|shard| shard.closed(*group))).collect(),
        }
    }
}

fn columns(shard: &ShardCounters) -> [u64; SHARD_COLUMNS.len()] {
    [
        shard.connections_active.get(),
        shard.connections_opened.get(),
        shard.messages(MessageOutcome::Committed),
        shard.events_delivered.get(),
        shard.deliveries_cross_core.get(),
        shard.bytes_in.get(),
        shard.bytes_out.get(),
        ErrorCode::ALL.iter().map(|code| shard.errors(*code)).sum(),
    ]
}

/// The growth between two readings. Saturating, because a reading is not atomic.
fn grown(before: &[u64], after: &[u64]) -> Sparse {
    let differences = before.iter().zip(after).map(|(before, after)| after.saturating_sub(*before));
    differences.enumerate().filter(|(_, count)| *count > 0).collect()
}

/// Records samples and keeps the last [`SECONDS`].
pub struct Sampler {
    observed: Observed,
    previous: Reading,
    samples: VecDeque<Sample>,
}

impl Sampler {
    /// The first sample will cover the time from now on.
    pub fn new(observed: Observed) -> Self {
        let previous = Reading::of(&observed);
        Self { observed, previous, samples: VecDeque::with_capacity(SECONDS) }
    }

    /// Records the second that ends at `at` (milliseconds since 1970), `ms` after the previous one.
    pub fn sample(&mut self, at: u64, ms: u64) {
        let now = Reading::of(&self.observed);
        let before = std::mem::replace(&mut self.previous, now);
        let now = &self.previous;
        let stages: [Sparse; LatencyStage::ALL.len()] =
            std::array::from_fn(|stage| grown(&before.stages[stage], &now.stages[stage]));
        let batches = grown(&before.batch_sizes, &now.batch_sizes);
        let shards = before.shards.iter().zip(&now.shards).map(|(before, now)| {
            let mut columns: [u64; SHARD_COLUMNS.len()] = std::array::from_fn(|i| now[i].saturating_sub(before[i]));
            columns[0] = now[0];
            columns
        });
        if self.samples.len() == SECONDS {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at,
            ms,
            shards: shards.collect(),
            batches: [
                batches.iter().map(|(_, count)| count).sum(),
                now.mutations.saturating_sub(before.mutations),
                batches.last().map_or(0, |(bucket, _)| SizeHistogram::largest_in(*bucket)),
            ],
            reasons: std::array::from_fn(|at| now.reasons[at].saturating_sub(before.reasons[at])),
            heat: HEAT_STAGES.map(|stage| rows(&stages[stage as usize])),
            errors: grown(&before.errors, &now.errors),
            closed: grown(&before.closed, &now.closed),
            stages: stages.each_ref().map(kept),
        });
    }

    /// The samples, oldest first.
    pub fn samples(&self) -> &VecDeque<Sample> {
        &self.samples
    }

    /// The observed counters.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Refusals since the start, in the order of [`ErrorCode::ALL`], as of the last sample.
    pub fn errors(&self) -> &[u64] {
        &self.previous.errors
    }

    /// Connections that ended since the start, in the order of [`CloseGroup::ALL`], as of the last sample.
    pub fn closed(&self) -> &[u64] {
        &self.previous.closed
    }

    /// Per window and stage: see [`summary`].
    pub fn summaries(&self) -> Vec<Vec<Vec<u64>>> {
        let window =
            |seconds: usize| LatencyStage::ALL.iter().map(|stage| summary(&self.counts(*stage, seconds))).collect();
        WINDOWS.map(window).into()
    }

    /// A stage's counts per bucket over the last `seconds` samples; 0: since the start.
    fn counts(&self, stage: LatencyStage, seconds: usize) -> Vec<u64> {
        if seconds == 0 {
            return self.previous.stages[stage as usize].clone();
        }
        let mut counts = vec![0; BUCKETS];
        for sample in self.samples.iter().rev().take(seconds) {
            for (bucket, count) in &sample.stages[stage as usize] {
                counts[usize::from(*bucket)] += u64::from(*count);
            }
        }
        counts
    }
}

/// Sums neighbouring buckets into rows, flat: row, count, row, count …
fn rows(sparse: &Sparse) -> Vec<u64> {
    let mut rows: Vec<u64> = Vec::new();
    for (bucket, count) in sparse {
        let row = (bucket / ROW_BUCKETS) as u64;
        match rows.as_mut_slice() {
            [.., last, sum] if *last == row => *sum += count,
            _ => rows.extend([row, *count]),
        }
    }
    rows
}

/// The count, then each of [`PERCENTILES`] and the largest value in nanoseconds. Only the count if it is 0.
fn summary(counts: &[u64]) -> Vec<u64> {
    let total: u64 = counts.iter().sum();
    let mut summary = vec![total];
    let (mut below, mut bucket) = (0, 0);
    for percentile in PERCENTILES.iter().chain([&100_000]).take_while(|_| total > 0) {
        let rank = (u128::from(total) * u128::from(*percentile)).div_ceil(100_000) as u64;
        while below + counts[bucket] < rank {
            below += counts[bucket];
            bucket += 1;
        }
        summary.push(upper_bound_ns(bucket));
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::time::Duration;

    fn observed() -> Observed {
        let shards = (0..2).map(|_| Arc::new(ShardCounters::new(&["ping"]))).collect();
        Observed::of_shards(shards)
    }

    #[test]
    fn a_sample_covers_the_time_since_the_previous_one() {
        let observed = observed();
        let (first, second) = (&observed.shards[0], &observed.shards[1]);
        first.message(MessageOutcome::Committed);
        second.connection_opened();
        let mut sampler = Sampler::new(observed.clone());
        first.message(MessageOutcome::Committed);
        first.message(MessageOutcome::Committed);
        first.error(ErrorCode::RateLimited);
        second.connection_opened();
        second.bytes_in.add(7);
        second.connection_closed(4003);
        observed.storage.batch_sizes.record(3);
        observed.storage.batch_sizes.record(5);
        observed.storage.reasons.add(RunReason::Idle);
        observed.storage.reasons.add(RunReason::Gathered);
        sampler.sample(1_000, 1_000);
        sampler.sample(2_000, 1_000);
        let [one, nothing] = [0, 1].map(|at| &sampler.samples()[at]);
        assert_eq!(one.shards, [[0, 0, 2, 0, 0, 0, 0, 1], [1, 1, 0, 0, 0, 7, 0, 0]]);
        assert_eq!((one.batches, one.reasons), ([2, 8, 5], [1, 1, 0, 0]));
        assert_eq!(one.errors, [(ErrorCode::RateLimited as usize, 1)]);
        assert_eq!(one.closed, [(CloseGroup::TooSlow as usize, 1)]);
        assert_eq!(nothing.shards, [[0; 8], [1, 0, 0, 0, 0, 0, 0, 0]], "a gauge stays, the rest has not grown");
        assert_eq!((nothing.batches, nothing.reasons), ([0; 3], [0; 4]));
        assert_eq!((nothing.errors.len(), nothing.closed.len()), (0, 0));
        assert_eq!(sampler.errors()[ErrorCode::RateLimited as usize], 1);
    }

    #[test]
    fn keeps_five_minutes() {
        let mut sampler = Sampler::new(observed());
        for second in 0..SECONDS as u64 + 7 {
            sampler.sample(second, 1_000);
        }
        assert_eq!((sampler.samples().len(), sampler.samples()[0].at), (SECONDS, 7));
    }

    #[test]
    fn a_window_sums_all_threads_and_drops_older_samples() {
        let observed = observed();
        let mut sampler = Sampler::new(observed.clone());
        let ack =
            |shard: usize, us| observed.shards[shard].stages.record(LatencyStage::Ack, Duration::from_micros(us), 1);
        ack(0, 50_000);
        sampler.sample(0, 1_000);
        for second in 1..=10 {
            ack(0, 100);
            ack(1, 100);
            sampler.sample(second, 1_000);
        }
        let summaries = sampler.summaries();
        let of = |window: usize| &summaries[window][LatencyStage::Ack as usize];
        let largest = |window: usize| *of(window).last().unwrap() / 1_000;
        assert_eq!([0, 1, 2, 3].map(|window| of(window)[0]), [20, 21, 21, 21]);
        assert!(largest(0) < 110 && largest(1) >= 50_000 && largest(3) >= 50_000);
        assert_eq!(summaries[0][LatencyStage::Decode as usize], [0], "a stage without samples has no percentiles");
        let heat = &sampler.samples()[1].heat;
        assert_eq!((heat[0].len(), heat[0][1], heat[1].len()), (2, 2, 0));
        let row = heat[0][0] as usize;
        assert!((row_bounds_ns()[row - 1]..row_bounds_ns()[row]).contains(&100_000));
    }

    proptest! {
        #[test]
        fn percentiles_are_those_of_the_sorted_values(mut us in prop::collection::vec(1u64..10_000_000, 1..400)) {
            let histogram = crate::latency::LatencyHistogram::default();
            for us in &us {
                histogram.record(Duration::from_micros(*us), 1);
            }
            us.sort_unstable();
            let summary = summary(&histogram.counts());
            prop_assert_eq!(summary.len(), 1 + PERCENTILES.len() + 1);
            for (percentile, found) in PERCENTILES.iter().chain([&100_000]).zip(&summary[1..]) {
                let rank = (us.len() * *percentile as usize).div_ceil(100_000);
                let exact = us[rank - 1] * 1_000;
                prop_assert!(*found >= exact && *found <= exact + exact / 16 + 128, "{percentile}: {found} {exact}");
            }
        }
    }
}
