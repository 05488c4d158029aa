//! The ranges of single values, and which values go together.

use super::model::{Mode, PayloadBytes, RoomKind, Scenario};
use crate::payload::{PAYLOAD_BYTES_MAX, PAYLOAD_BYTES_MIN};
use std::collections::HashSet;
use std::fmt::Display;
use std::time::Duration;

/// Bytes of a file, and of all files that are uploaded at once: what is removed takes a moment, and all of it must fit
/// into the space that a run may use.
const FILE_BYTES_MIN: u64 = 64 * 1024;
const FILES_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// Rates that one run of nodes measures.
const RATES_MAX: usize = 20;
/// Members that a group can be created with.
const GROUP_SIZE_MAX: u32 = 100;

/// Everything that is wrong with a scenario.
pub(super) fn problems(scenario: &Scenario) -> Vec<String> {
    let mut problems = Vec::new();
    range(&mut problems, "population.users", scenario.population.users, 1, 1_000_000);
    range(&mut problems, "population.connections_per_user", scenario.population.connections_per_user, 1, 10_000);
    load(scenario, &mut problems);
    if scenario.logins.is_none() {
        rooms(scenario, &mut problems);
    }
    for (key, share) in [
        ("storm.share", scenario.storm.as_ref().map(|storm| storm.share)),
        ("slow_readers.share", scenario.slow_readers.as_ref().map(|slow| slow.share)),
    ] {
        range(&mut problems, key, share.unwrap_or_default(), 0.0, 1.0);
    }
    if let Some(logins) = &scenario.logins {
        range(&mut problems, "logins.rate", logins.rate, 0.0, 100_000.0);
        range(&mut problems, "logins.concurrency", logins.concurrency, 1, 10_000);
    }
    if let Some(uploads) = &scenario.uploads {
        range(&mut problems, "uploads.at_once", uploads.at_once, 1, 64);
        let size_max = FILES_BYTES_MAX / u64::from(uploads.at_once.clamp(1, 64));
        range(&mut problems, "uploads.size_bytes", uploads.size_bytes, FILE_BYTES_MIN, size_max);
        range(&mut problems, "uploads.rounds", uploads.rounds, 1, 100);
        if uploads.parts.is_empty() {
            problems.push("uploads.parts needs at least one of memory, messages, downloads".to_owned());
        }
    }
    if let Some(nodes) = &scenario.nodes {
        range(&mut problems, "nodes.count", nodes.count, 2, 8);
        range(&mut problems, "nodes.rounds", nodes.rounds, 1, 100);
        if nodes.rates.len() > RATES_MAX {
            problems.push(format!("nodes.rates must have at most {RATES_MAX} rates"));
        }
        let rates = if nodes.rates.is_empty() { std::slice::from_ref(&scenario.load.rate) } else { &nodes.rates };
        for rate in rates {
            range(&mut problems, "the rate of nodes", *rate, 1.0, 10_000_000.0);
        }
        if scenario.load.mode != Mode::Open {
            problems.push("nodes are compared at the same rate: load.mode must be open".to_owned());
        }
    }
    problems
}

fn load(scenario: &Scenario, problems: &mut Vec<String>) {
    let load = &scenario.load;
    range(problems, "load.rate", load.rate, 0.0, 10_000_000.0);
    range(problems, "load.in_flight", load.in_flight, 1, 65_536);
    let sizes: Vec<usize> = match &load.payload_bytes {
        PayloadBytes::All(bytes) => vec![*bytes],
        PayloadBytes::Weighted(sizes) => {
            if sizes.is_empty() || sizes.iter().any(|size| size.weight <= 0.0 || !size.weight.is_finite()) {
                problems.push("load.payload_bytes needs lengths with weights above 0".to_owned());
            }
            sizes.iter().map(|size| size.bytes).collect()
        }
    };
    for bytes in sizes {
        // The shortest content has space for the header with sender and time.
        range(problems, "load.payload_bytes", bytes, PAYLOAD_BYTES_MIN, PAYLOAD_BYTES_MAX);
    }
    // A content's header has space for planned times of a little more than a day.
    for (key, time) in [("load.duration", load.duration), ("load.ramp", load.ramp), ("load.drain", load.drain)] {
        if time > Duration::from_hours(24) {
            problems.push(format!("{key} must not be longer than a day"));
        }
    }
    if load.mode == Mode::Saturate {
        range(problems, "load.saturate.rate_start", load.saturate.rate_start, 0.1, 10_000_000.0);
        range(problems, "load.saturate.rate_factor", load.saturate.rate_factor, 1.01, 100.0);
        range(problems, "load.saturate.step_seconds", load.saturate.step_seconds, 1, 3600);
        range(problems, "load.saturate.steps_max", load.saturate.steps_max, 1, 1000);
        range(problems, "load.saturate.p99_limit_ms", load.saturate.p99_limit_ms, 0.01, 3_600_000.0);
    }
    for (key, rate) in [
        ("actions.typing", scenario.actions.typing),
        ("actions.mark_read", scenario.actions.mark_read),
        ("actions.get_history", scenario.actions.get_history),
    ] {
        range(problems, key, rate, 0.0, 1_000_000.0);
    }
}

fn rooms(scenario: &Scenario, problems: &mut Vec<String>) {
    let population = &scenario.population;
    let mut names = HashSet::new();
    if population.rooms.is_empty() || population.rooms.len() > 100 {
        problems.push("population.rooms must have 1 to 100 classes".to_owned());
    }
    for class in &population.rooms {
        let name = &class.name;
        let key = |key: &str| format!("population.rooms.{name}.{key}");
        if !names.insert(name) {
            problems.push(format!("two classes of rooms are called \"{name}\""));
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > 20 || !name.chars().all(plain) {
            problems.push(format!("the name \"{name}\" of a class of rooms must be 1 to 20 of A-Z a-z 0-9 _ -"));
        }
        range(problems, &key("count"), class.count, 1, 1_000_000);
        range(problems, &key("size"), class.size, 0, population.users);
        range(problems, &key("share"), class.share, 0.0, 1e9);
        let size = if class.size == 0 { population.users.div_ceil(class.count.max(1)) } else { class.size };
        if class.size == 0 && class.count > population.users {
            problems.push(format!("{} must be at most population.users when rooms have no size", key("count")));
        }
        let connections = size.saturating_mul(population.connections_per_user);
        range(problems, &key("senders"), class.senders, 0, connections);
        match class.kind {
            RoomKind::Direct if class.size != 2 => problems.push(format!("{} must be 2", key("size"))),
            RoomKind::Group if size > GROUP_SIZE_MAX => {
                problems.push(format!("{} must be at most {GROUP_SIZE_MAX} in a group", key("size")));
            }
            _ => {}
        }
    }
    if scenario.sends() && population.rooms.iter().all(|class| class.share <= 0.0) {
        problems.push("no class of rooms has a share of the sends".to_owned());
    }
}

fn range<T: Copy + PartialOrd + Display>(problems: &mut Vec<String>, key: &str, value: T, min: T, max: T) {
    if !(value >= min && value <= max) {
        problems.push(format!("{key} must be between {min} and {max}, found {value}"));
    }
}
