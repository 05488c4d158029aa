//! What a shard needs from outside: sockets, lanes and a clock, as traits.
//!
//! The server runs shards in the [`real`](super::real) world: `io_uring` sockets, the mesh, the system's clock. The
//! simulation (`tests/simulation`) runs the same shards in a world of its own, where lanes are full, sockets are slow
//! and time passes when a seed says so. Nothing else of a shard does I/O, reads a clock or draws a random number.

use crate::ids::ConnId;
use crate::mesh::port::Lanes;
use crate::net::{Chunk, SocketEvent};
use std::net::SocketAddr;
use std::ops::DerefMut;
use std::time::{Duration, Instant};
use time::OffsetDateTime;

/// The world of one shard.
pub trait World {
    /// A connected socket on its way between shards.
    type Socket;
    /// The shard's sockets.
    type Sockets: Transport<Socket = Self::Socket>;
    /// The shard's lanes.
    type Lanes: Lanes<Self::Socket>;
    /// The shard's clock and source of randomness.
    type Clock: Clock;
}

/// What happens to the sockets of a world.
pub type WorldEvent<W> = SocketEvent<<<W as World>::Sockets as Transport>::Buffer>;

/// The sockets of one shard. Every call for a connection that has ended is ignored.
pub trait Transport {
    /// A connected socket on its way between shards.
    type Socket;
    /// Received bytes.
    type Buffer: DerefMut<Target = [u8]>;

    /// Takes over a connected socket.
    fn adopt(&mut self, socket: Self::Socket) -> ConnId;
    /// Moves the socket out; `None` while an operation on it is pending.
    fn detach(&mut self, conn: ConnId) -> Option<Self::Socket>;
    /// The number of connections, those that are ending included.
    fn open_connections(&self) -> usize;
    /// The other end of the connection, if it has an address.
    fn peer_address(&self, conn: ConnId) -> Option<SocketAddr>;
    /// Sends small writes at once.
    fn set_nodelay(&self, conn: ConnId);
    /// Keeps the socket until its end: it may take fewer resources from now on, and cannot be detached.
    fn keep(&mut self, conn: ConnId);
    /// Receives once: one [`SocketEvent::Received`], after which the socket may be detached.
    fn receive_once(&mut self, conn: ConnId);
    /// Receives everything from now on.
    fn receive_stream(&mut self, conn: ConnId);
    /// Receives nothing any more, and does not notice the peer's end.
    fn refuse_input(&mut self, conn: ConnId);
    /// Bytes that wait to be sent.
    fn queued_bytes(&self, conn: ConnId) -> usize;
    /// How long a send takes.
    fn send_time(&self) -> Duration;
    /// Queues bytes.
    fn send(&mut self, conn: ConnId, chunk: Chunk);
    /// Drops the queued bytes, except a message that is half sent.
    fn discard_queue(&mut self, conn: ConnId);
    /// Sends the queued bytes, closes this half, and waits for the peer's.
    fn finish(&mut self, conn: ConnId);
    /// Ends the connection now.
    fn abort(&mut self, conn: ConnId);
    /// Stops accepting connections.
    fn stop_listening(&mut self);
}

/// Time and randomness.
pub trait Clock {
    /// The monotonic clock.
    fn now(&self) -> Instant;
    /// The time of day.
    fn utc(&self) -> OffsetDateTime;
    /// 64 random bits.
    fn random(&mut self) -> u64;
}
