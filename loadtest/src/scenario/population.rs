//! The members of each room. Pure: membership depends only on the scenario, so a rerun finds its rooms again.
//!
//! Members are dealt like cards: the rooms of a class take users one after the other. The next class uses another step
//! width, so that users of one small room are not together in the next one, too. No user is in a room twice.

use super::model::{RoomKind, Scenario};
use std::sync::Arc;

/// One room.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoomPlan {
    /// Index of its class.
    pub class: usize,
    /// Its name, after the run's prefix; shapes that differ have names that differ.
    pub name: String,
    /// What sort of conversation.
    pub kind: RoomKind,
    /// Its members, by index; the first creates it.
    pub members: Vec<u32>,
}

/// All rooms of a scenario.
#[derive(Clone, Debug)]
pub struct Rooms {
    /// The rooms, by index.
    pub rooms: Vec<RoomPlan>,
    /// The rooms that each user is in, by the user's index.
    pub of_user: Vec<Arc<[u32]>>,
}

impl Rooms {
    /// The rooms of a scenario.
    pub fn of(scenario: &Scenario) -> Self {
        let users = scenario.population.users.max(1);
        let mut rooms = Vec::new();
        let mut of_user = vec![Vec::new(); users as usize];
        let mut step = 1;
        for (class, plan) in scenario.population.rooms.iter().enumerate() {
            let spread = |room: u32| {
                // All users, as evenly as possible.
                let edge = |room: u32| (u64::from(users) * u64::from(room) / u64::from(plan.count)) as u32;
                (edge(room), edge(room + 1) - edge(room))
            };
            for room in 0..plan.count {
                let (first, size) =
                    if plan.size == 0 { spread(room) } else { (room.wrapping_mul(plan.size), plan.size) };
                let place = |n: u32| (u64::from(first) + u64::from(n)) * u64::from(step) % u64::from(users);
                let members: Vec<u32> = (0..size).map(|n| place(n) as u32).collect();
                for user in &members {
                    of_user[*user as usize].push(rooms.len() as u32);
                }
                let name = format!("{}-{size}-of-{users}-{room}", plan.name);
                rooms.push(RoomPlan { class, name, kind: plan.kind, members });
            }
            step = (step + 2..step + 2 + users).find(|step| gcd(*step, users) == 1).unwrap_or(1);
        }
        Self { rooms, of_user: of_user.into_iter().map(Arc::from).collect() }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Population, RoomClass};
    use super::*;

    fn rooms(users: u32, classes: &[(u32, u32)]) -> Rooms {
        let class = |(count, size): &(u32, u32)| RoomClass { count: *count, size: *size, ..RoomClass::default() };
        let rooms = classes.iter().map(class).collect();
        let population = Population { users, connections_per_user: 1, rooms };
        Rooms::of(&Scenario { population, ..Scenario::default() })
    }

    #[test]
    fn spreads_users_evenly_and_never_twice_into_a_room() {
        let rooms = rooms(30, &[(6, 5), (12, 10), (15, 2), (1, 30)]);
        for room in &rooms.rooms {
            let mut members = room.members.clone();
            members.sort_unstable();
            members.dedup();
            assert_eq!(members.len(), room.members.len(), "{}", room.name);
        }
        assert!(rooms.of_user.iter().all(|of_user| of_user.len() == 1 + 4 + 1 + 1));
        let pairs: Vec<_> = rooms.rooms[..6].iter().map(|room| (room.members[0], room.members[1])).collect();
        let apart = rooms.rooms[6..18].iter().all(|room| !pairs.contains(&(room.members[0], room.members[1])));
        assert!(apart, "the second class mixes users differently");
    }

    #[test]
    fn without_a_size_users_are_spread_evenly() {
        let rooms = rooms(12, &[(5, 0)]);
        let sizes: Vec<usize> = rooms.rooms.iter().map(|room| room.members.len()).collect();
        assert_eq!(sizes, [2, 2, 3, 2, 3]);
        assert!(rooms.of_user.iter().all(|of_user| of_user.len() == 1));
    }
}
