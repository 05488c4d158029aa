//! The users' shard: what it knows of each of its users.
//!
//! ```text
//!   connect ──► online ──last disconnect──► offline (remembered: last seen, choice, watchers) ──sweep──► forgotten
//! ```
//!
//! Invariants:
//! - reconnecting does not refill a budget: an entry lives at least until its budgets are full again;
//! - a watcher is never forgotten: an offline user with a watcher stays, however many others are remembered;
//! - the number of remembered offline users without watchers is bounded by [`REMEMBERED_MAX`]; those offline for
//!   longest are forgotten first. Connected users do not count, so a full server forgets no user early.

use crate::chat::filter::SharedRepeats;
use crate::ids::{ShardId, UserId};
use crate::mesh::nodes::NodePresence;
use crate::mesh::record::{PresenceRecord, rfc3339};
use crate::mesh::standing::{Reasons, UserBudgets};
use crate::planted::{Fault, is_planted};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use time::OffsetDateTime;

/// Offline users without watchers that are remembered per shard.
pub const REMEMBERED_MAX: usize = 100_000;

/// Nodes on which one user's connections are counted; more nodes are possible, a user on more of them is not.
const NODES_MAX: usize = 64;

/// What a user shows, and who receives it.
#[derive(Default)]
struct Presence {
    /// `away`, `busy` or `invisible`; none for online.
    chosen: Option<&'static str>,
    text: Option<Box<str>>,
    /// When the user chose these two, in milliseconds of Unix time.
    chosen_at_ms: i64,
    last_seen: Option<OffsetDateTime>,
    /// Bits of the shards with watchers.
    watchers: u64,
    /// The presence that was last sent to the watchers.
    published: Option<Arc<PresenceRecord>>,
}

/// A user's connections to another node of a cluster.
struct Elsewhere {
    node: u64,
    connections: usize,
    /// A node that says nothing until then has forgotten the user, or has died.
    until_ms: u64,
}

#[derive(Default)]
struct User {
    connections: usize,
    /// Connections to other nodes.
    elsewhere: Vec<Elsewhere>,
    budgets: Arc<UserBudgets>,
    repeats: SharedRepeats,
    presence: Presence,
}

impl User {
    fn connections_everywhere(&self) -> usize {
        self.connections + self.elsewhere.iter().map(|node| node.connections).sum::<usize>()
    }

    /// For the other nodes.
    fn for_nodes(&self, user: UserId) -> NodePresence {
        let Presence { chosen, text, chosen_at_ms, last_seen, .. } = &self.presence;
        NodePresence {
            user,
            connections: u32::try_from(self.connections).unwrap_or(u32::MAX),
            chosen: *chosen,
            text: text.clone(),
            chosen_at_ms: *chosen_at_ms,
            last_seen_ms: last_seen.map(unix_ms),
        }
    }

    fn shown(&self, id: UserId) -> PresenceRecord {
        let presence = &self.presence;
        let is_hidden = self.connections_everywhere() == 0 || presence.chosen == Some("invisible");
        PresenceRecord {
            user_id: id,
            status: if is_hidden { "offline" } else { presence.chosen.unwrap_or("online") },
            status_text: presence.text.clone().filter(|_| !is_hidden),
            last_seen_at: presence.last_seen.filter(|_| is_hidden).map(rfc3339),
        }
    }

    /// Whether forgetting the user would give them a fresh budget, or lose a connection or a watcher.
    fn must_stay(&self, now_ns: u64) -> bool {
        self.connections_everywhere() > 0 || self.presence.watchers != 0 || !self.budgets.is_replenished(now_ns)
    }

    fn is_worth_remembering(&self) -> bool {
        let presence = &self.presence;
        presence.chosen.is_some() || presence.text.is_some() || presence.last_seen.is_some()
    }
}

/// The users of one shard.
#[derive(Default)]
pub struct Users {
    known: HashMap<UserId, User>,
    /// Users whose presence may differ from what their watchers know.
    changed: BTreeSet<UserId>,
    /// Users whose presence the other nodes may not know; none without other nodes.
    untold: Option<BTreeSet<UserId>>,
}

fn unix_ms(at: OffsetDateTime) -> i64 {
    (at.unix_timestamp_nanos() / 1_000_000) as i64
}

impl Users {
    /// For a node of a cluster: from now on, [`Self::next_untold`] returns changes.
    pub fn tell_nodes(&mut self) {
        self.untold.get_or_insert_default();
    }

    /// The user's budgets.
    pub fn budgets(&mut self, id: UserId) -> Arc<UserBudgets> {
        Arc::clone(&self.known.entry(id).or_default().budgets)
    }

    /// Whether the user may open no connection now, because one was closed for flooding.
    #[must_use]
    pub fn is_kept_out(&self, id: UserId, now_ns: u64) -> bool {
        self.known.get(&id).is_some_and(|user| user.budgets.is_kept_out(now_ns))
    }

    /// Gives each remembered user the marks that `marks_of` returns, and keeps what else is known of the account.
    pub fn mark(&mut self, marks_of: impl Fn(UserId) -> Reasons) {
        for (id, user) in &self.known {
            user.budgets.set_marks(marks_of(*id));
        }
    }

    /// Says of each remembered user whether they administer the server.
    pub fn of_admins(&mut self, administers: impl Fn(UserId) -> bool) {
        for (id, user) in &self.known {
            user.budgets.set_administers(administers(*id));
        }
    }

    /// What the user wrote lately, for the content filter.
    pub fn repeats(&mut self, id: UserId) -> SharedRepeats {
        Arc::clone(&self.known.entry(id).or_default().repeats)
    }

    /// The number of the user's connections on all shards of this node, and on those of all nodes.
    #[must_use]
    pub fn connections(&self, id: UserId) -> (usize, usize) {
        self.known.get(&id).map_or((0, 0), |user| (user.connections, user.connections_everywhere()))
    }

    /// The user opens a connection.
    pub fn connect(&mut self, id: UserId) {
        let user = self.known.entry(id).or_default();
        user.connections += 1;
        if user.connections == 1 {
            self.mark_changed(id);
        }
        self.mark_untold(id);
    }

    /// One of the user's connections has ended, at `utc`.
    pub fn disconnect(&mut self, id: UserId, utc: OffsetDateTime) {
        let user = self.known.entry(id).or_default();
        user.connections = user.connections.saturating_sub(1);
        if user.connections == 0 {
            if user.presence.chosen != Some("invisible") {
                user.presence.last_seen = Some(utc);
            }
            self.mark_changed(id);
        }
        self.mark_untold(id);
    }

    /// The user chooses what to show: `online`, `away`, `busy` or `invisible`.
    pub fn choose_presence(&mut self, id: UserId, status: &'static str, text: Option<Box<str>>, utc: OffsetDateTime) {
        let presence = &mut self.known.entry(id).or_default().presence;
        // A user who turns invisible was last seen now: when they really connect is what they hide.
        if status == "invisible" && presence.chosen != Some("invisible") {
            presence.last_seen = Some(utc);
        }
        presence.chosen = Some(status).filter(|status| *status != "online");
        presence.text = text;
        presence.chosen_at_ms = unix_ms(utc).max(presence.chosen_at_ms.saturating_add(1));
        self.mark_changed(id);
        self.mark_untold(id);
    }

    /// What another node knows of a user. It is forgotten at `until_ms`, unless the node repeats it.
    pub fn shown_elsewhere(&mut self, node: u64, shown: NodePresence, until_ms: u64) {
        let NodePresence { user: id, connections, chosen, text, chosen_at_ms, last_seen_ms } = shown;
        let user = self.known.entry(id).or_default();
        user.elsewhere.retain(|known| known.node != node);
        if connections > 0 && user.elsewhere.len() < NODES_MAX {
            user.elsewhere.push(Elsewhere { node, connections: connections as usize, until_ms });
        }
        let presence = &mut user.presence;
        if chosen_at_ms > presence.chosen_at_ms {
            (presence.chosen, presence.text, presence.chosen_at_ms) = (chosen, text, chosen_at_ms);
        }
        let is_older = chosen_at_ms < presence.chosen_at_ms;
        let seen =
            last_seen_ms.and_then(|ms| OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok());
        presence.last_seen = presence.last_seen.max(seen);
        self.mark_changed(id);
        if is_older {
            self.mark_untold(id); // that node has missed the choice: who hides there must stay hidden
        }
    }

    /// The next users whom the other nodes are to be told of, at most so many.
    pub fn next_untold(&mut self, most: usize) -> Vec<NodePresence> {
        let Some(untold) = &mut self.untold else { return Vec::new() };
        let mut next = Vec::new();
        while next.len() < most
            && let Some(id) = untold.pop_first()
        {
            next.extend(self.known.get(&id).map(|user| user.for_nodes(id)));
        }
        next
    }

    /// These could not be told: [`Self::next_untold`] returns them again.
    pub fn not_told(&mut self, users: &[NodePresence]) {
        for shown in users {
            self.mark_untold(shown.user);
        }
    }

    /// Has the other nodes told again of a part of the connected users: of all, in `parts` calls.
    pub fn repeat_to_nodes(&mut self, part: u64, parts: u64) {
        let Some(untold) = &mut self.untold else { return };
        let is_due = |id: UserId| id.0.unsigned_abs() % parts == part % parts;
        let connected = self.known.iter().filter(|(id, user)| user.connections > 0 && is_due(**id));
        untold.extend(connected.map(|(id, _)| *id));
    }

    /// Forgets what other nodes have not repeated.
    pub fn expire_elsewhere(&mut self, now_ms: u64) {
        if self.untold.is_none() {
            return;
        }
        let mut gone = Vec::new();
        for (id, user) in &mut self.known {
            let before = user.elsewhere.len();
            user.elsewhere.retain(|known| known.until_ms > now_ms);
            if user.elsewhere.len() < before {
                gone.push(*id);
            }
        }
        for id in gone {
            self.mark_changed(id);
        }
    }

    /// What the user shows now. With `watcher`, that shard receives changes from now on.
    pub fn presence(&mut self, id: UserId, watcher: Option<ShardId>) -> Arc<PresenceRecord> {
        let user = self.known.entry(id).or_default();
        let shown = Arc::new(user.shown(id));
        if let Some(shard) = watcher {
            // Without watchers nothing was sent, so this watcher knows nothing yet.
            if user.presence.watchers == 0 {
                user.presence.published = Some(Arc::clone(&shown));
            }
            user.presence.watchers |= 1 << shard.0;
        }
        shown
    }

    /// No connection of that shard watches the user any longer.
    pub fn unwatch(&mut self, id: UserId, shard: ShardId) {
        if let Some(user) = self.known.get_mut(&id) {
            user.presence.watchers &= !(1 << shard.0);
        }
    }

    /// The next presence to publish, and the bits of the shards with watchers. A user who shows again what the watchers
    /// know, for instance after a short reconnect, is skipped.
    pub fn next_presence_change(&mut self) -> Option<(Arc<PresenceRecord>, u64)> {
        while let Some(id) = self.changed.pop_first() {
            let Some(user) = self.known.get_mut(&id) else { continue };
            let shown = Arc::new(user.shown(id));
            if user.presence.published.as_ref() != Some(&shown) {
                user.presence.published = Some(Arc::clone(&shown));
                return Some((shown, user.presence.watchers));
            }
        }
        None
    }

    fn mark_untold(&mut self, id: UserId) {
        if let Some(untold) = &mut self.untold {
            untold.insert(id);
        }
    }

    fn mark_changed(&mut self, id: UserId) {
        if self.known.get(&id).is_some_and(|user| user.presence.watchers != 0) {
            self.changed.insert(id);
        }
    }

    /// Forgets users about whom nothing must be kept; `now_ns` is the clock of the budgets.
    pub fn sweep(&mut self, now_ns: u64) {
        if is_planted(Fault::ForgetWatchers) {
            return self.known.retain(|_, user| user.connections > 0);
        }
        self.known.retain(|_, user| user.must_stay(now_ns) || user.is_worth_remembering());
        if self.known.len() <= REMEMBERED_MAX {
            return;
        }
        let remembered = self.known.iter().filter(|(_, user)| !user.must_stay(now_ns));
        let mut remembered: Vec<_> = remembered.map(|(id, user)| (user.presence.last_seen, *id)).collect();
        let excess = remembered.len().saturating_sub(REMEMBERED_MAX);
        if excess > 0 {
            remembered.select_nth_unstable(excess - 1);
            for (_, id) in &remembered[..excess] {
                self.known.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::Duration;

    const ANN: UserId = UserId(1);
    const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn publishes_only_what_the_watchers_do_not_know() {
        let mut users = Users::default();
        users.connect(ANN);
        assert_eq!(users.next_presence_change(), None, "no watcher");
        assert_eq!(users.presence(ANN, Some(ShardId(3))).status, "online");
        users.disconnect(ANN, EPOCH);
        users.connect(ANN);
        assert_eq!(users.next_presence_change().map(|(shown, _)| shown.status), None, "back within the round");
        users.disconnect(ANN, EPOCH);
        let (shown, watchers) = users.next_presence_change().unwrap();
        assert_eq!((shown.status, watchers), ("offline", 1 << 3));
        assert_eq!(shown.last_seen_at.as_deref(), Some("1970-01-01T00:00:00.000Z"));
    }

    fn on_node(connections: u32, chosen: Option<&'static str>, chosen_at_ms: i64) -> NodePresence {
        NodePresence { user: ANN, connections, chosen, text: None, chosen_at_ms, last_seen_ms: Some(1_000) }
    }

    #[test]
    fn is_online_while_connected_to_any_node_and_shows_the_latest_choice() {
        let mut users = Users::default();
        users.tell_nodes();
        assert_eq!(users.presence(ANN, Some(ShardId(0))).status, "offline");
        users.shown_elsewhere(7, on_node(2, None, 0), 30_000);
        assert_eq!(users.next_presence_change().unwrap().0.status, "online");
        users.connect(ANN);
        assert_eq!(users.connections(ANN), (1, 3), "here, and on all nodes");
        users.choose_presence(ANN, "busy", None, EPOCH + Duration::seconds(9));
        users.shown_elsewhere(8, on_node(1, Some("away"), 8_000), 30_000);
        assert_eq!(users.presence(ANN, None).status, "busy", "an older choice");
        users.next_untold(9);
        users.shown_elsewhere(8, on_node(1, Some("away"), 8_000), 30_000);
        assert_eq!(users.next_untold(9)[0].chosen, Some("busy"), "the other node has missed it");
        users.shown_elsewhere(8, on_node(1, Some("away"), 10_000), 30_000);
        assert_eq!(users.presence(ANN, None).status, "away");
        users.disconnect(ANN, EPOCH);
        users.shown_elsewhere(8, on_node(0, Some("away"), 10_000), 30_000);
        assert_eq!(users.presence(ANN, None).status, "away", "still connected to node 7");
        users.expire_elsewhere(29_999);
        assert_eq!(users.presence(ANN, None).status, "away");
        users.expire_elsewhere(30_000);
        let (shown, _) = users.next_presence_change().unwrap();
        assert_eq!((shown.status, shown.last_seen_at.as_deref()), ("offline", Some("1970-01-01T00:00:01.000Z")));
    }

    #[test]
    fn tells_the_other_nodes_of_changes_and_repeats_the_connected() {
        let mut users = Users::default();
        users.connect(ANN);
        assert_eq!(users.next_untold(10), [], "there are no other nodes");
        users.tell_nodes();
        for id in 2..=5 {
            users.connect(UserId(id));
        }
        users.disconnect(UserId(5), EPOCH);
        let told = |told: Vec<NodePresence>| told.iter().map(|one| (one.user.0, one.connections)).collect::<Vec<_>>();
        assert_eq!(told(users.next_untold(3)), [(2, 1), (3, 1), (4, 1)]);
        assert_eq!(told(users.next_untold(3)), [(5, 0)]);
        for part in 0..2 {
            users.repeat_to_nodes(part, 2);
        }
        assert_eq!(told(users.next_untold(9)), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    }

    #[test]
    fn hides_when_an_invisible_user_really_left() {
        let mut users = Users::default();
        users.connect(ANN);
        users.choose_presence(ANN, "invisible", Some("x".into()), EPOCH);
        users.disconnect(ANN, EPOCH + Duration::days(1));
        let shown = users.presence(ANN, None);
        assert_eq!((shown.status, shown.status_text.as_deref()), ("offline", None));
        assert_eq!(shown.last_seen_at.as_deref(), Some("1970-01-01T00:00:00.000Z"));
    }

    #[test]
    fn remembers_offline_users_whatever_the_number_of_connected_ones() {
        let mut users = Users::default();
        let many = REMEMBERED_MAX as i64 + 10;
        for id in 0..many {
            users.connect(UserId(id));
        }
        users.connect(UserId(-1));
        users.disconnect(UserId(-1), EPOCH);
        users.sweep(u64::MAX);
        assert_eq!(users.presence(UserId(-1), None).last_seen_at.as_deref(), Some("1970-01-01T00:00:00.000Z"));
    }

    #[test]
    fn forgets_the_longest_absent_first_and_never_a_watched_one() {
        let mut users = Users::default();
        let many = REMEMBERED_MAX as i64 + 10;
        users.presence(UserId(0), Some(ShardId(0)));
        for id in 0..many {
            users.connect(UserId(id));
            users.disconnect(UserId(id), EPOCH + Duration::seconds(id));
        }
        users.sweep(u64::MAX);
        assert_eq!(users.known.len(), REMEMBERED_MAX + 1);
        assert!(users.known.contains_key(&UserId(0)), "has a watcher");
        assert!((1..10).all(|id| !users.known.contains_key(&UserId(id))));
        assert!((10..many).all(|id| users.known.contains_key(&UserId(id))));
    }
}
