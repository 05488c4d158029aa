//! One shard's end of the mesh: what it sends, what it receives, and the bells it rings at the end of a turn.

use super::doorbell::Doorbell;
use super::frame::{CommitOutcome, ControlFrame, Delivery, HttpHandover, Mutation, ReadRequest, ReadResult, Request};
use super::invocation::BotPost;
use super::lane::Mesh;
use super::nodes::{FromNodes, ToNodes};
use super::placement::Placement;
use super::storage_room::StorageRoom;
use crate::ids::ShardId;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Items that wait on a shard's lanes, other than those from shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LaneLengths {
    /// Outcomes of mutations.
    pub outcomes: usize,
    /// Results of reads.
    pub results: usize,
    /// Frames of the control plane.
    pub control: usize,
    /// Connections on their way to the control plane, from all shards.
    pub http: usize,
    /// What this shard has for the other nodes.
    pub to_nodes: usize,
    /// What the other nodes have for this shard.
    pub from_nodes: usize,
}

/// The lanes of one shard; each variant of [`crate::mesh::frame`] documents what happens when its lane is full.
pub trait Lanes<S> {
    /// Where conversations and users are.
    fn placement(&self) -> Placement;
    /// What this shard may have in flight on the I/O shard.
    fn storage_room(&self) -> StorageRoom;
    /// Sends a request to another shard, or returns it if the lane is full.
    ///
    /// # Errors
    /// The request.
    fn push_request(&mut self, to: ShardId, request: Request<S>) -> Result<(), Request<S>>;
    /// The oldest request of another shard.
    fn pop_request(&mut self, from: ShardId) -> Option<Request<S>>;
    /// How many more deliveries fit on the lane to another shard.
    fn delivery_room(&self, to: ShardId) -> usize;
    /// Sends a delivery to another shard, or returns it if the lane is full.
    ///
    /// # Errors
    /// The delivery.
    fn push_delivery(&mut self, to: ShardId, delivery: Delivery) -> Result<(), Delivery>;
    /// The oldest delivery of another shard.
    fn pop_delivery(&mut self, from: ShardId) -> Option<Delivery>;
    /// Submits a mutation to the I/O shard, or returns it if the lane is full.
    ///
    /// # Errors
    /// The mutation.
    fn push_commit(&mut self, mutation: Box<Mutation>) -> Result<(), Box<Mutation>>;
    /// The oldest outcome of a mutation.
    fn pop_outcome(&mut self) -> Option<CommitOutcome>;
    /// Submits a read to the I/O shard, or returns it if the lane is full.
    ///
    /// # Errors
    /// The read.
    fn push_read(&mut self, read: Box<ReadRequest>) -> Result<(), Box<ReadRequest>>;
    /// The oldest result of a read.
    fn pop_result(&mut self) -> Option<Box<ReadResult>>;
    /// The oldest frame of the control plane.
    fn pop_control(&mut self) -> Option<ControlFrame>;
    /// Passes a connection that is not a WebSocket to the control plane, or returns it if the lane is full.
    ///
    /// # Errors
    /// The connection.
    fn hand_over_http(&mut self, handover: HttpHandover<S>) -> Result<(), HttpHandover<S>>;
    /// Passes a command of a bot to the control plane, or returns it if the lane is full.
    ///
    /// # Errors
    /// The command.
    fn push_bot_post(&mut self, post: Box<BotPost>) -> Result<(), Box<BotPost>>;
    /// Whether there are other nodes.
    fn has_nodes(&self) -> bool;
    /// Tells the other nodes something, or returns it if the lane is full.
    ///
    /// # Errors
    /// The frame.
    fn push_to_nodes(&mut self, frame: ToNodes) -> Result<(), ToNodes>;
    /// The oldest frame of the other nodes.
    fn pop_from_nodes(&mut self) -> Option<FromNodes>;
    /// Requests of another shard that wait.
    fn requests_waiting(&self, from: ShardId) -> usize;
    /// Deliveries of another shard that wait.
    fn deliveries_waiting(&self, from: ShardId) -> usize;
    /// What waits on the other lanes.
    fn waiting(&self) -> LaneLengths;
    /// Wakes every thread that this turn has sent something to.
    fn ring_bells(&mut self);
}

/// The lanes of a running shard. A push only notes which thread to wake: [`Lanes::ring_bells`] wakes each of them once
/// a turn.
pub struct MeshPort {
    shard: ShardId,
    mesh: Arc<Mesh>,
    /// Bits of the shards to wake.
    ring_shards: u64,
    ring_storage: bool,
    ring_nodes: bool,
}

impl MeshPort {
    /// The end that belongs to `shard`.
    #[must_use]
    pub fn new(shard: ShardId, mesh: Arc<Mesh>) -> Self {
        Self { shard, mesh, ring_shards: 0, ring_storage: false, ring_nodes: false }
    }

    /// The bell that wakes this shard.
    #[must_use]
    pub fn bell(&self) -> &Doorbell {
        self.mesh.bell(self.shard)
    }

    /// Whether nothing waits for this shard. Requests and outcomes that it could not take, because other shards' lanes
    /// were full, still wait: the shard must not sleep while those drain, because nothing announces the free slots.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let storage = self.mesh.storage(self.shard);
        storage.outcomes.is_empty()
            && storage.results.is_empty()
            && self.mesh.control(self.shard).is_empty()
            && self.mesh.nodes().is_none_or(|nodes| nodes.of(self.shard).inward.is_empty())
            && self.mesh.placement.all().filter(|from| *from != self.shard).all(|from| {
                self.mesh.deliveries(from, self.shard).is_empty() && self.mesh.requests(from, self.shard).is_empty()
            })
    }
}

impl Lanes<OwnedFd> for MeshPort {
    fn placement(&self) -> Placement {
        self.mesh.placement
    }

    fn storage_room(&self) -> StorageRoom {
        StorageRoom::REAL
    }

    fn push_request(&mut self, to: ShardId, request: Request) -> Result<(), Request> {
        self.mesh.requests(self.shard, to).try_push(request)?;
        self.ring_shards |= 1 << to.0;
        Ok(())
    }

    fn pop_request(&mut self, from: ShardId) -> Option<Request> {
        self.mesh.requests(from, self.shard).pop()
    }

    fn delivery_room(&self, to: ShardId) -> usize {
        self.mesh.deliveries(self.shard, to).room()
    }

    fn push_delivery(&mut self, to: ShardId, delivery: Delivery) -> Result<(), Delivery> {
        self.mesh.deliveries(self.shard, to).try_push(delivery)?;
        self.ring_shards |= 1 << to.0;
        Ok(())
    }

    fn pop_delivery(&mut self, from: ShardId) -> Option<Delivery> {
        self.mesh.deliveries(from, self.shard).pop()
    }

    fn push_commit(&mut self, mutation: Box<Mutation>) -> Result<(), Box<Mutation>> {
        self.mesh.storage(self.shard).commits.try_push(mutation)?;
        self.ring_storage = true;
        Ok(())
    }

    fn pop_outcome(&mut self) -> Option<CommitOutcome> {
        self.mesh.storage(self.shard).outcomes.pop()
    }

    fn push_read(&mut self, read: Box<ReadRequest>) -> Result<(), Box<ReadRequest>> {
        self.mesh.storage(self.shard).reads.try_push(read)?;
        self.ring_storage = true;
        Ok(())
    }

    fn pop_result(&mut self) -> Option<Box<ReadResult>> {
        self.mesh.storage(self.shard).results.pop()
    }

    fn pop_control(&mut self) -> Option<ControlFrame> {
        self.mesh.control(self.shard).pop()
    }

    fn hand_over_http(&mut self, handover: HttpHandover) -> Result<(), HttpHandover> {
        self.mesh.http.try_push(handover)?;
        self.mesh.control_bell.ring();
        Ok(())
    }

    fn push_bot_post(&mut self, post: Box<BotPost>) -> Result<(), Box<BotPost>> {
        self.mesh.bot_posts.try_push(post)?;
        self.mesh.control_bell.ring();
        Ok(())
    }

    fn has_nodes(&self) -> bool {
        self.mesh.nodes().is_some()
    }

    fn push_to_nodes(&mut self, frame: ToNodes) -> Result<(), ToNodes> {
        let Some(nodes) = self.mesh.nodes() else { return Ok(()) };
        if frame.is_for_others() && !nodes.status.is_up() {
            // The cluster thread need not wake up for it: other nodes read the log and the audit trail.
            nodes.status.unpublished.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        nodes.of(self.shard).out.try_push(frame)?;
        self.ring_nodes = true;
        Ok(())
    }

    fn pop_from_nodes(&mut self) -> Option<FromNodes> {
        self.mesh.nodes()?.of(self.shard).inward.pop()
    }

    fn requests_waiting(&self, from: ShardId) -> usize {
        self.mesh.requests(from, self.shard).len()
    }

    fn deliveries_waiting(&self, from: ShardId) -> usize {
        self.mesh.deliveries(from, self.shard).len()
    }

    fn waiting(&self) -> LaneLengths {
        let storage = self.mesh.storage(self.shard);
        let nodes = self.mesh.nodes().map(|nodes| nodes.of(self.shard));
        LaneLengths {
            to_nodes: nodes.map_or(0, |lanes| lanes.out.len()),
            from_nodes: nodes.map_or(0, |lanes| lanes.inward.len()),
            outcomes: storage.outcomes.len(),
            results: storage.results.len(),
            control: self.mesh.control(self.shard).len(),
            http: self.mesh.http.len(),
        }
    }

    fn ring_bells(&mut self) {
        let mut shards = std::mem::take(&mut self.ring_shards);
        while shards != 0 {
            self.mesh.bell(ShardId(shards.trailing_zeros() as u8)).ring();
            shards &= shards - 1;
        }
        if std::mem::take(&mut self.ring_storage) {
            self.mesh.storage_bell.ring();
        }
        if std::mem::take(&mut self.ring_nodes)
            && let Some(nodes) = self.mesh.nodes()
        {
            nodes.bell.ring();
        }
    }
}
