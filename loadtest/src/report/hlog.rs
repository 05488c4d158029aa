//! The `HdrHistogram` interval log (`.hlog`) of a run: one histogram of acknowledgements and one of deliveries per
//! second. Tags separate them, so that `HistogramLogProcessor` and the other tools of the format can read the log.
//!
//! Values are microseconds; the log's own maximum column is in milliseconds.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

/// Tag of acknowledgements.
pub const ACK: &str = "ack";
/// Tag of deliveries.
pub const DELIVERY: &str = "delivery";

/// The histograms of one second.
#[derive(Debug, Clone, Copy)]
pub struct HlogInterval<'a> {
    /// When it began, since sending began.
    pub start: Duration,
    /// Its length.
    pub length: Duration,
    /// Planned send → acknowledgement, microseconds.
    pub ack: &'a Histogram<u64>,
    /// Planned send → arrival, microseconds.
    pub delivery: &'a Histogram<u64>,
}

/// Writes a run's log; `began` is when sending began. Intervals without values are left out, as tools take them for
/// latencies of zero.
pub fn write<'a>(
    mut to: impl Write,
    began: SystemTime,
    label: &str,
    intervals: impl IntoIterator<Item = HlogInterval<'a>>,
) -> io::Result<()> {
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        // A line break in a label would start a new line of the log.
        .add_comment(&label.replace(char::is_control, " "))
        .add_comment("Values are microseconds: HistogramLogProcessor -outputValueUnitRatio 1000 -tag ack|delivery")
        .with_start_time(began)
        .with_base_time(began)
        .with_max_value_divisor(1_000.0)
        .begin_log_with(&mut to, &mut serializer)?;
    for interval in intervals {
        for (tag, histogram) in [(ACK, interval.ack), (DELIVERY, interval.delivery)] {
            if !histogram.is_empty() {
                log.write_histogram(histogram, interval.start, interval.length, Tag::new(tag))
                    .map_err(|error| io::Error::other(format!("cannot pack the histogram of a second: {error}")))?;
            }
        }
    }
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn histogram(values: &[u64]) -> Histogram<u64> {
        let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 2).unwrap();
        for value in values {
            histogram.record(*value).unwrap();
        }
        histogram
    }

    #[test]
    fn reads_back_the_log_that_it_wrote() {
        let (ack, delivery, none) = (histogram(&[100, 2_000]), histogram(&[150, 250, 90_000]), histogram(&[]));
        let second = Duration::from_secs(1);
        let intervals = [
            HlogInterval { start: Duration::ZERO, length: second, ack: &ack, delivery: &delivery },
            HlogInterval { start: second, length: second, ack: &none, delivery: &delivery },
        ];
        let began = SystemTime::UNIX_EPOCH + Duration::from_secs(1_750_000_000);
        let mut log = Vec::new();
        write(&mut log, began, "rooms-10\n0,1,2,3", intervals).unwrap();

        let mut read = Vec::new();
        let (mut start, mut base) = (None, None);
        for entry in IntervalLogIterator::new(&log) {
            match entry.unwrap() {
                LogEntry::StartTime(time) => start = Some(time),
                LogEntry::BaseTime(time) => base = Some(time),
                LogEntry::Interval(interval) => {
                    let packed =
                        base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram()).unwrap();
                    let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut packed.as_slice()).unwrap();
                    let tag = interval.tag().unwrap().as_str().to_owned();
                    read.push((tag, interval.start_timestamp(), interval.duration(), interval.max(), histogram));
                }
            }
        }
        let unix = Some(Duration::from_secs(1_750_000_000));
        assert_eq!((start, base), (unix, unix));
        let kinds: Vec<(&str, u64)> = read.iter().map(|(tag, start, ..)| (tag.as_str(), start.as_secs())).collect();
        assert_eq!(kinds, [(ACK, 0), (DELIVERY, 0), (DELIVERY, 1)]);
        assert!(read.iter().all(|(_, _, length, ..)| *length == second));
        assert_eq!((&read[0].4, &read[2].4), (&ack, &delivery));
        assert!((read[1].3 - delivery.max() as f64 / 1_000.0).abs() < 0.01, "the maximum is in milliseconds");
    }
}
