//! Messages that users send over all nodes of a cluster: no more than one budget, however many nodes they use.
//!
//! A node learns later what its users have spent on other nodes, or never if Redis loses it. So a user may be ahead by
//! what the node of their last message did not know at that time:
//!
//! - what each node had not published: at most what one of its frames has, because it publishes every half second;
//! - what was on its way to that node;
//! - what was lost on its way to that node, or found no room on the lane.

use crate::Verdicts;
use chat_server::ids::UserId;
use chat_server::mesh::nodes::SpentBudgets;
use std::collections::BTreeMap;

/// Messages per minute of a user, in histories that have few.
pub const MESSAGES_PER_MINUTE: u32 = 20;
/// The time in which a budget gains one message.
const GAIN_MS: u64 = 60_000 / MESSAGES_PER_MINUTE as u64;
/// The budget of messages, by its index.
const MESSAGES: usize = 0;

/// What a user has sent, and what the nodes knew of it.
#[derive(Default)]
struct Spent {
    /// Acknowledged messages when the period began.
    before: usize,
    /// The most that one frame of a node had, by the node.
    unpublished: BTreeMap<usize, u64>,
    /// What found no room on the lane of its node.
    lost: u64,
    /// What a node did not learn at once, by that node.
    late: BTreeMap<usize, Late>,
}

#[derive(Clone, Copy, Default)]
struct Late {
    /// Redis has not delivered it.
    lost: u64,
    on_its_way: u64,
    on_its_way_max: u64,
}

/// What users have sent in a period, and how much of it nodes did not know.
#[derive(Default)]
pub struct Spending {
    begun_ms: u64,
    users: BTreeMap<UserId, Spent>,
}

impl Spending {
    /// A period begins, in which nothing is on its way. `acked`: messages of each user that were acknowledged before.
    pub fn begin(&mut self, now_ms: u64, acked: &BTreeMap<UserId, usize>) {
        let spent = |(user, before): (&UserId, &usize)| (*user, Spent { before: *before, ..Spent::default() });
        (self.begun_ms, self.users) = (now_ms, acked.iter().map(spent).collect());
    }

    fn each(&mut self, spent: &[SpentBudgets], mut note: impl FnMut(&mut Spent, u64)) {
        for SpentBudgets { user, spent, .. } in spent {
            note(self.users.entry(*user).or_default(), u64::from(spent[MESSAGES]));
        }
    }

    /// A node publishes what its users have spent. `is_lost`: no other node receives it.
    pub fn published(&mut self, node: usize, spent: &[SpentBudgets], is_lost: bool) {
        self.each(spent, |user, count| {
            let most = user.unpublished.entry(node).or_default();
            *most = count.max(*most);
            user.lost += if is_lost { count } else { 0 };
        });
    }

    /// So many copies of it are on their way to a node.
    pub fn sent(&mut self, to: usize, copies: usize, spent: &[SpentBudgets]) {
        self.each(spent, |user, count| {
            let late = user.late.entry(to).or_default();
            late.lost += if copies == 0 { count } else { 0 };
            late.on_its_way += count * copies as u64;
            late.on_its_way_max = late.on_its_way_max.max(late.on_its_way);
        });
    }

    /// A copy has arrived.
    pub fn arrived(&mut self, at: usize, spent: &[SpentBudgets]) {
        self.each(spent, |user, count| {
            let late = user.late.entry(at).or_default();
            late.on_its_way = late.on_its_way.saturating_sub(count);
        });
    }

    /// The period ends, and everything is published. `acked`: messages of each user that were acknowledged until now.
    pub fn check(&self, now_ms: u64, acked: &BTreeMap<UserId, usize>, verdicts: &Verdicts) {
        for (user, acked) in acked {
            let nothing = Spent::default();
            let spent = self.users.get(user).unwrap_or(&nothing);
            let accepted = (acked - spent.before) as u64;
            let budget = u64::from(MESSAGES_PER_MINUTE) + (now_ms - self.begun_ms).div_ceil(GAIN_MS);
            let late = spent.late.values().map(|late| late.lost + late.on_its_way_max).max().unwrap_or(0);
            let slack = spent.unpublished.values().sum::<u64>() + spent.lost + late;
            verdicts.check(accepted <= budget + slack, || {
                format!(
                    "user {} had {accepted} messages accepted over all nodes: more than {budget}, and {slack} that \
                     nodes could not know",
                    user.0
                )
            });
        }
    }
}
