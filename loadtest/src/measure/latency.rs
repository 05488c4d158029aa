//! A histogram of latencies, encoded for a result and decoded again.
//!
//! Invariant: the figures next to a histogram are the histogram's own. They are for people and scripts; a comparison of
//! results uses the histogram.

use crate::result::Latency;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use thiserror::Error;

/// Why a histogram could not be packed or unpacked.
#[derive(Debug, Error)]
pub enum LatencyError {
    /// It could not be written.
    #[error("cannot pack a histogram: {0}")]
    Pack(String),
    /// It is not base64.
    #[error("the histogram is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// It is not an `HdrHistogram`.
    #[error("the histogram is not HdrHistogram V2+DEFLATE: {0}")]
    Unpack(String),
    /// It does not fit into another.
    #[error("cannot merge histograms: {0}")]
    Merge(#[from] hdrhistogram::AdditionError),
    /// An empty one could not be made.
    #[error("cannot make a histogram: {0}")]
    Create(#[from] hdrhistogram::CreationError),
}

impl Latency {
    /// The figures of a histogram of microseconds, and itself.
    pub fn of(histogram: &Histogram<u64>) -> Result<Self, LatencyError> {
        let mut packed = Vec::new();
        V2DeflateSerializer::new()
            .serialize(histogram, &mut packed)
            .map_err(|error| LatencyError::Pack(error.to_string()))?;
        Ok(Self {
            count: histogram.len(),
            mean_us: histogram.mean(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p99_9_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
            histogram: STANDARD.encode(packed),
        })
    }

    /// The histogram, in microseconds; an empty one when nothing was recorded.
    pub fn unpack(&self) -> Result<Histogram<u64>, LatencyError> {
        if self.histogram.is_empty() {
            return Ok(Histogram::new(3)?);
        }
        let packed = STANDARD.decode(&self.histogram)?;
        Deserializer::new().deserialize(&mut packed.as_slice()).map_err(|error| LatencyError::Unpack(error.to_string()))
    }

    /// Merges all of them: percentiles are computed again and never averaged.
    pub fn merged<'a>(latencies: impl IntoIterator<Item = &'a Self>) -> Result<Self, LatencyError> {
        let mut all = Histogram::<u64>::new(3)?;
        for latency in latencies {
            all.add(latency.unpack()?)?;
        }
        Self::of(&all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
        for value in values {
            histogram.record(value).unwrap();
        }
        histogram
    }

    #[test]
    fn decodes_the_histogram_that_it_encoded() {
        let original = histogram((1..=10_000).map(|value| value * 7));
        let latency = Latency::of(&original).unwrap();
        assert_eq!(latency.unpack().unwrap(), original);
        assert_eq!(latency.count, 10_000);
        assert_eq!(latency.p50_us, original.value_at_quantile(0.5));
        assert_eq!(latency.max_us, original.max());
    }

    #[test]
    fn encodes_an_empty_histogram() {
        assert_eq!(Latency::default().unpack().unwrap().len(), 0);
        let empty = Latency::of(&histogram([])).unwrap();
        assert_eq!((empty.count, empty.p99_us), (0, 0));
    }

    #[test]
    fn merging_takes_percentiles_of_all_values() {
        let quick = Latency::of(&histogram(std::iter::repeat_n(100, 990))).unwrap();
        let slow = Latency::of(&histogram(std::iter::repeat_n(100_000, 10))).unwrap();
        let all = Latency::merged([&quick, &slow]).unwrap();
        assert_eq!(all.count, 1_000);
        assert_eq!(all.p50_us, 100);
        assert_eq!(all.p99_us, 100);
        assert!(all.p99_9_us >= 100_000);
    }

    #[test]
    fn refuses_invalid_histograms() {
        let broken = |text: &str| Latency { histogram: text.to_owned(), ..Latency::default() }.unpack();
        assert!(matches!(broken("%%%"), Err(LatencyError::Base64(_))));
        assert!(matches!(broken("aGVsbG8="), Err(LatencyError::Unpack(_))));
    }
}
