//! Sockets of a history: a pair of byte queues each, with everything that a real socket can do to a shard.
//!
//! Checked here: what is sent to a client is what its user may see at that moment ([`crate::permitted`]); a
//! connection's queue stays within its bound; a peer has its time between our half-close and an abort.

use crate::Verdicts;
use crate::clock::SimClock;
use crate::lanes::SimSocket;
use crate::permitted::{Recipient, check_permitted};
use crate::removals::Removals;
use crate::store::Store;
use chat_server::ids::{ConnId, ConversationId, ShardId, UserId};
use chat_server::net::{Chunk, SocketEvent};
use chat_server::shard::world::Transport;
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// The time between our half-close and an abort that every peer is promised, in milliseconds.
const LINGER_MS: u64 = 2_000;
/// What the limits of a history let a connection queue: events up to the first, answers up to twice as much and one
/// more.
pub const QUEUE_BYTES_MAX: usize = 16 * 1024;

/// One connection between a client and the server.
#[derive(Default)]
pub struct Pipe {
    /// The user, as the network knows it: for checking what is sent.
    pub user: Option<UserId>,
    /// Signals of typing in direct conversations that it was sent, by who types where.
    pub typings: HashMap<(UserId, ConversationId), u64>,
    /// Sent by the client, not received yet.
    pub to_server: VecDeque<u8>,
    /// The client sends no more.
    pub client_finished: bool,
    /// The client has cut the connection.
    pub client_gone: bool,
    /// Sent by the server, not read yet.
    pub to_client: Vec<u8>,
    /// How many more bytes the client's kernel takes.
    pub window: usize,
    /// The server sends no more.
    pub server_finished: bool,
    /// The server has let go of the socket.
    pub server_gone: bool,
}

/// All connections of a history.
#[derive(Default)]
pub struct Network {
    /// By socket.
    pub pipes: Vec<Pipe>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    Free,
    Open,
    /// The queue is being sent; then our half is closed.
    Flushing,
    Dead,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Receiving {
    Off,
    Once,
    Stream,
}

struct Slot {
    generation: u32,
    socket: usize,
    life: Life,
    receiving: Receiving,
    queue: VecDeque<Chunk>,
    queued_bytes: usize,
    finished_at_ms: Option<u64>,
    /// Something was sent since the last drain.
    busy: bool,
}

/// The sockets of one shard.
pub struct SimSockets {
    shard: ShardId,
    slots: Vec<Slot>,
    network: Rc<RefCell<Network>>,
    store: Rc<RefCell<Store>>,
    removals: Rc<RefCell<Removals>>,
    clock: SimClock,
    verdicts: Verdicts,
    accepted: Vec<ConnId>,
}

impl SimSockets {
    /// No sockets yet.
    #[must_use]
    pub fn new(
        shard: ShardId,
        network: Rc<RefCell<Network>>,
        store: Rc<RefCell<Store>>,
        removals: Rc<RefCell<Removals>>,
        clock: SimClock,
        verdicts: Verdicts,
    ) -> Self {
        Self { shard, slots: Vec::new(), network, store, removals, clock, verdicts, accepted: Vec::new() }
    }

    /// A client has connected to this shard.
    pub fn accept(&mut self, socket: usize) {
        let conn = self.adopt(SimSocket(socket));
        self.accepted.push(conn);
    }

    fn slot(&mut self, conn: ConnId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(conn.slot() as usize)?;
        (slot.generation == conn.generation() && slot.life != Life::Free).then_some(slot)
    }

    fn slot_ref(&self, conn: ConnId) -> Option<&Slot> {
        let slot = self.slots.get(conn.slot() as usize)?;
        (slot.generation == conn.generation() && slot.life != Life::Free).then_some(slot)
    }

    /// Moves bytes and says what happened since the last turn.
    pub fn collect(&mut self) -> Vec<SocketEvent<Vec<u8>>> {
        let mut events: Vec<_> = self.accepted.drain(..).map(SocketEvent::Accepted).collect();
        let network = Rc::clone(&self.network);
        let mut network = network.borrow_mut();
        for index in 0..self.slots.len() {
            let slot = &mut self.slots[index];
            if slot.life == Life::Free {
                continue;
            }
            let conn = ConnId::new(self.shard, slot.generation, index as u32);
            let pipe = &mut network.pipes[slot.socket];
            if slot.life == Life::Dead || pipe.client_gone {
                pipe.server_gone = true;
                slot.life = Life::Free;
                slot.generation = (slot.generation + 1) & 0x00ff_ffff;
                slot.queue.clear();
                events.push(SocketEvent::Ended(conn));
                continue;
            }
            // Output first, as a turn submits what the turn before queued.
            while let Some(chunk) = slot.queue.front() {
                let bytes = chunk.bytes();
                if bytes.len() > pipe.window {
                    break;
                }
                pipe.window -= bytes.len();
                pipe.to_client.extend_from_slice(bytes);
                slot.queued_bytes -= bytes.len();
                slot.queue.pop_front();
            }
            if slot.queue.is_empty() {
                if slot.life == Life::Flushing {
                    pipe.server_finished = true;
                }
                if std::mem::take(&mut slot.busy) && slot.life == Life::Open {
                    events.push(SocketEvent::Drained(conn));
                }
            }
            if slot.receiving != Receiving::Off && !pipe.to_server.is_empty() {
                let take = 1 + self.clock.below(pipe.to_server.len());
                let bytes: Vec<u8> = pipe.to_server.drain(..take).collect();
                if slot.receiving == Receiving::Once {
                    slot.receiving = Receiving::Off;
                }
                if slot.life == Life::Open {
                    events.push(SocketEvent::Received(conn, bytes));
                }
            } else if slot.receiving != Receiving::Off && pipe.client_finished {
                slot.receiving = Receiving::Off;
                if slot.queue.is_empty() {
                    slot.life = Life::Dead;
                } else {
                    slot.life = Life::Flushing;
                    events.push(SocketEvent::PeerFinished(conn));
                }
            } else if slot.life == Life::Flushing && pipe.server_finished && pipe.client_finished {
                slot.life = Life::Dead;
            }
        }
        events
    }

    /// The event names that a frame to a client may not carry are checked against the store, as it is now.
    fn check_permitted(&self, socket: usize, bytes: &[u8]) {
        let pipe = &mut self.network.borrow_mut().pipes[socket];
        let Some(user) = pipe.user else { return };
        let recipient = Recipient { user, shard: self.shard, typings: &mut pipe.typings };
        check_permitted(recipient, bytes, &self.store.borrow(), &self.removals.borrow(), &self.verdicts);
    }
}

impl Transport for SimSockets {
    type Socket = SimSocket;
    type Buffer = Vec<u8>;

    fn send_time(&self) -> Duration {
        Duration::from_micros(7)
    }

    fn adopt(&mut self, socket: SimSocket) -> ConnId {
        let fresh = |generation| Slot {
            generation,
            socket: socket.0,
            life: Life::Open,
            receiving: Receiving::Off,
            queue: VecDeque::new(),
            queued_bytes: 0,
            finished_at_ms: None,
            busy: false,
        };
        let index = self.slots.iter().position(|slot| slot.life == Life::Free).unwrap_or(self.slots.len());
        match self.slots.get_mut(index) {
            Some(slot) => *slot = fresh(slot.generation),
            None => self.slots.push(fresh(0)),
        }
        ConnId::new(self.shard, self.slots[index].generation, index as u32)
    }

    fn detach(&mut self, conn: ConnId) -> Option<SimSocket> {
        let slot = self.slot(conn)?;
        if slot.life != Life::Open || !slot.queue.is_empty() || slot.receiving != Receiving::Off {
            return None;
        }
        slot.life = Life::Free;
        slot.generation = (slot.generation + 1) & 0x00ff_ffff;
        Some(SimSocket(slot.socket))
    }

    fn open_connections(&self) -> usize {
        self.slots.iter().filter(|slot| slot.life != Life::Free).count()
    }

    fn peer_address(&self, _: ConnId) -> Option<SocketAddr> {
        None
    }

    fn set_nodelay(&self, _: ConnId) {}

    fn keep(&mut self, _: ConnId) {}

    fn receive_once(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.receiving = Receiving::Once;
        }
    }

    fn receive_stream(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.receiving = Receiving::Stream;
        }
    }

    fn refuse_input(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.receiving = Receiving::Off;
        }
    }

    fn queued_bytes(&self, conn: ConnId) -> usize {
        self.slot_ref(conn).map_or(0, |slot| slot.queued_bytes)
    }

    fn send(&mut self, conn: ConnId, chunk: Chunk) {
        let Some(slot) = self.slot_ref(conn) else { return };
        if slot.life != Life::Open {
            return;
        }
        self.check_permitted(slot.socket, chunk.bytes());
        let verdicts = self.verdicts.clone();
        let Some(slot) = self.slot(conn) else { return };
        slot.queued_bytes += chunk.bytes().len();
        slot.busy = true;
        // Answers stop at twice the bound for events; one more frame, the largest there is, may stand behind that.
        let most = 3 * QUEUE_BYTES_MAX;
        verdicts.check(slot.queued_bytes <= most, || format!("{conn:?} has {} bytes queued", slot.queued_bytes));
        slot.queue.push_back(chunk);
    }

    fn discard_queue(&mut self, conn: ConnId) {
        if let Some(slot) = self.slot(conn) {
            slot.queue.clear();
            slot.queued_bytes = 0;
        }
    }

    fn finish(&mut self, conn: ConnId) {
        let now_ms = self.clock.now_ms();
        if let Some(slot) = self.slot(conn)
            && slot.life == Life::Open
        {
            slot.life = Life::Flushing;
            slot.finished_at_ms = Some(now_ms);
        }
    }

    fn abort(&mut self, conn: ConnId) {
        let (now_ms, verdicts) = (self.clock.now_ms(), self.verdicts.clone());
        if let Some(slot) = self.slot(conn) {
            let since = slot.finished_at_ms.map_or(LINGER_MS, |at| now_ms - at);
            verdicts.check(since >= LINGER_MS, || {
                format!("{conn:?} was aborted {since} ms after the close frame, not after {LINGER_MS}")
            });
            slot.life = Life::Dead;
        }
    }

    fn stop_listening(&mut self) {}
}
