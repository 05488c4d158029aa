//! The results of `loadtest run crowding`.

use super::counts::Asked;
use crate::report::format::micros;
use crate::report::terminal::{machine_line, table};
use crate::result::Machine;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Version of [`CrowdingReport`].
pub(super) const VERSION: u32 = 2;
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

/// What the ordinary users, or one of them, saw of a phase.
#[derive(Default)]
pub struct Seen {
    /// Reads of the history.
    pub history: Vec<Duration>,
    /// New connections.
    pub connect: Vec<Duration>,
    /// Acks of messages.
    pub ack: Vec<Duration>,
    /// Deliveries of messages, to every user.
    pub delivery: Vec<Duration>,
    /// Sign-ins over HTTP.
    pub sign_in: Vec<Duration>,
    /// Reads over HTTP.
    pub read: Vec<Duration>,
    /// Requests that were refused, in words.
    pub refused: Vec<String>,
}

impl Seen {
    /// What two of them saw.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.history.extend(other.history);
        self.connect.extend(other.connect);
        self.ack.extend(other.ack);
        self.delivery.extend(other.delivery);
        self.sign_in.extend(other.sign_in);
        self.read.extend(other.read);
        self.refused.extend(other.refused);
        self
    }
}

/// The same in figures.
#[derive(Serialize)]
pub(super) struct Figures {
    history: Times,
    connect: Times,
    ack: Times,
    delivery: Times,
    sign_in: Times,
    read: Times,
    refused: BTreeMap<String, u64>,
}

/// Latencies, microseconds.
#[derive(Clone, Copy, Serialize)]
pub struct Times {
    /// How many.
    pub count: usize,
    /// The median.
    pub p50_us: f64,
    /// 99 in 100 are not longer.
    pub p99_us: f64,
}

impl Times {
    /// The figures of some latencies.
    pub fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        let at = |share: f64| {
            let rank = (all.len() as f64 * share).ceil() as usize;
            all.get(rank.saturating_sub(1)).map_or(0.0, |took| took.as_secs_f64() * 1e6)
        };
        Self { count: all.len(), p50_us: at(0.5), p99_us: at(0.99) }
    }
}

impl Figures {
    pub(super) fn of(seen: Seen) -> Self {
        let mut refused = BTreeMap::new();
        for refusal in seen.refused {
            *refused.entry(refusal).or_default() += 1;
        }
        Self {
            history: Times::of(seen.history),
            connect: Times::of(seen.connect),
            ack: Times::of(seen.ack),
            delivery: Times::of(seen.delivery),
            sign_in: Times::of(seen.sign_in),
            read: Times::of(seen.read),
            refused,
        }
    }

    fn times(&self) -> [Times; KINDS] {
        [self.history, self.connect, self.ack, self.sign_in, self.read]
    }
}

/// Kinds of latencies.
const KINDS: usize = 5;

const HEADER: [&str; 14] = [
    "flood",
    "history P50",
    "P99",
    "connect P50",
    "P99",
    "ack P50",
    "P99",
    "sign-in P50",
    "P99",
    "HTTP read P50",
    "P99",
    "worst P99 / quiet",
    "refused",
    "flood answered / refused / lost",
];

impl CrowdingReport {
    /// Requests of ordinary users that were refused.
    pub(super) fn refused(&self) -> u64 {
        self.phases.iter().flat_map(|phase| phase.figures.refused.values()).sum()
    }

    /// The P99 of the quiet phases before and after a phase, the larger of them: what the machine does by itself is no
    /// fault of the flood's.
    fn quiet(&self, at: usize) -> [f64; KINDS] {
        let is_quiet = |phase: &&Phase| phase.flood.is_none();
        let (before, after) = self.phases.split_at(at);
        let beside = [before.iter().rfind(is_quiet), after.iter().find(is_quiet)];
        let mut quiet = [0.0_f64; KINDS];
        for phase in beside.into_iter().flatten() {
            for (most, times) in quiet.iter_mut().zip(phase.figures.times()) {
                *most = most.max(times.p99_us);
            }
        }
        quiet
    }

    /// The worst P99 of a phase as a multiple of the quiet one; 0 in a quiet phase.
    fn worst(&self, at: usize) -> f64 {
        let Some(phase) = self.phases.get(at).filter(|phase| phase.flood.is_some()) else { return 0.0 };
        let ratio = |(times, quiet): (Times, f64)| times.p99_us / quiet.max(1.0);
        phase.figures.times().into_iter().zip(self.quiet(at)).map(ratio).fold(0.0, f64::max)
    }

    /// For people.
    pub(super) fn render(&self) -> String {
        let mut table = table(&HEADER);
        for (at, phase) in self.phases.iter().enumerate() {
            let mut row = vec![phase.flood.unwrap_or("none").to_owned()];
            row.extend(phase.figures.times().iter().flat_map(|times| [micros(times.p50_us), micros(times.p99_us)]));
            let asked = phase.asked.as_ref();
            row.push(asked.map_or_else(String::new, |_| format!("{:.2}", self.worst(at))));
            row.push(phase.figures.refused.values().sum::<u64>().to_string());
            let became = |asked: &Asked| format!("{} / {} / {}", asked.answered, asked.refused, asked.lost);
            row.push(asked.map_or_else(String::new, became));
            table.add_row(row);
        }
        let mut text = format!("{}\n\n{table}\n\n", machine_line(&self.machine));
        let worst = (0..self.phases.len()).map(|at| self.worst(at)).fold(0.0, f64::max);
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
                let _ = writeln!(text, "a connection of the flood {} was lost: {why}", phase.flood.unwrap_or_default());
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(flood: Option<&'static str>, ms: [u64; KINDS], refused: &[&str]) -> Phase {
        let [history, connect, ack, sign_in, read] = ms.map(|ms| vec![Duration::from_millis(ms); 10]);
        let refused = refused.iter().map(|words| (*words).to_owned()).collect();
        let asked = flood.map(|_| Asked { answered: 5, refused: 7, lost: 3, why: None });
        Phase {
            flood,
            asked,
            figures: Figures::of(Seen { history, connect, ack, sign_in, read, refused, ..Seen::default() }),
        }
    }

    #[test]
    fn a_flood_is_held_to_the_slower_of_the_quiet_phases() {
        let phases = vec![
            phase(None, [2, 9, 3, 50, 2], &[]),
            phase(Some("get_thread"), [7, 12, 5, 50, 2], &[]),
            phase(None, [4, 8, 3, 40, 2], &[]),
        ];
        let mut report = CrowdingReport { version: VERSION, machine: Machine::current(), phases };
        assert!((report.worst(1) - 1.75).abs() < 1e-9);
        assert!(report.render().contains("(1.75), nobody refused (0): met"), "{}", report.render());
        assert!(report.render().contains("5 / 7 / 3"), "{}", report.render());
        // Only the quiet phases beside it count: here the second and the third, not the slower first one.
        report.phases.push(phase(Some("sign_ins"), [2, 8, 3, 100, 2], &["overloaded: wait"]));
        report.phases.push(phase(None, [2, 9, 3, 40, 2], &[]));
        assert!(report.render().contains("(2.50), nobody refused (1): NOT MET"), "{}", report.render());
        assert!(report.render().contains("refused 1 times beside sign_ins: overloaded"));
        report.phases.push(phase(Some("refresh"), [2, 9, 3, 40, 8], &[]));
        assert!((report.worst(5) - 4.0).abs() < 1e-9);
    }

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let all: Vec<Duration> = (1..=200).map(Duration::from_micros).collect();
        let times = Times::of(all);
        assert!((times.p50_us - 100.0).abs() < 1e-6 && (times.p99_us - 198.0).abs() < 1e-6);
        assert_eq!(Times::of(Vec::new()).count, 0);
    }
}
