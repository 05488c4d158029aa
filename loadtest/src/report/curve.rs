//! Curves of bounded length for charts, taken from histograms and timelines of any length.

use crate::result::Second;
use hdrhistogram::Histogram;

/// Points per tenfold of 1/(1−p); 40 look smooth on any screen.
const POINTS_PER_DECADE: u32 = 40;
/// Tenfolds that are drawn: up to 99.99999 %.
const DECADES_MAX: u32 = 7;
/// Most points of a timeline.
pub const TIMELINE_POINTS_MAX: usize = 600;

/// The percentile curve of a histogram: `(1/(1−p), microseconds)`, from the fastest value to the slowest.
///
/// It ends where only one value is beyond it: further right a histogram of this size has no information.
pub fn percentile_curve(histogram: &Histogram<u64>) -> Vec<(f64, u64)> {
    let count = histogram.len();
    if count == 0 {
        return Vec::new();
    }
    let end = (count as f64).min(10_f64.powi(DECADES_MAX as i32));
    let step = |n: u32| 10_f64.powf(f64::from(n) / f64::from(POINTS_PER_DECADE));
    (0..=POINTS_PER_DECADE * DECADES_MAX)
        .map(step)
        .take_while(|x| *x < end)
        .chain([end])
        .map(|x| (x, histogram.value_at_quantile(1.0 - 1.0 / x)))
        .collect()
}

/// A timeline of at most [`TIMELINE_POINTS_MAX`] entries. Where several seconds become one, counts and CPU become their
/// mean a second, and latencies those of the worst second: percentiles can't be averaged, and what is looked for in a
/// long run is its bad seconds.
pub fn bounded_timeline(timeline: &[Second]) -> Vec<Second> {
    let width = timeline.len().div_ceil(TIMELINE_POINTS_MAX).max(1);
    if width == 1 {
        return timeline.to_vec();
    }
    timeline.chunks(width).map(merged).collect()
}

fn merged(seconds: &[Second]) -> Second {
    let length = seconds.len().max(1) as u64;
    let mean = |of: fn(&Second) -> u64| seconds.iter().map(of).fold(length / 2, u64::saturating_add) / length;
    let mean_cores = |of: fn(&Second) -> f64| seconds.iter().map(of).sum::<f64>() / length as f64;
    let worst = |of: fn(&Second) -> u64| seconds.iter().map(of).max().unwrap_or(0);
    Second {
        at_s: seconds.last().map_or(0.0, |second| second.at_s),
        planned: mean(|second| second.planned),
        sent: mean(|second| second.sent),
        acked: mean(|second| second.acked),
        delivered: mean(|second| second.delivered),
        ack_p50_us: worst(|second| second.ack_p50_us),
        ack_p99_us: worst(|second| second.ack_p99_us),
        ack_max_us: worst(|second| second.ack_max_us),
        delivery_p50_us: worst(|second| second.delivery_p50_us),
        delivery_p99_us: worst(|second| second.delivery_p99_us),
        delivery_max_us: worst(|second| second.delivery_max_us),
        server_cores: mean_cores(|second| second.server_cores),
        store_cores: mean_cores(|second| second.store_cores),
        generator_cores: mean_cores(|second| second.generator_cores),
        server_rss_bytes: worst(|second| second.server_rss_bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    #[test]
    fn a_curve_never_falls_and_ends_at_the_slowest_value() {
        let histogram = fixtures::histogram(1_000.0, 50_000);
        let curve = percentile_curve(&histogram);
        assert!(curve.is_sorted());
        assert_eq!(curve.first().unwrap().1, histogram.min());
        let (x, us) = *curve.last().unwrap();
        assert!((x - 50_000.0).abs() < 1e-6);
        assert!(us <= histogram.max() && us >= histogram.value_at_quantile(0.9999));
        assert!(percentile_curve(&Histogram::new(3).unwrap()).is_empty());
    }

    #[test]
    fn bounds_a_curve_for_any_number_of_values() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        histogram.record_n(5, 1 << 40).unwrap();
        assert!(percentile_curve(&histogram).len() <= (POINTS_PER_DECADE * DECADES_MAX + 2) as usize);
    }

    #[test]
    fn keeps_rates_and_worst_seconds_of_a_long_timeline() {
        let second = |at: u32| Second {
            at_s: f64::from(at),
            acked: 100,
            ack_p99_us: if at == 777 { 9_000 } else { 10 },
            server_cores: 0.5,
            ..Second::default()
        };
        let bounded = bounded_timeline(&(1..=3_601).map(second).collect::<Vec<_>>());
        assert!(bounded.len() <= TIMELINE_POINTS_MAX);
        assert!(bounded.iter().all(|second| second.acked == 100 && (second.server_cores - 0.5).abs() < 1e-9));
        assert_eq!(bounded.iter().filter(|second| second.ack_p99_us == 9_000).count(), 1);
        assert!((bounded.last().unwrap().at_s - 3_601.0).abs() < 1e-9);
    }
}
