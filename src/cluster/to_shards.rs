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
        let mut fits = true;
        match frame {
            FromNodes::Event(event) => {
                let owner = placement.owner(event.conversation);
                fits = self.push(owner, FromNodes::Event(event));
            }
            FromNodes::Head(conversation, seq) => {
                fits = self.push(placement.owner(conversation), FromNodes::Head(conversation, seq));
            }
            FromNodes::Membership(change) => {
                fits = self.push(placement.owner(change.conversation), FromNodes::Membership(change));
            }
            FromNodes::Notice(notice) => {
                for shard in placement.all() {
                    fits &= self.push(shard, FromNodes::Notice(Arc::clone(&notice)));
                }
            }
            FromNodes::Presence(node, users) => {
                let mut by_shard: BTreeMap<ShardId, Vec<NodePresence>> = BTreeMap::new();
                for shown in users {
                    by_shard.entry(placement.of_user(shown.user)).or_default().push(shown);
                }
                for (shard, users) in by_shard {
                    fits &= self.push(shard, FromNodes::Presence(node, users));
                }
            }
            FromNodes::Blocked(one, other) => {
                for shard in placement.all() {
                    fits &= self.push(shard, FromNodes::Blocked(one, other));
                }
            }
        }
        fits
    }

    fn push(&self, shard: ShardId, frame: FromNodes) -> bool {
        let Some(nodes) = self.mesh.nodes() else { return false };
        let fits = nodes.of(shard).inward.try_push(frame).is_ok();
        self.mesh.bell(shard).ring();
        fits
    }
}
