//! The batcher against its promises, and random histories of runs.

use super::*;
use crate::ids::{ShardId, UserId};
use crate::mesh::frame::Token;
use proptest::prelude::*;
use std::collections::HashMap;

/// A text without anything else.
pub fn text() -> Change {
    Change::Message {
        content: String::new(),
        message_type: "text",
        parent: None,
        key: String::new(),
        key_is_clients: true,
        files: Vec::new(),
    }
}

fn other() -> Change {
    Change::Other { kind: "mark_read", mutation_id: 1, arguments: serde_json::Value::Null }
}

/// A change by a user in a conversation; the index tells mutations apart.
pub fn mutation(room: i64, user: i64, index: u32, change: Change) -> Box<Mutation> {
    Box::new(Mutation {
        conversation: ConversationId::from_number(room),
        actor: UserId(user),
        session: None,
        source: None,
        origin: None,
        token: Token { shard: ShardId(0), index },
        owner: ShardId(0),
        received_at: Instant::now(),
        handed_over_at: Instant::now(),
        deadline: Instant::now(),
        answered: false,
        change,
    })
}

/// The numbers of conversations that exist.
fn room(n: u32) -> i64 {
    i64::from(n) * 4 + 2
}

fn indices(run: &Run) -> Vec<u32> {
    run.mutations.iter().map(|mutation| mutation.token.index).collect()
}

/// A batcher in which messages of so many conversations wait.
fn with_messages(count: u32) -> Batcher {
    let mut batcher = Batcher::default();
    for index in 0..count {
        batcher.push(mutation(room(index), 1, index, text()));
    }
    batcher
}

/// The run that begins at `now`, if one does.
fn next_run(batcher: &mut Batcher, now: Instant) -> Option<Run> {
    match batcher.next(now) {
        NextRun::Run(run) => Some(run),
        NextRun::At(_) | NextRun::Nothing => None,
    }
}

#[test]
fn a_run_takes_what_has_gathered_of_one_kind_and_says_why_it_begins() {
    let now = Instant::now();
    let mut batcher = Batcher::default();
    assert!(next_run(&mut batcher, now).is_none());
    batcher.push(mutation(room(1), 1, 0, text()));
    let first = next_run(&mut batcher, now).unwrap();
    assert_eq!((first.claim.kind, first.reason, indices(&first)), (RunKind::Messages, RunReason::Idle, vec![0]));
    // Meanwhile others come, of two kinds. A read marker does not divide the messages of other conversations.
    for (index, n, change) in [(1, 2, text()), (2, 3, other()), (3, 3, text()), (4, 4, text())] {
        batcher.push(mutation(room(n), 1, index, change));
    }
    assert_eq!((batcher.waiting(RunKind::Messages), batcher.waiting(RunKind::Others)), (3, 1));
    assert!(next_run(&mut batcher, now).is_none(), "it would halve the next batch");
    batcher.ended(&first.claim);
    let second = next_run(&mut batcher, now).unwrap();
    assert_eq!(
        (second.claim.kind, second.reason, indices(&second)),
        (RunKind::Messages, RunReason::Gathered, vec![1, 4])
    );
    batcher.ended(&second.claim);
    let third = next_run(&mut batcher, now).unwrap();
    assert_eq!((third.claim.kind, indices(&third)), (RunKind::Others, vec![2]));
    batcher.ended(&third.claim);
    let fourth = next_run(&mut batcher, now).unwrap();
    assert_eq!((fourth.claim.kind, indices(&fourth), batcher.is_empty()), (RunKind::Messages, vec![3], true));
    assert_eq!((batcher.waiting(RunKind::Messages), batcher.waiting(RunKind::Others)), (0, 0));
}

#[test]
fn a_second_run_begins_when_much_waits_or_something_has_waited_for_long() {
    let now = Instant::now();
    let mut batcher = with_messages((BATCH_ROWS_MAX + SECOND_RUN_MIN) as u32);
    let first = next_run(&mut batcher, now).unwrap();
    assert_eq!((first.mutations.len(), first.reason), (BATCH_ROWS_MAX, RunReason::Full));
    let second = next_run(&mut batcher, now).unwrap();
    assert_eq!((second.mutations.len(), second.reason, batcher.runs().len()), (SECOND_RUN_MIN, RunReason::Second, 2));
    batcher.ended(&first.claim);
    batcher.ended(&second.claim);

    let mut batcher = with_messages(2);
    let stuck = next_run(&mut batcher, now).unwrap();
    // The oldest of what waits belongs to a conversation that the stuck run has.
    batcher.push(mutation(room(0), 1, 2, text()));
    batcher.push(mutation(room(7), 1, 3, text()));
    assert!(next_run(&mut batcher, Instant::now()).is_none());
    let beside = next_run(&mut batcher, Instant::now() + SECOND_RUN_AFTER).unwrap();
    assert_eq!(indices(&beside), [3]);
    assert!(next_run(&mut batcher, Instant::now() + SECOND_RUN_AFTER).is_none(), "nothing else may begin");
    assert_eq!(batcher.runs().len(), 2, "and that is no run");
    batcher.ended(&stuck.claim);
    assert_eq!(indices(&next_run(&mut batcher, Instant::now() + SECOND_RUN_AFTER).unwrap()), [2]);
}

#[test]
fn removes_what_is_late() {
    let mut batcher = with_messages(3);
    batcher.push(mutation(room(1), 1, 3, other()));
    batcher.waiting[1].deadline = Instant::now() + Duration::from_mins(1);
    let late = batcher.expired(Instant::now());
    assert_eq!(late.iter().map(|mutation| mutation.token.index).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!((batcher.waiting(RunKind::Messages), batcher.waiting(RunKind::Others)), (1, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Push { room: u32, is_message: bool },
    Begin { late: bool },
    End { which: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u32..5, any::<bool>()).prop_map(|(room, is_message)| Step::Push { room, is_message }),
        2 => any::<bool>().prop_map(|late| Step::Begin { late }),
        1 => (0usize..4).prop_map(|which| Step::End { which }),
    ]
}

proptest! {
    #[test]
    fn runs_keep_the_order_of_each_conversation_and_lose_nothing(steps in proptest::collection::vec(step(), 0..200)) {
        let mut batcher = Batcher::default();
        let mut running: Vec<Run> = Vec::new();
        let (mut pushed, mut ended): (HashMap<i64, Vec<u32>>, HashMap<i64, Vec<u32>>) = Default::default();
        let mut finish = |batcher: &mut Batcher, run: Run| {
            batcher.ended(&run.claim);
            for mutation in run.mutations {
                let room = mutation.conversation.map_or(0, ConversationId::number);
                ended.entry(room).or_default().push(mutation.token.index);
            }
        };
        for (index, step) in (0..).zip(steps) {
            match step {
                Step::Push { room: n, is_message } => {
                    let change = if is_message { text() } else { other() };
                    // Room 0 stands for changes that belong to no conversation.
                    let number = if n == 0 { 0 } else { room(n) };
                    pushed.entry(number).or_default().push(index);
                    batcher.push(mutation(number, 1, index, change));
                }
                Step::Begin { late } => {
                    let now = Instant::now() + if late { SECOND_RUN_AFTER } else { Duration::ZERO };
                    let Some(run) = next_run(&mut batcher, now) else { continue };
                    prop_assert!(!run.mutations.is_empty() && run.mutations.len() <= BATCH_ROWS_MAX);
                    prop_assert!(run.mutations.iter().all(|mutation| kind_of(mutation) == run.claim.kind));
                    for other in &running {
                        let is_apart = run.claim.conversations.is_disjoint(&other.claim.conversations);
                        prop_assert!(is_apart, "one run at a time");
                    }
                    running.push(run);
                    prop_assert_eq!(batcher.runs().len(), running.len());
                }
                Step::End { which } if which < running.len() => finish(&mut batcher, running.swap_remove(which)),
                Step::End { .. } => {}
            }
        }
        for run in running {
            finish(&mut batcher, run);
        }
        while let Some(run) = next_run(&mut batcher, Instant::now()) {
            finish(&mut batcher, run);
        }
        prop_assert!(batcher.is_empty() && batcher.running.is_empty() && batcher.runs().is_empty());
        // What belongs to no conversation has no order to keep.
        for orders in [&mut pushed, &mut ended] {
            if let Some(of_none) = orders.get_mut(&0) {
                of_none.sort_unstable();
            }
        }
        prop_assert_eq!(pushed, ended);
    }
}
