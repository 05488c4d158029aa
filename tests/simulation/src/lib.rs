//! A simulation of the server's shards: many cores in one thread, from one seed.
//!
//! The shards are the real ones ([`chat_server::shard::Shard`]), and so is what the committers know of senders
//! ([`chat_server::storage::known::KnownSenders`]). What is around them is a model:
//!
//! | file | stands for |
//! |---|---|
//! | [`clock`] | time and randomness: both come from the seed |
//! | [`network`] | sockets: slow, cut, half closed |
//! | [`lanes`] | the queues between cores and to the I/O shard: delayed, full |
//! | [`nodes`] | Redis and the cluster threads, in histories of several nodes: drops, delays, repeats, reorders |
//! | [`store`], [`tables`] | PostgreSQL and the I/O shard: slow, away, lost in COMMIT, out of disk |
//! | [`commits`] | the statements that commit messages, in the general form and in the short one |
//! | [`client`] | people with their devices: connect, send, catch up, stop reading, leave, block |
//! | [`filtered`] | the content filter: rules, texts that match, a moderator |
//! | [`permitted`], [`removals`] | the check of everything that is sent: what the store says, what the shard knows |
//! | [`spending`] | the check of what users may send over all nodes |
//! | [`history`] | the order of it all: one seed is one history |
//!
//! Each history is played in three parts: a wild one with faults; a healing one without, until everything has settled;
//! and a probe of what everybody receives now, and may send. The promises that are checked, and where:
//!
//! - an acknowledged message is in the log once, where the ack says ([`client`]);
//! - a client sees no gap, no double and no disorder, and what it sees is what the log has ([`client`]);
//! - every command is answered exactly once, every slot and every reserved place comes back ([`history`]);
//! - queues stay within their bounds, and an answer of the store always finds its place ([`network`], [`lanes`]);
//! - no client is sent what its user may not see, at the moment of sending ([`permitted`]). That includes typing, read
//!   markers and presence, which are in no log ([`removals`]);
//! - a client receives typing and read markers only of conversations that it follows ([`client`]);
//! - a text that a rule refuses, or holds until a moderator approves it, is in no log, and its author learns the rule
//!   ([`filtered`]);
//! - over all nodes, a user has no more messages accepted than their budget, and what nodes could not know of each
//!   other ([`spending`]);
//! - a message enters a log only if its sender may send there at that moment, and under the right ordinal
//!   ([`commits`]);
//! - a revoked session has no connection ([`history`]);
//! - a peer gets its time for the close handshake ([`network`]);
//! - everybody converges: after healing every subscriber has everything, and presence is what the store permits
//!   ([`history`]).
//!
//! A fifth of the histories have two to five nodes of one shard each, instead of one node with up to three shards.
//! Every ninth of those has small budgets of messages, unless it has rules of the content filter.
//! A quarter of the histories have rules of the content filter. In every seventh history everything happens in
//! one conversation, so that many messages take the short form. In the histories of even seeds the I/O shard has
//! little room, so that shards often wait for it, and clients move read markers. In those of odd seeds it has the room
//! that a running server has.
//!
//! A history that breaks a promise returns a [`Violation`] with its seed, which replays exactly.

pub mod client;
pub mod clock;
pub mod commits;
pub mod done;
pub mod filtered;
pub mod frames;
pub mod history;
pub mod lanes;
pub mod network;
pub mod nodes;
pub mod permitted;
pub mod removals;
pub mod spending;
pub mod store;
pub mod tables;

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

/// A broken promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The seed that replays it.
    pub seed: u64,
    /// What was broken.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {}", self.seed, self.what)
    }
}

/// Where every part of a history reports the first broken promise.
#[derive(Clone, Default)]
pub struct Verdicts(Rc<RefCell<Vec<String>>>);

impl Verdicts {
    /// A promise was broken.
    pub fn broken(&self, what: impl Into<String>) {
        self.0.borrow_mut().push(what.into());
    }

    /// Breaks a promise unless `holds`.
    pub fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken(what());
        }
    }

    /// The first broken promise.
    #[must_use]
    pub fn first(&self) -> Option<String> {
        self.0.borrow().first().cloned()
    }
}
