//! Several systems under the same load, several rounds each: the median and the spread of every figure.
//!
//! One round proves little on a machine that others use, too. The spread is the lowest and the highest round and not a
//! deviation: five rounds are too few for further statistics.

use crate::floor::summary::median;
use crate::report::figures::{Figure, Row, Unit, rows};
use crate::report::format::{micros_range, number_range, times};
use crate::report::terminal::{table, write_machine, write_table};
use crate::result::{Machine, RunResult};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A system's name in the table, characters.
const NAME_CHARS_MAX: usize = 18;

/// The figures of the terminal's tables: key and heading. The page has all.
const HEADLINES: [&[(&str, &str)]; 2] = [
    &[
        ("acked_per_s", "acked/s"),
        ("delivered_per_s", "delivered/s"),
        ("delivered_per_cpu_s", "del./CPU-s"),
        ("delivered_per_cpu_s_with_store", "with store"),
        ("server_bytes_per_connection", "per conn."),
    ],
    &[
        ("ack_p50_us", "ack P50"),
        ("ack_p99_us", "ack P99"),
        ("delivery_p50_us", "del. P50"),
        ("delivery_p99_us", "del. P99"),
        ("delivery_max_us", "del. max"),
    ],
];

/// A system and its rounds, in the form of a comparison's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SystemRuns {
    /// The system's name.
    pub system: String,
    /// Its rounds.
    pub runs: Vec<RunResult>,
}

/// A figure over several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the rounds are at most this.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// The number of rounds with it.
    pub rounds: usize,
}

impl Spread {
    /// The spread of these values; `None` without values.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        Some(Self { min, max, rounds: values.len(), median: median(values) })
    }
}

/// One system of the comparison.
#[derive(Debug, Clone, Serialize)]
pub struct SystemSummary {
    /// Its name.
    pub name: String,
    /// Its version, if it reported one.
    pub version: String,
    /// What its acknowledgements promise.
    pub durability: String,
    /// Whether acknowledged messages survive a crash.
    pub durable: bool,
    /// How many rounds it had.
    pub rounds: usize,
    /// Violations in all rounds.
    pub violations: u64,
    /// Whether the generator was the limit in a round.
    pub generator_limited: bool,
}

/// One figure of every system.
#[derive(Debug, Clone, Serialize)]
pub struct ComparisonRow {
    /// The figure.
    #[serde(flatten)]
    pub figure: Figure,
    /// The spread of each system that has it.
    pub systems: Vec<Option<Spread>>,
}

impl ComparisonRow {
    /// The medians as a row of values, for ratios and for the best.
    pub fn medians(&self) -> Row {
        let values = self.systems.iter().map(|spread| spread.map(|spread| spread.median)).collect();
        Row { figure: self.figure.clone(), values }
    }
}

/// Systems side by side.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// The systems in the order of the command line; ratios are to the first.
    pub systems: Vec<SystemSummary>,
    /// Their figures.
    pub rows: Vec<ComparisonRow>,
    /// What they ran on.
    pub machine: Machine,
}

impl Comparison {
    /// Combines the rounds of each system.
    pub fn new(systems: &[SystemRuns]) -> Self {
        let runs: Vec<&RunResult> = systems.iter().flat_map(|system| &system.runs).collect();
        let rows = rows(&runs)
            .into_iter()
            .map(|row| {
                let mut values = row.values.into_iter();
                let spread_of =
                    |system: &SystemRuns| Spread::of(values.by_ref().take(system.runs.len()).flatten().collect());
                ComparisonRow { figure: row.figure, systems: systems.iter().map(spread_of).collect() }
            })
            .collect();
        let machine = runs.first().map(|run| run.machine.clone()).unwrap_or_default();
        let systems = systems.iter().map(summarize).collect();
        Self { systems, rows, machine }
    }

    fn row(&self, key: &str) -> Option<&ComparisonRow> {
        self.rows.iter().find(|row| row.figure.key == key)
    }
}

fn summarize(SystemRuns { system: name, runs }: &SystemRuns) -> SystemSummary {
    let system = runs.first().map(|run| run.system.clone()).unwrap_or_default();
    SystemSummary {
        name: name.clone(),
        durable: is_durable(&system.durability),
        version: system.version,
        durability: system.durability,
        rounds: runs.len(),
        violations: runs.iter().map(|run| run.violations.total()).sum(),
        generator_limited: runs.iter().any(|run| !run.generator_limits.is_empty()),
    }
}

/// Whether an acknowledged message survives a crash: only one on disk does.
pub fn is_durable(durability: &str) -> bool {
    durability.trim_start().starts_with("fsync")
}

/// Groups results by the system they tested, in the order of first appearance.
pub fn by_system(runs: Vec<RunResult>) -> Vec<SystemRuns> {
    let mut systems: Vec<SystemRuns> = Vec::new();
    for run in runs {
        match systems.iter_mut().find(|known| known.system == run.system.name) {
            Some(known) => known.runs.push(run),
            None => systems.push(SystemRuns { system: run.system.name.clone(), runs: vec![run] }),
        }
    }
    systems
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_machine(f, "", &self.machine)?;
        writeln!(f)?;
        for headlines in HEADLINES {
            let columns: Vec<(&str, &ComparisonRow)> =
                headlines.iter().filter_map(|(key, title)| Some((*title, self.row(key)?))).collect();
            if columns.is_empty() {
                continue;
            }
            let mut header = vec!["system", "durable"];
            header.extend(columns.iter().map(|(title, _)| *title));
            let mut table = table(&header);
            let ratios: Vec<Vec<Option<f64>>> = columns.iter().map(|(_, row)| row.medians().ratios()).collect();
            for (index, system) in self.systems.iter().enumerate() {
                table.add_row(self.lines_of(index, system, &columns, &ratios));
            }
            write_table(f, &table)?;
        }
        for system in &self.systems {
            if system.violations > 0 {
                let violations = crate::report::format::count(system.violations);
                writeln!(f, "{}: {violations} violations in {} rounds", system.name, system.rounds)?;
            }
            if system.generator_limited {
                writeln!(f, "{}: in at least one round the generator was the limit, not the server", system.name)?;
            }
        }
        writeln!(f, "Each: the rounds' median, lowest–highest, and how many times the first system's it is.")?;
        writeln!(f, "durable: what was acknowledged survives a crash of the machine (fsync before the ack).")
    }
}

impl Comparison {
    /// The cells of one system, three lines each.
    fn lines_of(
        &self,
        index: usize,
        system: &SystemSummary,
        columns: &[(&str, &ComparisonRow)],
        ratios: &[Vec<Option<f64>>],
    ) -> Vec<String> {
        let name: String = system.name.chars().take(NAME_CHARS_MAX).collect();
        let rounds = format!("{} round{}", system.rounds, if system.rounds == 1 { "" } else { "s" });
        // The first has no third line, and the last needs no gap to a next.
        let gap = match index {
            0 => "\n ",
            _ if index + 1 < self.systems.len() => "\n\n ",
            _ => "",
        };
        let mut cells = vec![
            format!("{name}\n{rounds}{gap}"),
            if system.durable { "yes".to_owned() } else { format!("no\n{}", system.durability) },
        ];
        for ((_, row), ratios) in columns.iter().zip(ratios) {
            cells.push(match row.systems[index] {
                Some(spread) => {
                    let ratio = ratios[index].filter(|_| index > 0);
                    let ratio = ratio.map(|ratio| format!("\n{}", times(ratio))).unwrap_or_default();
                    format!("{}\n{}{ratio}", row.figure.unit.text(spread.median), range(row.figure.unit, spread))
                }
                None => "-".to_owned(),
            });
        }
        cells
    }
}

/// Lowest to highest.
pub fn range(unit: Unit, spread: Spread) -> String {
    match unit {
        Unit::Number => number_range(spread.min, spread.max),
        Unit::Micros => micros_range(spread.min, spread.max),
        Unit::Bytes => format!("{}–{}", unit.text(spread.min), unit.text(spread.max)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures;

    fn comparison() -> Comparison {
        let ours = [1.0, 1.1, 0.9, 1.05, 1.0].map(|slowness| fixtures::run("rooms-10", slowness)).to_vec();
        let mut theirs = [2.0, 2.2, 1.9].map(|slowness| fixtures::run("rooms-10", slowness)).to_vec();
        for run in &mut theirs {
            run.system.durability = "none".to_owned();
            run.server = None;
        }
        let system = |name: &str, runs| SystemRuns { system: name.to_owned(), runs };
        Comparison::new(&[system("Veza Chat Server", ours), system("Mosquitto", theirs)])
    }

    #[test]
    fn the_median_is_the_middle_and_the_spread_its_ends() {
        let spread = Spread::of(vec![5.0, 1.0, 9.0]).unwrap();
        assert_eq!(spread, Spread { median: 5.0, min: 1.0, max: 9.0, rounds: 3 });
        let spread = Spread::of(vec![4.0, 1.0]).unwrap();
        assert!((spread.median - 2.5).abs() < 1e-9);
        assert!(Spread::of(Vec::new()).is_none());
    }

    #[test]
    fn each_system_has_its_own_rounds() {
        let comparison = comparison();
        let row = comparison.row("acked_per_s").unwrap();
        let (ours, theirs) = (row.systems[0].unwrap(), row.systems[1].unwrap());
        assert_eq!((ours.rounds, theirs.rounds), (5, 3));
        assert!((ours.median - 2_000.0).abs() < 1.0 && (theirs.median - 1_000.0).abs() < 1.0, "{ours:?} {theirs:?}");
        assert!(comparison.row("batch_size_mean").unwrap().systems[1].is_none(), "only ours reports it");
    }

    #[test]
    fn shows_durability_and_ratios_in_the_table() {
        let text = comparison().to_string();
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        }
        for expected in ["yes", "no", "none", "0.50×", "5 rounds", "Mosquitto"] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        assert!(is_durable("fsync") && !is_durable("memory") && !is_durable(""));
    }

    #[test]
    fn results_are_grouped_by_what_they_tested() {
        let mut other = fixtures::run("b", 1.0);
        other.system.name = "NATS".to_owned();
        let groups = by_system(vec![fixtures::run("a", 1.0), other, fixtures::run("c", 1.0)]);
        let sizes: Vec<(&str, usize)> = groups.iter().map(|group| (group.system.as_str(), group.runs.len())).collect();
        assert_eq!(sizes, [("Veza Chat Server", 2), ("NATS", 1)]);
    }
}
