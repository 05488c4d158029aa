//! Relates a load test's figures to the floor: measures the same shape without a server and prints the ratios.
//!
//! The shape comes from what the run counted, not from its plan: the size of a room is the number of members that a
//! message reached. What nothing counts comes from the scenario: the length of contents, the format, the senders, and
//! the spacing of sends. A scenario that the floor cannot reproduce is refused, because its ratios would compare
//! different work.
//!
//! The ratios are CPU per delivery and, for a run at its limit, deliveries and messages per second against the floor's
//! deliveries and rows. An open loop below the limit reaches its plan on any server, so its rates say nothing.

use super::frames;
use super::postgres::{PostgresFloor, PostgresShape};
use super::sockets::{FloorLoad, Sending, Shape, SocketFloor};
use super::summary::median;
use crate::plan::Spacing;
use crate::result::RunResult;
use crate::scenario::{FormatChoice, Mode, PayloadBytes};
use chat_server::limits::BATCH_ROWS_MAX;
use chat_server::wire::Format;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// A batch at which the loader is near its limit, measured next to the batch of the server.
const LARGE_BATCH: usize = 1000;
/// Further batches for a run that went to the limit, to find the loader's best.
const OTHER_BATCHES: [usize; 3] = [100, 500, 2000];
/// Senders of a room in a closed loop when the result does not say how many there were.
const CLOSED_SENDERS_MAX: u32 = 10;
/// Messages that a sender keeps on their way when the result does not say it.
const WINDOW_DEFAULT: u32 = 32;

/// The ratio of CPU per delivery to the bare loop that sends each delivery separately.
pub const SOCKETS_ONE_WRITE: &str = "server CPU us/delivery, floor one write per delivery";
/// The ratio to that loop and a bare loader together: receiving, storing and sending, and nothing else.
pub const BOTH_FLOORS: &str = "server CPU us/delivery, that floor plus the bare loader";
/// The beginning of the ratio of durable messages to the loader with batches as large as the server's.
pub const DURABLE_SAME_BATCH: &str = "durable messages/s, floor with the server's batches";

/// The ratio of durable messages to the loader at its best batch.
pub const DURABLE_BEST_BATCH: &str = "durable messages/s, floor with its best batches";

/// The part of a result's scenario that the floor needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunScenario {
    format: Option<FormatChoice>,
    compression: bool,
    population: RunPopulation,
    load: RunLoad,
    storm: Option<serde_json::Value>,
    slow_readers: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunPopulation {
    rooms: Vec<RunClass>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunClass {
    senders: u32,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RunLoad {
    mode: Option<Mode>,
    in_flight: Option<u32>,
    spacing: Option<Spacing>,
    payload_bytes: Option<PayloadBytes>,
}

impl RunScenario {
    fn of(result: &RunResult) -> Result<Self, String> {
        if result.scenario.is_null() {
            return Ok(Self::default());
        }
        Self::deserialize(&result.scenario).map_err(|error| format!("the result's scenario cannot be read: {error}"))
    }

    /// What of the scenario the floor has no counterpart for, if anything.
    fn refusal(&self) -> Option<String> {
        let reason = if self.compression {
            "its frames are compressed; run the scenario without compression"
        } else if self.format == Some(FormatChoice::Both) {
            "its connections use both formats; run the scenario with one, --format json or --format msgpack"
        } else if matches!(self.load.payload_bytes, Some(PayloadBytes::Weighted(_))) {
            "its messages have several lengths; run the scenario with one, --payload-bytes"
        } else if self.population.rooms.len() > 1 {
            "its rooms are of several classes; run the scenario with one class of rooms"
        } else if self.storm.is_some() || self.slow_readers.is_some() {
            "it cuts connections or stops reading; run the scenario without [storm] and [slow_readers]"
        } else {
            return None;
        };
        Some(format!("the floor cannot reproduce this run: {reason}"))
    }

    fn content_bytes(&self) -> Option<usize> {
        match self.load.payload_bytes {
            Some(PayloadBytes::All(bytes)) => Some(bytes),
            _ => None,
        }
    }

    fn senders(&self, room_size: u32, closed: bool) -> u32 {
        match self.population.rooms.first() {
            Some(RunClass { senders: 0 }) => room_size,
            Some(RunClass { senders }) => room_size.min(*senders),
            None if closed => room_size.min(CLOSED_SENDERS_MAX),
            None => room_size,
        }
    }
}

/// Reads a load test's result.
///
/// # Errors
/// What is wrong with the file.
pub fn read(path: &Path) -> Result<RunResult, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no result of a load test: {error}", path.display()))
}

/// The cases to compare the result with. Everything but the shape comes from the templates.
///
/// # Errors
/// When the result has no shape, or the floor cannot reproduce it.
pub fn cases(
    result: &RunResult,
    (sockets, postgres): &(Shape, PostgresShape),
) -> Result<(Vec<Shape>, Vec<PostgresShape>), String> {
    let counts = &result.counts;
    if counts.acked == 0 || counts.delivered == 0 || result.seconds <= 0.0 {
        return Err("the result has no deliveries to hold against the floor".to_owned());
    }
    let room_size = ((counts.delivered as f64 / counts.acked as f64).round() as u32).max(1);
    let by_connections = counts.connections / u64::from(room_size);
    let rooms = (counts.rooms.min(by_connections) as u32).max(1);
    let ran = RunScenario::of(result)?;
    if let Some(refusal) = ran.refusal() {
        return Err(refusal);
    }
    let closed = ran.load.mode == Some(Mode::Closed);
    let load = if closed {
        FloorLoad::Closed { window: ran.load.in_flight.unwrap_or(WINDOW_DEFAULT) }
    } else {
        FloorLoad::Open { rate: result.window().acked as f64 / result.seconds }
    };
    let senders_per_room = ran.senders(room_size, closed);
    let even = ran.load.spacing.map_or(sockets.even, |spacing| spacing == Spacing::Even);
    let mut shape = Shape { rooms, room_size, senders_per_room, load, even, ..sockets.clone() };
    let content_bytes = ran.content_bytes().unwrap_or(postgres.content_bytes);
    if !result.scenario.is_null() {
        let format = if ran.format == Some(FormatChoice::Msgpack) { Format::MessagePack } else { Format::Json };
        let frame = frames::measure(content_bytes, format)?;
        (shape.bytes_in, shape.bytes_out) = (frame.to_server, frame.to_member);
    }
    let ways = [Sending::PerDelivery, Sending::Coalesced];
    let sockets: Vec<Shape> = ways.into_iter().map(|sending| Shape { sending, ..shape.clone() }).collect();

    let mean = result.server.as_ref().and_then(|server| server.batch_size.get("mean"));
    let mut batches: Vec<usize> =
        mean.map(|mean| (mean.round() as usize).clamp(1, BATCH_ROWS_MAX)).into_iter().collect();
    let others: &[usize] = if limit_per_s(result).is_some() { &OTHER_BATCHES } else { &[] };
    for batch in [LARGE_BATCH].iter().chain(others) {
        if !batches.contains(batch) && *batch <= BATCH_ROWS_MAX {
            batches.push(*batch);
        }
    }
    let rooms = (rooms as usize).max(postgres.connections);
    let shape = PostgresShape { rooms, room_size: room_size as usize, content_bytes, ..postgres.clone() };
    let postgres: Vec<PostgresShape> =
        batches.into_iter().map(|batch| PostgresShape { batch, ..shape.clone() }).collect();
    sockets.iter().try_for_each(Shape::validate)?;
    postgres.iter().try_for_each(PostgresShape::validate)?;
    Ok((sockets, postgres))
}

fn is_closed(result: &RunResult) -> bool {
    RunScenario::of(result).is_ok_and(|ran| ran.load.mode == Some(Mode::Closed))
}

/// Messages per second at the limit; nothing when the run was not there.
fn limit_per_s(result: &RunResult) -> Option<f64> {
    let closed = is_closed(result).then(|| result.window().acked as f64 / result.seconds);
    result.saturation.as_ref().map(|saturation| saturation.sustained_per_s).or(closed)
}

/// One figure of the run and its floor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    /// What is compared.
    pub what: String,
    /// The run's figure.
    pub run: f64,
    /// The floor's, the median of its rounds.
    pub floor: f64,
    /// The first by the second.
    pub quotient: f64,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// What the run was called.
    pub label: String,
    /// In the order in which they are printed.
    pub ratios: Vec<Ratio>,
}

impl Ratios {
    /// Of a result to the floors that were measured for it.
    pub fn of(result: &RunResult, sockets: &[SocketFloor], postgres: &[PostgresFloor]) -> Self {
        let mut ratios = Vec::new();
        let mut add = |what: String, run: f64, floors: Vec<f64>| {
            let floor = median(floors);
            if floor > 0.0 {
                ratios.push(Ratio { what, run, floor, quotient: run / floor });
            }
        };
        for (sending, name) in [(Sending::PerDelivery, "one write per delivery"), (Sending::Coalesced, "coalesced")] {
            let of_kind: Vec<&SocketFloor> = sockets.iter().filter(|floor| floor.shape.sending == sending).collect();
            if let Some(server) = &result.usage.server {
                let floors = of_kind.iter().map(|floor| floor.server_cpu_us_per_delivery).collect();
                let what = if sending == Sending::PerDelivery {
                    SOCKETS_ONE_WRITE.to_owned()
                } else {
                    format!("server CPU us/delivery, floor {name}")
                };
                add(what, server.cpu_us_per_delivery, floors);
            }
            if is_closed(result) {
                let floors = of_kind.iter().map(|floor| floor.deliveries_per_s).collect();
                let per_s = result.window().delivered as f64 / result.seconds;
                add(format!("deliveries/s, floor {name}"), per_s, floors);
            }
        }
        let own_batch =
            result.server.as_ref().and_then(|server| server.batch_size.get("mean")).map(|mean| mean.round() as usize);
        let members = (result.counts.delivered as f64 / result.counts.acked.max(1) as f64).max(1.0);
        if let (Some(server), Some(own_batch)) = (&result.usage.server, own_batch) {
            let sockets = sockets.iter().filter(|floor| floor.shape.sending == Sending::PerDelivery);
            let sockets = median(sockets.map(|floor| floor.server_cpu_us_per_delivery).collect());
            let loaders = postgres.iter().filter(|floor| floor.shape.batch == own_batch && floor.rows_per_s > 0.0);
            let loaders: Vec<f64> = loaders.map(|floor| floor.loader_cores * 1e6 / floor.rows_per_s).collect();
            if !loaders.is_empty() {
                add(BOTH_FLOORS.to_owned(), server.cpu_us_per_delivery, vec![sockets + median(loaders) / members]);
            }
        }
        let mut batches: Vec<usize> = postgres.iter().map(|floor| floor.shape.batch).collect();
        batches.sort_unstable();
        batches.dedup();
        if let Some(limit_per_s) = limit_per_s(result) {
            let of_batch = |batch: &usize| {
                let rounds = postgres.iter().filter(|floor| floor.shape.batch == *batch);
                median(rounds.map(|floor| floor.rows_per_s).collect())
            };
            let best = batches.iter().map(of_batch).fold(0.0, f64::max);
            add(DURABLE_BEST_BATCH.to_owned(), limit_per_s, vec![best]);
        }
        for batch in batches {
            let floors = postgres.iter().filter(|floor| floor.shape.batch == batch).map(|floor| floor.rows_per_s);
            if let Some(limit_per_s) = limit_per_s(result) {
                let own = if Some(batch) == own_batch {
                    format!("{DURABLE_SAME_BATCH} ({batch})")
                } else {
                    format!("durable messages/s, floor with batches of {batch}")
                };
                add(own, limit_per_s, floors.collect());
            }
        }
        Self { label: result.label.clone(), ratios }
    }
}

impl fmt::Display for Ratios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} beside its floor", self.label)?;
        for Ratio { what, run, floor, quotient } in &self.ratios {
            let digits = if *floor < 100.0 { 3 } else { 0 };
            writeln!(f, "  {what:<52} {run:>12.digits$} / {floor:>12.digits$} = {quotient:.2}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::postgres::StatementForm;
    use super::*;
    use crate::floor::summary::Percentiles;
    use crate::result::{ProcessUsage, RunCounts, ServerSide, Usage};
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
        let (sockets, postgres) = cases(&result(), &templates()).unwrap();
        assert_eq!(sockets.len(), 2);
        assert!(sockets.iter().all(|s| (s.rooms, s.room_size, s.senders_per_room) == (20, 10, 10)));
        assert!(sockets.iter().all(|s| s.load == FloorLoad::Open { rate: 500.0 } && s.bytes_out == 200));
        assert_eq!(postgres.iter().map(|p| p.batch).collect::<Vec<_>>(), [3, LARGE_BATCH]);
        assert!(postgres.iter().all(|p| (p.rooms, p.room_size) == (20, 10)));
    }

    #[test]
    fn a_closed_loop_keeps_its_window() {
        let mut result = result();
        result.scenario = json!({"load": {"mode": "closed", "in_flight": 48}});
        let (sockets, _) = cases(&result, &templates()).unwrap();
        assert!(sockets.iter().all(|s| s.load == FloorLoad::Closed { window: 48 }));
    }

    #[test]
    fn takes_uncounted_values_from_the_scenario() {
        let mut result = result();
        result.scenario = json!({"format": "msgpack", "population": {"rooms": [{"senders": 3}]},
            "load": {"mode": "open", "spacing": "even", "payload_bytes": 1000}});
        let (sockets, postgres) = cases(&result, &templates()).unwrap();
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

    #[test]
    fn compares_durable_messages_with_the_best_batch() {
        let floor = |batch, rows_per_s| PostgresFloor {
            shape: PostgresShape { batch, ..templates().1 },
            seconds: 1.0,
            rows: 1,
            rows_per_s,
            commits_per_s: 1.0,
            commit: Percentiles::default(),
            postgres_cpu_us_per_row: 1.0,
            postgres_cores: 0.1,
            loader_cores: 0.1,
        };
        let mut result = result();
        result.scenario = json!({"load": {"mode": "closed"}});
        let rounds = [floor(3, 100.0), floor(500, 2000.0), floor(1000, 1000.0), floor(500, 4000.0), floor(500, 2500.0)];
        let ratios = Ratios::of(&result, &[], &rounds);
        let best = ratios.ratios.iter().find(|ratio| ratio.what == DURABLE_BEST_BATCH).unwrap();
        assert!((best.floor - 2500.0).abs() < 1e-9 && (best.quotient - 0.2).abs() < 1e-9, "{best:?}");
        assert!(ratios.ratios.iter().any(|ratio| ratio.what.starts_with(DURABLE_SAME_BATCH)));
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
        let ratios = Ratios::of(&result, &rounds, &[]);
        let of = |what: &str| ratios.ratios.iter().find(|ratio| ratio.what.starts_with(what)).unwrap();
        let cpu = of("server CPU");
        assert!((cpu.floor - 7.0).abs() < 1e-9 && (cpu.quotient - 9.0 / 7.0).abs() < 1e-9);
        assert!((of("deliveries/s").quotient - 0.5).abs() < 1e-9);
        assert_eq!(ratios.ratios.len(), 2, "there is no coalesced floor and no PostgreSQL to compare with");
        assert!(ratios.to_string().contains("= 1.29"), "{ratios}");
        result.scenario = json!({"load": {"mode": "open"}});
        let below_the_limit = Ratios::of(&result, &rounds, &[]);
        assert_eq!(below_the_limit.ratios.len(), 1, "an open loop's rates are its plan's: {below_the_limit}");
    }
}
