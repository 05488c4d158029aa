//! Results as a run would write them, for the tests of reports: `slowness` multiplies every time and divides every
//! rate.

use crate::result::{
    ClassResult, Latency, Machine, ProcessUsage, RESULT_VERSION, RunCounts, RunResult, Saturation, SaturationStep,
    Second, ServerSide, Stage, SystemUnderTest, Usage,
};
use crate::violations::{ViolationKind, Violations};
use hdrhistogram::Histogram;
use serde_json::json;
use std::collections::BTreeMap;

/// Values with the distribution of latencies: a body and a long tail.
pub fn histogram(median_us: f64, count: u32) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 3_600_000_000, 3).unwrap();
    for n in 0..count {
        let quantile = (f64::from(n) + 0.5) / f64::from(count);
        let tail = (1.0 / (1.0 - quantile)).powf(0.45);
        let us = median_us * (0.35 + 0.5 * quantile + 0.25 * tail * tail.ln().max(0.0));
        histogram.record(us as u64 + 1).unwrap();
    }
    histogram
}

fn latency(median_us: f64, count: u32) -> Latency {
    Latency::of(&histogram(median_us, count)).unwrap()
}

fn usage(cores: f64, counts: &RunCounts, seconds: f64) -> ProcessUsage {
    let cpu_s = cores * seconds;
    ProcessUsage {
        cpu_s,
        system_s: cpu_s * 0.42,
        cpu_us_per_message: cpu_s * 1e6 / counts.acked as f64,
        cpu_us_per_delivery: cpu_s * 1e6 / counts.delivered as f64,
        rss_before_bytes: 33_000_000,
        rss_bytes: 61_000_000,
        voluntary_switches: (9_000.0 * seconds) as u64,
        involuntary_switches: (400.0 * seconds) as u64,
        busiest_thread_cores: cores * 0.6,
    }
}

fn timeline(seconds: u32, rate: f64, slowness: f64) -> Vec<Second> {
    (1..=seconds)
        .map(|at| {
            let wave = 1.0 + 0.12 * (f64::from(at) * 0.55).sin() + if at % 23 == 0 { 0.9 } else { 0.0 };
            let us = |base: f64| (base * wave * slowness) as u64;
            let acked = (rate * (1.0 + 0.02 * (f64::from(at) * 1.3).cos())) as u64;
            Second {
                at_s: f64::from(at),
                planned: rate as u64,
                sent: rate as u64,
                acked,
                delivered: acked * 10,
                ack_p50_us: us(900.0),
                ack_p99_us: us(3_600.0),
                ack_max_us: us(9_500.0),
                delivery_p50_us: us(1_200.0),
                delivery_p99_us: us(4_300.0),
                delivery_max_us: us(12_800.0),
                server_cores: 0.62 * wave * slowness,
                store_cores: 0.31 * wave,
                generator_cores: 0.24,
                server_rss_bytes: 52_000_000 + u64::from(at) * 150_000,
            }
        })
        .collect()
}

/// A clean run.
pub fn run(label: &str, slowness: f64) -> RunResult {
    let seconds = 60.0;
    let rate = 2_000.0 / slowness;
    let counts = RunCounts {
        connections: 1_000,
        users: 1_000,
        rooms: 100,
        sent: (rate * seconds) as u64,
        acked: (rate * seconds) as u64,
        delivered: (rate * seconds) as u64 * 10,
        received_bytes: 320_000_000,
        ..RunCounts::default()
    };
    let stage = |name: &str, p50_us: f64, p99_us: f64| Stage {
        name: name.to_owned(),
        count: counts.acked,
        p50_us: p50_us * slowness,
        p99_us: p99_us * slowness,
    };
    let figures = |list: &[(&str, f64)]| -> BTreeMap<String, f64> {
        list.iter().map(|(name, value)| ((*name).to_owned(), *value * slowness)).collect()
    };
    RunResult {
        version: RESULT_VERSION,
        label: label.to_owned(),
        system: SystemUnderTest {
            name: "Veza Chat Server".to_owned(),
            version: "0.2.0".to_owned(),
            durability: "fsync".to_owned(),
            workers: Some(2),
        },
        started_at: "2026-01-02T03:04:05Z".to_owned(),
        machine: Machine {
            cpu: "AMD EPYC 7763 64-Core Processor".to_owned(),
            cores: 2,
            memory_bytes: 8 << 30,
            kernel: "6.18.44".to_owned(),
            os: "Debian GNU/Linux 13 (trixie)".to_owned(),
            load_1m: 0.41,
        },
        scenario: json!({
            "name": "rooms-10",
            "population": {"users": 1_000, "rooms": 100, "rooms_per_user": 1},
            "load": {"mode": "open", "rate_per_s": rate, "spacing": "poisson", "payload_bytes": 128},
            "format": "json",
        }),
        seconds,
        ack: latency(1_000.0 * slowness, 40_000),
        delivery: latency(1_400.0 * slowness, 90_000),
        send_lag: latency(40.0, 10_000),
        operations: BTreeMap::from([("log_in".to_owned(), latency(42_000.0 * slowness, 1_000))]),
        classes: vec![ClassResult {
            name: "small".to_owned(),
            room_size: 10,
            ack: latency(900.0 * slowness, 2_000),
            delivery: latency(1_100.0 * slowness, 2_000),
        }],
        timeline: timeline(60, rate, slowness),
        usage: Usage {
            server: Some(usage(0.66, &counts, seconds)),
            store: Some(usage(0.33, &counts, seconds)),
            generator: Some(usage(0.24, &counts, seconds)),
            server_bytes_per_connection: Some(812.0 * slowness),
            kernel_bytes_per_connection: Some(4_100.0 * slowness),
        },
        server: Some(ServerSide {
            batches: 12_345,
            batched_mutations: 120_000,
            batch_size: figures(&[("mean", 9.72), ("p50", 8.0), ("p90", 16.0), ("p99", 64.0)]),
            commit_us: figures(&[("mean", 1_250.0), ("p50", 1_000.0), ("p90", 2_500.0), ("p99", 5_000.0)]),
            stages: vec![
                stage("decode", 2.0, 8.0),
                stage("commit_queue", 500.0, 2_500.0),
                stage("commit", 1_000.0, 5_000.0),
                stage("fan_out", 20.0, 100.0),
            ],
            encodes_per_event: Some(1.0),
        }),
        counts,
        ..RunResult::default()
    }
}

/// A run that found its limit, with violations.
pub fn broken(label: &str) -> RunResult {
    let mut violations = Violations::default();
    violations.note_many(ViolationKind::Gap, 3, || "room_7: subscriber 12 skipped 41 to 43 </script><b>".to_owned());
    let step = |planned_per_s: f64, held: bool| SaturationStep {
        planned_per_s,
        acked_per_s: planned_per_s * if held { 1.0 } else { 0.83 },
        ack_p50_us: (planned_per_s / 3.0) as u64,
        ack_p99_us: (planned_per_s * if held { 1.2 } else { 9.0 }) as u64,
        held,
    };
    let mut broken = run(label, 1.6);
    broken.interrupted = true;
    broken.counts.unsent = 40;
    broken.errors.insert("rate_limited".to_owned(), 5);
    broken.generator_limits = vec!["the generator's thread used 97 % of a core".to_owned()];
    broken.notes = vec!["log-ins were slow".to_owned()];
    broken.saturation = Some(Saturation {
        steps: vec![step(1_000.0, true), step(2_000.0, true), step(4_000.0, true), step(8_000.0, false)],
        sustained_per_s: 4_000.0,
        broke: "acked fell to 83 % of what was planned".to_owned(),
    });
    broken.violations = violations;
    broken
}
