//! The order in which passwords are hashed: fair between the networks that they come from. Pure.
//!
//! 1. The requests of a network wait in its own queue. The networks take turns, so a flood from one network delays
//!    another by one hash and not by its own length.
//! 2. Networks in good standing go first: an account signed in from them lately. Every fourth turn goes to the others.
//! 3. A quarter of the queue is reserved for networks in good standing, and a quarter for the others.
//!
//! Invariant: the queue is bounded per network and in total. Otherwise sign-ins would wait for minutes, and their
//! clients would have given up by then.

use crate::address::ClientNetwork;
use std::collections::{HashMap, VecDeque};

/// Most requests of one network that wait.
const PER_NETWORK: usize = 8;
/// The same for a network in good standing, which may have many users.
const PER_GOOD_NETWORK: usize = 64;
/// One turn in this many goes to networks that are not in good standing, while they wait.
const OTHERS_TURN: u32 = 4;

/// Why a request was not queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HashQueueFull {
    /// Its network has so many waiting already.
    Network(usize),
    /// So many of all networks may wait together.
    Everybody(usize),
}

struct Turns<T> {
    order: VecDeque<ClientNetwork>,
    waiting: HashMap<ClientNetwork, VecDeque<T>>,
    length: usize,
}

impl<T> Turns<T> {
    fn new() -> Self {
        Self { order: VecDeque::new(), waiting: HashMap::new(), length: 0 }
    }

    fn push(&mut self, network: ClientNetwork, item: T) {
        let queue = self.waiting.entry(network).or_default();
        if queue.is_empty() {
            self.order.push_back(network);
        }
        queue.push_back(item);
        self.length += 1;
    }

    fn pop(&mut self) -> Option<T> {
        let network = self.order.pop_front()?;
        let queue = self.waiting.get_mut(&network)?;
        let item = queue.pop_front();
        self.length -= 1;
        if queue.is_empty() {
            self.waiting.remove(&network);
        } else {
            self.order.push_back(network);
        }
        item
    }

    fn of(&self, network: ClientNetwork) -> usize {
        self.waiting.get(&network).map_or(0, VecDeque::len)
    }
}

/// The queue.
pub struct HashQueue<T> {
    good: Turns<T>,
    others: Turns<T>,
    since_others: u32,
    waiting_max: usize,
}

impl<T> HashQueue<T> {
    /// An empty queue for at most `waiting_max` requests. A quarter of it is reserved for each kind of network.
    #[must_use]
    pub fn new(waiting_max: usize) -> Self {
        Self { good: Turns::new(), others: Turns::new(), since_others: 0, waiting_max }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// What is full.
    pub fn push(&mut self, network: ClientNetwork, is_good: bool, item: T) -> Result<(), HashQueueFull> {
        let (turns, per_network) =
            if is_good { (&mut self.good, PER_GOOD_NETWORK) } else { (&mut self.others, PER_NETWORK) };
        if turns.of(network) >= per_network {
            return Err(HashQueueFull::Network(per_network));
        }
        // Each side has a quarter for itself.
        let most = self.waiting_max - self.waiting_max / 4;
        let of_kind = if is_good { self.good.length } else { self.others.length };
        if self.len() >= self.waiting_max || of_kind >= most {
            return Err(HashQueueFull::Everybody(self.waiting_max));
        }
        let turns = if is_good { &mut self.good } else { &mut self.others };
        turns.push(network, item);
        Ok(())
    }

    /// The request whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        let others_turn = self.good.length == 0 || self.since_others + 1 >= OTHERS_TURN;
        if others_turn && let Some(item) = self.others.pop() {
            self.since_others = 0;
            return Some(item);
        }
        self.since_others = self.since_others.saturating_add(1);
        self.good.pop()
    }

    /// Requests that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.good.length + self.others.length
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every request that waits, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.good.waiting.values().chain(self.others.waiting.values()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn network(n: u32) -> ClientNetwork {
        ClientNetwork::of(IpAddr::V4((0x0a00_0000 + n).into()))
    }

    #[test]
    fn a_flood_from_one_network_delays_another_by_one_hash() {
        let mut queue = HashQueue::new(256);
        let queued = (0..400).filter(|n| queue.push(network(1), false, *n).is_ok()).count();
        assert_eq!(queued, PER_NETWORK);
        assert_eq!(queue.push(network(1), false, 0), Err(HashQueueFull::Network(PER_NETWORK)));
        queue.push(network(2), false, 1_000).unwrap();
        assert_eq!((queue.pop(), queue.pop()), (Some(0), Some(1_000)));
    }

    #[test]
    fn networks_in_good_standing_go_first_and_have_a_reserve() {
        let mut queue = HashQueue::new(256);
        let queued = (0..1_000).filter(|n| queue.push(network(*n), false, *n).is_ok()).count();
        assert_eq!(queued, 192);
        assert_eq!(queue.push(network(5_000), false, 0), Err(HashQueueFull::Everybody(256)));
        for n in 0..8 {
            queue.push(network(6_000), true, 6_000 + n).unwrap();
        }
        let served: Vec<u32> = std::iter::from_fn(|| queue.pop()).take(8).collect();
        assert_eq!(served, [6_000, 6_001, 6_002, 0, 6_003, 6_004, 6_005, 1], "every fourth turn is the others'");
    }

    #[test]
    fn every_request_is_served_once() {
        let mut queue = HashQueue::new(64);
        let mut queued = Vec::new();
        for n in 0..500 {
            if queue.push(network(n % 17), n % 3 == 0, n).is_ok() {
                queued.push(n);
            }
        }
        assert_eq!((queue.len(), queue.iter().count()), (queued.len(), queued.len()));
        let mut served: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
        served.sort_unstable();
        assert_eq!(served, queued);
        assert!(queue.is_empty() && queue.good.waiting.is_empty() && queue.others.waiting.is_empty());
    }
}
