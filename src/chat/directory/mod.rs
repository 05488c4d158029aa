//! Who is where: users, their connections on this shard, their presence, and what was revoked or changed lately.
//!
//! Pure: time is an argument, what follows from a call is its return value. Each part owns one question:
//!
//! | part | question |
//! |---|---|
//! | [`users`] | as the users' shard: is somebody connected, what do they show, what may they still spend? |
//! | [`local`] | which connections of a user live on this shard? |
//! | [`watches`] | which connections here receive a user's presence, and is that still permitted? |
//! | [`revocations`] | was this session revoked, although an older read says otherwise? |
//! | [`recent`] | what changed while a read was under way? |
//!
//! Invariant, for the last two: PostgreSQL is read before a connection or a watch exists here, and a change that was
//! committed meanwhile passes this shard before the read's answer does. Without a memory of such changes the answer
//! would open what was just closed: a revoked session's socket, a room that its user has left, a blocked user's presence.

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

/// The people of one shard. Its parts do not know of each other; the shard sequences them.
#[derive(Default)]
pub struct Directory {
    /// As the users' shard.
    pub users: Users,
    /// Connections that live here.
    pub local: LocalConnections,
    /// Presence that connections here receive.
    pub watches: Watches,
    /// Sessions that were revoked lately.
    pub revocations: Revocations,
    /// Memberships and blocks that changed lately.
    pub recent: RecentChanges,
}
