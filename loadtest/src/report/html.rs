//! One page with everything on it: curves, time lines and tables of one or several runs, or of a comparison.
//!
//! Invariants:
//! - the page is self-contained: it has its style, script and data, and its content policy forbids loading anything. It
//!   works from a file, on a phone and on paper;
//! - the data is JSON inside a script element, with every `<` escaped, so no label or sample of a violation can end the
//!   element. The script inserts all of it as text;
//! - histograms are decoded here and become curves of bounded length, so a page stays small for every run.

use crate::measure::latency::LatencyError;
use crate::report::comparison::{Comparison, ComparisonRow, SystemRuns, range};
use crate::report::curve::{bounded_timeline, percentile_curve};
use crate::report::figures::{Better, Row, Unit, rows};
use crate::report::format::{bytes, count, micros, number, times};
use crate::report::side_by_side::{Verdict, grouped, remarks, verdict};
use crate::report::terminal::{machine_line, notes, system_line};
use crate::result::{Latency, RunResult, Saturation, Second};
use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

const TEMPLATE: &str = include_str!("report.html");
const STYLE: &str = include_str!("report.css");
const SCRIPT: &str = concat!(include_str!("charts.js"), include_str!("report.js"));

/// Settings on the page; a scenario has a tenth of that.
const SETTINGS_MAX: usize = 300;

/// The large figures at the top, if they were measured.
const HEADLINES: [&str; 9] = [
    "acked_per_s",
    "delivered_per_s",
    "sustained_per_s",
    "ack_p50_us",
    "ack_p99_us",
    "delivery_p99_us",
    "server_cpu_us_per_delivery",
    "delivered_per_cpu_s",
    "server_bytes_per_connection",
];

/// Why a page was not made.
#[derive(Debug, Error)]
pub enum PageError {
    /// A histogram can't be read.
    #[error("{label}: {error}")]
    Histogram {
        /// The run it is of.
        label: String,
        /// Its fault.
        error: LatencyError,
    },
    /// The data could not be written.
    #[error("cannot write the page's data: {0}")]
    Data(#[from] serde_json::Error),
    /// A placeholder is missing; a test checks the template.
    #[error("the page's template has no {0}")]
    Template(&'static str),
}

/// The data of the page's script. Values in tables are already text, so that page and terminal show the same.
#[derive(Debug, Serialize)]
pub struct Page {
    title: String,
    subtitle: Vec<String>,
    made_by: String,
    runs: Vec<RunData>,
    headlines: Vec<TableRow>,
    groups: Vec<TableGroup>,
    settings: Vec<Setting>,
    remarks: Vec<String>,
    comparison: Option<ComparisonData>,
}

#[derive(Debug, Serialize)]
struct RunData {
    label: String,
    system: String,
    started_at: String,
    violations: Vec<ViolationData>,
    violations_total: String,
    limits: Vec<String>,
    notes: Vec<String>,
    curves: Vec<Curve>,
    timeline: Vec<Second>,
    saturation: Option<SaturationData>,
}

#[derive(Debug, Serialize)]
struct ViolationData {
    count: String,
    meaning: &'static str,
    samples: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Curve {
    key: String,
    title: String,
    points: Vec<(f64, u64)>,
}

#[derive(Debug, Serialize)]
struct SaturationData {
    sustained: String,
    #[serde(flatten)]
    found: Saturation,
}

#[derive(Debug, Serialize)]
struct TableGroup {
    title: &'static str,
    rows: Vec<TableRow>,
}

#[derive(Debug, Serialize)]
struct TableRow {
    key: String,
    name: String,
    better: Better,
    cells: Vec<Option<Cell>>,
}

#[derive(Debug, Serialize)]
struct Cell {
    value: f64,
    text: String,
    ratio: Option<String>,
    verdict: Verdict,
    best: bool,
    /// Lowest and highest, in a comparison.
    range: Option<(f64, f64, String)>,
}

#[derive(Debug, Serialize)]
struct Setting {
    name: String,
    values: Vec<String>,
    differs: bool,
}

#[derive(Debug, Serialize)]
struct ComparisonData {
    systems: Vec<SystemData>,
    rows: Vec<ComparedRow>,
}

#[derive(Debug, Serialize)]
struct SystemData {
    name: String,
    version: String,
    durability: String,
    durable: bool,
    rounds: usize,
    violations: u64,
    generator_limited: bool,
}

#[derive(Debug, Serialize)]
struct ComparedRow {
    unit: Unit,
    #[serde(flatten)]
    row: TableRow,
}

impl Page {
    /// Of one run, or of several side by side.
    pub fn of_runs(runs: &[RunResult]) -> Result<Self, PageError> {
        let references: Vec<&RunResult> = runs.iter().collect();
        let title = match runs {
            [run] => run.label.clone(),
            runs => runs.iter().map(|run| run.label.as_str()).collect::<Vec<_>>().join(" · "),
        };
        Self::new(title, &references, None)
    }

    /// Of several systems with their rounds: curves are of all rounds of a system together, timelines of its middle
    /// one.
    pub fn of_systems(systems: &[SystemRuns]) -> Result<Self, PageError> {
        // One without rounds has no curves, and would shift the colours of those after it.
        let systems: Vec<SystemRuns> = systems.iter().filter(|system| !system.runs.is_empty()).cloned().collect();
        let comparison = Comparison::new(&systems);
        let mut representatives = Vec::new();
        for system in &systems {
            representatives.extend(representative(system)?);
        }
        let scenario = representatives.first().map(|run| run.label.clone()).unwrap_or_default();
        for (run, system) in representatives.iter_mut().zip(&systems) {
            run.label.clone_from(&system.system);
        }
        let references: Vec<&RunResult> = representatives.iter().collect();
        let count = comparison.systems.len();
        Self::new(format!("{scenario}: {count} systems compared"), &references, Some(&comparison))
    }

    fn new(title: String, runs: &[&RunResult], comparison: Option<&Comparison>) -> Result<Self, PageError> {
        let rows = rows(runs);
        let headline = |key: &&str| rows.iter().find(|row| row.figure.key == **key).map(table_row);
        Ok(Self {
            title,
            subtitle: subtitle(runs),
            made_by: format!("loadtest {}", env!("CARGO_PKG_VERSION")),
            runs: runs.iter().map(|run| run_data(run)).collect::<Result<_, _>>()?,
            headlines: HEADLINES.iter().filter_map(headline).collect(),
            groups: grouped(&rows)
                .into_iter()
                .map(|(title, rows)| TableGroup { title, rows: rows.into_iter().map(table_row).collect() })
                .collect(),
            settings: settings(runs),
            remarks: if comparison.is_some() { Vec::new() } else { remarks(runs) },
            comparison: comparison.map(comparison_data),
        })
    }

    /// The page.
    pub fn into_html(self) -> Result<String, PageError> {
        let data = script_json(&self)?;
        let title = text_html(&self.title);
        let mut html = String::new();
        let mut rest = TEMPLATE;
        // In the template's order, each searched after the one before, so inserted text is never searched.
        for (marker, content) in
            [("{{title}}", title.as_str()), ("{{style}}", STYLE), ("{{data}}", &data), ("{{script}}", SCRIPT)]
        {
            let (before, after) = rest.split_once(marker).ok_or(PageError::Template(marker))?;
            html += before;
            html += content;
            rest = after;
        }
        Ok(html + rest)
    }
}

/// JSON that can stand inside a script element: a `<` occurs in strings only, and there it can be written otherwise.
fn script_json(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = serde_json::to_string(value)?;
    Ok(json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"))
}

fn text_html(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The round with the median rate, with the latencies of all rounds.
fn representative(system: &SystemRuns) -> Result<Option<RunResult>, PageError> {
    let mut rounds: Vec<&RunResult> = system.runs.iter().collect();
    rounds.sort_by_key(|run| run.counts.acked + run.counts.delivered);
    let Some(middle) = rounds.get(rounds.len() / 2) else { return Ok(None) };
    let merged = |of: fn(&RunResult) -> &Latency| {
        Latency::merged(system.runs.iter().map(of))
            .map_err(|error| PageError::Histogram { label: system.system.clone(), error })
    };
    let mut run = (*middle).clone();
    run.ack = merged(|run| &run.ack)?;
    run.delivery = merged(|run| &run.delivery)?;
    Ok(Some(run))
}

fn subtitle(runs: &[&RunResult]) -> Vec<String> {
    let mut lines = Vec::new();
    if let [run] = runs {
        lines.push(format!("{} · {:.1} s · {}", system_line(run), run.seconds, run.started_at));
    }
    for line in runs.iter().map(|run| machine_line(&run.machine)) {
        if !lines.contains(&line) && lines.len() < 3 {
            lines.push(line);
        }
    }
    lines
}

fn run_data(run: &RunResult) -> Result<RunData, PageError> {
    let mut curves = Vec::new();
    let mut add = |key: String, title: String, latency: &Latency| -> Result<(), PageError> {
        let histogram = latency.unpack().map_err(|error| PageError::Histogram { label: run.label.clone(), error })?;
        let points: Vec<(f64, u64)> =
            percentile_curve(&histogram).into_iter().map(|(x, us)| ((x * 1e3).round() / 1e3, us)).collect();
        if !points.is_empty() {
            curves.push(Curve { key, title, points });
        }
        Ok(())
    };
    add("ack".to_owned(), "Ack".to_owned(), &run.ack)?;
    add("delivery".to_owned(), "Delivery".to_owned(), &run.delivery)?;
    for class in &run.classes {
        let title = format!("Delivery in {} rooms of {}", class.name, class.room_size);
        add(format!("class_{}", class.name), title, &class.delivery)?;
    }
    for (name, latency) in &run.operations {
        let mut title = name.replace('_', " ");
        if let Some(first) = title.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        add(format!("operation_{name}"), title, latency)?;
    }
    Ok(RunData {
        label: run.label.clone(),
        system: system_line(run),
        started_at: run.started_at.clone(),
        violations: run
            .violations
            .iter()
            .map(|(kind, found)| ViolationData {
                count: count(found.count),
                meaning: kind.meaning(),
                samples: found.samples.clone(),
            })
            .collect(),
        violations_total: count(run.violations.total()),
        limits: run.generator_limits.clone(),
        notes: notes(run),
        curves,
        timeline: bounded_timeline(&run.timeline),
        saturation: run
            .saturation
            .clone()
            .map(|found| SaturationData { sustained: number(found.sustained_per_s), found }),
    })
}

fn table_row(row: &Row) -> TableRow {
    let (ratios, best) = (row.ratios(), row.best());
    let cells = row.values.iter().enumerate().map(|(index, value)| {
        let ratio = ratios[index].filter(|_| index > 0);
        Some(Cell {
            value: (*value)?,
            text: row.figure.unit.text((*value)?),
            ratio: ratio.map(times),
            verdict: ratio.map_or(Verdict::Alike, |ratio| verdict(row.figure.better, ratio)),
            best: best[index],
            range: None,
        })
    });
    TableRow {
        key: row.figure.key.clone(),
        name: row.figure.name.clone(),
        better: row.figure.better,
        cells: cells.collect(),
    }
}

fn compared_row(row: &ComparisonRow) -> ComparedRow {
    let mut table = table_row(&row.medians());
    for (cell, spread) in table.cells.iter_mut().zip(&row.systems) {
        if let (Some(cell), Some(spread)) = (cell, spread) {
            cell.range = Some((spread.min, spread.max, range(row.figure.unit, *spread)));
        }
    }
    ComparedRow { unit: row.figure.unit, row: table }
}

fn comparison_data(comparison: &Comparison) -> ComparisonData {
    let systems = comparison.systems.iter().cloned().map(|system| SystemData {
        name: system.name,
        version: system.version,
        durability: system.durability,
        durable: system.durable,
        rounds: system.rounds,
        violations: system.violations,
        generator_limited: system.generator_limited,
    });
    ComparisonData { systems: systems.collect(), rows: comparison.rows.iter().map(compared_row).collect() }
}

/// Scenario and machine of every run, with what differs marked.
fn settings(runs: &[&RunResult]) -> Vec<Setting> {
    let each: Vec<Vec<(String, String)>> = runs.iter().map(|run| settings_of(run)).collect();
    let mut settings: Vec<Setting> = Vec::new();
    for (index, list) in each.into_iter().enumerate() {
        for (name, value) in list {
            let at = settings.iter().position(|setting| setting.name == name).unwrap_or_else(|| {
                settings.push(Setting { name, values: vec![String::new(); runs.len()], differs: false });
                settings.len() - 1
            });
            settings[at].values[index] = value;
        }
    }
    settings.truncate(SETTINGS_MAX);
    for setting in &mut settings {
        setting.differs = setting.values.iter().any(|value| *value != setting.values[0]);
    }
    settings
}

fn settings_of(run: &RunResult) -> Vec<(String, String)> {
    let machine = &run.machine;
    let counts = &run.counts;
    let mut list = vec![
        ("system".to_owned(), system_line(run)),
        ("started at".to_owned(), run.started_at.clone()),
        ("seconds".to_owned(), format!("{:.1}", run.seconds)),
        ("connections".to_owned(), count(counts.connections)),
        ("users".to_owned(), count(counts.users)),
        ("rooms".to_owned(), count(counts.rooms)),
        ("processor".to_owned(), machine.cpu.clone()),
        ("cores".to_owned(), machine.cores.to_string()),
        ("memory".to_owned(), bytes(machine.memory_bytes as f64)),
        ("kernel".to_owned(), machine.kernel.clone()),
        ("distribution".to_owned(), machine.os.clone()),
        ("load average at the start".to_owned(), format!("{:.2}", machine.load_1m)),
    ];
    if run.send_lag.count > 0 {
        list.push(("generator's own lag, P99".to_owned(), micros(run.send_lag.p99_us as f64)));
    }
    flatten("scenario", &run.scenario, &mut list);
    list
}

/// A tree of settings as paths with values.
fn flatten(path: &str, value: &Value, list: &mut Vec<(String, String)>) {
    if list.len() >= SETTINGS_MAX {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(&format!("{path}.{name}"), value, list);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            for (index, item) in items.iter().enumerate() {
                flatten(&format!("{path}.{index}"), item, list);
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            list.push((path.to_owned(), items.join(", ")));
        }
        Value::Null => {}
        other => list.push((path.to_owned(), scalar(other))),
    }
}

fn scalar(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[path = "html_tests.rs"]
mod tests;
