//! Who is there: known to a user's own shard, told to those who asked for it.
//!
//! 1. `get_presence` asks PostgreSQL which of the users may be seen: those who share a conversation with the asker, neither
//!    having blocked the other.
//! 2. Each user's shard answers with what is so now, and remembers which shards want to hear of changes; a shard remembers
//!    which of its connections do.
//! 3. A change marks the user. Every half second the marked ones are told, once to each shard that wants to hear, and only
//!    if they show something else than was told last: who reconnects within that time has not been away.
//! 4. Whoever stops being a member of a conversation may not be seen any more by those who were in it with them, or not see
//!    them: at the next round PostgreSQL is asked again for each connection that is concerned, and what it does not confirm
//!    ends.
//!
//! Invariants: what a change costs is bounded by the shards, not by the members of the user's conversations; a thousand
//! people coming online are a thousand frames a half second at most for each shard that watches them; a connection
//! watches at most [`WATCHED_MAX`] users.
//!
//! Nothing of it is stored: after a restart everybody is online who is connected, and clients set what else they want.

use super::Shard;
use super::admit::Entry;
use super::commands::needs_a_socket;
use super::pending::{Asked, Pending};
use super::session::Client;
use crate::error::Refusal;
use crate::ids::{ConnId, ShardId, UserId};
use crate::limits::{READS_IN_FLIGHT_PER_SHARD, WATCHED_MAX};
use crate::mesh::frame::{Answer, Delivery, PresenceChoice, Query, Request, Token};
use crate::mesh::record::{PresenceRecord, rfc3339};
use crate::wire::event;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// What a user has chosen to show, and what was told of them. At the user's shard.
#[derive(Default)]
pub(super) struct Presence {
    /// `away`, `busy` or `invisible`; none for plainly online.
    chosen: Option<&'static str>,
    text: Option<Box<str>>,
    last_seen: Option<String>,
    /// Bits of the shards that want to hear of changes.
    watchers: u64,
    told: Option<Arc<PresenceRecord>>,
}

impl Presence {
    /// Whether there is nothing to remember.
    pub(super) fn is_plain(&self) -> bool {
        self.chosen.is_none() && self.text.is_none() && self.last_seen.is_none() && self.watchers == 0
    }
}

impl Entry {
    fn shown(&self, user: UserId) -> PresenceRecord {
        let presence = &self.presence;
        let is_hidden = self.connections == 0 || presence.chosen == Some("invisible");
        PresenceRecord {
            user_id: user,
            status: if is_hidden { "offline" } else { presence.chosen.unwrap_or("online") },
            status_text: presence.text.clone().filter(|_| !is_hidden),
            last_seen_at: presence.last_seen.clone().filter(|_| is_hidden),
        }
    }
}

/// Answers that are still out for one `get_presence`.
pub(super) struct Gathering {
    asked: Option<Asked>,
    out: usize,
    found: Vec<Arc<PresenceRecord>>,
}

/// Whom PostgreSQL's answer to `get_presence` names.
fn permitted(data: &Value) -> impl Iterator<Item = UserId> + '_ {
    data["user_ids"].as_array().into_iter().flatten().filter_map(Value::as_i64).map(UserId)
}

impl Shard {
    /// `set_presence`, on its way to the user's shard.
    pub(super) fn set_presence(&mut self, asked: Asked, user: UserId, status: &'static str, text: Option<String>) {
        if let Err(refusal) = self.may_change(&asked, user) {
            return self.refuse(asked, &refusal, true);
        }
        let ack = json!({ "status": status, "status_text": text });
        let choice = PresenceChoice { user, status, text: text.map(String::into_boxed_str) };
        let request = Request::SetPresence(Box::new(choice));
        match self.request(self.mesh.placement.of_user(user), request) {
            Ok(()) => self.acknowledge(asked, &ack),
            Err(_) => self.refuse(asked, &Refusal::overloaded("the way to the user's core"), true),
        }
    }

    /// At the user's shard.
    pub(super) fn presence_chosen(&mut self, choice: PresenceChoice) {
        let PresenceChoice { user, status, text } = choice;
        let entry = self.registry.entry(user);
        let presence = &mut entry.presence;
        // Who turns invisible was last seen now: when they really come and go is what they do not want to show.
        if status == "invisible" && presence.chosen != Some("invisible") {
            presence.last_seen = Some(rfc3339(time::OffsetDateTime::now_utc()));
        }
        presence.chosen = Some(status).filter(|status| *status != "online");
        presence.text = text;
        self.presence_changed(user);
    }

    /// Marks a user for the next round of telling.
    pub(super) fn presence_changed(&mut self, user: UserId) {
        let entry = self.registry.entry(user);
        if entry.connections == 0 && entry.presence.chosen != Some("invisible") {
            entry.presence.last_seen = Some(rfc3339(time::OffsetDateTime::now_utc()));
        }
        if entry.presence.watchers != 0 {
            self.presence_news.insert(user);
        }
    }

    /// Tells what has changed since the last round, as far as the lanes have room.
    pub(super) fn tell_presence(&mut self) {
        while let Some(user) = self.presence_news.first().copied() {
            if !self.deliveries_have_room() {
                return; // the rest at the next tick
            }
            self.presence_news.pop_first();
            let entry = self.registry.entry(user);
            let shown = Arc::new(entry.shown(user));
            if entry.presence.told.as_ref() == Some(&shown) {
                continue;
            }
            entry.presence.told = Some(Arc::clone(&shown));
            let watchers = entry.presence.watchers;
            for shard in self.mesh.placement.all().filter(|shard| watchers >> shard.0 & 1 == 1) {
                self.deliver_to(shard, Delivery::Presence(Arc::clone(&shown)));
            }
        }
    }

    /// `get_presence`: first, who of them may be seen.
    pub(super) fn get_presence(&mut self, asked: Asked, user: UserId, users: &[UserId]) {
        if let Err(refusal) = self.may_change(&asked, user) {
            return self.refuse(asked, &refusal, true);
        }
        let query = Query::Lookup { name: "get_presence", arguments: json!({ "user_ids": users }) };
        if let Err(Pending::Presence(asked)) = self.read(user, query, Pending::Presence(asked)) {
            self.refuse(asked, &Refusal::overloaded("reads"), true);
        }
    }

    /// Second, what each of them shows; with a socket, from now on.
    pub(super) fn presence_permitted(&mut self, asked: Asked, answer: Answer) {
        let users: Vec<UserId> = match answer {
            Answer::Data(data) => permitted(&data).collect(),
            Answer::Refused(refusal) => return self.refuse(asked, &refusal, true),
            _ => return self.refuse(asked, &needs_a_socket(), true),
        };
        let conn = asked.origin.connection();
        let gathering = Gathering { asked: Some(asked), out: users.len() + 1, found: Vec::with_capacity(users.len()) };
        let gathering = Rc::new(RefCell::new(gathering));
        for user in users {
            let watching = conn.is_some_and(|conn| self.watch(conn, user));
            let token = self.pending.insert(Pending::PresencePart(Rc::clone(&gathering)));
            let watcher = watching.then_some(self.id);
            let request = Request::Presence { user, token, watcher };
            if self.request(self.mesh.placement.of_user(user), request).is_err() {
                self.pending.take(token);
                self.presence_gathered(&gathering, None); // left out: asking again finds it
            }
        }
        self.presence_gathered(&gathering, None);
    }

    /// At the user's shard: what is so, and who wants to hear when it changes.
    pub(super) fn presence_asked(&mut self, user: UserId, token: Token, watcher: Option<ShardId>) {
        let entry = self.registry.entry(user);
        let shown = Arc::new(entry.shown(user));
        if let Some(shard) = watcher {
            // What was told before everybody had stopped listening says nothing about what this one knows.
            if entry.presence.watchers == 0 {
                entry.presence.told = Some(Arc::clone(&shown));
            }
            entry.presence.watchers |= 1 << shard.0;
        }
        self.deliver_to(token.shard, Delivery::Answer(token, Answer::Presence(shown)));
    }

    /// At the user's shard: nobody there wants to hear any more.
    pub(super) fn presence_unwatched(&mut self, user: UserId, shard: ShardId) {
        self.registry.entry(user).presence.watchers &= !(1 << shard.0);
    }

    /// One of the answers came, or will not.
    pub(super) fn presence_gathered(&mut self, gathering: &Rc<RefCell<Gathering>>, found: Option<Arc<PresenceRecord>>) {
        let mut state = gathering.borrow_mut();
        state.out -= 1;
        state.found.extend(found);
        if state.out > 0 {
            return;
        }
        let (asked, found) = (state.asked.take(), std::mem::take(&mut state.found));
        drop(state);
        if let Some(asked) = asked {
            let presence: Vec<&PresenceRecord> = found.iter().map(AsRef::as_ref).collect();
            self.acknowledge(asked, &json!({ "presence": presence }));
        }
    }

    /// Whether the connection hears of this user from now on.
    fn watch(&mut self, conn: ConnId, user: UserId) -> bool {
        let Some(session) = self.session(conn) else { return false };
        if !session.watching.contains(&user) {
            if session.watching.len() >= WATCHED_MAX {
                return false;
            }
            session.watching.push(user);
            self.watched.entry(user).or_default().push(conn);
        }
        true
    }

    /// A connection ends: who is left without a watcher here need not be told of any more.
    pub(super) fn unwatch(&mut self, conn: ConnId, users: impl IntoIterator<Item = UserId>) {
        for user in users {
            let Some(watchers) = self.watched.get_mut(&user) else { continue };
            watchers.retain(|watcher| *watcher != conn);
            if watchers.is_empty() {
                self.watched.remove(&user);
            }
        }
    }

    /// One of the two wants nothing of the other any more: neither hears of the other.
    pub(super) fn on_parted(&mut self, one: UserId, other: UserId) {
        for (watcher, watched) in [(one, other), (other, one)] {
            for conn in self.local_users.get(&watcher).cloned().unwrap_or_default() {
                self.stop_watching(conn, &BTreeSet::from([watched]));
            }
        }
    }

    /// A user has left a conversation: whom they watch here, and who watches them, may have nothing in common any more.
    pub(super) fn doubt_presence(&mut self, user: UserId) {
        for conn in self.watched.get(&user).into_iter().flatten() {
            self.presence_doubts.entry(*conn).or_default().insert(user);
        }
        for conn in self.local_users.get(&user).into_iter().flatten() {
            let session = self.clients.get(conn.slot() as usize).and_then(Client::session);
            if let Some(session) = session.filter(|session| !session.watching.is_empty()) {
                self.presence_doubts.entry(*conn).or_default().extend(&session.watching);
            }
        }
    }

    /// Asks about them, a bounded number at once.
    pub(super) fn settle_presence_doubts(&mut self) {
        while self.reads_in_flight < READS_IN_FLIGHT_PER_SHARD / 4
            && let Some(conn) = self.presence_doubts.keys().next().copied()
        {
            let users = self.presence_doubts.remove(&conn).unwrap_or_default();
            let Some(session) = self.session(conn) else { continue };
            let user = session.user;
            let query = Query::Lookup { name: "get_presence", arguments: json!({ "user_ids": users }) };
            if let Err(Pending::PresenceCheck(conn, users)) =
                self.read(user, query, Pending::PresenceCheck(conn, users))
            {
                self.presence_doubts.insert(conn, users);
                return; // at the next round
            }
        }
    }

    /// Which of them may still be seen. Without an answer none of them is, until the client asks again.
    pub(super) fn presence_checked(&mut self, conn: ConnId, mut users: BTreeSet<UserId>, answer: &Answer) {
        if let Answer::Data(data) = answer {
            for user in permitted(data) {
                users.remove(&user);
            }
        }
        self.stop_watching(conn, &users);
    }

    /// A connection that stays hears of these no more.
    fn stop_watching(&mut self, conn: ConnId, users: &BTreeSet<UserId>) {
        if let Some(session) = self.session(conn) {
            session.watching.retain(|user| !users.contains(user));
            self.unwatch(conn, users.iter().copied());
        }
    }

    /// A watched user shows something else.
    pub(super) fn on_presence(&mut self, shown: &Arc<PresenceRecord>) {
        let user = shown.user_id;
        let Some(watchers) = self.watched.get(&user).cloned() else {
            // Where the lane is full, the next change asks again.
            let request = Request::PresenceUnwatched { user, shard: self.id };
            return drop(self.request(self.mesh.placement.of_user(user), request));
        };
        for conn in watchers {
            let Some(session) = self.clients.get(conn.slot() as usize).and_then(Client::session) else { continue };
            // Who does not read asks again when it does; this is not the log.
            if session.conn == conn && self.sockets.queued_bytes(conn) < self.settings.limits.max_outbound_queue_bytes {
                match event::encode(session.format, "presence", None, &**shown) {
                    Ok(frame) => self.send_frame(conn, frame),
                    Err(words) => crate::faults::error_limited!("cannot serialise presence: {words}"),
                }
            }
        }
    }
}
