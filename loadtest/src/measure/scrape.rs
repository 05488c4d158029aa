//! The server's own figures of a run: the difference of two readings of its `/metrics`.
//!
//! The text format is Prometheus' 0.0.4 (histograms, counters, gauges). A line in another format is an error with its
//! number, because a misread page would give wrong figures. Missing metrics are no error: another server, or an older
//! one, has none of this server's metrics, and the result then has no stages and batches.
//!
//! A counter that went down was reset by a restart. Its value then counts from zero, as with Prometheus' `increase`.

use crate::result::{ServerSide, Stage};
use std::collections::BTreeMap;
use thiserror::Error;

/// Largest page that is read, bytes.
pub const PAGE_BYTES_MAX: usize = 16 << 20;

const STAGES: &str = "chat_server_stage_duration_seconds";
const BATCH_SIZE: &str = "chat_server_commit_batch_mutations";
const COMMIT: &str = "chat_server_commit_duration_seconds";
const ENCODINGS: &str = "chat_server_event_encodings_total";
const EVENTS: &str = "chat_server_events_published_total";

/// The stages in the order of a message; others follow in alphabetic order.
const STAGE_ORDER: [&str; 8] =
    ["decode", "cross_core", "commit_queue", "commit", "fan_out", "socket_write", "ack", "delivery"];

/// Percentiles that go into a result.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99_9", 0.999)];

/// Why a page was not read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ScrapeError {
    /// A line is not of the format.
    #[error("/metrics, line {line}: {reason}: {text:?}")]
    Line {
        /// Its number, from 1.
        line: usize,
        /// Its fault.
        reason: &'static str,
        /// Its beginning.
        text: String,
    },
    /// It is too long.
    #[error("/metrics has {0} bytes, more than {PAGE_BYTES_MAX}")]
    TooLarge(usize),
}

type Labels = BTreeMap<String, String>;

/// One page.
#[derive(Debug, Clone, Default)]
pub struct Scrape {
    series: BTreeMap<String, BTreeMap<Labels, f64>>,
}

impl Scrape {
    /// Reads a page.
    pub fn parse(text: &str) -> Result<Self, ScrapeError> {
        if text.len() > PAGE_BYTES_MAX {
            return Err(ScrapeError::TooLarge(text.len()));
        }
        let mut scrape = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, labels, value) = parse_line(line).map_err(|reason| ScrapeError::Line {
                line: number,
                reason,
                text: line.chars().take(80).collect(),
            })?;
            scrape.series.entry(name).or_default().insert(labels, value);
        }
        Ok(scrape)
    }

    /// The difference to an earlier page; `None` when the server has none of our metrics.
    pub fn since(&self, earlier: &Self) -> Option<ServerSide> {
        let batches = self.histogram_since(earlier, BATCH_SIZE, None);
        let commits = self.histogram_since(earlier, COMMIT, None);
        let stages = self.stages_since(earlier);
        if batches.is_none() && commits.is_none() && stages.is_empty() {
            return None;
        }
        Some(ServerSide {
            batches: batches.as_ref().map_or(0, Buckets::count),
            batched_mutations: batches.as_ref().map_or(0, |buckets| buckets.sum.round() as u64),
            batch_size: batches.map(|buckets| buckets.figures(1.0)).unwrap_or_default(),
            commit_us: commits.map(|buckets| buckets.figures(1e6)).unwrap_or_default(),
            stages,
            encodes_per_event: self.encodes_per_event_since(earlier),
        })
    }

    /// The sum of a metric's series whose labels contain this one; `None` when there is no such series.
    pub fn sum(&self, name: &str, label: Option<(&str, &str)>) -> Option<f64> {
        let wanted =
            |labels: &Labels| label.is_none_or(|(name, value)| labels.get(name).is_some_and(|found| found == value));
        let series = self.series.get(name).into_iter().flatten();
        series.filter(|(labels, _)| wanted(labels)).map(|(_, value)| *value).reduce(|sum, value| sum + value)
    }

    /// Increase of every series of a metric.
    fn increase<'a>(&'a self, earlier: &'a Self, name: &str) -> impl Iterator<Item = (&'a Labels, f64)> + 'a {
        let before = earlier.series.get(name);
        self.series.get(name).into_iter().flatten().map(move |(labels, now)| {
            let before = before.and_then(|series| series.get(labels)).copied().unwrap_or(0.0);
            (labels, if *now >= before { now - before } else { *now })
        })
    }

    /// Increase of a histogram, all shards together; `None` when there is none.
    fn histogram_since(&self, earlier: &Self, name: &str, stage: Option<&str>) -> Option<Buckets> {
        let wanted = |labels: &Labels| stage.is_none() || labels.get("stage").map(String::as_str) == stage;
        let mut buckets = Buckets::default();
        for (labels, increase) in self.increase(earlier, &format!("{name}_bucket")) {
            // Checked when the line was read.
            let bound = labels.get("le").and_then(|bound| bound.parse::<f64>().ok());
            if let (Some(bound), true) = (bound, wanted(labels)) {
                buckets.add(bound, increase);
            }
        }
        if buckets.cumulative.is_empty() {
            return None;
        }
        buckets.sum = self
            .increase(earlier, &format!("{name}_sum"))
            .filter(|(labels, _)| wanted(labels))
            .map(|(_, increase)| increase)
            .sum();
        Some(buckets)
    }

    fn stages_since(&self, earlier: &Self) -> Vec<Stage> {
        let mut names: Vec<&str> = self
            .series
            .get(&format!("{STAGES}_bucket"))
            .into_iter()
            .flatten()
            .filter_map(|(labels, _)| labels.get("stage").map(String::as_str))
            .collect();
        let place = |name: &str| STAGE_ORDER.iter().position(|known| *known == name).unwrap_or(STAGE_ORDER.len());
        names.sort_unstable_by_key(|name| (place(name), *name));
        names.dedup();
        names
            .into_iter()
            .filter_map(|name| {
                let buckets = self.histogram_since(earlier, STAGES, Some(name))?;
                Some(Stage {
                    name: name.to_owned(),
                    count: buckets.count(),
                    p50_us: buckets.quantile(0.5) * 1e6,
                    p99_us: buckets.quantile(0.99) * 1e6,
                })
            })
            .collect()
    }

    /// Encodings per event in the format that had the most: a mean over formats could hide that one is encoded twice.
    fn encodes_per_event_since(&self, earlier: &Self) -> Option<f64> {
        let events: f64 = self.increase(earlier, EVENTS).map(|(_, increase)| increase).sum();
        let mut by_format: BTreeMap<&str, f64> = BTreeMap::new();
        for (labels, increase) in self.increase(earlier, ENCODINGS) {
            *by_format.entry(labels.get("format").map_or("", String::as_str)).or_default() += increase;
        }
        let most = by_format.into_values().reduce(f64::max)?;
        (events > 0.0).then(|| most / events)
    }
}

/// The increase of one histogram.
#[derive(Debug, Default)]
struct Buckets {
    /// Upper bounds, ascending, with how many values are at most that.
    cumulative: Vec<(f64, f64)>,
    sum: f64,
}

impl Buckets {
    fn add(&mut self, bound: f64, increase: f64) {
        match self.cumulative.binary_search_by(|(known, _)| known.total_cmp(&bound)) {
            Ok(at) => self.cumulative[at].1 += increase,
            Err(at) => self.cumulative.insert(at, (bound, increase)),
        }
    }

    fn count(&self) -> u64 {
        self.cumulative.last().map_or(0, |(_, count)| *count as u64)
    }

    /// Upper bound of the bucket with this quantile. Values above the last finite bound count as that bound: the
    /// histogram has no more detail, and a result has no infinity.
    fn quantile(&self, quantile: f64) -> f64 {
        let total = self.cumulative.last().map_or(0.0, |(_, count)| *count);
        if total <= 0.0 {
            return 0.0;
        }
        let largest = self.cumulative.iter().rev().map(|(bound, _)| *bound).find(|bound| bound.is_finite());
        let found = self.cumulative.iter().find(|(_, count)| *count >= quantile * total).map(|(bound, _)| *bound);
        found.filter(|bound| bound.is_finite()).or(largest).unwrap_or(0.0)
    }

    /// Mean and percentiles, each times `scale`; empty when nothing was recorded.
    fn figures(&self, scale: f64) -> BTreeMap<String, f64> {
        let count = self.count();
        if count == 0 {
            return BTreeMap::new();
        }
        let mean = ("mean".to_owned(), self.sum / count as f64 * scale);
        let percentiles = QUANTILES.map(|(name, quantile)| (name.to_owned(), self.quantile(quantile) * scale));
        std::iter::once(mean).chain(percentiles).collect()
    }
}

/// `name{label="value",…} value [timestamp]`
fn parse_line(line: &str) -> Result<(String, Labels, f64), &'static str> {
    let end = line.find(|c: char| !is_name(c)).ok_or("no value")?;
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("no metric name");
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => parse_labels(rest)?,
        None => (Labels::new(), rest),
    };
    let mut fields = rest.split_ascii_whitespace();
    // Rust reads "+Inf", "-Inf" and "NaN" as Prometheus writes them.
    let value: f64 = fields.next().ok_or("no value")?.parse().map_err(|_| "the value is no number")?;
    if fields.next().is_some_and(|timestamp| timestamp.parse::<i64>().is_err()) || fields.next().is_some() {
        return Err("something follows the value");
    }
    if name.ends_with("_bucket") && labels.get("le").is_none_or(|bound| bound.parse::<f64>().is_err()) {
        return Err("a bucket without an upper bound");
    }
    Ok((name.to_owned(), labels, value))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// The labels after the opening brace, and what follows the closing one.
fn parse_labels(mut rest: &str) -> Result<(Labels, &str), &'static str> {
    let mut labels = Labels::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once('=').ok_or("a label without a value")?;
        let name = name.trim();
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("a label without a name");
        }
        let quoted = after.trim_start().strip_prefix('"').ok_or("a label's value is not quoted")?;
        let (value, after) = unquote(quoted)?;
        labels.insert(name.to_owned(), value);
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => {}
            None => return Err("labels are not separated by commas"),
        }
    }
}

/// A label's value up to the closing quote, and what follows it.
fn unquote(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c @ ('\\' | '"'))) => value.push(c),
                _ => return Err("an unknown escape in a label's value"),
            },
            c => value.push(c),
        }
    }
    Err("a label's value does not end")
}

#[cfg(test)]
#[path = "scrape_tests.rs"]
mod tests;
