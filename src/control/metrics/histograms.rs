//! A thread's fine histograms as Prometheus histograms: every second power of √2, counted exactly.

use super::families::{family, labels, sample};
use crate::latency::{
    BUCKETS, CommitForm, LatencyHistogram, LatencyStage, RunReason, SizeHistogram, StageLatencies, StorageLatencies,
    upper_bound_ns,
};
use crate::mesh::counters::ShardCounters;
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};
use std::sync::Arc;

/// Times below this share the first bucket: 512 ns.
const FIRST_BOUND_NS: u64 = 1 << 9;
/// The last bound, 17 s, is followed by "more".
const LAST_BOUND_NS: u64 = 1 << 34;

/// A power of two, or one and a half of one.
fn is_round(n: u64) -> bool {
    n.is_power_of_two() || (n.is_multiple_of(3) && (n / 3).is_power_of_two())
}

/// The upper bounds of the exported time buckets in seconds, for histograms that another part of the program fills.
pub(super) fn time_bounds_seconds() -> Vec<f64> {
    time_buckets().map(|bucket| upper_bound_ns(bucket) as f64 / 1e9).collect()
}

fn time_buckets() -> impl Iterator<Item = usize> {
    (0..BUCKETS).filter(|bucket| {
        let bound = upper_bound_ns(*bucket);
        (FIRST_BOUND_NS..=LAST_BOUND_NS).contains(&bound) && is_round(bound)
    })
}

/// A metric of times from several threads together; `None` when nothing was recorded.
pub(super) fn times<'a>(
    pairs: &[(&str, &str)],
    histograms: impl Iterator<Item = &'a LatencyHistogram>,
) -> Option<Metric> {
    let mut counts = vec![0; BUCKETS];
    let mut sum = 0.0;
    for histogram in histograms {
        for (total, count) in counts.iter_mut().zip(histogram.counts()) {
            *total += count;
        }
        sum += histogram.sum_seconds();
    }
    let bounds = time_buckets().map(|bucket| (bucket, upper_bound_ns(bucket) as f64 / 1e9));
    metric(pairs, &counts, bounds, sum)
}

fn sizes(pairs: &[(&str, &str)], histogram: &SizeHistogram) -> Option<Metric> {
    let buckets = (0..BUCKETS).map(|bucket| (bucket, SizeHistogram::largest_in(bucket)));
    // 1, 2, 3, 5, 7, 11, 15, 23, …: the largest size below each round one.
    let round = buckets.filter(|(_, largest)| *largest > 0 && *largest < 1 << 16 && is_round(largest + 1));
    let bounds = round.map(|(bucket, largest)| (bucket, largest as f64));
    metric(pairs, &histogram.counts(), bounds, histogram.sum() as f64)
}

fn metric(
    pairs: &[(&str, &str)],
    counts: &[u64],
    bounds: impl Iterator<Item = (usize, f64)>,
    sum: f64,
) -> Option<Metric> {
    let total: u64 = counts.iter().sum();
    // Unused histograms would only make the page longer.
    if total == 0 {
        return None;
    }
    let (mut cumulative, mut from) = (0, 0);
    let buckets = bounds.map(|(bucket, bound)| {
        cumulative += counts[from..=bucket].iter().sum::<u64>();
        from = bucket + 1;
        let mut out = Bucket::default();
        out.set_upper_bound(bound);
        out.set_cumulative_count(cumulative);
        out
    });
    let mut value = Histogram::default();
    value.set_bucket(buckets.collect());
    value.set_sample_count(total);
    value.set_sample_sum(sum);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_histogram(value);
    Some(metric)
}

/// The stages of a message's life per shard, and the commits of the I/O shard.
pub(super) fn families(shards: &[Arc<ShardCounters>], storage: &StorageLatencies) -> Vec<MetricFamily> {
    let threads = shards.iter().enumerate().map(|(shard, counters)| (shard.to_string(), &counters.stages));
    let threads: Vec<(String, &StageLatencies)> = threads.chain([("storage".to_owned(), &storage.stages)]).collect();
    let mut stages = Vec::new();
    for (thread, latencies) in &threads {
        for stage in LatencyStage::ALL {
            let pairs = [("stage", stage.as_str()), ("shard", thread.as_str())];
            stages.extend(times(&pairs, [&**latencies.of(stage)].into_iter()));
        }
    }
    let histogram = |name, help, metrics| family(name, help, MetricType::HISTOGRAM, metrics);
    vec![
        histogram(
            "chat_server_stage_duration_seconds",
            "Time that messages spend in each stage of their life.",
            stages,
        ),
        histogram(
            "chat_server_commit_duration_seconds",
            "Duration of each statement that made mutations durable.",
            times(&[], [&storage.commits].into_iter()).into_iter().collect(),
        ),
        histogram(
            "chat_server_commit_batch_mutations",
            "Mutations made durable by one statement.",
            sizes(&[], &storage.batch_sizes).into_iter().collect(),
        ),
        family(
            "chat_server_commit_messages_total",
            "Messages by the form of their commit.",
            MetricType::COUNTER,
            CommitForm::ALL
                .map(|form| sample(&[("form", form.as_str())], MetricType::COUNTER, storage.forms.of(form) as f64))
                .to_vec(),
        ),
        family(
            "chat_server_commit_statements_total",
            "Statements that committed mutations by the reason for which they began.",
            MetricType::COUNTER,
            RunReason::ALL
                .map(|reason| {
                    let began = storage.reasons.of(reason) as f64;
                    sample(&[("reason", reason.as_str())], MetricType::COUNTER, began)
                })
                .to_vec(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn exported_counts_are_exact_at_every_bound() {
        let histogram = LatencyHistogram::default();
        let durations = [0, 511, 512, 1_023, 1_024, 1_535, 1_536, 5_000_000, 20_000_000_000];
        for ns in durations {
            histogram.record(Duration::from_nanos(ns), 1);
        }
        let metric = times(&[], [&histogram].into_iter()).unwrap();
        for bucket in metric.get_histogram().get_bucket() {
            let below = durations.iter().filter(|ns| (**ns as f64) < bucket.upper_bound() * 1e9).count() as u64;
            assert_eq!(bucket.cumulative_count(), below, "below {} s", bucket.upper_bound());
        }
        assert_eq!(metric.get_histogram().get_sample_count(), 9);
        assert_eq!(time_bounds_seconds().first(), Some(&0.000_000_512));
    }

    #[test]
    fn sizes_are_counted_up_to_and_including_the_bound() {
        let histogram = SizeHistogram::default();
        for size in [1, 2, 3, 4, 5, 1_000, 2_047, 2_048] {
            histogram.record(size);
        }
        let metric = sizes(&[], &histogram).unwrap();
        let at = |bound: u64| {
            let buckets = metric.get_histogram().get_bucket();
            buckets.iter().find(|b| b.upper_bound() as u64 == bound).unwrap().cumulative_count()
        };
        assert_eq!((at(1), at(3), at(5), at(1_023), at(2_047), at(3_071)), (1, 3, 5, 6, 7, 8));
    }
}
