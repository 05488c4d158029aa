//! Ten thousand histories, and the proof that they would notice: each fault that this server once had is planted and
//! must be found.
//!
//! A failing seed is printed; `cargo run -p simulation -- --from SEED --seeds 1` replays it.

use chat_server::planted::{self, Fault};
use simulation::Violation;
use simulation::history::Stage;
use std::sync::atomic::{AtomicU64, Ordering};

const HISTORIES: u64 = 10_000;
/// A planted fault must be found within this many histories.
const HISTORIES_PER_FAULT: u64 = 2_000;

#[test]
fn keeps_every_promise_in_ten_thousand_histories() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(1);
    let violations: Vec<Violation> = std::thread::scope(|scope| {
        let play = || {
            let stage = Stage::default();
            let mut violations = Vec::new();
            while violations.is_empty() {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed > HISTORIES {
                    break;
                }
                violations.extend(stage.play(seed, false).err());
            }
            violations
        };
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(play)).collect();
        players.into_iter().flat_map(|player| player.join().unwrap()).collect()
    });
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn keeps_every_promise_in_histories_that_once_broke_one() {
    // 1002361: a departure reached the shard after a read that knew that the user had joined again.
    // 1011573: a replay was refused by a read from the time between a departure and the next join.
    for seed in [1_002_361, 1_011_573] {
        assert_eq!(Stage::default().play(seed, false), Ok(()));
    }
}

#[test]
fn replays_a_seed_exactly() {
    planted::plant(Some(Fault::ForgetMemberships));
    let stage = Stage::default();
    let violation = (1..HISTORIES_PER_FAULT).find_map(|seed| stage.play(seed, false).err()).unwrap();
    assert_eq!(Stage::default().play(violation.seed, false), Err(violation));
}

#[test]
fn finds_every_planted_fault() {
    for fault in Fault::ALL {
        planted::plant(Some(fault));
        let stage = Stage::default();
        let found = (1..=HISTORIES_PER_FAULT).find_map(|seed| stage.play(seed, false).err());
        planted::plant(None);
        let violation = found.unwrap_or_else(|| panic!("{fault:?} was not found in {HISTORIES_PER_FAULT} histories"));
        println!("{fault:?}: {violation}");
    }
}
