//! The users of a shard: their connections, their presence, and recent revocations and changes.
//!
//! Pure: time is an argument, and a call returns its effects. Each part answers one question:
//!
//! | part | question |
//! |---|---|
//! | [`users`] | on the user's shard: is the user connected, what is their presence, what is left of their budgets? |
//! | [`local`] | which connections of a user live on this shard? |
//! | [`watches`] | which connections here receive a user's presence, and is that still permitted? |
//! | [`revocations`] | was this session revoked after it was looked up? |
//! | [`recent`] | which memberships and blocks changed during a read? |
//!
//! Invariant of the last two: a shard reads PostgreSQL before it opens a connection or a watch. A change that is
//! committed after that read reaches the shard before the answer of the read. The shard must remember such changes.
//! Otherwise the older answer would open a revoked session's socket, a room that its user left, or a blocked user's
//! presence.

pub mod local;
pub mod recent;
pub mod revocations;
pub mod users;
pub mod watches;

use local::LocalConnections;
use recent::RecentChanges;
use revocations::Revocations;
use users::Users;
use watches::Watches;

/// The users of one shard. The parts do not use each other; the shard calls them in order.
#[derive(Default)]
pub struct Directory {
    /// Users whose shard this is.
    pub users: Users,
    /// Connections on this shard, by user.
    pub local: LocalConnections,
    /// The presence that connections on this shard receive.
    pub watches: Watches,
    /// Recently revoked sessions.
    pub revocations: Revocations,
    /// Recent changes of memberships and blocks.
    pub recent: RecentChanges,
}
