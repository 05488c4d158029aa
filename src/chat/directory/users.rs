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

mod elsewhere;
mod nodes;

use self::elsewhere::{Elsewhere, HeardNodes};
use crate::chat::filter::SharedRepeats;
use crate::ids::{ShardId, UserId};
use crate::mesh::record::{PresenceRecord, rfc3339};
use crate::mesh::standing::{Reasons, UserBudgets};
use crate::planted::{Fault, is_planted};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use time::OffsetDateTime;

/// Offline users without watchers that are remembered per shard.
pub const REMEMBERED_MAX: usize = 100_000;

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
    nodes: HeardNodes,
}

fn unix_ms(at: OffsetDateTime) -> i64 {
    (at.unix_timestamp_nanos() / 1_000_000) as i64
}

impl Users {
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

    /// The number of the user's connections to all nodes that are not silent.
    #[must_use]
    pub fn connections(&self, id: UserId, now_ms: u64) -> usize {
        self.known.get(&id).map_or(0, |user| user.connections + self.nodes.connections(&user.elsewhere, now_ms))
    }

    /// A node that has connections of the user, and has reported them last.
    #[must_use]
    pub fn node_of(&self, id: UserId, now_ms: u64) -> Option<u64> {
        self.known.get(&id).and_then(|user| self.nodes.newest(&user.elsewhere, now_ms))
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
