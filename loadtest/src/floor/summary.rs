//! The latency figures of a floor's result.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A latency in figures, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Half are at most this.
    pub p50_us: u64,
    /// 99 in 100.
    pub p99_us: u64,
    /// The largest.
    pub max_us: u64,
}

impl Percentiles {
    /// Of a histogram in microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.50),
            p99_us: histogram.value_at_quantile(0.99),
            max_us: histogram.max(),
        }
    }
}

/// The middle of some figures; of an even number the mean of the two in the middle.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => 0.0,
        n if n % 2 == 1 => figures[n / 2],
        n => f64::midpoint(figures[n / 2 - 1], figures[n / 2]),
    }
}

/// The median, the smallest and the largest of some figures.
pub fn median_and_extremes(figures: &[f64]) -> [f64; 3] {
    let (low, high) = figures.iter().fold((f64::MAX, f64::MIN), |(low, high), f| (low.min(*f), high.max(*f)));
    [median(figures.to_vec()), low, high]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::recorder::histogram;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(vec![4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < f64::EPSILON);
        assert!(median(Vec::new()).abs() < f64::EPSILON);
    }

    #[test]
    fn takes_percentiles_from_the_histogram() {
        let mut values = histogram().unwrap();
        (1..=1000).for_each(|value| values.record(value).unwrap());
        let found = Percentiles::of(&values);
        assert_eq!((found.count, found.p50_us, found.p99_us, found.max_us), (1000, 500, 990, 1000));
    }
}
