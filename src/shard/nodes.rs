//! What a shard tells the other nodes of a cluster; `owner` has what it learns from them.

use super::Shard;
use super::interval::PRESENCE_REPEAT_PARTS;
use super::world::World;
use crate::mesh::nodes::{SpentBudgets, ToNodes};
use crate::mesh::port::Lanes as _;

/// Users whose presence one frame has.
const USERS_PER_FRAME: usize = 1_000;

impl<W: World> Shard<W> {
    /// Tells the other nodes something, if there are any.
    pub(super) fn tell_nodes(&mut self, frame: impl FnOnce() -> ToNodes) {
        if self.lanes.has_nodes() && self.lanes.push_to_nodes(frame()).is_err() {
            self.counters.not_told_nodes.add(1); // they find what is in the log, and in the audit trail
        }
    }

    /// Publishes to the other nodes what the users of this shard show, and what users have spent on it, as far as the
    /// lane has room.
    pub(super) fn publish_users(&mut self) {
        if self.lanes.has_nodes() {
            self.publish_shown();
            self.publish_spent();
        }
    }

    fn publish_spent(&mut self) {
        let (bots, people): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.spenders).into_iter().partition(|(_, budgets)| budgets.is_bot());
        for (spenders, is_bot) in [(people, false), (bots, true)] {
            for some in spenders.chunks(USERS_PER_FRAME) {
                let spent = some.iter().map(|(user, budgets)| SpentBudgets {
                    user: *user,
                    spent: budgets.take_unpublished(),
                    is_bot,
                });
                let spent = spent.collect();
                self.tell_nodes(|| ToNodes::Spent(spent));
            }
        }
    }

    fn publish_shown(&mut self) {
        if self.presence_repeats.is_due(self.now_ms) {
            // Counted, because a late tick must leave no part out.
            self.presence_part = (self.presence_part + 1) % PRESENCE_REPEAT_PARTS;
            self.directory.users.repeat_to_nodes(self.presence_part, PRESENCE_REPEAT_PARTS);
        }
        // At least one frame, also without users: it shows that this node lives.
        loop {
            let users = self.directory.users.next_untold(USERS_PER_FRAME);
            let is_last = users.len() < USERS_PER_FRAME;
            if let Err(ToNodes::Presence(users)) = self.lanes.push_to_nodes(ToNodes::Presence(users)) {
                return self.directory.users.not_told(&users); // at the next round
            }
            if is_last {
                return;
            }
        }
    }

    /// Tells the cluster thread which conversations have subscribers here, as far as its lane has room.
    pub(super) fn report_follows(&mut self) {
        while let Some((conversation, has_subscribers)) = self.rooms.owned.next_follow() {
            if self.lanes.push_to_nodes(ToNodes::Follow { conversation, has_subscribers }).is_err() {
                return self.rooms.owned.follow_not_told(conversation);
            }
        }
    }
}
