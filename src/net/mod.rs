//! A shard's sockets: one `io_uring` for all of them, driven by one task of the shard's executor.
//!
//! ```text
//!   accept (multishot) ─┐                               ┌─► Received(conn, buffer)
//!   recv (multishot, ───┤   Sockets::turn: one          ├─► Accepted / Ended
//!     provided buffers) ├─► io_uring_enter per turn ────┤
//!   send (queued, one ──┘                               └─► Drained
//!     per turn and socket)
//! ```
//!
//! The interface deals with [`ConnId`](crate::ids::ConnId) and bytes, and does not interpret the bytes. Invariants:
//! - a connection is a slot in a slab. It has no task, no timer and, while idle, no heap memory;
//! - a slot is freed, and its descriptor closed, only when the kernel has completed all of its operations. Otherwise
//!   the kernel would use memory or a descriptor number that belongs to another connection by then;
//! - a WebSocket may have no descriptor at all: its socket is in the ring's own table (`table`) then, under the number
//!   of its slot, and ends by operations instead of system calls (`sockets`);
//! - bytes that the kernel sends stay at their address until its completion: the queue keeps their owner alive;
//! - a shard sleeps in its own ring (`Sockets::turn_or_wait`), which also reads the doorbell. Sleeping in the
//!   executor's ring on an eventfd of this one loses wake-ups (docs/decisions/001).
//!
//! Deliberately absent: readiness polling, tasks per connection, and timers (the shard's timing wheel has them).
//! Requires Linux ≥ 6.1 (`IORING_SETUP_DEFER_TASKRUN`, multishot receive).

mod buffers;
mod chunk;
mod error;
mod handle;
mod listener;
mod ring;
mod send_time;
mod slot;
mod sockets;
mod submit;
mod table;

pub use buffers::ReceivedBuffer;
pub use chunk::Chunk;
pub use error::NetError;
pub use listener::{bind, probe_address, share};
pub use ring::probe_ring;
pub use sockets::{SocketEvent, Sockets};
pub use table::DirectTable;
