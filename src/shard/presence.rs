//! Who is online: known to each user's own shard, sent to the connections that asked for it.
//!
//! 1. `get_presence` asks PostgreSQL which of the users may be seen: those who share a conversation with the requesting
//!    user, neither having blocked the other.
//! 2. Each user's shard answers with the present state, and remembers which shards have watchers; a shard remembers
//!    which of its connections watch.
//! 3. A change marks the user. Every half second the marked users are published, once to each shard with watchers, and
//!    only if their presence differs from what the watchers last received: a user who reconnects within that time was
//!    never offline.
//! 4. A user who leaves a conversation may lose the permission to see the others, or to be seen. At the next round
//!    PostgreSQL is asked again for each connection concerned, and the watches that it does not confirm end.
//!
//! Invariants: a change costs as much as there are shards, not as there are members in the user's conversations. A
//! thousand people coming online are at most a thousand frames a half second for each shard that watches them. A
//! connection watches at most [`WATCHED_MAX`](crate::limits::WATCHED_MAX) users. A watch never begins by a read that is
//! older than a block or a departure this shard knows of, and no answer rests on one: such a read is made again.
//! After a shard has received a block, it sends neither user the other's presence. After it has received a departure,
//! it sends presence until the re-check of step 4 is answered, and from then on only what PostgreSQL permits.
//!
//! The nodes of a cluster tell each other what their users show (`nodes`), and repeat it: what a node has not repeated
//! for 40 seconds is forgotten, so the users of a dead node do not stay online.
//!
//! Nothing of it is stored: after a restart every connected user is online, and clients set any other status again.

use super::Shard;
use super::refusals::{full_lane, too_many_reads};
use super::requests::{Gathering, Pending, PendingCommand, Watching};
use super::world::{Clock, Transport, World};
use crate::error::Refusal;
use crate::ids::{ConnId, ShardId, UserId};
use crate::mesh::frame::{Answer, Delivery, PresenceChoice, Query, Request, Token};
use crate::mesh::record::PresenceRecord;
use crate::planted::{Fault, is_planted};
use crate::wire::event;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// The users that PostgreSQL's answer to `get_presence` names.
fn permitted(data: &Value) -> impl Iterator<Item = UserId> + '_ {
    data["user_ids"].as_array().into_iter().flatten().filter_map(Value::as_i64).map(UserId)
}

impl<W: World> Shard<W> {
    /// `set_presence`, on its way to the user's shard.
    pub(super) fn set_presence(
        &mut self,
        asked: PendingCommand,
        user: UserId,
        status: &'static str,
        text: Option<String>,
    ) {
        if let Err(refusal) = self.may_change(&asked, user) {
            return self.refuse(asked, &refusal);
        }
        if let Some(text) = &text
            && let Err(refusal) = self.may_show(&asked, user, ("set_presence", "status_text"), text)
        {
            return self.refuse(asked, &refusal);
        }
        let ack = json!({ "status": status, "status_text": text });
        let choice = PresenceChoice { user, status, text: text.map(String::into_boxed_str) };
        let request = Request::SetPresence(Box::new(choice));
        match self.request(self.placement.of_user(user), request) {
            Ok(()) => self.acknowledge(asked, &ack),
            Err(_) => self.refuse(asked, &full_lane("the lane to the user's shard")),
        }
    }

    /// At the user's shard.
    pub(super) fn choose_presence(&mut self, choice: PresenceChoice) {
        let PresenceChoice { user, status, text } = choice;
        self.directory.users.choose_presence(user, status, text, self.clock.utc());
    }

    /// Publishes the changes since the last round, as far as the lanes have free slots.
    pub(super) fn publish_presence(&mut self) {
        while self.deliveries_have_room() {
            let Some((shown, watchers)) = self.directory.users.next_presence_change() else { return };
            for shard in self.placement.all().filter(|shard| watchers >> shard.0 & 1 == 1) {
                self.deliver_to(shard, Delivery::Presence(Arc::clone(&shown)));
            }
        }
    }

    /// `get_presence`: first, which of them may be seen.
    pub(super) fn get_presence(&mut self, asked: PendingCommand, user: UserId, users: &[UserId]) {
        if let Err(refusal) = self.may_change(&asked, user) {
            return self.refuse(asked, &refusal);
        }
        self.read_permission(Watching { asked, user, users: users.to_vec(), read_at_ms: self.now_ms });
    }

    fn read_permission(&mut self, watching: Watching) {
        let query = presence_query(watching.users.iter());
        let user = watching.user;
        if let Err(Pending::Presence(back)) = self.read(user, query, Pending::Presence(watching)) {
            self.refuse(back.asked, &too_many_reads());
        }
    }

    /// Second, what each of them shows; over a socket, also what changes from now on.
    pub(super) fn presence_permitted(&mut self, watching: Watching, answer: Result<Value, Box<Refusal>>) {
        let data = match answer {
            Ok(data) => data,
            Err(refusal) => return self.refuse(watching.asked, &refusal),
        };
        let Watching { asked, user, users, read_at_ms } = watching;
        if self.directory.recent.may_hide(user, &users, read_at_ms) && !is_planted(Fault::WatchByAnOldRead) {
            return self.read_permission(Watching { asked, user, users, read_at_ms: self.now_ms });
        }
        let users: Vec<UserId> = permitted(&data).collect();
        let conn = asked.origin.connection().filter(|conn| self.connections.session(*conn).is_some());
        let gathering = Gathering {
            asked: Some(asked),
            user,
            read_at_ms,
            outstanding: users.len() + 1,
            found: Vec::with_capacity(users.len()),
        };
        let gathering = Rc::new(RefCell::new(gathering));
        for user in users {
            let begins = conn.is_some_and(|conn| self.directory.watches.watch(conn, user));
            let token = self.requests.insert(Pending::PresencePart(Rc::clone(&gathering)));
            let watcher = begins.then_some(self.id);
            let request = Request::Presence { user, token, watcher };
            if self.request(self.placement.of_user(user), request).is_err() {
                self.requests.take(token);
                self.presence_gathered(&gathering, None); // left out: asking again finds it
            }
        }
        self.presence_gathered(&gathering, None);
    }

    /// At the user's shard: the present state, and from now on its changes.
    pub(super) fn answer_presence(&mut self, user: UserId, token: Token, watcher: Option<ShardId>) {
        let shown = self.directory.users.presence(user, watcher);
        self.deliver_to(token.shard, Delivery::Answer(token, Answer::Presence(shown)));
    }

    /// One of the answers arrived, or will not.
    pub(super) fn presence_gathered(&mut self, gathering: &Rc<RefCell<Gathering>>, found: Option<Arc<PresenceRecord>>) {
        let mut state = gathering.borrow_mut();
        state.outstanding -= 1;
        state.found.extend(found);
        if state.outstanding > 0 {
            return;
        }
        let (asked, found) = (state.asked.take(), std::mem::take(&mut state.found));
        let (user, read_at_ms) = (state.user, state.read_at_ms);
        drop(state);
        if let Some(asked) = asked {
            let users: Vec<UserId> = found.iter().map(|shown| shown.user_id).collect();
            if self.directory.recent.may_hide(user, &users, read_at_ms) && !is_planted(Fault::AnswerByAnOldRead) {
                return self.read_permission(Watching { asked, user, users, read_at_ms: self.now_ms });
            }
            let presence: Vec<&PresenceRecord> = found.iter().map(AsRef::as_ref).collect();
            self.acknowledge(asked, &json!({ "presence": presence }));
        }
    }

    /// One of the two has blocked the other: neither receives the other's presence any longer.
    pub(super) fn on_blocked(&mut self, one: UserId, other: UserId) {
        // Not the beginning of the turn: PostgreSQL may have been asked between it and the block.
        let now_ms = self.process_ms(self.clock.now());
        self.directory.recent.blocked(one, other, now_ms);
        if is_planted(Fault::WatchAfterABlock) {
            return;
        }
        for (watcher, watched) in [(one, other), (other, one)] {
            for conn in self.directory.local.of(watcher) {
                self.directory.watches.stop(*conn, &BTreeSet::from([watched]));
                if let Some(session) = self.connections.session_mut(*conn)
                    && !is_planted(Fault::TypeAfterABlock)
                {
                    session.forget_typing_permission();
                }
            }
        }
    }

    /// Checks with PostgreSQL the watches that may no longer be permitted, a bounded number at once.
    pub(super) fn recheck_watches(&mut self) {
        while self.requests.may_read_in_background()
            && let Some((conn, users)) = self.directory.watches.next_recheck()
        {
            let Some(session) = self.connections.session(conn) else { continue };
            let (user, query) = (session.user, presence_query(users.iter()));
            if let Err(Pending::PresenceCheck(conn, users)) =
                self.read(user, query, Pending::PresenceCheck(conn, users))
            {
                return self.directory.watches.recheck_later(conn, users);
            }
        }
    }

    /// Ends the watches that PostgreSQL does not confirm. Without an answer it confirms none: the client can ask again.
    pub(super) fn presence_checked(
        &mut self,
        conn: ConnId,
        mut users: BTreeSet<UserId>,
        answer: Result<Value, Box<Refusal>>,
    ) {
        if let Ok(data) = answer {
            for user in permitted(&data) {
                users.remove(&user);
            }
        }
        self.directory.watches.stop(conn, &users);
    }

    /// A watched user shows something else.
    pub(super) fn on_presence(&mut self, shown: &Arc<PresenceRecord>) {
        let user = shown.user_id;
        let watchers = self.directory.watches.of(user).to_vec();
        if watchers.is_empty() {
            // Where the lane is full, the next change asks again.
            let request = Request::PresenceUnwatched { user, shard: self.id };
            return drop(self.request(self.placement.of_user(user), request));
        }
        for conn in watchers {
            let Some(session) = self.connections.session(conn) else { continue };
            // A client that does not read asks again when it does; this is not the log.
            if self.sockets.queued_bytes(conn) < self.live.limits.max_outbound_queue_bytes {
                match event::encode(session.format, "presence", None, &**shown) {
                    Ok(frame) => self.send_frame(conn, frame),
                    Err(message) => crate::faults::error_limited!("cannot serialise presence: {message}"),
                }
            }
        }
    }
}

fn presence_query<'a>(users: impl Iterator<Item = &'a UserId>) -> Query {
    let users: Vec<UserId> = users.copied().collect();
    Query::Lookup { name: "get_presence", arguments: json!({ "user_ids": users }) }
}
