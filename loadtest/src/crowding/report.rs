//! The results of `loadtest run crowding`.

use super::flood::Asked;
use crate::report::format::micros;
use crate::report::terminal::{machine_line, table};
use crate::result::Machine;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Version of [`CrowdingReport`].
pub(super) const VERSION: u32 = 1;
/// What a phase with a flood may take, as a multiple of the quiet ones.
const BAR: f64 = 2.0;

/// Everything measured.
#[derive(Serialize)]
pub(super) struct CrowdingReport {
    pub(super) version: u32,
    pub(super) machine: Machine,
    pub(super) phases: Vec<Phase>,
}

/// One phase.
#[derive(Serialize)]
pub(super) struct Phase {
    /// What floods; none in a quiet phase.
    pub(super) flood: Option<&'static str>,
    pub(super) asked: Option<Asked>,
    pub(super) figures: Figures,
}

/// What the ordinary users saw of a phase.
#[derive(Serialize)]
pub(super) struct Figures {
    history: Times,
    connect: Times,
    ack: Times,
    refused: BTreeMap<String, u64>,
}

/// Latencies, microseconds.
#[derive(Clone, Copy, Serialize)]
struct Times {
    count: usize,
    p50_us: f64,
    p99_us: f64,
}

impl Times {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |share: f64| {
            let rank = (all.len() as f64 * share).ceil() as usize;
            all.get(rank.saturating_sub(1)).map_or(0.0, |took| took.as_secs_f64() * 1e6)
        };
        Self { count: all.len(), p50_us: at(0.5), p99_us: at(0.99) }
    }
}

impl Figures {
    pub(super) fn of(
        history: Vec<Duration>,
        connect: Vec<Duration>,
        ack: Vec<Duration>,
        refusals: Vec<String>,
    ) -> Self {
        let mut refused = BTreeMap::new();
        for refusal in refusals {
            *refused.entry(refusal).or_default() += 1;
        }
        Self { history: Times::of(history), connect: Times::of(connect), ack: Times::of(ack), refused }
    }

    fn times(&self) -> [Times; 3] {
        [self.history, self.connect, self.ack]
    }
}

const HEADER: [&str; 9] = [
    "flood",
    "history P50",
    "P99",
    "connect P50",
    "P99",
    "ack P50",
    "P99",
    "worst P99 / quiet",
    "flood answered / refused",
];

impl CrowdingReport {
    /// Requests of ordinary users that were refused.
    pub(super) fn refused(&self) -> u64 {
        self.phases.iter().flat_map(|phase| phase.figures.refused.values()).sum()
    }

    /// The P99 of the quiet phases, the larger of them: what the machine does by itself is no fault of the flood's.
    fn quiet(&self) -> [f64; 3] {
        let mut quiet = [0.0_f64; 3];
        for phase in self.phases.iter().filter(|phase| phase.flood.is_none()) {
            for (most, times) in quiet.iter_mut().zip(phase.figures.times()) {
                *most = most.max(times.p99_us);
            }
        }
        quiet
    }

    fn worst(&self, phase: &Phase) -> f64 {
        let ratio = |(times, quiet): (Times, f64)| times.p99_us / quiet.max(1.0);
        phase.figures.times().into_iter().zip(self.quiet()).map(ratio).fold(0.0, f64::max)
    }

    /// For people.
    pub(super) fn render(&self) -> String {
        let mut table = table(&HEADER);
        for phase in &self.phases {
            let mut row = vec![phase.flood.unwrap_or("none").to_owned()];
            row.extend(phase.figures.times().iter().flat_map(|times| [micros(times.p50_us), micros(times.p99_us)]));
            let asked = phase.asked.as_ref();
            row.push(asked.map_or_else(String::new, |_| format!("{:.2}", self.worst(phase))));
            row.push(asked.map_or_else(String::new, |asked| format!("{} / {}", asked.answered, asked.refused)));
            table.add_row(row);
        }
        let mut text = format!("{}\n\n{table}\n\n", machine_line(&self.machine));
        let floods: Vec<&Phase> = self.phases.iter().filter(|phase| phase.flood.is_some()).collect();
        let worst = floods.iter().map(|phase| self.worst(phase)).fold(0.0, f64::max);
        let met = if worst <= BAR && self.refused() == 0 { "met" } else { "NOT MET" };
        let refused = self.refused();
        let _ = writeln!(
            text,
            "bar: P99 within {BAR} times that of the quiet phases ({worst:.2}), nobody refused ({refused}): {met}"
        );
        for phase in &self.phases {
            for (refusal, times) in &phase.figures.refused {
                let _ = writeln!(text, "refused {times} times beside {}: {refusal}", phase.flood.unwrap_or("nothing"));
            }
            if let Some(why) = phase.asked.as_ref().and_then(|asked| asked.why.as_ref()) {
                let _ = writeln!(text, "a socket of the flood was lost: {why}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(flood: Option<&'static str>, ms: [u64; 3], refused: &[&str]) -> Phase {
        let [history, connect, ack] = ms.map(|ms| vec![Duration::from_millis(ms); 10]);
        let refusals = refused.iter().map(|words| (*words).to_owned()).collect();
        let asked = flood.map(|_| Asked { answered: 5, refused: 7, lost: 0, why: None });
        Phase { flood, asked, figures: Figures::of(history, connect, ack, refusals) }
    }

    #[test]
    fn a_flood_is_held_to_the_slower_of_the_quiet_phases() {
        let quiet = [phase(None, [2, 9, 3], &[]), phase(None, [4, 8, 3], &[])];
        let flood = phase(Some("get_thread"), [7, 12, 5], &[]);
        let phases = quiet.into_iter().chain([flood]).collect();
        let mut report = CrowdingReport { version: VERSION, machine: Machine::current(), phases };
        assert!((report.worst(&report.phases[2]) - 1.75).abs() < 1e-9);
        assert!(report.render().contains("(1.75), nobody refused (0): met"), "{}", report.render());
        report.phases.push(phase(Some("list_members"), [2, 9, 7], &["overloaded: wait"]));
        assert!(report.render().contains("(2.33), nobody refused (1): NOT MET"), "{}", report.render());
        assert!(report.render().contains("refused 1 times beside list_members: overloaded"));
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        let times = Times::of(all);
        assert!((times.p50_us - 100.0).abs() < 1e-6 && (times.p99_us - 198.0).abs() < 1e-6);
        assert_eq!(Times::of(Vec::new()).count, 0);
    }
}
