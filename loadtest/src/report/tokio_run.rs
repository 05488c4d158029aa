//! The result of the tokio-based run, and only of it: it goes when the engine takes over.

use crate::options::Options;
use crate::stats::{Stats, count_of};
use crate::violations::Violations;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Percentiles of one latency, microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Percentiles {
    /// How many values there are.
    pub count: u64,
    /// Half are at most this.
    pub p50_us: u64,
    /// 90 in 100 are at most this.
    pub p90_us: u64,
    /// 99 in 100.
    pub p99_us: u64,
    /// 999 in 1,000.
    pub p99_9_us: u64,
    /// The largest.
    pub max_us: u64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p99_9_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

/// What was asked for.
#[derive(Debug, Serialize)]
struct Scenario {
    url: String,
    users: u32,
    rooms: u32,
    rooms_per_user: u32,
    rate_per_s: f64,
    duration_s: f64,
    spacing: crate::plan::Spacing,
    payload_bytes: usize,
    format: crate::wire::Format,
    in_flight_max: u32,
    seed: u64,
    survive_restarts: bool,
}

/// The result.
#[derive(Debug, Serialize)]
pub struct Report {
    scenario: Scenario,
    interrupted: bool,
    sending_s: f64,
    total_s: f64,
    sent: u64,
    sent_per_s: f64,
    resent: u64,
    unsent: u64,
    acked: u64,
    acked_per_s: f64,
    refused: u64,
    delivered: u64,
    delivered_per_s: f64,
    other_events: u64,
    errors: BTreeMap<String, u64>,
    connections_lost: u64,
    connections_restored: u64,
    lagging: u64,
    resets: u64,
    ack_latency: Percentiles,
    delivery_latency: Percentiles,
    send_lag: Percentiles,
    violations_total: u64,
    violations: Violations,
}

impl Report {
    /// Puts the result together. `sent_for` is how long was sent, `lasted` includes the drain.
    pub fn new(
        stats: &Stats,
        violations: Violations,
        options: &Options,
        sent_for: Duration,
        lasted: Duration,
        interrupted: bool,
    ) -> Result<Self, String> {
        let latencies = stats.merged_latencies()?;
        let counters = &stats.counters;
        let sending_s = sent_for.as_secs_f64();
        let per_s = |count: u64| if sending_s > 0.0 { count as f64 / sending_s } else { 0.0 };
        let (sent, acked, delivered) =
            (count_of(&counters.sent), count_of(&counters.acked), count_of(&counters.delivered));
        Ok(Self {
            scenario: Scenario {
                url: options.url.to_string(),
                users: options.users,
                rooms: options.rooms,
                rooms_per_user: options.rooms_per_user.min(options.rooms),
                rate_per_s: options.rate,
                duration_s: options.duration.as_secs_f64(),
                spacing: options.spacing,
                payload_bytes: options.payload_bytes,
                format: options.format,
                in_flight_max: options.in_flight_max,
                seed: options.seed,
                survive_restarts: options.survive_restarts,
            },
            interrupted,
            sending_s,
            total_s: lasted.as_secs_f64(),
            sent,
            sent_per_s: per_s(sent),
            resent: count_of(&counters.resent),
            unsent: count_of(&counters.unsent),
            acked,
            acked_per_s: per_s(acked),
            refused: count_of(&counters.refused),
            delivered,
            delivered_per_s: per_s(delivered),
            other_events: count_of(&counters.other_events),
            errors: stats.errors(),
            connections_lost: count_of(&counters.lost),
            connections_restored: count_of(&counters.restored),
            lagging: count_of(&counters.lagging),
            resets: count_of(&counters.resets),
            ack_latency: Percentiles::of(&latencies.ack),
            delivery_latency: Percentiles::of(&latencies.delivery),
            send_lag: Percentiles::of(&latencies.send_lag),
            violations_total: violations.total(),
            violations,
        })
    }

    /// True when the server kept every promise.
    pub fn is_clean(&self) -> bool {
        self.violations_total == 0
    }

    /// The result as JSON.
    pub fn to_json(&self) -> Result<String, String> {
        serde_json::to_string_pretty(self).map_err(|error| error.to_string())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(limited) = self.errors.get("rate_limited") {
            notes.push(format!(
                "{limited} messages were refused as rate_limited: by default a user may send 60 a minute. Use more --users, \
                 or start the server with CHAT_SERVER__LIMITS__MAX_MESSAGES_PER_MINUTE=1000000"
            ));
        }
        if self.unsent > 0 {
            notes.push(format!(
                "{} planned messages were never sent: --in-flight-max or a lost connection held them back. Latencies are \
                 those of the others",
                self.unsent
            ));
        }
        if self.send_lag.p99_us > 5_000 {
            notes.push(format!(
                "1 in 100 sends left {} or more after its planned time with nothing to hold it back: this machine is too \
                 busy for the load, and latencies include that",
                Micros(self.send_lag.p99_us)
            ));
        }
        if self.interrupted {
            notes.push("interrupted: this is what was measured until then".to_owned());
        }
        notes
    }
}

/// A time in the unit that reads best.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.0 {
            us @ 0..1_000 => format!("{us} µs"),
            us @ 1_000..1_000_000 => format!("{:.2} ms", us as f64 / 1e3),
            us => format!("{:.2} s", us as f64 / 1e6),
        };
        f.pad(&text)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scenario = &self.scenario;
        writeln!(
            f,
            "{} users in {} rooms, {} messages/s for {:.1} s, {} characters, {:?}",
            scenario.users,
            scenario.rooms,
            scenario.rate_per_s,
            self.sending_s,
            scenario.payload_bytes,
            scenario.format
        )?;
        writeln!(f)?;
        writeln!(f, "sent       {:>12}  {:>12.1}/s", self.sent, self.sent_per_s)?;
        writeln!(f, "acked      {:>12}  {:>12.1}/s", self.acked, self.acked_per_s)?;
        writeln!(f, "delivered  {:>12}  {:>12.1}/s", self.delivered, self.delivered_per_s)?;
        for (what, count) in [
            ("refused", self.refused),
            ("never sent", self.unsent),
            ("sent again", self.resent),
            ("lost connections", self.connections_lost),
            ("restored", self.connections_restored),
            ("told to catch up", self.lagging),
            ("told to re-read", self.resets),
        ] {
            if count > 0 {
                writeln!(f, "{what:<17}{count:>6}")?;
            }
        }
        for (code, count) in &self.errors {
            writeln!(f, "  error {code:<22}{count:>6}")?;
        }
        writeln!(f)?;
        writeln!(
            f,
            "{:<20}{:>11}{:>11}{:>11}{:>11}{:>11}",
            "from planned send to", "P50", "P90", "P99", "P99.9", "max"
        )?;
        for (what, latency) in
            [("ack", self.ack_latency), ("delivery", self.delivery_latency), ("written (own lag)", self.send_lag)]
        {
            let values = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p99_9_us, latency.max_us];
            write!(f, "{what:<20}")?;
            for value in values {
                if latency.count == 0 {
                    write!(f, "{:>11}", "-")?;
                } else {
                    write!(f, "{:>11}", Micros(value))?;
                }
            }
            writeln!(f)?;
        }
        writeln!(f)?;
        for note in self.notes() {
            writeln!(f, "note: {note}")?;
        }
        if self.is_clean() {
            return writeln!(f, "no violations");
        }
        writeln!(f, "{} VIOLATIONS", self.violations_total)?;
        for (kind, found) in self.violations.iter() {
            writeln!(f, "  {:>8}  {}", found.count, kind.meaning())?;
            for sample in &found.samples {
                writeln!(f, "            {sample}")?;
            }
        }
        Ok(())
    }
}
