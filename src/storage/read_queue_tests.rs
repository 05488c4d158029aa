//! The scheduler against its promises, and against a naive model with random histories.

use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

const BOUNDS: Bounds = Bounds { per_user: 256, commanded: 3_000, total: 4_000 };

fn read(class: ReadClass, user: i64, name: u32, since: Instant, lasts_ms: u64) -> Waiting<u32> {
    let commanded = class != ReadClass::CatchUp;
    let deadline = since + Duration::from_millis(lasts_ms);
    Waiting { class, user: UserId(user), commanded, since, deadline, read: name }
}

fn queue(connections: usize) -> ReadQueue<u32> {
    ReadQueue::new(Shares::of(connections, 2), BOUNDS)
}

impl<T> ReadQueue<T> {
    /// Whether nothing waits, nothing runs, and nothing is remembered of what did.
    fn is_idle(&self) -> bool {
        self.classes.iter().all(|class| class.waiting == 0 && class.running == 0)
            && self.commanded_by.is_empty()
            && self.commanded == 0
            && self.running_heavy == 0
    }
}

/// What may run now, with its user, without ending.
fn run(queue: &mut ReadQueue<u32>, now: Instant) -> Vec<(ReadClass, i64)> {
    let next = || match queue.take(now)? {
        Next::Run(waiting) => Some((waiting.class, waiting.user.0)),
        Next::TooLate(waiting) => panic!("{waiting:?} is not late"),
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn a_user_with_256_waiting_reads_delays_another_by_one() {
    let (now, mut queue) = (Instant::now(), queue(1));
    for n in 0..256 {
        queue.offer(read(ReadClass::Page, 1, n, now, 5_000)).unwrap();
    }
    assert_eq!(run(&mut queue, now), [(ReadClass::Page, 1)]);
    queue.offer(read(ReadClass::Page, 2, 256, now, 5_000)).unwrap();
    queue.finish(ReadClass::Page, UserId(1), Duration::ZERO, now);
    assert_eq!(run(&mut queue, now), [(ReadClass::Page, 2)]);
}

#[test]
fn pages_and_searches_leave_connections_for_admissions() {
    for connections in 2..40 {
        let (now, mut queue) = (Instant::now(), queue(connections));
        for user in 0..60 {
            queue.offer(read(ReadClass::Page, user, 0, now, 5_000)).unwrap();
            queue.offer(read(ReadClass::Search, user, 0, now, 5_000)).unwrap();
            queue.offer(read(ReadClass::Administration, user, 0, now, 5_000)).unwrap();
        }
        assert!(run(&mut queue, now).len() < connections);
        queue.offer(read(ReadClass::CatchUp, 99, 0, now, 5_000)).unwrap();
        assert_eq!(run(&mut queue, now), [(ReadClass::CatchUp, 99)], "{connections} connections");
    }
}

#[test]
fn a_storm_of_admissions_leaves_connections_for_pages() {
    for connections in 2..40 {
        let (now, mut queue) = (Instant::now(), queue(connections));
        for user in 0..60 {
            queue.offer(read(ReadClass::CatchUp, user, 0, now, 5_000)).unwrap();
        }
        assert!(run(&mut queue, now).len() < connections);
        queue.offer(read(ReadClass::Page, 99, 0, now, 5_000)).unwrap();
        assert_eq!(run(&mut queue, now), [(ReadClass::Page, 99)], "{connections} connections");
    }
}

#[test]
fn few_searches_run_at_once_and_one_per_user() {
    let (now, mut queue) = (Instant::now(), ReadQueue::new(Shares::of(20, 8), BOUNDS));
    for user in 0..60 {
        for n in 0..4 {
            queue.offer(read(ReadClass::Search, user, n, now, 5_000)).unwrap();
        }
    }
    let users: Vec<i64> = run(&mut queue, now).into_iter().map(|(_, user)| user).collect();
    assert_eq!(users, [0, 1, 2, 3], "half as many as there are cores");
}

#[test]
fn no_class_waits_forever_for_another() {
    let (now, mut queue) = (Instant::now(), queue(1));
    let mut served = [0; CLASSES];
    for _ in 0..190 {
        for class in ReadClass::ALL {
            drop(queue.offer(read(class, 1, 0, now, 5_000)));
        }
        let (class, user) = run(&mut queue, now)[0];
        served[class as usize] += 1;
        queue.finish(class, UserId(user), Duration::ZERO, now);
    }
    assert_eq!(served, [80, 80, 20, 10], "in proportion to the weights");
}

#[test]
fn an_idle_class_saves_nothing_up() {
    let (now, mut queue) = (Instant::now(), queue(1));
    for _ in 0..1_000 {
        queue.offer(read(ReadClass::Page, 1, 0, now, 5_000)).unwrap();
        assert_eq!(run(&mut queue, now).len(), 1);
        queue.finish(ReadClass::Page, UserId(1), Duration::ZERO, now);
    }
    for n in 0..100 {
        queue.offer(read(ReadClass::Administration, 2, n, now, 5_000)).unwrap();
        queue.offer(read(ReadClass::Page, 1, n, now, 5_000)).unwrap();
    }
    let mut pages = 0;
    for _ in 0..18 {
        let (class, user) = run(&mut queue, now)[0];
        pages += usize::from(class == ReadClass::Page);
        queue.finish(class, UserId(user), Duration::ZERO, now);
    }
    assert_eq!(pages, 16, "8 of 9, as if both had just begun");
}

#[test]
fn what_waits_is_bounded_per_user_and_in_total() {
    let (now, mut queue) = (Instant::now(), queue(4));
    let name_of = |refused: Result<(), (Waiting<u32>, Full)>| refused.map_err(|(waiting, full)| (waiting.read, full));
    for n in 0..256 {
        queue.offer(read(ReadClass::Page, 1, n, now, 5_000)).unwrap();
    }
    assert_eq!(name_of(queue.offer(read(ReadClass::Search, 1, 7, now, 5_000))), Err((7, Full::User)));
    for n in 256..BOUNDS.commanded as u32 {
        queue.offer(read(ReadClass::Page, i64::from(n), n, now, 5_000)).unwrap();
    }
    assert_eq!(name_of(queue.offer(read(ReadClass::Page, 0, 8, now, 5_000))), Err((8, Full::Everybody)));
    for n in BOUNDS.commanded as u32..BOUNDS.total as u32 {
        // One user may reconnect with any number of sockets at once: connections have a bound of their own.
        queue.offer(read(ReadClass::CatchUp, 1, n, now, 5_000)).unwrap();
    }
    assert_eq!(name_of(queue.offer(read(ReadClass::CatchUp, 0, 9, now, 5_000))), Err((9, Full::Everybody)));
}

#[test]
fn late_reads_are_returned_and_never_run() {
    let (now, mut queue) = (Instant::now(), queue(4));
    let ms = Duration::from_millis;
    queue.offer(read(ReadClass::Page, 1, 1, now, 100)).unwrap();
    queue.offer(read(ReadClass::Page, 1, 2, now, 900)).unwrap();
    queue.offer(read(ReadClass::Page, 1, 3, now, 100)).unwrap();
    assert_eq!(queue.waiting(ReadClass::Page, now + ms(50)), (3, ms(50)));
    let Some(Next::TooLate(first)) = queue.take(now + ms(500)) else { panic!("it is late") };
    assert_eq!(first.read, 1);
    let expired: Vec<u32> = queue.expire(now + ms(500)).into_iter().map(|waiting| waiting.read).collect();
    assert_eq!(expired, [3]);
    let Some(Next::Run(last)) = queue.take(now + ms(500)) else { panic!("it is in time") };
    assert_eq!(last.read, 2);
    queue.finish(ReadClass::Page, UserId(1), Duration::ZERO, now);
    assert!(queue.is_idle());
}

/// Lets a user's read of this class run for so long.
fn use_up(queue: &mut ReadQueue<u32>, user: i64, took_ms: u64, now: Instant) {
    queue.offer(read(ReadClass::Page, user, 0, now, 5_000)).unwrap();
    assert_eq!(run(queue, now), [(ReadClass::Page, user)]);
    queue.finish(ReadClass::Page, UserId(user), Duration::from_millis(took_ms), now);
}

#[test]
fn users_whose_reads_take_long_share_one_connection() {
    let (now, mut queue) = (Instant::now(), queue(20));
    for user in 1..5 {
        use_up(&mut queue, user, 300, now);
    }
    for user in 1..5 {
        for n in 0..10 {
            queue.offer(read(ReadClass::Page, user, n, now, 60_000)).unwrap();
        }
    }
    assert_eq!(run(&mut queue, now), [(ReadClass::Page, 1)], "one of them at once");
    queue.offer(read(ReadClass::Page, 9, 0, now, 5_000)).unwrap();
    assert_eq!(run(&mut queue, now), [(ReadClass::Page, 9)], "everybody else has the other connections");
    queue.finish(ReadClass::Page, UserId(1), Duration::from_millis(300), now);
    assert_eq!(run(&mut queue, now), [], "a pause, because somebody else reads too");
    let after_pause = now + Duration::from_millis(600);
    assert_eq!(queue.pause_ends(now), Some(after_pause));
    assert_eq!(run(&mut queue, after_pause), [(ReadClass::Page, 2)], "in turn");
    let later = now + Duration::from_secs(20);
    let users: Vec<i64> = run(&mut queue, later).into_iter().map(|(_, user)| user).collect();
    assert_eq!(users, [3, 4], "what was used long ago is forgotten; two of the four connections are in use");
}

#[test]
fn heavy_users_do_not_pause_when_nobody_else_reads() {
    let (now, mut queue) = (Instant::now(), queue(20));
    let ms = Duration::from_millis;
    use_up(&mut queue, 1, 3_000, now);
    for n in 0..3 {
        queue.offer(read(ReadClass::Page, 1, n, now, 60_000)).unwrap();
    }
    for round in 1..4 {
        let then = now + ms(1_000 + 300 * round);
        assert_eq!(run(&mut queue, then), [(ReadClass::Page, 1)]);
        queue.finish(ReadClass::Page, UserId(1), ms(300), then + ms(300));
        assert_eq!(queue.pause_ends(then + ms(300)), None);
    }
}

#[test]
fn heavy_users_share_one_connection_over_all_classes() {
    let (now, mut queue) = (Instant::now(), queue(20));
    for user in 1..5 {
        use_up(&mut queue, user, 300, now);
    }
    for (user, class) in (1..5).zip(ReadClass::ALL) {
        queue.offer(read(class, user, 0, now, 60_000)).unwrap();
    }
    assert_eq!(run(&mut queue, now).len(), 1);
}

#[test]
fn floods_leave_connections_free_from_their_first_moment() {
    let (now, mut queue) = (Instant::now(), queue(20));
    for user in 1..5 {
        for n in 0..256 {
            queue.offer(read(ReadClass::Page, user, n, now, 5_000)).unwrap();
        }
    }
    assert_eq!(run(&mut queue, now), [(ReadClass::Page, 1)]);
    for user in 10..13 {
        queue.offer(read(ReadClass::Page, user, 0, now, 5_000)).unwrap();
    }
    let users: Vec<i64> = run(&mut queue, now).into_iter().map(|(_, user)| user).collect();
    assert_eq!(users, [10, 11, 12]);
}

#[test]
fn ordinary_use_is_not_heavy() {
    let mut now = Instant::now();
    let mut queue = queue(20);
    for _ in 0..100 {
        use_up(&mut queue, 1, 100, now);
        now += Duration::from_millis(500); // twice a second, on a machine that is slow
    }
    queue.offer(read(ReadClass::Page, 1, 0, now, 5_000)).unwrap();
    queue.offer(read(ReadClass::Page, 1, 0, now, 5_000)).unwrap();
    assert_eq!(run(&mut queue, now).len(), 2);
}

#[test]
fn heavy_users_wait_for_others_and_have_their_turn() {
    let (now, mut queue) = (Instant::now(), queue(1));
    use_up(&mut queue, 1, 300, now);
    queue.offer(read(ReadClass::Page, 1, 0, now, 5_000)).unwrap();
    let mut before = 0;
    loop {
        queue.offer(read(ReadClass::Page, 2 + i64::from(before), 0, now, 5_000)).unwrap();
        let (class, user) = run(&mut queue, now)[0];
        if user == 1 {
            break;
        }
        before += 1;
        queue.finish(class, UserId(user), Duration::ZERO, now);
    }
    assert!(before > 0 && before < HEAVY_TURN as i32, "{before} of the others before it");
}

/// What a history does.
#[derive(Clone, Debug)]
enum Step {
    Offer { class: usize, user: i64, lasts_ms: u64 },
    Take,
    Finish(usize),
    Expire,
    Wait(u64),
    Connections(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..CLASSES, 0..4_i64, 1..200_u64)
            .prop_map(|(class, user, lasts_ms)| Step::Offer { class, user, lasts_ms }),
        4 => Just(Step::Take),
        3 => any::<usize>().prop_map(Step::Finish),
        1 => Just(Step::Expire),
        1 => (1..50_u64).prop_map(Step::Wait),
        1 => (1..12_usize).prop_map(Step::Connections),
    ];
    proptest::collection::vec(step, 0..300)
}

/// The naive model: a list of what waits and a list of what runs.
struct Model {
    waiting: Vec<Waiting<u32>>,
    running: Vec<(ReadClass, UserId)>,
    shares: Shares,
}

impl Model {
    fn running_of(&self, matches: impl Fn(ReadClass, UserId) -> bool) -> usize {
        self.running.iter().filter(|(class, user)| matches(*class, *user)).count()
    }

    fn may_run(&self, class: ReadClass, user: UserId) -> bool {
        let others = self.running_of(|class, _| class != ReadClass::CatchUp);
        self.running.len() < self.shares.total
            && (class == ReadClass::CatchUp || others < self.shares.without_catch_up)
            && self.running_of(|c, _| c == class) < self.shares.by_class[class as usize]
            && self.running_of(|c, u| (c, u) == (class, user)) < RUNNING_PER_USER[class as usize]
    }

    fn remove(&mut self, found: &Waiting<u32>) {
        let first = self.waiting.iter().position(|w| (w.class, w.user) == (found.class, found.user));
        let first = first.expect("it waits");
        assert_eq!(&self.waiting.remove(first), found, "a user's reads of a class keep their order");
    }
}

proptest! {
    #[test]
    fn every_read_is_answered_once_and_none_beyond_its_bounds(steps in steps()) {
        let bounds = Bounds { per_user: 12, commanded: 24, total: 30 };
        let mut queue = ReadQueue::new(Shares::of(4, 2), bounds);
        let mut model = Model { waiting: Vec::new(), running: Vec::new(), shares: Shares::of(4, 2) };
        let (mut now, mut name) = (Instant::now(), 0);
        let (mut taken_in, mut answered) = (HashSet::new(), HashSet::new());
        for step in steps {
            match step {
                Step::Offer { class, user, lasts_ms } => {
                    name += 1;
                    let waiting = read(ReadClass::ALL[class], user, name, now, lasts_ms);
                    let of_user = model.waiting.iter().filter(|w| w.commanded && w.user.0 == user).count();
                    let of_all = model.waiting.iter().filter(|w| w.commanded).count();
                    let is_full = model.waiting.len() >= bounds.total
                        || (waiting.commanded && of_all >= bounds.commanded);
                    match queue.offer(waiting.clone()) {
                        Ok(()) => {
                            prop_assert!(!is_full && (!waiting.commanded || of_user < bounds.per_user));
                            taken_in.insert(name);
                            model.waiting.push(waiting);
                        }
                        Err((back, Full::Everybody)) => prop_assert!(is_full && back == waiting),
                        Err((back, Full::User)) => prop_assert!(
                            waiting.commanded && of_user >= bounds.per_user && back == waiting
                        ),
                    }
                }
                Step::Take => match queue.take(now) {
                    None => prop_assert!(
                        model.waiting.iter().all(|w| !model.may_run(w.class, w.user)),
                        "something could have run"
                    ),
                    Some(Next::TooLate(waiting)) => {
                        prop_assert!(waiting.deadline <= now);
                        prop_assert!(answered.insert(waiting.read));
                        model.remove(&waiting);
                    }
                    Some(Next::Run(waiting)) => {
                        prop_assert!(waiting.deadline > now && model.may_run(waiting.class, waiting.user));
                        prop_assert!(answered.insert(waiting.read));
                        model.remove(&waiting);
                        model.running.push((waiting.class, waiting.user));
                    }
                },
                Step::Finish(at) => if !model.running.is_empty() {
                    let (class, user) = model.running.swap_remove(at % model.running.len());
                    queue.finish(class, user, Duration::ZERO, now);
                },
                Step::Expire => for waiting in queue.expire(now) {
                    prop_assert!(waiting.deadline <= now && answered.insert(waiting.read));
                    model.waiting.retain(|w| w.read != waiting.read);
                },
                Step::Wait(ms) => now += Duration::from_millis(ms),
                Step::Connections(connections) => {
                    model.shares = Shares::of(connections, 2);
                    queue.set_shares(model.shares);
                }
            }
            for class in ReadClass::ALL {
                let waiting = model.waiting.iter().filter(|w| w.class == class);
                let oldest = waiting.clone().map(|w| now.saturating_duration_since(w.since)).max().unwrap_or_default();
                prop_assert_eq!(queue.waiting(class, now), (waiting.count(), oldest));
            }
        }
        // Whatever the history was, everything that was taken in comes out, and no two rounds pass anybody over.
        queue.set_shares(Shares::of(4, 2));
        for (class, user) in std::mem::take(&mut model.running) {
            queue.finish(class, user, Duration::ZERO, now);
        }
        while let Some(next) = queue.take(now) {
            match next {
                Next::TooLate(waiting) => { answered.insert(waiting.read); }
                Next::Run(waiting) => {
                    prop_assert!(answered.insert(waiting.read));
                    queue.finish(waiting.class, waiting.user, Duration::ZERO, now);
                }
            }
        }
        prop_assert!(queue.is_idle());
        prop_assert_eq!(answered, taken_in);
    }

    #[test]
    fn nobody_starves(floods in 1..8_i64, connections in 1..12_usize, of_class in 0..CLASSES) {
        let class = ReadClass::ALL[of_class];
        let now = Instant::now();
        let bounds = Bounds { per_user: 64, commanded: 4_000, total: 4_000 };
        let mut queue = ReadQueue::new(Shares::of(connections, 2), bounds);
        for user in 1..=floods {
            for class in ReadClass::ALL {
                for _ in 0..16 {
                    queue.offer(read(class, user, 0, now, 5_000)).unwrap();
                }
            }
        }
        queue.offer(read(class, 0, 1, now, 5_000)).unwrap();
        let mut running = VecDeque::new();
        let mut before = 0;
        loop {
            match queue.take(now) {
                Some(Next::Run(waiting)) if waiting.user.0 == 0 => break,
                Some(Next::Run(waiting)) => {
                    before += 1;
                    running.push_back((waiting.class, waiting.user));
                    // The floods never end.
                    drop(queue.offer(read(waiting.class, waiting.user.0, 0, now, 5_000)));
                }
                Some(Next::TooLate(waiting)) => prop_assert!(false, "{waiting:?} is not late"),
                None => {
                    let (class, user) = running.pop_front().expect("something runs when nothing more may");
                    queue.finish(class, user, Duration::ZERO, now);
                }
            }
        }
        // One turn for each other user, and while its class has one turn the others have as many as their weights say.
        let turns = floods as usize + RUNNING_PER_USER[of_class] * floods as usize;
        let weights = WEIGHTS.iter().sum::<u64>() as usize / WEIGHTS[of_class] as usize + 1;
        prop_assert!(before <= turns * weights + connections, "{before} reads before the only one");
    }
}
