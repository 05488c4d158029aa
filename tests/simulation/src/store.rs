//! The model of PostgreSQL and the I/O shard: the truth of a history.
//!
//! Commits have the semantics of the real ones: a mutation is authorised and gets the next seq in one step; a message
//! is stored once per key, a change once per id; an outcome can be delayed, refused, or unknown until the same mutation
//! is submitted again. Reads see one moment, and their answers arrive later than that.

use crate::Verdicts;
use crate::clock::SimClock;
use crate::done::{Done, TrailRow, verdict};
use crate::filtered::Moderation;
use crate::lanes::SimMesh;
use crate::removals::Removal;
use chat_server::error::{ErrorCode, Refusal};
use chat_server::ids::{ConversationId, ConversationPrefix, MessageId, Seq, SessionId, UserId};
use chat_server::mesh::frame::{
    Answer, Change, CommitOutcome, CommittedMessage, LogPage, Mutation, Query, ReadRequest, ReadResult, Verdict,
};
use chat_server::mesh::record::{
    ConversationHead, EventRecord, LogEntry, MessageRecord, OpenedSession, Profile, Sender, rfc3339,
};
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
struct Conversation {
    log: Vec<Entry>,
    keys: HashMap<(UserId, String), usize>,
    read: HashMap<UserId, i64>,
    members: BTreeMap<UserId, Vec<Interval>>,
}

impl Conversation {
    fn last_seq(&self) -> Seq {
        Seq(self.log.len() as i64)
    }

    fn is_member(&self, user: UserId) -> bool {
        self.members.get(&user).and_then(|intervals| intervals.last()).is_some_and(|(_, until)| until.is_none())
    }

    fn set_member(&mut self, user: UserId, joins: bool) {
        self.log.push(Entry::Membership { user, joined: joins });
        let seq = self.log.len() as i64;
        let intervals = self.members.entry(user).or_default();
        if joins {
            intervals.push((seq, None));
        } else if let Some(last) = intervals.last_mut() {
            last.1 = Some(seq);
        }
    }
}

/// A run of mutations whose COMMIT lost its connection.
struct Lost {
    run: Vec<Box<Mutation>>,
    retry_at_ms: u64,
}

/// The truth.
pub struct Store {
    clock: SimClock,
    sessions: HashMap<SessionId, (UserId, bool)>,
    conversations: BTreeMap<ConversationId, Conversation>,
    blocks: BTreeSet<(UserId, UserId)>,
    done: HashMap<i64, Done>,
    /// By shard.
    lost: Vec<Option<Lost>>,
    /// Users who have left a conversation or were blocked by another: what may end watches.
    hidden: BTreeSet<UserId>,
    /// What ended a user's permission to see another's presence.
    hidden_by: HashMap<(UserId, UserId), Removal>,
    /// By pair of users, the lower one first.
    blocks_committed: HashMap<(UserId, UserId), u64>,
    /// Permitted look-ups for `typing`, by user and conversation.
    typings: HashMap<(UserId, ConversationId), u64>,
    /// Changes of memberships, and blocks, in the order of their commits.
    trail: Vec<TrailRow>,
    /// What the content filter did.
    pub moderation: Moderation,
    /// PostgreSQL cannot be reached.
    pub is_down: bool,
    /// Nothing can be written.
    pub disk_full: bool,
    /// No faults any more.
    pub healed: bool,
}

impl Store {
    /// An empty store for `shards` shards.
    #[must_use]
    pub fn new(clock: SimClock, shards: usize) -> Self {
        Self {
            clock,
            sessions: HashMap::new(),
            conversations: BTreeMap::new(),
            blocks: BTreeSet::new(),
            done: HashMap::new(),
            lost: (0..shards).map(|_| None).collect(),
            hidden: BTreeSet::new(),
            hidden_by: HashMap::new(),
            blocks_committed: HashMap::new(),
            typings: HashMap::new(),
            trail: Vec::new(),
            moderation: Moderation::default(),
            is_down: false,
            disk_full: false,
            healed: false,
        }
    }

    /// A conversation with these members, each of whom is in its log.
    pub fn create(&mut self, id: ConversationId, members: &[UserId]) {
        let mut conversation = Conversation::default();
        for user in members {
            conversation.set_member(*user, true);
        }
        self.conversations.insert(id, conversation);
    }

    /// A sign-in.
    pub fn sign_in(&mut self, user: UserId) -> SessionId {
        let session = SessionId(self.sessions.len() as i64 + 1);
        self.sessions.insert(session, (user, false));
        session
    }

    /// Revokes a session; true when it was not revoked before.
    pub fn revoke(&mut self, session: SessionId) -> bool {
        self.sessions.get_mut(&session).is_some_and(|(_, revoked)| !std::mem::replace(revoked, true))
    }

    /// Whether the session is revoked.
    #[must_use]
    pub fn is_revoked(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_none_or(|(_, revoked)| *revoked)
    }

    /// Whether the user is a member.
    #[must_use]
    pub fn is_member(&self, user: UserId, conversation: ConversationId) -> bool {
        self.conversations.get(&conversation).is_some_and(|c| c.is_member(user))
    }

    /// The newest seq of a conversation.
    #[must_use]
    pub fn last_seq(&self, conversation: ConversationId) -> i64 {
        self.conversations.get(&conversation).map_or(0, |c| c.last_seq().0)
    }

    /// The entry at a seq.
    #[must_use]
    pub fn entry(&self, conversation: ConversationId, seq: i64) -> Option<&Entry> {
        self.conversations.get(&conversation)?.log.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    /// How often a message with this key is in the log.
    #[must_use]
    pub fn copies(&self, conversation: ConversationId, user: UserId, wanted: &str) -> usize {
        let log = self.conversations.get(&conversation).map_or(&[][..], |c| &c.log);
        let is_it = |e: &&Entry| matches!(e, Entry::Message { sender, key, .. } if *sender == user && key == wanted);
        log.iter().filter(is_it).count()
    }

    /// Whether `watcher` may see the user's presence.
    #[must_use]
    pub fn may_see(&self, watcher: UserId, user: UserId) -> bool {
        !self.is_blocked(watcher, user)
            && self.conversations.values().any(|c| c.is_member(watcher) && c.is_member(user))
    }

    /// Whether something has happened that may end a watch between the user and others.
    #[must_use]
    pub fn was_hidden(&self, user: UserId) -> bool {
        self.hidden.contains(&user)
    }

    /// Whether the user may be sent the event at `seq` now: they are a member, or it is from their time as one.
    #[must_use]
    pub fn may_receive(&self, user: UserId, conversation: ConversationId, seq: i64) -> bool {
        let Some(conversation) = self.conversations.get(&conversation) else { return false };
        let intervals = conversation.members.get(&user).map_or(&[][..], Vec::as_slice);
        intervals.iter().any(|(_, until)| until.is_none_or(|until| seq <= until))
    }

    /// Of a user who is no member: the place in the log where they left.
    #[must_use]
    pub fn left_at(&self, user: UserId, conversation: ConversationId) -> Option<Seq> {
        let intervals = self.conversations.get(&conversation)?.members.get(&user)?;
        intervals.last().and_then(|(_, until)| until.map(Seq))
    }

    /// What ended `watcher`'s permission to see the user's presence.
    #[must_use]
    pub fn hidden_by(&self, watcher: UserId, user: UserId) -> Option<Removal> {
        self.hidden_by.get(&(watcher, user)).copied()
    }

    /// Blocks between two users that were committed, repeated ones included.
    #[must_use]
    pub fn blocks(&self, one: UserId, other: UserId) -> u64 {
        self.blocks_committed.get(&(one.min(other), one.max(other))).copied().unwrap_or(0)
    }

    /// How often the user was permitted to show that they type.
    #[must_use]
    pub fn typings(&self, user: UserId, conversation: ConversationId) -> u64 {
        self.typings.get(&(user, conversation)).copied().unwrap_or(0)
    }

    /// Whether one of two users has blocked the other.
    #[must_use]
    pub fn is_blocked(&self, one: UserId, other: UserId) -> bool {
        self.blocks.contains(&(one, other)) || self.blocks.contains(&(other, one))
    }

    /// Members of a conversation between whom and the user there is a block.
    fn blocked_members(&self, id: ConversationId, user: UserId) -> Vec<UserId> {
        let members = self.conversations.get(&id).into_iter().flat_map(|c| c.members.keys().copied());
        members.filter(|other| self.is_blocked(*other, user)).collect()
    }

    /// Whether it is a direct conversation between two users one of whom has blocked the other.
    fn is_silenced(&self, id: ConversationId) -> bool {
        let members = self.conversations.get(&id).filter(|_| id.prefix() == ConversationPrefix::Direct);
        let members: Vec<UserId> = members.into_iter().flat_map(|c| c.members.keys().copied()).collect();
        members.iter().any(|one| members.iter().any(|other| self.is_blocked(*one, *other)))
    }

    /// The pairs of users of whom the first may see the second.
    fn visible(&self) -> BTreeSet<(UserId, UserId)> {
        let users: BTreeSet<UserId> = self.conversations.values().flat_map(|c| c.members.keys().copied()).collect();
        let pairs = users.iter().flat_map(|watcher| users.iter().map(move |user| (*watcher, *user)));
        pairs.filter(|(watcher, user)| self.may_see(*watcher, *user)).collect()
    }

    /// Does some of the work that the shards have sent.
    pub fn work(&mut self, mesh: &mut SimMesh, (shard, worker): (usize, usize), verdicts: &Verdicts) {
        let (now_ms, healed) = (self.clock.now_ms(), mesh.healed);
        let delay = |clock: &SimClock, most: usize| now_ms + if healed { 0 } else { clock.below(most) as u64 };
        while let Some(read) = mesh.reads[shard].pop(now_ms) {
            let result = ReadResult { token: read.token, answer: self.read(&read) };
            let at_ms = delay(&self.clock, 60);
            mesh.push_result(shard, Box::new(result), at_ms, verdicts);
        }
        if let Some(lost) = self.lost[worker].take() {
            if now_ms < lost.retry_at_ms || self.is_down {
                self.lost[worker] = Some(lost);
                return; // the committer does nothing else before it knows
            }
            for mutation in lost.run {
                let verdict = self.apply(&mutation, true);
                mesh.push_outcome(shard, CommitOutcome::Final(mutation, verdict), now_ms, verdicts);
            }
        }
        let mut run = Vec::new();
        while run.len() < 4
            && let Some(mutation) = mesh.commits[shard].pop(now_ms)
        {
            run.push(mutation);
        }
        if run.is_empty() {
            return;
        }
        if self.is_down || self.disk_full {
            for mutation in run {
                let refusal = Box::new(Refusal::storage_unavailable());
                let outcome = CommitOutcome::Final(mutation, Verdict::Refused(refusal));
                mesh.push_outcome(shard, outcome, now_ms, verdicts);
            }
        } else if !self.healed && self.clock.chance(12) {
            // Lost in COMMIT: it may have been committed, and the asker may be told that this is not known.
            if self.clock.chance(50) {
                for mutation in &run {
                    self.apply(mutation, false);
                }
            }
            if self.clock.chance(50) {
                for mutation in &mut run {
                    mutation.answered = true;
                    mesh.push_outcome(shard, CommitOutcome::Unresolved(mutation.token), now_ms, verdicts);
                }
            }
            self.lost[worker] = Some(Lost { run, retry_at_ms: now_ms + self.clock.below(200) as u64 });
        } else {
            for mutation in run {
                let verdict = self.apply(&mutation, false);
                let at_ms = delay(&self.clock, 20);
                mesh.push_outcome(shard, CommitOutcome::Final(mutation, verdict), at_ms, verdicts);
            }
        }
    }

    /// Whether a run waits for its connection.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.lost.iter().all(Option::is_none)
    }

    fn apply(&mut self, mutation: &Mutation, repeated: bool) -> Verdict {
        match &mutation.change {
            Change::Message { content, key, .. } => self.apply_message(mutation, content, key, repeated),
            Change::Other { kind: "filter_text", arguments, .. } => self.decide_text(mutation, arguments),
            Change::Other { kind, mutation_id, arguments } => {
                if let Some(done) = self.done.get(mutation_id) {
                    return verdict(mutation.actor, done.clone());
                }
                let visible = self.visible();
                match self.apply_change(mutation, kind, arguments) {
                    Ok(done) => {
                        self.note_removals(mutation.actor, &done, &visible);
                        self.note_trail(mutation.actor, &done);
                        self.done.insert(*mutation_id, done.clone());
                        verdict(mutation.actor, done)
                    }
                    Err(refusal) => Verdict::Refused(Box::new(refusal)),
                }
            }
        }
    }

    /// It can safely run a second time, so it is not remembered.
    fn decide_text(&mut self, mutation: &Mutation, arguments: &Value) -> Verdict {
        let Some(id) = mutation.conversation.filter(|id| self.is_member(mutation.actor, *id)) else {
            return Verdict::Refused(Box::new(Refusal::new(ErrorCode::NotMember, "not a member")));
        };
        let result = self.moderation.decide((id, mutation.actor), arguments);
        verdict(mutation.actor, Done { conversation: Some(id), result, ..Done::default() })
    }

    /// The audit trail.
    #[must_use]
    pub fn trail(&self) -> &[TrailRow] {
        &self.trail
    }

    /// The event by which a user became a member, if they are one.
    #[must_use]
    pub fn joined_at(&self, user: UserId, conversation: ConversationId) -> Option<i64> {
        let (from, until) = self.conversations.get(&conversation)?.members.get(&user)?.last()?;
        until.is_none().then_some(*from)
    }

    fn note_trail(&mut self, actor: UserId, done: &Done) {
        self.trail.extend(done.blocked.map(|blocked| TrailRow::Block(actor, blocked)));
        if let Some(conversation) = done.conversation {
            let users = done.gained.iter().chain(&done.lost);
            self.trail.extend(users.map(|user| TrailRow::Membership(*user, conversation)));
        }
    }

    /// Records whom a change has hidden from whom; `visible` is from before it.
    fn note_removals(&mut self, actor: UserId, done: &Done, visible: &BTreeSet<(UserId, UserId)>) {
        let departed = done.lost.first().zip(done.conversation).zip(done.event.as_ref());
        let removal = match (done.blocked, departed) {
            (Some(other), _) => {
                *self.blocks_committed.entry((actor.min(other), actor.max(other))).or_default() += 1;
                Removal::block(actor, other)
            }
            (None, Some(((user, conversation), event))) => {
                Removal::Departure { user: *user, conversation, seq: event.seq }
            }
            (None, None) => return,
        };
        let hidden: Vec<_> = visible.difference(&self.visible()).map(|pair| (*pair, removal)).collect();
        self.hidden_by.extend(hidden);
    }

    fn apply_message(&mut self, mutation: &Mutation, content: &str, key: &str, repeated: bool) -> Verdict {
        let found = mutation.conversation.and_then(|id| Some((id, self.conversations.get_mut(&id)?)));
        let Some((id, conversation)) = found else {
            return Verdict::Refused(Box::new(Refusal::new(ErrorCode::NotFound, "no such conversation")));
        };
        let stored = conversation.keys.get(&(mutation.actor, key.to_owned())).copied();
        let duplicate = stored.is_some();
        if !duplicate && !conversation.is_member(mutation.actor) {
            return Verdict::Refused(Box::new(Refusal::new(ErrorCode::NotMember, "not a member")));
        }
        if !duplicate {
            self.moderation.stores(&(id, mutation.actor, key.to_owned()), content);
        }
        let at = stored.unwrap_or_else(|| {
            let message = Entry::Message {
                id: MessageId(id.number() * 100_000 + conversation.log.len() as i64 + 1),
                sender: mutation.actor,
                content: content.to_owned(),
                key: key.to_owned(),
            };
            conversation.log.push(message);
            conversation.keys.insert((mutation.actor, key.to_owned()), conversation.log.len() - 1);
            conversation.log.len() - 1
        });
        match self.record(id, at, None) {
            Some(LogEntry::Message(record)) => Verdict::Message(Box::new(CommittedMessage {
                record: *record,
                duplicate,
                publish: !duplicate || repeated,
                thread: None,
            })),
            _ => Verdict::Refused(Box::new(Refusal::new(ErrorCode::Internal, "the model lost a message"))),
        }
    }

    fn apply_change(&mut self, mutation: &Mutation, kind: &str, arguments: &Value) -> Result<Done, Refusal> {
        let actor = mutation.actor;
        let nothing = Done::default();
        let target = arguments["user_id"].as_i64().map(UserId);
        if let ("block_user" | "unblock_user", Some(target)) = (kind, target) {
            return Ok(if kind == "block_user" {
                self.blocks.insert((actor, target));
                self.hidden.extend([actor, target]);
                Done { blocked: Some(target), ..nothing }
            } else {
                self.blocks.remove(&(actor, target));
                nothing
            });
        }
        let id = mutation.conversation.ok_or_else(|| Refusal::bad_request("the model knows no such change"))?;
        let is_silenced = self.is_silenced(id);
        let conversation =
            self.conversations.get_mut(&id).ok_or_else(|| Refusal::new(ErrorCode::NotFound, "no such conversation"))?;
        if kind == "mark_read" && conversation.is_member(actor) {
            let last = conversation.last_seq().0;
            let marker = conversation.read.entry(actor).or_default();
            let moved = arguments["seq"].as_i64().unwrap_or(0).min(last);
            let read = (moved > *marker).then_some((moved, is_silenced));
            *marker = moved.max(*marker);
            let read = read.map(|(seq, is_private)| (seq, is_private, self.blocked_members(id, actor)));
            return Ok(Done { conversation: Some(id), read, ..nothing });
        }
        let (user, joins) = match (kind, target) {
            ("join_conversation", _) => (actor, true),
            ("leave_conversation", _) => (actor, false),
            ("invite_member", Some(target)) if conversation.is_member(actor) => (target, true),
            ("remove_member", Some(target)) if conversation.is_member(actor) => (target, false),
            _ => return Err(Refusal::new(ErrorCode::Forbidden, "the model does not allow it")),
        };
        if conversation.is_member(user) == joins {
            return Err(Refusal::new(ErrorCode::Conflict, "nothing to change"));
        }
        conversation.set_member(user, joins);
        let at = conversation.log.len() - 1;
        let event = match self.record(id, at, None) {
            Some(LogEntry::Event(event)) => Some(event),
            _ => None,
        };
        if !joins {
            self.hidden.insert(user);
        }
        let (gained, lost) = if joins { (vec![user], vec![]) } else { (vec![], vec![user]) };
        Ok(Done { conversation: Some(id), event, gained, lost, ..nothing })
    }

    /// The log entry at place `at`, as `reader` sees it.
    fn record(&self, id: ConversationId, at: usize, reader: Option<UserId>) -> Option<LogEntry> {
        let seq = Seq(at as i64 + 1);
        let created_at = rfc3339(self.clock.utc());
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

    fn read(&mut self, read: &ReadRequest) -> Answer {
        if self.is_down || (!self.healed && self.clock.chance(4)) {
            return Answer::Refused(Box::new(Refusal::storage_unavailable()));
        }
        let refused = |code, message: &'static str| Answer::Refused(Box::new(Refusal::new(code, message)));
        let user = read.user;
        match &read.query {
            Query::OpenSession { session, with_conversations, .. } => {
                if self.is_revoked(*session) {
                    return refused(ErrorCode::Unauthenticated, "the session was revoked");
                }
                Answer::Session(Box::new(OpenedSession {
                    profile: profile(user),
                    user_created_at: 0,
                    session: *session,
                    grant: None,
                    expires_seconds: None,
                    conversations: if *with_conversations { self.heads_of(user) } else { Vec::new() },
                    has_more_conversations: false,
                }))
            }
            Query::Typing(conversation) => {
                if !self.is_member(user, *conversation) {
                    return refused(ErrorCode::NotMember, "not a member");
                }
                if self.is_silenced(*conversation) {
                    return refused(ErrorCode::Blocked, "one has blocked the other");
                }
                *self.typings.entry((user, *conversation)).or_default() += 1;
                Answer::Data(Box::new(json!({ "hidden_from": self.blocked_members(*conversation, user) })))
            }
            Query::Head(conversation) => {
                if !self.is_member(user, *conversation) {
                    return refused(ErrorCode::NotMember, "not a member");
                }
                Answer::Heads(vec![(*conversation, Seq(self.last_seq(*conversation)))])
            }
            Query::Heads(conversations) => {
                let mine = conversations.iter().filter(|id| self.is_member(user, **id));
                Answer::Heads(mine.map(|id| (*id, Seq(self.last_seq(*id)))).collect())
            }
            Query::Log { conversation, after, limit } => {
                if !self.is_member(user, *conversation) {
                    return refused(ErrorCode::NotMember, "not a member");
                }
                // Pages of a few entries, so that a replay takes several.
                let limit = (*limit).min(3) as usize;
                let from = after.0 as usize;
                let last = self.last_seq(*conversation) as usize;
                let until = last.min(from + limit);
                let entries = (from..until).filter_map(|at| self.record(*conversation, at, Some(user))).collect();
                Answer::Log(Box::new(LogPage { entries, complete: until == last }))
            }
            Query::Lookup { name: "get_presence", arguments } => {
                let asked = arguments["user_ids"].as_array().into_iter().flatten().filter_map(Value::as_i64);
                let seen: Vec<i64> = asked.filter(|other| self.may_see(user, UserId(*other))).collect();
                Answer::Data(Box::new(json!({ "user_ids": seen })))
            }
            _ => refused(ErrorCode::NotFound, "the model has no such read"),
        }
    }

    fn heads_of(&self, user: UserId) -> Vec<ConversationHead> {
        let mine = self.conversations.iter().filter(|(_, conversation)| conversation.is_member(user));
        mine.map(|(id, conversation)| ConversationHead {
            id: *id,
            kind: "public_room".to_owned(),
            name: None,
            last_seq: conversation.last_seq(),
            read_seq: Seq(0),
            role: "member".to_owned(),
        })
        .collect()
    }
}

fn name(user: UserId) -> String {
    format!("user{}", user.0)
}

fn profile(user: UserId) -> Profile {
    Profile {
        id: user,
        username: name(user),
        display_name: name(user),
        avatar_url: None,
        bio: None,
        created_at: String::new(),
        role: None,
    }
}
