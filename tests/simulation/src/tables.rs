//! What the model of PostgreSQL holds of conversations: logs, members, access epochs, and the blocks between users.

use crate::clock::SimClock;
use chat_server::ids::{ConversationId, ConversationPrefix, MessageId, Seq, UserId};
use chat_server::mesh::record::{EventRecord, LogEntry, MessageRecord, Sender, rfc3339};
use chat_server::shard::world::Clock;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One entry of a conversation's log.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A message.
    Message {
        /// Its number.
        id: MessageId,
        /// Who sent it.
        sender: UserId,
        /// Its text.
        content: String,
        /// Its key.
        key: String,
    },
    /// `member_joined` or `member_left`.
    Membership {
        /// The user.
        user: UserId,
        /// Joined, or left.
        joined: bool,
    },
}

/// A user's time as a member: from this seq until that one.
type Interval = (i64, Option<i64>);

#[derive(Default)]
pub(crate) struct Conversation {
    pub(crate) log: Vec<Entry>,
    /// The places of the messages in the log.
    pub(crate) keys: HashMap<(UserId, String), usize>,
    pub(crate) read: HashMap<UserId, i64>,
    pub(crate) members: BTreeMap<UserId, Vec<Interval>>,
    /// Rises with every change after which a sender could be refused: in the model, with departures.
    pub(crate) epoch: i64,
}

impl Conversation {
    pub(crate) fn last_seq(&self) -> Seq {
        Seq(self.log.len() as i64)
    }

    pub(crate) fn is_member(&self, user: UserId) -> bool {
        self.members.get(&user).and_then(|intervals| intervals.last()).is_some_and(|(_, until)| until.is_none())
    }

    pub(crate) fn set_member(&mut self, user: UserId, joins: bool) {
        self.log.push(Entry::Membership { user, joined: joins });
        let seq = self.log.len() as i64;
        let intervals = self.members.entry(user).or_default();
        if joins {
            intervals.push((seq, None));
        } else if let Some(last) = intervals.last_mut() {
            last.1 = Some(seq);
            self.epoch += 1;
        }
    }

    /// How many messages it has.
    pub(crate) fn messages(&self) -> i64 {
        self.keys.len() as i64
    }
}

/// All conversations and blocks.
#[derive(Default)]
pub(crate) struct Tables {
    pub(crate) conversations: BTreeMap<ConversationId, Conversation>,
    pub(crate) blocks: BTreeSet<(UserId, UserId)>,
}

impl Tables {
    pub(crate) fn is_member(&self, user: UserId, id: ConversationId) -> bool {
        self.conversations.get(&id).is_some_and(|conversation| conversation.is_member(user))
    }

    /// Whether one of two users has blocked the other.
    pub(crate) fn is_blocked(&self, one: UserId, other: UserId) -> bool {
        self.blocks.contains(&(one, other)) || self.blocks.contains(&(other, one))
    }

    /// Members of a conversation between whom and the user there is a block.
    pub(crate) fn blocked_members(&self, id: ConversationId, user: UserId) -> Vec<UserId> {
        let members = self.conversations.get(&id).into_iter().flat_map(|c| c.members.keys().copied());
        members.filter(|other| self.is_blocked(*other, user)).collect()
    }

    /// Whether it is a direct conversation between two users one of whom has blocked the other.
    pub(crate) fn is_silenced(&self, id: ConversationId) -> bool {
        let members = self.conversations.get(&id).filter(|_| id.prefix() == ConversationPrefix::Direct);
        let members: Vec<UserId> = members.into_iter().flat_map(|c| c.members.keys().copied()).collect();
        members.iter().any(|one| members.iter().any(|other| self.is_blocked(*one, *other)))
    }

    /// The log entry at place `at`, as `reader` sees it.
    pub(crate) fn record(
        &self,
        clock: &SimClock,
        id: ConversationId,
        at: usize,
        reader: Option<UserId>,
    ) -> Option<LogEntry> {
        let seq = Seq(at as i64 + 1);
        let created_at = rfc3339(clock.utc());
        Some(match self.conversations.get(&id)?.log.get(at)? {
            Entry::Message { id: message_id, sender, content, key } => {
                let author = Sender { id: *sender, username: name(*sender), display_name: name(*sender), role: None };
                LogEntry::Message(Box::new(MessageRecord {
                    content: content.clone(),
                    client_message_id: (reader == Some(*sender)).then(|| key.clone()),
                    ..MessageRecord::new(*message_id, id, seq, author, created_at)
                }))
            }
            Entry::Membership { user, joined } => {
                let kind = if *joined { "member_joined" } else { "member_left" };
                let payload = json!({ "user_id": user.0 });
                let payload = if let Value::Object(map) = payload { map } else { serde_json::Map::new() };
                LogEntry::Event(EventRecord { seq, kind: kind.to_owned(), payload, created_at })
            }
        })
    }
}

pub(crate) fn name(user: UserId) -> String {
    format!("user{}", user.0)
}
