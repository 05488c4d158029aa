//! The model of PostgreSQL and the I/O shard: the truth of a history.
//!
//! Commits have the semantics of the real ones: a mutation that is allowed gets the next seq in one step; a message is
//! stored once per key, a change once per id; an outcome can be delayed, refused, or unknown until the same mutation is
//! submitted again. Reads see one moment, and their answers arrive later than that.
//!
//! A run has one kind of mutations, as in the real I/O shard. The messages of known senders take the short form, and
//! everything else takes the general one (see [`crate::commits`]). Each node has its real [`KnownSenders`]. They learn
//! from the outcomes as the real committers do, and forget everything after a lost connection. Runs whose connection
//! was lost follow in the general form, and the runs behind them wait.

use crate::Verdicts;
use crate::clock::SimClock;
use crate::commits::{CommitsPlayed, Statement};
use crate::done::{Done, TrailRow, verdict};
use crate::filtered::Moderation;
use crate::lanes::{Delayed, SimMesh};
use crate::removals::Removal;
use crate::tables::{Conversation, Entry, Tables, name};
use chat_server::error::{ErrorCode, Refusal};
use chat_server::ids::{ConversationId, Seq, SessionId, UserId};
use chat_server::mesh::frame::{
    Answer, Change, CommitOutcome, LogPage, Mutation, Query, ReadRequest, ReadResult, Verdict,
};
use chat_server::mesh::record::{ConversationHead, LogEntry, OpenedSession, Profile};
use chat_server::storage::batcher::{RunKind, kind_of};
use chat_server::storage::known::{DividedRun, KnownRun, KnownSenders, MessageNumbers};
use chat_server::storage::verdicts::of_known;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};

/// Mutations that one look takes from a lane.
const TAKEN_MAX: usize = 8;

type Outcome = (Box<Mutation>, Verdict);

type Run = Vec<Box<Mutation>>;

/// Runs of mutations whose COMMIT lost its connection.
struct Lost {
    runs: Vec<Run>,
    /// Runs that have not begun.
    waiting: Vec<Run>,
    retry_at_ms: u64,
}

/// The truth.
pub struct Store {
    clock: SimClock,
    sessions: HashMap<SessionId, (UserId, bool)>,
    tables: Tables,
    /// By node.
    known: Vec<KnownSenders>,
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
    /// In which forms messages were committed.
    pub commits_played: CommitsPlayed,
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
            tables: Tables::default(),
            known: (0..shards).map(|_| KnownSenders::default()).collect(),
            done: HashMap::new(),
            lost: (0..shards).map(|_| None).collect(),
            hidden: BTreeSet::new(),
            hidden_by: HashMap::new(),
            blocks_committed: HashMap::new(),
            typings: HashMap::new(),
            trail: Vec::new(),
            moderation: Moderation::default(),
            commits_played: CommitsPlayed::new(),
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
        self.tables.conversations.insert(id, conversation);
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
        self.tables.is_member(user, conversation)
    }

    /// The newest seq of a conversation.
    #[must_use]
    pub fn last_seq(&self, conversation: ConversationId) -> i64 {
        self.tables.conversations.get(&conversation).map_or(0, |c| c.last_seq().0)
    }

    /// The entry at a seq.
    #[must_use]
    pub fn entry(&self, conversation: ConversationId, seq: i64) -> Option<&Entry> {
        self.tables.conversations.get(&conversation)?.log.get(usize::try_from(seq).ok()?.checked_sub(1)?)
    }

    /// How often a message with this key is in the log.
    #[must_use]
    pub fn copies(&self, conversation: ConversationId, user: UserId, wanted: &str) -> usize {
        let log = self.tables.conversations.get(&conversation).map_or(&[][..], |c| &c.log);
        let is_it = |e: &&Entry| matches!(e, Entry::Message { sender, key, .. } if *sender == user && key == wanted);
        log.iter().filter(is_it).count()
    }

    /// Whether `watcher` may see the user's presence.
    #[must_use]
    pub fn may_see(&self, watcher: UserId, user: UserId) -> bool {
        !self.is_blocked(watcher, user)
            && self.tables.conversations.values().any(|c| c.is_member(watcher) && c.is_member(user))
    }

    /// Whether something has happened that may end a watch between the user and others.
    #[must_use]
    pub fn was_hidden(&self, user: UserId) -> bool {
        self.hidden.contains(&user)
    }

    /// Whether the user may be sent the event at `seq` now: they are a member, or it is from their time as one.
    #[must_use]
    pub fn may_receive(&self, user: UserId, conversation: ConversationId, seq: i64) -> bool {
        let Some(conversation) = self.tables.conversations.get(&conversation) else { return false };
        let intervals = conversation.members.get(&user).map_or(&[][..], Vec::as_slice);
        intervals.iter().any(|(_, until)| until.is_none_or(|until| seq <= until))
    }

    /// Of a user who is no member: the place in the log where they left.
    #[must_use]
    pub fn left_at(&self, user: UserId, conversation: ConversationId) -> Option<Seq> {
        let intervals = self.tables.conversations.get(&conversation)?.members.get(&user)?;
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
        self.tables.is_blocked(one, other)
    }

    /// The pairs of users of whom the first may see the second.
    fn visible(&self) -> BTreeSet<(UserId, UserId)> {
        let users: BTreeSet<UserId> =
            self.tables.conversations.values().flat_map(|c| c.members.keys().copied()).collect();
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
        let node = mesh.node;
        if let Some(lost) = self.lost[worker].take() {
            if now_ms < lost.retry_at_ms || self.is_down {
                self.lost[worker] = Some(lost);
                return; // the committer does nothing else before it knows
            }
            // It has connected again, maybe to another server.
            self.known[node] = KnownSenders::default();
            let mut outcomes = Vec::new();
            for run in lost.runs {
                outcomes.extend(self.commit_general(node, run, true, verdicts));
            }
            for run in lost.waiting {
                outcomes.extend(self.commit(node, run, verdicts));
            }
            for (mutation, verdict) in outcomes {
                mesh.push_outcome(shard, CommitOutcome::Final(mutation, verdict), now_ms, verdicts);
            }
        }
        let mut runs = next_runs(&mut mesh.commits[shard], now_ms);
        if runs.is_empty() {
            return;
        }
        if self.is_down || self.disk_full {
            if self.is_down {
                self.known[node] = KnownSenders::default();
            }
            for mutation in runs.into_iter().flatten() {
                let refusal = Box::new(Refusal::storage_unavailable());
                let outcome = CommitOutcome::Final(mutation, Verdict::Refused(refusal));
                mesh.push_outcome(shard, outcome, now_ms, verdicts);
            }
        } else if !self.healed && self.clock.chance(12) {
            // Lost in COMMIT: they may have been committed, and the asker may be told that this is not known.
            let waiting = runs.split_off(begun_together(&runs));
            if self.clock.chance(50) {
                for run in &runs {
                    self.commit_unheard(node, run, verdicts);
                }
            }
            if self.clock.chance(50) {
                for mutation in runs.iter_mut().flatten() {
                    mutation.answered = true;
                    mesh.push_outcome(shard, CommitOutcome::Unresolved(mutation.token), now_ms, verdicts);
                }
            }
            let retry_at_ms = now_ms + self.clock.below(200) as u64;
            self.lost[worker] = Some(Lost { runs, waiting, retry_at_ms });
        } else {
            for run in runs {
                for (mutation, verdict) in self.commit(node, run, verdicts) {
                    let at_ms = delay(&self.clock, 20);
                    mesh.push_outcome(shard, CommitOutcome::Final(mutation, verdict), at_ms, verdicts);
                }
            }
        }
    }

    /// Commits a run of one kind, as the real committer does. Returns the outcomes in the order of their publication.
    fn commit(&mut self, node: usize, run: Run, verdicts: &Verdicts) -> Vec<Outcome> {
        let (mut outcomes, left) = self.commit_known(node, run, verdicts);
        outcomes.extend(self.commit_general(node, left, false, verdicts));
        outcomes
    }

    /// Commits the messages of known senders. Returns their outcomes, and what is left for the general form.
    fn commit_known(&mut self, node: usize, run: Run, verdicts: &Verdicts) -> (Vec<Outcome>, Run) {
        let Some(plan) = self.plan(node, &run) else { return (Vec::new(), run) };
        let Some(answer) = self.statement(verdicts).commit_known(&plan, &run) else { return (Vec::new(), run) };
        self.known[node].settled(&plan, &answer.rooms);
        let DividedRun { done, rows, left } = plan.divide(run, &answer.rooms);
        let messages = of_known(&done, &rows, &answer).unwrap_or_else(|reason| {
            verdicts.broken(reason);
            Vec::new()
        });
        (done.into_iter().zip(messages).collect(), left)
    }

    /// Commits a run in the general form. What that shows of its conversations is known from now on.
    fn commit_general(&mut self, node: usize, run: Run, repeated: bool, verdicts: &Verdicts) -> Vec<Outcome> {
        let answers = run.iter().map(|mutation| self.apply(mutation, repeated, verdicts));
        let (outcomes, numbers): (Vec<Verdict>, Vec<_>) = answers.unzip();
        self.known[node].learn(&run, &outcomes, |at| numbers[at]);
        run.into_iter().zip(outcomes).collect()
    }

    /// Commits a run in one statement whose answer is lost, so that nobody learns from it.
    fn commit_unheard(&mut self, node: usize, run: &[Box<Mutation>], verdicts: &Verdicts) {
        if let Some(plan) = self.plan(node, run)
            && self.statement(verdicts).commit_known(&plan, run).is_some()
        {
            *self.commits_played.entry("lost in the short form").or_default() += plan.rows.len();
            return;
        }
        for mutation in run {
            self.apply(mutation, false, verdicts);
        }
    }

    /// What the short form takes of a run.
    fn plan(&mut self, node: usize, run: &[Box<Mutation>]) -> Option<KnownRun> {
        let has_messages = run.first().is_some_and(|mutation| kind_of(mutation) == RunKind::Messages);
        if has_messages { self.known[node].plan(run) } else { None }
    }

    fn statement<'a>(&'a mut self, verdicts: &'a Verdicts) -> Statement<'a> {
        Statement {
            tables: &mut self.tables,
            moderation: &mut self.moderation,
            played: &mut self.commits_played,
            clock: &self.clock,
            verdicts,
        }
    }

    /// Whether a run waits for its connection.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.lost.iter().all(Option::is_none)
    }

    /// A mutation in the general form. A new message has the numbers that its row returns.
    fn apply(&mut self, mutation: &Mutation, repeated: bool, verdicts: &Verdicts) -> (Verdict, Option<MessageNumbers>) {
        match &mutation.change {
            Change::Message { content, key, .. } => {
                self.statement(verdicts).commit_message(mutation, (content, key), repeated)
            }
            Change::Other { kind: "filter_text", arguments, .. } => (self.decide_text(mutation, arguments), None),
            Change::Other { kind, mutation_id, arguments } => {
                (self.apply_once(mutation, kind, *mutation_id, arguments), None)
            }
        }
    }

    /// A change, done once per id.
    fn apply_once(&mut self, mutation: &Mutation, kind: &str, mutation_id: i64, arguments: &Value) -> Verdict {
        if let Some(done) = self.done.get(&mutation_id) {
            return verdict(mutation.actor, done.clone());
        }
        let visible = self.visible();
        match self.apply_change(mutation, kind, arguments) {
            Ok(done) => {
                self.note_removals(mutation.actor, &done, &visible);
                self.note_trail(mutation.actor, &done);
                self.done.insert(mutation_id, done.clone());
                verdict(mutation.actor, done)
            }
            Err(refusal) => Verdict::Refused(Box::new(refusal)),
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
        let (from, until) = self.tables.conversations.get(&conversation)?.members.get(&user)?.last()?;
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

    fn apply_change(&mut self, mutation: &Mutation, kind: &str, arguments: &Value) -> Result<Done, Refusal> {
        let actor = mutation.actor;
        let nothing = Done::default();
        let target = arguments["user_id"].as_i64().map(UserId);
        if let ("block_user" | "unblock_user", Some(target)) = (kind, target) {
            return Ok(if kind == "block_user" {
                self.tables.blocks.insert((actor, target));
                self.hidden.extend([actor, target]);
                Done { blocked: Some(target), ..nothing }
            } else {
                self.tables.blocks.remove(&(actor, target));
                nothing
            });
        }
        let id = mutation.conversation.ok_or_else(|| Refusal::bad_request("the model knows no such change"))?;
        let is_silenced = self.tables.is_silenced(id);
        let conversation = self
            .tables
            .conversations
            .get_mut(&id)
            .ok_or_else(|| Refusal::new(ErrorCode::NotFound, "no such conversation"))?;
        if kind == "mark_read" && conversation.is_member(actor) {
            let last = conversation.last_seq().0;
            let marker = conversation.read.entry(actor).or_default();
            let moved = arguments["seq"].as_i64().unwrap_or(0).min(last);
            let read = (moved > *marker).then_some((moved, is_silenced));
            *marker = moved.max(*marker);
            let read = read.map(|(seq, is_private)| (seq, is_private, self.tables.blocked_members(id, actor)));
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
        let event = match self.tables.record(&self.clock, id, at, None) {
            Some(LogEntry::Event(event)) => Some(event),
            _ => None,
        };
        if !joins {
            self.hidden.insert(user);
        }
        let (gained, lost) = if joins { (vec![user], vec![]) } else { (vec![], vec![user]) };
        Ok(Done { conversation: Some(id), event, gained, lost, ..nothing })
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
                if self.tables.is_silenced(*conversation) {
                    return refused(ErrorCode::Blocked, "one has blocked the other");
                }
                *self.typings.entry((user, *conversation)).or_default() += 1;
                Answer::Data(Box::new(json!({ "hidden_from": self.tables.blocked_members(*conversation, user) })))
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
                let entries = (from..until)
                    .filter_map(|at| self.tables.record(&self.clock, *conversation, at, Some(user)))
                    .collect();
                Answer::Log(Box::new(LogPage { entries, complete: until == last, restarts_at: None }))
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
        let mine = self.tables.conversations.iter().filter(|(_, conversation)| conversation.is_member(user));
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

/// The oldest mutations of a lane, in runs of one kind.
fn next_runs(lane: &mut Delayed<Box<Mutation>>, now_ms: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for mutation in std::iter::from_fn(|| lane.pop(now_ms)).take(TAKEN_MAX) {
        match runs.last_mut().filter(|run| kind_of(&run[0]) == kind_of(&mutation)) {
            Some(run) => run.push(mutation),
            None => runs.push(vec![mutation]),
        }
    }
    runs
}

/// How many of these runs PostgreSQL can have at once: a conversation is in one run at a time.
fn begun_together(runs: &[Run]) -> usize {
    let mut running = BTreeSet::new();
    let is_free = |run: &&Run| {
        let conversations: BTreeSet<_> = run.iter().filter_map(|mutation| mutation.conversation).collect();
        let is_free = running.is_disjoint(&conversations);
        running.extend(conversations);
        is_free
    };
    runs.iter().take_while(is_free).count()
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
