//! From the cluster thread into the lanes of the shards. It never waits.

use crate::ids::ShardId;
use crate::mesh::lane::Mesh;
use crate::mesh::nodes::{FromNodes, NodePresence};
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
                let mut by_shard: BTreeMap<ShardId, Vec<NodePresence>> = BTreeMap::new();
                for shown in users {
                    by_shard.entry(placement.of_user(shown.user)).or_default().push(shown);
                }
                let frames = by_shard.into_iter().map(|(shard, users)| (shard, FromNodes::Presence(node, users)));
                self.push_each(frames)
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
