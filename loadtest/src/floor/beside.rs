//! Relates a load test's figures to the floor: measures the same shape without a server and prints the ratios.
//!
//! The shape comes from what the run counted, not from its plan: the size of a room is the number of members that a
//! message reached. What nothing counts comes from the scenario: the length of contents, the format, the senders, and
//! the spacing of sends. A scenario that the floor cannot reproduce is refused, because its ratios would compare
//! different work.
//!
//! The ratios are CPU per delivery and, for a run at its limit, deliveries and messages per second against the floor's
//! deliveries and rows. An open loop below the limit reaches its plan on any server, so its rates say nothing.
//!
//! A closed loop has two further ratios, because the loader has the cores to itself and a server shares them with its
//! clients. One is to the bare loop, which shares them in the same way. The other compares the messages and the rows of
//! a CPU-second of PostgreSQL: a loader that has the same share of the cores.

use super::bare_loop::LoopShape;
use super::frames;
use super::postgres::{PostgresFloor, PostgresShape};
use super::report::{FloorCases, FloorReport, Ratio, Ratios};
use super::sockets::{FloorLoad, Sending, Shape, SocketFloor};
use super::summary::median;
use crate::plan::Spacing;
use crate::result::RunResult;
use crate::scenario::{FormatChoice, Mode, PayloadBytes};
use chat_server::latency::CONVERSATION_COMMITTERS;
use chat_server::limits::BATCH_ROWS_MAX;
use chat_server::wire::Format;
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;

/// A batch at which the loader is near its limit, measured next to the batch of the server.
const LARGE_BATCH: usize = 1000;
/// Further batches for a run that went to the limit, to find the loader's best.
const OTHER_BATCHES: [usize; 3] = [100, 500, 2000];
/// Senders of a room in a closed loop when the result does not say how many there were.
const CLOSED_SENDERS_MAX: u32 = 10;
/// Messages that a sender keeps on their way when the result does not say it.
const WINDOW_DEFAULT: u32 = 32;

/// Connections of the bare loops that commit. The faster loop is the floor: a second connection keeps PostgreSQL busy
/// between two statements, and makes their batches smaller. The server has as many at the most.
const LOOP_CONNECTIONS: [usize; 2] = [1, CONVERSATION_COMMITTERS];
/// A driver that needs this much of a core was the limit of its loop, so the loop is no floor.
const DRIVER_CORES_MAX: f64 = 0.95;

/// The ratio of CPU per delivery to the bare loop that sends each delivery separately.
pub const SOCKETS_ONE_WRITE: &str = "server CPU us/delivery, floor one write per delivery";
/// The ratio to that loop and a bare loader together: receiving, storing and sending, and nothing else.
pub const BOTH_FLOORS: &str = "server CPU us/delivery, that floor plus the bare loader";
/// The beginning of the ratio of durable messages to the loader with batches as large as the server's.
pub const DURABLE_SAME_BATCH: &str = "durable messages/s, floor with the server's batches";

/// The ratio of durable messages to the loader at its best batch.
pub const DURABLE_BEST_BATCH: &str = "durable messages/s, floor with its best batches";

/// The ratio of durable messages to those of the faster bare loop.
pub const BARE_LOOP: &str = "durable messages/s, bare loop";
/// The ratio of the messages that PostgreSQL's CPU is enough for, to the loader's at the best of its batches.
pub const DURABLE_SAME_SHARE: &str = "durable messages per CPU-second of PostgreSQL, floor with its best batches";

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
pub fn cases(result: &RunResult, (sockets, postgres): &(Shape, PostgresShape)) -> Result<FloorCases, String> {
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
    let coalesced = Shape { sending: Sending::Coalesced, ..shape.clone() };
    let loops = if closed {
        let with = |connections| LoopShape { sockets: coalesced.clone(), connections, content_bytes };
        LOOP_CONNECTIONS.map(with).to_vec()
    } else {
        Vec::new()
    };
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
    let found = FloorCases { sockets, postgres, loops };
    found.validate()?;
    Ok(found)
}

fn is_closed(result: &RunResult) -> bool {
    RunScenario::of(result).is_ok_and(|ran| ran.load.mode == Some(Mode::Closed))
}

/// Messages per second of a closed loop.
fn closed_per_s(result: &RunResult) -> Option<f64> {
    is_closed(result).then(|| result.window().acked as f64 / result.seconds)
}

/// Messages per second at the limit; nothing when the run was not there.
fn limit_per_s(result: &RunResult) -> Option<f64> {
    result.saturation.as_ref().map(|saturation| saturation.sustained_per_s).or_else(|| closed_per_s(result))
}

/// Messages of a closed loop for each CPU-second of PostgreSQL, if its processes were found.
fn per_store_second(result: &RunResult) -> Option<f64> {
    let cpu_us = result.usage.store.as_ref().filter(|_| is_closed(result))?.cpu_us_per_message;
    (cpu_us > 0.0).then(|| 1e6 / cpu_us)
}

/// The batches that were measured, ascending.
fn batches(postgres: &[PostgresFloor]) -> BTreeSet<usize> {
    postgres.iter().map(|floor| floor.shape.batch).collect()
}

/// The largest of a figure over the batches, of each the median of its rounds.
fn best_batch(postgres: &[PostgresFloor], of: impl Fn(&PostgresFloor) -> f64) -> f64 {
    let of_batch = |batch| median(postgres.iter().filter(|floor| floor.shape.batch == batch).map(&of).collect());
    batches(postgres).into_iter().map(of_batch).fold(0.0, f64::max)
}

impl Ratios {
    /// Of a result to the floors that were measured for it.
    pub fn of(result: &RunResult, floors: &FloorReport) -> Self {
        let FloorReport { sockets, postgres, loops, .. } = floors;
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
        if let Some(closed_per_s) = closed_per_s(result) {
            let of = |connections: usize| {
                let loops = loops.iter().filter(|floor| floor.shape.connections == connections);
                let unlimited = loops.filter(|floor| floor.driver_cores < DRIVER_CORES_MAX);
                median(unlimited.map(|floor| floor.acked_per_s).collect())
            };
            add(BARE_LOOP.to_owned(), closed_per_s, vec![LOOP_CONNECTIONS.map(of).into_iter().fold(0.0, f64::max)]);
        }
        if let Some(limit_per_s) = limit_per_s(result) {
            let best = best_batch(postgres, |floor| floor.rows_per_s);
            add(DURABLE_BEST_BATCH.to_owned(), limit_per_s, vec![best]);
        }
        if let Some(per_store_second) = per_store_second(result) {
            let best = best_batch(postgres, |floor| 1e6 / floor.postgres_cpu_us_per_row);
            add(DURABLE_SAME_SHARE.to_owned(), per_store_second, vec![best]);
        }
        for batch in batches(postgres) {
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

#[cfg(test)]
#[path = "beside_tests.rs"]
mod tests;
