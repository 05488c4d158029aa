//! Requests of this shard that wait for an answer, and the room that is reserved for the answers.
//!
//! Invariants:
//! - every request is answered exactly once: its entry is created when it is sent and removed when the answer arrives;
//! - a read or a mutation is sent only if a slot for its answer is free on the return lane, so an answer is never lost;
//! - the table is bounded by what bounds its makers: command slots per connection, reads and commits per shard.

use crate::address::RequestSource;
use crate::chat::filter::rule::RuleHead;
use crate::error::Refusal;
use crate::ids::{CommandId, ConnId, ConversationId, MessageId, Seq, SessionId, ShardId, UserId};
use crate::limits::READS_PER_USER_MAX;
use crate::mesh::asked::HttpReply;
use crate::mesh::bot_grant::BotGrant;
use crate::mesh::frame::{Admission, Change, Query, Token};
use crate::mesh::invocation::InvocationId;
use crate::mesh::record::PresenceRecord;
use crate::mesh::storage_room::StorageRoom;
use crate::planted::{Fault, is_planted};
use crate::wire::command::{Arguments, RequestId};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Sockets that may wait for their look-up, per shard; beyond, they are answered 503…
const ADMISSIONS_WAITING_MAX: usize = 32_768;
/// … and so are those that could not be looked up within this many seconds: their clients would have given up before…
const ADMISSIONS_WAIT_S: u64 = 20;
/// … unless they are few.
const ADMISSIONS_WAITING_MIN: usize = 1_024;

/// The origin of a command.
pub enum Origin {
    /// A WebSocket.
    Connection(ConnId),
    /// An HTTP request.
    Http(HttpReply),
    /// A bot that answers a slash command in public.
    Invocation(InvocationId, UserId),
}

impl Origin {
    /// The WebSocket, if it is one.
    pub fn connection(&self) -> Option<ConnId> {
        match self {
            Self::Connection(conn) => Some(*conn),
            Self::Http(_) | Self::Invocation(..) => None,
        }
    }
}

/// What is known of the sender of a command, beside the user. Nothing if no client sent it.
#[derive(Clone, Default)]
pub struct SentBy {
    /// The sign-in that it was sent with; for the audit trail.
    pub session: Option<SessionId>,
    /// What the token permits, if it is a bot's.
    pub grant: Option<Arc<BotGrant>>,
    /// Where it came from. Only changes have it: nothing else is audited, and a message must not cost anything for it.
    pub source: Option<Arc<RequestSource>>,
}

/// A command that must be answered once: by `acknowledge`, `refuse` or `finish` of the shard. They also release the
/// command slot of its connection, so a command that is dropped instead would never release its slot.
#[must_use = "a command is answered exactly once"]
pub struct PendingCommand {
    /// Its origin.
    pub origin: Origin,
    /// The client's name for it.
    pub id: Option<RequestId>,
    /// Which command it is; none if no client sent it, or if it could not be read.
    pub command: Option<CommandId>,
    /// Its sender.
    pub sent_by: SentBy,
    /// When it arrived.
    pub at: Instant,
    /// The size of its frame in KiB, rounded up: what reading it has cost.
    pub kib: u32,
    /// It holds one of its connection's command slots.
    pub holds_slot: bool,
}

/// What an answer is for.
pub enum Pending<S> {
    /// A command: the answer is its reply.
    Command(PendingCommand),
    /// `subscribe` and `resume`: the heads of these conversations.
    Subscribe(Subscribing),
    /// A change: the conversation it belongs to.
    Change(Locating),
    /// A change whose text matches rules of the content filter: what PostgreSQL decides.
    Filter(Box<Filtering>),
    /// A text that these rules flag, and that was sent: whether it is recorded.
    FilterRecord(Vec<Arc<RuleHead>>),
    /// `get_presence`: which of the users may be seen.
    Presence(Watching),
    /// `get_presence`: the presence of one of them.
    PresencePart(Rc<RefCell<Gathering>>),
    /// Whether a connection may still watch these users.
    PresenceCheck(ConnId, BTreeSet<UserId>),
    /// `run_command`: the bot that has the command.
    Invoke(Box<Invoking>),
    /// `typing` of a user in a conversation, and when PostgreSQL was asked for the permission.
    Typing(PendingCommand, ConversationId, UserId, u64),
    /// A socket whose session is looked up.
    Admission(Box<Admission<S>>),
    /// A part of the log for a subscriber, with its `member_at` when the read was sent.
    Replay(ConnId, ConversationId, Seq),
}

/// `subscribe` or `resume` while the heads are read.
pub struct Subscribing {
    /// The command.
    pub asked: PendingCommand,
    /// Its user.
    pub user: UserId,
    /// The conversations, each with the cursor that the client gave.
    pub wanted: Vec<(ConversationId, Option<Seq>)>,
    /// Cursors of a `resume` for conversations that cannot exist.
    pub impossible: Vec<String>,
    /// `resume` answers with a list of what it cannot subscribe to; `subscribe` is refused.
    pub is_resume: bool,
    /// When the read was sent, in milliseconds of the process's clock.
    pub read_at_ms: u64,
}

impl Subscribing {
    /// The read that answers it.
    pub fn query(&self) -> Query {
        match self.wanted[..] {
            [(conversation, _)] if !self.is_resume => Query::Head(conversation),
            _ => Query::Heads(self.wanted.iter().map(|(conversation, _)| *conversation).collect()),
        }
    }
}

/// A change while its conversation is looked up.
pub struct Locating {
    /// The command.
    pub asked: PendingCommand,
    /// Its user.
    pub user: UserId,
    /// Its row in the table of changes.
    pub row: usize,
    /// Its data.
    pub arguments: Arguments,
}

/// A change whose text matches rules, while PostgreSQL decides.
pub struct Filtering {
    /// The command.
    pub asked: PendingCommand,
    /// Its user.
    pub user: UserId,
    /// The conversation; none while it is being created.
    pub conversation: Option<ConversationId>,
    /// The change.
    pub change: Change,
    /// The rules that its text matches.
    pub hits: Vec<Arc<RuleHead>>,
}

/// `run_command` while PostgreSQL looks for the bot.
pub struct Invoking {
    /// The command.
    pub asked: PendingCommand,
    /// Its user.
    pub user: UserId,
    /// Where it is run.
    pub conversation: ConversationId,
    /// In which thread.
    pub parent: Option<MessageId>,
    /// What the user wrote after the name.
    pub text: Box<str>,
}

/// `get_presence` while the read of the visible users runs.
pub struct Watching {
    /// The command.
    pub asked: PendingCommand,
    /// Its user.
    pub user: UserId,
    /// The requested users.
    pub users: Vec<UserId>,
    /// When the read was sent, in milliseconds of the process's clock.
    pub read_at_ms: u64,
}

/// The answers to one `get_presence` as they arrive.
pub struct Gathering {
    /// The command, until it is answered.
    pub asked: Option<PendingCommand>,
    /// Its user.
    pub user: UserId,
    /// When it was read who may be seen, in milliseconds of the process's clock.
    pub read_at_ms: u64,
    /// The number of missing answers.
    pub outstanding: usize,
    /// The answers so far.
    pub found: Vec<Arc<PresenceRecord>>,
}

/// A refusal that is due later.
pub struct LateRefusal {
    /// When, in milliseconds of the process's clock.
    pub due_ms: u64,
    /// The command.
    pub asked: PendingCommand,
    /// Its answer.
    pub refusal: Refusal,
}

/// The table of what waits; tokens are indices into it.
pub struct Requests<S> {
    shard: ShardId,
    room: StorageRoom,
    entries: Vec<Option<Pending<S>>>,
    free: Vec<u32>,
    commits_in_flight: usize,
    reads_in_flight: usize,
    /// The users of those reads that a command asks for, by index of the token, and how many each has.
    commanded: HashMap<u32, UserId>,
    commanded_by: HashMap<UserId, usize>,
    /// Delayed refusals, oldest first, by the pause before them; each holds a command slot.
    pub late_refusals: [VecDeque<LateRefusal>; 2],
    /// Sockets that wait for a free read slot, and since when.
    admissions: VecDeque<(Instant, Box<Admission<S>>)>,
    /// Connections whose replay waits for a free read slot, and since when, in milliseconds of the process's clock.
    pub replays_waiting: VecDeque<(u64, ConnId)>,
    /// Connections whose replay failed, and when; tried again a little later.
    pub replays_failed: Vec<(u64, ConnId)>,
    next_mutation_id: u64,
}

impl<S> Requests<S> {
    /// An empty table. Mutations are numbered from `first_mutation_id` on: a random number, so that ids are unique over
    /// restarts and shards without reading the database.
    pub fn new(shard: ShardId, room: StorageRoom, first_mutation_id: u64) -> Self {
        Self {
            shard,
            room,
            entries: Vec::new(),
            free: Vec::new(),
            commits_in_flight: 0,
            reads_in_flight: 0,
            commanded: HashMap::new(),
            commanded_by: HashMap::new(),
            late_refusals: [VecDeque::new(), VecDeque::new()],
            admissions: VecDeque::new(),
            replays_waiting: VecDeque::new(),
            replays_failed: Vec::new(),
            next_mutation_id: first_mutation_id >> 1,
        }
    }

    /// Keeps `pending` until its answer arrives.
    pub fn insert(&mut self, pending: Pending<S>) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push(None);
            (self.entries.len() - 1) as u32
        });
        self.entries[index as usize] = Some(pending);
        Token { shard: self.shard, index }
    }

    /// Removes and returns the request of a token. A token is valid once.
    pub fn take(&mut self, token: Token) -> Option<Pending<S>> {
        let pending = self.entries.get_mut(token.index as usize)?.take()?;
        self.free.push(token.index);
        Some(pending)
    }

    /// The number of requests that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Whether another read may be sent for an admission or a replay: a slot for its result is free.
    pub fn may_read(&self) -> bool {
        self.reads_in_flight < self.room.reads
    }

    /// Whether this read may be sent. What commands ask for leaves a part of the room to admissions and replays, and
    /// one user does not take all of the rest.
    pub fn has_room_for(&self, user: UserId, query: &Query) -> bool {
        if is_planted(Fault::ReadWithoutRoom) {
            return true;
        }
        if !query.is_commanded() {
            return self.may_read();
        }
        let of_user = self.commanded_by.get(&user).copied().unwrap_or(0);
        self.reads_in_flight < self.room.pages() && of_user < READS_PER_USER_MAX
    }

    /// Whether a read that can wait may be sent, without taking the room of those that cannot.
    pub fn may_read_in_background(&self) -> bool {
        self.reads_in_flight < self.room.background_reads()
    }

    /// A read was sent; `commanded_by` is the user whose command asks for it.
    pub fn read_sent(&mut self, token: Token, commanded_by: Option<UserId>) {
        self.reads_in_flight += 1;
        if let Some(user) = commanded_by {
            self.commanded.insert(token.index, user);
            *self.commanded_by.entry(user).or_default() += 1;
        }
    }

    /// Reads without a result.
    pub fn reads_in_flight(&self) -> usize {
        self.reads_in_flight
    }

    /// The result of a read arrived.
    pub fn read_answered(&mut self, token: Token) {
        self.reads_in_flight -= 1;
        let Some(user) = self.commanded.remove(&token.index) else { return };
        if let Some(of_user) = self.commanded_by.get_mut(&user) {
            *of_user -= 1;
            if *of_user == 0 {
                self.commanded_by.remove(&user);
            }
        }
    }

    /// Whether another mutation may be submitted: a slot for its outcome is free.
    pub fn may_commit(&self) -> bool {
        self.commits_in_flight < self.room.commits || is_planted(Fault::CommitWithoutRoom)
    }

    /// A mutation was submitted.
    pub fn commit_sent(&mut self) {
        self.commits_in_flight += 1;
    }

    /// The final outcome of a mutation arrived.
    pub fn commit_answered(&mut self) {
        self.commits_in_flight -= 1;
    }

    /// Mutations without a final outcome.
    pub fn commits_in_flight(&self) -> usize {
        self.commits_in_flight
    }

    /// An idempotency key for a mutation, below 2^63.
    pub fn mutation_id(&mut self) -> i64 {
        self.next_mutation_id = self.next_mutation_id.wrapping_add(1) & (u64::MAX >> 1);
        self.next_mutation_id as i64
    }

    /// Lets a socket wait for its look-up, from `now` on.
    ///
    /// # Errors
    /// The socket, when too many wait.
    pub fn let_wait(
        &mut self,
        admission: Box<Admission<S>>,
        (now, per_second): (Instant, u64),
    ) -> Result<(), Box<Admission<S>>> {
        let in_time = (per_second * ADMISSIONS_WAIT_S).max(ADMISSIONS_WAITING_MIN as u64);
        if self.admissions.len() >= ADMISSIONS_WAITING_MAX.min(in_time as usize) {
            return Err(admission);
        }
        self.admissions.push_back((now, admission));
        Ok(())
    }

    /// The number of sockets that wait.
    pub fn admissions_waiting(&self) -> usize {
        self.admissions.len()
    }

    /// Since when the oldest of them waits.
    pub fn oldest_admission(&self) -> Option<Instant> {
        self.admissions.front().map(|(since, _)| *since)
    }

    /// The socket that has waited longest.
    pub fn next_admission(&mut self) -> Option<Box<Admission<S>>> {
        self.admissions.pop_front().map(|(_, admission)| admission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_takes_only_a_part_of_the_reads_and_commands_leave_room_for_admissions() {
        let mut requests: Requests<()> = Requests::new(ShardId(0), StorageRoom::REAL, 0);
        let room = ConversationId::from_number(6).unwrap();
        let page = Query::Conversation(room);
        let log = Query::Log { conversation: room, after: Seq(0), limit: 1 };
        let token = |index| Token { shard: ShardId(0), index };
        let mut index = 0;
        for user in 1.. {
            while requests.has_room_for(UserId(user), &page) {
                requests.read_sent(token(index), Some(UserId(user)));
                index += 1;
            }
            assert!(index as usize <= user as usize * READS_PER_USER_MAX);
            if index as usize >= StorageRoom::REAL.pages() {
                break;
            }
        }
        assert!(!requests.has_room_for(UserId(1_000), &page) && requests.has_room_for(UserId(1_000), &log));
        for index in 0..index {
            requests.read_answered(token(index));
        }
        assert!(requests.reads_in_flight() == 0 && requests.commanded.is_empty() && requests.commanded_by.is_empty());
    }

    #[test]
    fn a_token_is_valid_once() {
        let mut requests: Requests<()> = Requests::new(ShardId(2), StorageRoom::REAL, u64::MAX);
        let conn = ConnId::new(ShardId(2), 0, 1);
        let room = ConversationId::from_number(6).unwrap();
        let token = requests.insert(Pending::Replay(conn, room, Seq(0)));
        assert_eq!((token.shard, requests.waiting()), (ShardId(2), 1));
        assert!(matches!(requests.take(token), Some(Pending::Replay(..))));
        assert!(requests.take(token).is_none());
        assert_eq!(requests.waiting(), 0);
        assert_eq!(requests.insert(Pending::Replay(conn, room, Seq(0))), token, "the slot is used again");
        assert!(requests.mutation_id() >= 0, "63 bits, also around the end");
    }
}
