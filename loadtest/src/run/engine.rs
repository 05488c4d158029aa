//! What a scenario asks of the engine, and of the limits of this process.

use super::streams;
use crate::engine::connection::Sources;
use crate::engine::{Endpoint, EngineOptions, Loop};
use crate::scenario::{Mode, Rooms, Scenario};

/// Descriptors needed in addition to the connections.
const SPARE_DESCRIPTORS: u64 = 128;
/// Connections that a thread opens at once, at the start.
const OPENING_MAX: usize = 64;

/// What the engine needs to know of a scenario.
pub(super) fn engine_options(
    scenario: &Scenario,
    rooms: &Rooms,
    endpoints: Vec<Endpoint>,
    threads: u32,
) -> EngineOptions {
    let seats = streams::seats(scenario, rooms);
    let streams = streams::streams(scenario, rooms, &seats);
    let slow = scenario.slow_readers.as_ref().map(|slow| (slow.at, slow.length));
    EngineOptions {
        endpoints,
        sources: Sources::random(),
        threads: threads as usize,
        survive_restarts: false,
        window: scenario.load.in_flight as usize,
        back_off: scenario.load.back_off,
        sending: if scenario.load.mode == Mode::Closed { Loop::Closed } else { Loop::Open },
        class_of_room: rooms.rooms.iter().map(|room| room.class as u8).collect(),
        classes: scenario.population.rooms.len() + usize::from(slow.is_some()),
        seats,
        streams,
        storm_at: scenario.storm.as_ref().map(|storm| storm.at),
        pause: slow,
        opening_max: OPENING_MAX,
    }
}

/// Refuses a run that would fail halfway for lack of file descriptors.
pub fn check_descriptors(sockets: u64) -> Result<(), String> {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse::<u64>().ok());
    let needed = sockets + SPARE_DESCRIPTORS;
    match soft {
        Some(soft) if soft < needed => Err(format!(
            "this run needs {needed} open files, and the limit is {soft}. Raise it with ulimit -n {needed}, or lower \
             --users or --connections-per-user"
        )),
        _ => Ok(()),
    }
}
