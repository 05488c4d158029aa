//! From a scenario to the engine's terms: seats, and who sends what to which room. Pure.
//!
//! Connection `c` belongs to user `c mod users`, so that the connections of one user are spread over the threads.

use crate::engine::Seat;
use crate::engine::schedule::{Purpose, Stream};
use crate::protocol::Action;
use crate::scenario::{Mode, Rooms, Scenario};
use std::sync::Arc;

/// Whether number `index` belongs to a `share` of all. The share is exact and spread evenly.
fn among(index: u32, share: f64) -> bool {
    let before = (f64::from(index) * share).floor();
    (f64::from(index + 1) * share).floor() > before
}

/// The connections of a scenario.
pub fn seats(scenario: &Scenario, rooms: &Rooms) -> Vec<Seat> {
    let users = scenario.population.users;
    let storm = scenario.storm.as_ref().map_or(0.0, |storm| storm.share);
    let slow = scenario.slow_readers.as_ref().map_or(0.0, |slow| slow.share);
    let seat = |connection: u32| Seat {
        user: connection % users,
        rooms: Arc::clone(&rooms.of_user[(connection % users) as usize]),
        slow: among(connection, slow),
        cut: among(connection, storm),
    };
    (0..scenario.connections()).map(seat).collect()
}

/// The streams of a scenario. Connections that will be disconnected or slow send nothing, unless that is all of them:
/// the scenario itself would delay their messages.
pub fn streams(scenario: &Scenario, rooms: &Rooms, seats: &[Seat]) -> Vec<Stream> {
    let users = scenario.population.users;
    let load = &scenario.load;
    let undisturbed = |connection: &u32| {
        let seat = &seats[*connection as usize];
        !seat.slow && !seat.cut
    };
    let any_undisturbed = (0..seats.len() as u32).any(|connection| undisturbed(&connection));
    let shares: f64 = scenario.population.rooms.iter().map(|class| class.share).sum();
    let rate = match load.mode {
        Mode::Open => load.rate,
        // In a closed loop any rate means the same; in a search each step multiplies it.
        Mode::Closed | Mode::Saturate => 1.0,
    };
    let mut streams = Vec::new();
    let mut everybody = Vec::new();
    for (class, plan) in scenario.population.rooms.iter().enumerate() {
        let mut senders = Vec::new();
        for (index, room) in rooms.rooms.iter().enumerate().filter(|(_, room)| room.class == class) {
            // In the order of connections, then users, so that a few senders belong to different users.
            let connections = (0..scenario.population.connections_per_user)
                .flat_map(|nth| room.members.iter().map(move |user| nth * users + user))
                .filter(|connection| !any_undisturbed || undisturbed(connection));
            let limit = if plan.senders == 0 { usize::MAX } else { plan.senders as usize };
            senders.extend(connections.take(limit).map(|connection| (connection, index as u32)));
        }
        everybody.extend_from_slice(&senders);
        if rate * plan.share > 0.0 && !senders.is_empty() {
            streams.push(Stream { purpose: Purpose::Message, rate: rate * plan.share / shares, senders });
        }
    }
    for action in Action::ALL {
        let rate = scenario.actions.rate(action);
        if rate > 0.0 && !everybody.is_empty() {
            streams.push(Stream { purpose: Purpose::Other(action), rate, senders: everybody.clone() });
        }
    }
    streams
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Layers, Override};

    fn plan(name: &str, changes: &[&str]) -> (Vec<Seat>, Vec<Stream>) {
        let mut layers = Layers::open(name).expect("built in");
        for change in changes {
            layers.set(&Override::parse(change).expect("valid")).expect("valid");
        }
        let scenario = layers.scenario().expect("valid");
        let rooms = Rooms::of(&scenario);
        let seats = seats(&scenario, &rooms);
        let streams = streams(&scenario, &rooms, &seats);
        (seats, streams)
    }

    #[test]
    fn assigns_exact_shares_and_lets_disturbed_connections_not_send() {
        let (seats, streams) = plan("reconnect-storm", &[]);
        assert_eq!(seats.iter().filter(|seat| seat.cut).count(), seats.len() * 9 / 10);
        assert!(streams[0].senders.iter().all(|(connection, _)| !seats[*connection as usize].cut));
        let (seats, streams) = plan("reconnect-storm", &["storm.share=1.0"]);
        assert!(seats.iter().all(|seat| seat.cut));
        assert_eq!(streams[0].senders.len(), seats.len());
    }

    #[test]
    fn senders_are_limited_per_room_and_rates_follow_shares() {
        let (seats, streams) = plan("room-1000", &["load.mode=open", "load.rate=50.0"]);
        assert_eq!((seats.len(), streams.len(), streams[0].senders.len()), (1000, 1, 10));
        let users: std::collections::HashSet<_> =
            streams[0].senders.iter().map(|(connection, _)| seats[*connection as usize].user).collect();
        assert_eq!(users.len(), 10, "few senders are of different users");
        let (_, streams) = plan("small-beside-large", &["load.rate=100.0", "actions.typing=5.0"]);
        let rates: Vec<f64> = streams.iter().map(|stream| stream.rate).collect();
        assert!(
            rates.iter().zip([10.0, 90.0, 5.0]).all(|(rate, expected)| (rate - expected).abs() < 1e-9),
            "{rates:?}"
        );
    }
}
