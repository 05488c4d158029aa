//! The results of `loadtest hooks`.

use crate::floor::summary::{median, median_and_extremes};
use crate::report::format::{count, micros};
use crate::report::terminal::{machine_line, table_as};
use crate::result::{Latency, Machine};
use serde::{Deserialize, Serialize};

/// Version of [`HooksReport`].
pub const VERSION: u32 = 1;

/// Everything measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct HooksReport {
    /// Version of this shape.
    pub version: u32,
    /// What was measured on.
    pub machine: Machine,
    /// Webhooks whose deliveries were measured.
    pub receivers: u32,
    /// Messages per second.
    pub rate: u32,
    /// Every phase.
    pub phases: Vec<HooksPhase>,
}

/// One phase.
#[derive(Debug, Serialize, Deserialize)]
pub struct HooksPhase {
    /// The round it belongs to.
    pub round: u32,
    /// Whether the receiver of the other webhook never answered.
    pub hangs: bool,
    /// From the beginning of a send to the arrival of its request.
    pub latency: Latency,
}

const HEADER: [&str; 4] = ["deliveries", "all answer", "one never answers", "ratio of each round"];

/// Reads a figure.
type Figure = fn(&Latency) -> f64;

/// The figures of a phase that are compared.
const FIGURES: [(&str, Figure); 4] = [
    ("mean", |latency| latency.mean_us),
    ("P50", |latency| latency.p50_us as f64),
    ("P90", |latency| latency.p90_us as f64),
    ("P99", |latency| latency.p99_us as f64),
];

impl HooksReport {
    /// A figure of each round, of the phases with this state.
    fn of(&self, hangs: bool, figure: Figure) -> Vec<(u32, f64)> {
        let phases = self.phases.iter().filter(|phase| phase.hangs == hangs);
        phases.map(|phase| (phase.round, figure(&phase.latency))).collect()
    }

    fn row(&self, name: &str, figure: Figure) -> [String; 4] {
        let (quiet, hung) = (self.of(false, figure), self.of(true, figure));
        let ratios: Vec<f64> = hung
            .iter()
            .filter_map(|(round, us)| {
                let (_, beside) = quiet.iter().find(|(other, _)| other == round)?;
                Some(us / beside.max(1.0))
            })
            .collect();
        let middle = |figures: Vec<(u32, f64)>| micros(median(figures.into_iter().map(|(_, us)| us).collect()));
        let [ratio, low, high] = median_and_extremes(&ratios);
        let ratio = if ratios.is_empty() { "–".to_owned() } else { format!("{ratio:.3} ({low:.3}–{high:.3})") };
        [name.to_owned(), middle(quiet), middle(hung), ratio]
    }

    /// The table, for a terminal or for documentation.
    pub fn render(&self, markdown: bool) -> String {
        let mut table = table_as(&HEADER, markdown);
        table.add_rows(FIGURES.iter().map(|(name, figure)| self.row(name, *figure)));
        let deliveries: u64 = self.phases.iter().map(|phase| phase.latency.count).sum();
        format!(
            "{}\n{} webhooks of one room, {} messages per second, {} deliveries; medians (extremes)\n\n{}\n",
            machine_line(&self.machine),
            self.receivers,
            self.rate,
            count(deliveries),
            table.trim_fmt()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_the_two_phases_of_each_round() {
        let phase = |round, hangs, us: u64| HooksPhase {
            round,
            hangs,
            latency: Latency {
                count: 100,
                mean_us: us as f64,
                p50_us: us,
                p90_us: us,
                p99_us: us,
                ..Latency::default()
            },
        };
        let phases =
            vec![phase(0, false, 50_000), phase(0, true, 52_000), phase(1, true, 101_000), phase(1, false, 100_000)];
        let report = HooksReport { version: VERSION, machine: Machine::default(), receivers: 5, rate: 20, phases };
        let text = report.render(false);
        for part in ["1.025 (1.010–1.040)", "P99", "400 deliveries"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(report.render(true).contains("| P50"));
        let read: HooksReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(read.phases.len(), 4);
    }
}
