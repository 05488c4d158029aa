//! Every figure of a run, named once: with its unit, and which way is better.
//!
//! Invariant: a figure that was not measured is absent, not zero. A zero would win every comparison.

use crate::report::format;
use crate::result::{Latency, ProcessUsage, RunResult};
use serde::Serialize;

/// The unit of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A rate per second, or another plain number.
    Number,
    /// Microseconds.
    Micros,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// A value of this unit, for people.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Number => format::number(value),
            Self::Micros => format::micros(value),
            Self::Bytes => format::bytes(value),
        }
    }
}

/// The better direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
    /// Neither.
    Neither,
}

/// The order of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Throughput.
    Throughput,
    /// Latency of acknowledgements.
    Ack,
    /// Latency of deliveries.
    Delivery,
    /// The scenario's other operations, and classes of rooms.
    Operations,
    /// Processor time.
    Cpu,
    /// Memory.
    Memory,
    /// The server's own metrics.
    Server,
    /// Errors and violations.
    Faults,
}

impl Group {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Throughput => "Throughput",
            Self::Ack => "Ack latency",
            Self::Delivery => "Delivery latency",
            Self::Operations => "Operations and classes of rooms",
            Self::Cpu => "CPU",
            Self::Memory => "Memory",
            Self::Server => "Inside the server",
            Self::Faults => "Faults",
        }
    }
}

/// The description of a figure, the same in every run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Figure {
    /// Its unique key, the same in all versions.
    pub key: String,
    /// Its group in the report.
    pub group: Group,
    /// Its name.
    pub name: String,
    /// Its unit.
    pub unit: Unit,
    /// The better direction.
    pub better: Better,
}

/// A figure in several runs.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The figure.
    #[serde(flatten)]
    pub figure: Figure,
    /// Its value in each run that has it.
    pub values: Vec<Option<f64>>,
}

impl Row {
    /// Each value in relation to the first run's.
    pub fn ratios(&self) -> Vec<Option<f64>> {
        let first = self.values.first().copied().flatten().filter(|first| *first > 0.0);
        self.values.iter().map(|value| Some((*value)? / first?)).collect()
    }

    /// The runs with the best value; none when all are equal or no direction is better.
    pub fn best(&self) -> Vec<bool> {
        let present = || self.values.iter().copied().flatten();
        let best = match self.figure.better {
            Better::Higher => present().reduce(f64::max),
            Better::Lower => present().reduce(f64::min),
            Better::Neither => None,
        };
        let same = |value: &Option<f64>| *value == best && best.is_some();
        let alike = present().count() < 2 || self.values.iter().flatten().all(|value| Some(*value) == best);
        self.values.iter().map(|value| !alike && same(value)).collect()
    }
}

/// The figures of several runs side by side, in a report's order.
pub fn rows(runs: &[&RunResult]) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (index, run) in runs.iter().enumerate() {
        for (figure, value) in figures(run) {
            let at = rows.iter().position(|row| row.figure.key == figure.key).unwrap_or_else(|| {
                rows.push(Row { figure, values: vec![None; runs.len()] });
                rows.len() - 1
            });
            rows[at].values[index] = Some(value);
        }
    }
    rows.sort_by_key(|row| row.figure.group);
    rows
}

/// A run's figures.
pub fn figures(run: &RunResult) -> Vec<(Figure, f64)> {
    let mut list = List::default();
    throughput(run, &mut list);
    list.latency(Group::Ack, "ack", "ack", &run.ack);
    list.latency(Group::Delivery, "delivery", "delivery", &run.delivery);
    for (name, latency) in &run.operations {
        list.latency(Group::Operations, &format!("operation_{name}"), &name.replace('_', " "), latency);
    }
    for class in &run.classes {
        let (key, name) = (format!("class_{}", class.name), &class.name);
        list.latency(Group::Operations, &format!("{key}_ack"), &format!("{name}: ack"), &class.ack);
        list.latency(Group::Operations, &format!("{key}_delivery"), &format!("{name}: delivery"), &class.delivery);
    }
    cpu(run, &mut list);
    memory(run, &mut list);
    server(run, &mut list);
    faults(run, &mut list);
    list.0
}

#[derive(Default)]
struct List(Vec<(Figure, f64)>);

impl List {
    fn add(&mut self, group: Group, key: &str, name: &str, unit: Unit, better: Better, value: f64) {
        // A file may hold anything; a page with NaN in it would not be JSON.
        if value.is_finite() {
            self.0.push((Figure { key: key.to_owned(), group, name: name.to_owned(), unit, better }, value));
        }
    }

    fn latency(&mut self, group: Group, key: &str, name: &str, latency: &Latency) {
        if latency.count == 0 {
            return;
        }
        for (percentile, title, us) in [
            ("p50", "P50", latency.p50_us),
            ("p90", "P90", latency.p90_us),
            ("p99", "P99", latency.p99_us),
            ("p99_9", "P99.9", latency.p99_9_us),
            ("max", "max", latency.max_us),
        ] {
            let (key, name) = (format!("{key}_{percentile}_us"), format!("{name} {title}"));
            self.add(group, &key, &name, Unit::Micros, Better::Lower, us as f64);
        }
    }
}

/// A rate per second, if there was anything to count; `count` is of the [window](RunResult::window).
pub fn per_second(run: &RunResult, count: u64) -> f64 {
    if run.seconds > 0.0 { count as f64 / run.seconds } else { 0.0 }
}

fn throughput(run: &RunResult, list: &mut List) {
    use Better::{Higher, Lower};
    let group = Group::Throughput;
    for (key, name, count) in [
        ("acked_per_s", "acked messages/s", run.window().acked),
        ("delivered_per_s", "deliveries/s", run.window().delivered),
    ] {
        if count > 0 && run.seconds > 0.0 {
            list.add(group, key, name, Unit::Number, Higher, per_second(run, count));
        }
    }
    if let Some(saturation) = &run.saturation {
        let rate = saturation.sustained_per_s;
        list.add(group, "sustained_per_s", "highest sustained rate/s", Unit::Number, Higher, rate);
    }
    if run.counts.unsent > 0 {
        list.add(group, "unsent", "planned, never sent", Unit::Number, Lower, run.counts.unsent as f64);
    }
}

fn cpu(run: &RunResult, list: &mut List) {
    use Better::{Higher, Lower, Neither};
    let group = Group::Cpu;
    let (acked, delivered) = (run.window().acked, run.window().delivered);
    let parties = [("server", &run.usage.server), ("store", &run.usage.store), ("generator", &run.usage.generator)];
    for (who, usage) in parties {
        let Some(usage) = usage else { continue };
        if run.seconds > 0.0 {
            let name = format!("{who} CPU, cores");
            list.add(group, &format!("{who}_cores"), &name, Unit::Number, Neither, usage.cpu_s / run.seconds);
        }
        if acked > 0 {
            let name = format!("{who} CPU per message");
            let value = usage.cpu_us_per_message;
            list.add(group, &format!("{who}_cpu_us_per_message"), &name, Unit::Micros, Lower, value);
        }
        if delivered > 0 {
            let name = format!("{who} CPU per delivery");
            let value = usage.cpu_us_per_delivery;
            list.add(group, &format!("{who}_cpu_us_per_delivery"), &name, Unit::Micros, Lower, value);
        }
    }
    let Some(server) = &run.usage.server else { return };
    if delivered > 0 && server.cpu_s > 0.0 {
        let value = delivered as f64 / server.cpu_s;
        list.add(group, "delivered_per_cpu_s", "deliveries per CPU-second of the server", Unit::Number, Higher, value);
        if let Some(store) = &run.usage.store {
            let value = delivered as f64 / (server.cpu_s + store.cpu_s);
            let name = "the same, with its store";
            list.add(group, "delivered_per_cpu_s_with_store", name, Unit::Number, Higher, value);
        }
    }
    if acked > 0 {
        let switches = switches(server) as f64 / acked as f64;
        let name = "server context switches per message";
        list.add(group, "server_switches_per_message", name, Unit::Number, Lower, switches);
    }
}

/// Context switches of both kinds.
pub fn switches(usage: &ProcessUsage) -> u64 {
    usage.voluntary_switches + usage.involuntary_switches
}

fn memory(run: &RunResult, list: &mut List) {
    let group = Group::Memory;
    if let Some(bytes) = run.usage.server_bytes_per_connection {
        let name = "server user-space memory per connection";
        list.add(group, "server_bytes_per_connection", name, Unit::Bytes, Better::Lower, bytes);
    }
    if let Some(bytes) = run.usage.kernel_bytes_per_connection {
        let name = "kernel memory per connection, one end";
        list.add(group, "kernel_bytes_per_connection", name, Unit::Bytes, Better::Lower, bytes);
    }
    for (who, usage) in [("server", &run.usage.server), ("store", &run.usage.store)] {
        if let Some(usage) = usage {
            let name = format!("{who} resident memory");
            list.add(group, &format!("{who}_rss_bytes"), &name, Unit::Bytes, Better::Lower, usage.rss_bytes as f64);
        }
    }
}

fn server(run: &RunResult, list: &mut List) {
    let group = Group::Server;
    let Some(server) = &run.server else { return };
    if let Some(mean) = server.batch_size.get("mean") {
        list.add(group, "batch_size_mean", "mutations per commit, mean", Unit::Number, Better::Neither, *mean);
    }
    for (key, title) in [("mean", "mean"), ("p50", "P50"), ("p99", "P99")] {
        if let Some(us) = server.commit_us.get(key) {
            list.add(group, &format!("commit_us_{key}"), &format!("commit {title}"), Unit::Micros, Better::Lower, *us);
        }
    }
    for stage in server.stages.iter().filter(|stage| stage.count > 0) {
        let name = stage.name.replace('_', " ");
        for (key, title, us) in [("p50", "P50", stage.p50_us), ("p99", "P99", stage.p99_us)] {
            let key = format!("stage_{}_{key}_us", stage.name);
            list.add(group, &key, &format!("stage {name} {title}"), Unit::Micros, Better::Lower, us);
        }
    }
    if let Some(encodes) = server.encodes_per_event {
        list.add(group, "encodes_per_event", "encodings per event and format", Unit::Number, Better::Lower, encodes);
    }
}

fn faults(run: &RunResult, list: &mut List) {
    for (key, name, count) in [
        ("violations", "violations", run.violations.total()),
        ("refused", "refused", run.counts.refused),
        ("lost", "connections lost", run.counts.lost),
        ("lagging", "lagging notices", run.counts.lagging),
        ("resets", "resets", run.counts.resets),
    ] {
        // Every run must be without violations, so that figure always stays. Of the others only what happened does.
        if count > 0 || key == "violations" {
            list.add(Group::Faults, key, name, Unit::Number, Better::Lower, count as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn row<'a>(rows: &'a [Row], key: &str) -> &'a Row {
        rows.iter().find(|row| row.figure.key == key).unwrap()
    }

    #[test]
    fn omits_what_was_not_measured() {
        let keys: Vec<String> = figures(&RunResult::default()).into_iter().map(|(figure, _)| figure.key).collect();
        assert_eq!(keys, ["violations"]);
    }

    #[test]
    fn rows_align_runs_that_have_different_figures() {
        let (full, bare) = (fixtures::run("a", 1.0), RunResult::default());
        let rows = rows(&[&bare, &full]);
        let ack = row(&rows, "ack_p99_us");
        assert!(ack.values[0].is_none() && ack.values[1].is_some());
        assert!(rows.is_sorted_by_key(|row| row.figure.group));
        assert!(ack.ratios().iter().all(Option::is_none), "there is no first value");
    }

    #[test]
    fn prefers_low_latency_and_high_rate() {
        let (quick, slow) = (fixtures::run("quick", 1.0), fixtures::run("slow", 2.0));
        let rows = rows(&[&slow, &quick]);
        assert_eq!(row(&rows, "ack_p99_us").best(), [false, true]);
        assert_eq!(row(&rows, "acked_per_s").best(), [false, true]);
        assert_eq!(row(&rows, "batch_size_mean").best(), [false, false], "no way is better");
        assert_eq!(row(&rows, "violations").best(), [false, false], "alike");
        let ratio = row(&rows, "acked_per_s").ratios()[1].unwrap();
        assert!((ratio - 2.0).abs() < 1e-9);
    }
}
