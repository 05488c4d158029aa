//! From the cluster thread into the lanes of the shards. It never waits.

use crate::ids::ShardId;
use crate::mesh::lane::Mesh;
use crate::mesh::nodes::FromNodes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The shards of this node.
pub(super) struct ToShards {
    mesh: Arc<Mesh>,
}

impl ToShards {
    pub(super) fn new(mesh: Arc<Mesh>) -> Self {
        Self { mesh }
    }

    /// Passes a frame on; false if a lane that it is for was full.
    pub(super) fn pass(&self, frame: FromNodes) -> bool {
        let placement = self.mesh.placement;
        match frame {
            FromNodes::Event(event) => self.push(placement.owner(event.conversation), FromNodes::Event(event)),
            FromNodes::Head(conversation, seq) => {
                self.push(placement.owner(conversation), FromNodes::Head(conversation, seq))
            }
            FromNodes::Membership(change) => {
                self.push(placement.owner(change.conversation), FromNodes::Membership(change))
            }
            FromNodes::Notice(notice) => self.push_to_all(|| FromNodes::Notice(Arc::clone(&notice))),
            FromNodes::Blocked(one, other) => self.push_to_all(|| FromNodes::Blocked(one, other)),
            FromNodes::Presence(node, users) => {
                let mut by_shard = by_shard(users, |shown| placement.of_user(shown.user));
                // To every shard, also without users for it: that node lives.
                let frames = placement.all().map(|shard| (shard, by_shard.remove(&shard).unwrap_or_default()));
                self.push_each(frames.map(|(shard, users)| (shard, FromNodes::Presence(node, users))))
            }
            FromNodes::Invoke(it) => self.push(placement.of_user(it.bot), FromNodes::Invoke(it)),
            FromNodes::AnswerInvocation(it) => self.push(placement.of_user(it.bot), FromNodes::AnswerInvocation(it)),
            FromNodes::Answered(it) => self.push(placement.of_user(it.bot), FromNodes::Answered(it)),
            FromNodes::Spent(spent) => {
                let by_shard = by_shard(spent, |spent| placement.of_user(spent.user));
                self.push_each(by_shard.into_iter().map(|(shard, spent)| (shard, FromNodes::Spent(spent))))
            }
        }
    }

    fn push_to_all(&self, frame: impl Fn() -> FromNodes) -> bool {
        self.push_each(self.mesh.placement.all().map(|shard| (shard, frame())))
    }

    /// Pushes every frame, also after one that did not fit.
    fn push_each(&self, frames: impl Iterator<Item = (ShardId, FromNodes)>) -> bool {
        frames.filter_map(|(shard, frame)| (!self.push(shard, frame)).then_some(())).count() == 0
    }

    fn push(&self, shard: ShardId, frame: FromNodes) -> bool {
        let Some(nodes) = self.mesh.nodes() else { return false };
        let fits = nodes.of(shard).inward.try_push(frame).is_ok();
        self.mesh.bell(shard).ring();
        fits
    }
}

fn by_shard<T>(items: Vec<T>, shard_of: impl Fn(&T) -> ShardId) -> BTreeMap<ShardId, Vec<T>> {
    let mut sorted: BTreeMap<ShardId, Vec<T>> = BTreeMap::new();
    for item in items {
        sorted.entry(shard_of(&item)).or_default().push(item);
    }
    sorted
}
