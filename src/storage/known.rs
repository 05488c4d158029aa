//! What the committers know of the conversations from what they have committed: where their logs end and who may send.
//! Pure.
//!
//! [`KnownSenders::plan`] chooses the messages of a run that the short statement, `commit_known`, can take. What is
//! known is a guess that the committing transaction checks by two numbers, the head and the access epoch of the
//! conversation. A wrong guess costs the attempt, and the general form follows.
//!
//! The simulation plays this module beside its model of PostgreSQL (`tests/simulation/src/commits.rs`).
//!
//! Invariants:
//! - a sender is known only after the general form has accepted a message of theirs, under the epoch that is known, and
//!   without slow mode. Every change that could refuse the next one raises the epoch, or is looked at by the statement;
//! - all messages of a conversation in one run take the same form. Otherwise the two forms would number them out of
//!   order;
//! - a change by another node is noticed by its seq, and the senders are forgotten: one of them may have a new name;
//! - the number of known senders is bounded. A conversation that had to make room is learnt again.

use crate::ids::{ConversationId, UserId};
use crate::mesh::frame::{Change, Mutation, Verdict};
use crate::mesh::record::Sender;
use crate::planted::{Fault, is_planted};
use std::collections::HashMap;

/// Senders and conversations that are known at most, about 200 bytes each.
const ENTRIES_MAX: usize = 65_536;
/// In a smaller run, one statement in the general form costs less than two.
const DIVIDED_MIN: usize = 32;
/// A conversation in which so many guesses in a row were wrong waits for two to this power messages with the next one.
const MISTAKES_MAX: u32 = 6;

/// A message that the general form has committed.
pub struct Accepted<'a> {
    /// The conversation's number.
    pub room: i64,
    /// Who sent it.
    pub sender: &'a Sender,
    /// Its place in the log.
    pub seq: i64,
    /// What PostgreSQL returns beside that.
    pub numbers: MessageNumbers,
}

/// What PostgreSQL returns with a message that the general form has committed, beside its place in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageNumbers {
    /// How many messages the conversation had up to this one.
    pub ordinal: i64,
    /// The conversation's access epoch in that transaction.
    pub epoch: i64,
    /// Whether no slow mode holds for the sender.
    pub is_free: bool,
}

struct RoomKnowledge {
    last_seq: i64,
    last_ordinal: i64,
    epoch: i64,
    senders: HashMap<UserId, Sender>,
    /// Wrong guesses in a row.
    mistakes: u32,
    /// Messages that take the general form before the next guess.
    waits: u32,
}

/// A conversation's part of a [`KnownRun`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownRoom {
    /// The conversation's number.
    pub id: i64,
    /// Where its log ends.
    pub last_seq: i64,
    /// The epoch under which its senders are known.
    pub epoch: i64,
    /// How many messages come.
    pub count: i64,
}

/// A message of a [`KnownRun`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KnownRow {
    /// The place of its mutation in the run.
    pub at: usize,
    /// The conversation's number.
    pub room: i64,
    /// The seq that it gets.
    pub seq: i64,
    /// The ordinal that it gets.
    pub ordinal: i64,
}

/// The messages of a run that the short statement takes.
#[derive(PartialEq, Eq, Debug)]
pub struct KnownRun {
    /// Their conversations, by id.
    pub rooms: Vec<KnownRoom>,
    /// The messages, by conversation and seq.
    pub rows: Vec<KnownRow>,
    /// Who sends each of them. They stay known to the run when the others are forgotten meanwhile.
    pub senders: Vec<Sender>,
}

/// A run after the short statement.
pub struct DividedRun<'a> {
    /// The messages that it has committed, in its order.
    pub done: Vec<Box<Mutation>>,
    /// Their rows and senders.
    pub rows: Vec<(&'a KnownRow, &'a Sender)>,
    /// What is left for the general form, in the order of the run.
    pub left: Vec<Box<Mutation>>,
}

impl KnownRun {
    /// Divides the planned run. The statement has committed the messages of these conversations, which are in order,
    /// and has left out the others.
    #[must_use]
    pub fn divide(&self, run: Vec<Box<Mutation>>, committed: &[i64]) -> DividedRun<'_> {
        let rows = self.rows.iter().zip(&self.senders);
        let rows: Vec<_> = rows.filter(|(row, _)| committed.binary_search(&row.room).is_ok()).collect();
        let mut run: Vec<Option<Box<Mutation>>> = run.into_iter().map(Some).collect();
        let done = rows.iter().filter_map(|(row, _)| run[row.at].take()).collect();
        DividedRun { done, rows, left: run.into_iter().flatten().collect() }
    }
}

/// What the committers of a queue know.
#[derive(Default)]
pub struct KnownSenders {
    rooms: HashMap<i64, RoomKnowledge>,
    senders: usize,
}

impl KnownSenders {
    /// The messages of a run whose verdicts are known; none if the general form alone costs less.
    pub fn plan(&mut self, run: &[Box<Mutation>]) -> Option<KnownRun> {
        // How many messages each conversation has, and whether all of them are known.
        let mut found: HashMap<i64, (i64, bool)> = HashMap::new();
        for mutation in run {
            let Some(room) = mutation.conversation.map(ConversationId::number) else { continue };
            let entry = found.entry(room).or_insert((0, true));
            entry.0 += 1;
            entry.1 = entry.1 && self.is_known(room, mutation);
        }
        for (room, (count, is_known)) in &mut found {
            let Some(known) = self.rooms.get_mut(room).filter(|known| known.waits > 0) else { continue };
            known.waits = known.waits.saturating_sub(*count as u32);
            *is_known = false;
        }
        let in_known = |mutation: &Mutation| {
            let room = mutation.conversation.map(ConversationId::number)?;
            found.get(&room).is_some_and(|(_, is_known)| *is_known).then_some(room)
        };
        let mut rows: Vec<KnownRow> = run
            .iter()
            .enumerate()
            .filter_map(|(at, mutation)| Some(KnownRow { at, room: in_known(mutation)?, seq: 0, ordinal: 0 }))
            .collect();
        let others = run.len() - rows.len();
        if rows.is_empty() || others > 0 && (rows.len() < DIVIDED_MIN || others > rows.len()) {
            return None;
        }
        // Stable: the order within a conversation stays.
        rows.sort_by_key(|row| row.room);
        let mut rooms: Vec<KnownRoom> = Vec::new();
        let mut senders = Vec::with_capacity(rows.len());
        for row in &mut rows {
            let known = self.rooms.get(&row.room)?;
            senders.push(known.senders.get(&run[row.at].actor)?.clone());
            if rooms.last().is_none_or(|last| last.id != row.room) {
                rooms.push(KnownRoom { id: row.room, last_seq: known.last_seq, epoch: known.epoch, count: 0 });
            }
            let room = rooms.last_mut()?;
            room.count += 1;
            (row.seq, row.ordinal) = (known.last_seq + room.count, known.last_ordinal + room.count);
        }
        Some(KnownRun { rooms, rows, senders })
    }

    fn is_known(&self, room: i64, mutation: &Mutation) -> bool {
        let Change::Message { message_type: "text", parent: None, files, .. } = &mutation.change else { return false };
        files.is_empty() && self.sender(room, mutation.actor).is_some()
    }

    /// A known sender of a conversation.
    fn sender(&self, room: i64, user: UserId) -> Option<&Sender> {
        self.rooms.get(&room)?.senders.get(&user)
    }

    /// Notes which conversations of a plan the short statement has committed. Their ids are in order.
    pub fn settled(&mut self, plan: &KnownRun, committed: &[i64]) {
        for room in &plan.rooms {
            if committed.binary_search(&room.id).is_ok() {
                self.moved(*room);
            } else {
                self.mistaken(*room);
            }
        }
    }

    /// Notes what a run in the general form shows of its conversations. `numbers` returns those of the message at a
    /// place of the run, unless they are unreadable.
    pub fn learn(
        &mut self,
        run: &[Box<Mutation>],
        verdicts: &[Verdict],
        numbers: impl Fn(usize) -> Option<MessageNumbers>,
    ) {
        for (at, (mutation, verdict)) in run.iter().zip(verdicts).enumerate() {
            let Some(room) = mutation.conversation.map(ConversationId::number) else { continue };
            match (verdict, &mutation.change) {
                (Verdict::Message(message), Change::Message { .. }) if !message.duplicate => {
                    let Some(numbers) = numbers(at) else { continue };
                    let (sender, seq) = (&message.record.sender, message.record.seq.0);
                    self.accepted(&Accepted { room, sender, seq, numbers });
                }
                (Verdict::Other(other), Change::Other { kind, .. }) => {
                    self.other(room, kind, mutation.actor, other.events.iter().map(|event| event.seq.0));
                }
                (_, Change::Message { .. }) => self.refused(room, mutation.actor),
                _ => {}
            }
        }
    }

    /// The short statement has committed a conversation's messages.
    fn moved(&mut self, room: KnownRoom) {
        if let Some(known) = self.rooms.get_mut(&room.id) {
            known.last_seq = room.last_seq + room.count;
            if !is_planted(Fault::RepeatOrdinals) {
                known.last_ordinal += room.count;
            }
            known.mistakes = 0;
        }
    }

    /// The short statement has left a conversation out: something has changed it meanwhile.
    fn mistaken(&mut self, room: KnownRoom) {
        if let Some(known) = self.rooms.get_mut(&room.id) {
            known.mistakes = (known.mistakes + 1).min(MISTAKES_MAX);
            known.waits = (1 << known.mistakes) - 1;
        }
    }

    /// The general form has committed a message.
    pub fn accepted(&mut self, message: &Accepted<'_>) {
        let Accepted { room, sender, seq, numbers: MessageNumbers { ordinal, epoch, is_free } } = *message;
        let known = self.rooms.entry(room).or_insert_with(|| RoomKnowledge {
            last_seq: seq - 1,
            last_ordinal: ordinal - 1,
            epoch,
            senders: HashMap::new(),
            mistakes: 0,
            waits: 0,
        });
        let is_other_epoch = known.epoch != epoch && !is_planted(Fault::KeepSendersOfAnOldEpoch);
        if is_other_epoch || known.last_seq + 1 != seq || known.senders.len() >= ENTRIES_MAX {
            self.senders -= known.senders.len();
            known.senders.clear();
        }
        (known.last_seq, known.last_ordinal, known.epoch) = (seq, ordinal, epoch);
        if is_free && known.senders.insert(sender.id, sender.clone()).is_none() {
            self.senders += 1;
        }
        while self.senders + self.rooms.len() > ENTRIES_MAX {
            let Some(other) = self.rooms.keys().copied().find(|other| *other != room) else { break };
            self.forget_room(other);
        }
    }

    /// The general form has not accepted a message as a new one.
    pub fn refused(&mut self, room: i64, user: UserId) {
        if let Some(known) = self.rooms.get_mut(&room)
            && known.senders.remove(&user).is_some()
        {
            self.senders -= 1;
        }
    }

    /// Another mutation has added these events to a log. With a new profile, its actor has to be learnt again.
    fn other(&mut self, room: i64, kind: &str, actor: UserId, seqs: impl IntoIterator<Item = i64>) {
        if kind == "announce_profile" {
            self.refused(room, actor);
        }
        let Some(known) = self.rooms.get_mut(&room) else { return };
        for seq in seqs {
            if seq == known.last_seq + 1 {
                known.last_seq = seq;
            }
        }
    }

    fn forget_room(&mut self, room: i64) {
        if let Some(forgotten) = self.rooms.remove(&room) {
            self.senders -= forgotten.senders.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::batcher::tests::{mutation, text};
    use super::*;
    use crate::ids::{FileId, MessageId};

    const ROOM: i64 = 6;

    fn sender(id: i64) -> Sender {
        Sender { id: UserId(id), username: format!("user{id}"), display_name: String::new(), role: None }
    }

    fn message(room: i64, user: i64) -> Box<Mutation> {
        mutation(room, user, 0, text())
    }

    fn accept(known: &mut KnownSenders, room: i64, user: i64, seq: i64, epoch: i64) {
        let sender = sender(user);
        let numbers = MessageNumbers { ordinal: seq - 1, epoch, is_free: true };
        known.accepted(&Accepted { room, sender: &sender, seq, numbers });
    }

    /// The seqs of a run's messages in the short statement, by their places.
    fn planned(known: &mut KnownSenders, run: &[Box<Mutation>]) -> Vec<(usize, i64)> {
        known.plan(run).map_or_else(Vec::new, |plan| plan.rows.iter().map(|row| (row.at, row.seq)).collect())
    }

    #[test]
    fn numbers_messages_of_known_senders_by_conversation() {
        let mut known = KnownSenders::default();
        accept(&mut known, 10, 1, 7, 0);
        accept(&mut known, ROOM, 1, 3, 4);
        let run = [message(10, 1), message(ROOM, 1), message(10, 1)];
        let plan = known.plan(&run).unwrap();
        let room = |id, last_seq, epoch, count| KnownRoom { id, last_seq, epoch, count };
        let row = |at, room, seq| KnownRow { at, room, seq, ordinal: seq - 1 };
        assert_eq!(plan.rooms, [room(ROOM, 3, 4, 1), room(10, 7, 0, 2)]);
        assert_eq!(plan.rows, [row(1, ROOM, 4), row(0, 10, 8), row(2, 10, 9)]);
        known.moved(plan.rooms[1]);
        assert_eq!(planned(&mut known, &run[..1]), [(0, 10)]);
    }

    #[test]
    fn a_conversation_takes_one_form_in_a_run() {
        let mut known = KnownSenders::default();
        (1..=3).for_each(|seq| accept(&mut known, ROOM, seq, seq, 0));
        for change in [
            |m: &mut Mutation| m.actor = UserId(9),
            |m: &mut Mutation| {
                if let Change::Message { parent, .. } = &mut m.change {
                    *parent = Some(MessageId(1));
                }
            },
            |m: &mut Mutation| {
                if let Change::Message { files, .. } = &mut m.change {
                    files.push(FileId(1));
                }
            },
            |m: &mut Mutation| {
                if let Change::Message { message_type, .. } = &mut m.change {
                    *message_type = "image";
                }
            },
        ] {
            let mut run = [message(ROOM, 1), message(ROOM, 2)];
            assert_eq!(planned(&mut known, &run).len(), 2);
            change(&mut run[1]);
            assert_eq!(planned(&mut known, &run), []);
        }
    }

    #[test]
    fn messages_of_a_conversation_that_differs_are_left_for_the_general_form() {
        let mut known = KnownSenders::default();
        for room in [ROOM, 10] {
            accept(&mut known, room, 1, 1, 0);
        }
        let run = vec![message(10, 1), message(ROOM, 1), message(10, 1)];
        let plan = known.plan(&run).unwrap();
        let DividedRun { done, rows, left } = plan.divide(run, &[ROOM]);
        let rooms = |run: &[Box<Mutation>]| run.iter().map(|m| m.conversation.unwrap().number()).collect::<Vec<_>>();
        assert_eq!((rooms(&done), rooms(&left)), (vec![ROOM], vec![10, 10]));
        assert_eq!(rows.iter().map(|(row, sender)| (row.at, sender.id)).collect::<Vec<_>>(), [(1, UserId(1))]);
        known.settled(&plan, &[ROOM]);
        // The next guess about the conversation that was left out waits.
        assert_eq!(planned(&mut known, &[message(ROOM, 1)]), [(0, 3)]);
        assert_eq!(planned(&mut known, &[message(10, 1)]), []);
    }

    #[test]
    fn divides_large_runs_only() {
        let mut known = KnownSenders::default();
        accept(&mut known, ROOM, 1, 1, 0);
        let run = |known: usize, others: usize| {
            let known = (0..known).map(|_| message(ROOM, 1));
            known.chain((0..others).map(|_| message(10, 1))).collect::<Vec<_>>()
        };
        assert_eq!(planned(&mut known, &run(DIVIDED_MIN - 1, 1)), []);
        assert_eq!(planned(&mut known, &run(DIVIDED_MIN, 1)).len(), DIVIDED_MIN);
        assert_eq!(planned(&mut known, &run(DIVIDED_MIN, DIVIDED_MIN + 1)), []);
    }

    #[test]
    fn forgets_senders_after_what_may_concern_them() {
        let mut known = KnownSenders::default();
        let run = [message(ROOM, 1)];
        // Slow mode.
        let (first, mut slow) = (sender(1), KnownSenders::default());
        let numbers = MessageNumbers { ordinal: 1, epoch: 0, is_free: false };
        slow.accepted(&Accepted { room: ROOM, sender: &first, seq: 1, numbers });
        assert_eq!(planned(&mut slow, &run), []);
        // Another epoch, or a change by another node.
        for (seq, epoch) in [(2, 1), (4, 1)] {
            accept(&mut known, ROOM, 1, seq - 1, epoch - 1 + i64::from(seq == 4));
            assert_eq!(planned(&mut known, &run).len(), 1);
            accept(&mut known, ROOM, 2, seq + i64::from(seq == 4), epoch);
            assert_eq!(planned(&mut known, &run), []);
        }
        // A refusal or a repeat, and a new profile.
        let renewed = |known: &mut KnownSenders| known.other(ROOM, "announce_profile", UserId(1), []);
        for (seq, forget) in (6..).zip([|known: &mut KnownSenders| known.refused(ROOM, UserId(1)), renewed]) {
            accept(&mut known, ROOM, 1, seq, 1);
            assert_eq!(planned(&mut known, &run).len(), 1);
            forget(&mut known);
            assert_eq!(planned(&mut known, &run), []);
        }
    }

    #[test]
    fn other_events_move_the_head() {
        let mut known = KnownSenders::default();
        accept(&mut known, ROOM, 1, 1, 0);
        known.other(ROOM, "add_reaction", UserId(2), [2, 3]);
        assert_eq!(planned(&mut known, &[message(ROOM, 1)]), [(0, 4)]);
        known.other(ROOM, "add_reaction", UserId(2), [9]);
        assert_eq!(planned(&mut known, &[message(ROOM, 1)]), [(0, 4)]);
    }

    #[test]
    fn wrong_guesses_become_rare() {
        let mut known = KnownSenders::default();
        accept(&mut known, ROOM, 1, 1, 0);
        let (mut seq, mut guesses) = (1, 0);
        for _ in 0..1_000 {
            if let Some(plan) = known.plan(&[message(ROOM, 1)]) {
                guesses += 1;
                known.mistaken(plan.rooms[0]);
            }
            seq += 2; // another node writes, too
            accept(&mut known, ROOM, 1, seq, 0);
        }
        assert!((10..30).contains(&guesses), "{guesses}");
    }

    #[test]
    fn is_bounded() {
        let mut known = KnownSenders::default();
        for room in 1..=2 * ENTRIES_MAX as i64 {
            accept(&mut known, 4 * room + 2, 1, 1, 0);
            accept(&mut known, ROOM, room, room, 0);
        }
        assert!(known.senders + known.rooms.len() <= ENTRIES_MAX);
        assert_eq!(known.senders, known.rooms.values().map(|room| room.senders.len()).sum::<usize>());
    }
}
