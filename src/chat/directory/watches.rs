//! The presence that connections of this shard receive.
//!
//! A watch begins when PostgreSQL has confirmed that the two users may see each other. It ends with the connection,
//! with a block, or after a re-check. When a user leaves a conversation, the shard re-checks every watch that this may
//! affect. Until then the watch continues, because usually the two users still share another conversation.

use crate::ids::{ConnId, UserId};
use crate::limits::WATCHED_MAX;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The watches of one shard: at most [`WATCHED_MAX`] users per connection.
#[derive(Debug, Default)]
pub struct Watches {
    by_user: HashMap<UserId, Vec<ConnId>>,
    by_conn: HashMap<ConnId, Vec<UserId>>,
    /// Watches to re-check; at most as many as there are watches.
    rechecks: BTreeMap<ConnId, BTreeSet<UserId>>,
}

impl Watches {
    /// Starts a watch. False if the connection has too many already.
    pub fn watch(&mut self, conn: ConnId, user: UserId) -> bool {
        let watched = self.by_conn.entry(conn).or_default();
        if !watched.contains(&user) {
            if watched.len() >= WATCHED_MAX {
                return false;
            }
            watched.push(user);
            self.by_user.entry(user).or_default().push(conn);
        }
        true
    }

    /// The connections that receive the user's presence.
    #[must_use]
    pub fn of(&self, user: UserId) -> &[ConnId] {
        self.by_user.get(&user).map_or(&[], Vec::as_slice)
    }

    /// Ends the connection's watches of these users.
    pub fn stop(&mut self, conn: ConnId, users: &BTreeSet<UserId>) {
        if let Some(watched) = self.by_conn.get_mut(&conn) {
            watched.retain(|user| !users.contains(user));
            if watched.is_empty() {
                self.by_conn.remove(&conn);
            }
        }
        for user in users {
            self.remove_watcher(*user, conn);
        }
    }

    /// Ends all watches of a connection.
    pub fn forget(&mut self, conn: ConnId) {
        self.rechecks.remove(&conn);
        for user in self.by_conn.remove(&conn).unwrap_or_default() {
            self.remove_watcher(user, conn);
        }
    }

    fn remove_watcher(&mut self, user: UserId, conn: ConnId) {
        if let Some(watchers) = self.by_user.get_mut(&user) {
            watchers.retain(|watcher| *watcher != conn);
            if watchers.is_empty() {
                self.by_user.remove(&user);
            }
        }
    }

    /// Plans re-checks after `user` left a conversation: of the watches of their connections here (`local`), and of the
    /// watches of them.
    pub fn recheck(&mut self, user: UserId, local: &[ConnId]) {
        for conn in self.by_user.get(&user).into_iter().flatten() {
            self.rechecks.entry(*conn).or_default().insert(user);
        }
        for conn in local {
            if let Some(watched) = self.by_conn.get(conn) {
                self.rechecks.entry(*conn).or_default().extend(watched);
            }
        }
    }

    /// The next watches to re-check.
    pub fn next_recheck(&mut self) -> Option<(ConnId, BTreeSet<UserId>)> {
        self.rechecks.pop_first()
    }

    /// Plans these re-checks again, because they could not be made now.
    pub fn recheck_later(&mut self, conn: ConnId, users: BTreeSet<UserId>) {
        self.rechecks.entry(conn).or_default().extend(users);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    fn conn(n: u32) -> ConnId {
        ConnId::new(ShardId(0), 0, n)
    }

    #[test]
    fn bounds_what_a_connection_watches() {
        let mut watches = Watches::default();
        for user in 0..WATCHED_MAX as i64 {
            assert!(watches.watch(conn(1), UserId(user)));
        }
        assert!(watches.watch(conn(1), UserId(0)), "an existing watch is not a new one");
        assert!(!watches.watch(conn(1), UserId(-1)));
        watches.forget(conn(1));
        assert!(watches.by_user.is_empty() && watches.by_conn.is_empty());
    }

    #[test]
    fn rechecks_both_sides_after_a_departure() {
        let mut watches = Watches::default();
        watches.watch(conn(1), UserId(7)); // a connection of user 5
        watches.watch(conn(2), UserId(5)); // a connection of user 7
        watches.recheck(UserId(5), &[conn(1)]);
        assert_eq!(watches.next_recheck(), Some((conn(1), BTreeSet::from([UserId(7)]))));
        assert_eq!(watches.next_recheck(), Some((conn(2), BTreeSet::from([UserId(5)]))));
        watches.recheck_later(conn(2), BTreeSet::from([UserId(5)]));
        watches.forget(conn(2));
        assert_eq!(watches.next_recheck(), None, "a connection that has ended is not asked about");
    }
}
