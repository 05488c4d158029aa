//! Ten thousand histories, and the proof that they would notice: each fault that this server once had is planted and
//! must be found.
//!
//! A failing seed is printed; `cargo run -p simulation -- --from SEED --seeds 1` replays it.

use simulation::Violation;
use simulation::history::Stage;
use std::sync::atomic::{AtomicU64, Ordering};

const HISTORIES: u64 = 10_000;

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
    // 1331: `get_presence` was answered with the presence of a user who had been removed meanwhile.
    // 29581: after a lost COMMIT, the outcome of a join came before that of the departure that made it possible.
    for seed in [1_331, 29_581, 1_002_361, 1_011_573] {
        assert_eq!(Stage::default().play(seed, false), Ok(()));
    }
}

#[test]
fn plays_every_answer_of_the_content_filter() {
    let stage = Stage::default();
    for seed in 1..200 {
        assert_eq!(stage.play(seed, false), Ok(()));
    }
    let played = stage.filter_played.borrow().iter().cloned().collect::<Vec<_>>();
    assert_eq!(played, ["flag", "hold", "pass", "refuse", "sent"]);
}

#[test]
fn plays_both_forms_of_a_commit() {
    let stage = Stage::default();
    for seed in 1..600 {
        assert_eq!(stage.play(seed, false), Ok(()));
    }
    let played = stage.commits_played.borrow();
    println!("messages: {played:?}");
    // Each form, and each reason why the short one does not commit a message.
    let expected = [
        "a block",
        "another epoch",
        "another head",
        "general form",
        "lost in the short form",
        "repeated key",
        "short form",
    ];
    assert_eq!(played.keys().copied().collect::<Vec<_>>(), expected);
    assert!(played["short form"] * 4 > played["general form"], "the short form is rare: {played:?}");
}

/// Faults can be planted only with debug assertions: a server for release has no code for them.
#[cfg(debug_assertions)]
mod planted_faults {
    use chat_server::planted::{Fault, plant};
    use simulation::Violation;
    use simulation::history::Stage;

    /// A planted fault must be found within this many histories.
    const HISTORIES_PER_FAULT: u64 = 4_000;

    /// Words of the violation by which the fault must be found, so that each check is shown to fail. None where several
    /// checks may find it.
    fn words(fault: Fault) -> &'static str {
        match fault {
            Fault::ForgetRevocations
            | Fault::WatchByAnOldRead
            | Fault::ForgetWatchers
            | Fault::LingerCutShort
            | Fault::KeepTheSlot
            | Fault::ForgetMemberships => "",
            Fault::SignalAfterADeparture => "after they had left it",
            Fault::TypeWithoutAsking => "typed in dm_4",
            Fault::TypeAfterABlock => "there is a block between them",
            Fault::WatchAfterABlock | Fault::WatchAfterADeparture => "was sent the presence of",
            Fault::AnswerByAnOldRead => "an answer with the presence of",
            Fault::SkipToTheJoin => "got member_joined",
            Fault::CommitWithoutRoom => "a lane of outcomes has no room",
            Fault::ReadWithoutRoom => "a lane of results has no room",
            Fault::SendUndecidedTexts => "although the rule refuses matches it",
            Fault::PartFromDepartures => "after they had left it",
            Fault::IgnoreHeads => "nothing settles",
            Fault::IgnoreSpent => "accepted over all nodes",
            Fault::AcceptBeyondMeans => "would have to wait too long",
            Fault::KeepSendersOfAnOldEpoch => "although its sender may not send there",
            Fault::RepeatOrdinals => "was stored under the ordinal",
        }
    }

    fn find(fault: Fault) -> Option<Violation> {
        plant(Some(fault));
        let stage = Stage::default();
        // Every fifth history can have several nodes.
        let step =
            if matches!(fault, Fault::PartFromDepartures | Fault::IgnoreHeads | Fault::IgnoreSpent) { 5 } else { 1 };
        let found = (step as u64..=HISTORIES_PER_FAULT)
            .step_by(step)
            .filter_map(|seed| stage.play(seed, false).err())
            .find(|violation| violation.what.contains(words(fault)));
        plant(None);
        found
    }

    #[test]
    fn finds_every_planted_fault() {
        for fault in Fault::ALL {
            let found = find(fault);
            let violation =
                found.unwrap_or_else(|| panic!("{fault:?} was not found in {HISTORIES_PER_FAULT} histories"));
            println!("{fault:?}: {violation}");
        }
    }

    #[test]
    fn replays_a_seed_exactly() {
        plant(Some(Fault::ForgetMemberships));
        let stage = Stage::default();
        let violation = (1..HISTORIES_PER_FAULT).find_map(|seed| stage.play(seed, false).err()).unwrap();
        assert_eq!(Stage::default().play(violation.seed, false), Err(violation));
    }
}
