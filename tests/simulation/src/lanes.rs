//! The lanes between shards and to the I/O shard: items arrive late, lanes are short, and some are full for a while.

use crate::Verdicts;
use crate::clock::SimClock;
use crate::removals::{Removal, Removals};
use crate::spending::Spending;
use chat_server::ids::ShardId;
use chat_server::latency::CommitQueue;
use chat_server::mesh::frame::{
    CommitOutcome, ControlFrame, Delivery, HttpHandover, Mutation, ReadRequest, ReadResult, Request, Verdict,
};
use chat_server::mesh::invocation::BotPost;
use chat_server::mesh::nodes::{FromNodes, ToNodes};
use chat_server::mesh::overload::Overload;
use chat_server::mesh::placement::Placement;
use chat_server::mesh::port::{LaneLengths, Lanes};
use chat_server::mesh::storage_room::StorageRoom;
use chat_server::shard::pump::DELIVERIES_PER_ITEM_MAX;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Requests that fit on a lane: few, so that lanes are full often.
const REQUESTS_MAX: usize = 3;
/// Deliveries that fit on a lane: room for two items' worth.
const DELIVERIES_MAX: usize = 2 * DELIVERIES_PER_ITEM_MAX;

/// What fits on the lane to other nodes.
const TO_NODES_MAX: usize = 12;

/// What a shard may have in flight on the I/O shard, in half of the histories: so little that it is often all in use.
const SMALL_ROOM: StorageRoom = StorageRoom { commits: 3, reads: 4 };

/// A socket on its way: its index among the pipes.
#[derive(Debug)]
pub struct SimSocket(pub usize);

/// A queue whose items become visible after a delay, in their order.
pub struct Delayed<T> {
    items: VecDeque<(u64, T)>,
}

impl<T> Default for Delayed<T> {
    fn default() -> Self {
        Self { items: VecDeque::new() }
    }
}

impl<T> Delayed<T> {
    /// Appends an item that can be taken from `at_ms` on, or after the one before it.
    pub fn push(&mut self, item: T, at_ms: u64) {
        let at_ms = self.items.back().map_or(at_ms, |(before, _)| at_ms.max(*before));
        self.items.push_back((at_ms, item));
    }

    /// The oldest item, if it is visible.
    pub fn pop(&mut self, now_ms: u64) -> Option<T> {
        self.items.front().filter(|(at, _)| *at <= now_ms)?;
        self.items.pop_front().map(|(_, item)| item)
    }

    /// The number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item, visible or not.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// All lanes of a history.
pub struct SimMesh {
    shards: usize,
    /// What each shard may have in flight on the I/O shard.
    pub room: StorageRoom,
    requests: Vec<Delayed<Request<SimSocket>>>,
    deliveries: Vec<Delayed<Delivery>>,
    /// To the model store, by shard.
    pub commits: Vec<Delayed<Box<Mutation>>>,
    /// Back from it.
    outcomes: Vec<Delayed<CommitOutcome>>,
    /// To the model store, by shard.
    pub reads: Vec<Delayed<Box<ReadRequest>>>,
    /// Back from it.
    results: Vec<Delayed<Box<ReadResult>>>,
    /// From the control plane, by shard.
    pub control: Vec<Delayed<ControlFrame>>,
    /// What the shard has for other nodes; none in a history of one node.
    pub to_nodes: VecDeque<ToNodes>,
    /// What other nodes have for the shard, and when it arrives.
    pub from_nodes: Vec<(u64, FromNodes)>,
    /// Whether there are other nodes.
    pub has_nodes: bool,
    /// The number of this node.
    pub node: usize,
    /// What users have spent over all nodes.
    pub spending: Rc<RefCell<Spending>>,
    /// While set, every lane of deliveries claims to have no room, and lanes to the store are full.
    pub jammed: bool,
    /// While set, items arrive at once.
    pub healed: bool,
    /// How long changes would wait, as the I/O shard says.
    pub overload: Arc<Overload>,
}

impl SimMesh {
    /// Empty lanes for `shards` shards. With `is_tight`, the I/O shard has little room.
    #[must_use]
    pub fn new(shards: usize, is_tight: bool) -> Self {
        fn lanes<T>(count: usize) -> Vec<Delayed<T>> {
            (0..count).map(|_| Delayed::default()).collect()
        }
        Self {
            shards,
            room: if is_tight { SMALL_ROOM } else { StorageRoom::REAL },
            requests: lanes(shards * shards),
            deliveries: lanes(shards * shards),
            commits: lanes(shards),
            outcomes: lanes(shards),
            reads: lanes(shards),
            results: lanes(shards),
            control: lanes(shards),
            to_nodes: VecDeque::new(),
            from_nodes: Vec::new(),
            has_nodes: false,
            node: 0,
            spending: Rc::default(),
            jammed: false,
            overload: Arc::default(),
            healed: false,
        }
    }

    /// Whether a change that comes now must be refused.
    #[must_use]
    pub fn commit_waits_too_long(&self) -> bool {
        self.overload.is_commit_wait_too_long(CommitQueue::Conversations)
    }

    /// An outcome on its way back. A real lane that is full would lose it; the model takes the item and reports it.
    pub fn push_outcome(&mut self, shard: usize, outcome: CommitOutcome, at_ms: u64, verdicts: &Verdicts) {
        let (lane, most) = (&mut self.outcomes[shard], self.room.outcomes());
        verdicts.check(lane.len() < most, || format!("a lane of outcomes has no room for one more than {most}"));
        lane.push(outcome, at_ms);
    }

    /// The result of a read on its way back.
    pub fn push_result(&mut self, shard: usize, result: Box<ReadResult>, at_ms: u64, verdicts: &Verdicts) {
        let (lane, most) = (&mut self.results[shard], self.room.reads);
        verdicts.check(lane.len() < most, || format!("a lane of results has no room for one more than {most}"));
        lane.push(result, at_ms);
    }

    /// Whether nothing is on its way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requests.iter().all(Delayed::is_empty)
            && self.deliveries.iter().all(Delayed::is_empty)
            && self.commits.iter().all(Delayed::is_empty)
            && self.outcomes.iter().all(Delayed::is_empty)
            && self.reads.iter().all(Delayed::is_empty)
            && self.results.iter().all(Delayed::is_empty)
            && self.control.iter().all(Delayed::is_empty)
            && self.to_nodes.is_empty()
            && self.from_nodes.is_empty()
    }
}

/// One shard's end of the lanes.
pub struct SimLanes {
    shard: ShardId,
    mesh: Rc<RefCell<SimMesh>>,
    removals: Rc<RefCell<Removals>>,
    clock: SimClock,
    verdicts: Verdicts,
}

impl SimLanes {
    /// The end of `shard`.
    #[must_use]
    pub fn new(
        shard: ShardId,
        mesh: Rc<RefCell<SimMesh>>,
        removals: Rc<RefCell<Removals>>,
        clock: SimClock,
        verdicts: Verdicts,
    ) -> Self {
        Self { shard, mesh, removals, clock, verdicts }
    }

    /// The shard looks for its next item; the time.
    fn next_item(&mut self) -> u64 {
        let now_ms = self.clock.now_ms();
        self.removals.borrow_mut().next_item(self.shard, now_ms);
        now_ms
    }

    fn note_removal(&mut self, removal: Removal) {
        self.removals.borrow_mut().received(self.shard, removal);
    }

    fn pair(&self, from: ShardId, to: ShardId) -> usize {
        from.index() * self.mesh.borrow().shards + to.index()
    }

    fn arrival_ms(&self) -> u64 {
        let delay = if self.mesh.borrow().healed { 0 } else { self.clock.below(4) as u64 };
        self.clock.now_ms() + delay
    }
}

impl Lanes<SimSocket> for SimLanes {
    fn has_nodes(&self) -> bool {
        self.mesh.borrow().has_nodes
    }

    fn push_to_nodes(&mut self, frame: ToNodes) -> Result<(), ToNodes> {
        let mesh = &mut *self.mesh.borrow_mut();
        let is_full = mesh.to_nodes.len() >= TO_NODES_MAX && !mesh.healed;
        if let ToNodes::Spent(spent) = &frame {
            mesh.spending.borrow_mut().published(mesh.node, spent, is_full);
        }
        if is_full {
            return Err(frame);
        }
        mesh.to_nodes.push_back(frame);
        Ok(())
    }

    fn pop_from_nodes(&mut self) -> Option<FromNodes> {
        let now_ms = self.next_item();
        let frame = {
            let from_nodes = &mut self.mesh.borrow_mut().from_nodes;
            let arrived = from_nodes.iter().position(|(at_ms, _)| *at_ms <= now_ms)?;
            from_nodes.remove(arrived).1
        };
        match &frame {
            FromNodes::Membership(change) if !change.gained => self.note_removal(Removal::Departure {
                user: change.user,
                conversation: change.conversation,
                seq: change.seq,
            }),
            FromNodes::Blocked(one, other) => self.note_removal(Removal::block(*one, *other)),
            FromNodes::Spent(spent) => {
                let mesh = self.mesh.borrow();
                mesh.spending.borrow_mut().arrived(mesh.node, spent);
            }
            _ => {}
        }
        Some(frame)
    }

    fn placement(&self) -> Placement {
        Placement::new(self.mesh.borrow().shards as u8)
    }

    fn storage_room(&self) -> StorageRoom {
        self.mesh.borrow().room
    }

    fn push_request(&mut self, to: ShardId, request: Request<SimSocket>) -> Result<(), Request<SimSocket>> {
        let (lane, at_ms) = (self.pair(self.shard, to), self.arrival_ms());
        let requests = &mut self.mesh.borrow_mut().requests[lane];
        if requests.len() >= REQUESTS_MAX {
            return Err(request);
        }
        requests.push(request, at_ms);
        Ok(())
    }

    fn pop_request(&mut self, from: ShardId) -> Option<Request<SimSocket>> {
        let (lane, now_ms) = (self.pair(from, self.shard), self.next_item());
        self.mesh.borrow_mut().requests[lane].pop(now_ms)
    }

    fn delivery_room(&self, to: ShardId) -> usize {
        let mesh = self.mesh.borrow();
        if mesh.jammed { 0 } else { DELIVERIES_MAX.saturating_sub(mesh.deliveries[self.pair(self.shard, to)].len()) }
    }

    fn push_delivery(&mut self, to: ShardId, delivery: Delivery) -> Result<(), Delivery> {
        let (lane, at_ms) = (self.pair(self.shard, to), self.arrival_ms());
        let deliveries = &mut self.mesh.borrow_mut().deliveries[lane];
        // A real lane would make the shard abort; the model takes the item and reports it.
        self.verdicts.check(deliveries.len() < DELIVERIES_MAX, || "a lane of deliveries overflowed".to_owned());
        deliveries.push(delivery, at_ms);
        Ok(())
    }

    fn pop_delivery(&mut self, from: ShardId) -> Option<Delivery> {
        let (lane, now_ms) = (self.pair(from, self.shard), self.next_item());
        let delivery = self.mesh.borrow_mut().deliveries[lane].pop(now_ms)?;
        match &delivery {
            Delivery::Membership(change) if !change.gained => self.note_removal(Removal::Departure {
                user: change.user,
                conversation: change.conversation,
                seq: change.seq,
            }),
            Delivery::Blocked(one, other) => self.note_removal(Removal::block(*one, *other)),
            _ => {}
        }
        Some(delivery)
    }

    fn push_commit(&mut self, mutation: Box<Mutation>) -> Result<(), Box<Mutation>> {
        let at_ms = self.arrival_ms();
        let mut mesh = self.mesh.borrow_mut();
        let must_be_refused = mutation.conversation.is_some() && mesh.commit_waits_too_long();
        self.verdicts.check(!must_be_refused, || "a change was accepted that would have to wait too long".to_owned());
        if mesh.jammed || mesh.commits[self.shard.index()].len() >= mesh.room.commits {
            return Err(mutation);
        }
        mesh.commits[self.shard.index()].push(mutation, at_ms);
        Ok(())
    }

    fn pop_outcome(&mut self) -> Option<CommitOutcome> {
        let now_ms = self.next_item();
        let outcome = self.mesh.borrow_mut().outcomes[self.shard.index()].pop(now_ms)?;
        if let CommitOutcome::Final(mutation, Verdict::Other(other)) = &outcome {
            if let Some(blocked) = other.blocked {
                self.note_removal(Removal::block(mutation.actor, blocked));
            }
            // With other nodes, a departure takes effect with its event, which may wait for one of another node.
            if let (Some(conversation), Some(user), Some(event)) =
                (other.conversation, other.lost.first(), other.events.first())
                && !self.has_nodes()
            {
                self.note_removal(Removal::Departure { user: *user, conversation, seq: event.seq });
            }
        }
        Some(outcome)
    }

    fn push_read(&mut self, read: Box<ReadRequest>) -> Result<(), Box<ReadRequest>> {
        let at_ms = self.arrival_ms();
        let mut mesh = self.mesh.borrow_mut();
        if mesh.jammed || mesh.reads[self.shard.index()].len() >= mesh.room.reads {
            return Err(read);
        }
        self.removals.borrow_mut().read_sent(self.shard);
        mesh.reads[self.shard.index()].push(read, at_ms);
        Ok(())
    }

    fn pop_result(&mut self) -> Option<Box<ReadResult>> {
        let now_ms = self.next_item();
        let result = self.mesh.borrow_mut().results[self.shard.index()].pop(now_ms)?;
        self.removals.borrow_mut().result_received(self.shard);
        Some(result)
    }

    fn pop_control(&mut self) -> Option<ControlFrame> {
        let now_ms = self.next_item();
        self.mesh.borrow_mut().control[self.shard.index()].pop(now_ms)
    }

    fn hand_over_http(&mut self, _: HttpHandover<SimSocket>) -> Result<(), HttpHandover<SimSocket>> {
        self.verdicts.broken("a client of the simulation was taken for a plain HTTP client");
        Ok(())
    }

    fn push_bot_post(&mut self, post: Box<BotPost>) -> Result<(), Box<BotPost>> {
        Err(post) // no history has bots
    }

    fn requests_waiting(&self, from: ShardId) -> usize {
        self.mesh.borrow().requests[self.pair(from, self.shard)].len()
    }

    fn deliveries_waiting(&self, from: ShardId) -> usize {
        self.mesh.borrow().deliveries[self.pair(from, self.shard)].len()
    }

    fn waiting(&self) -> LaneLengths {
        let (mesh, shard) = (self.mesh.borrow(), self.shard.index());
        LaneLengths {
            outcomes: mesh.outcomes[shard].len(),
            results: mesh.results[shard].len(),
            control: mesh.control[shard].len(),
            http: 0,
            to_nodes: mesh.to_nodes.len(),
            from_nodes: mesh.from_nodes.len(),
        }
    }

    fn ring_bells(&mut self) {}
}
