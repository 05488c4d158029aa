//! The results of `loadtest run nodes`, and whether they meet their bars.

use super::middle::MiddleUse;
use crate::report::comparison::{Spread, range};
use crate::report::figures::Unit;
use crate::report::format::{count, micros, number};
use crate::report::held_bar::{HEADER, HeldBar};
use crate::report::sections::{self, Section};
use crate::result::{Latency, Machine, RunResult};
use crate::scenario::{Nodes, Scenario};
use crate::violations::Violations;
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of [`NodesReport`].
const VERSION: u32 = 1;
/// The P99 of the deliveries of a cluster, milliseconds.
const P99_MAX_MS: f64 = 20.0;
/// The CPU of all nodes a message, as a multiple of that of one server.
const CPU_RATIO_MAX: f64 = 1.3;

/// Everything measured.
#[derive(Debug, Serialize)]
pub(super) struct NodesReport {
    version: u32,
    machine: Machine,
    /// Nodes of the cluster.
    nodes: u32,
    /// Shards of each server.
    workers: u32,
    connections: u32,
    rates: Vec<RateSummary>,
    bars: Vec<HeldBar>,
    phases: Vec<NodesPhase>,
}

/// One phase of one side.
#[derive(Debug, Serialize)]
pub(super) struct NodesPhase {
    /// Messages per second.
    rate: f64,
    /// From 0.
    round: u32,
    /// 1 for one server, otherwise the nodes of the cluster.
    nodes: u32,
    sent: u64,
    acked: u64,
    delivered: u64,
    ack: Latency,
    delivery: Latency,
    middle: MiddleUse,
    /// Refused messages by code.
    errors: BTreeMap<String, u64>,
    generator_limits: Vec<String>,
    violations: Violations,
}

impl NodesPhase {
    pub(super) fn of(rate: f64, round: u32, nodes: u32, result: RunResult, middle: MiddleUse) -> Self {
        let RunResult { counts, ack, delivery, errors, generator_limits, violations, .. } = result;
        let (sent, acked, delivered) = (counts.sent, counts.acked, counts.delivered);
        Self { rate, round, nodes, sent, acked, delivered, ack, delivery, middle, errors, generator_limits, violations }
    }

    fn side(&self) -> String {
        side(self.nodes)
    }

    fn is_at(&self, rate: f64) -> bool {
        (self.rate - rate).abs() < f64::EPSILON
    }
}

/// Both sides at one rate.
#[derive(Debug, Serialize)]
struct RateSummary {
    /// Messages per second.
    rate: f64,
    one_server: SideSummary,
    cluster: SideSummary,
    /// CPU of all nodes a message / that of one server in the same round.
    cpu_ratio: Option<Spread>,
}

/// The figures of one side over all rounds, microseconds.
#[derive(Debug, Serialize)]
struct SideSummary {
    delivery_p50_us: Option<Spread>,
    delivery_p99_us: Option<Spread>,
    server_us_per_message: Option<Spread>,
    store_us_per_message: Option<Spread>,
    redis_us_per_message: Option<Spread>,
}

impl SideSummary {
    fn of(phases: &[&NodesPhase]) -> Self {
        let spread =
            |of: &dyn Fn(&NodesPhase) -> Option<f64>| Spread::of(phases.iter().filter_map(|phase| of(phase)).collect());
        Self {
            delivery_p50_us: spread(&|phase| Some(phase.delivery.p50_us as f64)),
            delivery_p99_us: spread(&|phase| Some(phase.delivery.p99_us as f64)),
            server_us_per_message: spread(&|phase| Some(phase.middle.server_us)),
            store_us_per_message: spread(&|phase| Some(phase.middle.store_us)),
            redis_us_per_message: spread(&|phase| phase.middle.redis_us),
        }
    }

    fn cells(&self) -> [String; 5] {
        let all = [
            self.delivery_p50_us,
            self.delivery_p99_us,
            self.server_us_per_message,
            self.store_us_per_message,
            self.redis_us_per_message,
        ];
        all.map(|spread| match spread {
            None => "–".to_owned(),
            Some(spread) if spread.rounds == 1 => micros(spread.median),
            Some(spread) => format!("{} ({})", micros(spread.median), range(Unit::Micros, spread)),
        })
    }
}

impl RateSummary {
    fn of(rate: f64, phases: &[NodesPhase]) -> Self {
        let here = || phases.iter().filter(move |phase| phase.is_at(rate));
        let of_side =
            |is_cluster: bool| -> Vec<&NodesPhase> { here().filter(|phase| (phase.nodes > 1) == is_cluster).collect() };
        let (one, cluster) = (of_side(false), of_side(true));
        // Pairs of one round: the machine was in the same state.
        let ratios = cluster.iter().filter_map(|phase| {
            let beside = one.iter().find(|other| other.round == phase.round)?;
            (beside.middle.server_us > 0.0).then(|| phase.middle.server_us / beside.middle.server_us)
        });
        let cpu_ratio = Spread::of(ratios.collect());
        Self { rate, one_server: SideSummary::of(&one), cluster: SideSummary::of(&cluster), cpu_ratio }
    }
}

fn side(nodes: u32) -> String {
    if nodes == 1 { "one server".to_owned() } else { format!("{nodes} nodes") }
}

impl NodesReport {
    pub(super) fn new(
        machine: Machine,
        scenario: &Scenario,
        plan: &Nodes,
        workers: u32,
        rates: &[f64],
        phases: Vec<NodesPhase>,
    ) -> Self {
        let rates: Vec<RateSummary> = rates.iter().map(|rate| RateSummary::of(*rate, &phases)).collect();
        let name = side(plan.count);
        let mut bars = Vec::new();
        for RateSummary { rate, cluster, cpu_ratio, .. } in &rates {
            let rate = number(*rate);
            let p99 = cluster.delivery_p99_us.map(|spread| spread.median / 1e3);
            bars.push(HeldBar::at_most(format!("{rate}/s: P99 of deliveries, {name}, ms"), p99, P99_MAX_MS));
            let ratio = cpu_ratio.map(|spread| spread.median);
            bars.push(HeldBar::at_most(
                format!("{rate}/s: server CPU a message, {name} / one server"),
                ratio,
                CPU_RATIO_MAX,
            ));
        }
        let violations = phases.iter().map(|phase| phase.violations.total()).sum::<u64>() as f64;
        let violations = (!phases.is_empty()).then_some(violations);
        bars.push(HeldBar::at_most("violations of the protocol".to_owned(), violations, 0.0));
        let connections = scenario.connections();
        Self { version: VERSION, machine, nodes: plan.count, workers, connections, rates, bars, phases }
    }

    /// Whether every bar is met.
    pub(super) fn is_met(&self) -> bool {
        self.bars.iter().all(|bar| bar.met)
    }

    fn sections(&self) -> Vec<Section> {
        let phases = self.phases.iter().map(|phase| {
            let NodesPhase { ack, delivery, middle, .. } = phase;
            let mut row = vec![number(phase.rate), (phase.round + 1).to_string(), phase.side()];
            row.extend([ack.p50_us, ack.p99_us, delivery.p50_us, delivery.p99_us].map(|us| micros(us as f64)));
            row.extend([middle.server_us, middle.store_us].map(micros));
            row.push(middle.redis_us.map_or_else(|| "–".to_owned(), micros));
            row.extend([middle.known_share, middle.repeated_share].map(|share| format!("{:.0} %", share * 100.0)));
            row.push(format!("{} / {}", count(phase.acked), count(phase.delivered)));
            row.push(phase.violations.total().to_string());
            row
        });
        let rates = self.rates.iter().flat_map(|rate| {
            let ratio = rate.cpu_ratio.map_or_else(
                || "–".to_owned(),
                |spread| match spread.rounds {
                    1 => format!("{:.2}", spread.median),
                    _ => format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max),
                },
            );
            let sides = [(side(1), &rate.one_server, String::new()), (side(self.nodes), &rate.cluster, ratio)];
            sides.map(|(name, summary, ratio)| {
                let mut row = vec![number(rate.rate), name];
                row.extend(summary.cells());
                row.push(ratio);
                row
            })
        });
        let all = [
            Section {
                title: "Each phase".to_owned(),
                header: vec![
                    "messages/s",
                    "round",
                    "servers",
                    "ack P50",
                    "P99",
                    "delivery P50",
                    "P99",
                    "server CPU a message",
                    "PostgreSQL",
                    "Redis",
                    "short commits",
                    "repeated",
                    "acked / delivered",
                    "violations",
                ],
                rows: phases.collect(),
            },
            Section {
                title: format!(
                    "One server and {} of {} each, {} connections: medians (extremes) of the rounds",
                    side(self.nodes),
                    if self.workers == 1 { "one shard".to_owned() } else { format!("{} shards", self.workers) },
                    count(self.connections.into())
                ),
                header: vec![
                    "messages/s",
                    "servers",
                    "delivery P50",
                    "P99",
                    "server CPU a message",
                    "PostgreSQL",
                    "Redis",
                    "ratio",
                ],
                rows: if self.phases.is_empty() { Vec::new() } else { rates.collect() },
            },
            Section {
                title: "Bars".to_owned(),
                header: HEADER.to_vec(),
                rows: self.bars.iter().map(HeldBar::row).collect(),
            },
        ];
        all.into_iter().filter(|section| !section.rows.is_empty()).collect()
    }

    /// Violations, refusals and limits of the generator, each with its phase.
    fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for phase in &self.phases {
            let mut remark = |text: String| {
                let (rate, round, side) = (number(phase.rate), phase.round + 1, phase.side());
                remarks.push(format!("{rate}/s, round {round}, {side}: {text}"));
            };
            for (kind, found) in phase.violations.iter() {
                let sample = found.samples.first().map(|sample| format!(", for example: {sample}")).unwrap_or_default();
                remark(format!("{} {}{sample}", count(found.count), kind.meaning()));
            }
            for (code, refused) in &phase.errors {
                remark(format!("{} refused: {code}", count(*refused)));
            }
            for limit in &phase.generator_limits {
                remark(format!("limit: {limit}"));
            }
        }
        remarks
    }

    /// For people.
    pub(super) fn render(&self) -> String {
        sections::text(&self.machine, &self.sections(), &self.remarks())
    }

    /// The same as a page that needs nothing else.
    pub(super) fn page(&self, label: &str) -> String {
        sections::page(label, &self.machine, &self.sections(), &self.remarks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::violations::ViolationKind;

    fn phase(rate: f64, round: u32, nodes: u32, p99_ms: u64, server_us: f64) -> NodesPhase {
        let delivery = Latency { p50_us: 1_000, p99_us: p99_ms * 1_000, ..Latency::default() };
        let redis_us = (nodes > 1).then_some(20.0);
        let middle = MiddleUse {
            messages: 1_000,
            server_us,
            store_us: 80.0,
            redis_us,
            known_share: 0.7,
            ..MiddleUse::default()
        };
        NodesPhase::of(rate, round, nodes, RunResult { delivery, ..RunResult::default() }, middle)
    }

    fn report(rates: &[f64], phases: Vec<NodesPhase>) -> NodesReport {
        NodesReport::new(Machine::current(), &Scenario::default(), &Nodes::default(), 1, rates, phases)
    }

    fn verdicts(report: &NodesReport) -> Vec<bool> {
        report.bars.iter().map(|bar| bar.met).collect()
    }

    #[test]
    fn figures_at_their_bars_meet_them() {
        let report = report(&[500.0], vec![phase(500.0, 0, 1, 90, 100.0), phase(500.0, 0, 2, 20, 130.0)]);
        assert_eq!(verdicts(&report), [true; 3], "the P99 of one server has no bar");
        assert!(report.is_met());
        let text = report.render();
        for expected in ["2 nodes of one shard each", "130 µs", "20 µs", "1.30", "≤ 20.00", "70 %"] {
            assert!(text.contains(expected), "{expected} is missing in\n{text}");
        }
        assert!(!text.contains("NOT MET"), "{text}");
    }

    #[test]
    fn each_missed_bar_is_named_with_its_rate() {
        let mut phases = vec![phase(500.0, 0, 1, 5, 100.0), phase(500.0, 0, 2, 21, 120.0)];
        phases.extend([phase(2_500.0, 0, 1, 5, 100.0), phase(2_500.0, 0, 2, 9, 131.0)]);
        phases[3].violations.note(ViolationKind::Gap, || "room_7 <lost>".to_owned());
        let report = report(&[500.0, 2_500.0], phases);
        assert_eq!(verdicts(&report), [false, true, true, false, false]);
        let text = report.render();
        assert!(text.contains("2,500/s, round 1, 2 nodes: 1 sequence numbers skipped, for example: room_7"), "{text}");
        let page = report.page("a <b>");
        assert!(page.contains("<h1>a &lt;b&gt;</h1>") && page.contains("NOT MET") && !page.contains("<lost>"));
    }

    #[test]
    fn compares_rounds_in_pairs_and_takes_the_median() {
        // The machine was half as fast in the second round, and something disturbed one phase of the third.
        let one = [100.0, 200.0, 100.0].into_iter().zip(0..).map(|(us, round)| phase(500.0, round, 1, 5, us));
        let two = [120.0, 240.0, 900.0].into_iter().zip(0..).map(|(us, round)| phase(500.0, round, 2, 8, us));
        let report = report(&[500.0], one.chain(two).collect());
        assert!(report.rates[0].cpu_ratio.is_some_and(|ratio| (ratio.median - 1.2).abs() < 1e-9));
        assert_eq!(verdicts(&report), [true; 3]);
        assert!(report.render().contains("1.20 (1.20–9.00)"), "{}", report.render());
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let interrupted = report(&[500.0], vec![phase(500.0, 0, 1, 5, 100.0)]);
        assert_eq!(verdicts(&interrupted), [false, false, true]);
        assert!(interrupted.render().contains("not measured"));
        assert_eq!(verdicts(&report(&[500.0], Vec::new())), [false; 3]);
    }
}
