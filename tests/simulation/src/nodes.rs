//! The model of what is between nodes: Redis, which drops, delays, repeats and reorders, and what every node reads from
//! PostgreSQL itself: heads, memberships, blocks.

use crate::clock::SimClock;
use crate::done::TrailRow;
use crate::lanes::SimMesh;
use crate::store::Store;
use chat_server::ids::{ConversationId, Seq};
use chat_server::mesh::event::{EncodedEvent, MembershipChange};
use chat_server::mesh::nodes::{FromNodes, ToNodes};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;

/// Between two comparisons of everything, in milliseconds.
const COMPARED_MS: u64 = 300;

/// What one node knows.
#[derive(Default)]
struct Node {
    /// Conversations with subscribers there.
    followed: BTreeSet<ConversationId>,
    /// When it has compared all of them.
    compared_ms: u64,
    /// Up to where it has read the trail.
    trail_read: usize,
}

/// The cluster threads of all nodes, and Redis.
pub struct Cluster {
    clock: SimClock,
    nodes: Vec<Node>,
    /// Redis passes nothing on.
    pub is_away: bool,
    /// No faults any more.
    pub healed: bool,
}

impl Cluster {
    /// Of this many nodes.
    #[must_use]
    pub fn new(clock: SimClock, nodes: usize) -> Self {
        let nodes = (0..nodes).map(|_| Node::default()).collect();
        Self { clock, nodes, is_away: false, healed: false }
    }

    /// The cluster thread of a node does some of its work.
    pub fn work(&mut self, node: usize, meshes: &[Rc<RefCell<SimMesh>>], store: &Store) {
        loop {
            let frame = meshes[node].borrow_mut().to_nodes.pop_front();
            match frame {
                None => break,
                Some(ToNodes::Follow { conversation, has_subscribers: true }) => {
                    self.nodes[node].followed.insert(conversation);
                    self.compare(conversation, &meshes[node], store);
                }
                Some(ToNodes::Follow { conversation, has_subscribers: false }) => {
                    self.nodes[node].followed.remove(&conversation);
                }
                Some(frame) => self.publish(node, &frame, meshes),
            }
        }
        let now_ms = self.clock.now_ms();
        if now_ms >= self.nodes[node].compared_ms + COMPARED_MS || (!self.healed && self.clock.chance(5)) {
            self.nodes[node].compared_ms = now_ms;
            for conversation in self.nodes[node].followed.clone() {
                self.compare(conversation, &meshes[node], store);
            }
        }
        if self.healed || self.clock.chance(4) {
            self.read_trail(node, &meshes[node], store);
        }
    }

    /// The newest event of a conversation, as the store has it.
    fn compare(&self, conversation: ConversationId, mesh: &Rc<RefCell<SimMesh>>, store: &Store) {
        self.arrive(mesh, FromNodes::Head(conversation, Seq(store.last_seq(conversation))));
    }

    fn publish(&self, from: usize, frame: &ToNodes, meshes: &[Rc<RefCell<SimMesh>>]) {
        for (to, mesh) in meshes.iter().enumerate().filter(|(to, _)| *to != from) {
            let is_lost = self.is_away || (!self.healed && self.clock.chance(8));
            let copies = if is_lost { 0 } else { 1 + usize::from(!self.healed && self.clock.chance(8)) };
            if let ToNodes::Spent(spent) = frame {
                mesh.borrow().spending.borrow_mut().sent(to, copies, spent);
            }
            for _ in 0..copies {
                match frame {
                    ToNodes::Event(event) if self.nodes[to].followed.contains(&event.conversation) => {
                        let event = EncodedEvent { except_connection: None, ..EncodedEvent::clone(event) };
                        self.arrive(mesh, FromNodes::Event(Arc::new(event)));
                    }
                    ToNodes::Notice(notice) => self.arrive(mesh, FromNodes::Notice(Arc::clone(notice))),
                    ToNodes::Membership(change) => self.arrive(mesh, FromNodes::Membership(*change)),
                    ToNodes::Blocked(one, other) => self.arrive(mesh, FromNodes::Blocked(*one, *other)),
                    ToNodes::Presence(users) => {
                        self.arrive(mesh, FromNodes::Presence(from as u64, users.clone()));
                    }
                    ToNodes::Spent(spent) => self.arrive(mesh, FromNodes::Spent(spent.clone())),
                    ToNodes::Event(_) | ToNodes::Follow { .. } => {}
                    // No history has bots.
                    ToNodes::Invoke(_) | ToNodes::AnswerInvocation(_) | ToNodes::Answered(_) => {}
                }
            }
        }
    }

    fn read_trail(&mut self, node: usize, mesh: &Rc<RefCell<SimMesh>>, store: &Store) {
        let read = std::mem::replace(&mut self.nodes[node].trail_read, store.trail().len());
        for row in &store.trail()[read..] {
            match *row {
                TrailRow::Membership(user, conversation) => {
                    let joined = store.joined_at(user, conversation);
                    let seq = Seq(joined.unwrap_or_else(|| store.last_seq(conversation)));
                    let change = MembershipChange { user, conversation, seq, gained: joined.is_some() };
                    self.arrive(mesh, FromNodes::Membership(change));
                }
                TrailRow::Block(one, other) => self.arrive(mesh, FromNodes::Blocked(one, other)),
            }
        }
    }

    /// A frame on its way to a node. Frames overtake each other.
    fn arrive(&self, mesh: &Rc<RefCell<SimMesh>>, frame: FromNodes) {
        let delay = if self.healed { 0 } else { self.clock.below(30) as u64 };
        mesh.borrow_mut().from_nodes.push((self.clock.now_ms() + delay, frame));
    }
}
