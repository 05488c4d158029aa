//! The two forms in which the model of PostgreSQL commits messages. The real
//! [`KnownSenders`](chat_server::storage::known::KnownSenders) choose between them.
//!
//! - The general form is `commit_messages`. It looks up the key, the membership and the blocks of every message.
//! - The short form is `commit_known`. It compares the head and the access epoch of each conversation with those of the
//!   plan, and it looks at blocks, which raise no epoch. A conversation that differs is left out. A repeated key fails
//!   the whole statement. The short form does not look at memberships.
//!
//! Checked for every message that enters a log: no rule of the content filter refuses its text. In the short form
//! also: its sender may send there, and its ordinal is the number of messages up to it. A wrong plan breaks a promise.

use crate::Verdicts;
use crate::clock::SimClock;
use crate::filtered::Moderation;
use crate::tables::{Entry, Tables};
use chat_server::error::{ErrorCode, Refusal};
use chat_server::ids::{ConversationId, MessageId, UserId};
use chat_server::mesh::frame::{Change, CommittedMessage, Mutation, Verdict};
use chat_server::mesh::record::LogEntry;
use chat_server::shard::world::Clock;
use chat_server::storage::known::{KnownRoom, KnownRun, MessageNumbers};
use chat_server::storage::verdicts::KnownRows;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What became of messages, and how often: the form that has committed them, or the reason why the short form has not.
pub type CommitsPlayed = BTreeMap<&'static str, usize>;

/// A statement that commits messages.
pub(crate) struct Statement<'a> {
    pub(crate) tables: &'a mut Tables,
    pub(crate) moderation: &'a mut Moderation,
    pub(crate) played: &'a mut CommitsPlayed,
    pub(crate) clock: &'a SimClock,
    pub(crate) verdicts: &'a Verdicts,
}

impl Statement<'_> {
    /// A message in the general form. A new one has the numbers that its row returns.
    pub(crate) fn commit_message(
        &mut self,
        mutation: &Mutation,
        (content, key): (&str, &str),
        repeated: bool,
    ) -> (Verdict, Option<MessageNumbers>) {
        let refused = |code, message: &'static str| (Verdict::Refused(Box::new(Refusal::new(code, message))), None);
        let found = mutation.conversation.and_then(|id| Some((id, self.tables.conversations.get(&id)?)));
        let Some((id, conversation)) = found else {
            return refused(ErrorCode::NotFound, "no such conversation");
        };
        let stored = conversation.keys.get(&(mutation.actor, key.to_owned())).copied();
        let duplicate = stored.is_some();
        if !duplicate && !conversation.is_member(mutation.actor) {
            return refused(ErrorCode::NotMember, "not a member");
        }
        if !duplicate && self.tables.is_silenced(id) {
            return refused(ErrorCode::Blocked, "one has blocked the other");
        }
        self.count("general form", 1);
        let numbers = stored.is_none().then(|| self.next_numbers(id));
        let at = stored.unwrap_or_else(|| self.store(id, mutation, content, key).0);
        match self.tables.record(self.clock, id, at, None) {
            Some(LogEntry::Message(record)) => {
                let publish = !duplicate || repeated;
                let record = *record;
                (Verdict::Message(Box::new(CommittedMessage { record, duplicate, publish, thread: None })), numbers)
            }
            _ => refused(ErrorCode::Internal, "the model lost a message"),
        }
    }

    /// The planned messages of a run in the short form; none if a key is repeated.
    pub(crate) fn commit_known(&mut self, plan: &KnownRun, run: &[Box<Mutation>]) -> Option<KnownRows> {
        let rooms: Vec<i64> = plan.rooms.iter().filter(|room| self.is_as_planned(room)).map(|room| room.id).collect();
        let mut rows = Vec::new();
        let mut keys = BTreeSet::new();
        for row in plan.rows.iter().filter(|row| rooms.contains(&row.room)) {
            let mutation = &run[row.at];
            let (id, Change::Message { content, key, .. }) = (ConversationId::from_number(row.room)?, &mutation.change)
            else {
                self.verdicts.broken("the short form was planned for what is no message");
                continue;
            };
            rows.push((row, id, mutation, content, key));
            keys.insert((id, mutation.actor, key.clone()));
        }
        let is_stored = |(id, author, key): (ConversationId, UserId, String)| {
            self.tables.conversations.get(&id).is_some_and(|found| found.keys.contains_key(&(author, key)))
        };
        if keys.len() < rows.len() || keys.into_iter().any(is_stored) {
            self.count("repeated key", rows.len());
            return None;
        }
        let (mut seqs, mut ids) = (Vec::new(), Vec::new());
        for (row, id, mutation, content, key) in rows {
            let MessageNumbers { ordinal, .. } = self.next_numbers(id);
            self.verdicts.check(ordinal == row.ordinal, || {
                format!("{key} is message {ordinal} of {id}, and was stored under the ordinal {}", row.ordinal)
            });
            let (at, message) = self.store(id, mutation, content, key);
            seqs.push(at as i64 + 1);
            ids.push(message.0);
        }
        self.count("short form", ids.len());
        Some(KnownRows { rooms, seqs, ids, created_at: self.clock.utc(), recorded: HashMap::new() })
    }

    fn count(&mut self, what: &'static str, messages: usize) {
        *self.played.entry(what).or_default() += messages;
    }

    /// Whether a conversation is as its plan says, so that the short form takes its messages.
    fn is_as_planned(&mut self, room: &KnownRoom) -> bool {
        let found = ConversationId::from_number(room.id).and_then(|id| Some((id, self.tables.conversations.get(&id)?)));
        let Some((id, conversation)) = found else { return false };
        let difference = if conversation.last_seq().0 != room.last_seq {
            "another head"
        } else if conversation.epoch != room.epoch {
            "another epoch"
        } else if self.tables.is_silenced(id) {
            "a block"
        } else {
            return true;
        };
        self.count(difference, room.count as usize);
        false
    }

    /// The numbers of the next message.
    fn next_numbers(&self, id: ConversationId) -> MessageNumbers {
        let conversation = self.tables.conversations.get(&id);
        let (messages, epoch) = conversation.map_or((0, 0), |found| (found.messages(), found.epoch));
        MessageNumbers { ordinal: messages + 1, epoch, is_free: true }
    }

    /// A message enters a log: its place there, and its id.
    fn store(&mut self, id: ConversationId, mutation: &Mutation, content: &str, key: &str) -> (usize, MessageId) {
        let may_send = self.tables.is_member(mutation.actor, id) && !self.tables.is_silenced(id);
        self.verdicts
            .check(may_send, || format!("{key} is in the log of {id}, although its sender may not send there"));
        let author_and_key = (mutation.actor, key.to_owned());
        self.moderation.stores(&(id, mutation.actor, key.to_owned()), content);
        let conversation = self.tables.conversations.entry(id).or_default();
        let at = conversation.log.len();
        let message = MessageId(id.number() * 100_000 + at as i64 + 1);
        conversation.keys.insert(author_and_key, at);
        conversation.log.push(Entry::Message {
            id: message,
            sender: mutation.actor,
            content: content.to_owned(),
            key: key.to_owned(),
        });
        (at, message)
    }
}
