//! Builds the [`RunResult`] from what was measured.

use super::collect::{Busy, SecondHistograms, sum};
use super::drive::Driven;
use super::gauge::Gauge;
use crate::measure::process::Work;
use crate::result::{ClassResult, Latency, RESULT_VERSION, RunCounts, RunResult, ServerSide, SystemUnderTest, Window};
use crate::scenario::{Mode, Scenario};
use hdrhistogram::Histogram;
use std::time::SystemTime;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Sends that left later than this, 1 in 100, make the generator the limit.
const LAG_LIMIT_US: u64 = 5_000;

/// What a run gave.
#[derive(Debug)]
pub struct Outcome {
    /// The result.
    pub result: RunResult,
    /// Both latencies, second by second.
    pub seconds: Vec<SecondHistograms>,
    /// When sending began.
    pub began: SystemTime,
}

pub(super) fn rfc3339(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}

/// The result of a driven run.
pub(super) fn assemble(
    scenario: &Scenario,
    driven: Driven,
    gauge: &mut Gauge,
    server: Option<ServerSide>,
) -> Result<Outcome, String> {
    let Driven { options, mut collected, violations, began, sent_for, interrupted, saturation } = driven;
    let total = &collected.total;
    let tally = total.tally;
    let connections = options.seats.len() as u64;
    let seconds = sent_for.as_secs_f64();
    let latency = |histogram: &Histogram<u64>| Latency::of(histogram).map_err(|error| error.to_string());
    let send_lag = latency(&total.send_lag)?;
    let window = collected.window;
    let usage = gauge.usage(Work { acked: window.acked, delivered: window.delivered });
    // Sending ends a moment after its last second, and that moment is not shown as another second.
    let shown = if scenario.load.mode == Mode::Saturate { seconds } else { scenario.load.duration.as_secs_f64() };
    let mut result = RunResult {
        version: RESULT_VERSION,
        system: SystemUnderTest {
            name: "Veza Chat Server".to_owned(),
            version: String::new(),
            durability: "fsync".to_owned(),
            workers: None,
        },
        started_at: rfc3339(began),
        seconds,
        interrupted,
        counts: RunCounts {
            connections,
            users: u64::from(scenario.population.users),
            rooms: options.class_of_room.len() as u64,
            sent: tally.sent,
            resent: tally.resent,
            unsent: tally.unsent,
            held_back: tally.held_back,
            acked: tally.acked,
            refused: tally.refused,
            delivered: tally.delivered,
            other_events: tally.other_events,
            other_commands: tally.other_commands,
            lost: tally.lost,
            restored: tally.restored,
            lagging: tally.lagging,
            resets: tally.resets,
            received_bytes: tally.received_bytes,
        },
        sending: Some(Window {
            sent: window.sent,
            acked: window.acked,
            delivered: window.delivered,
            other_events: window.other_events,
            other_commands: window.other_commands,
        }),
        ack: latency(&sum(&total.ack, 3)?)?,
        delivery: latency(&sum(&total.delivery, 3)?)?,
        send_lag,
        classes: classes(scenario, &total.ack, &total.delivery)?,
        timeline: collected.timeline(seconds.min(shown)),
        usage,
        server,
        saturation,
        ..RunResult::default()
    };
    for (name, histogram) in &collected.findings.operations {
        result.operations.insert((*name).to_owned(), latency(histogram)?);
    }
    result.generator_limits = limits(scenario, collected.busy, &result.send_lag);
    result.notes = notes(scenario, &result);
    result.errors = std::mem::take(&mut collected.findings.errors);
    result.violations = violations;
    result.violations.merge(std::mem::take(&mut collected.findings.violations));
    Ok(Outcome { result, seconds: collected.histograms, began })
}

fn classes(
    scenario: &Scenario,
    ack: &[Histogram<u64>],
    delivery: &[Histogram<u64>],
) -> Result<Vec<ClassResult>, String> {
    let population = &scenario.population;
    if ack.len() < 2 {
        return Ok(Vec::new());
    }
    let spread = |count: u32| population.users / count.max(1);
    let mut named: Vec<(String, u32)> = population
        .rooms
        .iter()
        .map(|class| {
            let size = if class.size == 0 { spread(class.count) } else { class.size };
            (class.name.clone(), size * population.connections_per_user)
        })
        .collect();
    if scenario.slow_readers.is_some() {
        named.push(("slow readers".to_owned(), 0));
    }
    let latency = |histogram: &Histogram<u64>| Latency::of(histogram).map_err(|error| error.to_string());
    let histograms = ack.iter().zip(delivery);
    named
        .into_iter()
        .zip(histograms)
        .map(|((name, room_size), (ack, delivery))| {
            Ok(ClassResult { name, room_size, ack: latency(ack)?, delivery: latency(delivery)? })
        })
        .collect()
}

/// Why the generator, not the server, was the limit.
fn limits(scenario: &Scenario, busy: Busy, send_lag: &Latency) -> Vec<String> {
    let mut limits = Vec::new();
    if busy.is_limit() {
        limits.push(format!(
            "a thread of the generator used up to {:.0} % of a core, and nearly all of it in {} of {} seconds: it was \
             the limit. Give it more --threads, or its own cores",
            busy.most * 100.0,
            busy.at_the_limit,
            busy.seconds
        ));
    }
    if scenario.load.mode != Mode::Closed && send_lag.p99_us > LAG_LIMIT_US {
        limits.push(format!(
            "1 in 100 sends left {:.1} ms or more after its planned time although no window delayed it: this machine \
             is too busy for the load, and latencies include that",
            send_lag.p99_us as f64 / 1e3
        ));
    }
    limits
}

fn notes(scenario: &Scenario, result: &RunResult) -> Vec<String> {
    let mut notes = Vec::new();
    if scenario.load.mode == Mode::Closed {
        notes.push(
            "closed loop: latencies count from the actual send, and a slow answer delays the next send. They do not \
             include waiting in front of the server"
                .to_owned(),
        );
    }
    if !scenario.checks {
        notes.push("without checks: the run cannot say whether messages were lost, duplicated or reordered".to_owned());
    }
    if let Some(server) = &result.usage.server
        && !scenario.sends()
        && result.seconds > 0.0
    {
        let per = server.cpu_s * 1e6 / (result.counts.connections.max(1) as f64 * result.seconds);
        notes.push(format!("{per:.3} µs of the server's CPU per idle connection and second"));
    }
    notes
}
