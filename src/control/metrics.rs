//! `GET /metrics`: the Prometheus text format.
//!
//! Shards count in [`ShardCounters`] and know nothing of Prometheus; this module reads them at each scrape.
//! A family that both HTTP and the shards feed (`chat_server_request_duration_seconds`, `chat_server_errors_total`)
//! is put together here, since a registry refuses two collectors of one name.
//!
//! Labels have a fixed set of values: route templates instead of paths, codes, command names. A path or a user name
//! as a label would let clients grow this process's memory.

mod families;
mod filter;
mod histograms;
mod hooks;
mod nodes;
pub(super) mod page;
mod process;

use super::health::Check;
use super::observed::Observed;
use crate::audit::suspicion::{Finding, Suspicion};
use crate::chat::filter::tally::Tallies;
use crate::error::ErrorCode;
use crate::files::state::FileState;
use crate::latency::{Count, LatencyHistogram, QueueGauge};
use crate::mesh::counters::{CloseGroup, MessageOutcome, ShardCounters};
use crate::mesh::node_status::NodeStatus;
use crate::mesh::read_class::ReadClass;
use crate::mesh::shard_queue::ShardQueue;
use families::{family, sample};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tracing_appender::non_blocking::ErrorCounter;

const DURATION: (&str, &str) =
    ("chat_server_request_duration_seconds", "From the complete request or command to its answer.");
/// Names of the wire formats, by index.
const FORMATS: [&str; 2] = ["json", "msgpack"];
const ERRORS: (&str, &str) = ("chat_server_errors_total", "Refusals by code.");

/// Everything the metrics page shows; cloning shares it.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    auth_attempts: IntCounterVec,
    security_events: IntCounterVec,
    files: IntCounterVec,
    http_durations: HistogramVec,
    http_errors: IntCounterVec,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Metrics of what is `observed`, and of the requests that HTTP reports.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake in this file, found by every test that makes one.
    pub fn new(observed: Observed) -> Result<Self, prometheus::Error> {
        let auth_attempts = IntCounterVec::new(
            Opts::new("chat_server_auth_attempts_total", "Attempts to authenticate."),
            &["kind", "result"],
        )?;
        let buckets = histograms::time_bounds_seconds();
        let http_durations = HistogramVec::new(
            HistogramOpts::new(DURATION.0, DURATION.1).buckets(buckets),
            &["transport", "operation"],
        )?;
        let http_errors = IntCounterVec::new(Opts::new(ERRORS.0, ERRORS.1), &["transport", "code"])?;
        for code in ErrorCode::ALL {
            // A series that begins with 1 has no increase for Prometheus: the first error would fire no alert.
            http_errors.with_label_values(&["http", code.as_str()]);
        }
        let registry = Registry::new();
        let security_events = IntCounterVec::new(
            Opts::new("chat_server_security_events_total", "Suspicious activity that the detectors found."),
            &["type", "severity"],
        )?;
        for suspicion in Suspicion::ALL {
            // Alert rules compare with an earlier value, so each series exists from the start.
            security_events.with_label_values(&[suspicion.as_str(), suspicion.severity().as_str()]);
        }
        let files = IntCounterVec::new(
            Opts::new("chat_server_files_total", "Uploaded files whose check has ended, by what they became."),
            &["state"],
        )?;
        for state in FileState::ALL.into_iter().filter(|state| FileState::Scanning.can_become(*state)) {
            files.with_label_values(&[state.as_str()]);
        }
        registry.register(Box::new(files.clone()))?;
        registry.register(Box::new(auth_attempts.clone()))?;
        registry.register(Box::new(security_events.clone()))?;
        registry.register(Box::new(Page::new(observed, http_durations.clone(), http_errors.clone())?))?;
        Ok(Self { registry, auth_attempts, security_events, files, http_durations, http_errors })
    }

    /// A detector found something.
    pub fn security_event(&self, finding: &Finding) {
        let suspicion = finding.suspicion;
        self.security_events.with_label_values(&[suspicion.as_str(), suspicion.severity().as_str()]).inc();
    }

    /// The check of a file has ended.
    pub fn file_checked(&self, state: FileState) {
        self.files.with_label_values(&[state.as_str()]).inc();
    }

    /// Shows the matches of the content filter too.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn show_filter(&self, tallies: Tallies) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(filter::FilterMatches::new(tallies)?))
    }

    /// Shows the exchange with other nodes too.
    ///
    /// # Errors
    /// As for [`Self::new`].
    pub fn show_nodes(&self, status: Arc<NodeStatus>) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(nodes::NodeMetrics::new(status)?))
    }

    /// An attempt to authenticate. `kind`: register, login, refresh, token, password, `two_factor`;
    /// `result`: success, failure, error.
    pub fn auth_attempt(&self, kind: &'static str, result: &'static str) {
        self.auth_attempts.with_label_values(&[kind, result]).inc();
    }

    /// An HTTP request was answered. `operation` is method and route template.
    pub fn http_done(&self, operation: &str, duration: Duration, problem: Option<&'static str>) {
        self.http_durations.with_label_values(&["http", operation]).observe(duration.as_secs_f64());
        if let Some(code) = problem {
            self.http_errors.with_label_values(&["http", code]).inc();
        }
    }

    /// The page, with the current state of `/health/ready`.
    ///
    /// # Errors
    /// The library finds a family inconsistent.
    pub fn render(&self, checks: &[Check]) -> Result<String, prometheus::Error> {
        let mut families = self.registry.gather();
        if !checks.is_empty() {
            families.push(health(checks)); // the library takes a family without metrics for a mistake
        }
        TextEncoder::new().encode_to_string(&families)
    }
}

type Pick = fn(&ShardCounters) -> &Count;

/// Reads shards and process at scrape time.
struct Page {
    observed: Observed,
    http_durations: HistogramVec,
    http_errors: IntCounterVec,
    desc: Desc,
    /// When the process started, since 1970. Read once: the clocks drift, and each new value would look like a restart.
    started: Duration,
}

impl Page {
    fn new(
        observed: Observed,
        http_durations: HistogramVec,
        http_errors: IntCounterVec,
    ) -> Result<Self, prometheus::Error> {
        // One name identifies the collector: its other families have fixed names of their own in this file.
        let desc = Desc::new(
            "chat_server_active_connections".into(),
            "WebSocket connections open now.".into(),
            vec!["shard".into()],
            HashMap::new(),
        )?;
        let started = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(observed.started.elapsed());
        Ok(Self { observed, http_durations, http_errors, desc, started })
    }

    fn per_shard(
        &self,
        name: &str,
        help: &str,
        kind: MetricType,
        value: impl Fn(&ShardCounters) -> u64,
    ) -> MetricFamily {
        let metrics = self
            .observed
            .shards
            .iter()
            .enumerate()
            .map(|(shard, counters)| sample(&[("shard", &shard.to_string())], kind, value(counters) as f64));
        family(name, help, kind, metrics.collect())
    }

    fn per_shard_and<L: Copy>(
        &self,
        (name, help): (&str, &str),
        label: &str,
        values: &[L],
        text: impl Fn(L) -> &'static str,
        value: impl Fn(&ShardCounters, L) -> u64,
    ) -> MetricFamily {
        let mut metrics = Vec::with_capacity(self.observed.shards.len() * values.len());
        for (shard, counters) in self.observed.shards.iter().enumerate() {
            for at in values {
                let labels = [("shard", &*shard.to_string()), (label, text(*at))];
                metrics.push(sample(&labels, MetricType::COUNTER, value(counters, *at) as f64));
            }
        }
        family(name, help, MetricType::COUNTER, metrics)
    }

    fn durations(&self) -> MetricFamily {
        let mut metrics = taken(&self.http_durations);
        let mut by_command: Vec<(&'static str, Vec<&LatencyHistogram>)> = Vec::new();
        for counters in &self.observed.shards {
            for (at, (name, histogram)) in counters.commands().enumerate() {
                match by_command.get_mut(at) {
                    Some((_, histograms)) => histograms.push(histogram),
                    None => by_command.push((name, vec![histogram])),
                }
            }
        }
        metrics.extend(by_command.into_iter().filter_map(|(name, of_shards)| {
            histograms::times(&[("transport", "websocket"), ("operation", name)], of_shards.into_iter())
        }));
        family(DURATION.0, DURATION.1, MetricType::HISTOGRAM, metrics)
    }

    fn errors(&self) -> MetricFamily {
        let mut metrics = taken(&self.http_errors);
        for code in ErrorCode::ALL {
            let count: u64 = self.observed.shards.iter().map(|counters| counters.errors(*code)).sum();
            let labels = [("transport", "websocket"), ("code", code.as_str())];
            metrics.push(sample(&labels, MetricType::COUNTER, count as f64));
        }
        family(ERRORS.0, ERRORS.1, MetricType::COUNTER, metrics)
    }

    /// Length and age of every queue: those of the I/O shard and of the control plane, then those of each shard.
    fn queues(&self) -> [MetricFamily; 2] {
        let queues = &self.observed.storage.queues;
        let mut found = Vec::new();
        for (class, gauge) in ReadClass::ALL.iter().zip(&queues.reads) {
            found.push((class.as_str(), gauge.length(), gauge.oldest()));
        }
        let together = |name, gauges: &[&QueueGauge]| {
            let oldest = gauges.iter().map(|gauge| gauge.oldest()).max().unwrap_or_default();
            (name, gauges.iter().map(|gauge| gauge.length()).sum(), oldest)
        };
        found.push(together("commits", &queues.commits.iter().collect::<Vec<_>>()));
        found.push(together("password_hashes", &[&self.observed.hashing]));
        let gauge = |name, help, value: &dyn Fn(u64, Duration) -> f64| {
            let mut metrics: Vec<Metric> = found
                .iter()
                .map(|(queue, length, oldest)| sample(&[("queue", queue)], MetricType::GAUGE, value(*length, *oldest)))
                .collect();
            for (shard, counters) in self.observed.shards.iter().enumerate() {
                metrics.extend(ShardQueue::ALL.map(|queue| {
                    let gauge = counters.queues.of(queue);
                    let labels = [("queue", queue.as_str()), ("shard", &*shard.to_string())];
                    sample(&labels, MetricType::GAUGE, value(gauge.length(), gauge.oldest()))
                }));
            }
            family(name, help, MetricType::GAUGE, metrics)
        };
        [
            gauge("chat_server_queue_length", "Entries of a queue.", &|length, _| length as f64),
            gauge(
                "chat_server_queue_oldest_seconds",
                "How long the oldest entry of a queue has waited, or a lane has not moved; 0 when it is empty.",
                &|_, oldest| oldest.as_secs_f64(),
            ),
        ]
    }

    /// What part of the budgets users have under the present load.
    fn overload(&self) -> MetricFamily {
        let overload = &self.observed.overload;
        let accepted = self.observed.shards.iter().map(|counters| counters.accepted_percent.get() as u32);
        let shares = [
            ("commits", overload.commits()),
            ("pages", overload.pages()),
            ("catch_up", overload.catch_up()),
            ("input", accepted.min().unwrap_or(100)),
        ];
        family(
            "chat_server_budget_percent",
            "The part of every user's budget that the server can serve now; below 100 it is overloaded.",
            MetricType::GAUGE,
            shares
                .iter()
                .map(|(work, percent)| sample(&[("work", work)], MetricType::GAUGE, f64::from(*percent)))
                .collect(),
        )
    }

    /// How far the search index is behind.
    fn search(&self) -> [MetricFamily; 2] {
        let search = &self.observed.storage.search;
        let lag = sample(&[], MetricType::GAUGE, search.behind.oldest().as_secs_f64());
        let passed_over = sample(&[], MetricType::COUNTER, search.passed_over.get() as f64);
        [
            family(
                "chat_server_search_lag_seconds",
                "How long the oldest message that a search does not find yet has waited; 0 when all are indexed.",
                MetricType::GAUGE,
                vec![lag],
            ),
            family(
                "chat_server_search_passed_over_total",
                "Messages that could not be indexed, so that no search finds them.",
                MetricType::COUNTER,
                vec![passed_over],
            ),
        ]
    }

    fn silences(&self) -> MetricFamily {
        let ages = self.observed.silences().enumerate();
        let metrics =
            ages.map(|(shard, age)| sample(&[("shard", &shard.to_string())], MetricType::GAUGE, age.as_secs_f64()));
        family(
            "chat_server_shard_last_turn_age_seconds",
            "Time since the shard last read its clock, which it does every 100 ms even when idle.",
            MetricType::GAUGE,
            metrics.collect(),
        )
    }
}

impl Collector for Page {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        use MetricType::{COUNTER, GAUGE};
        let mut families = vec![
            self.per_shard("chat_server_active_connections", &self.desc.help, GAUGE, |c| c.connections_active.get()),
            self.per_shard("chat_server_connections_opened_total", "WebSocket connections opened.", COUNTER, |c| {
                c.connections_opened.get()
            }),
            self.per_shard_and(
                ("chat_server_connections_closed_total", "WebSocket connections closed, by group of close codes."),
                "reason",
                &CloseGroup::ALL,
                CloseGroup::as_str,
                ShardCounters::closed,
            ),
            self.per_shard_and(
                ("chat_server_messages_total", "Messages sent, by outcome."),
                "outcome",
                &MessageOutcome::ALL,
                MessageOutcome::as_str,
                ShardCounters::messages,
            ),
            self.durations(),
            self.errors(),
        ];
        families.push(self.per_shard_and(
            ("chat_server_event_encodings_total", "Serialisations of events: at most one per event and format."),
            "format",
            &[0, 1],
            |format| FORMATS[format],
            |counters, format| counters.encodings[format].get(),
        ));
        families.extend(histograms::families(&self.observed.shards, &self.observed.storage));
        families.extend(self.queues());
        families.push(self.overload());
        families.extend(self.search());
        families.push(self.silences());
        let log_drops = self.observed.log_drops.as_ref().map_or(0, ErrorCounter::dropped_lines);
        families.push(family(
            "chat_server_log_lines_dropped_total",
            "Log lines that were lost because their writer did not keep up.",
            COUNTER,
            vec![sample(&[], COUNTER, log_drops as f64)],
        ));
        families.push(family(
            "process_start_time_seconds",
            "When the process started, seconds since 1970.",
            GAUGE,
            vec![sample(&[], GAUGE, self.started.as_secs_f64())],
        ));
        let counters: [(&str, &str, Pick); 7] = [
            ("chat_server_events_delivered_total", "Events put into subscribers' queues.", |c| &c.events_delivered),
            ("chat_server_events_published_total", "Events published by their conversations' owners.", |c| {
                &c.events_published
            }),
            ("chat_server_cross_core_deliveries_total", "Events passed to another shard.", |c| {
                &c.deliveries_cross_core
            }),
            ("chat_server_events_of_nodes_total", "Events of other nodes that were published here.", |c| {
                &c.events_of_nodes
            }),
            ("chat_server_not_told_nodes_total", "Events that did not fit into the lane to the cluster thread.", |c| {
                &c.not_told_nodes
            }),
            ("chat_server_received_bytes_total", "Bytes read from sockets.", |c| &c.bytes_in),
            ("chat_server_sent_bytes_total", "Bytes written to sockets.", |c| &c.bytes_out),
        ];
        families.extend(counters.map(|(name, help, count)| self.per_shard(name, help, COUNTER, |c| count(c).get())));
        families.extend(process::families());
        families
    }
}

/// The state of `/health/ready`, for alerts.
fn health(checks: &[Check]) -> MetricFamily {
    let value = |check: &Check| if check.ok { 1.0 } else { 0.0 };
    let metrics = checks.iter().map(|check| sample(&[("check", check.name)], MetricType::GAUGE, value(check)));
    family("chat_server_healthy", "1 if a check of /health/ready passes.", MetricType::GAUGE, metrics.collect())
}

fn taken(vec: &impl Collector) -> Vec<Metric> {
    vec.collect().into_iter().flat_map(|mut family| family.take_metric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};
    use std::io::Write;
    use std::sync::Arc;
    use std::time::Instant;
    use tracing_appender::non_blocking::NonBlockingBuilder;

    /// The counter of a log with room for one line, whose writer does not return from its first: of ten lines it has
    /// lost at least eight.
    fn full_log() -> ErrorCounter {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                loop {
                    std::thread::park();
                }
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (mut writer, guard) = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(1).finish(Stuck);
        std::mem::forget(guard); // dropping it would wait for the writer
        let counter = writer.error_counter();
        for _ in 0..10 {
            writer.write_all(b"a line\n").unwrap();
        }
        counter
    }

    fn page() -> String {
        let shards: Vec<_> = (0..2).map(|_| Arc::new(ShardCounters::new(&["ping", "send_message"]))).collect();
        let storage: Arc<crate::latency::StorageLatencies> = Arc::default();
        let hashing: Arc<QueueGauge> = Arc::default();
        let observed = Observed {
            shards: shards.clone(),
            storage: Arc::clone(&storage),
            overload: Arc::default(),
            hashing: Arc::clone(&hashing),
            started: Instant::now(),
            log_drops: Some(full_log()),
        };
        let metrics = Metrics::new(observed).unwrap();
        shards[0].connection_opened();
        shards[1].connection_opened();
        shards[1].connection_closed(1000);
        shards[1].message(MessageOutcome::Committed);
        shards[0].error(ErrorCode::RateLimited);
        shards[1].error(ErrorCode::RateLimited);
        shards[0].command_done(crate::ids::CommandId(1), Duration::from_micros(300));
        shards[1].command_done(crate::ids::CommandId(1), Duration::from_secs(9));
        storage.queues.reads[ReadClass::Search as usize].set(7, Duration::from_secs(3));
        storage.queues.commits[1].set(2, Duration::ZERO);
        shards[1].queues.of(ShardQueue::Requests).set(5, Duration::from_secs(2));
        hashing.set(256, Duration::from_secs(1));
        metrics.auth_attempt("login", "failure");
        metrics.http_done("GET /users/{id}", Duration::from_millis(3), Some("not_found"));
        let check = |name, ok| Check { name, ok, reason: None };
        metrics.render(&[check("storage", true), check("shards", false)]).unwrap()
    }

    /// A small reader of the text format: every line is a comment or `name{labels} value`.
    fn parse(text: &str) -> HashMap<String, f64> {
        let mut values = HashMap::new();
        let mut typed = HashSet::new();
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.split(' ');
                if words.next() == Some("TYPE") {
                    assert!(typed.insert(words.next().unwrap().to_owned()), "each family once: {line}");
                    assert!(["counter", "gauge", "histogram"].contains(&words.next().unwrap()), "{line}");
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(typed.contains(base) || typed.contains(name), "a type for {line}");
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'), "{line}");
            assert!(values.insert(series.to_owned(), value.parse().unwrap()).is_none(), "each series once: {line}");
        }
        values
    }

    #[test]
    fn the_page_parses_and_has_the_counts() {
        let values = parse(&page());
        for (series, value) in [
            (r#"chat_server_active_connections{shard="0"}"#, 1.0),
            (r#"chat_server_active_connections{shard="1"}"#, 0.0),
            (r#"chat_server_connections_closed_total{reason="normal",shard="1"}"#, 1.0),
            (r#"chat_server_messages_total{outcome="committed",shard="1"}"#, 1.0),
            (r#"chat_server_messages_total{outcome="refused",shard="1"}"#, 0.0),
            (r#"chat_server_errors_total{code="rate_limited",transport="websocket"}"#, 2.0),
            (r#"chat_server_errors_total{code="not_found",transport="http"}"#, 1.0),
            (r#"chat_server_errors_total{code="internal",transport="http"}"#, 0.0),
            (r#"chat_server_queue_length{queue="reads_search"}"#, 7.0),
            (r#"chat_server_queue_length{queue="commits"}"#, 2.0),
            (r#"chat_server_queue_length{queue="password_hashes"}"#, 256.0),
            (r#"chat_server_queue_length{queue="admissions",shard="1"}"#, 0.0),
            (r#"chat_server_queue_length{queue="requests",shard="0"}"#, 0.0),
            (r#"chat_server_queue_length{queue="requests",shard="1"}"#, 5.0),
            (r#"chat_server_queue_oldest_seconds{queue="reads_page"}"#, 0.0),
            (r#"chat_server_healthy{check="storage"}"#, 1.0),
            (r#"chat_server_healthy{check="shards"}"#, 0.0),
            (r#"chat_server_auth_attempts_total{kind="login",result="failure"}"#, 1.0),
            (r#"chat_server_request_duration_seconds_count{operation="GET /users/{id}",transport="http"}"#, 1.0),
            (r#"chat_server_request_duration_seconds_count{operation="send_message",transport="websocket"}"#, 2.0),
            (r#"chat_server_request_duration_seconds_sum{operation="send_message",transport="websocket"}"#, 9.0003),
        ] {
            let found = values.iter().find(|(text, _)| sorted(text) == sorted(series)).map(|(_, value)| *value);
            // A sum of durations is kept in units of 64 ns.
            assert!(found.is_some_and(|found| (found - value).abs() < 1e-6), "{series}: {found:?}");
        }
        assert!(values["process_resident_memory_bytes"] > 1e6);
        assert!(values[r#"chat_server_queue_oldest_seconds{queue="reads_search"}"#] >= 2.9);
        assert!((8.0..=9.0).contains(&values["chat_server_log_lines_dropped_total"]));
        assert!(values["process_open_fds"] > 2.0);
        assert!(values["process_max_fds"] >= values["process_open_fds"]);
        assert!(values["process_start_time_seconds"] > 1.7e9);
        assert!(values.contains_key("process_cpu_seconds_total"));
        assert!(values.contains_key(r#"chat_server_shard_last_turn_age_seconds{shard="1"}"#));
    }

    #[test]
    fn histograms_are_cumulative_up_to_infinity() {
        let values = parse(&page());
        let bucket = |le: &str| {
            let command = r#"transport="websocket",operation="send_message""#;
            let wanted = format!(r#"chat_server_request_duration_seconds_bucket{{{command},le="{le}"}}"#);
            values.iter().find(|(text, _)| sorted(text) == sorted(&wanted)).map(|(_, value)| *value)
        };
        assert_eq!(bucket("0.000262144"), Some(0.0));
        assert_eq!(bucket("0.000393216"), Some(1.0));
        assert_eq!(bucket("8.589934592"), Some(1.0));
        assert_eq!(bucket("12.884901888"), Some(2.0));
        assert_eq!(bucket("+Inf"), Some(2.0));
    }

    /// Name and labels, whatever their order.
    fn sorted(series: &str) -> Vec<&str> {
        let mut parts: Vec<&str> = series.trim_end_matches('}').split(['{', ',']).collect();
        parts[1..].sort_unstable();
        parts
    }
}
