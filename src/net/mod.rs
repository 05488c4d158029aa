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
//! The interface is in terms of [`ConnId`](crate::ids::ConnId) and bytes; what the bytes mean is not this module's
//! business. Invariants:
//! - a connection is a slot in a slab: no task, no timer and, while idle, no heap memory of its own;
//! - a slot is freed, and its descriptor closed, only when no operation of it is in the kernel. Otherwise the kernel
//!   would write into memory, or to a descriptor number, that belongs to somebody else by then;
//! - bytes handed to the kernel stay where they are until its completion came: the queue keeps their owner alive.
//! - a shard sleeps in its own ring (`Sockets::turn_or_wait`), which also reads the doorbell. Sleeping in the
//!   executor's ring on an eventfd of this one loses wake-ups (docs/decisions/001).
//!
//! Deliberately absent: readiness polling, per-connection tasks, timers (the shard's wheel keeps them).
//! Requires Linux ≥ 6.1 (`IORING_SETUP_DEFER_TASKRUN`, multishot receive).

mod buffers;
mod chunk;
mod listener;
mod slot;
mod sockets;
mod submit;

pub use buffers::ReceivedBuffer;
pub use chunk::Chunk;
pub use listener::bind;
pub use sockets::{NetError, SocketEvent, Sockets};
