//! Requests of this shard that wait for an answer from elsewhere.

use super::presence::Gathering;
use crate::ids::{ConnId, ConversationId, Seq, ShardId, UserId};
use crate::mesh::frame::{Admission, HttpReply, Token};
use crate::wire::command::{Arguments, RequestId};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Instant;

/// Who asked.
pub enum Origin {
    /// A WebSocket.
    Connection(ConnId),
    /// An HTTP request.
    Http(HttpReply),
}

impl Origin {
    /// The WebSocket, if it is one.
    pub fn connection(&self) -> Option<ConnId> {
        match self {
            Self::Connection(conn) => Some(*conn),
            Self::Http(_) => None,
        }
    }
}

/// A command on its way.
pub struct Asked {
    /// Who asked.
    pub origin: Origin,
    /// The client's name for it.
    pub id: Option<RequestId>,
    /// Its index in `Command::NAMES`.
    pub command: usize,
    /// When it arrived.
    pub at: Instant,
}

/// What `subscribe` and `resume` ask for.
pub struct Wanted {
    /// Conversations, each with the cursor to replay from.
    pub conversations: Vec<(ConversationId, Option<Seq>)>,
    /// Cursors of conversations that cannot exist.
    pub impossible: Vec<String>,
}

/// What an answer is for.
pub enum Pending {
    /// A command: the answer is its reply.
    Command(Asked),
    /// `subscribe` and `resume`: the heads of these conversations.
    Subscribe(Asked, Wanted),
    /// A change: the conversation it belongs to. With its row in the table of changes, and what it is given.
    Change(Asked, UserId, usize, Arguments),
    /// `get_presence`: which of the users may be seen.
    Presence(Asked),
    /// `get_presence`: what one of them shows.
    PresencePart(Rc<RefCell<Gathering>>),
    /// Whether a connection may still watch these users.
    PresenceCheck(ConnId, BTreeSet<UserId>),
    /// `typing` by somebody who is not subscribed: whether it is a member.
    Typing(Asked, ConversationId, UserId),
    /// A connection that wants in.
    Admission(Box<Admission>),
    /// A stretch of the log for a subscriber.
    Replay(ConnId, ConversationId),
}

/// The table; tokens are indices into it.
pub struct PendingTable {
    shard: ShardId,
    entries: Vec<Option<Pending>>,
    free: Vec<u32>,
}

impl PendingTable {
    /// An empty table. It is bounded by what bounds its makers: commands in flight per connection, reads per shard.
    pub fn new(shard: ShardId) -> Self {
        Self { shard, entries: Vec::new(), free: Vec::new() }
    }

    /// Keeps `pending` until its token comes back.
    pub fn insert(&mut self, pending: Pending) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        self.entries[index as usize] = Some(pending);
        Token { shard: self.shard, index }
    }

    /// What the token stands for; each is good once.
    pub fn take(&mut self, token: Token) -> Option<Pending> {
        let pending = self.entries.get_mut(token.index as usize)?.take()?;
        self.free.push(token.index);
        Some(pending)
    }
}
