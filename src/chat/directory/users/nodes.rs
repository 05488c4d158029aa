//! What a user's shard exchanges with other nodes of a cluster: presence and connections. Pure.
//!
//! - Presence holds for a lease: a node that dies is forgotten after it.
//! - A node that is silent does not count for the limit on connections: users who were connected to a node that has
//!   died must be able to come back at once.

use super::elsewhere::Elsewhere;
use super::{Presence, User, Users, unix_ms};
use crate::ids::UserId;
use crate::limits::NODES_MAX;
use crate::mesh::nodes::NodePresence;
use time::OffsetDateTime;

impl User {
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
}

impl Users {
    /// For a node of a cluster: from now on, [`Self::next_untold`] returns changes.
    pub fn tell_nodes(&mut self) {
        self.untold.get_or_insert_default();
    }

    /// A message of another node has come. After a silence of that node, all connected users are published again: it
    /// may be new.
    pub fn heard_node(&mut self, node: u64, now_ms: u64) {
        if self.nodes.hear(node, now_ms) {
            self.repeat_to_nodes(0, 1);
        }
    }

    /// What another node reports of a user. It holds for a lease, unless the node repeats it.
    pub fn shown_elsewhere(&mut self, node: u64, shown: NodePresence, now_ms: u64) {
        let NodePresence { user: id, connections, chosen, text, chosen_at_ms, last_seen_ms } = shown;
        let user = self.known.entry(id).or_default();
        user.elsewhere.retain(|known| known.node != node);
        if connections > 0 && user.elsewhere.len() < NODES_MAX {
            user.elsewhere.push(Elsewhere { node, connections: connections as usize, reported_ms: now_ms });
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
        self.nodes.forget_silent(now_ms);
        let mut gone = Vec::new();
        for (id, user) in &mut self.known {
            let before = user.elsewhere.len();
            user.elsewhere.retain(|known| known.is_shown(now_ms));
            if user.elsewhere.len() < before {
                gone.push(*id);
            }
        }
        for id in gone {
            self.mark_changed(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;
    use time::Duration;

    const ANN: UserId = UserId(1);
    const EPOCH: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn on_node(connections: u32, chosen: Option<&'static str>, chosen_at_ms: i64) -> NodePresence {
        NodePresence { user: ANN, connections, chosen, text: None, chosen_at_ms, last_seen_ms: Some(1_000) }
    }

    #[test]
    fn is_online_while_connected_to_any_node_and_shows_the_latest_choice() {
        let mut users = Users::default();
        users.tell_nodes();
        assert_eq!(users.presence(ANN, Some(ShardId(0))).status, "offline");
        users.shown_elsewhere(7, on_node(2, None, 0), 1_000);
        assert_eq!(users.next_presence_change().unwrap().0.status, "online");
        users.connect(ANN);
        users.heard_node(7, 1_000);
        assert_eq!((users.connections(ANN, 2_999), users.connections(ANN, 3_000)), (3, 1), "a silent node may be dead");
        users.heard_node(7, 12_900);
        assert_eq!((users.connections(ANN, 12_999), users.connections(ANN, 13_000)), (3, 1), "not repeated");
        users.choose_presence(ANN, "busy", None, EPOCH + Duration::seconds(9));
        users.shown_elsewhere(8, on_node(1, Some("away"), 8_000), 1_000);
        assert_eq!(users.presence(ANN, None).status, "busy", "an older choice");
        users.next_untold(9);
        users.shown_elsewhere(8, on_node(1, Some("away"), 8_000), 1_000);
        assert_eq!(users.next_untold(9)[0].chosen, Some("busy"), "the other node has missed it");
        users.shown_elsewhere(8, on_node(1, Some("away"), 10_000), 1_000);
        assert_eq!(users.presence(ANN, None).status, "away");
        users.disconnect(ANN, EPOCH);
        users.shown_elsewhere(8, on_node(0, Some("away"), 10_000), 1_000);
        assert_eq!(users.presence(ANN, None).status, "away", "still connected to node 7");
        users.expire_elsewhere(35_999);
        assert_eq!(users.presence(ANN, None).status, "away");
        users.expire_elsewhere(36_000);
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
}
