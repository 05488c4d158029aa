//! The results of `loadtest presence`.

use super::phase::PresencePhase;
use crate::floor::summary::{median, median_and_extremes};
use crate::report::format::{count, micros};
use crate::report::terminal::{machine_line, table_as};
use crate::result::Machine;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Version of [`PresenceReport`].
pub const VERSION: u32 = 1;

/// Everything measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct PresenceReport {
    /// Version of this shape.
    pub version: u32,
    /// What was measured on.
    pub machine: Machine,
    /// The crowd.
    pub users: u32,
    /// Of it, those that each watcher watches.
    pub watched: u32,
    /// Changes of status of each in the phase of that name.
    pub toggles: u32,
    /// Every phase of every burst.
    pub bursts: Vec<MeasuredPhase>,
}

/// One phase of one burst.
#[derive(Debug, Serialize, Deserialize)]
pub struct MeasuredPhase {
    /// The round it belongs to.
    pub round: u32,
    /// Connections that watched.
    pub watchers: u32,
    /// What the crowd did.
    pub phase: PresencePhase,
    /// How many changes of presence that were.
    pub changes: u64,
    /// From the first to the last of them, answered, seconds.
    pub acting_s: f64,
    /// From the first change to the last frame that a watcher received, seconds.
    pub last_frame_s: Option<f64>,
    /// Frames that all watchers received.
    pub frames: u64,
    /// The most that one of them received.
    pub frames_most: u64,
    /// The most that one of them received within half a second.
    pub most_in_interval: u64,
    /// The server's CPU, microseconds.
    pub server_cpu_us: f64,
    /// PostgreSQL's.
    pub store_cpu_us: f64,
}

const HEADER: [&str; 11] = [
    "they",
    "watchers",
    "changes",
    "all done, s",
    "last frame, s",
    "frames/watcher",
    "in 0.5 s",
    "server CPU",
    "µs/change",
    "/ unwatched",
    "more µs/frame",
];

/// Median and extremes of the rounds.
fn figure(figures: &[f64], show: impl Fn(f64) -> String) -> String {
    let [middle, low, high] = median_and_extremes(figures);
    if figures.len() > 1 { format!("{} ({}–{})", show(middle), show(low), show(high)) } else { show(middle) }
}

impl PresenceReport {
    fn of(&self, phase: PresencePhase, watchers: u32) -> Vec<&MeasuredPhase> {
        self.bursts.iter().filter(|burst| (burst.phase, burst.watchers) == (phase, watchers)).collect()
    }

    fn row(&self, phase: PresencePhase, watchers: u32) -> Option<[String; 11]> {
        let (rounds, floor) = (self.of(phase, watchers), self.of(phase, 0));
        let first = rounds.first()?;
        let all = |of: fn(&MeasuredPhase) -> f64| rounds.iter().map(|round| of(round)).collect::<Vec<f64>>();
        let seconds = |s: f64| format!("{s:.2}");
        // Each round is compared with its own burst without watchers, so that a slow minute is in both.
        let beside = rounds.iter().filter_map(|round| {
            let floor = floor.iter().find(|floor| floor.round == round.round)?;
            Some((round, *floor))
        });
        let ratios: Vec<f64> =
            beside.clone().map(|(round, floor)| round.server_cpu_us / floor.server_cpu_us.max(1.0)).collect();
        let extra: Vec<f64> = beside
            .filter(|(round, floor)| round.frames >= floor.changes) // of few frames it would be noise
            .map(|(round, floor)| (round.server_cpu_us - floor.server_cpu_us) / round.frames as f64)
            .collect();
        let or_dash = |figures: &[f64], show: &dyn Fn(f64) -> String| {
            if watchers == 0 || figures.is_empty() { "–".to_owned() } else { figure(figures, show) }
        };
        let last: Vec<f64> = rounds.iter().filter_map(|round| round.last_frame_s).collect();
        Some([
            phase.name().to_owned(),
            watchers.to_string(),
            count(first.changes),
            figure(&all(|round| round.acting_s), seconds),
            or_dash(&last, &seconds),
            or_dash(&all(|round| round.frames_most as f64), &|frames| format!("{frames:.0}")),
            or_dash(&all(|round| round.most_in_interval as f64), &|frames| format!("{frames:.0}")),
            micros(median(all(|round| round.server_cpu_us))),
            figure(&all(|round| round.server_cpu_us / round.changes as f64), |us| format!("{us:.0}")),
            or_dash(&ratios, &|ratio| format!("{ratio:.2}")),
            or_dash(&extra, &|us| format!("{us:.1}")),
        ])
    }

    /// The table, for a terminal or for documentation.
    pub fn render(&self, markdown: bool) -> String {
        let mut table = table_as(&HEADER, markdown);
        let numbers: BTreeSet<u32> = self.bursts.iter().map(|burst| burst.watchers).collect();
        for phase in PresencePhase::ALL {
            table.add_rows(numbers.iter().filter_map(|watchers| self.row(phase, *watchers)));
        }
        let (users, watched) = (count(self.users.into()), self.watched);
        format!(
            "{}\n{users} users of one room; each watcher watches {watched} of them\n\n{}\n",
            machine_line(&self.machine),
            table.trim_fmt()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_rows_with_the_burst_without_watchers() {
        let burst = |round, watchers: u32, us: f64| MeasuredPhase {
            round,
            watchers,
            phase: PresencePhase::Come,
            changes: 1_000,
            acting_s: 1.0,
            last_frame_s: (watchers > 0).then_some(1.5),
            frames: 200 * u64::from(watchers),
            frames_most: if watchers > 0 { 200 } else { 0 },
            most_in_interval: if watchers > 0 { 120 } else { 0 },
            server_cpu_us: us,
            store_cpu_us: 0.0,
        };
        let bursts =
            vec![burst(0, 0, 100_000.0), burst(0, 10, 120_000.0), burst(1, 0, 200_000.0), burst(1, 10, 220_000.0)];
        let machine = Machine::default();
        let report = PresenceReport { version: VERSION, machine, users: 1000, watched: 200, toggles: 4, bursts };
        let text = report.render(false);
        for part in ["come", "1,000", "170 (120–220)", "1.15 (1.10–1.20)", "10.0", "120"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(report.render(true).contains("| come"));
        let read: PresenceReport = serde_json::from_str(&serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(read.bursts.len(), 4);
    }
}
