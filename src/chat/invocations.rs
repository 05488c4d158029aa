//! Slash commands that wait for the answer of their bot. Pure: time is an argument.
//!
//! ```text
//!            answer in public                 committed
//!   waiting ──────────────────► sending ─────────────────► answered
//!    │  ▲ │                        │ │
//!    │  │ │ answer in private      │ │ refused, and its time is over
//!    │  │ └────────────────────► answered ◄── (so is the bot, with the refusal)
//!    │  └─────── refused ──────────┘ │
//!    └──── its time is over ────► failed ◄──┘
//! ```
//!
//! Invariants:
//! - an invocation ends once. Otherwise its user would receive two answers, or its bot could post twice;
//! - only its bot answers it, and only before its time is over. A message that is being committed by then still counts;
//! - the number of invocations is bounded per bot, per user and in all, so no bot that never answers fills the memory.

use crate::ids::UserId;
use crate::limits::{COMMAND_ANSWER_MS, INVOCATIONS_MAX, INVOCATIONS_PER_BOT_MAX, INVOCATIONS_PER_USER_MAX};
use std::collections::{HashMap, VecDeque};

/// Who takes part in an invocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parties {
    /// Who ran the command.
    pub user: UserId,
    /// Who answers it.
    pub bot: UserId,
}

/// The bound that an invocation would exceed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InvocationBound {
    /// Those of its bot.
    OfBot,
    /// Those of its user.
    OfUser,
    /// All of them.
    InAll,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum InvocationState {
    Waiting,
    /// Its answer is being committed.
    Sending,
}

struct PendingInvocation<I> {
    parties: Parties,
    state: InvocationState,
    due_ms: u64,
    item: I,
}

/// The pending invocations of a shard's bots; `I` is what belongs to one.
pub struct Invocations<I> {
    entries: HashMap<u64, PendingInvocation<I>>,
    /// Ascending by time. An entry may have ended before.
    due: VecDeque<(u64, u64)>,
    of_bots: HashMap<UserId, usize>,
    of_users: HashMap<UserId, usize>,
}

impl<I> Default for Invocations<I> {
    fn default() -> Self {
        Self { entries: HashMap::new(), due: VecDeque::new(), of_bots: HashMap::new(), of_users: HashMap::new() }
    }
}

fn count_down(counts: &mut HashMap<UserId, usize>, user: UserId) {
    if let Some(count) = counts.get_mut(&user) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&user);
        }
    }
}

impl<I> Invocations<I> {
    /// Begins an invocation with this number, which must be new.
    ///
    /// # Errors
    /// There are too many.
    pub fn begin(&mut self, now_ms: u64, number: u64, parties: Parties, item: I) -> Result<(), InvocationBound> {
        let count = |counts: &HashMap<UserId, usize>, user| counts.get(&user).copied().unwrap_or(0);
        if self.entries.len() >= INVOCATIONS_MAX || self.entries.contains_key(&number) {
            return Err(InvocationBound::InAll);
        }
        if count(&self.of_bots, parties.bot) >= INVOCATIONS_PER_BOT_MAX {
            return Err(InvocationBound::OfBot);
        }
        if count(&self.of_users, parties.user) >= INVOCATIONS_PER_USER_MAX {
            return Err(InvocationBound::OfUser);
        }
        let due_ms = now_ms + COMMAND_ANSWER_MS;
        *self.of_bots.entry(parties.bot).or_default() += 1;
        *self.of_users.entry(parties.user).or_default() += 1;
        self.due.push_back((due_ms, number));
        self.entries.insert(number, PendingInvocation { parties, state: InvocationState::Waiting, due_ms, item });
        Ok(())
    }

    /// The invocation, if `bot` may answer it now.
    #[must_use]
    pub fn open(&self, now_ms: u64, number: u64, bot: UserId) -> Option<&I> {
        let entry = self.entries.get(&number)?;
        let is_open = entry.parties.bot == bot && entry.state == InvocationState::Waiting && now_ms < entry.due_ms;
        is_open.then_some(&entry.item)
    }

    /// Its answer is being committed from now on. The invocation must be open.
    pub fn sending(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.state = InvocationState::Sending;
        }
    }

    /// Changes what belongs to an invocation.
    pub fn change(&mut self, number: u64, change: impl FnOnce(&mut I)) {
        if let Some(entry) = self.entries.get_mut(&number) {
            change(&mut entry.item);
        }
    }

    /// Its answer was refused: the bot may answer again. If its time is over, the invocation ends and is returned.
    pub fn refused(&mut self, now_ms: u64, number: u64) -> Option<I> {
        let entry = self.entries.get_mut(&number)?;
        entry.state = InvocationState::Waiting;
        if now_ms < entry.due_ms { None } else { self.end(number) }
    }

    /// Ends an invocation, and returns it.
    pub fn end(&mut self, number: u64) -> Option<I> {
        let entry = self.entries.remove(&number)?;
        count_down(&mut self.of_bots, entry.parties.bot);
        count_down(&mut self.of_users, entry.parties.user);
        Some(entry.item)
    }

    /// The next invocation whose time is over. It ends.
    pub fn next_overdue(&mut self, now_ms: u64) -> Option<I> {
        while self.due.front().is_some_and(|(due_ms, _)| *due_ms <= now_ms) {
            let (_, number) = self.due.pop_front()?;
            let is_waiting = self.entries.get(&number).is_some_and(|entry| entry.state == InvocationState::Waiting);
            if is_waiting && let Some(item) = self.end(number) {
                return Some(item);
            }
        }
        None
    }

    /// Pending invocations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIR: Parties = Parties { user: UserId(1), bot: UserId(2) };
    const STRANGER: UserId = UserId(3);

    #[test]
    fn only_its_bot_answers_once_and_in_time() {
        let mut pending = Invocations::default();
        pending.begin(0, 7, PAIR, "a").unwrap();
        assert_eq!(pending.open(COMMAND_ANSWER_MS - 1, 7, PAIR.bot), Some(&"a"));
        assert_eq!(pending.open(0, 7, STRANGER), None);
        assert_eq!(pending.open(0, 8, PAIR.bot), None, "another number");
        assert_eq!(pending.open(COMMAND_ANSWER_MS, 7, PAIR.bot), None, "too late");
        pending.sending(7);
        assert_eq!(pending.open(1, 7, PAIR.bot), None, "it is being answered");
        assert_eq!((pending.end(7), pending.end(7), pending.len()), (Some("a"), None, 0));
    }

    #[test]
    fn ends_when_its_time_is_over_unless_its_answer_is_being_committed() {
        let mut pending = Invocations::default();
        pending.begin(0, 7, PAIR, "a").unwrap();
        pending.begin(5, 8, PAIR, "b").unwrap();
        assert_eq!(pending.next_overdue(COMMAND_ANSWER_MS - 1), None);
        pending.sending(7);
        assert_eq!(pending.next_overdue(COMMAND_ANSWER_MS), None);
        assert_eq!(pending.next_overdue(COMMAND_ANSWER_MS + 5), Some("b"));
        assert_eq!(pending.refused(COMMAND_ANSWER_MS + 6, 7), Some("a"), "it has no second chance");
        assert!(pending.is_empty() && pending.of_bots.is_empty() && pending.of_users.is_empty());
    }

    #[test]
    fn a_refused_answer_leaves_the_invocation_open() {
        let mut pending = Invocations::default();
        pending.begin(0, 7, PAIR, "a").unwrap();
        pending.sending(7);
        assert_eq!(pending.refused(1, 7), None);
        assert_eq!(pending.open(2, 7, PAIR.bot), Some(&"a"));
        assert_eq!(pending.next_overdue(COMMAND_ANSWER_MS), Some("a"));
    }

    #[test]
    fn the_number_is_bounded_for_each_bot_and_each_user() {
        let mut pending = Invocations::default();
        let parties = |user, bot| Parties { user: UserId(user), bot: UserId(bot) };
        for n in 0..INVOCATIONS_PER_USER_MAX as u64 {
            pending.begin(0, n, parties(1, 100 + n as i64), ()).unwrap();
        }
        assert_eq!(pending.begin(0, 1_000, parties(1, 99), ()), Err(InvocationBound::OfUser));
        for n in 0..INVOCATIONS_PER_BOT_MAX as u64 {
            pending.begin(0, 2_000 + n, parties(1_000 + n as i64, 50), ()).unwrap();
        }
        assert_eq!(pending.begin(0, 1_000, parties(9, 50), ()), Err(InvocationBound::OfBot));
        assert_eq!(pending.begin(0, 2_000, parties(9, 51), ()), Err(InvocationBound::InAll), "a number that is in use");
        while pending.next_overdue(COMMAND_ANSWER_MS).is_some() {}
        assert!(pending.is_empty() && pending.due.is_empty());
        assert_eq!(pending.begin(0, 1_000, parties(1, 50), ()), Ok(()));
    }
}
