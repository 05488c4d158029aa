//! What one engine thread sends, and when: its share of every stream of the load.

use crate::plan::{Plan, PlanOptions, Spacing};
use crate::protocol::Action;
use std::time::Duration;

/// The kind of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Messages.
    Message,
    /// Another command.
    Other(Action),
}

/// Sends of one kind, spread over the same senders.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Its kind.
    pub purpose: Purpose,
    /// Messages per second of all threads together. In a closed loop only its presence counts.
    pub rate: f64,
    /// Senders and their rooms: indices of connections and rooms.
    pub senders: Vec<(u32, u32)>,
}

/// How a load is spread over time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// When it begins, nanoseconds on the engine's clock.
    pub start_ns: u64,
    /// How long it lasts.
    pub duration: Duration,
    /// How long the rate grows evenly from 0.
    pub ramp: Duration,
    /// How sends are spaced.
    pub spacing: Spacing,
    /// All rates are multiplied by this.
    pub factor: f64,
    /// Same seed, same plan.
    pub seed: u64,
}

#[derive(Debug)]
struct Share {
    purpose: Purpose,
    plan: Plan,
    senders: Vec<(u32, u32)>,
    next: usize,
    random: bool,
}

/// One thread's share of a load.
#[derive(Debug, Default)]
pub struct Schedule {
    shares: Vec<Share>,
    start_ns: u64,
}

/// A send that is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// Its kind.
    pub purpose: Purpose,
    /// The connection.
    pub client: u32,
    /// The room.
    pub room: u32,
    /// When it was planned, nanoseconds on the engine's clock.
    pub planned_ns: u64,
}

impl Schedule {
    /// The share of thread `thread` of `threads`: connection `c` belongs to thread `c mod threads`.
    pub fn new(streams: &[Stream], pace: Pace, thread: usize, threads: usize) -> Self {
        let shares = streams.iter().zip(0_u64..).filter_map(|(stream, number)| {
            let mine = |sender: &&(u32, u32)| sender.0 as usize % threads == thread;
            let senders: Vec<(u32, u32)> = stream.senders.iter().filter(mine).copied().collect();
            let rate = stream.rate * pace.factor * senders.len() as f64 / stream.senders.len().max(1) as f64;
            (rate > 0.0).then(|| Share {
                purpose: stream.purpose,
                plan: Plan::new(PlanOptions {
                    rate,
                    offset: thread as f64 / threads as f64,
                    ramp: pace.ramp,
                    duration: pace.duration,
                    spacing: pace.spacing,
                    seed: pace.seed ^ (number << 32 | thread as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
                }),
                senders,
                next: 0,
                random: pace.spacing == Spacing::Poisson,
            })
        });
        Self { shares: shares.collect(), start_ns: pace.start_ns }
    }

    /// When the next send is due, nanoseconds on the engine's clock.
    pub fn next_ns(&self) -> u64 {
        let next = self.shares.iter().filter_map(|share| share.plan.peek_ns()).min();
        next.map_or(u64::MAX, |next| self.start_ns + next)
    }

    /// Removes the next send that is due.
    pub fn due(&mut self, now_ns: u64) -> Option<Due> {
        let elapsed_ns = now_ns.checked_sub(self.start_ns)?;
        let earliest = self.shares.iter_mut().filter_map(|share| Some((share.plan.peek_ns()?, share)));
        let (at_ns, share) = earliest.min_by_key(|(at_ns, _)| *at_ns)?;
        if at_ns > elapsed_ns {
            return None;
        }
        share.plan.advance();
        // Random senders, which splits a Poisson process into independent ones; or one after the other.
        let chosen = if share.random { share.plan.choose(share.senders.len()) } else { share.next };
        share.next = (share.next + 1) % share.senders.len();
        let (client, room) = share.senders[chosen];
        Some(Due { purpose: share.purpose, client, room, planned_ns: self.start_ns + at_ns })
    }

    /// Ends the plan.
    pub fn end(&mut self) {
        self.shares.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        start_ns: 1_000_000_000,
        duration: Duration::from_secs(2),
        ramp: Duration::ZERO,
        spacing: Spacing::Even,
        factor: 1.0,
        seed: 1,
    };

    fn streams() -> Vec<Stream> {
        vec![
            Stream { purpose: Purpose::Message, rate: 300.0, senders: (0..6).map(|client| (client, 7)).collect() },
            Stream { purpose: Purpose::Other(Action::Typing), rate: 50.0, senders: vec![(1, 7)] },
        ]
    }

    fn all(mut schedule: Schedule) -> Vec<Due> {
        let mut all = Vec::new();
        while let Some(due) = schedule.due(u64::MAX) {
            all.push(due);
        }
        all
    }

    #[test]
    fn shares_the_rate_between_threads_and_senders() {
        for spacing in [Spacing::Even, Spacing::Poisson] {
            let parts: Vec<Vec<Due>> =
                (0..2).map(|thread| all(Schedule::new(&streams(), Pace { spacing, ..PACE }, thread, 2))).collect();
            assert!(parts[0].iter().all(|due| due.client % 2 == 0 && due.purpose == Purpose::Message));
            let messages = |client| {
                parts.iter().flatten().filter(|due| due.purpose == Purpose::Message && due.client == client).count()
            };
            for client in 0..6 {
                assert!(messages(client).abs_diff(100) < 60, "{spacing:?}: {} from {client}", messages(client));
            }
            let typing = parts[1].iter().filter(|due| due.purpose == Purpose::Other(Action::Typing)).count();
            assert!(typing.abs_diff(100) < 60, "{spacing:?}: {typing}");
            assert!(parts.iter().all(|part| part.windows(2).all(|pair| pair[0].planned_ns <= pair[1].planned_ns)));
        }
    }

    #[test]
    fn plans_nothing_early_and_nothing_after_the_end() {
        let mut schedule = Schedule::new(&streams(), PACE, 0, 1);
        assert_eq!(schedule.next_ns(), PACE.start_ns);
        assert_eq!(schedule.due(PACE.start_ns - 1), None);
        assert!(schedule.due(PACE.start_ns).is_some());
        assert!(all(Schedule::new(&streams(), PACE, 0, 1)).iter().all(|due| due.planned_ns < 3_000_000_000));
        schedule.end();
        assert_eq!((schedule.next_ns(), schedule.due(u64::MAX)), (u64::MAX, None));
    }
}
