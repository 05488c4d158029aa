//! Sockets whose request head is incomplete, by the network of their client. Pure.
//!
//! Invariants:
//! - a network has at most [`HEADS_PER_NETWORK_MAX`] of them on a shard, and at most
//!   [`UNFINISHED_HEADS_PER_NETWORK_MAX`] that stay incomplete. Otherwise one address could hold every connection of
//!   the server with heads that it never finishes;
//! - open WebSockets do not count here, and neither do heads that arrive at once: a crowd behind one address may
//!   connect;
//! - a place is freed when its head is complete or its socket ends, however that happens.

use crate::address::ClientNetwork;
use crate::limits::{HEADS_PER_NETWORK_MAX, UNFINISHED_HEADS_PER_NETWORK_MAX};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The counts; cloning shares them. A network without any head has no entry.
#[derive(Clone, Default)]
pub struct PendingHeads {
    networks: Rc<RefCell<HashMap<ClientNetwork, HeadCount>>>,
}

#[derive(Default)]
struct HeadCount {
    all: usize,
    unfinished: usize,
}

/// One incomplete head.
pub struct PendingHead {
    heads: PendingHeads,
    network: ClientNetwork,
    is_unfinished: bool,
}

impl PendingHeads {
    /// Counts a new head; `None` if its network has too many.
    pub fn admit(&self, network: ClientNetwork) -> Option<PendingHead> {
        let mut networks = self.networks.borrow_mut();
        let count = networks.entry(network).or_default();
        if count.all >= HEADS_PER_NETWORK_MAX {
            return None;
        }
        count.all += 1;
        Some(PendingHead { heads: self.clone(), network, is_unfinished: false })
    }
}

impl PendingHead {
    /// The head is still incomplete after a while. Returns whether it may stay so.
    pub fn may_stay_unfinished(&mut self) -> bool {
        let mut networks = self.heads.networks.borrow_mut();
        let count = networks.entry(self.network).or_default();
        if !self.is_unfinished && count.unfinished < UNFINISHED_HEADS_PER_NETWORK_MAX {
            count.unfinished += 1;
            self.is_unfinished = true;
        }
        self.is_unfinished
    }
}

impl Drop for PendingHead {
    fn drop(&mut self) {
        let mut networks = self.heads.networks.borrow_mut();
        if let Some(count) = networks.get_mut(&self.network) {
            count.all -= 1;
            count.unfinished -= usize::from(self.is_unfinished);
            if count.all == 0 {
                networks.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn network(text: &str) -> ClientNetwork {
        ClientNetwork::of(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn bounds_unfinished_heads_below_the_others() {
        let heads = PendingHeads::default();
        let mut all: Vec<_> = (0..HEADS_PER_NETWORK_MAX).map(|_| heads.admit(network("192.0.2.1")).unwrap()).collect();
        assert!(heads.admit(network("192.0.2.1")).is_none());
        assert!(heads.admit(network("192.0.2.2")).is_some(), "others are not affected");
        let staying = all.iter_mut().filter_map(|head| head.may_stay_unfinished().then_some(())).count();
        assert_eq!(staying, UNFINISHED_HEADS_PER_NETWORK_MAX);
        let mut other = heads.admit(network("192.0.2.2")).unwrap();
        assert!(other.may_stay_unfinished() && other.may_stay_unfinished(), "asking again changes nothing");
        all.remove(0);
        assert!(all[UNFINISHED_HEADS_PER_NETWORK_MAX].may_stay_unfinished(), "a place became free");
        assert!(!all[UNFINISHED_HEADS_PER_NETWORK_MAX + 1].may_stay_unfinished());
        drop((all, other));
        assert!(heads.networks.borrow().is_empty());
    }
}
