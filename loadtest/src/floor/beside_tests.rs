//! Shapes come from the run, and ratios compare the same quantity of the run and the floor.

use super::*;
use crate::floor::bare_loop::LoopFloor;
use crate::floor::postgres::StatementForm;
use crate::floor::summary::Percentiles;
use crate::result::{Machine, ProcessUsage, RunCounts, ServerSide, Usage};
use serde_json::json;

fn templates() -> (Shape, PostgresShape) {
    let sockets = Shape {
        rooms: 1,
        room_size: 1,
        senders_per_room: 1,
        load: FloorLoad::Open { rate: 1.0 },
        even: false,
        bytes_in: 100,
        bytes_out: 200,
        sending: Sending::PerDelivery,
        warm_up_s: 0.0,
        seconds: 1.0,
        seed: 1,
        cores: None,
        quiet: true,
    };
    let postgres = PostgresShape {
        form: StatementForm::Known,
        connections: 2,
        batch: 1,
        rooms: 2,
        room_size: 1,
        content_bytes: 128,
        history: 0,
        warm_up_s: 0.0,
        seconds: 1.0,
        quiet: true,
    };
    (sockets, postgres)
}

fn result() -> RunResult {
    RunResult {
        label: "rooms-10".to_owned(),
        seconds: 10.0,
        counts: RunCounts { connections: 200, rooms: 20, acked: 5000, delivered: 50_000, ..RunCounts::default() },
        usage: Usage {
            server: Some(ProcessUsage { cpu_us_per_delivery: 9.0, ..ProcessUsage::default() }),
            ..Usage::default()
        },
        server: Some(ServerSide { batch_size: [("mean".to_owned(), 3.4)].into(), ..ServerSide::default() }),
        ..RunResult::default()
    }
}

#[test]
fn takes_the_shape_from_the_counts_of_the_run() {
    let FloorCases { sockets, postgres, loops } = cases(&result(), &templates()).unwrap();
    assert_eq!(sockets.len(), 2);
    assert!(sockets.iter().all(|s| (s.rooms, s.room_size, s.senders_per_room) == (20, 10, 10)));
    assert!(sockets.iter().all(|s| s.load == FloorLoad::Open { rate: 500.0 } && s.bytes_out == 200));
    assert_eq!(postgres.iter().map(|p| p.batch).collect::<Vec<_>>(), [3, LARGE_BATCH]);
    assert!(postgres.iter().all(|p| (p.rooms, p.room_size) == (20, 10)));
    assert!(loops.is_empty(), "an open loop's rates are its plan's");
}

#[test]
fn a_closed_loop_keeps_its_window() {
    let mut result = result();
    result.scenario = json!({"load": {"mode": "closed", "in_flight": 48, "payload_bytes": 99}});
    let FloorCases { sockets, postgres, loops } = cases(&result, &templates()).unwrap();
    assert!(sockets.iter().all(|s| s.load == FloorLoad::Closed { window: 48 }));
    assert_eq!(loops.iter().map(|shape| shape.connections).collect::<Vec<_>>(), LOOP_CONNECTIONS);
    assert!(loops.iter().all(|shape| shape.content_bytes == 99));
    let of_loop = &loops[0].sockets;
    assert_eq!(of_loop, &sockets[1], "the loop sends coalesced and has the same clients");
    assert_eq!((of_loop.rooms, of_loop.room_size), (postgres[0].rooms as u32, postgres[0].room_size as u32));
}

#[test]
fn takes_uncounted_values_from_the_scenario() {
    let mut result = result();
    result.scenario = json!({"format": "msgpack", "population": {"rooms": [{"senders": 3}]},
        "load": {"mode": "open", "spacing": "even", "payload_bytes": 1000}});
    let FloorCases { sockets, postgres, .. } = cases(&result, &templates()).unwrap();
    let frame = frames::measure(1000, Format::MessagePack).unwrap();
    assert!(sockets.iter().all(|s| (s.bytes_in, s.bytes_out) == (frame.to_server, frame.to_member)));
    assert!(sockets.iter().all(|s| s.even && s.senders_per_room == 3));
    assert!(postgres.iter().all(|p| p.content_bytes == 1000));
}

#[test]
fn refuses_scenarios_that_the_floor_cannot_reproduce() {
    for (scenario, word) in [
        (json!({"compression": true}), "compress"),
        (json!({"format": "both"}), "both formats"),
        (json!({"load": {"payload_bytes": [{"bytes": 64, "weight": 1.0}]}}), "several lengths"),
        (json!({"population": {"rooms": [{"senders": 0}, {"senders": 0}]}}), "several classes"),
        (json!({"storm": {"at": "1s", "share": 0.5}}), "[storm]"),
    ] {
        let refused = cases(&RunResult { scenario, ..result() }, &templates()).unwrap_err();
        assert!(refused.contains(word), "{refused}");
    }
    let plain = serde_json::to_value(crate::scenario::Scenario::default()).unwrap();
    assert!(cases(&RunResult { scenario: plain, ..result() }, &templates()).is_ok(), "as results have it");
}

fn loader(batch: usize, rows_per_s: f64, postgres_cpu_us_per_row: f64) -> PostgresFloor {
    PostgresFloor {
        shape: PostgresShape { batch, ..templates().1 },
        seconds: 1.0,
        rows: 1,
        rows_per_s,
        commits_per_s: 1.0,
        commit: Percentiles::default(),
        postgres_cpu_us_per_row,
        postgres_cores: 0.1,
        loader_cores: 0.1,
    }
}

fn bare_loop((connections, acked_per_s, driver_cores): (usize, f64, f64)) -> LoopFloor {
    LoopFloor {
        shape: LoopShape { sockets: templates().0, connections, content_bytes: 128 },
        seconds: 1.0,
        acked: 1,
        acked_per_s,
        deliveries_per_s: 1.0,
        batch_mean: 1.0,
        ack: Percentiles::default(),
        delivery: Percentiles::default(),
        loop_cores: 0.1,
        loader_cores: 0.1,
        postgres_cores: 0.1,
        driver_cores,
        postgres_cpu_us_per_row: 1.0,
    }
}

fn report(sockets: &[SocketFloor], postgres: &[PostgresFloor], loops: &[LoopFloor]) -> FloorReport {
    let (sockets, postgres, loops) = (sockets.to_vec(), postgres.to_vec(), loops.to_vec());
    FloorReport { sockets, postgres, loops, ..FloorReport::new(Machine::default()) }
}

fn find<'a>(ratios: &'a Ratios, what: &str) -> Option<&'a Ratio> {
    ratios.ratios.iter().find(|ratio| ratio.what.starts_with(what))
}

#[test]
fn compares_durable_messages_with_the_best_batch() {
    let mut result = result();
    result.scenario = json!({"load": {"mode": "closed"}});
    let rounds = [(3, 100.0), (500, 2000.0), (1000, 1000.0), (500, 4000.0), (500, 2500.0)];
    let rounds = rounds.map(|(batch, rows_per_s)| loader(batch, rows_per_s, 1.0));
    let ratios = Ratios::of(&result, &report(&[], &rounds, &[]));
    let best = find(&ratios, DURABLE_BEST_BATCH).unwrap();
    assert!((best.floor - 2500.0).abs() < 1e-9 && (best.quotient - 0.2).abs() < 1e-9, "{best:?}");
    assert!(find(&ratios, DURABLE_SAME_BATCH).is_some());
}

#[test]
fn compares_the_messages_of_a_cpu_second_with_the_batch_that_costs_the_least() {
    let mut result = result();
    result.usage.store = Some(ProcessUsage { cpu_us_per_message: 25.0, ..ProcessUsage::default() });
    result.scenario = json!({"load": {"mode": "closed"}});
    // The batch with the most rows per second is not the one that costs the least.
    let rounds = [(100, 9000.0, 30.0), (500, 8000.0, 20.0), (500, 8000.0, 18.0), (500, 8000.0, 90.0)];
    let rounds = rounds.map(|(batch, rows_per_s, cpu_us)| loader(batch, rows_per_s, cpu_us));
    let ratios = Ratios::of(&result, &report(&[], &rounds, &[]));
    let share = find(&ratios, DURABLE_SAME_SHARE).unwrap();
    assert!((share.run - 40_000.0).abs() < 1e-6 && (share.floor - 50_000.0).abs() < 1e-6, "{share:?}");
    assert!((share.quotient - 0.8).abs() < 1e-9, "{share:?}");
    for (scenario, cpu_us_per_message) in [("open", 25.0), ("closed", 0.0)] {
        result.usage.store = Some(ProcessUsage { cpu_us_per_message, ..ProcessUsage::default() });
        result.scenario = json!({"load": {"mode": scenario}});
        let ratios = Ratios::of(&result, &report(&[], &rounds, &[]));
        assert!(find(&ratios, DURABLE_SAME_SHARE).is_none(), "{scenario} {cpu_us_per_message}: {ratios}");
    }
}

#[test]
fn compares_durable_messages_with_the_median_of_the_faster_bare_loop() {
    let mut result = result();
    result.scenario = json!({"load": {"mode": "closed"}});
    let one = [400.0, 9000.0, 600.0].map(|per_s| (1, per_s, 0.5));
    // The driver of the last one was its limit.
    let two = [500.0, 625.0, 9000.0].map(|per_s| (2, per_s, 0.5)).into_iter().chain([(2, 100.0, 0.99)]);
    let loops: Vec<_> = one.into_iter().chain(two).map(bare_loop).collect();
    let floors = report(&[], &[], &loops);
    let ratios = Ratios::of(&result, &floors);
    let [ratio] = ratios.ratios.as_slice() else { panic!("{ratios}") };
    assert_eq!(ratio.what, BARE_LOOP);
    assert!((ratio.run - 500.0).abs() < 1e-9 && (ratio.quotient - 0.8).abs() < 1e-9, "{ratio:?}");
    result.scenario = json!({"load": {"mode": "open"}});
    assert!(Ratios::of(&result, &floors).ratios.is_empty());
}

#[test]
fn refuses_a_floor_for_a_run_without_deliveries() {
    assert!(cases(&RunResult::default(), &templates()).is_err());
}

#[test]
fn ratios_are_to_the_median_of_the_rounds() {
    let floor = |sending, cpu| SocketFloor {
        shape: Shape { sending, ..templates().0 },
        seconds: 1.0,
        messages: 1,
        deliveries: 1,
        deliveries_per_s: 10_000.0,
        server_cpu_us_per_delivery: cpu,
        server_cpu_us_per_message: cpu,
        server_cores: 0.1,
        driver_cores: 0.1,
        delivery: Percentiles::default(),
    };
    let rounds = [7.0, 6.0, 90.0].map(|cpu| floor(Sending::PerDelivery, cpu));
    let mut result = result();
    result.scenario = json!({"load": {"mode": "closed"}});
    let ratios = Ratios::of(&result, &report(&rounds, &[], &[]));
    let of = |what: &str| find(&ratios, what).unwrap();
    let cpu = of("server CPU");
    assert!((cpu.floor - 7.0).abs() < 1e-9 && (cpu.quotient - 9.0 / 7.0).abs() < 1e-9);
    assert!((of("deliveries/s").quotient - 0.5).abs() < 1e-9);
    assert_eq!(ratios.ratios.len(), 2, "there is no coalesced floor and no PostgreSQL to compare with");
    assert!(ratios.to_string().contains("= 1.29"), "{ratios}");
    result.scenario = json!({"load": {"mode": "open"}});
    let below_the_limit = Ratios::of(&result, &report(&rounds, &[], &[]));
    assert_eq!(below_the_limit.ratios.len(), 1, "an open loop's rates are its plan's: {below_the_limit}");
}
